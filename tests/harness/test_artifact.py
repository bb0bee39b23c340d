"""The committed artifacts match the sources, and compile errors are passed on as the compiler wrote them."""

import json
import os
import subprocess

import pytest
from stakesim.evm import compiler
from stakesim.project import current_project


@pytest.mark.slow
def test_committed_artifacts_match_the_sources():
    committed = json.loads(current_project().artifact.read_text())
    assert committed == compiler.build_production_artifact(), "run `make artifact`"
    assert json.loads(compiler.PACKAGED_ARTIFACTS.read_text()) == compiler.build_packaged_artifacts(), (
        "run `make artifact`"
    )


def test_shipped_artifacts_are_used_only_for_the_sources_they_were_compiled_from(monkeypatch):
    sources = compiler.project_sources()
    compilations = []
    monkeypatch.setattr(compiler, "compile_sources", lambda sources: compilations.append(sources) or {})
    assert "EventStake" in compiler.compile_contracts()
    assert compilations == []
    monkeypatch.setattr(compiler, "project_sources", lambda: sources | {"EventStake.sol": "// another"})
    assert compiler.compile_contracts() == {}
    assert len(compilations) == 1


@pytest.mark.in_turn
@pytest.mark.slow
def test_fresh_compilation_equals_the_cache(tmp_path, monkeypatch, profile):
    """Compiles all sources; in the quick profile only one small contract, as all of them take ten seconds."""
    sources = compiler.project_sources()
    if profile == "quick":
        sources = {"support/ControlledAccount.sol": sources["support/ControlledAccount.sol"]}
    cached = compiler.compile_sources(sources)
    monkeypatch.setenv("STAKESIM_HOME", str(tmp_path))
    fresh = compiler.compile_sources(sources)
    assert fresh == cached
    assert len(list((tmp_path / "artifacts").glob("*.json"))) == 1


@pytest.mark.slow
def test_compile_error_names_file_and_line():
    source = "// SPDX-License-Identifier: MIT\npragma solidity ^0.8.30;\ncontract X {\n    uint y = z;\n}\n"
    with pytest.raises(compiler.CompileError, match=r"Undeclared identifier(.|\n)*broken/X.sol:4:14") as error:
        compiler.compile_sources({"broken/X.sol": source})
    assert "Traceback" not in str(error.value)


@pytest.mark.slow
def test_missing_import_is_named():
    source = 'pragma solidity ^0.8.30;\nimport "./Nowhere.sol";\n'
    with pytest.raises(compiler.CompileError, match=r"Nowhere.sol(.|\n)*X.sol:2"):
        compiler.compile_sources({"X.sol": source})


def test_missing_compiler_names_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setattr(compiler, "node_modules", lambda: tmp_path)
    with pytest.raises(compiler.CompileError, match="make setup"):
        compiler.compile_sources({"Y.sol": "pragma solidity ^0.8.30; contract Y { uint z; }"})


@pytest.mark.slow
def test_shim_prints_its_version_in_the_format_of_solc():
    output = subprocess.run([compiler.npm_compiler(), "--version"], capture_output=True, text=True, check=True).stdout
    assert f"Version: {compiler.compiler_version()}+commit." in output


def test_native_compiler_is_used_only_if_its_version_matches(tmp_path, monkeypatch):
    native = tmp_path / "solc"
    native.write_text("#!/bin/sh\necho 'Version: 0.8.1+commit.0'\n")
    native.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert compiler.find_compiler() == compiler.npm_compiler()
    native.write_text(f"#!/bin/sh\necho 'Version: {compiler.compiler_version()}+commit.0'\n")
    assert compiler.find_compiler() == native

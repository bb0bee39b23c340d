"""What production runs is what the sources compile to, and a compile error reads as the compiler wrote it."""

import json
import os
import subprocess

import pytest
from stakesim.evm import compiler
from stakesim.project import current_project


@pytest.mark.slow
def test_the_committed_artifacts_are_those_of_the_sources():
    committed = json.loads(current_project().artifact.read_text())
    assert committed == compiler.production_artifact(), "run `make artifact`"
    assert json.loads(compiler.ARTIFACTS.read_text()) == compiler.shipped_artifacts(), "run `make artifact`"


def test_what_ships_is_used_only_for_the_sources_it_was_made_of(monkeypatch):
    sources = compiler.project_sources()
    ran = []
    monkeypatch.setattr(compiler, "compile_sources", lambda given: ran.append(given) or {})
    assert "EventStake" in compiler.compile_contracts()
    assert ran == []
    monkeypatch.setattr(compiler, "project_sources", lambda: sources | {"EventStake.sol": "// another"})
    assert compiler.compile_contracts() == {}
    assert len(ran) == 1


@pytest.mark.slow
def test_a_fresh_compile_gives_what_the_cache_holds(tmp_path, monkeypatch, profile):
    """Of everything; in the quick profile of one small contract, as all takes ten seconds."""
    sources = compiler.project_sources()
    if profile == "quick":
        sources = {"support/ControlledAccount.sol": sources["support/ControlledAccount.sol"]}
    cached = compiler.compile_sources(sources)
    monkeypatch.setenv("STAKESIM_HOME", str(tmp_path))
    fresh = compiler.compile_sources(sources)
    assert fresh == cached
    assert len(list((tmp_path / "artifacts").iterdir())) == 1


@pytest.mark.slow
def test_an_error_names_file_and_line():
    source = "// SPDX-License-Identifier: MIT\npragma solidity ^0.8.30;\ncontract X {\n    uint y = z;\n}\n"
    with pytest.raises(compiler.CompileError, match=r"Undeclared identifier(.|\n)*broken/X.sol:4:14") as error:
        compiler.compile_sources({"broken/X.sol": source})
    assert "Traceback" not in str(error.value)


@pytest.mark.slow
def test_a_missing_import_is_said():
    source = 'pragma solidity ^0.8.30;\nimport "./Nowhere.sol";\n'
    with pytest.raises(compiler.CompileError, match=r"Nowhere.sol(.|\n)*X.sol:2"):
        compiler.compile_sources({"X.sol": source})


def test_a_missing_compiler_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(compiler, "node_modules", lambda: tmp_path)
    with pytest.raises(compiler.CompileError, match="make setup"):
        compiler.compile_sources({"Y.sol": "pragma solidity ^0.8.30; contract Y { uint z; }"})


@pytest.mark.slow
def test_the_shim_says_its_version_as_solc_does():
    said = subprocess.run([compiler.shim(), "--version"], capture_output=True, text=True, check=True).stdout
    assert f"Version: {compiler.compiler_version()}+commit." in said


def test_a_native_compiler_of_another_version_is_not_used(tmp_path, monkeypatch):
    native = tmp_path / "solc"
    native.write_text("#!/bin/sh\necho 'Version: 0.8.1+commit.0'\n")
    native.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert compiler.find_compiler() == compiler.shim()
    native.write_text(f"#!/bin/sh\necho 'Version: {compiler.compiler_version()}+commit.0'\n")
    assert compiler.find_compiler() == native

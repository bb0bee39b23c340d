"""A contract as mutants and coverage take it: its sources, its syntax tree, and code whose instructions can be told
apart by their place in the source."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from stakesim.evm.compiler import SETTINGS, Artifact, CompileError, Compiler, artifacts_from_output, error_messages
from stakesim.evm.contract_file import select_contract
from stakesim.evm.errors import EngineError
from stakesim.evm.import_resolver import collect_sources
from stakesim.project import current_project

PLAIN = SETTINGS | {"viaIR": False, "optimizer": {"enabled": False}}
"""Compiles ten times as fast, and each statement has instructions of its own. What the code does is the same; what it
costs is not, so gas is not judged."""


@dataclass(frozen=True)
class Built:
    """sources: by name, those beside the file too that it imports. tree: the file's. index: the compiler's of it."""

    file: str
    sources: Mapping[str, str]
    artifact: Artifact
    tree: Mapping[str, Any]
    index: int

    @property
    def source(self) -> str:
        return self.sources[self.file]


def build(source: Path, contract: str) -> Built:
    """Compiles a Solidity file and what it imports. Raises `CompileError`, also where the contract is not in it."""
    if not source.is_file():
        raise CompileError(f"{source} can't be read: give a Solidity file.")
    source = source.resolve()
    sources = collect_sources(source)
    with Compiler() as compiler:
        output = compiled(compiler, sources, source.name, tree=True)
    if errors := error_messages(output.get("errors", ())):
        raise CompileError(errors)
    artifact = select_contract(artifacts_from_output(output, sources), source.name, contract)
    node = output["sources"][source.name]
    return Built(source.name, sources, artifact, node["ast"], node["id"])


def compiled(compiler: Compiler, sources: Mapping[str, str], file: str, tree: bool = False) -> dict[str, Any]:
    """Standard JSON output for the contracts of one of the files; errors are in it. tree: with its syntax tree."""
    outputs: dict[str, Any] = {"*": ["abi", "evm.bytecode", "evm.deployedBytecode"]}
    if tree:
        outputs[""] = ["ast"]
    return compiler.compile(
        {
            "language": "Solidity",
            "sources": {name: {"content": text} for name, text in sources.items()},
            "settings": PLAIN | {"outputSelection": {file: outputs}},
        }
    )


def failing_test(artifact: Artifact, tests: Path, engine: str, options: Sequence[str] = ()) -> str | None:
    """The first test that fails with this contract, by its id; None where all pass. One that can't be set up is none.

    tests: a folder or file whose tests take the contract of `--stakesim-contract`. options: more of pytest's.
    Raises `EngineError` where they can't be run.
    """
    with NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(
            {
                "contractName": artifact.name,
                "abi": artifact.abi,
                "bytecode": artifact.bytecode,
                "deployedBytecode": artifact.deployed_bytecode,
                "immutableReferences": artifact.immutables,
            },
            file,
        )
        file.flush()
        command = [sys.executable, "-m", "pytest", str(tests.resolve()), "-x", "-q", "--tb=no"]
        command += ["-p", "no:cacheprovider", "--stakesim-engine", engine, "--stakesim-contract", file.name, *options]
        done = subprocess.run(command, cwd=current_project().root, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing was said"]
        raise EngineError(f"pytest can't run {tests}: {said[-1]}")
    failed = re.search(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    return failed[1] if failed else None

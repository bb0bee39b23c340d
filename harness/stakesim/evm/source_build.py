"""Compiles a contract from its sources alone, as explorers do that verify a contract's source."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stakesim.evm.compiler import (
    CONTRACTS,
    SETTINGS,
    Artifact,
    CompileError,
    Compiler,
    artifacts_from_output,
    error_messages,
    node_modules,
    project_sources,
)
from stakesim.evm.contract_file import ContractPath, production_contract
from stakesim.evm.import_resolver import collect_sources
from stakesim.project import current_project

_METADATA = re.compile(rb"\xa2\x64ipfs\x58\x22(.{34})\x64solc\x43.{3}\x00\x33\Z", re.DOTALL)
"""What the compiler appends to the code: the hash of the metadata, and its own version, in CBOR."""
_OUTPUTS = ["abi", "metadata", "evm.bytecode", "evm.deployedBytecode"]


class SourceBuild(NamedTuple):
    """A contract that was compiled from its sources.

    Attributes:
        request: The compiler's standard-JSON input, with the text of each source that the contract needs. Etherscan and
            Sourcify take it.
        artifact: The compiled contract.
        metadata: What the compiler knows of the build: its version, the settings, and a hash of each source. The hash
            of the metadata ends the code.
    """

    request: dict[str, Any]
    artifact: Artifact
    metadata: Mapping[str, Any]

    @property
    def source_hashes(self) -> dict[str, str]:
        """Keccak-256 of each source by its name, in hex."""
        return {name: source["keccak256"] for name, source in self.metadata["sources"].items()}


class ContractSources(NamedTuple):
    """The sources of a contract.

    Attributes:
        file: The file of the contract, on this machine.
        texts: Source code by the compiler's names. What comes from npm packages is left out.
    """

    file: Path
    texts: Mapping[str, str]


def find_sources(contract: str | None = None) -> ContractSources | None:
    """Finds the sources of the contract that the project deploys.

    Args:
        contract: As `production_contract` takes it.

    Returns:
        None for a compiler's artifact, which has none.
    """
    project = current_project()
    if not contract and project.artifact is not None and project.artifact.exists():
        return ContractSources(CONTRACTS / "EventStake.sol", project_sources())  # the artifact is a copy of EventStake
    contract = contract or project.contract
    if not contract:
        return ContractSources(CONTRACTS / "EventStake.sol", project_sources())
    file = ContractPath.parse(contract).file.resolve()
    return ContractSources(file, collect_sources(file)) if file.suffix == ".sol" else None


def build_from_source(contract: str | None = None) -> SourceBuild | None:
    """Compiles the contract that the project deploys from its sources, and from no others.

    Args:
        contract: As `production_contract` takes it.

    Returns:
        None for a compiler's artifact, which has no sources.

    Raises:
        CompileError: The contract can't be loaded or compiled.
        InstallError: The compiler can't be installed.
    """
    sources = find_sources(contract)
    if sources is None:
        return None
    name, file = production_contract(contract).name, sources.file.name
    with Compiler() as compiler:
        analysed = _compile(compiler, _request(sources.texts, {file: {name: ["metadata"]}}))
        needed = json.loads(analysed["contracts"][file][name]["metadata"])["sources"]
        texts = {each: sources.texts.get(each) or _read_package_file(each) for each in needed}
        request = _request(texts, {"*": {"*": _OUTPUTS}})
        output = _compile(compiler, request)
    metadata = json.loads(output["contracts"][file][name]["metadata"])
    return SourceBuild(request, artifacts_from_output(output, {file: texts[file]})[name], metadata)


def _request(sources: Mapping[str, str], outputs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": SETTINGS | {"outputSelection": outputs},
    }


def _compile(compiler: Compiler, request: Mapping[str, Any]) -> dict[str, Any]:
    output = compiler.compile(request)
    if errors := error_messages(output.get("errors", ())):
        raise CompileError(errors)
    return output


def _read_package_file(name: str) -> str:
    return (node_modules() / name).read_bytes().decode()


def without_metadata_hash(code: bytes) -> bytes:
    """Sets the hash of the metadata at the end of the code to zero, if there is one.

    Two builds with the same result differ at most in comments, names and the layout of their sources.
    """
    match = _METADATA.search(code[-53:])
    if match is None:
        return code
    start = len(code) - 53 + match.start(1)
    return code[:start] + bytes(34) + code[start + 34 :]

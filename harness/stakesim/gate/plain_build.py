"""Compiles a contract without optimizer, with its syntax tree: for mutants and coverage.

Without the optimizer each instruction belongs to one place in the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stakesim.evm.compiler import (
    CONTRACTS,
    SETTINGS,
    Artifact,
    CompileError,
    Compiler,
    artifacts_from_output,
    error_messages,
)
from stakesim.evm.contract_file import ContractPath, select_contract
from stakesim.evm.import_resolver import collect_sources

PLAIN_SETTINGS = SETTINGS | {
    "viaIR": False,
    "optimizer": {"enabled": False},
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},  # a mutant that compiles to the same code is no mutant
}
"""Compiles ten times as fast. The code does the same for more gas, so gas is not judged."""
DEPLOYED_SETTINGS = SETTINGS | {"metadata": PLAIN_SETTINGS["metadata"]}
"""Those of a deploy, without the hash of the sources."""


@dataclass(frozen=True)
class PlainBuild:
    """A contract compiled without optimizer.

    Attributes:
        path: Of its file.
        sources: Source code by name, of the file and all that it imports.
        artifact: The contract.
        tree: Syntax tree of the file.
        index: The compiler's number of the file, for source maps.
    """

    path: Path
    sources: Mapping[str, str]
    artifact: Artifact
    tree: Mapping[str, Any]
    index: int

    @property
    def file(self) -> str:
        """Name of the file in `sources`."""
        return self.path.name

    @property
    def source(self) -> str:
        """Source code of the file."""
        return self.sources[self.file]


def build(contract: str | Path | None = None) -> PlainBuild:
    """Compiles a Solidity file and what it imports.

    Args:
        contract: FILE.sol, or FILE.sol:Name if it has several contracts; by default the packaged `EventStake`.

    Raises:
        CompileError: It does not compile, or the file does not have this contract.
    """
    path, name = ContractPath.parse(contract or f"{CONTRACTS / 'EventStake.sol'}:EventStake")
    if path.suffix != ".sol":
        raise CompileError(f"{path} has no source: give a Solidity file, as FILE.sol:Name.")
    if not path.is_file():
        raise CompileError(f"{path} can't be read: give a Solidity file.")
    path = path.resolve()
    sources = collect_sources(path)
    with Compiler() as compiler:
        output = compile_plain(compiler, sources, path.name, with_tree=True)
    if errors := error_messages(output.get("errors", ())):
        raise CompileError(errors)
    artifact = select_contract(artifacts_from_output(output, sources), path.name, name)
    compiled_file = output["sources"][path.name]
    return PlainBuild(path, sources, artifact, compiled_file["ast"], compiled_file["id"])


def compile_plain(
    compiler: Compiler, sources: Mapping[str, str], file: str, *, with_tree: bool = False
) -> dict[str, Any]:
    """Compiles the contracts of one file.

    Args:
        compiler: An open compiler.
        sources: Source code by name.
        file: Name of the file.
        with_tree: Whether the output has the file's syntax tree.

    Returns:
        The compiler's standard JSON output. Errors are in it, under `errors`.
    """
    outputs: dict[str, Any] = {"*": ["abi", "evm.bytecode", "evm.deployedBytecode"]}
    if with_tree:
        outputs[""] = ["ast"]
    return _compile(compiler, sources, file, PLAIN_SETTINGS, outputs)


def compile_contract(
    compiler: Compiler, sources: Mapping[str, str], file: str, contract: str, settings: Mapping[str, Any]
) -> Artifact | None:
    """Compiles one contract, without source maps.

    Args:
        compiler: An open compiler.
        sources: Source code by name.
        file: Name of the file.
        contract: Name of the contract.
        settings: `PLAIN_SETTINGS` or `DEPLOYED_SETTINGS`.

    Returns:
        The contract; None if it does not compile.
    """
    output = _compile(compiler, sources, file, settings, {contract: _CODE})
    if any(error["severity"] == "error" for error in output.get("errors", ())):
        return None
    return artifacts_from_output(output, sources)[contract]


_CODE = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences"]


def _compile(
    compiler: Compiler, sources: Mapping[str, str], file: str, settings: Mapping[str, Any], outputs: Mapping[str, Any]
) -> dict[str, Any]:
    return compiler.compile(
        {
            "language": "Solidity",
            "sources": {name: {"content": text} for name, text in sources.items()},
            "settings": {**settings, "outputSelection": {file: outputs}},
        }
    )

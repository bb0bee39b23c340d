"""Loads a contract from a Solidity file or from a compiler's artifact. This is what `--contract` means everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from stakesim.evm.artifact_file import read_artifact
from stakesim.evm.compiler import CONTRACTS, Artifact, CompileError, compile_contracts, compile_sources
from stakesim.evm.import_resolver import collect_sources
from stakesim.project import current_project


class ContractPath(NamedTuple):
    """A parsed `--contract`: a file, and the name of the contract in it where one is given."""

    file: Path
    name: str | None = None

    @classmethod
    def parse(cls, text: str | Path) -> ContractPath:
        """Parses `FILE`, or `FILE.sol:Name`."""
        file, colon, name = str(text).rpartition(":")
        return cls(Path(file), name) if colon and name.isidentifier() and file.endswith(".sol") else cls(Path(text))


def load_contract(contract: str | Path) -> Artifact:
    """Loads a contract, compiling it if it is Solidity.

    Args:
        contract: A Solidity file, or an artifact (.json) of stakesim, Foundry or Hardhat. `FILE.sol:Name` chooses one
            of several contracts. `import_resolver` says where imports are looked for.

    Raises:
        CompileError: The file can't be read, does not compile, or has not exactly one deployable contract and no name
            is given.
        InstallError: The compiler is needed and can't be installed.
    """
    path, name = ContractPath.parse(contract)
    if not path.is_file():
        raise CompileError(f"{path} can't be read: give a Solidity file, or an artifact (.json).")
    if path.suffix == ".json":
        return read_artifact(path)
    if path.suffix != ".sol":
        raise CompileError(f"{path} is neither Solidity (.sol) nor an artifact (.json).")
    path = path.resolve()
    sources = collect_sources(path)
    artifacts = compile_sources(sources, path.name, name or "*")
    if name and name not in artifacts:  # all of them, for a message that lists them
        artifacts = compile_sources(sources, path.name)
    return select_contract(artifacts, path.name, name)


def select_contract(artifacts: Mapping[str, Artifact], file: str, name: str | None) -> Artifact:
    """Selects a deployable contract of a Solidity file.

    Args:
        artifacts: Compiled contracts by name, also those of imported files.
        file: The file's name among the compiler's sources.
        name: Name of the contract; None for the only deployable one.

    Raises:
        CompileError: The file has no such contract, none, or several; or the contract is an interface or abstract.
    """
    in_file = {each: artifact for each, artifact in artifacts.items() if artifact.source == file}
    if not in_file:
        raise CompileError(f"{file} has no contract in it: give a Solidity file with one.")
    deployable = {each: artifact for each, artifact in in_file.items() if len(artifact.bytecode) > 2}
    if not deployable or (name in in_file and name not in deployable):
        undeployable = name if name in in_file else ", ".join(sorted(in_file))
        raise CompileError(
            f"{file} has {undeployable}, and an interface, or an abstract contract, can't be deployed: give a contract "
            "that has the code of all its functions."
        )
    if name is None and len(deployable) == 1:
        return next(iter(deployable.values()))
    if name not in deployable:
        choices = ", ".join(f"{file}:{each}" for each in sorted(deployable))
        raise CompileError(f"Say which contract of {file} is meant; it has {choices}.")
    return deployable[name]


def production_contract(contract: str | None = None) -> Artifact:
    """Loads the contract that the project deploys.

    Args:
        contract: As for `load_contract`. None takes the project's artifact, else the project's contract, else the
            packaged `EventStake`.

    Raises:
        CompileError: The contract can't be loaded.
    """
    if contract:
        return load_contract(contract)
    project = current_project()
    if project.artifact is not None and project.artifact.exists():
        return load_contract(project.artifact)
    return load_contract(project.contract) if project.contract else compile_contracts()["EventStake"]


def patched_event_stake(old: str, new: str) -> Artifact:
    """Compiles `EventStake` with one piece of its source replaced, to see whether a fault is found.

    Args:
        old: Text that is exactly once in `EventStake.sol`.
        new: What replaces it.

    Raises:
        CompileError: `old` is not in the source exactly once, or the result does not compile.
    """
    return compile_sources(patched_sources(old, new), "EventStake.sol", "EventStake")["EventStake"]


def patched_sources(old: str, new: str) -> dict[str, str]:
    """Returns the sources of `EventStake` with one piece replaced. See `patched_event_stake`."""
    sources = {name: (CONTRACTS / name).read_text(encoding="utf-8") for name in ("EventStake.sol", "IEventStake.sol")}
    if (count := sources["EventStake.sol"].count(old)) != 1:
        raise CompileError(f"EventStake.sol has {old!r} {count} times: give a piece of it that is there just once.")
    return sources | {"EventStake.sol": sources["EventStake.sol"].replace(old, new)}

"""A contract from wherever it was written: Solidity with its imports, or what a compiler made of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from stakesim.evm.artifact_file import read_artifact
from stakesim.evm.compiler import (
    CONTRACTS,
    Artifact,
    CompileError,
    compile_contracts,
    compile_sources,
    installed_modules,
    node_modules,
)
from stakesim.evm.solc_install import packages
from stakesim.project import current_project

_IMPORT = re.compile(r"""^\s*import\b[^;"']*["']([^"']+)["']""", re.MULTILINE)


def load_contract(file: str | Path) -> Artifact:
    """The contract in a Solidity file, or in an artifact (.json) of ours, Foundry's or Hardhat's.

    file: `path/Stake.sol:Name` where the file has several contracts that can be deployed. Imports are looked for beside
    the file that makes them, in `node_modules` and `lib` of the folders above, by `remappings.txt`, then among ours.
    Raises `CompileError` with a sentence, or what the compiler says.
    """
    path, name = split_contract(str(file))
    if not path.is_file():
        raise CompileError(f"{path} can't be read: give a Solidity file, or an artifact (.json).")
    if path.suffix == ".json":
        return read_artifact(path)
    if path.suffix != ".sol":
        raise CompileError(f"{path} is neither Solidity (.sol) nor an artifact (.json).")
    return choose_contract(compile_sources(read_sources(path)), path, name)


def choose_contract(compiled: Mapping[str, Artifact], path: Path, name: str | None) -> Artifact:
    """The contract of this name among those of the file; without a name the only one that can be deployed.

    Raises:
        CompileError: The file has no such contract, or several and no name is given.
    """
    own = deployable({n: a for n, a in compiled.items() if a.source == path.name}, path.name, name)
    if name is None and len(own) == 1:
        return next(iter(own.values()))
    if name is None or name not in own:
        choices = ", ".join(f"{path.name}:{n}" for n in sorted(own))
        raise CompileError(f"Say which contract of {path.name} is meant; it has {choices}.")
    return own[name]


def production_contract(file: str | None = None) -> Artifact:
    """The contract in this file; without one the project's artifact or contract, else the packaged `EventStake`.

    Raises:
        CompileError: The contract can't be read.
    """
    if file:
        return load_contract(file)
    project = current_project()
    if project.artifact is not None and project.artifact.exists():
        return load_contract(project.artifact)
    return load_contract(project.contract) if project.contract else compile_contracts()["EventStake"]


def deployable(own: Mapping[str, Artifact], file: str, name: str | None) -> dict[str, Artifact]:
    """Those of a file's contracts that have code, by name.

    name: of the one that is meant, where that is known. Raises `CompileError` where there are none, or that has none.
    """
    if not own:
        raise CompileError(f"{file} has no contract in it: give a Solidity file with one.")
    here = {one: artifact for one, artifact in own.items() if len(artifact.bytecode) > 2}
    if not here or (name in own and name not in here):
        which = name if name in own else ", ".join(sorted(own))
        raise CompileError(
            f"{file} has {which}, and an interface, or an abstract contract, can't be deployed: give a contract that "
            "has the code of all its functions."
        )
    return here


def read_source(path: Path) -> str:
    """The text of a Solidity file. Raises `CompileError` where it is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CompileError(f"{path} is no text in UTF-8: give a Solidity file.") from None


def changed(old: str, new: str) -> Artifact:
    """The project's `EventStake` with a piece of its source changed: to see whether a fault is found.

    Raises `CompileError` where `old` is not in it just once, and for what does not compile.
    """
    sources = {name: (CONTRACTS / name).read_text(encoding="utf-8") for name in ("EventStake.sol", "IEventStake.sol")}
    if (count := sources["EventStake.sol"].count(old)) != 1:
        raise CompileError(f"EventStake.sol has {old!r} {count} times: give a piece of it that is there just once.")
    sources["EventStake.sol"] = sources["EventStake.sol"].replace(old, new)
    return compile_sources(sources)["EventStake"]


def split_contract(file: str) -> tuple[Path, str | None]:
    """Path and name of the contract in `FILE.sol:Name`; without a name None."""
    path, colon, name = file.rpartition(":")
    return (Path(path), name) if colon and name.isidentifier() and path.endswith(".sol") else (Path(file), None)


def read_sources(path: Path) -> dict[str, str]:
    """Source code of the file and of all that it imports, by the names under which the compiler asks for them.

    Raises:
        CompileError: An imported file is not found, or is no text.
    """
    return dict(_sources(path.resolve()))


def _sources(main: Path) -> Iterator[tuple[str, str]]:
    found: dict[str, Path] = {main.name: main}
    waiting = [main.name]
    while waiting:
        name = waiting.pop()
        text = read_source(found[name])
        yield name, text
        for wanted in _IMPORT.findall(text):
            asked = _beside(name, wanted) if wanted.startswith(".") else wanted
            path = (found[name].parent / wanted).resolve() if wanted.startswith(".") else _library(main, wanted)
            if asked not in found and path is not None:
                if not path.is_file():
                    raise CompileError(f"{found[name]} imports {wanted}, which is not there.")
                found[asked] = path
                waiting.append(asked)


def _beside(name: str, wanted: str) -> str:
    """A relative import as the compiler names it: by the importing file's name."""
    parts = name.split("/")[:-1]
    for part in wanted.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _library(main: Path, wanted: str) -> Path | None:
    """None: it is among our own, which the compiler reads by itself."""
    for folder in main.parents:
        for target in (*_remapped(folder, wanted), folder / "node_modules" / wanted, folder / "lib" / wanted):
            if target.is_file():
                return target
    ours = any(wanted.startswith(f"{name}/") for name in packages())
    if ((installed_modules() if ours else node_modules()) / wanted).is_file():
        return None
    raise CompileError(f"{wanted} is not found: install it (node_modules, lib) at or above {main.parent}.")


def _remapped(folder: Path, wanted: str) -> Iterator[Path]:
    remappings = folder / "remappings.txt"
    for line in remappings.read_text().splitlines() if remappings.is_file() else ():
        prefix, _, target = line.strip().partition("=")
        prefix = prefix.rpartition(":")[2]
        if prefix and wanted.startswith(prefix):
            yield folder / target / wanted[len(prefix) :]

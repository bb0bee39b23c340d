"""Finds the files that a Solidity file imports: the one resolver for every command that takes a contract."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

from stakesim.evm.compiler import CompileError, ensure_node_modules, node_modules
from stakesim.evm.solc_install import pinned_packages
from stakesim.evm.solidity_text import imports

_INSTALLERS = ("foundry.toml", "remappings.txt", ".gitmodules")
"""Files beside a folder `lib` that packages are installed in; without them it is like any other folder."""


class Origin(Enum):
    """Whose code a file is.

    Attributes:
        PROJECT: The project's own.
        PACKAGE: A package's: below `node_modules`, or below `lib` beside a file of what installs packages there.
        REMAPPED: What `remappings.txt` leads to, elsewhere and not beside the contract. Most are packages, but nothing
            says so.
    """

    PROJECT = auto()
    PACKAGE = auto()
    REMAPPED = auto()


class SolidityFile(NamedTuple):
    """A Solidity file that was read.

    Attributes:
        path: Where it is, without symbolic links.
        text: Its text.
        origin: Whose it is.
    """

    path: Path
    text: str
    origin: Origin


def collect_sources(file: Path) -> dict[str, str]:
    """Reads a Solidity file and all files that it imports, directly or not; see `collect_files`.

    Args:
        file: Absolute path of the Solidity file.

    Returns:
        Texts of the files, by the names under which the compiler asks for them.

    Raises:
        CompileError: An imported file is missing, or a file is not UTF-8 text.
        InstallError: The compiler's packages are needed and can't be installed.
    """
    return {name: each.text for name, each in collect_files(file).items()}


def collect_files(file: Path) -> dict[str, SolidityFile]:
    """Reads a Solidity file and all files that it imports, directly or not.

    A relative import is looked for beside the file that makes it. Any other import is looked for by `remappings.txt`,
    in `node_modules` and in `lib`, in the folder of `file` and in each folder above it, and at last among the packages
    that come with the library's compiler, which the compiler reads by itself.

    Args:
        file: Absolute path of the Solidity file.

    Returns:
        The files, by the names under which the compiler asks for them. That of `file` is its file name.

    Raises:
        CompileError: An imported file is missing, or a file is not UTF-8 text.
        InstallError: The compiler's packages are needed and can't be installed.
    """
    paths: dict[str, Path] = {file.name: file}
    origins = {file.name: Origin.PROJECT}
    files: dict[str, SolidityFile] = {}
    unread = [file.name]
    while unread:
        name = unread.pop()
        importer = paths[name]
        files[name] = SolidityFile(importer.resolve(), _read(importer), origins[name])
        for imported in imports(files[name].text):
            is_remapped = origins[name] is Origin.REMAPPED
            if imported.startswith("."):
                imported_name = _relative_name(name, imported)
                path: Path | None = (importer.parent / imported).resolve()
            else:
                imported_name, (path, is_remapped) = imported, _find_library_file(file, imported)
            if imported_name in paths or path is None:
                continue
            if not path.is_file():
                raise CompileError(f"{importer} imports {imported}, which is not there.")
            paths[imported_name] = path
            origins[imported_name] = _origin(path.resolve(), file, is_remapped=is_remapped)
            unread.append(imported_name)
    return files


def _origin(path: Path, main: Path, *, is_remapped: bool) -> Origin:
    """Whose file it is that `main` imports. What nothing shows to be a package's is the project's own."""
    for folder in main.parents:
        for packages in (folder / "node_modules", folder / "lib"):
            if not path.is_relative_to(packages.resolve()) or main.is_relative_to(packages):
                continue
            if packages.name == "node_modules" or any((folder / each).exists() for each in _INSTALLERS):
                return Origin.PACKAGE
    return Origin.REMAPPED if is_remapped and not path.is_relative_to(main.parent) else Origin.PROJECT


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CompileError(f"{path} is no text in UTF-8: give a Solidity file.") from None


def _relative_name(importer: str, imported: str) -> str:
    """Returns the compiler's name for a relative import: relative to the importing file's name."""
    parts = importer.split("/")[:-1]
    for part in imported.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _find_library_file(main: Path, imported: str) -> tuple[Path | None, bool]:
    """Finds a file of a library, and whether by a remapping; None for a package that the compiler reads by itself."""
    for folder in main.parents:
        found = [(each, True) for each in _remapped(folder, imported)]
        found += [(folder / packages / imported, False) for packages in ("node_modules", "lib")]
        for candidate in found:
            if candidate[0].is_file():
                return candidate
    is_pinned = any(imported.startswith(f"{package}/") for package in pinned_packages())
    if ((ensure_node_modules() if is_pinned else node_modules()) / imported).is_file():
        return None, False
    raise CompileError(f"{imported} is not found: install it (node_modules, lib) at or above {main.parent}.")


def _remapped(folder: Path, imported: str) -> Iterator[Path]:
    """Yields where the folder's `remappings.txt` maps an import to. Its lines are `[context:]prefix=target`."""
    remappings = folder / "remappings.txt"
    for line in remappings.read_text().splitlines() if remappings.is_file() else ():
        prefix, _, target = line.strip().partition("=")
        prefix = prefix.rpartition(":")[2]
        if prefix and imported.startswith(prefix):
            yield folder / target / imported[len(prefix) :]

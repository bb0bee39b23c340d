"""Finds the files that a Solidity file imports: the one resolver for every command that takes a contract."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from stakesim.evm.compiler import CompileError, ensure_node_modules, node_modules
from stakesim.evm.solc_install import pinned_packages

_IMPORT = re.compile(r"""^\s*import\b[^;"']*["']([^"']+)["']""", re.MULTILINE)


def collect_sources(file: Path) -> dict[str, str]:
    """Reads a Solidity file and all files that it imports, directly or not.

    A relative import is looked for beside the file that makes it. Any other import is looked for by `remappings.txt`,
    in `node_modules` and in `lib`, in the folder of `file` and in each folder above it, and at last among the packages
    that come with the library's compiler, which the compiler reads by itself.

    Args:
        file: Absolute path of the Solidity file.

    Returns:
        Texts of the files, by the names under which the compiler asks for them. That of `file` is its file name.

    Raises:
        CompileError: An imported file is missing, or a file is not UTF-8 text.
        InstallError: The compiler's packages are needed and can't be installed.
    """
    paths: dict[str, Path] = {file.name: file}
    sources: dict[str, str] = {}
    unread = [file.name]
    while unread:
        name = unread.pop()
        importer = paths[name]
        sources[name] = _read(importer)
        for imported in _IMPORT.findall(sources[name]):
            if imported.startswith("."):
                imported_name = _relative_name(name, imported)
                path: Path | None = (importer.parent / imported).resolve()
            else:
                imported_name, path = imported, _find_library_file(file, imported)
            if imported_name in paths or path is None:
                continue
            if not path.is_file():
                raise CompileError(f"{importer} imports {imported}, which is not there.")
            paths[imported_name] = path
            unread.append(imported_name)
    return sources


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


def _find_library_file(main: Path, imported: str) -> Path | None:
    """Finds a file of a library; returns None for a package that the compiler reads by itself."""
    for folder in main.parents:
        candidates = (*_remapped(folder, imported), folder / "node_modules" / imported, folder / "lib" / imported)
        for candidate in candidates:
            if candidate.is_file():
                return candidate
    is_pinned = any(imported.startswith(f"{package}/") for package in pinned_packages())
    if ((ensure_node_modules() if is_pinned else node_modules()) / imported).is_file():
        return None
    raise CompileError(f"{imported} is not found: install it (node_modules, lib) at or above {main.parent}.")


def _remapped(folder: Path, imported: str) -> Iterator[Path]:
    """Yields where the folder's `remappings.txt` maps an import to. Its lines are `[context:]prefix=target`."""
    remappings = folder / "remappings.txt"
    for line in remappings.read_text().splitlines() if remappings.is_file() else ():
        prefix, _, target = line.strip().partition("=")
        prefix = prefix.rpartition(":")[2]
        if prefix and imported.startswith(prefix):
            yield folder / target / imported[len(prefix) :]

"""What kind of repository a folder is, and which contracts in it `stakesim init` can offer."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from stakesim.evm.solidity_text import without_comments
from stakesim.json_text import parse_json

_LARGEST = 1_000_000
"""Bytes of the largest file that is read."""
_OTHER_FOLDERS = {
    *("node_modules", "lib", "libs", "out", "artifacts", "cache", "build", "dist", "broadcast"),
    *("test", "tests", "mock", "mocks", "script", "scripts", "venv", "site-packages"),
}
"""Folders whose Solidity files are somebody else's, generated, or no contracts to deploy."""
_CONTRACT = re.compile(r"(?P<abstract>\babstract\s+)?\bcontract\s+(?P<name>\w+)(?:\s+is\s+(?P<parents>[^{]+))?\s*\{")
_BOOKS = re.compile(r"\bfunction\s+bookEvent\b")
"""The function that every stake contract has: of the full interface and of the smaller one."""


class Repository(NamedTuple):
    """A folder that contracts are developed in.

    Attributes:
        kind: Foundry, Hardhat, Ape or plain.
        sources: Folder of its Solidity files.
    """

    kind: str
    sources: Path


def find_repository(folder: Path) -> Repository:
    """Finds out by its files what kind of repository a folder is, and where its Solidity files are."""
    if (folder / "foundry.toml").is_file():
        source = _text(_toml(folder / "foundry.toml"), "profile", "default", "src")
        return Repository("Foundry", _sources(folder, source, "src"))
    if any(folder.glob("hardhat.config.*")):
        return Repository("Hardhat", _sources(folder, None, "contracts"))
    configs = [*folder.glob("ape-config.y*ml"), *folder.glob("ape-config.json")]
    tools = _toml(folder / "pyproject.toml").get("tool")
    in_pyproject = tools.get("ape") if isinstance(tools, dict) else None
    if configs or in_pyproject is not None:
        settings = _yaml(configs[0]) if configs else in_pyproject
        return Repository("Ape", _sources(folder, _text(settings, "contracts_folder"), "contracts"))
    return Repository("plain", _sources(folder, None, "contracts", "src"))


def find_contracts(repository: Repository, folder: Path) -> list[str]:
    """Returns the stake contracts of a repository, as `--contract` takes them, with paths from `folder`.

    A stake contract can be deployed, and has a function `bookEvent`, of its own or of a contract that it inherits from.
    """
    parents: dict[str, set[str]] = {}
    books: set[str] = set()
    deployable: list[tuple[Path, str]] = []
    for file in _solidity_files(repository.sources):
        text = without_comments(_read(file))
        found = list(_CONTRACT.finditer(text))
        ends = (following.start() for following in found[1:])
        for contract, end in zip(found, [*ends, len(text)], strict=False):
            name = contract["name"]
            parents[name] = set(re.findall(r"\w+", contract["parents"] or ""))
            if _BOOKS.search(text, contract.end(), end):
                books.add(name)
            if not contract["abstract"]:
                deployable.append((file, name))
    while more := {name for name, above in parents.items() if name not in books and above & books}:
        books |= more
    return [f"{file.relative_to(folder).as_posix()}:{name}" for file, name in deployable if name in books]


def _solidity_files(folder: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name.lower() not in _OTHER_FOLDERS and not name.startswith("."))
        yield from (
            Path(path) / name
            for name in sorted(files)
            if name.endswith(".sol") and not name.endswith((".t.sol", ".s.sol"))
        )


def _sources(folder: Path, configured: str | None, *usual: str) -> Path:
    named = [folder / name for name in (configured, *usual) if name]
    return next((each for each in named if each.is_dir() and each.resolve().is_relative_to(folder.resolve())), folder)


def _read(file: Path) -> str:
    """Returns the text of a file; empty if it is too large, or no text, or can't be read."""
    try:
        return file.read_text(encoding="utf-8") if file.stat().st_size <= _LARGEST else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _toml(file: Path) -> dict[str, object]:
    """Returns the content of a file that is somebody else's; empty if it can't be read."""
    try:
        return tomllib.loads(_read(file))
    except ValueError:
        return {}


def _yaml(file: Path) -> object:
    try:
        return parse_json(_read(file)) if file.suffix == ".json" else yaml.safe_load(_read(file))
    except (ValueError, yaml.YAMLError, RecursionError):
        return {}


def _text(settings: object, *keys: str) -> str | None:
    """Returns the text at a path of keys, if there is one."""
    for key in keys:
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings if isinstance(settings, str) else None

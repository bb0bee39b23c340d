"""Finds scenario files, profiles and populations: the project's own, and those that ship with the library."""

from __future__ import annotations

from pathlib import Path

from stakesim.paths import shipped
from stakesim.project import current_project


def scripted(*, include_shipped: bool = False) -> list[Path]:
    """Scenario files of the project; those that ship, if it has none.

    Args:
        include_shipped: Return those that ship in any case.
    """
    folder = current_project().scenarios
    own = sorted(folder.glob("*.yaml")) if folder is not None else []
    if own and not include_shipped:
        return own
    return [*own, *(file for file in sorted(shipped("scenarios").glob("*.yaml")) if file not in own)]


def for_backends() -> list[Path]:
    """Scenarios that disturb clients and network, to test any backend."""
    return sorted((shipped("scenarios") / "backend").glob("*.yaml"))


def find_scenario_file(name: str) -> Path | None:
    """The scenario file of a path or a scenario's name; None if it is neither."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    return next((file for file in (*scripted(include_shipped=True), *for_backends()) if file.stem == name), None)


def regressions() -> list[Path]:
    """Shrunk scenarios of failures that this project had."""
    return sorted(current_project().failures.glob("*.yaml"))


def profiles() -> dict[str, Path]:
    """Files of random campaigns by name; the project's own take precedence over those that ship."""
    return _by_name("profiles")


def populations() -> dict[str, Path]:
    """Files of populations by name; the project's own take precedence over those that ship."""
    return _by_name("populations")


def _by_name(folder_name: str) -> dict[str, Path]:
    folders = reversed(current_project().scenario_folders)
    files = {path.stem: path for folder in folders for path in sorted((folder / folder_name).glob("*.yaml"))}
    return dict(sorted(files.items()))

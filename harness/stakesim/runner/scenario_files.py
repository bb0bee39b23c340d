"""Scenario files, profiles and populations: the project's own, and those that ship with the library."""

from __future__ import annotations

from pathlib import Path

from stakesim.paths import shipped
from stakesim.project import current_project


def scripted(everything: bool = False) -> list[Path]:
    """The project's scenario files; where it has none, those that ship.

    Args:
        everything: Both.
    """
    own = current_project().scenarios
    mine = sorted(own.glob("*.yaml")) if own is not None else []
    if mine and not everything:
        return mine
    ships = sorted(shipped("scenarios").glob("*.yaml"))
    return [*mine, *(file for file in ships if file not in mine)]


def for_backends() -> list[Path]:
    """Scenarios in which clients and networks let a backend down; for any backend."""
    return sorted((shipped("scenarios") / "backend").glob("*.yaml"))


def find_scenario_file(what: str) -> Path | None:
    """The scenario file that a path or a scenario's name means; None where it is neither."""
    if what.endswith((".yaml", ".yml")):
        return Path(what)
    return next((file for file in (*scripted(everything=True), *for_backends()) if file.stem == what), None)


def regressions() -> list[Path]:
    """What once failed in this project, shrunk."""
    return sorted(current_project().failures.glob("*.yaml"))


def profiles() -> dict[str, Path]:
    """Files of random campaigns by name; the project's own hide those that ship."""
    return _named("profiles")


def populations() -> dict[str, Path]:
    """Files of populations by name; the project's own hide those that ship."""
    return _named("populations")


def _named(kind: str) -> dict[str, Path]:
    folders = reversed(current_project().scenario_folders)
    files = {path.stem: path for folder in folders for path in sorted((folder / kind).glob("*.yaml"))}
    return dict(sorted(files.items()))

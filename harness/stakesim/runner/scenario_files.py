"""Finds scenario files, profiles and populations: the project's own, and those that ship with the library."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from stakesim.paths import shipped
from stakesim.project import current_project
from stakesim.schema.errors import InputError

ENDINGS = (".yaml", ".yml")
"""Endings of the files' names."""
_DRAWN_FROM = ("profiles", "populations")
"""Folders with files that scenarios are drawn from."""


def yaml_files(folder: Path, *, nested: bool = False) -> list[Path]:
    """YAML files of a folder, in the order of their names; none if there is no such folder.

    Args:
        folder: The folder.
        nested: Also those of the folders in it, unless these are hidden.
    """
    files = folder.rglob("*") if nested else folder.glob("*")
    return sorted(
        file
        for file in files
        if file.suffix in ENDINGS and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def files_of(item: str) -> list[Path]:
    """The files that a path, or the name of a scenario, profile or population, stands for; of a folder all in it.

    Raises:
        InputError: It stands for none.
    """
    path = Path(item)
    if item and path.is_dir():
        return _files_in(path, nested=True)
    found = find_scenario_file(item) or find_drawn(item, "profiles") or find_drawn(item, "populations")
    if found is None:
        raise unknown(item)
    return [found]


def _files_in(folder: Path, *, nested: bool) -> list[Path]:
    if files := yaml_files(folder, nested=nested):
        return files
    raise InputError(f"{folder}: has no file that ends in {' or '.join(ENDINGS)}; name another folder")


def unknown(item: str) -> InputError:
    """The error for a name that is neither a scenario's nor a profile's nor a population's."""
    drawn = [*profiles(), *populations()]
    scenarios = [file.stem for file in (*scripted(include_shipped=True), *for_backends())]
    close = get_close_matches(item, [*scenarios, *drawn], n=1)
    folder = current_project().scenario_folders[0]
    advice = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(drawn)}, and scenarios in {folder}"
    return InputError(f"there is no scenario, profile or population {item!r}; {advice}")


def scripted(*, include_shipped: bool = False) -> list[Path]:
    """Scenario files of the project; those that ship, if it has none.

    Args:
        include_shipped: Return those that ship in any case.
    """
    folder = current_project().scenarios
    own = yaml_files(folder) if folder is not None else []
    if own and not include_shipped:
        return own
    return [*own, *(file for file in yaml_files(shipped("scenarios")) if file not in own)]


def for_backends() -> list[Path]:
    """Scenarios that disturb clients and network, to test any backend."""
    return yaml_files(shipped("scenarios") / "backend")


def find_scenario_file(name: str) -> Path | None:
    """The scenario file of a path or a scenario's name; None if it is neither."""
    if name.endswith(ENDINGS):
        return None if Path(name).parent.name in _DRAWN_FROM else Path(name)
    return next((file for file in (*scripted(include_shipped=True), *for_backends()) if file.stem == name), None)


def find_scenarios(item: str) -> list[Path]:
    """The scenario files in a folder, or of a path or a scenario's name; none if it is none of them.

    Raises:
        InputError: The folder has none.
    """
    if item and Path(item).is_dir():
        return _files_in(Path(item), nested=False)
    file = find_scenario_file(item)
    return [] if file is None else [file]


def find_drawn(name: str, kind: Literal["profiles", "populations"]) -> Path | None:
    """The file of a profile or population by path or name; None if there is none."""
    if name.endswith(ENDINGS):
        return Path(name) if Path(name).parent.name == kind else None
    return (profiles() if kind == "profiles" else populations()).get(name)


def regressions() -> list[Path]:
    """Shrunk scenarios of failures that this project had."""
    return yaml_files(current_project().failures)


def profiles() -> dict[str, Path]:
    """Files of random campaigns by name; the project's own take precedence over those that ship."""
    return _by_name("profiles")


def populations() -> dict[str, Path]:
    """Files of populations by name; the project's own take precedence over those that ship."""
    return _by_name("populations")


def _by_name(folder_name: str) -> dict[str, Path]:
    folders = reversed(current_project().scenario_folders)
    files = {path.stem: path for folder in folders for path in yaml_files(folder / folder_name)}
    return dict(sorted(files.items()))

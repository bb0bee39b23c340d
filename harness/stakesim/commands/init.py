"""`stakesim init`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from stakesim.paths import package_data
from stakesim.project import ProjectError, parse_section, read_section

FILES = {
    "one-no-show.yaml": "{scenarios}/one-no-show.yaml",
    "stakesim_adapter.py.txt": "stakesim_adapter.py",
    "stakesim.yml": ".github/workflows/stakesim.yml",
}
"""Starter files of the library, each with its path in the project."""
SCENARIOS = "scenarios"
"""Usual folder for scenarios."""
OTHER_SCENARIOS = "stakesim-scenarios"
"""Folder for scenarios if the project uses the usual one for something else."""


def init(folder: Annotated[Path, typer.Argument(help="The project's folder; created if needed.")] = Path()) -> None:
    """Write a starter: a section of pyproject.toml, a scenario, the stub of an adapter, and a CI file.

    Existing files are left as they are.
    """
    pyproject = folder / "pyproject.toml"
    scenarios = _scenario_folder(folder)
    section = _new_section(pyproject, scenarios)
    targets = {name: folder / path.format(scenarios=scenarios) for name, path in FILES.items()}
    _check_folders([pyproject, *targets.values()])
    for name, target in targets.items():
        if target.exists():
            typer.echo(f"{target}: exists, left as it is")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((package_data("starter") / name).read_text(encoding="utf-8"), encoding="utf-8")
        typer.echo(str(target))
    with pyproject.open("a", encoding="utf-8") as file:  # last: if something fails before, init can be run again
        file.write(section)
    typer.echo(f"{pyproject}: [tool.stakesim]")
    change_folder = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    typer.echo(f"now: {change_folder}stakesim run")


def _scenario_folder(folder: Path) -> str:
    """Name of the folder for scenarios. The usual folder is also used if an earlier init has begun it."""
    usual = folder / SCENARIOS
    taken = usual.exists() and not (usual / "one-no-show.yaml").is_file()
    return OTHER_SCENARIOS if taken else SCENARIOS


def _new_section(pyproject: Path, scenarios: str) -> str:
    """Text to append to pyproject.toml.

    Raises:
        ProjectError: The file has the section already, or can't be extended by one.
    """
    if pyproject.exists() and read_section(pyproject) is not None:
        raise ProjectError(f"{pyproject} has a section [tool.stakesim] already: there is nothing to start.")
    section = (package_data("starter") / "pyproject.toml").read_text(encoding="utf-8").format(scenarios=scenarios)
    existing = pyproject.read_text(encoding="utf-8") if pyproject.exists() else ""
    if not existing:
        section = section.lstrip()
    try:
        parse_section(existing + section)
    except ValueError:
        raise ProjectError(
            f"{pyproject} can't take a section [tool.stakesim] at its end: write its `tool` as sections, [tool.name]."
        ) from None
    return section


def _check_folders(files: Iterable[Path]) -> None:
    """Raises `ProjectError` if a file is where a folder must be."""
    for file in files:
        nearest = next(parent for parent in file.parents if parent.exists())
        if not nearest.is_dir():
            raise ProjectError(f"{nearest} is a file where a folder must be for {file}: rename it.")

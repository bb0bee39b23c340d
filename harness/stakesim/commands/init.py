"""`stakesim init`: a starter for a project of one's own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from stakesim.paths import package_data
from stakesim.project import ProjectError, read_section, section_in

FILES = {
    "one-no-show.yaml": "{scenarios}/one-no-show.yaml",
    "stakesim_adapter.py.txt": "stakesim_adapter.py",
    "stakesim.yml": ".github/workflows/stakesim.yml",
}
"""Starter files, and where they go."""
SCENARIOS, OTHERWISE = "scenarios", "stakesim-scenarios"
"""The folder for scenarios; the other one where the project has a folder of the first name for something else."""


def init(
    folder: Annotated[Path, typer.Argument(help="The project's folder; it is made where there is none.")] = Path(),
) -> None:
    """Write a starter: a section of pyproject.toml, one scenario, the stub of an adapter, a CI file.

    Nothing that is there is overwritten.
    """
    pyproject = folder / "pyproject.toml"
    if pyproject.exists() and read_section(pyproject) is not None:
        raise ProjectError(f"{pyproject} has a section [tool.stakesim] already: there is nothing to start.")
    scenarios = _scenarios(folder)
    section = (package_data("starter") / "pyproject.toml").read_text(encoding="utf-8").format(scenarios=scenarios)
    begun = pyproject.read_text(encoding="utf-8") if pyproject.exists() else ""
    added = section if begun else section.lstrip()
    try:
        section_in(begun + added)
    except ValueError:
        raise ProjectError(
            f"{pyproject} can't take a section [tool.stakesim] at its end: write its `tool` as sections, [tool.name]."
        ) from None
    targets = {name: folder / place.format(scenarios=scenarios) for name, place in FILES.items()}
    for target in (pyproject, *targets.values()):
        there = next(place for place in target.parents if place.exists())
        if not there.is_dir():
            raise ProjectError(f"{there} is a file where a folder must be for {target}: rename it.")
    for name, target in targets.items():
        if target.exists():
            typer.echo(f"{target}: is there, left as it is")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((package_data("starter") / name).read_text(encoding="utf-8"), encoding="utf-8")
        typer.echo(str(target))
    with pyproject.open("a", encoding="utf-8") as file:  # last: without it, the command can be given again
        file.write(added)
    typer.echo(f"{pyproject}: [tool.stakesim]")
    inside = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    typer.echo(f"now: {inside}stakesim run")


def _scenarios(folder: Path) -> str:
    """The folder for scenarios; one that an earlier try began is gone on with."""
    own = folder / SCENARIOS
    return OTHERWISE if own.exists() and not (own / "one-no-show.yaml").is_file() else SCENARIOS

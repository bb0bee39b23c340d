"""`stakesim init`: a starter for a project of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stakesim.paths import data
from stakesim.project import ProjectError, read_section

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
    folder.mkdir(parents=True, exist_ok=True)
    scenarios = OTHERWISE if (folder / SCENARIOS).exists() else SCENARIOS
    section = (data("starter") / "pyproject.toml").read_text(encoding="utf-8").format(scenarios=scenarios)
    with pyproject.open("a", encoding="utf-8") as file:
        file.write(section if pyproject.stat().st_size else section.lstrip())
    typer.echo(f"{pyproject}: [tool.stakesim]")
    for name, place in FILES.items():
        target = folder / place.format(scenarios=scenarios)
        if target.exists():
            typer.echo(f"{target}: is there, left as it is")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((data("starter") / name).read_text(encoding="utf-8"), encoding="utf-8")
        typer.echo(str(target))
    inside = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    typer.echo(f"now: {inside}stakesim run")

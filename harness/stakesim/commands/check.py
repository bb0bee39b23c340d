"""`stakesim check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stakesim.commands.terminal import console, finish


def check(files: Annotated[list[Path], typer.Argument(help="Scenario files.")]) -> None:
    """Check scenario files against the reference model, without running them.

    Reports expectations, in `received` or `fails`, that differ from what the model says.
    """
    from stakesim.model.rehearsal import disagreements
    from stakesim.scenario.scenario import load

    problems = [problem for file in files for problem in disagreements(load(file))]
    for problem in problems:
        console().print(problem, markup=False)
    verdict = (
        f"{len(problems)} expectations are not what the rules say" if problems else "well-formed, and as the rules say"
    )
    console().print(f"{len(files)} files: {verdict}")
    finish(ok=not problems)

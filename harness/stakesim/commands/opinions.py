"""`stakesim opinions`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from stakesim.commands.terminal import finish


def opinions(
    only: Annotated[Literal["slither", "halmos"] | None, typer.Option(help="Run only this tool.")] = None,
) -> None:
    """Check EventStake with slither, for known mistakes, and halmos, for proofs over all prices and attendances."""
    from stakesim.gate.static_analysis import TOOLS

    reports = [run_tool() for name, run_tool in TOOLS.items() if only in (None, name)]
    for report in reports:
        for problem in report.problems:
            typer.echo(problem)
        figures = ", ".join(f"{value} {name}" for name, value in report.figures.items())
        typer.echo(f"{report.tool}: {'fail' if report.problems else 'pass'}, {figures}, {report.seconds:.0f} s")
    finish(ok=not any(report.problems for report in reports))

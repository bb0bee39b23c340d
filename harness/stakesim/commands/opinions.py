"""`stakesim opinions`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from stakesim.commands.options import check_folder, reports
from stakesim.commands.terminal import console, finish, print_finding


@reports
def opinions(
    only: Annotated[Literal["slither", "halmos"] | None, typer.Option(help="Run only this tool.")] = None,
    long: Annotated[bool, typer.Option("--long", help="Prove what takes minutes, too.")] = False,
    refute: Annotated[
        bool,
        typer.Option(
            "--refute", help="Run each proof on a faulty contract instead, which it must refute (half an hour)."
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="File for the tools' reports, as JSON.")] = None,
) -> None:
    """Check EventStake with slither, for known mistakes, and halmos, for proofs over all amounts and states."""
    from stakesim.gate.static_analysis import TOOLS, ToolReport, halmos, refutations

    if out is not None:
        if out.is_dir():
            raise typer.BadParameter(f"{out} is a folder: name a file.")
        check_folder(out.parent)
    tools: dict[str, Callable[[], ToolReport]] = {**TOOLS, "halmos": partial(halmos, long=long)}
    chosen = [refutations] if refute else [tool for name, tool in tools.items() if only in (None, name)]
    results, screen = list[ToolReport](), console()
    for run_tool in chosen:
        report = run_tool()
        results.append(report)
        for proof in report.proofs:
            screen.print(f"{proof.seconds:6.1f} s  {proof.name}: {proof.verdict}", markup=False)
        for problem in report.problems:
            console(findings=True).print(problem, markup=False)
            print_finding(report.tool, problem)
        figures = ", ".join(f"{value} {name}" for name, value in report.figures.items())
        verdict = "fail" if report.problems else "pass"
        screen.print(f"{report.tool}: {verdict}, {figures}, {report.seconds:.0f} s", markup=False)
        if report.interrupted:
            break
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps([asdict(report) for report in results], indent=2) + "\n")
    finish(
        ok=not any(report.problems for report in results),
        interrupted=any(report.interrupted for report in results),
        tools=[report.tool for report in results],
    )

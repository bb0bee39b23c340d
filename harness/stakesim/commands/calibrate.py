"""`stakesim calibrate`: estimates people from a platform's own bookings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from stakesim.commands.options import SEED, reports
from stakesim.commands.terminal import console, finish
from stakesim.schema.errors import InputError

WIDTH = 118
Cutoff = Annotated[
    str, typer.Option(help="Until how long before the start people could cancel, as 24h or 2d.", metavar="TIME")
]


@reports
def calibrate(
    file: Annotated[
        Path, typer.Argument(help="The bookings, as docs/DECIDE.md describes them.", metavar="BOOKINGS.csv")
    ],
    out: Annotated[
        Path | None, typer.Option(help="File for the posterior, JSON, which sweep, plan and decide take.")
    ] = None,
    cutoff: Cutoff = "24h",
    seed: Annotated[int, typer.Option(help=SEED, min=0)] = 0,
) -> None:
    """Estimate no-shows, demand and cancellations from your own bookings, with what they leave open."""
    from rich.table import Table

    from stakesim.decisions import calibrate as estimate
    from stakesim.decisions import read_bookings
    from stakesim.decisions.calibrate import describe

    seconds = parse_cutoff(cutoff)
    posterior = estimate(read_bookings(file, seconds), cutoff=seconds, seed=seed)
    output = console(width=max(console().width, WIDTH))
    table = Table(box=None)
    rows = describe(posterior)
    for name in ("parameter", *rows.columns):
        table.add_column(name, no_wrap=True)
    for name, row in rows.iterrows():
        table.add_row(str(name), *row)
    output.print(", ".join(f"{count:,} {name.replace('_', '-')}" for name, count in posterior.counts.items()))
    output.print(table)
    output.print(
        "low to high holds a parameter with 95%. learnt is the share of the prior's variance that these bookings took "
        "away: near 0 the line is the prior. docs/DECIDE.md explains the parameters and has the sources of the priors."
    )
    for note in posterior.notes:
        output.print(f"- {note}", markup=False)
    if out:
        posterior.save(out)
        output.print(f"posterior: {out}")
    finish(
        ok=True,
        counts=posterior.counts,
        notes=list(posterior.notes),
        parameters=json.loads(posterior.summary().to_json(orient="index")),
    )


def parse_cutoff(text: str) -> int:
    """Reads a time such as 24h as seconds.

    Raises:
        InputError: It is no time, or below 0.
    """
    from stakesim.schema.fields import parse_time

    try:
        seconds = parse_time(text)
    except ValueError as error:
        raise InputError(f"--cutoff: {error}") from None
    if seconds < 0:
        raise InputError(f"--cutoff: {text!r} is after the start; give a time before it, as 24h")
    return seconds

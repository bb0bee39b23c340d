"""`stakesim bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stakesim.commands.terminal import console, fail, finish

if TYPE_CHECKING:
    from stakesim.bench.contenders import Contender


def bench(
    rounds: Annotated[int, typer.Option(help="Rounds of all contenders in turns. Medians are shown.", min=1)] = 3,
    scale: Annotated[
        float, typer.Option(help="Lifecycles in a round, as a multiple of the usual number.", min=0.001)
    ] = 1.0,
    only: Annotated[
        list[str] | None, typer.Option(help="Only contenders whose name contains this text, and the base. Repeatable.")
    ] = None,
    growth: Annotated[
        bool,
        typer.Option(help="Also measure growth with length, attendees, height and processes, and profile a booking."),
    ] = True,
    out: Annotated[Path | None, typer.Option(help="Folder for RESULTS.md, its plots and ratios.json.")] = None,
    check: Annotated[
        Path | None,
        typer.Option(help="Folder with a ratios.json: fail if a ratio to the bare loop is smaller by more than 15%."),
    ] = None,
) -> None:
    """Compare the speed of a lifecycle through all layers with bare loops and other tools, on this machine."""
    from stakesim.bench import contenders, ratios, results_page
    from stakesim.bench.growth import measure_growth
    from stakesim.errors import StakesimError
    from stakesim.paths import checkout

    if checkout() is None:
        raise StakesimError("The benchmark's peers are in a checkout of stakesim, and not in its wheel: run it there.")
    kept = ratios.read(check) if check else {}
    output = console()
    chosen = [
        contender
        for contender in contenders.all_contenders()
        if not only or contender.name == contenders.BASE or any(text in contender.name for text in only)
    ]
    with output.status("") as status:
        for number in range(rounds):
            for contender in chosen:
                status.update(f"round {number + 1} of {rounds}: {contender.name}")
                if not contender.trouble:
                    contender.run_round(scale)
        if not chosen[0].rates:
            fail(f"the bare loop can't be measured: {chosen[0].trouble}")
        figures = measure_growth(scale, status.update) if growth else None
    output.print(results_page.page(chosen, rounds, figures), markup=False)
    if out:
        output.print(f"written: {results_page.write(chosen, rounds, figures, out)}")
        ratios.write(chosen, out)
    if check:
        _compare(chosen, kept)


def _compare(chosen: list[Contender], kept: dict[str, float]) -> None:
    """Ends the command: it fails if one of ours is slower than it was, or can't be measured any more."""
    from stakesim.bench import ratios

    now = ratios.ratios(chosen)
    lost = [f"{one.name} can't be measured: {one.trouble}" for one in chosen if one.trouble and one.name in kept]
    problems = [*lost, *ratios.losses(now, kept)]
    for problem in problems:
        console(findings=True).print(problem, markup=False)
    if not lost and not now.keys() & kept.keys():
        fail("nothing was measured that the kept ratios have")
    console().print(f"{len(now.keys() & kept.keys())} ratios compared, {len(problems)} worse")
    finish(ok=not problems, ratios=now)

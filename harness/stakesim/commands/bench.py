"""`stakesim bench`."""

from __future__ import annotations

from collections.abc import Iterator
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
    calls: Annotated[
        bool,
        typer.Option(
            "--calls",
            help="Count function calls instead of seconds, once: they are the same on a busy machine. Only of those "
            "that run in one process, without growth.",
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for RESULTS.md, its plots and the ratios.")] = None,
    check: Annotated[
        Path | None,
        typer.Option(help="Folder with earlier ratios: fail if a ratio to the bare loop is smaller by more than 15%."),
    ] = None,
) -> None:
    """Compare the speed of a lifecycle through all layers with bare loops and other tools, on this machine."""
    from stakesim.bench import contenders, ratios, results_page
    from stakesim.bench.growth import measure_growth
    from stakesim.errors import StakesimError
    from stakesim.paths import checkout

    if checkout() is None:
        raise StakesimError("The benchmark's peers are in a checkout of stakesim, and not in its wheel: run it there.")
    file = ratios.CALLS_FILE if calls else ratios.FILE
    kept = ratios.read(check / file) if check else {}
    output, rounds = console(), 1 if calls else rounds
    chosen = [
        contender
        for contender in contenders.all_contenders()
        if (not only or contender.name == contenders.BASE or any(text in contender.name for text in only))
        and (contender.counts_calls or not calls)
    ]
    with output.status("") as status:
        for number in range(rounds):
            for contender in chosen:
                status.update(f"round {number + 1} of {rounds}: {contender.name}")
                if calls:
                    contender.count_calls()
                elif not contender.trouble:
                    contender.run_round(scale)
        if not chosen[0].rates:
            fail(f"the bare loop can't be measured: {chosen[0].trouble}")
        figures = measure_growth(scale, status.update) if growth and not calls else None
    output.print("\n".join(_calls(chosen)) if calls else results_page.page(chosen, rounds, figures), markup=False)
    if out:
        if not calls:
            output.print(f"written: {results_page.write(chosen, rounds, figures, out)}")
        ratios.write(chosen, out / file)
    if check:
        _compare(chosen, kept)


def _calls(chosen: list[Contender]) -> Iterator[str]:
    """A line for each contender whose calls were counted, the base first."""
    base = chosen[0].rate
    for contender in chosen:
        if contender.trouble:
            yield f"{contender.name}: {contender.trouble}"
        else:
            calls, ratio = 1e6 / contender.rate, contender.rate / base
            yield f"{calls:9,.0f} calls a transaction, {ratio:5.2f} to the bare loop: {contender.name}"


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

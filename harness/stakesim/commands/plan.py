"""`stakesim plan`: how large an experiment has to be, what it costs, and what it is worth."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stakesim.commands.options import SEED, reports
from stakesim.commands.terminal import console, finish, progress_bar

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from stakesim.decisions.plan import Plan


class Outcome(StrEnum):
    """What the other stake changes."""

    NO_SHOWS = "no-shows"
    BOOKINGS = "bookings"


@reports
def plan(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A question with bookings or a posterior, for cost and worth of the experiment.",
            metavar="QUESTION.yaml",
        ),
    ] = None,
    outcome: Annotated[Outcome, typer.Option(help="What the other stake is thought to change.")] = Outcome.NO_SHOWS,
    fall: Annotated[float, typer.Option(help="By which share it falls: 0.3 is 30%.")] = 0.3,
    rate: Annotated[
        float | None,
        typer.Option(help="Share of no-shows under today's stake.", show_default="the posterior's, else 0.135"),
    ] = None,
    bookings: Annotated[
        float | None, typer.Option(help="Bookings of a run.", show_default="those in the data, else 10")
    ] = None,
    clustering: Annotated[
        float | None,
        typer.Option(
            help="Correlation of two bookings of a run as to no-shows.", show_default="the posterior's, else 0.03"
        ),
    ] = None,
    power: Annotated[float, typer.Option(help="Probability to find the effect.")] = 0.8,
    level: Annotated[float, typer.Option(help="Probability of an effect where there is none.")] = 0.05,
    looks: Annotated[int, typer.Option(help="Looks at the data, the last one included.", min=1)] = 3,
    runs_per_week: Annotated[float, typer.Option(help="Runs a week, for both arms together.", min=0.01)] = 5.0,
    seasons: Annotated[
        float, typer.Option(help="Seasons after the experiment in which its result is used.", min=0.0)
    ] = 4.0,
    setup_inr: Annotated[float, typer.Option(help="INR that the experiment costs besides.", min=0.0)] = 0.0,
    seed: Annotated[int, typer.Option(help=SEED, min=0)] = 0,
) -> None:
    """Plan an experiment with two stakes: runs, weeks and looks; and what it costs and is worth for a question."""
    from stakesim.decisions import plan as planning
    from stakesim.decisions.power import Effect

    question = posterior = values = None
    effect = Effect(outcome.value, fall=fall)
    if file:
        from stakesim.decisions import decide, load_question
        from stakesim.decisions.question import posterior_of

        question = load_question(file).model_copy(update={"spot_check": 0})
        posterior = posterior_of(question, file.parent)
        effect = planning.effect_of(posterior, fall, outcome.value)
    effect = replace(
        effect,
        rate=effect.rate if rate is None else rate,
        bookings=effect.bookings if bookings is None else bookings,
        clustering=effect.clustering if clustering is None else clustering,
    )
    experiment = planning.plan(effect, looks=looks, level=level, power=power, seed=seed)
    if question and posterior:
        with progress_bar("draws", min(question.draws, len(posterior))) as advance:
            decision = decide(question, posterior, with_unknowns=False, progress=advance)
        values = planning.experiment_values(decision, posterior, seasons=seasons, setup_inr=setup_inr, seed=seed)
    output = console(width=max(console().width, 118))
    _print_plan(output, experiment, runs_per_week)
    if values is not None:
        _print_values(output, values, runs_per_week, seasons)
    figures: dict[str, Any] = {"plan": asdict(experiment)}
    if values is not None:
        figures["experiments"] = json.loads(values.to_json(orient="records"))
    finish(ok=True, seed=seed, **figures)


def _print_plan(output: Console, experiment: Plan, runs_per_week: float) -> None:
    from stakesim.decisions.plan import weeks

    effect, test, simulated = experiment.effect, experiment.test, experiment.simulated
    what = f"no-shows from {effect.rate:.1%} to {effect.rate * (1 - effect.fall):.1%}"
    if effect.outcome == "bookings":
        what = f"bookings of a run from {effect.bookings:.1f} to {effect.bookings * (1 - effect.fall):.1f}"
    most, mean = 2 * experiment.runs, simulated.runs
    output.print(
        f"To tell a fall of {effect.fall:.0%} ({what}) with a power of {experiment.power:.0%} at a level of "
        f"{experiment.level:.0%}:\n"
        f"  {experiment.runs} runs in each of two arms at most, some {most * effect.bookings:,.0f} bookings, "
        f"{weeks(most, runs_per_week):.0f} weeks at {runs_per_week:g} runs a week\n"
        f"  {mean:.0f} runs on average if the effect is there, {weeks(mean, runs_per_week):.0f} weeks, as it "
        "ends at the look that tells the effect\n"
        f"  without looks: {experiment.without_looks:.1f} runs in each arm by the closed form\n"
        f"  simulated: power {simulated.power:.1%} ±{1.96 * simulated.error:.1%}, level {experiment.null.power:.1%} "
        f"±{1.96 * experiment.null.error:.1%}",
        markup=False,
    )
    for number, z in enumerate(test.z, start=1):
        end = -(-experiment.runs * number // len(test.z))
        output.print(f"  look {number}, after {end} runs in each arm: stop if |z| is {z:.2f} or more", markup=False)
    output.print(
        f"A run has {effect.bookings:.1f} bookings, whose no-shows correlate by {effect.clustering:.3f}. Draw lots for "
        "whole runs, not for bookings: a run's contract has one stake.",
        markup=False,
    )


def _print_values(output: Console, values: pd.DataFrame, runs_per_week: float, seasons: float) -> None:
    from rich.table import Table

    from stakesim.decisions.plan import best_experiment, weeks

    table = Table(box=None)
    for name in ("stake to try", "runs in each arm", "weeks", "worth, INR", "cost, INR", "worth less cost, INR"):
        table.add_column(name, no_wrap=True, justify="right")
    row: Any
    for row in values.itertuples():
        table.add_row(
            f"{row.stake_bps / 100:g}%",
            str(row.runs_each),
            f"{weeks(2 * row.runs_each, runs_per_week):.0f}",
            f"{row.worth_inr:,.0f}",
            f"{row.cost_inr:,.0f}",
            f"{row.net_inr:,.0f}",
        )
    output.print(table)
    best = best_experiment(values)
    verdict = (
        "No experiment is worth its cost for this decision."
        if best is None
        else f"Worth most: try {best.stake_bps / 100:g}% against today's stake, {best.runs_each:.0f} runs in each arm, "
        f"{best.net_inr:,.0f} INR beyond its cost."
    )
    output.print(f"{verdict} Worth is of the {seasons:g} seasons after the experiment.", markup=False)

"""`stakesim decide`: the best stake, fee, split and price over a posterior."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stakesim.commands.options import SEED, Engine, reports
from stakesim.commands.terminal import console, finish, print_finding, progress_bar

if TYPE_CHECKING:
    from rich.console import Console

    from stakesim.decisions import Decision

WIDTH = 118
SHOWN = 12
"""Policies of the table in the terminal."""


@reports
def decide(
    file: Annotated[
        Path, typer.Argument(help="The question, as docs/DECIDE.md describes it.", metavar="QUESTION.yaml")
    ],
    draws: Annotated[
        int | None, typer.Option(help="Draws of the posterior to simulate.", min=50, show_default="the file's")
    ] = None,
    seed: Annotated[int | None, typer.Option(help=SEED, min=0, show_default="the file's")] = None,
    spot_check: Annotated[
        int | None,
        typer.Option(help="Runs to carry out on a chain and compare to the wei.", min=0, show_default="the file's"),
    ] = None,
    engine: Engine = "py-evm",
    out: Annotated[Path | None, typer.Option(help="CSV file for the table of all policies.")] = None,
) -> None:
    """Choose stake, fee, split and prices from your own bookings, with the regret, and what would change the choice.

    The engine is for the spot check alone.
    """
    from stakesim.decisions import decide as choose
    from stakesim.decisions import load_question
    from stakesim.decisions.question import posterior_of
    from stakesim.economics.output import whole_file
    from stakesim.economics.spot_check import MismatchError

    question = load_question(file)
    options = {"draws": draws, "seed": seed, "spot_check": spot_check}
    question = question.model_copy(update={name: value for name, value in options.items() if value is not None})
    posterior = posterior_of(question, file.parent)
    with_unknowns = find_spec("SALib") is not None
    try:
        with progress_bar("draws", min(question.draws, len(posterior))) as advance:
            decision = choose(question, posterior, with_unknowns=with_unknowns, engine=engine, progress=advance)
    except MismatchError as mismatch:
        console(findings=True).print(str(mismatch), markup=False)
        print_finding("mismatch", str(mismatch))
        finish(ok=False)
    output = console(width=max(console().width, WIDTH))
    _print(output, decision)
    if not with_unknowns:
        output.print("Which unknown matters most is told with SALib: pip install 'stakesim[decide]'.", markup=False)
    for note in decision.posterior.notes:
        output.print(f"- {note}", markup=False)
    if out:
        with whole_file(out) as unfinished:
            decision.table.to_csv(unfinished, index=False)
        output.print(f"policies: {out}")
    unknowns = decision.unknowns
    finish(
        ok=True,
        seed=question.seed,
        answer=decision.answer(),
        best={name: str(value) for name, value in decision.best._asdict().items()},
        regret_inr=decision.regret_inr,
        policies=json.loads(decision.table.to_json(orient="records", default_handler=str)),
        unknowns=None if unknowns is None else json.loads(unknowns.to_json(orient="index")),
        notes=list(decision.posterior.notes),
    )


def _print(output: Console, decision: Decision) -> None:
    from rich.table import Table

    from stakesim.economics.report import spot_check_sentence

    table = Table(box=None)
    names = ("stake", "fee", "split", "prices", "INR a season", "95%", "less than the best", "95%", "better", "empty")
    for name in names:
        table.add_column(name, no_wrap=True, justify="right")
    row: Any
    for row in decision.table.head(SHOWN).itertuples():
        is_best = row.Index == decision.table.index[0]
        mark = "best" if is_best else "same" if row.same else f"{row.better:.0%}{'' if row.told_apart else '*'}"
        regret = "" if is_best else f"{row.regret:,.0f}"
        interval = "" if is_best else f"{row.regret_low:,.0f} to {row.regret_high:,.0f}"
        table.add_row(
            f"{row.stake_bps / 100:g}%",
            f"{row.fee_bps / 100:g}%",
            f"{row.forfeit_to_host_bps / 100:g}%",
            f"x {row.price_factor:f}",
            f"{row.score:,.0f}",
            f"{row.low:,.0f} to {row.high:,.0f}",
            regret,
            interval,
            mark,
            f"{row.empty_share:.1%}",
        )
    output.print(decision.question.question, markup=False)
    output.print(table)
    if len(decision.table) > SHOWN:
        output.print(f"and {len(decision.table) - SHOWN} policies that are worth less; --out FILE.csv writes all")
    output.print(
        "INR a season is the certainty equivalent of the weighted outcome. better: the probability that a policy is "
        "better than the best one; * not told apart from it. " + spot_check_sentence(decision.spot_checked),
        markup=False,
    )
    output.print(decision.answer(), markup=False)
    if decision.unknowns is not None:
        unknowns = Table(box=None)
        for name in ("unknown", "worth knowing, INR a season", "Sobol total", "Sobol first"):
            unknowns.add_column(name, no_wrap=True)
        for row in decision.unknowns.head(5).itertuples():
            total, first = (
                f"{row.total:.2f} ±{row.total_half_width:.2f}",
                f"{row.first:.2f} ±{row.first_half_width:.2f}",
            )
            unknowns.add_row(row.Index, f"{row.worth_inr:,.0f}", total, first)
        output.print(unknowns)
        explained = decision.emulator.explained[decision.question.policies().index(decision.runner_up or decision.best)]
        output.print(
            f"Unknowns are ranked by a smooth fit to the draws, which explains {max(explained, 0):.0%} of what the "
            "best policy gains over the runner-up; the rest is chance, or what the fit does not follow."
        )

"""`stakesim sweep`: runs the sweep of a file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stakesim.commands.options import JOBS, SEED, Dask, Engine, Jobs, reports
from stakesim.commands.terminal import ExitCode, console, fail, finish, print_finding, progress_bar
from stakesim.schema.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from stakesim.economics.sweep_file import SweepFile

LEAST_WIDTH = 112
"""Characters in a line, also where the terminal has fewer, so that tables keep their columns."""
RUNS_OF_A_DRAW = 4_096
"""Default of `--runs` with a posterior at most."""
TERMINAL_METRICS = ("bookings lost", "no-show rate", "host profit", "platform income")
TERMINAL_METRICS_OF_GAS = ("no-show rate", "host profit", "transaction costs", "platform profit")


@reports
def sweep(
    file: Annotated[Path, typer.Argument(help="A sweep file, as in scenarios/sweeps.", metavar="FILE.yaml")],
    runs: Annotated[
        int | None, typer.Option(help="Runs of each combination.", min=2, show_default="the file's")
    ] = None,
    seed: Annotated[int | None, typer.Option(help=SEED, min=0, show_default="the file's")] = None,
    spot_check: Annotated[
        int | None,
        typer.Option(help="Runs to carry out on a chain and compare to the wei.", min=0, show_default="the file's"),
    ] = None,
    engine: Engine = "py-evm",
    jobs: Jobs = JOBS,
    dask: Dask = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for sweep.parquet and report.html; an interrupted sweep resumes from it."),
    ] = None,
    posterior: Annotated[
        Path | None,
        typer.Option(
            help="People from `stakesim calibrate`, instead of the file's population and behaviours: intervals then "
            "carry what your bookings leave open. --runs are then of each of 100 draws, by default at most 4,096.",
            metavar="POSTERIOR.json",
        ),
    ] = None,
    per_run: Annotated[
        bool, typer.Option("--per-run", help="Also write runs.parquet into --out: a row for each run and policy.")
    ] = False,
) -> None:
    """Settle many runs under each policy, group of people and market, and compare the policies.

    The engine is for the spot check alone.
    """
    from stakesim.economics.spot_check import MismatchError
    from stakesim.economics.sweep_file import load_sweep

    if per_run and not out:
        raise InputError("--per-run writes a file: give a folder with --out")
    if per_run and posterior:
        raise InputError("--per-run has no draws of a posterior: leave one of them out")
    sweep_file = load_sweep(file)
    if posterior and (sweep_file.gas or sweep_file.quantiles):
        raise InputError("--posterior has no gas and no quantiles: leave it out, or these two in the file")
    if posterior and runs is None:
        runs = min(sweep_file.runs, RUNS_OF_A_DRAW)
    options = {"runs": runs, "seed": seed, "spot_check": spot_check}
    sweep_file = sweep_file.model_copy(update={name: value for name, value in options.items() if value is not None})
    output = console(width=max(console().width, LEAST_WIDTH))
    try:
        frame = _run_with_progress(sweep_file, engine, jobs, dask, out, posterior)
    except MismatchError as mismatch:
        console(findings=True).print(str(mismatch), markup=False)
        print_finding("mismatch", str(mismatch))
        finish(ok=False)
    except KeyboardInterrupt:
        kept = f"the same command goes on from {out}" if out else "nothing is kept without --out"
        fail(f"interrupted: {kept}", ExitCode.INTERRUPTED)
    _print_table(output, sweep_file, frame, of_draws=bool(posterior))
    if out:
        from stakesim.economics.report import write_report

        command = f"stakesim sweep {shlex.quote(str(file))} --runs {sweep_file.runs} --seed {sweep_file.seed}"
        write_report(frame, sweep_file, out / "report.html", command)
        if per_run:
            _write_runs(sweep_file, out / "runs.parquet")
        output.print(f"report: {out / 'report.html'}, figures: {out / 'sweep.parquet'}")
    finish(
        ok=True,
        seed=sweep_file.seed,
        runs=sweep_file.runs,
        figures=json.loads(frame.to_json(orient="records", default_handler=str)),
    )


def _write_runs(sweep_file: SweepFile, file: Path) -> None:
    from stakesim.economics.metrics import OF_GAS
    from stakesim.economics.output import whole_file
    from stakesim.economics.runs import RUN_METRICS, sweep_runs
    from stakesim.economics.sweep_file import groups_and_markets, population_of
    from stakesim.runner.tables import write_parquet

    population = population_of(sweep_file)
    behaviours, prices = groups_and_markets(sweep_file, population)
    frame = sweep_runs(
        sweep_file.policies,
        behaviours,
        prices,
        sweep_file.runs,
        sweep_file.seed,
        population,
        gas=sweep_file.gas or None,
        metrics=(*RUN_METRICS, *OF_GAS) if sweep_file.gas else RUN_METRICS,
    )
    with whole_file(file) as unfinished:
        write_parquet(frame, unfinished)


def _run_with_progress(
    sweep_file: SweepFile, engine: str, jobs: int, dask: str | None, out: Path | None, posterior: Path | None
) -> pd.DataFrame:
    from stakesim.economics.sweep_file import groups_and_markets, population_of
    from stakesim.economics.sweeps import sweep as run_sweep

    population = population_of(sweep_file)
    behaviours, prices = groups_and_markets(sweep_file, population)
    if posterior:
        from stakesim.decisions import Posterior
        from stakesim.decisions.predictive import sweep_posterior

        people, policies = Posterior.load(posterior), sweep_file.policies
        draws = min(100, len(people))
        with progress_bar("runs", sweep_file.runs * draws * len(prices)) as advance:
            return sweep_posterior(
                policies,
                people,
                prices,
                sweep_file.runs,
                sweep_file.seed,
                draws=draws,
                spot_check=sweep_file.spot_check,
                engine=engine,
                jobs=jobs,
                dask=dask,
                out=out,
                progress=advance,
            )
    cells = len(behaviours) * len(prices) * max(len(sweep_file.gas), 1)
    with progress_bar("runs", sweep_file.runs * cells) as advance:
        return run_sweep(
            sweep_file.policies,
            behaviours,
            prices,
            sweep_file.runs,
            sweep_file.seed,
            population,
            gas=sweep_file.gas or None,
            quantiles=sweep_file.quantiles,
            spot_check=sweep_file.spot_check,
            engine=engine,
            jobs=jobs,
            dask=dask,
            out=out,
            progress=advance,
        )


def _print_table(output: Console, sweep_file: SweepFile, frame: pd.DataFrame, *, of_draws: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    from stakesim.economics.report import quantile_columns, quantile_rows, spot_check_sentence, table_rows
    from stakesim.economics.sweep_file import population_of

    policies = list(sweep_file.policies)
    names = TERMINAL_METRICS_OF_GAS if sweep_file.gas else TERMINAL_METRICS
    keys = [*policies, "people", "market", *(["gas"] if sweep_file.gas else [])]

    def show(rows: list[tuple[Any, list[str]]], metrics: Sequence[str]) -> None:
        """Prints a table, without the columns of what is the same in all rows."""
        varied = [n for n in range(len(keys)) if n == 0 or len({values[n] for values, _ in rows}) > 1]
        table = Table(box=None)
        for name in (*(keys[n] for n in varied), *metrics):
            table.add_column(name.replace("_", " "), no_wrap=True)
        for values, cells in rows:
            table.add_row(*(str(values[n]) for n in varied), *map(escape, cells))
        output.print(table)

    output.print(sweep_file.question)
    show(table_rows(frame, policies, names, with_values=False), names)
    if levels := [f"{name[1:]}%" for name in quantile_columns(frame)]:
        profits = ("host profit", names[-1])
        of_platforms = population_of(sweep_file).platform is not None
        output.print(f"Quantiles over {'platforms' if of_platforms else 'runs'}, {' / '.join(levels)}:")
        show(quantile_rows(frame, policies, profits), profits)
    intervals = (
        "± is a 95% interval, of changes the paired one. * marks policies that no other one is shown to beat: the best "
        "is among them with 95% or more. "
    )
    if of_draws:
        intervals = (
            "± holds 95% of the draws of the posterior. * marks policies that no other one beats in 95% of them. "
        )
    output.print(
        f"{int(frame.runs.iloc[0]):,} runs of each, the same ones under every policy. In brackets is the change from "
        f"the first policy; {intervals}" + spot_check_sentence(int(frame.spot_checked.iloc[0])),
        markup=False,
    )

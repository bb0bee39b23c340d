"""`stakesim sweep`: a sweep from a file, on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from stakesim.economics.sweep_file import Sweep

FINDINGS = 1
WIDTH = 112
"""Characters that a table takes at least, wherever it is shown."""
SHOWN = ("bookings lost", "no-show rate", "host profit", "platform income")


def sweep(
    file: Annotated[Path, typer.Argument(help="A sweep, as in scenarios/sweeps.", metavar="FILE.yaml")],
    runs: Annotated[int | None, typer.Option(help="Runs of each combination, instead of the file's.", min=2)] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the file's.", min=0)] = None,
    spot_check: Annotated[
        int | None, typer.Option(help="Runs to play on a chain and compare to the wei, instead of the file's.", min=0)
    ] = None,
    engine: Annotated[str, typer.Option(help="Where they are played, as for run.")] = "py-evm",
    jobs: Annotated[int, typer.Option("-j", "--jobs", help="Processes.", min=1)] = 2,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, whose workers do it instead.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for sweep.parquet and report.html; what is done there is not done again."),
    ] = None,
) -> None:
    """Settle many runs under each policy, kind of people and market, and say what differs."""
    from rich.console import Console

    from stakesim.economics.spot_check import Mismatch
    from stakesim.economics.sweep_file import load_sweep

    wanted = load_sweep(file)
    changes = {"runs": runs, "seed": seed, "spot_check": spot_check}
    wanted = wanted.model_copy(update={name: value for name, value in changes.items() if value is not None})
    console = Console(soft_wrap=True, highlight=False, width=max(Console().width, WIDTH))
    try:
        frame = _with_progress(wanted, engine, jobs, dask, out)
    except Mismatch as different:
        console.print(str(different), markup=False)
        raise typer.Exit(FINDINGS) from None
    _show(console, wanted, frame)
    if out:
        from stakesim.economics.report import write

        write(frame, wanted, out / "report.html", f"stakesim sweep {file} --runs {wanted.runs} --seed {wanted.seed}")
        console.print(f"report: {out / 'report.html'}, figures: {out / 'sweep.parquet'}")


def _with_progress(wanted: Sweep, engine: str, jobs: int, dask: str | None, out: Path | None) -> pd.DataFrame:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from stakesim.economics import sweep as carry_out
    from stakesim.economics.sweep_file import population_of

    population = population_of(wanted)
    behaviours = wanted.behaviours or {population.name: population.behaviours}
    prices = wanted.prices or {population.price.path: population.price}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("runs", total=wanted.runs * len(behaviours) * len(prices))
        return carry_out(
            wanted.policies,
            behaviours,
            prices,
            wanted.runs,
            wanted.seed,
            population,
            spot_check=wanted.spot_check,
            engine=engine,
            jobs=jobs,
            dask=dask,
            out=out,
            progress=lambda done: bar.advance(task, done),
        )


def _show(console: Console, wanted: Sweep, frame: pd.DataFrame) -> None:
    from rich.table import Table

    from stakesim.economics.report import format_estimate

    table = Table(box=None)
    for name in (*wanted.policies, "people", "market", *SHOWN):
        table.add_column(name.replace("_", " "), no_wrap=True)
    for keys, rows in frame.groupby([*wanted.policies, "behaviours", "price"], sort=False):
        metric = rows.set_index("metric")
        table.add_row(*map(str, keys), *(format_estimate(metric.loc[name]) for name in SHOWN))
    console.print(wanted.question)
    console.print(table)
    console.print(
        f"{wanted.runs:,} runs of each, the same ones under every policy; ± is a 95% interval. "
        f"{frame.spot_checked.iloc[0]} runs were played on a chain, and every payout was the same to the wei."
    )

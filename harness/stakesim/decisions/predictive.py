"""Sweeps over a posterior: the same table as a sweep's, with intervals that carry what the bookings leave open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stakesim.decisions.posterior import Posterior
from stakesim.economics.cells import Markets, Policies
from stakesim.economics.sweeps import sweep
from stakesim.population.population import CHUNK_SIZE, require_whole
from stakesim.schema.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.economics.blocks import Progress

SURE = 0.95


def sweep_posterior(
    policies: Policies,
    posterior: Posterior,
    prices: Markets,
    runs: int = CHUNK_SIZE,
    seed: int = 0,
    *,
    draws: int = 100,
    spot_check: int = 0,
    engine: str = "py-evm",
    jobs: int = 1,
    dask: str | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Settles runs of each draw of a posterior under every policy.

    Args:
        policies: See `stakesim.economics.sweep`, as for all arguments that are not named here.
        posterior: The posterior.
        prices: Markets by name, or a single market.
        runs: Runs of each draw. A multiple of 4,096 takes no longer than the next smaller number.
        seed: Seed of all random numbers.
        draws: How many draws of the posterior are simulated.
        spot_check: Runs to carry out on a chain first.
        engine: EVM engine of the spot check.
        jobs: Processes on this machine.
        dask: Address of a Dask scheduler.
        out: Folder for the finished blocks.
        progress: Called with the number of runs that were finished.

    Returns:
        The columns of a sweep's table. `value` is the mean over the draws; `low` to `high` and `change_low` to
        `change_high` hold 95% of the draws; a policy may be the largest or smallest unless some other one is larger or
        smaller in 95% of them. `draws` is their number, and numerators and denominators are sums over all.

    Raises:
        InputError: See `sweep`.
        MismatchError: The spot check found a difference.
    """
    require_whole("draws", draws, least=20)
    if draws > len(posterior):
        raise InputError(f"the posterior has {len(posterior)} draws, and {draws} are asked for; ask for fewer")
    drawn = posterior.thin(draws)
    populations = list(drawn.populations())
    places = max(population.attendees[1] for population in populations)
    population = populations[0].model_copy(update={"attendees": (places, places)})
    people = {f"draw {number}": each.behaviours for number, each in enumerate(populations)}
    frame = sweep(
        policies,
        people,
        prices,
        runs,
        seed,
        population,
        spot_check=spot_check,
        engine=engine,
        jobs=jobs,
        dask=dask,
        out=out,
        progress=progress,
    )
    return _over_draws(frame, draws)


def _over_draws(frame: pd.DataFrame, draws: int) -> pd.DataFrame:
    """Summarises a sweep whose groups of people are draws."""
    import numpy as np

    first = frame[frame.behaviours == frame.behaviours.iloc[0]].index
    per_draw = len(first)
    rows = frame.loc[first].reset_index(drop=True).drop(columns=["behaviours_parameters"])
    order = frame.assign(
        number=frame.groupby("behaviours", observed=True, sort=False).cumcount(),
        draw=np.repeat(np.arange(draws), per_draw),
    )
    values = order.pivot(index="draw", columns="number", values="value").to_numpy(float)
    for column in ("numerator", "denominator"):
        rows[column] = order.pivot(index="draw", columns="number", values=column).to_numpy(object).sum(axis=0)
    rows["behaviours"], rows["draws"] = "posterior", draws
    rows["runs"] = rows.runs * draws
    for _, group in rows.groupby(["price", "metric"], observed=True, sort=False):
        columns = values[:, group.index]
        changes = columns - columns[:, [0]]
        larger = (columns[:, :, None] > columns[:, None, :]).mean(axis=0)  # how often one policy beats another
        for position, index in enumerate(group.index):
            low, high = np.nanquantile(columns[:, position], (0.025, 0.975))
            change_low, change_high = np.nanquantile(changes[:, position], (0.025, 0.975))
            rows.loc[index, ["value", "low", "high", "change", "change_low", "change_high"]] = [
                np.nanmean(columns[:, position]),
                low,
                high,
                np.nanmean(changes[:, position]),
                change_low,
                change_high,
            ]
            rows.loc[index, "may_be_largest"] = not (larger[:, position] >= SURE).any()
            rows.loc[index, "may_be_smallest"] = not (larger[position] >= SURE).any()
    table: pd.DataFrame = rows.astype({"behaviours": "category"})
    return table

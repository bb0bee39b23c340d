"""The runs of a sweep one by one, for what means do not tell: quantiles, tails, and how runs differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stakesim.economics.blocks import measured
from stakesim.economics.cells import Gases, Groups, Markets, Policies, cells_of
from stakesim.economics.metrics import METRICS, metrics_of, ratios
from stakesim.economics.sweeps import DEFAULT_POPULATION
from stakesim.population.population import Population
from stakesim.schema.errors import InputError, suggestion

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.population.state import Wei

RUN_METRICS = ("host profit", "platform income", "attendees' cost", "no-show rate", "empty seats")


def sweep_runs(
    policies: Policies,
    behaviours: Groups,
    prices: Markets,
    runs: int,
    seed: int,
    population: Population = DEFAULT_POPULATION,
    *,
    gas: Gases = None,
    metrics: Sequence[str] = RUN_METRICS,
) -> pd.DataFrame:
    """Settles the same runs as `sweep`, and returns each of them. The means over runs are those of `sweep`.

    Memory holds all runs: a million of them, under six policies, are some 0.4 GB.

    Args:
        policies: See `sweep`, as for all arguments up to the population.
        behaviours: Groups of people.
        prices: Markets.
        runs: Runs for each group and market.
        seed: Seed of all random numbers.
        population: The runs, and the people before their behaviours apply.
        gas: Markets of gas by name, or a single one.
        metrics: Names of metrics, which are columns of the table.

    Returns:
        A row for each run, policy, group and market: the terms, the number of the run, that of its platform if runs
        share a market, and the metrics in their units.
        Wei are Python integers; all others are floats, nan for a share of nothing.

    Raises:
        InputError: See `sweep`; or a metric does not exist.
    """
    import numpy as np
    import pandas as pd

    known = metrics_of(has_gas=gas is not None)
    if unknown := [name for name in metrics if name not in known]:
        raise InputError(f"there is no metric {unknown[0]!r}; {suggestion(unknown[0], known)}")
    parts = []
    for cell in cells_of(population, policies, behaviours, prices, runs, seed, gas):
        for block in cell.blocks:
            for number, values_by_policy in enumerate(measured(block)):
                for terms, values in zip(block.policies, values_by_policy, strict=True):
                    columns = {name: _in_unit(name, *values[name]) for name in metrics}
                    first = (block.first_chunk + number) * population.chunk_size
                    numbers = np.arange(first, first + len(values["bookings"][0]))
                    names = {"behaviours": cell.people, "price": cell.market} | ({"gas": cell.gas} if cell.gas else {})
                    own = {"platform": numbers // block.runs_together} if population.platform else {}
                    parts.append(pd.DataFrame({**dict(terms), **names, "run": numbers, **own, **columns}))
    frame = pd.concat(parts, ignore_index=True)
    return frame.astype(dict.fromkeys(names, "category"))


def _in_unit(name: str, numerators: Wei, denominators: Wei) -> Wei:
    """The metric of each run, shape (runs,)."""
    return numerators.astype(object) if METRICS[name].startswith("wei") else ratios(numerators, denominators)

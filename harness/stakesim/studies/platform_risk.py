"""The risk of a platform's runs together: they share one path of ETH, so that their losses come together.

A run by itself tells what one host risks. A platform has many runs, and if each had a market of its own, their gains
and losses would mostly cancel: the risk would look like that of many countries, each with an ETH of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from stakesim.economics.risk import tail_risk
from stakesim.population.population import Platform
from stakesim.prices.price_models import PriceModel
from stakesim.studies.exposure import exposures, population_with_lead
from stakesim.units import DAY

if TYPE_CHECKING:
    import pandas as pd

RUNS = 60
"""Runs of a platform."""
CASES: Mapping[str, int | None] = {
    "each run its own ETH": None,
    "one ETH, created within a year": 365,
    "one ETH, within 90 days": 90,
    "one ETH, within 30 days": 30,
    "one ETH, on one day": 0,
}
"""Days within which a platform's runs are created; None: each has a market of its own."""


def platform_risk(
    price: PriceModel, platforms: int, seed: int, *, spot_check: int = 0, engine: str = "py-evm"
) -> pd.DataFrame:
    """Estimates by how much the revenue of all hosts of a platform falls short of what was promised to them.

    Args:
        price: The market.
        platforms: Number of platforms of `RUNS` runs.
        seed: Seed of all random numbers.
        spot_check: Runs of each case to carry out on a chain first.
        engine: EVM engine of the spot check.

    Returns:
        A row for each of `CASES`, in percent of the promised revenue under wei-fixed pricing: `VaR 5%`, and `ES 5%`
        with its 95% interval.
    """
    import pandas as pd

    rows = []
    for case, days in CASES.items():
        platform = None if days is None else Platform(runs=RUNS, over=days * DAY)
        population = population_with_lead(30).model_copy(update={"platform": platform})
        frame = exposures(population, price, RUNS * platforms, seed, spot_check=spot_check, engine=engine)
        fixed = frame[frame.pricing == "wei-fixed"].reset_index(drop=True)
        totals = fixed.groupby(fixed.index // RUNS)[["host's revenue", "promised"]].sum()
        risk = tail_risk(0 - 100 * totals["host's revenue"] / totals["promised"])
        rows.append({"case": case, "VaR 5%": risk.var, "ES 5%": risk.es, "from": risk.es_low, "to": risk.es_high})
    return pd.DataFrame(rows).set_index("case")

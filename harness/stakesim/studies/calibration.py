"""Calibration of the price models: statistics of their simulated paths beside those of ETH.

`stakesim.studies.calibration_page` writes the results to docs/PRICES.md.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.random import default_rng

from stakesim.prices.market import draw_jumps, simulate
from stakesim.prices.price_models import Bootstrap, Garch, Gbm, Merton, PriceModel
from stakesim.studies import synthetic_series
from stakesim.studies.price_statistics import ETH_STATISTICS, ETH_VOLATILITY, path_statistics, volatility_by_year

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RUNS, SEED = 200, 2_026
DAYS = synthetic_series.CLOSES - 1
"""Length of each path: as many days as are known of ETH, as some statistics depend on the length."""
DRIFT = 0.52
"""Drift a year: 0.2 of log drift plus half of 0.8^2. ETH's moves after 30 and 60 days imply a log drift of 0.16 to
0.2."""
_START = Decimal(10**9)
"""INR per ETH at the start: so high that rounding to two digits does not matter, however far a path falls."""

MERTON = Merton(inr_per_eth=_START, annual_drift=DRIFT)
MODELS: Mapping[str, PriceModel] = {
    "GBM": Gbm(inr_per_eth=_START, annual_volatility=0.803, annual_drift=DRIFT, step=86_400),
    "Merton": MERTON,
    "bootstrap, 7 days": Bootstrap(inr_per_eth=_START, block_days=7),
    "bootstrap, 20 days": Bootstrap(inr_per_eth=_START, block_days=20),
    "GARCH": Garch(inr_per_eth=_START, annual_drift=DRIFT),
}
"""The volatility of GBM gives it the 7-day tail that is claimed of it. The other models have their defaults."""

GARCH_TARGETS = (
    "30-day volatility, 5%",
    "30-day volatility, median",
    "30-day volatility, 95%",
    "volatility, calmest of 8 years",
    "volatility, wildest of 8 years",
)
"""The statistics that GARCH is fitted to."""

MODEL_CLAIMS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "GBM": {"7-day return, 1%": (-22.4, -22.4)},
    "Merton": {
        "jumps drawn a year": (10, 12),
        "jump drawn, mean": (-2, -1),
        "jump drawn, standard deviation": (13, 14),
        "volatility of the diffusion": (67, 72),
    },
    "bootstrap, 7 days": {"7-day return, 1%": (-27, -27)},
    "bootstrap, 20 days": {"7-day return, 1%": (-27, -27)},
    "GARCH": {name: ETH_STATISTICS[name] for name in GARCH_TARGETS},
}
"""What is claimed of each model itself: the lowest and the highest value."""


def model_statistics(price: PriceModel, *, seed: int = SEED, runs: int = RUNS) -> pd.DataFrame:
    """Returns the statistics of `ETH_STATISTICS`, a row for each simulated path of `DAYS` days."""
    return path_statistics(simulate(price, default_rng(seed), runs, DAYS))


def merton_components(price: Merton, *, seed: int = SEED, runs: int = RUNS) -> dict[str, float]:
    """Returns the jumps and the diffusion of Merton's model as drawn, which the rates alone do not reveal.

    All values are in percent except the number of jumps a year. Mean and deviation are of days with a single jump.
    """
    counts, sizes = draw_jumps(price, default_rng(seed), runs, DAYS)
    single_jumps = 100 * sizes[counts == 1]
    diffusion = simulate(price.model_copy(update={"jump_rate": 0}), default_rng(seed), runs, DAYS)
    return {
        "jumps drawn a year": counts.mean() * 365,
        "jump drawn, mean": single_jumps.mean(),
        "jump drawn, standard deviation": single_jumps.std(),
        "volatility of the diffusion": 100 * np.sqrt(365) * np.diff(np.log(diffusion), axis=0).std(),
    }


def statistics_table(*, runs: int = RUNS, seed: int = SEED) -> pd.DataFrame:
    """Compares ETH, the synthetic series, and the mean over each model's paths.

    Returns:
        A row for each statistic of `ETH_STATISTICS`. Columns: `claimed from` and `claimed to` of ETH, `synthetic
        series`, and each of `MODELS`.
    """
    columns = {
        "claimed from": [low for low, _ in ETH_STATISTICS.values()],
        "claimed to": [high for _, high in ETH_STATISTICS.values()],
    }
    table = pd.DataFrame(columns, index=list(ETH_STATISTICS), dtype=float)
    table["synthetic series"] = path_statistics(synthetic_series.closes()[:, None]).iloc[0]
    for name, price in MODELS.items():
        table[name] = model_statistics(price, seed=seed, runs=runs).mean()
    return table


def claims_table(statistics: pd.DataFrame, *, seed: int = SEED, runs: int = RUNS) -> pd.DataFrame:
    """Compares each claim of `MODEL_CLAIMS` with the simulation, a row for each claim.

    Args:
        statistics: From `statistics_table`.
        seed: Seed of the simulation of Merton's components.
        runs: Paths of that simulation.
    """
    components = merton_components(MERTON, seed=seed, runs=runs)
    rows = [
        (model, name, low, high, components[name] if name in components else statistics.loc[name, model])
        for model, claims in MODEL_CLAIMS.items()
        for name, (low, high) in claims.items()
    ]
    return pd.DataFrame(rows, columns=["model", "figure", "claimed from", "claimed to", "simulated"])


def fit_garch(
    alphas: Iterable[float] = (0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.15),
    persistences: Iterable[float] = (0.96, 0.97, 0.98, 0.985, 0.99, 0.995),
    *,
    runs: int = 100,
    seed: int = SEED,
) -> tuple[Garch, float]:
    """Fits GARCH to `GARCH_TARGETS` by simulated moments (D. McFadden 1989) on a grid of parameters.

    The long-run volatility scales all volatilities of a path alike. So it follows from the mean log distance and needs
    no grid.

    Args:
        alphas: Values of alpha to try.
        persistences: Values of alpha + beta to try.
        runs: Simulated paths for each pair of values.
        seed: Seed of all simulations, so that they use the same random numbers.

    Returns:
        The best model, and its sum of squared log distances.

    Raises:
        ValueError: The grid is empty.
    """
    targets = np.log([ETH_STATISTICS[name][0] for name in GARCH_TARGETS])
    best: tuple[Garch, float] | None = None
    persistences = tuple(persistences)
    for alpha in alphas:
        for persistence in persistences:
            price = Garch(inr_per_eth=_START, annual_drift=DRIFT, alpha=alpha, beta=round(persistence - alpha, 6))
            means = model_statistics(price, seed=seed, runs=runs).mean()
            distances = targets - np.log(means[list(GARCH_TARGETS)].to_numpy())
            volatility = price.annual_volatility * float(np.exp(distances.mean()))
            distance = float(((distances - distances.mean()) ** 2).sum())
            if best is None or distance < best[1]:
                best = price.model_copy(update={"annual_volatility": volatility}), distance
    if best is None:
        raise ValueError("the grid is empty; give an alpha and a persistence")
    return best


def volatility_table() -> pd.DataFrame:
    """Compares the volatility of the synthetic series with ETH's, in percent: a row for each calendar year."""
    simulated = volatility_by_year(synthetic_series.closes(), synthetic_series.days())
    rows = {year: (claimed, simulated[year]) for year, claimed in ETH_VOLATILITY.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["claimed", "synthetic series"], dtype=float)

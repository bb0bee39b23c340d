"""The synthetic daily series of ETH in INR, from one seed. No market data is in it.

python -m stakesim.studies.synthetic_series > scenarios/series/eth-inr-synthetic.csv

A stochastic volatility model (Taylor 1986) with jumps (Merton 1976) and a drift that wanders. Log return of day t:

r(t) = m(t) + s exp(x(t)) Z(t), or m(t) + s J(t) on a day with a jump

x, m: AR(1) processes with normal innovations; Z: standard normal; J: a least size and an exponential one above it, down
or up. s is such that each calendar year has the volatility that is known of ETH; the lowest return of 2020 is made
ETH's worst day.

The seed and the numbers of Shape were searched for: the best of 10,600 seeds, then the numbers changed a little at a
time, so that the series comes near the figures of `stakesim.studies.price_statistics`. That it does so is made, and
proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from math import log
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FIRST = date(2015, 8, 8)
CLOSES = 3_804
LAST_RATE = 250_000
"""INR for one ETH on the last day; the level is a convention, only returns are meant to be like ETH's."""
VOLATILITY = {2018: 1.09, 2019: 0.81, 2020: 1.02, 2021: 1.06, 2022: 0.87, 2023: 0.47, 2024: 0.64, 2025: 0.75}
OTHER_YEARS = 0.72
"""Volatility of the years of which it is not known."""
WORST_DAY, ITS_YEAR = -0.43, 2020
SEED = 2_701


class Shape(NamedTuple):
    """Half-lives in days; jumps, wandering (deviation of m) and drift a year; sizes are log returns, not yet scaled."""

    log_volatility: float = 0.373
    volatility_half_life: float = 32.5
    wandering: float = 1.36
    drift_half_life: float = 82.1
    jumps: float = 14.8
    least_jump: float = 0.0776
    more_jump: float = 0.0175
    upwards: float = 0.417
    drift: float = 0.329


SHAPE = Shape()


def closes(seed: int = SEED, shape: Shape = SHAPE) -> Floats:
    """INR for one ETH on each day from FIRST, with two digits."""
    import numpy as np

    logs = np.concatenate([[0.0], np.cumsum(returns(np.random.default_rng(seed), shape))])
    rates: Floats = np.round(LAST_RATE * np.exp(logs - logs[-1]), 2)
    return rates


def days() -> list[date]:
    return [FIRST + timedelta(days=number) for number in range(CLOSES)]


def returns(rng: Generator, shape: Shape) -> Floats:
    """Log returns of the days after FIRST."""
    import numpy as np

    count = CLOSES - 1
    volatility = np.exp(shape.log_volatility * _ar1(rng, count, shape.volatility_half_life) - shape.log_volatility**2)
    drift = (shape.wandering * _ar1(rng, count, shape.drift_half_life) + shape.drift) / 365
    diffusion = 0.7 / np.sqrt(365) * volatility * rng.standard_normal(count)
    sizes = shape.least_jump + shape.more_jump * rng.standard_exponential(count)
    sizes *= np.where(rng.random(count) < shape.upwards, 1, -1)
    shocks = np.where(rng.random(count) < shape.jumps / 365, sizes, diffusion)
    years = np.array([day.year for day in days()[1:]])
    drawn = np.empty(count)
    for year in np.unique(years):
        of_year = years == year
        target = VOLATILITY.get(int(year), OTHER_YEARS)
        drawn[of_year] = _scaled(shocks[of_year], drift[of_year], target, worst=year == ITS_YEAR)
    return drawn


def _scaled(shocks: Floats, drift: Floats, target: float, worst: bool) -> Floats:
    """drift + s shocks, with s so that the year has the target's volatility; found by bisection."""
    import numpy as np

    low, high = 0.0, 10.0
    while True:
        scale = (low + high) / 2
        year = drift + scale * shocks
        if worst:
            year[shocks.argmin()] = log(1 + WORST_DAY)
        if high - low < 1e-12:
            return year
        if year.std(ddof=1) * np.sqrt(365) < target:
            low = scale
        else:
            high = scale


def _ar1(rng: Generator, count: int, half_life: float) -> Floats:
    """Stationary, mean 0, variance 1."""
    import numpy as np

    memory = 0.5 ** (1 / half_life)
    innovations = rng.standard_normal(count) * np.sqrt(1 - memory**2)
    value, values = float(rng.standard_normal()), []
    for innovation in innovations.tolist():
        value = memory * value + innovation
        values.append(value)
    return np.array(values)


def lines() -> Iterator[str]:
    yield "date,close"
    yield from (f"{day},{close:.2f}" for day, close in zip(days(), closes(), strict=True))


if __name__ == "__main__":
    for line in lines():
        print(line)  # noqa: T201

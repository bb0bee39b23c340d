"""A synthetic daily series of ETH in INR, made from one seed. It contains no market data.

    python -m stakesim.studies.synthetic_series > scenarios/series/eth-inr-synthetic.csv

The model is stochastic volatility (S. Taylor 1986) with jumps (R. Merton 1976) and a drift that wanders. The log return
of day t is

    r(t) = m(t) + s exp(x(t)) Z(t)     or, on a day with a jump,     r(t) = m(t) + s J(t)

x and m are AR(1) processes with normal innovations, and Z is standard normal. J is a least size plus an exponential
one, down or up. The scale s is such that each calendar year has the volatility of ETH. The lowest return of 2020 is
set to ETH's worst day.

The seed is the best of 10,600, and the parameters of `Shape` were then changed in small steps, so that the series comes
near the statistics of `stakesim.studies.price_statistics`. That it does is by construction and proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from math import log
from typing import TYPE_CHECKING, NamedTuple

from stakesim.studies.price_statistics import ETH_VOLATILITY

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FIRST_DAY = date(2015, 8, 8)
CLOSES = 3_804
LAST_RATE = 250_000
"""INR per ETH on the last day. The level is arbitrary: only returns are meant to resemble ETH's."""
OTHER_YEARS_VOLATILITY = 0.72
"""Volatility of the years for which ETH's is not given, as a share."""
WORST_RETURN, WORST_YEAR = -0.43, 2020
SEED = 2_701


class Shape(NamedTuple):
    """Parameters of the model. Sizes are log returns before they are scaled with s.

    Attributes:
        log_volatility: Standard deviation of x.
        volatility_half_life: Half-life of x in days.
        wandering: Standard deviation of m, a year.
        drift_half_life: Half-life of m in days.
        jumps: Jumps a year.
        least_jump: Least size of a jump.
        more_jump: Mean of the exponential size above it.
        upwards: Share of jumps that go up.
        drift: Mean of m, a year.
    """

    log_volatility: float = 0.373
    volatility_half_life: float = 32.5
    wandering: float = 1.36
    drift_half_life: float = 82.1
    jumps: float = 14.8
    least_jump: float = 0.0776
    more_jump: float = 0.0175
    upwards: float = 0.417
    drift: float = 0.329


DEFAULT_SHAPE = Shape()


def closes(seed: int = SEED, shape: Shape = DEFAULT_SHAPE) -> Floats:
    """Returns INR per ETH on each of `days`, rounded to two digits; shape (CLOSES,)."""
    import numpy as np

    logs = np.concatenate([[0.0], np.cumsum(returns(np.random.default_rng(seed), shape))])
    rates: Floats = np.round(LAST_RATE * np.exp(logs - logs[-1]), 2)
    return rates


def days() -> list[date]:
    """Returns the days of the series, oldest first."""
    return [FIRST_DAY + timedelta(days=number) for number in range(CLOSES)]


def returns(rng: Generator, shape: Shape) -> Floats:
    """Returns the log returns of all days after the first; shape (CLOSES - 1,)."""
    import numpy as np

    count = CLOSES - 1
    volatility = np.exp(shape.log_volatility * _ar1(rng, count, shape.volatility_half_life) - shape.log_volatility**2)
    drift = (shape.wandering * _ar1(rng, count, shape.drift_half_life) + shape.drift) / 365
    diffusion = 0.7 / np.sqrt(365) * volatility * rng.standard_normal(count)
    jump_sizes = shape.least_jump + shape.more_jump * rng.standard_exponential(count)
    jump_sizes *= np.where(rng.random(count) < shape.upwards, 1, -1)
    shocks = np.where(rng.random(count) < shape.jumps / 365, jump_sizes, diffusion)
    years = np.array([day.year for day in days()[1:]])
    log_returns = np.empty(count)
    for year in np.unique(years):
        of_year = years == year
        target = ETH_VOLATILITY[int(year)] / 100 if int(year) in ETH_VOLATILITY else OTHER_YEARS_VOLATILITY
        worst_return = WORST_RETURN if year == WORST_YEAR else None
        log_returns[of_year] = _scale_year(shocks[of_year], drift[of_year], target, worst_return)
    return log_returns


def _scale_year(shocks: Floats, drift: Floats, volatility: float, worst_return: float | None) -> Floats:
    """Finds by bisection the scale s for which drift + s shocks has the given volatility, and returns that sum.

    If `worst_return` is given, it replaces the lowest return.
    """
    import numpy as np

    low, high = 0.0, 10.0
    while True:
        scale = (low + high) / 2
        log_returns = drift + scale * shocks
        if worst_return is not None:
            log_returns[shocks.argmin()] = log(1 + worst_return)
        if high - low < 1e-12:
            return log_returns
        if log_returns.std(ddof=1) * np.sqrt(365) < volatility:
            low = scale
        else:
            high = scale


def _ar1(rng: Generator, count: int, half_life: float) -> Floats:
    """A stationary AR(1) process with mean 0 and variance 1."""
    import numpy as np

    memory = 0.5 ** (1 / half_life)
    innovations = rng.standard_normal(count) * np.sqrt(1 - memory**2)
    value, values = float(rng.standard_normal()), []
    for innovation in innovations.tolist():
        value = memory * value + innovation
        values.append(value)
    return np.array(values)


def csv_lines() -> Iterator[str]:
    """Yields the lines of `scenarios/series/eth-inr-synthetic.csv`."""
    yield "date,close"
    yield from (f"{day},{close:.2f}" for day, close in zip(days(), closes(), strict=True))


if __name__ == "__main__":
    for line in csv_lines():
        print(line)  # noqa: T201

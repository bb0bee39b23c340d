"""Many price paths at once, for Monte Carlo simulations: a column for each path, a row for each day.

`price_models.py` has the models and their sources. Rates are floats with two digits: money is computed with
`Decimal(f"{rate:.2f}")`.
"""

from __future__ import annotations

from math import exp, sqrt
from typing import TYPE_CHECKING

from stakesim.prices import series
from stakesim.prices.formula_paths import formula_path, rounded
from stakesim.prices.price_models import Bootstrap, Garch, Gbm, Merton, PriceModel
from stakesim.units import DAY, YEAR

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LOWEST, HIGHEST = 0.01, 1e20
"""Bounds of a rate in INR per ETH: a paisa, and the limit of scenario files."""
_DT = DAY / YEAR
"""A day in years."""


def simulate(price: PriceModel, rng: Generator, runs: int, days: int) -> Floats:
    """Simulates the paths of a price model.

    More days with the same generator and runs leave the earlier days as they were. A model without random numbers has
    equal columns. A Gbm is simulated by the day, whatever its step: the values differ from those of `rate_path`, but
    have the same distribution.

    Args:
        price: The model; its own seed is not used.
        rng: The source of randomness.
        runs: How many paths.
        days: How many days.

    Returns:
        INR for one ETH at the start and after each day, shape (days + 1, runs). Row 0 is the model's first rate.
    """
    import numpy as np

    match price:
        case Gbm():
            logs = _gbm(price, rng, runs, days)
        case Merton():
            logs = _merton(price, rng, runs, days)
        case Bootstrap():
            logs = _bootstrap(price, rng, runs, days)
        case Garch():
            logs = _garch(price, rng, runs, days)
        case _:
            rate_at = formula_path(price)
            column = np.array([float(rate_at(day * DAY)) for day in range(days + 1)])
            return np.repeat(column[:, None], runs, axis=1)
    rates = np.empty((days + 1, runs))
    rates[0] = float(rounded(price.inr_per_eth))
    rates[1:] = logs
    for day in range(2, days + 1):  # the sums of np.cumsum, which goes along each path and takes ten times as long
        rates[day] += rates[day - 1]
    np.exp(np.clip(rates[1:], -99, 99, out=rates[1:]), out=rates[1:])
    rates[1:] *= rates[0]
    np.clip(rates[1:], LOWEST, HIGHEST, out=rates[1:])
    return np.round(rates, 2, out=rates)


def draw_jumps(price: Merton, rng: Generator, runs: int, days: int) -> tuple[NDArray[np.int64], Floats]:
    """Draws how many jumps each day has, and the sum of their log sizes, both of shape (days, runs)."""
    import numpy as np

    counts_rng, sizes_rng = _split(rng, 2)
    counts = counts_rng.poisson(price.jump_rate * _DT, size=(days, runs))
    sizes = np.zeros((days, runs))
    has_jumps = counts > 0
    jumps = counts[has_jumps]
    deviations = price.jump_volatility * np.sqrt(jumps) * sizes_rng.standard_normal(jumps.size)
    sizes[has_jumps] = price.jump_mean * jumps + deviations
    return counts, sizes


def _split(rng: Generator, count: int) -> list[Generator]:
    """Independent generators, one for each kind of random number.

    With a single generator, the draws of a kind would depend on how many days the kind before it has, so the first days
    of a longer path would differ from those of a shorter one.
    """
    from numpy.random import default_rng

    return [default_rng(int(seed)) for seed in rng.integers(2**63, size=count)]


def _gbm(price: Gbm, rng: Generator, runs: int, days: int) -> Floats:
    """Log returns of each day, which covers the steps that end in it, shape (days, runs)."""
    import numpy as np

    years = np.diff(np.arange(days + 1) * DAY // price.step)[:, None] * (price.step / YEAR)
    logs = _split(rng, 1)[0].standard_normal((days, runs))
    logs *= price.annual_volatility * np.sqrt(years)
    logs += (price.annual_drift - price.annual_volatility**2 / 2) * years
    return logs


def _merton(price: Merton, rng: Generator, runs: int, days: int) -> Floats:
    mean_jump = exp(price.jump_mean + price.jump_volatility**2 / 2) - 1
    logs = _split(rng, 1)[0].standard_normal((days, runs))
    logs *= price.annual_volatility * sqrt(_DT)
    logs += (price.annual_drift - price.annual_volatility**2 / 2 - price.jump_rate * mean_jump) * _DT
    logs += draw_jumps(price, rng, runs, days)[1]
    return logs


def _garch(price: Garch, rng: Generator, runs: int, days: int) -> Floats:
    import numpy as np

    omega = (1 - price.alpha - price.beta) * price.annual_volatility**2 * _DT
    first = price.annual_volatility if price.first_volatility is None else price.first_volatility
    variance = np.full(runs, first**2 * _DT)
    logs = _split(rng, 1)[0].standard_normal((days, runs))
    for day in logs:
        day *= np.sqrt(variance)
        shock = price.alpha * day * day
        day += price.annual_drift * _DT - variance / 2
        variance *= price.beta
        variance += shock + omega
    return logs


def _bootstrap(price: Bootstrap, rng: Generator, runs: int, days: int) -> Floats:
    import numpy as np

    returns = np.diff(np.log(np.array(series.read_closes(price.file).rates, dtype=np.float64)))
    draw_indices = _moving if price.blocks == "moving" else stationary_blocks
    sample: Floats = returns[draw_indices(rng, len(returns), price.block_days, days, runs)]
    return sample


def _moving(rng: Generator, length: int, block: int, days: int, runs: int) -> NDArray[np.int64]:
    """Indices below `length` in blocks of equal length, shape (days, runs)."""
    import numpy as np

    starts = _split(rng, 1)[0].integers(length - block + 1, size=(-(-days // block), 1, runs))
    return (starts + np.arange(block)[:, None]).reshape(-1, runs)[:days]


def stationary_blocks(rng: Generator, length: int, block: int, days: int, runs: int) -> NDArray[np.int64]:
    """Indices below `length` in blocks of random length, whose mean is `block`, shape (days, runs)."""
    import numpy as np

    ends_rng, starts_rng = _split(rng, 2)
    is_start = ends_rng.random((days, runs)) < 1 / block
    is_start[:1] = True
    day = np.arange(days)[:, None]
    # for each day, the day on which its block begins
    start_day = np.maximum.accumulate(np.where(is_start, day, 0), axis=0)
    starts = starts_rng.integers(length, size=(days, runs))
    return (np.take_along_axis(starts, start_day, axis=0) + day - start_day) % length

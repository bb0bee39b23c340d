"""Many price paths at once, for Monte Carlo: one column a path, one row a day.

`price_models.py` has the models and their sources. Floats, since these are random paths; each value
has two digits, so that `Decimal(f"{rate:.2f}")` is what money is computed with.
"""

from __future__ import annotations

from math import exp, sqrt
from typing import TYPE_CHECKING

from stakesim.prices import series
from stakesim.prices.formula_paths import formula_path, rounded
from stakesim.prices.price_models import DAY, YEAR, Bootstrap, Garch, Gbm, Merton, PriceModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LOWEST, HIGHEST = 0.01, 1e20
"""INR for one ETH: a paisa, and what no scenario file may reach."""
_DT = DAY / YEAR


def simulate(price: PriceModel, rng: Generator, runs: int, days: int) -> Floats:
    """INR for one ETH at the beginning and after each day: shape (days + 1, runs), row 0 is the price's own first rate.

    rng: where chance comes from; the price's own seed is for `path`. Without chance all columns are the same. More days
    with the same rng and runs leave the first ones as they were. A Gbm is drawn by the day, whatever its step: other
    values than `path` has, of the same distribution.
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
    np.cumsum(logs, axis=0, out=rates[1:])
    np.exp(np.clip(rates[1:], -99, 99, out=rates[1:]), out=rates[1:])
    rates[1:] *= rates[0]
    np.clip(rates[1:], LOWEST, HIGHEST, out=rates[1:])
    return np.round(rates, 2, out=rates)


def draw_jumps(price: Merton, rng: Generator, runs: int, days: int) -> tuple[NDArray[np.int64], Floats]:
    """How many jumps each day has, and the sum of their log sizes; both of shape (days, runs)."""
    import numpy as np

    of_counts, of_sizes = _streams(rng, 2)
    counts = of_counts.poisson(price.jump_rate * _DT, size=(days, runs))
    sizes = np.zeros((days, runs))
    some = counts > 0
    many = counts[some]
    sizes[some] = price.jump_mean * many + price.jump_volatility * np.sqrt(many) * of_sizes.standard_normal(many.size)
    return counts, sizes


def _streams(rng: Generator, count: int) -> list[Generator]:
    """Each kind of draw has its own, so that a longer path begins like a shorter one."""
    from numpy.random import default_rng

    return [default_rng(int(seed)) for seed in rng.integers(2**63, size=count)]


def _gbm(price: Gbm, rng: Generator, runs: int, days: int) -> Floats:
    """By as many of its steps as end in each day."""
    import numpy as np

    years = np.diff(np.arange(days + 1) * DAY // price.step)[:, None] * (price.step / YEAR)
    logs = _streams(rng, 1)[0].standard_normal((days, runs))
    logs *= price.annual_volatility * np.sqrt(years)
    logs += (price.annual_drift - price.annual_volatility**2 / 2) * years
    return logs


def _merton(price: Merton, rng: Generator, runs: int, days: int) -> Floats:
    mean_jump = exp(price.jump_mean + price.jump_volatility**2 / 2) - 1
    logs = _streams(rng, 1)[0].standard_normal((days, runs))
    logs *= price.annual_volatility * sqrt(_DT)
    logs += (price.annual_drift - price.annual_volatility**2 / 2 - price.jump_rate * mean_jump) * _DT
    logs += draw_jumps(price, rng, runs, days)[1]
    return logs


def _garch(price: Garch, rng: Generator, runs: int, days: int) -> Floats:
    import numpy as np

    omega = (1 - price.alpha - price.beta) * price.annual_volatility**2 * _DT
    first = price.annual_volatility if price.first_volatility is None else price.first_volatility
    variance = np.full(runs, first**2 * _DT)
    logs = _streams(rng, 1)[0].standard_normal((days, runs))
    for day in logs:
        day *= np.sqrt(variance)
        shock = price.alpha * day * day
        day += price.annual_drift * _DT - variance / 2
        variance *= price.beta
        variance += shock + omega
    return logs


def _bootstrap(price: Bootstrap, rng: Generator, runs: int, days: int) -> Floats:
    import numpy as np

    returns = np.diff(np.log(np.array(series.read(price.file).rates, dtype=np.float64)))
    draw = _moving if price.blocks == "moving" else _stationary
    drawn: Floats = returns[draw(rng, len(returns), price.block_days, days, runs)]
    return drawn


def _moving(rng: Generator, length: int, block: int, days: int, runs: int) -> NDArray[np.int64]:
    """Which of `length` returns each day has."""
    import numpy as np

    starts = _streams(rng, 1)[0].integers(length - block + 1, size=(-(-days // block), 1, runs))
    return (starts + np.arange(block)[:, None]).reshape(-1, runs)[:days]


def _stationary(rng: Generator, length: int, block: int, days: int, runs: int) -> NDArray[np.int64]:
    """Which of `length` returns each day has."""
    import numpy as np

    of_ends, of_starts = _streams(rng, 2)
    begins = of_ends.random((days, runs)) < 1 / block
    begins[:1] = True
    day = np.arange(days)[:, None]
    begun = np.maximum.accumulate(np.where(begins, day, 0), axis=0)
    starts = of_starts.integers(length, size=(days, runs))
    return (np.take_along_axis(starts, begun, axis=0) + day - begun) % length

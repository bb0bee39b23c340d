"""Statistics of daily rates of ETH: those that are known, and the same ones of any simulated path.

All are in percent except the number of jumps a year. A volatility is the standard deviation of daily log returns times
sqrt(365).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

HORIZONS = (7, 14, 30, 60)
"""Days over which moves are counted."""
MOVE = 0.2
"""The size of a counted move, as a share of the rate at its beginning."""
YEARS = 8
ROLLING_DAYS = 30
JUMP_THRESHOLD = 3
"""Standard deviations from the mean beyond which a return is a jump."""

ETH_VOLATILITY: Mapping[int, int] = {2018: 109, 2019: 81, 2020: 102, 2021: 106, 2022: 87, 2023: 47, 2024: 64, 2025: 75}
"""ETH's volatility in percent by calendar year."""

ETH_MOVES: Mapping[str, tuple[float, ...]] = {"down": (3.7, 8.4, 16.4, 26.7), "up": (5.8, 14.0, 24.2, 35.9)}
"""Percent of the days after which ETH closed more than `MOVE` lower or higher, for each of `HORIZONS`."""

ETH_STATISTICS: Mapping[str, tuple[float, float]] = {
    "volatility, mean of 8 years": (83.9, 83.9),
    "volatility, calmest of 8 years": (47, 47),
    "volatility, wildest of 8 years": (109, 109),
    "30-day volatility, 5%": (38, 38),
    "30-day volatility, median": (74, 74),
    "30-day volatility, 95%": (127, 127),
    "worst day": (-43, -43),
    **{
        f"{direction} > 20% after {days} days": (percent, percent)
        for direction, shares in ETH_MOVES.items()
        for days, percent in zip(HORIZONS, shares, strict=True)
    },
    "7-day return, 1%": (-26.9, -26.9),
    "jumps a year": (10, 12),
    "jump, mean": (-2, -1),
    "jump, standard deviation": (13, 14),
    "volatility without jumps": (67, 72),
}
"""Lowest and highest published value of each statistic, of 3,804 daily closes of ETH from 2015-08 to 2026-01.

The moves are those of the close after so many days, not of the lowest or highest rate on the way. Volatilities show
this: read as closes, the moves after 7, 14, 30 and 60 days fit a random walk with a volatility of 88, 84, 84 and 102%;
read as extremes, with 82, 72, 60 and 54%, but volatility was below 60% in only one year of eight.
"""


def path_statistics(rates: Floats) -> pd.DataFrame:
    """Computes the statistics of `ETH_STATISTICS` for each path.

    Args:
        rates: Daily rates of more than eight years, shape (days, paths).

    Returns:
        A row for each path, a column for each statistic.
    """
    logs = np.log(rates)
    returns = np.diff(logs, axis=0)
    annual = _annualised(returns[-YEARS * 365 :].reshape(YEARS, 365, -1).std(axis=1, ddof=1))
    low, median, high = np.quantile(_rolling_volatility(returns), [0.05, 0.5, 0.95], axis=0)
    moves = {days: np.expm1(logs[days:] - logs[:-days]) for days in HORIZONS}
    statistics = {
        "volatility, mean of 8 years": annual.mean(axis=0),
        "volatility, calmest of 8 years": annual.min(axis=0),
        "volatility, wildest of 8 years": annual.max(axis=0),
        "30-day volatility, 5%": low,
        "30-day volatility, median": median,
        "30-day volatility, 95%": high,
        "worst day": 100 * np.expm1(returns.min(axis=0)),
        **{f"down > 20% after {days} days": 100 * (move < -MOVE).mean(axis=0) for days, move in moves.items()},
        **{f"up > 20% after {days} days": 100 * (move > MOVE).mean(axis=0) for days, move in moves.items()},
        "7-day return, 1%": 100 * np.quantile(moves[7], 0.01, axis=0),
        **_jump_statistics(returns),
    }
    return pd.DataFrame(statistics)[list(ETH_STATISTICS)]


def volatility_by_year(closes: Floats, days: Sequence[date]) -> dict[int, float]:
    """Returns the volatility of a path in percent by calendar year; a return belongs to the day of its close."""
    returns = np.diff(np.log(closes))
    years = np.array([day.year for day in days[1:]])
    return {int(year): float(_annualised(returns[years == year].std(ddof=1))) for year in np.unique(years)}


def _annualised(daily_deviation: Floats) -> Floats:
    percent: Floats = 100 * np.sqrt(365) * daily_deviation
    return percent


def _rolling_volatility(returns: Floats) -> Floats:
    """The volatility of every window of `ROLLING_DAYS` days, from cumulative sums of the returns and their squares."""
    sums, squares = (np.cumsum(np.vstack([np.zeros_like(x[:1]), x]), axis=0) for x in (returns, returns**2))
    total, square = (x[ROLLING_DAYS:] - x[:-ROLLING_DAYS] for x in (sums, squares))
    return _annualised(np.sqrt(np.maximum(square - total**2 / ROLLING_DAYS, 0) / (ROLLING_DAYS - 1)))


def _jump_statistics(returns: Floats) -> dict[str, Floats]:
    """Separates jumps from other returns by recursive filtering (L. Clewlow, C. Strickland 2000).

    Returns further than `JUMP_THRESHOLD` standard deviations from the mean are jumps. Mean and deviation are then taken
    again without them, until no more jumps are found.
    """
    is_jump = np.zeros(returns.shape, dtype=bool)
    while True:
        other_returns = np.where(is_jump, np.nan, returns)
        mean, deviation = np.nanmean(other_returns, axis=0), np.nanstd(other_returns, axis=0, ddof=1)
        more_jumps = np.abs(other_returns - mean) > JUMP_THRESHOLD * deviation
        if not more_jumps.any():
            break
        is_jump |= more_jumps
    sizes = pd.DataFrame(np.where(is_jump, returns, np.nan))
    return {
        "jumps a year": is_jump.mean(axis=0) * 365,
        "jump, mean": 100 * sizes.mean().to_numpy(),
        "jump, standard deviation": 100 * sizes.std().to_numpy(),
        "volatility without jumps": _annualised(deviation),
    }

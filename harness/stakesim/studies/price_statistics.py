"""What is known of the daily rates of ETH, and the same figures of any daily path: how much they move, and how far.

All are in percent but the jumps a year. A volatility is the standard deviation of daily log returns times sqrt(365).
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
"""Days."""
MOVE = 0.2
YEARS = 8
WINDOW = 30
THRESHOLD = 3
"""Standard deviations of what is no jump."""

VOLATILITY: Mapping[int, int] = {2018: 109, 2019: 81, 2020: 102, 2021: 106, 2022: 87, 2023: 47, 2024: 64, 2025: 75}
"""Of ETH by calendar year."""

KNOWN: Mapping[str, tuple[float, float]] = {
    "volatility, mean of 8 years": (83.9, 83.9),
    "volatility, calmest of 8 years": (47, 47),
    "volatility, wildest of 8 years": (109, 109),
    "30-day volatility, 5%": (38, 38),
    "30-day volatility, median": (74, 74),
    "30-day volatility, 95%": (127, 127),
    "worst day": (-43, -43),
    **{f"down > 20% after {h} days": (p, p) for h, p in zip(HORIZONS, (3.7, 8.4, 16.4, 26.7), strict=True)},
    **{f"up > 20% after {h} days": (p, p) for h, p in zip(HORIZONS, (5.8, 14.0, 24.2, 35.9), strict=True)},
    "7-day return, 1%": (-26.9, -26.9),
    "jumps a year": (10, 12),
    "jump, mean": (-2, -1),
    "jump, standard deviation": (13, 14),
    "volatility without jumps": (67, 72),
}
"""From 3,804 daily closes of ETH, 2015-08 to 2026-01: lowest and highest value that is given. The moves are those of
the close after so many days, not of the lowest or highest on the way: taken so, a random walk fits those after 7, 14,
30 and 60 days with a volatility of 88, 84, 84 and 102%; taken the other way with 82, 72, 60 and 54%, and volatility was
below 60% in one year of eight."""


def figures(rates: Floats) -> pd.DataFrame:
    """The figures of KNOWN for each path. rates: a path a column, a row a day, more than eight years of them."""
    logs = np.log(rates)
    returns = np.diff(logs, axis=0)
    found = {}
    annual = _annual(returns[-YEARS * 365 :].reshape(YEARS, 365, -1).std(axis=1, ddof=1))
    found["volatility, mean of 8 years"] = annual.mean(axis=0)
    found["volatility, calmest of 8 years"] = annual.min(axis=0)
    found["volatility, wildest of 8 years"] = annual.max(axis=0)
    low, middle, high = np.quantile(_rolling(returns), [0.05, 0.5, 0.95], axis=0)
    found["30-day volatility, 5%"] = low
    found["30-day volatility, median"] = middle
    found["30-day volatility, 95%"] = high
    found["worst day"] = 100 * np.expm1(returns.min(axis=0))
    moved = {days: np.expm1(logs[days:] - logs[:-days]) for days in HORIZONS}
    found |= {f"down > 20% after {days} days": 100 * (moves < -MOVE).mean(axis=0) for days, moves in moved.items()}
    found |= {f"up > 20% after {days} days": 100 * (moves > MOVE).mean(axis=0) for days, moves in moved.items()}
    found["7-day return, 1%"] = 100 * np.quantile(moved[7], 0.01, axis=0)
    return pd.DataFrame(found | _jumps(returns))[list(KNOWN)]


def of_series(closes: Floats) -> pd.Series[float]:
    """The figures of one path."""
    return figures(closes[:, None]).iloc[0]


def by_year(closes: Floats, days: Sequence[date]) -> dict[int, float]:
    """Volatility by calendar year, in percent; the return of a day is that to its close."""
    returns = np.diff(np.log(closes))
    years = np.array([day.year for day in days[1:]])
    return {int(year): float(_annual(returns[years == year].std(ddof=1))) for year in np.unique(years)}


def _annual(daily: Floats) -> Floats:
    annual: Floats = 100 * np.sqrt(365) * daily
    return annual


def _rolling(returns: Floats) -> Floats:
    """Volatility of each 30 days on end."""
    sums, squares = (np.cumsum(np.vstack([np.zeros_like(x[:1]), x]), axis=0) for x in (returns, returns**2))
    total, square = (x[WINDOW:] - x[:-WINDOW] for x in (sums, squares))
    return _annual(np.sqrt(np.maximum(square - total**2 / WINDOW, 0) / (WINDOW - 1)))


def _jumps(returns: Floats) -> dict[str, Floats]:
    """Returns further from the mean than THRESHOLD standard deviations are jumps; again with what is left, until none
    is found (recursive filtering, as in Clewlow and Strickland 2000)."""
    jumped = np.zeros(returns.shape, dtype=bool)
    while True:
        rest = np.where(jumped, np.nan, returns)
        mean, deviation = np.nanmean(rest, axis=0), np.nanstd(rest, axis=0, ddof=1)
        more = np.abs(rest - mean) > THRESHOLD * deviation
        if not more.any():
            break
        jumped |= more
    sizes = pd.DataFrame(np.where(jumped, returns, np.nan))
    return {
        "jumps a year": jumped.mean(axis=0) * 365,
        "jump, mean": 100 * sizes.mean().to_numpy(),
        "jump, standard deviation": 100 * sizes.std().to_numpy(),
        "volatility without jumps": _annual(deviation),
    }

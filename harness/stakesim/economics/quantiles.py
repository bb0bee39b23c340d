"""Quantiles of values that come in parts, of any number: counts of values in buckets, each 0.4% wider than the last.

So a quantile is within 0.2% of its value, and parts are added by adding counts (DDSketch: C. Masson, J. Rim, H. Lee,
2019).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import ceil, exp, floor, nan, sqrt
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from stakesim.economics.intervals import Z95

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_GROWTH = 0.004
"""Logarithm of the ratio of two buckets."""
_SMALLEST = 1e-6
"""Magnitudes below this count as 0."""

Buckets: TypeAlias = dict[int, int]
"""How many values are in each bucket, by its number: 0 for values of 0, negative for negative ones."""


class Quantile(NamedTuple):
    """A quantile.

    Attributes:
        value: The smallest value that at least the share `level` of all values does not exceed.
        low: Lower end of its 95% interval, by order statistics (H. David, H. Nagaraja, Order Statistics, 2003, 7.1).
        high: Upper end.
        beyond: The mean of the values beyond it: of the share `level` that is lowest, or above 0.5 of the highest. Of
            profits it is the expected shortfall.
    """

    value: float
    low: float
    high: float
    beyond: float


def count_buckets(values: NDArray[np.float64]) -> Buckets:
    """Counts values by their buckets; nan is left out."""
    import numpy as np

    known = values[~np.isnan(values)]
    magnitudes = np.maximum(np.abs(known), _SMALLEST)
    numbers = 1 + np.rint(np.log(magnitudes / _SMALLEST) / _GROWTH).astype(np.int64)
    numbers = np.where(np.abs(known) < _SMALLEST, 0, np.sign(known).astype(np.int64) * numbers)
    lowest = int(numbers.min(initial=0))
    counts = np.bincount(numbers - lowest)  # ten times as fast as np.unique
    filled = np.flatnonzero(counts)
    return dict(zip((filled + lowest).tolist(), counts[filled].tolist(), strict=True))


def add_buckets(parts: Iterable[Mapping[int, int]]) -> Buckets:
    """Adds the counts of several parts."""
    total: Counter[int] = Counter()
    for part in parts:
        total.update(part)
    return dict(sorted(total.items()))


def quantile(buckets: Mapping[int, int], level: float) -> Quantile:
    """Estimates a quantile; its numbers are nan if there are no values."""
    total = sum(buckets.values())
    if not total:
        return Quantile(nan, nan, nan, nan)
    spread = Z95 * sqrt(level * (1 - level) * total)
    ranks = [ceil(level * total - 1e-9), floor(level * total - spread), ceil(level * total + spread) + 1]
    value, low, high = (_value_at(buckets, min(max(rank, 1), total)) for rank in ranks)
    return Quantile(value, low, high, _mean_beyond(buckets, level, total))


def _value_at(buckets: Mapping[int, int], rank: int) -> float:
    """The value of a rank, from 1."""
    passed = 0
    for number, count in sorted(buckets.items()):
        passed += count
        if passed >= rank:
            return _value_of(number)
    raise AssertionError("the rank is at most the number of values")


def _mean_beyond(buckets: Mapping[int, int], level: float, total: int) -> float:
    """The mean of the lowest share `level`, or above 0.5 of the highest 1 - level; the last value is weighted."""
    is_high = level > 0.5
    weight = left = total * (1 - level if is_high else level)
    if not weight:
        return _value_at(buckets, total if is_high else 1)
    summed = 0.0
    for number, count in sorted(buckets.items(), reverse=is_high):
        taken = min(count, left)
        summed += taken * _value_of(number)
        left -= taken
    return summed / weight


def _value_of(number: int) -> float:
    magnitude = _SMALLEST * exp((abs(number) - 1) * _GROWTH) if number else 0.0
    return -magnitude if number < 0 else magnitude

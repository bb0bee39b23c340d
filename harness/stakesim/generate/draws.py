"""Single random draws as Python values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from numpy.random import Generator

T = TypeVar("T")


def draw_between(rng: Generator, low: int, high: int) -> int:
    """Draws an integer between `low` and `high`, both included, each equally likely."""
    return int(rng.integers(low, high, endpoint=True))


def pick(rng: Generator, items: Sequence[T]) -> T:
    """Draws one of the items, each equally likely."""
    return items[int(rng.integers(len(items)))]

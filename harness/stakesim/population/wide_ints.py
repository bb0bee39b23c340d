"""Arrays of integers that are too large for int64, as two arrays of int64: eight times as fast as Python integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stakesim.population.state import Ints, Wei

BASE = 10**14
"""A multiple of 10^4, so that basis points of the high part are whole; small enough that int64 holds it 10^4 times."""
MAX_FACTOR = 10**4
"""The largest factor that the low part may have."""
WIDE_LIMIT = 2**96
"""No amount may reach this limit, so that int64 holds MAX_FACTOR times its high part; neither may the contract's."""


class WideInts(NDArrayOperatorsMixin):
    """An array of integers below WIDE_LIMIT in size.

    Sums, differences, and products with small integers are such arrays again. Any other function of NumPy sees an array
    of Python integers, and so does a product that might be too large: results are exact in any case. There are no
    operations in place.

    Attributes:
        high: The integers divided by BASE, rounded down.
        low: The remainders.
    """

    dtype = np.dtype(object)

    def __init__(self, high: Ints, low: Ints, *, is_normal: bool = False) -> None:
        """Builds the array of high x BASE + low.

        Args:
            high: The high part.
            low: The low part, which may be any int64.
            is_normal: Whether the low part is from 0 to BASE - 1.
        """
        if not is_normal:
            carry = low // BASE
            high, low = high + carry, low - carry * BASE
        self.high, self.low = high, low

    @classmethod
    def of(cls, amounts: Wei) -> WideInts:
        """The same amounts, which are int64 or Python integers below WIDE_LIMIT in size."""
        high = amounts // BASE
        return cls(high.astype(np.int64), (amounts - high * BASE).astype(np.int64))

    def as_wei(self) -> Wei:
        """The same array, for a type checker: functions of amounts take it as one of NumPy."""
        return cast("Wei", self)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.high.shape

    def __len__(self) -> int:
        return len(self.high)

    def __getitem__(self, index: Any) -> Any:
        part = WideInts(self.high[index], self.low[index], is_normal=True)
        return part if part.shape else int(part.high) * BASE + int(part.low)

    def __setitem__(self, index: Any, integers: WideInts) -> None:
        self.high[index], self.low[index] = integers.high, integers.low

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        integers: NDArray[Any] = self.high.astype(object) * BASE + self.low.astype(object)
        return integers if dtype is None else integers.astype(dtype)

    def astype(self, dtype: Any) -> NDArray[Any]:
        """The same integers in an array of NumPy."""
        return self.__array__(dtype)

    def sum(self, axis: int) -> WideInts:
        """The sums along an axis; they are below WIDE_LIMIT, too."""
        return WideInts(self.high.sum(axis=axis), self.low.sum(axis=axis))

    def fits_times(self, factor: int) -> bool:
        """Whether int64 holds the products of both parts with a factor."""
        return factor <= MAX_FACTOR and self.high_fits_times(factor)

    def high_fits_times(self, factor: int) -> bool:
        """Whether int64 holds the product of the high part with a factor."""
        return int(np.abs(self.high).max(initial=0)) * factor < 2**63

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if "out" in options:
            return NotImplemented
        if method == "__call__" and len(inputs) == 2:
            one, other = inputs
            if ufunc in (np.add, np.subtract) and isinstance(one, WideInts) and isinstance(other, WideInts):
                return WideInts(ufunc(one.high, other.high), ufunc(one.low, other.low))
            if ufunc is np.multiply:
                wide, factor = (one, other) if isinstance(one, WideInts) else (other, one)
                if isinstance(factor, np.ndarray) and wide._may_have(factor):
                    return WideInts(wide.high * factor, wide.low * factor, is_normal=factor.dtype == np.bool_)
        plain = (np.asarray(each) if isinstance(each, WideInts) else each for each in inputs)
        return getattr(ufunc, method)(*plain, **options)

    def _may_have(self, factors: NDArray[Any]) -> bool:
        """Whether the products are certain to fit."""
        if factors.dtype == np.bool_:
            return True
        largest = max(int(factors.max(initial=0)), -int(factors.min(initial=0)))
        return factors.dtype == np.int64 and self.fits_times(largest)


def as_wide(amounts: Any) -> WideInts | None:
    """The amounts if they are an array of this kind, else None."""
    return amounts if isinstance(amounts, WideInts) else None

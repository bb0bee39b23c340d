"""Exact arithmetic on arrays of wei, never in floats.

`as_large_as` chooses: int64 where nothing can overflow, else `WideInts`, and Python integers from 2^96 wei on.

int64 holds up to 9.22 ETH. A product such as amount x basis points may need more, so it is split: with a = q n + r,
floor(a b / n) = q b + floor(r b / n), in which every term stays small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stakesim.units import BPS, WEI_PER_ETH

if TYPE_CHECKING:
    from stakesim.population.state import Ints, Wei

_ROOT = 10**9
"""Square root of WEI_PER_ETH; conversions are split into two steps of it."""
_LOW = 10**5
"""Of the low part of `WideInts`, the digits below this are converted apart from the nine above."""
INT64_LIMIT = 2**62
"""No int64 amount may reach this limit, so that the sum of any two fits."""
INT64_PAISE_LIMIT = 2**63 // _ROOT
"""No price or rate in an int64 conversion may reach this limit: 92 million INR."""


def fits_int64(largest: int) -> bool:
    """Whether amounts up to `largest` may be int64."""
    return largest < INT64_LIMIT


def as_python_ints(amounts: Wei) -> Wei:
    """The same amounts as an array of Python integers."""
    return amounts.astype(object)


def as_large_as(largest: int, amounts: Wei) -> Wei:
    """The same amounts in the fastest kind of array in which amounts and sums up to `largest` are exact."""
    from stakesim.population.wide_ints import WIDE_LIMIT, WideInts

    if amounts.dtype != object and fits_int64(largest):
        return amounts
    return WideInts.of(amounts).as_wei() if largest < WIDE_LIMIT else as_python_ints(amounts)


def floor_bps(amounts: Wei, bps: int) -> Wei:
    """Basis points of amounts, rounded down: floor(amount x bps / 10,000)."""
    from stakesim.population.wide_ints import BASE, WideInts, as_wide

    if (wide := as_wide(amounts)) is not None and wide.fits_times(bps):
        high, rest = _divide(wide.high * bps, BPS)
        return WideInts(high, rest * (BASE // BPS) + wide.low * bps // BPS).as_wei()
    whole = amounts // BPS
    floors: Wei = whole * bps + (amounts - whole * BPS) * bps // BPS
    return floors


def floor_fraction(amounts: Wei, numerator: Wei, denominator: Wei) -> Wei:
    """Fractions of amounts, rounded down: floor(amount x numerator / denominator).

    The numerator is at most the denominator, and both are small, such as numbers of seats.
    """
    from stakesim.population.wide_ints import BASE, WideInts, as_wide

    if (wide := as_wide(amounts)) is not None and wide.fits_times(int(denominator.max(initial=0))):
        high = wide.high * numerator
        low = (high % denominator * BASE + wide.low * numerator) // denominator
        return WideInts(high // denominator, low).as_wei()
    floors: Wei = amounts // denominator * numerator + amounts % denominator * numerator // denominator
    return floors


def paise_to_wei(price_paise: Ints, rate_paise: Ints) -> Wei:
    """Converts prices to wei, rounded down: floor(price x 10^18 / rate).

    Args:
        price_paise: Prices in paise.
        rate_paise: Rates in paise per ETH.

    Returns:
        int64 if all results and intermediate values fit, else Python integers.
    """
    if not price_paise.size:
        return price_paise
    largest = int(price_paise.max()) * WEI_PER_ETH // int(rate_paise.min())
    if fits_int64(largest) and price_paise.max() < INT64_PAISE_LIMIT and rate_paise.max() < INT64_PAISE_LIMIT:
        whole, rest = price_paise * _ROOT // rate_paise, price_paise * _ROOT % rate_paise
        return whole * _ROOT + rest * _ROOT // rate_paise
    return as_python_ints(price_paise) * WEI_PER_ETH // as_python_ints(rate_paise)


def wei_to_paise(amounts: Wei, rate_paise: Ints) -> Wei:
    """Converts wei to paise, rounded half-even: wei x rate / 10^18.

    Args:
        amounts: Amounts in wei; they may be negative.
        rate_paise: Rates in paise per ETH.
    """
    from stakesim.population.wide_ints import BASE, as_wide

    wide = as_wide(amounts)
    rate = int(rate_paise.max(initial=0))
    if wide is not None and rate < INT64_PAISE_LIMIT and wide.high_fits_times(rate):
        middle, low = _divide(wide.low, _LOW)
        whole, rest = _divide(wide.high * rate_paise, WEI_PER_ETH // BASE)
        more, middle_rest = _divide(middle * rate_paise, WEI_PER_ETH // _LOW)
        last, rest = _divide(rest * BASE + middle_rest * _LOW + low * rate_paise, WEI_PER_ETH)
        whole = whole + more + last
    elif amounts.dtype != object and _steps_fit(amounts, rate):
        high, low = _divide(amounts, _ROOT)
        whole, rest = _divide(high * rate_paise, _ROOT)
        more, rest = _divide(rest * _ROOT + low * rate_paise, WEI_PER_ETH)
        whole = whole + more
    else:
        whole, rest = _divide(as_python_ints(amounts) * as_python_ints(rate_paise), WEI_PER_ETH)
    half = WEI_PER_ETH // 2
    rounded: Wei = whole + ((rest > half) | ((rest == half) & (whole & 1 == 1)))
    return rounded


def _divide(amounts: Wei, divisor: int) -> tuple[Wei, Wei]:
    """Quotients, rounded down, and remainders; NumPy's own remainder takes twice as long."""
    quotients: Wei = amounts // divisor
    return quotients, amounts - quotients * divisor


def _steps_fit(amounts: Ints, rate: int) -> bool:
    """Whether int64 amounts can be converted at rates up to `rate` in two steps."""
    largest = max(abs(int(amounts.max(initial=0))), abs(int(amounts.min(initial=0))))
    return fits_int64((largest // _ROOT + 1) * rate) and fits_int64(WEI_PER_ETH + _ROOT * rate)


def exact_sum(amounts: Wei) -> int:
    """The sum as a Python integer, at any size."""
    [total] = exact_sums(as_python_ints(amounts).reshape(1, -1) if amounts.dtype == object else amounts.reshape(1, -1))
    return total


def exact_sums(rows: Wei) -> list[int]:
    """The sum of each row as a Python integer, at any size."""
    if rows.dtype == object:
        return [int(sum(row)) for row in rows.tolist()]
    high, low = (rows >> 31).sum(axis=1), (rows & (2**31 - 1)).sum(axis=1)
    return [int(a) * 2**31 + int(b) for a, b in zip(high, low, strict=True)]

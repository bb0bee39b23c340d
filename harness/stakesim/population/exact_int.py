"""Exact arithmetic on arrays of wei: int64 where nothing can overflow, Python integers elsewhere. Never floats.

int64 holds up to 9.22 ETH. A product like amount x basis points would need more, so it is split: with a = q n + r,
floor(a b / n) = q b + floor(r b / n), in which every term stays small. `fits` is the guard that says which amounts may
be int64; on arrays of Python integers the same functions are exact at any size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stakesim.population.state import Ints, Wei

BPS = 10_000
WEI_PER_ETH = 10**18
_HALF = 10**9
"""Square root of WEI_PER_ETH: what a conversion is split at."""
INT64_LIMIT = 2**62
"""No int64 amount may reach this, so that the sum of any two fits."""
INT64_PAISE_LIMIT = 2**63 // _HALF
"""Of a price or a rate, in int64 conversions: 92 million INR."""


def fits_int64(largest: int) -> bool:
    """Whether amounts up to `largest` may be int64."""
    return largest < INT64_LIMIT


def as_python_ints(amounts: Wei) -> Wei:
    """The same as Python integers."""
    return amounts.astype(object)


def floor_bps(amounts: Wei, bps: int) -> Wei:
    """floor(amount x bps / 10,000)."""
    whole = amounts // BPS
    shared: Wei = whole * bps + (amounts - whole * BPS) * bps // BPS
    return shared


def floor_fraction(amounts: Wei, part: Wei, whole: Wei) -> Wei:
    """floor(amount x part / whole), part at most whole, whole small (seats)."""
    portions: Wei = amounts // whole * part + amounts % whole * part // whole
    return portions


def paise_to_wei(price_paise: Ints, rate_paise: Ints) -> Wei:
    """floor(INR x 10^18 / rate), both in paise. int64 where all results and steps fit, Python integers if not."""
    if not price_paise.size:
        return price_paise
    largest = int(price_paise.max()) * WEI_PER_ETH // int(rate_paise.min())
    if fits_int64(largest) and price_paise.max() < INT64_PAISE_LIMIT and rate_paise.max() < INT64_PAISE_LIMIT:
        whole, rest = price_paise * _HALF // rate_paise, price_paise * _HALF % rate_paise
        return whole * _HALF + rest * _HALF // rate_paise
    return as_python_ints(price_paise) * WEI_PER_ETH // as_python_ints(rate_paise)


def wei_to_paise(amounts: Wei, rate_paise: Ints) -> Wei:
    """wei x rate / 10^18, rounded half-even to the paisa. Amounts may be negative."""
    most = max(abs(int(amounts.max(initial=0))), abs(int(amounts.min(initial=0))))
    rate = int(rate_paise.max(initial=0))
    if amounts.dtype == object or not (
        fits_int64((most // _HALF + 1) * rate) and fits_int64(WEI_PER_ETH + _HALF * rate)
    ):
        whole, rest = (
            as_python_ints(amounts) * as_python_ints(rate_paise) // WEI_PER_ETH,
            as_python_ints(amounts) * as_python_ints(rate_paise) % WEI_PER_ETH,
        )
    else:
        high = amounts // _HALF * rate_paise
        low = high % _HALF * _HALF + amounts % _HALF * rate_paise
        whole, rest = high // _HALF + low // WEI_PER_ETH, low % WEI_PER_ETH
    half = WEI_PER_ETH // 2
    rounded: Wei = whole + ((rest > half) | ((rest == half) & (whole % 2 == 1)))
    return rounded


def exact_sum(amounts: Wei) -> int:
    """The sum, as a Python integer, whatever the size."""
    if amounts.dtype == object:
        return int(sum(amounts.ravel().tolist()))
    return int((amounts >> 31).sum()) * 2**31 + int((amounts & (2**31 - 1)).sum())

"""INR, wei, and which rate of the price feed is good enough to quote from."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from stakesim.model.state import PriceReading, RefusedError, State
from stakesim.scenario.actions import SetPrice

WEI_PER_ETH = 10**18
PRICE_MAX_AGE = 3_600
"""Seconds after which a rate is refused."""
PRICE_MAX_JUMP = 3
"""A rate may be at most this many times the last accepted one, and at least that part of it."""


def inr_to_wei(inr: Decimal, rate: Decimal) -> int:
    """floor(inr x 10^18 / rate); 0 at a rate that can't be converted at."""
    if not _positive(rate):
        return 0
    return int(Fraction(inr) * WEI_PER_ETH // Fraction(rate))


def current_rate(state: State, market: Decimal) -> tuple[Decimal, int]:
    """What the price feed says now: INR for one ETH, and the time since when that was true."""
    if state.feed is None:
        return market, state.now
    return state.feed.rate, state.now if state.feed.as_of is None else state.feed.as_of


def set_price(state: State, action: SetPrice) -> State:
    return replace(state, feed=PriceReading(action.rate, state.now - action.age if action.age else None))


def accept_rate(state: State, market: Decimal) -> State:
    """No quote is better than a wrong one: not from a rate that is no positive number, too old, or too far
    from the last accepted one."""
    rate, as_of = current_rate(state, market)
    if not _positive(rate) or state.now - as_of > PRICE_MAX_AGE:
        raise RefusedError("PriceError")
    if state.last_rate is not None:
        low, high = sorted((Fraction(rate), Fraction(state.last_rate)))
        if high > PRICE_MAX_JUMP * low:
            raise RefusedError("PriceError")
    return replace(state, last_rate=rate)


def _positive(rate: Decimal) -> bool:
    return rate.is_finite() and rate > 0

"""Conversion of INR to wei, and which rate of the price feed a quote may use."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from stakesim.model.state import PriceReading, RefusedError, State
from stakesim.scenario.actions import SetPrice

WEI_PER_ETH = 10**18
PRICE_MAX_AGE = 3_600
"""Seconds after which a rate is too old for a quote."""
PRICE_MAX_JUMP = 3
"""How many times the last accepted rate a rate may be; it must also be at least the same fraction of it."""


def inr_to_wei(inr: Decimal, rate: Decimal) -> int:
    """Converts INR to wei, rounded down: floor(inr x 10^18 / rate).

    Args:
        inr: The amount.
        rate: INR per ETH. At a rate that is not a positive number the result is 0.
    """
    if not _is_positive(rate):
        return 0
    return int(Fraction(inr) * WEI_PER_ETH // Fraction(rate))


def current_rate(state: State, market: Decimal) -> tuple[Decimal, int]:
    """What the price feed gives now.

    Args:
        state: The state.
        market: The market's rate in INR per ETH.

    Returns:
        The rate in INR per ETH, and the time since which it is true.
    """
    reading = state.price_reading
    if reading is None:
        return market, state.now
    return reading.rate, state.now if reading.as_of is None else reading.as_of


def set_price(state: State, action: SetPrice) -> State:
    """From now on the price feed gives the action's rate."""
    reading = PriceReading(action.rate, state.now - action.age if action.age else None)
    return replace(state, price_reading=reading)


def accept_rate(state: State, market: Decimal) -> State:
    """Makes a quote from the price feed's rate.

    A rate is refused that is not a positive number, is older than an hour, or is more than 3 times the last accepted
    rate or less than a third of it: no quote is better than a wrong one.

    Raises:
        RefusedError: PriceError: the rate is refused.
    """
    rate, as_of = current_rate(state, market)
    if not _is_positive(rate) or state.now - as_of > PRICE_MAX_AGE:
        raise RefusedError("PriceError")
    if state.last_accepted_rate is not None:
        low, high = sorted((Fraction(rate), Fraction(state.last_accepted_rate)))
        if high > PRICE_MAX_JUMP * low:
            raise RefusedError("PriceError")
    return replace(state, last_accepted_rate=rate)


def _is_positive(rate: Decimal) -> bool:
    return rate.is_finite() and rate > 0

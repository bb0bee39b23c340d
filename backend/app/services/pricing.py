"""Conversion between INR and wei, and the checks on rates of a price feed. Amounts are exact: there is no float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Protocol

from app.core.errors import InvalidRequest, PriceError
from app.core.units import WEI_PER_ETH

MAX_PRICE_INR = Decimal("999999999999.99")


def convert_inr_to_wei(inr: Decimal, rate: Decimal) -> int:
    """Returns floor(INR x 10^18 / rate) in wei.

    Args:
        inr: Amount in INR.
        rate: INR per ETH.

    Raises:
        InvalidRequest: The amount is negative, or not finite.
        PriceError: The rate is not positive.
    """
    if not inr.is_finite() or inr < 0:
        raise InvalidRequest(f"{inr} is no amount of INR.")
    return Fraction(inr) * WEI_PER_ETH // _positive_rate(rate)


def convert_wei_to_inr(wei: int, rate: Decimal) -> Decimal:
    """Returns wei x rate / 10^18 in INR, rounded half to even to the paisa.

    Args:
        wei: Amount in wei.
        rate: INR per ETH.

    Raises:
        PriceError: The rate is not positive.
    """
    paise = round(wei * _positive_rate(rate) * 100 / WEI_PER_ETH)  # round() of a Fraction is exact, and half to even
    rupees, remainder = divmod(abs(paise), 100)
    return Decimal(f"{'-' if paise < 0 else ''}{rupees}.{remainder:02d}")


def check_price_inr(inr: Decimal) -> Decimal:
    """Returns a listed price in INR if it is valid: 0 to `MAX_PRICE_INR`, in whole paise.

    Raises:
        InvalidRequest: It is not.
    """
    if not inr.is_finite() or not 0 <= inr <= MAX_PRICE_INR or inr != inr.quantize(Decimal("0.01")):
        raise InvalidRequest(f"{inr} is no price: give INR from 0 to {MAX_PRICE_INR}, with at most two decimals.")
    return inr


@dataclass(frozen=True)
class Rate:
    """The price of one ETH in INR, and when it was valid (a time with a time zone)."""

    inr_per_eth: Decimal
    as_of: datetime


@dataclass(frozen=True)
class Quote:
    """The cost of seats: in wei by the contract, and in INR at the quote's rate."""

    payment_wei: int
    stake_wei: int
    total_wei: int
    payment_inr: Decimal
    stake_inr: Decimal
    total_inr: Decimal
    rate: Rate

    @classmethod
    def of(cls, payment_wei: int, stake_wei: int, rate: Rate) -> Quote:
        """Returns the quote for a payment and a stake.

        Each amount is converted separately, the total too, so that each is exact to the paisa.
        """
        total_wei = payment_wei + stake_wei
        payment_inr, stake_inr, total_inr = (
            convert_wei_to_inr(wei, rate.inr_per_eth) for wei in (payment_wei, stake_wei, total_wei)
        )
        return cls(payment_wei, stake_wei, total_wei, payment_inr, stake_inr, total_inr, rate)


class PriceFeed(Protocol):
    """A source of rates."""

    def latest(self) -> Rate | None:
        """Returns the latest rate; None if there is none."""
        ...


@dataclass(frozen=True)
class FixedPriceFeed:
    """A rate that is set by hand, as with `ETH_PRICE_INR`, and that never becomes too old.

    Attributes:
        inr_per_eth: INR per ETH; None if no rate is set.
        clock: Returns the present time, with a time zone.
    """

    inr_per_eth: Decimal | None
    clock: Callable[[], datetime]

    def latest(self) -> Rate | None:
        """Returns the rate, as of now; None if no rate is set."""
        return None if self.inr_per_eth is None else Rate(self.inr_per_eth, self.clock())


@dataclass
class Pricing:
    """Checks the rates of a feed.

    Attributes:
        feed: Source of the rates.
        clock: Returns the present time, with a time zone.
        max_age: An older rate is refused.
        max_jump: A rate that differs from the last accepted one by more than this factor, up or down, is refused.
        last: The rate that was accepted last; None if none was.
    """

    feed: PriceFeed
    clock: Callable[[], datetime]
    max_age: timedelta = timedelta(hours=1)
    max_jump: Decimal = Decimal(3)
    last: Rate | None = None

    def rate(self) -> Rate:
        """Returns the feed's latest rate.

        Raises:
            PriceError: The rate is missing, not positive, too old, or too far from the last accepted one: no quote is
                better than a wrong one.
        """
        rate = self.feed.latest()
        if rate is None:
            raise PriceError("There is no ETH price: the feed has none.")
        inr_per_eth = _positive_rate(rate.inr_per_eth)
        if rate.as_of.utcoffset() is None:
            raise PriceError(f"The ETH price is of {rate.as_of.isoformat()}, which has no time zone.")
        age = self.clock() - rate.as_of
        if age > self.max_age:
            raise PriceError(f"The ETH price is {age} old; at most {self.max_age} is allowed.")
        if self.last is not None:
            low, high = sorted((inr_per_eth, Fraction(self.last.inr_per_eth)))
            if high > Fraction(self.max_jump) * low:
                raise PriceError(
                    f"The ETH price went from {self.last.inr_per_eth} to {rate.inr_per_eth} INR, more than "
                    f"{self.max_jump} times up or down."
                )
        self.last = rate
        return rate


def _positive_rate(rate: Decimal) -> Fraction:
    if not rate.is_finite() or rate <= 0:
        raise PriceError(f"The ETH price is {rate} INR, which is no positive number.")
    return Fraction(rate)

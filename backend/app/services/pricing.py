"""INR and wei, and which rate of a price feed is good enough to quote from. Exact: no float anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Protocol

from app.core.errors import InvalidRequest, PriceError

WEI_PER_ETH = 10**18
MAX_PRICE_INR = Decimal("999999999999.99")


def convert_inr_to_wei(inr: Decimal, rate: Decimal) -> int:
    """floor(inr x 10^18 / rate), rate in INR per ETH. Raises `PriceError`, `InvalidRequest`."""
    if not inr.is_finite() or inr < 0:
        raise InvalidRequest(f"{inr} is no amount of INR.")
    return Fraction(inr) * WEI_PER_ETH // _positive(rate)


def convert_wei_to_inr(wei: int, rate: Decimal) -> Decimal:
    """wei x rate / 10^18, rounded half-even to the paisa, rate in INR per ETH. Raises `PriceError`."""
    paise = round(wei * _positive(rate) * 100 / WEI_PER_ETH)  # round() of a fraction is half-even, and exact
    rupees, rest = divmod(abs(paise), 100)
    return Decimal(f"{'-' if paise < 0 else ''}{rupees}.{rest:02d}")


def checked_inr(inr: Decimal) -> Decimal:
    """The listed price, if it is one: not negative, in whole paise. Raises `InvalidRequest`."""
    if not inr.is_finite() or not 0 <= inr <= MAX_PRICE_INR or inr != inr.quantize(Decimal("0.01")):
        raise InvalidRequest(f"{inr} is no price: give INR from 0 to {MAX_PRICE_INR}, with at most two decimals.")
    return inr


@dataclass(frozen=True)
class Rate:
    """What one ETH cost at a moment, in INR. as_of: aware."""

    inr_per_eth: Decimal
    as_of: datetime


@dataclass(frozen=True)
class Quote:
    """What seats cost: wei as the contract says, INR at the rate that is frozen with them."""

    payment_wei: int
    stake_wei: int
    total_wei: int
    payment_inr: Decimal
    stake_inr: Decimal
    total_inr: Decimal
    rate: Rate

    @classmethod
    def of(cls, payment_wei: int, stake_wei: int, rate: Rate) -> Quote:
        """Each amount is converted by itself, the total too, so that each is right to the paisa."""
        total_wei = payment_wei + stake_wei
        payment, stake, total = (
            convert_wei_to_inr(wei, rate.inr_per_eth) for wei in (payment_wei, stake_wei, total_wei)
        )
        return cls(payment_wei, stake_wei, total_wei, payment, stake, total, rate)


class PriceFeed(Protocol):
    """Where rates come from. None: there is none."""

    def latest(self) -> Rate | None: ...


@dataclass(frozen=True)
class FixedFeed:
    """A rate that is set by hand and always of now, as `ETH_PRICE_INR` is. None: it was not set."""

    inr_per_eth: Decimal | None
    clock: Callable[[], datetime]

    def latest(self) -> Rate | None:
        return None if self.inr_per_eth is None else Rate(self.inr_per_eth, self.clock())


@dataclass
class Pricing:
    """Rates of a feed that may be quoted from. clock: aware time of now; last: the rate accepted last.

    max_jump: a rate may be at most this many times the last one, and at least that part of it.
    """

    feed: PriceFeed
    clock: Callable[[], datetime]
    max_age: timedelta = timedelta(hours=1)
    max_jump: Decimal = Decimal(3)
    last: Rate | None = None

    def rate(self) -> Rate:
        """The feed's rate, accepted. Raises `PriceError`: no quote is better than a wrong one."""
        rate = self.feed.latest()
        if rate is None:
            raise PriceError("There is no ETH price: the feed has none.")
        value = _positive(rate.inr_per_eth)
        if rate.as_of.utcoffset() is None:
            raise PriceError(f"The ETH price is of {rate.as_of.isoformat()}, which has no time zone.")
        age = self.clock() - rate.as_of
        if age > self.max_age:
            raise PriceError(f"The ETH price is {age} old; at most {self.max_age} is allowed.")
        if self.last is not None:
            low, high = sorted((value, Fraction(self.last.inr_per_eth)))
            if high > Fraction(self.max_jump) * low:
                raise PriceError(
                    f"The ETH price went from {self.last.inr_per_eth} to {rate.inr_per_eth} INR, more than "
                    f"{self.max_jump} times up or down."
                )
        self.last = rate
        return rate


def _positive(rate: Decimal) -> Fraction:
    if not rate.is_finite() or rate <= 0:
        raise PriceError(f"The ETH price is {rate} INR, which is no positive number.")
    return Fraction(rate)

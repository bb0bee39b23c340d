"""Conversion between INR and wei, and the checks on rates of a price feed. Amounts are exact: there is no float."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Protocol

from app.core.errors import InvalidRequest, PriceError, RateRefusal
from app.core.units import WEI_PER_ETH

MAX_PRICE_INR = Decimal("999999999999.99")
MAX_AHEAD = timedelta(minutes=5)
"""Maximum time by which a rate may be ahead of this machine's clock."""
MIN_RATE, MAX_RATE = Decimal("1E-9"), Decimal("1E+15")
"""Bounds of a rate in INR per ETH; arithmetic with one outside of them could exhaust the memory."""
MAX_RATE_DIGITS = 60

log = logging.getLogger(__name__)


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
    return Fraction(inr) * WEI_PER_ETH // Fraction(_positive_rate(rate))


def convert_wei_to_inr(wei: int, rate: Decimal) -> Decimal:
    """Returns wei x rate / 10^18 in INR, rounded half to even to the paisa.

    Args:
        wei: Amount in wei.
        rate: INR per ETH.

    Raises:
        PriceError: The rate is not positive.
    """
    rate_numerator, rate_denominator = _positive_rate(rate).as_integer_ratio()
    # round() of a Fraction is exact, and half to even
    paise = round(Fraction(100 * wei * rate_numerator, WEI_PER_ETH * rate_denominator))
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
    """The price of one ETH in INR.

    Attributes:
        inr_per_eth: INR per ETH.
        as_of: When it was valid, with a time zone.
        source: Name of the feed that gave it.
        max_age: Age at which it can't be used any more; None for that of `Pricing`.
    """

    inr_per_eth: Decimal
    as_of: datetime
    source: str = "feed"
    max_age: timedelta | None = None


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
        """Returns the latest rate; None if there is none. Raises `PriceError` with the reason if it is known."""
        ...


class RateHistory(Protocol):
    """The accepted rates, shared by all processes."""

    def accept(self, rate: Rate) -> None:
        """Stores a rate. Raises `PriceError` if it is too far from an accepted one."""
        ...

    def confirm(self, rate: Rate) -> None:
        """Stores a rate that a person has checked. Earlier rates do not count any more."""
        ...


@dataclass
class Pricing:
    """Checks the rates of one or several feeds.

    The first feed with a valid rate is used. The valid rates of the other feeds must agree with it.

    Attributes:
        feed: Source of the rates.
        clock: Returns the present time, with a time zone.
        max_age: An older rate is refused.
        max_jump: Maximum factor between a rate and an accepted one, up or down.
        last: The rate that this object accepted last; None if it accepted none.
        history: Where accepted rates are stored, and compared with those of other processes and of earlier ones. None
            compares with `last` only: for simulations, which have one process and a price path of their own.
        more_feeds: Further sources, in order of preference.
        max_deviation: Maximum factor between the rates of two feeds.
        refusals: Number of refusals by cause.
    """

    feed: PriceFeed
    clock: Callable[[], datetime]
    max_age: timedelta = timedelta(hours=1)
    max_jump: Decimal = Decimal(3)
    last: Rate | None = None
    history: RateHistory | None = None
    more_feeds: Sequence[PriceFeed] = ()
    max_deviation: Decimal = Decimal("1.1")
    refusals: Counter[RateRefusal] = field(default_factory=Counter)
    _reported: dict[str, RateRefusal] = field(default_factory=dict)

    def rate(self) -> Rate:
        """Returns the present rate.

        Raises:
            PriceError: There is no valid rate, two feeds disagree, or the rate is too far from an accepted one: no
                quote is better than a wrong one.
        """
        failures: dict[str, PriceError] = {}
        try:
            rate = self._agreed_rate(self.clock(), failures)
            if rate != self.last:
                self._accept(rate)
        except PriceError as error:
            self._report({**failures, "rate": error})
            raise
        if failures or self._reported:
            self._report(failures)
        return rate

    def problem(self) -> PriceError | None:
        """Returns why there is no rate at present; None if there is one, or without a history."""
        try:
            if self.history is not None:
                self.rate()
        except PriceError as error:
            return error
        return None

    def confirm(self) -> Rate:
        """Stores the present rate as confirmed by a person, however far it is from earlier ones, and returns it.

        Raises:
            PriceError: There is no valid rate, or two feeds disagree.
        """
        if self.history is None:
            raise TypeError("A rate can only be confirmed for a history.")
        rate = self._agreed_rate(self.clock(), {})
        self.history.confirm(rate)
        return rate

    def _agreed_rate(self, now: datetime, failures: dict[str, PriceError]) -> Rate:
        """Returns the first valid rate. Stores in `failures`, by feed, why others have none."""
        if not self.more_feeds:
            return self._valid(self.feed.latest(), now)
        rates: list[Rate] = []
        for number, feed in enumerate((self.feed, *self.more_feeds), 1):
            try:
                rates.append(self._valid(feed.latest(), now))
            except PriceError as error:
                failures[f"feed {number}"] = error
        if not rates:
            raise PriceError(" ".join(failure.message for failure in failures.values()), "missing")
        for other in rates[1:]:
            if differ(rates[0].inr_per_eth, other.inr_per_eth, self.max_deviation):
                raise PriceError(
                    f"The ETH price is {rates[0].inr_per_eth} INR by {rates[0].source}, and {other.inr_per_eth} INR by "
                    f"{other.source}: more than {self.max_deviation} times apart.",
                    "deviation",
                )
        return rates[0]

    def _valid(self, rate: Rate | None, now: datetime) -> Rate:
        if rate is None:
            raise PriceError("There is no ETH price: the feed has none.", "missing")
        _positive_rate(rate.inr_per_eth)
        if rate.as_of.utcoffset() is None:
            raise PriceError(f"The ETH price is of {rate.as_of.isoformat()}, which has no time zone.", "malformed")
        age, max_age = now - rate.as_of, rate.max_age or self.max_age
        if age > max_age:
            raise PriceError(f"The ETH price of {rate.source} is {age} old; at most {max_age} is allowed.", "stale")
        if age < -MAX_AHEAD:
            raise PriceError(f"The ETH price of {rate.source} is of {rate.as_of.isoformat()}, in the future.", "future")
        return rate

    def _accept(self, rate: Rate) -> None:
        if self.history is not None:
            self.history.accept(rate)
        elif self.last is not None and differ(rate.inr_per_eth, self.last.inr_per_eth, self.max_jump):
            raise jump_error(rate.inr_per_eth, self.last.inr_per_eth, self.max_jump)
        self.last = rate

    def _report(self, failures: Mapping[str, PriceError]) -> None:
        """Counts failures, and logs each as an error once until its cause changes."""
        self.refusals.update(failure.cause for failure in failures.values())
        causes = {what: failure.cause for what, failure in failures.items()}
        for what, failure in failures.items():
            if self._reported.get(what) != failure.cause:
                log.error("%s refused: %s", what, failure.message, extra={"cause": failure.cause})
        if self._reported and not causes:
            log.info("the ETH price is valid again")
        self._reported = causes


def differ(one: Decimal, other: Decimal, factor: Decimal) -> bool:
    """Returns whether two positive rates are more than this factor apart."""
    if one == other:
        return False
    low, high = sorted((Fraction(one), Fraction(other)))
    return high > Fraction(factor) * low


def jump_error(rate: Decimal, accepted: Decimal, max_jump: Decimal) -> PriceError:
    """Returns the error for a rate that is too far from an accepted one."""
    return PriceError(
        f"The ETH price went from {accepted} to {rate} INR, more than {max_jump} times up or down.", "jump"
    )


def _positive_rate(rate: Decimal) -> Decimal:
    if not rate.is_finite() or rate <= 0:
        raise PriceError(f"The ETH price is {rate} INR, which is no positive number.", "malformed")
    if not MIN_RATE <= rate <= MAX_RATE or len(rate.as_tuple().digits) > MAX_RATE_DIGITS:
        raise PriceError(f"The ETH price is {rate:.3E} INR, which is out of range.", "malformed")
    return rate

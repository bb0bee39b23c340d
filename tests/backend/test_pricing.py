"""Conversion between INR and wei: exact, rounded by the rules, and only at a valid rate."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from app.core.errors import InvalidRequest, PriceError
from app.services.pricing import (
    WEI_PER_ETH,
    Pricing,
    Quote,
    Rate,
    check_price_inr,
    convert_inr_to_wei,
    convert_wei_to_inr,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2100, 1, 1, tzinfo=UTC)
PAISA = Decimal("0.01")
prices = st.decimals(min_value=0, max_value=10**10, places=2)
rates = st.decimals(min_value="0.0001", max_value=10**8, places=4)
weis = st.integers(min_value=0, max_value=2**256 - 1)


class Feed:
    def __init__(self, rate: Rate | None) -> None:
        self.rate = rate

    def latest(self) -> Rate | None:
        return self.rate


def pricing(inr_per_eth: str, age: timedelta = timedelta(), last: str | None = None) -> Pricing:
    feed = Feed(Rate(Decimal(inr_per_eth), NOW - age))
    return Pricing(feed, lambda: NOW, last=Rate(Decimal(last), NOW) if last else None)


@pytest.mark.parametrize(
    ("inr", "rate", "wei"),
    [
        ("2500", "200000", 12_500_000_000_000_000),
        ("0", "200000", 0),
        ("1", "3", 333_333_333_333_333_333),
        ("2", "3", 666_666_666_666_666_666),
        ("0.01", "200000.005", 49_999_998_750),
    ],
)
def test_wei_are_rounded_down(inr: str, rate: str, wei: int) -> None:
    assert convert_inr_to_wei(Decimal(inr), Decimal(rate)) == wei


@pytest.mark.parametrize(
    ("wei", "rate", "inr"),
    [
        (12_500_000_000_000_000, "200000", "2500.00"),
        (WEI_PER_ETH // 1000 * 5, "1", "0.00"),  # half a paisa: to the even 0
        (WEI_PER_ETH // 1000 * 15, "1", "0.02"),
        (WEI_PER_ETH // 1000 * 25, "1", "0.02"),
        (WEI_PER_ETH // 1000 * 25 + 1, "1", "0.03"),
        (0, "1", "0.00"),
        (-(10**18), "200000.5", "-200000.50"),
        (-WEI_PER_ETH // 1000 * 5, "1", "0.00"),
    ],
)
def test_inr_are_rounded_half_even_to_the_paisa(wei: int, rate: str, inr: str) -> None:
    converted = convert_wei_to_inr(wei, Decimal(rate))
    assert (converted, str(converted)) == (Decimal(inr), inr)


@given(prices, rates)
def test_inr_to_wei_is_the_floor(inr: Decimal, rate: Decimal) -> None:
    exact = Fraction(inr) * WEI_PER_ETH / Fraction(rate)
    assert 0 <= exact - convert_inr_to_wei(inr, rate) < 1


@given(prices, rates)
def test_a_price_comes_back_within_a_paisa(inr: Decimal, rate: Decimal) -> None:
    assert abs(convert_wei_to_inr(convert_inr_to_wei(inr, rate), rate) - inr) <= PAISA


@given(weis, rates)
def test_wei_to_inr_is_nearest_whatever_the_decimal_context(wei: int, rate: Decimal) -> None:
    with localcontext(prec=3):
        converted = convert_wei_to_inr(wei, rate)
    assert abs(Fraction(converted) - wei * Fraction(rate) / WEI_PER_ETH) <= Fraction(1, 200)


@given(st.integers(0, 10**24), st.integers(0, 10**24), rates)
def test_each_amount_of_a_quote_is_converted_by_itself(payment: int, stake: int, rate: Decimal) -> None:
    quote = Quote.of(payment, stake, Rate(rate, NOW))
    assert (quote.total_wei, quote.rate) == (payment + stake, Rate(rate, NOW))
    assert quote.total_inr == convert_wei_to_inr(payment + stake, rate)
    assert abs(quote.payment_inr + quote.stake_inr - quote.total_inr) <= PAISA


@pytest.mark.parametrize("rate", ["0", "-1", "NaN", "sNaN", "Infinity", "-Infinity"])
def test_a_rate_that_is_not_positive_is_refused(rate: str) -> None:
    for refused in (
        lambda: convert_inr_to_wei(Decimal(1), Decimal(rate)),
        lambda: convert_wei_to_inr(1, Decimal(rate)),
        pricing(rate).rate,
    ):
        with pytest.raises(PriceError, match="no positive number"):
            refused()


@pytest.mark.parametrize("inr", ["-0.01", "0.005", "NaN", "Infinity", "1000000000000"])
def test_an_invalid_price_is_refused(inr: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^{inr} is no price: give INR from 0 to 999999999999\.99, with at most"):
        check_price_inr(Decimal(inr))


@pytest.mark.parametrize("inr", ["-0.01", "NaN", "Infinity"])
def test_an_invalid_amount_is_not_converted(inr: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{inr} is no amount of INR"):
        convert_inr_to_wei(Decimal(inr), Decimal(200_000))


@pytest.mark.parametrize("inr", ["0", "0.01", "2500", "2500.50", "1E+3", "999999999999.99"])
def test_a_price_in_whole_paise_is_accepted(inr: str) -> None:
    assert check_price_inr(Decimal(inr)) == Decimal(inr)


def test_a_rate_expires_after_an_hour() -> None:
    hour, second = timedelta(hours=1), timedelta(seconds=1)
    assert pricing("200000", age=hour).rate().inr_per_eth == 200_000
    with pytest.raises(PriceError, match="1:00:01 old; at most 1:00:00"):
        pricing("200000", age=hour + second).rate()


@pytest.mark.parametrize("rate", ["600000", "66666.6666666666666666666667"])
def test_a_jump_by_a_factor_of_three_is_accepted(rate: str) -> None:
    assert pricing(rate, last="200000").rate().inr_per_eth == Decimal(rate)


@pytest.mark.parametrize("rate", ["600000.01", "66666.66", "2000000"])
def test_a_larger_jump_is_refused_and_changes_nothing(rate: str) -> None:
    book = pricing(rate, last="200000")
    with pytest.raises(PriceError, match=f"from 200000 to {rate} INR, more than 3 times"):
        book.rate()
    assert book.last == Rate(Decimal(200_000), NOW)


def test_jumps_are_measured_from_the_last_accepted_rate() -> None:
    book = pricing("200000")
    for step in ("500000", "1400000", "4000000"):
        book.feed = Feed(Rate(Decimal(step), NOW))
        assert book.rate() == book.last


def test_a_feed_without_a_rate_or_without_a_time_zone_is_refused() -> None:
    with pytest.raises(PriceError, match=r"^There is no ETH price: the feed has none\.$") as refused:
        Pricing(Feed(None), lambda: NOW).rate()
    assert refused.value.cause == "missing"
    with pytest.raises(PriceError, match="no time zone"):
        Pricing(Feed(Rate(Decimal(1), NOW.replace(tzinfo=None))), lambda: NOW).rate()


def test_a_rate_of_the_future_is_refused() -> None:
    ahead = timedelta(minutes=5)
    assert pricing("200000", age=-ahead).rate().inr_per_eth == 200_000
    with pytest.raises(PriceError, match="in the future") as refused:
        pricing("200000", age=-ahead - timedelta(seconds=1)).rate()
    assert refused.value.cause == "future"


@pytest.mark.parametrize("rate", ["1E+999999999", "1E-999999999", "1E+16", "1." + "1" * 60])
def test_a_rate_with_which_arithmetic_never_ends_is_refused(rate: str) -> None:
    with pytest.raises(PriceError, match=r"^The ETH price is \S{8,20} INR, which is out of range"):
        pricing(rate).rate()


@pytest.mark.parametrize("rate", ["1E-9", "1E+15", "1." + "1" * 59])
def test_rates_at_the_bounds_are_accepted(rate: str) -> None:
    assert pricing(rate).rate().inr_per_eth == Decimal(rate)


def test_without_a_history_there_is_nothing_to_confirm() -> None:
    book = Pricing(Feed(None), lambda: NOW)
    assert book.problem() is None
    with pytest.raises(TypeError, match="only be confirmed for a history"):
        book.confirm()


def test_a_rate_with_an_age_limit_of_its_own() -> None:
    day = timedelta(days=1)
    assert Pricing(Feed(Rate(Decimal(1), NOW - day, max_age=day)), lambda: NOW).rate()
    with pytest.raises(PriceError, match="1 day, 0:00:01 old; at most 1 day"):
        Pricing(Feed(Rate(Decimal(1), NOW - day - timedelta(seconds=1), max_age=day)), lambda: NOW).rate()


def of_two(one: str | None, other: str | None) -> Pricing:
    first, second = (
        Feed(Rate(Decimal(text), NOW, name) if text else None) for text, name in ((one, "first"), (other, "second"))
    )
    return Pricing(first, lambda: NOW, more_feeds=[second])


def test_the_first_of_two_feeds_that_agree_is_used() -> None:
    assert of_two("200000", "220000").rate() == Rate(Decimal(200_000), NOW, "first")
    assert of_two("200000", None).rate().source == "first"
    assert of_two(None, "220000").rate().source == "second"


@pytest.mark.parametrize(("one", "other"), [("200000", "220000.01"), ("220000.01", "200000")])
def test_two_feeds_that_disagree_give_no_quote(one: str, other: str) -> None:
    book = of_two(one, other)
    with pytest.raises(
        PriceError, match=f"{one} INR by first, and {other} INR by second: more than 1.1 times"
    ) as error:
        book.rate()
    assert (error.value.cause, book.last, book.refusals) == ("deviation", None, {"deviation": 1})


def test_a_refusal_is_logged_once_until_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    book = of_two(None, "200000")
    feeds = [book.feed, *book.more_feeds]

    def ask(*rates: str) -> None:
        for feed, rate in zip(feeds, rates, strict=True):
            assert isinstance(feed, Feed)
            feed.rate = Rate(Decimal(rate), NOW)
        with suppress(PriceError):
            book.rate()

    with caplog.at_level("INFO", "app.services.pricing"):
        book.rate()
        book.rate()
        ask("0", "200000")
        ask("0", "0")
        ask("0", "0")
        ask("200000", "200000")
        ask("200000", "200000")
    assert [(record.levelname, record.message.split(" refused")[0]) for record in caplog.records] == [
        ("ERROR", "feed 1"),  # missing
        ("ERROR", "feed 1"),  # malformed
        ("ERROR", "feed 2"),
        ("ERROR", "rate"),
        ("INFO", "the ETH price is valid again"),
    ]
    assert book.refusals == {"missing": 4, "malformed": 5}

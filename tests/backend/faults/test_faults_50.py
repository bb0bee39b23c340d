"""Row 50: accepted rates are rows, by which new ones are judged: over time, by all processes, after a restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from app.bootstrap.checks import check_price, read_settings
from app.bootstrap.container import build_pricing
from app.core.errors import PriceError
from app.db.database import Database
from app.db.tables import rates
from app.services.price_feeds import ManualPriceFeed
from app.services.pricing import MAX_AHEAD, PriceFeed, Pricing, Rate
from app.services.rate_history import StoredRates
from backend_environment import Feed
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import ColumnElement, Engine, literal, select, text

pytestmark = pytest.mark.slow
NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass
class Backend:
    """Processes of a backend on one database, with a clock that stands still unless a test moves it."""

    database: Database
    now: datetime = NOW
    feed: Feed = field(default_factory=lambda: Feed(None))

    def process(self, *feeds: PriceFeed) -> Pricing:
        """Starts a process."""
        first, *others = feeds or (self.feed,)
        history = StoredRates(self.database, Decimal(3), HOUR, lambda: literal(self.now))
        return Pricing(first, lambda: self.now, history=history, more_feeds=others)

    def says(self, inr_per_eth: int | str, age: timedelta = timedelta()) -> None:
        """Sets the feed's rate."""
        self.feed.rate = Rate(Decimal(inr_per_eth), self.now - age)

    def rows(self) -> list[tuple[int, str]]:
        with self.database.autocommit() as connection:
            accepted = connection.execute(select(rates.c.inr_per_eth, rates.c.source).order_by(rates.c.id)).all()
        return [(int(row.inr_per_eth), row.source) for row in accepted]


@pytest.fixture
def backend(committing: Engine) -> Iterator[Backend]:
    yield Backend(Database(committing))
    with committing.begin() as connection:
        connection.exec_driver_sql("TRUNCATE rates")


def test_50_an_accepted_rate_is_a_row_once(backend: Backend) -> None:
    process, other = backend.process(), backend.process()
    backend.says(200_000)
    for _ in range(3):
        assert process.rate() == other.rate()
    backend.says("210000.123456789012345678")
    accepted = process.rate()
    assert backend.rows() == [(200_000, "feed"), (210_000, "feed")]
    with backend.database.autocommit() as connection:
        row = connection.execute(select(rates).order_by(rates.c.id.desc()).limit(1)).one()
    assert (row.inr_per_eth, row.as_of, row.accepted_at) == (accepted.inr_per_eth, NOW, NOW)


def test_50_three_jumps_in_a_second_are_one_jump(backend: Backend) -> None:
    process = backend.process()
    for step in (200_000, 500_000):
        backend.says(step)
        process.rate()
    backend.says(1_250_000)
    with pytest.raises(PriceError, match="from 200000 to 1250000 INR, more than 3 times"):
        process.rate()
    backend.now += timedelta(hours=2)
    backend.says(1_250_000)
    assert process.rate().inr_per_eth == 1_250_000


@pytest.mark.parametrize("jump", [60_000, 700_000])
def test_50_a_restart_does_not_forget(backend: Backend, jump: int) -> None:
    backend.says(200_000)
    backend.process().rate()
    backend.now += timedelta(days=300)  # the newest rate counts, whatever its age
    backend.says(jump)
    with pytest.raises(PriceError, match=f"from 200000 to {jump} INR"):
        backend.process().rate()
    assert backend.rows() == [(200_000, "feed")]


def test_50_processes_accept_one_after_another(backend: Backend) -> None:
    """Of two rates that are too far apart, one is accepted, even if the other process looks in the middle of it."""
    other = backend.process(Feed(Rate(Decimal(900_000), NOW)))
    answers: list[PriceError | None] = []
    asking = threading.Thread(target=lambda: answers.append(other.problem()))
    looks = iter([False, True])  # at the earlier rates, and then at the new row

    def now() -> ColumnElement[datetime]:
        if threading.current_thread() is not asking and next(looks):
            asking.start()
            while asking.is_alive() and not waits_for_lock(backend.database):
                time.sleep(0.01)
        return literal(backend.now)

    backend.says(200_000)
    process = backend.process()
    process.history = StoredRates(backend.database, Decimal(3), HOUR, now)
    process.rate()
    asking.join()
    assert [error.cause for error in answers if error] == ["jump"]
    assert backend.rows() == [(200_000, "feed")]


def waits_for_lock(database: Database) -> bool:
    with database.autocommit() as connection:
        query = text("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
        return bool(connection.execute(query).scalar_one())


def test_50_a_confirmed_rate_begins_anew(backend: Backend) -> None:
    process = backend.process()
    for step, does in ((200_000, process.rate), (900_000, process.confirm), (950_000, process.rate)):
        backend.says(step)
        assert does().inr_per_eth == step
    backend.says(200_000)
    with pytest.raises(PriceError, match="from 900000 to 200000 INR"):
        process.rate()


@pytest.mark.parametrize(("max_use", "window"), [(timedelta(minutes=1), 65), (2 * HOUR, 125)])
def test_50_how_long_an_accepted_rate_counts(backend: Backend, max_use: timedelta, window: int) -> None:
    """For five minutes longer than any process may use it, and an hour at least. The newest one counts for ever."""
    history = StoredRates(backend.database, Decimal(3), max_use, lambda: literal(backend.now))

    def accept(inr_per_eth: int) -> None:
        history.accept(Rate(Decimal(inr_per_eth), NOW))

    for inr_per_eth in (100, 300, 300, 100, 300):  # the same one again is no new row
        accept(inr_per_eth)
        backend.now += timedelta(microseconds=1)
    assert backend.rows() == [(each, "feed") for each in (100, 300, 100, 300)]
    last_of_100 = NOW + timedelta(microseconds=3)
    backend.now = last_of_100 + timedelta(minutes=window, microseconds=-1)
    with pytest.raises(PriceError, match=r"from 100 to 901 INR, .* run `stakesim confirm-rate`\.$") as refused:
        accept(901)  # of both that it is too far from, the lower one is named
    assert refused.value.cause == "jump"
    with pytest.raises(PriceError, match="from 100 to 301 INR"):
        accept(301)
    backend.now += timedelta(microseconds=1)
    accept(301)


def test_50_only_what_came_after_the_last_confirmation_counts(backend: Backend) -> None:
    history = StoredRates(backend.database, Decimal(3), HOUR, lambda: literal(backend.now))
    for inr_per_eth in (100, 1000):
        history.confirm(Rate(Decimal(inr_per_eth), NOW))
    with pytest.raises(PriceError, match="from 1000 to 100 INR"):
        history.accept(Rate(Decimal(100), NOW))
    history.accept(Rate(Decimal(1001), NOW))


def test_50_a_rate_set_by_hand_ages_until_it_is_confirmed(backend: Backend) -> None:
    by_hand = ManualPriceFeed(Decimal(200_000), NOW, DAY)
    backend.now += DAY
    assert backend.process(by_hand).rate().as_of == NOW
    backend.now += timedelta(seconds=1)
    for _ in range(2):  # a restart is no confirmation
        process = backend.process(by_hand)
        with pytest.raises(PriceError, match="of ETH_PRICE_INR is 1 day, 0:00:01 old; at most 1 day"):
            process.rate()
        assert "set ETH_PRICE_INR and ETH_PRICE_INR_AS_OF anew" in check_price(process).remedy
    assert backend.process(replace(by_hand, as_of=backend.now)).rate().as_of == backend.now
    with pytest.raises(PriceError, match="has no time: set ETH_PRICE_INR_AS_OF"):
        backend.process(replace(by_hand, as_of=None)).rate()


def test_50_a_rate_of_the_future_is_refused(backend: Backend) -> None:
    backend.says(200_000, age=-MAX_AHEAD - timedelta(seconds=1))
    with pytest.raises(PriceError, match="in the future"):
        backend.process().rate()
    assert backend.rows() == []


def test_50_a_feed_and_a_rate_set_by_hand_check_each_other(backend: Backend) -> None:
    by_hand = ManualPriceFeed(Decimal(200_000), NOW, DAY)
    process = backend.process(backend.feed, by_hand)
    backend.says(219_000)
    assert process.rate().source == "feed"
    backend.says(221_000)
    with pytest.raises(PriceError, match=r"221000 INR by feed, and 200000 INR by ETH_PRICE_INR: more than 1\.1 times"):
        process.rate()
    backend.feed.rate = None
    assert process.rate().source == "ETH_PRICE_INR"
    assert backend.rows() == [(219_000, "feed"), (200_000, "ETH_PRICE_INR")]


def test_50_the_settings_reach_the_check(backend: Backend, service_settings: dict[str, str]) -> None:
    as_of = datetime.now(UTC) - timedelta(seconds=90)
    given_price = {"eth_price_inr": "200000", "eth_price_inr_as_of": as_of.isoformat()}
    for limit, works in ((100, True), (80, False)):
        values = service_settings | given_price | {"price_manual_max_age_seconds": limit}
        pricing = build_pricing(read_settings(None, **values), backend.database)
        assert (pricing.problem() is None) == works
    assert backend.rows() == [(200_000, "ETH_PRICE_INR")]


@pytest.fixture
def service_settings() -> dict[str, str]:
    """Required settings."""
    return {
        "blockchain_rpc_url": "http://127.0.0.1:9",
        "contract_address": "0x" + "11" * 20,
        "platform_private_key": "0x" + "11" * 32,
        "jwt_secret": "0123456789abcdefghijklmnopqrstuv",
    }


# ------------------------------------------------------------------------------------------------------- any sequence

steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "restart"]),
        st.integers(0, 1),  # process
        st.sampled_from([0, 1, 600, 1800, 3599, 3700, 90_000]),  # seconds that pass before
        st.sampled_from([50_000, 100_000, 140_000, 200_000, 299_999, 300_001, 420_000, 900_000]),
        st.sampled_from([-600, -1, 0, 1, 1800, 3600, 3601]),  # age of the feed's answer, in seconds
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(steps=steps)
def test_50_whatever_feed_restarts_and_times(committing: Engine, steps: list[tuple[str, int, int, int, int]]) -> None:
    """No rate in use is too old, or too far from another one that was in use in the last hour."""
    with committing.begin() as connection:
        connection.exec_driver_sql("TRUNCATE rates")
    backend = Backend(Database(committing))
    processes = [backend.process(), backend.process()]
    used: list[tuple[datetime, Rate]] = []
    for does, which, seconds, inr, age in steps:
        backend.now += timedelta(seconds=seconds)
        if does == "restart":
            processes[which] = backend.process()
        backend.says(inr, timedelta(seconds=age))
        try:
            rate = processes[which].rate()
        except PriceError:
            continue
        assert -MAX_AHEAD <= backend.now - rate.as_of <= HOUR
        for when, earlier in used:
            if when > backend.now - HOUR:
                low, high = sorted((Fraction(rate.inr_per_eth), Fraction(earlier.inr_per_eth)))
                assert high <= 3 * low
        used.append((backend.now, rate))
    with committing.begin() as connection:
        connection.exec_driver_sql("TRUNCATE rates")

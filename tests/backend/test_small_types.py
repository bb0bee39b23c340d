"""Results of receipts, stored attempts, numbers of statuses, times and pauses, as single values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from app.core.errors import DatabaseBusy, InvalidRequest, UnexpectedReceipt, UnsupportedByContract
from app.db.database import Database
from app.db.tables import pauses
from app.services import pause as pause_module
from app.services.codec import Call, Event
from app.services.contract_receipts import read_event_completed, read_fees_withdrawn, read_result
from app.services.contract_types import (
    BookingCreated,
    BookingStatus,
    DeferredPayout,
    OnchainEventRun,
    RunStatus,
    status_of,
    unix_seconds,
)
from app.services.operation_types import CLOSED_STATES, SENT_STATES, Attempt, Operation
from app.services.rpc_answers import checksummed
from sqlalchemy import select

ALICE, BOB = (checksummed("0x" + digits * 20) for digits in ("a1", "b0"))


class Receipt:
    """A receipt, as far as results have of it."""

    tx_hash, block_number, gas_used, gas_price = "0xab", 7, 21_000, 3


RECEIPT: Any = Receipt()
BOOKED = {"booking_id": 4, "event_run_id": 5, "user": ALICE, "seat_count": 2, "total_payment": 60, "user_stake": 10}
DEFERRED = Event("PaymentDeferred", {"receiver": BOB, "amount": 9})


def booked(**values: Any) -> Event:
    return Event("BookingCreated", BOOKED | values)


def test_a_result_has_the_fields_of_its_event_and_transaction() -> None:
    result = read_result(BookingCreated, RECEIPT, [Event("Reset", {}), booked(), DEFERRED])
    assert result == BookingCreated(
        tx_hash="0xab",
        block_number=7,
        gas_used=21_000,
        gas_price=3,
        deferred=(DeferredPayout(BOB, 9),),
        onchain_booking_id=4,
        onchain_run_id=5,
        user=ALICE,
        seat_count=2,
        total_payment=60,
        user_stake=10,
    )
    assert result.gas_cost == 63_000


@pytest.mark.parametrize(
    ("events", "known", "count"),
    [
        ([], {}, 0),
        ([booked()] * 2, {}, 2),
        ([booked(event_run_id=6)], {"onchain_run_id": 5}, 0),
        ([booked(seat_count=3)], {"onchain_run_id": 5, "seat_count": 2}, 0),  # one of two is not enough
        ([booked(), booked(event_run_id=6)], {"onchain_run_id": 5}, 1),
        ([booked(), booked(seat_count=3)], {"onchain_run_id": 5, "seat_count": 2}, 1),
    ],
)
def test_exactly_one_event_is_the_result(events: list[Event], known: dict[str, Any], count: int) -> None:
    if count == 1:
        assert read_result(BookingCreated, RECEIPT, events, **known).onchain_booking_id == 4
        return
    with pytest.raises(UnexpectedReceipt, match=f"^Transaction 0xab has {count} events BookingCreated where one"):
        read_result(BookingCreated, RECEIPT, events, **known)


def test_stakes_of_a_completed_run_are_by_booking() -> None:
    stakes = [Event("BookingCompleted", {"booking_id": n, "stake_returned": 10 * n}) for n in (1, 2)]
    stakes += [Event("BookingNoShow", {"booking_id": n, "stake_forfeit": 10 * n}) for n in (3, 4)]
    closed = Event("EventCompleted", {"event_run_id": 5, "host_payout": 6, "host_stake_returned": 7})
    result = read_event_completed(RECEIPT, [*stakes, closed, DEFERRED])
    assert (result.stakes_returned, result.stakes_forfeited) == ({1: 10, 2: 20}, {3: 30, 4: 40})
    assert (result.onchain_run_id, result.host_payout, result.host_stake_returned) == (5, 6, 7)
    assert result.deferred == (DeferredPayout(BOB, 9),)


@pytest.mark.parametrize(("count", "is_full", "amount"), [(1, True, 5), (1, False, 5), (0, False, None), (2, False, 5)])
def test_withdrawn_fees_are_in_an_event_where_the_contract_has_one(
    count: int, is_full: bool, amount: int | None
) -> None:
    events = [Event("PlatformFeesWithdrawn", {"amount": 5 + number}) for number in range(count)]
    result = read_fees_withdrawn(RECEIPT, [*events, DEFERRED], has_full_interface=is_full)
    assert (result.amount, result.deferred, result.tx_hash) == (amount, (DeferredPayout(BOB, 9),), "0xab")
    if count != 1:
        with pytest.raises(UnexpectedReceipt, match=f"has {count} events PlatformFeesWithdrawn"):
            read_fees_withdrawn(RECEIPT, events, has_full_interface=True)


def test_statuses_have_the_contracts_numbers() -> None:
    runs = ["CREATED", "ACTIVE", "FULL", "COMPLETED", "CANCELLED", "EXPIRED"]
    bookings = ["ACTIVE", "COMPLETED", "NO_SHOW", "CANCELLED"]
    for kind, names in ((RunStatus, runs), (BookingStatus, bookings)):
        assert [status_of(kind, number, "it").name for number in range(len(names))] == names  # type: ignore[type-var]
        with pytest.raises(UnsupportedByContract, match=f"has it in status {len(names)}, which is not known"):
            status_of(kind, len(names), "it")  # type: ignore[type-var]


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30))])
def test_a_time_is_whole_seconds_since_1970(zone: timezone) -> None:
    moment = datetime(2030, 1, 1, 12, 30, 15, 999_999, tzinfo=zone)
    assert unix_seconds(moment) == int(moment.replace(microsecond=0).timestamp())
    with pytest.raises(InvalidRequest, match="has no time zone"):
        unix_seconds(moment.replace(tzinfo=None))


def test_a_call_sends_no_wei_unless_it_says_so() -> None:
    assert Call(ALICE, "f", b"").value == 0


def test_when_a_run_starts() -> None:
    run: Any = SimpleNamespace(event_timestamp=1_900_000_000)
    assert OnchainEventRun.starts_at.fget(run) == datetime.fromtimestamp(1_900_000_000, UTC)  # type: ignore[attr-defined]


ATTEMPT = Attempt("0xab", "0xcd", 7, 21_000, 2, 1, 5)
STORED = {"hash": "0xab", "raw": "0xcd", "nonce": 7, "gas": 21_000, "max_fee": 2, "tip": 1, "block": 5}


@pytest.mark.parametrize(
    ("values", "more"),
    [
        ({}, {}),
        ({"signed_block": 0}, {"signed": 0}),
        ({"signed_block": 9}, {"signed": 9}),
        ({"no_effect": True}, {"no_effect": True}),
        ({"signed_block": 9, "no_effect": True}, {"signed": 9, "no_effect": True}),
    ],
)
def test_an_attempt_is_read_as_it_was_stored(values: dict[str, Any], more: dict[str, Any]) -> None:
    attempt = replace(ATTEMPT, **values)
    assert attempt.to_json() == STORED | more
    assert Attempt.from_json(STORED | more) == attempt


def test_what_the_last_attempt_and_the_state_say_of_an_operation() -> None:
    without: Any = replace(ATTEMPT, no_effect=True)
    empty: Any = dict.fromkeys(Operation.__dataclass_fields__)
    for attempts, given_up in (([], False), ([ATTEMPT], False), ([without], True), ([ATTEMPT, without], True)):
        assert Operation(**empty | {"attempts": attempts}).given_up == given_up
    assert not Operation(**empty | {"attempts": [without, ATTEMPT]}).given_up
    states = ("prepared", "signed", "submitted", "mined", "confirmed", "failed", "rejected")
    assert [state for state in states if Operation(**empty | {"state": state}).closed] == [*CLOSED_STATES]
    assert (*SENT_STATES, *CLOSED_STATES) == states[1:]


def test_a_pause_is_one_for_all_and_ends_once(database: Database) -> None:
    def rows() -> list[Any]:
        with database.autocommit() as connection:
            return [*connection.execute(select(pauses).order_by(pauses.c.id))]

    def current() -> pause_module.Pause | None:
        with database.transaction() as connection:
            found = pause_module.current_pause(connection)
            assert pause_module.lock_against_pause(connection) == (found is not None)
        return found

    assert (current(), pause_module.resume(database, "bob")) == (None, None)
    opened = pause_module.pause(database, "alice", "to look")
    assert str(opened) == f"alice paused new event runs and bookings at {opened.since:%Y-%m-%d %H:%M:%S %Z}: to look"
    assert (opened.paused_by, opened.reason) == ("alice", "to look")
    assert pause_module.pause(database, "bob") == current() == opened
    assert pause_module.resume(database, "bob") == opened
    assert (current(), pause_module.resume(database, "carol")) == (None, None)
    second = pause_module.pause(database, "carol")
    assert str(second) == f"carol paused new event runs and bookings at {second.since:%Y-%m-%d %H:%M:%S %Z}"
    assert second.reason is None
    assert current() == second
    assert [(row.paused_by, row.ended_by) for row in rows()] == [("alice", "bob"), ("carol", None)]
    assert rows()[0].ended_at > opened.since


def test_no_pause_begins_while_somebody_signs(database: Database) -> None:
    with database.transaction() as connection:
        pause_module.lock_against_pause(connection)
        with database.transaction() as another:
            pause_module.lock_against_pause(another)  # others may sign as well
        with pytest.raises(DatabaseBusy), database.transaction() as another:
            another.exec_driver_sql("LOCK TABLE nonces IN SHARE ROW EXCLUSIVE MODE NOWAIT")

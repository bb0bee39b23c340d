"""What is owed of a payment, and each change of a refund's row; the clock of the database stands still at `NOW`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from app.db.tables import (
    REFUND_STATES,
    event_run_bookings,
    event_runs,
    experiences,
    operations,
)
from app.db.tables import payments as payments_table
from app.db.tables import refunds as refunds_table
from app.services.payments import refunds
from app.services.payments.types import Payment, Refund
from fixed_clock import NOW
from payment_rows import (
    BATCH,
    CAPTURED,
    MINUTE,
    SECOND,
    add,
    add_refund,
    add_user,
    all_refunds,
    all_rows,
    changed,
    dispute,
    insert_one,
    many,
    numbers,
    refund_of,
)
from sqlalchemy import Connection, insert, select


def claim(connection: Connection, refund: Refund) -> bool:
    return refunds.claim(connection, refund, MINUTE)


def hurry(connection: Connection, refund: Refund) -> bool:
    return refunds.hurry(connection, refund.payment_id)


def taken(connection: Connection, refund: Refund) -> None:
    refunds.taken(connection, refund.id, "refund_new")


def not_taken(connection: Connection, refund: Refund) -> None:
    refunds.not_taken(connection, refund.id, "no answer")


def done(connection: Connection, refund: Refund) -> None:
    refunds.done(connection, refund.gateway_refund_id or "")


def could_not(connection: Connection, refund: Refund) -> None:
    refunds.could_not(connection, refund.gateway_refund_id or "")


FAILED = {"problem": "The gateway could not carry the refund out.", "failed": 2, "gateway_refund_id": None}
REFUND_CHANGES: list[tuple[Callable[[Connection, Refund], Any], tuple[str, ...], dict[str, Any]]] = [
    (claim, REFUND_STATES, {"tries": 4, "next_at": NOW + MINUTE, "updated_at": NOW}),
    (hurry, ("due", "requested"), {"next_at": NOW}),
    (taken, ("due",), {"state": "requested", "gateway_refund_id": "refund_new", "problem": None, "updated_at": NOW}),
    (not_taken, ("due",), {"problem": "no answer"}),
    (done, ("requested",), {"state": "done", "next_at": None, "problem": None, "updated_at": NOW}),
    (could_not, ("requested",), {"state": "due", "next_at": NOW, "updated_at": NOW} | FAILED),
]


@pytest.mark.parametrize(("change", "states", "new"), REFUND_CHANGES)
def test_a_change_is_of_one_refund_in_some_states(
    connection: Connection,
    change: Callable[[Connection, Refund], Any],
    states: tuple[str, ...],
    new: dict[str, Any],
) -> None:
    for state in REFUND_STATES:
        refund = add_refund(connection, state)
        add_refund(connection, state)
        before, payments_before = all_refunds(connection), all_rows(connection)
        result = change(connection, refund)
        expected = before | ({refund.id: replace(refund, **new)} if state in states else {})
        assert all_refunds(connection) == expected, state
        if change in (claim, hurry):
            assert result == (state in states)
        payment = payments_before[refund.payment_id]
        if change is done and state in states:
            payments_before[payment.id] = changed(payment, {"state": "refunded"})
        assert all_rows(connection) == payments_before
        connection.rollback()


@pytest.mark.parametrize("state", CAPTURED)
def test_a_payment_is_refunded_only_while_it_is_being_refunded(connection: Connection, state: str) -> None:
    payment = add(connection, state)
    done(connection, add_refund(connection, "requested", payment))
    expected = changed(payment, {"state": "refunded"}) if state == "refunding" else payment
    assert all_rows(connection) == {payment.id: expected}


def test_a_refund_is_claimed_by_one_of_those_that_have_seen_it(connection: Connection) -> None:
    refund = add_refund(connection)
    assert claim(connection, refund)
    assert not claim(connection, refund)


def test_a_charge_back_stops_the_refund_that_is_due_and_no_other(connection: Connection) -> None:
    payment = add(connection, "refunding")
    for state, outcome in (("due", "lost"), ("due", "open"), ("due", "won"), ("requested", "lost")):
        connection.execute(refunds_table.delete())
        connection.execute(payments_table.update().values(dispute=None, disputes={}))
        refund, other = add_refund(connection, state, payment), add_refund(connection, state)
        assert dispute(outcome, "dispute_new", connection, payment) == "refunding"
        stopped: dict[str, Any] = {"next_at": None, "problem": "The payment was charged back.", "updated_at": NOW}
        expected = replace(refund, **stopped) if (state, outcome) == ("due", "lost") else refund
        assert all_refunds(connection) == {refund.id: expected, other.id: other}


@pytest.mark.parametrize(
    ("values", "of_payment", "is_asked"),
    [
        ({"next_at": NOW}, {}, True),
        ({"next_at": NOW}, {"dispute": "won"}, True),
        ({"next_at": NOW}, {"dispute": "open"}, False),
        ({"next_at": NOW}, {"dispute": "lost"}, False),
        ({"next_at": NOW}, {"gateway": "manual"}, False),
        ({"next_at": NOW + SECOND}, {}, False),
        ({"next_at": None}, {}, False),
    ],
)
def test_about_which_refunds_a_gateway_is_asked(
    connection: Connection, values: dict[str, Any], of_payment: dict[str, Any], is_asked: bool
) -> None:
    add(connection, "refunding")
    payment = add(connection, "refunding", **of_payment)
    refund = add_refund(connection, "due", payment, **values)
    expected = [(refund, payment.gateway_payment_id)] if is_asked else []
    assert refunds.next_refunds(connection, "razorpay") == expected


def test_a_round_takes_the_oldest_payments_that_are_unused(connection: Connection) -> None:
    oldest = many(connection, "captured", "usable_until")
    refunds.owe_unused(connection)
    assert {refund.payment_id for refund in all_refunds(connection).values()} == set(oldest[:BATCH])


def test_older_payments_of_which_nothing_is_owed_are_not_in_the_way(connection: Connection) -> None:
    many(connection, "refunded", "usable_until")
    payment = add(connection, "captured", usable_until=NOW)
    refunds.owe_unused(connection)
    assert refund_of(connection, payment) is not None


def test_money_that_nobody_asked_for_is_unexpected_whenever_it_came(connection: Connection) -> None:
    """By the gateway's clock it may have been paid after it was captured."""
    payment = add(connection, "captured", purpose="unexpected", paid_at=NOW + SECOND, expires_at=NOW, usable_until=NOW)
    refunds.owe_unused(connection)
    refund = refund_of(connection, payment)
    assert refund is not None
    assert refund.cause == "unexpected"


def test_the_last_of_two_cancellations_decides(connection: Connection) -> None:
    """As after a reorganisation, which brought the booking back."""
    booking = add_booking(connection, add_run(connection), "cancelled")
    payment = add_used(connection, booking, "booking")
    for block in (4, 6):
        add_operation(connection, booking, "cancelBooking", "confirmed", block)
    refunds.owe_used(connection, 5, timedelta(0))
    assert refund_of(connection, payment) is None
    refunds.owe_used(connection, 6, MINUTE)
    assert refund_of(connection, payment) is not None


def test_a_round_asks_for_the_oldest_refunds(connection: Connection) -> None:
    oldest = many(connection, "refunding", "next_at", of_refund=True)
    asked = [refund.payment_id for refund, _ in refunds.next_refunds(connection, "razorpay")]
    assert asked == oldest[:BATCH]


def add_run(connection: Connection, **values: Any) -> UUID:
    host = add_user(connection)
    experience = insert_one(connection, experiences, host_id=host, title="Pottery")
    row: dict[str, Any] = {"experience_id": experience, "host_id": host, "starts_at": NOW}
    row |= {"max_seats": 4, "price_inr": 10, "blockchain_block": 5}
    return insert_one(connection, event_runs, **(row | values))


def add_booking(connection: Connection, run: UUID, status: str) -> UUID:
    row = {"event_run_id": run, "user_id": add_user(connection), "seats": 1, "total_inr": 10, "status": status}
    return insert_one(connection, event_run_bookings, **row)


def add_operation(connection: Connection, subject: UUID, kind: str, state: str, block: int | None) -> str:
    key = f"operation_{next(numbers)}"
    row: dict[str, Any] = {"key": key, "request": "", "kind": kind, "subject": subject, "chain_id": 1, "sender": "a"}
    row |= {"to_address": "b", "data": b"", "value_wei": 0, "state": state, "block_number": block, "tx_hash": "0x"}
    row |= {"nonce": None if state in ("prepared", "rejected") else next(numbers)}
    connection.execute(insert(operations).values(row))
    return key


def add_used(connection: Connection, subject: UUID, purpose: str, block: int = 3, **values: Any) -> Payment:
    kind = "bookEventFor" if purpose == "booking" else "createEventRunFor"
    key = add_operation(connection, subject, kind, "confirmed", block)
    row: dict[str, Any] = {"operation_key": key, "purpose": purpose, "stake_inr": 4, "look_at": NOW}
    return add(connection, "used", **row | values)


ALL, STAKE = ("cancelled", 10), ("stake_returned", 4)
SETTLED, WAITS = {"look_at": None}, {"look_at": NOW + MINUTE}


@pytest.mark.parametrize(
    ("purpose", "status", "run_status", "seats_booked", "owed"),
    [
        ("booking", "active", "active", 1, WAITS),
        ("booking", "cancelled", "active", 0, ALL),
        ("booking", "cancelled", "completed", 0, ALL),
        ("booking", "completed", "completed", 1, STAKE),
        ("booking", "no_show", "completed", 1, SETTLED),
        ("booking", "active", "expired", 1, WAITS),
        ("event_run", "cancelled", "active", 0, WAITS),
        ("event_run", "active", "full", 4, WAITS),
        ("event_run", "active", "cancelled", 1, ALL),
        ("event_run", "cancelled", "completed", 0, STAKE),
        ("event_run", "active", "expired", 1, SETTLED),
        ("event_run", "active", "expired", 0, STAKE),
    ],
)
def test_what_is_owed_of_a_used_payment(
    connection: Connection, purpose: str, status: str, run_status: str, seats_booked: int, owed: Any
) -> None:
    run = add_run(connection, status=run_status, seats_booked=seats_booked)
    booking = add_booking(connection, run, status)
    add_booking(connection, add_run(connection, status="active"), "active")
    payment = add_used(connection, booking if purpose == "booking" else run, purpose)
    later = add_used(connection, booking if purpose == "booking" else run, purpose, look_at=NOW + SECOND)
    refunds.owe_used(connection, 5, MINUTE)
    refund = refund_of(connection, payment)
    rows = all_rows(connection)
    assert rows.pop(later.id) == later
    if isinstance(owed, dict):
        assert refund is None
        assert rows == {payment.id: replace(payment, **owed)}
    else:
        assert refund is not None
        assert (refund.cause, refund.amount_inr, refund.state) == (*owed, "due")
        assert rows == {payment.id: changed(payment, {"state": "refunding", "look_at": None})}


@pytest.mark.parametrize(
    ("finalized", "cancelled_in", "kind", "state", "is_owed"),
    [
        (5, None, "cancelBooking", "confirmed", True),
        (4, None, "cancelBooking", "confirmed", False),
        (7, 7, "cancelBooking", "confirmed", True),
        (6, 7, "cancelBooking", "confirmed", False),
        (4, 4, "cancelBooking", "confirmed", True),  # whatever happened to the run later
        (4, 4, "cancelBooking", "mined", False),
        (4, 4, "cancelEvent", "confirmed", False),
        (3, 3, "cancelBooking", "confirmed", True),
        (2, 2, "cancelBooking", "confirmed", False),  # the operation that was paid for is not final
    ],
)
def test_a_cancelled_booking_is_owed_once_its_cancellation_is_final(
    connection: Connection, finalized: int, cancelled_in: int | None, kind: str, state: str, is_owed: bool
) -> None:
    booking = add_booking(connection, run := add_run(connection), "cancelled")
    payment = add_used(connection, booking, "booking")
    if cancelled_in is not None:
        add_operation(connection, booking, kind, state, cancelled_in)
        add_operation(connection, booking, "cancelBooking", "failed", 1)
    add_operation(connection, add_booking(connection, run, "cancelled"), "cancelBooking", "confirmed", 2)
    refunds.owe_used(connection, finalized, MINUTE)
    assert (refund_of(connection, payment) is not None) == is_owed


@pytest.mark.parametrize(
    ("values", "expected"),
    [({"to_custody": False}, SETTLED), ({"dispute": "lost"}, SETTLED), ({"dispute": "open"}, WAITS)],
)
def test_what_is_not_owed(connection: Connection, values: dict[str, Any], expected: dict[str, Any]) -> None:
    payment = add_used(connection, add_booking(connection, add_run(connection), "cancelled"), "booking", **values)
    refunds.owe_used(connection, 5, MINUTE)
    assert all_rows(connection) == {payment.id: replace(payment, **expected)}
    assert all_refunds(connection) == {}


@pytest.mark.parametrize(
    ("decision", "of_disputed"),
    [(refunds.Owed(Decimal(4), "stake_returned"), {}), (refunds.Settled(), SETTLED), (None, WAITS)],
)
@pytest.mark.parametrize("meanwhile", [{"state": "refunded"}, {"dispute": "open"}], ids=["refunded", "disputed"])
def test_a_payment_that_changes_while_it_is_looked_at_is_left_alone(
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    decision: Any,
    of_disputed: dict[str, Any],
    meanwhile: dict[str, Any],
) -> None:
    """The statements that follow compare the row again, whatever the decision was made of."""
    payment = add_used(connection, add_booking(connection, add_run(connection), "completed"), "booking")

    def decide(row: Any, finalized_block: int) -> Any:
        connection.execute(payments_table.update().values(meanwhile))
        return decision

    monkeypatch.setattr(refunds, "what_is_owed", decide)
    refunds.owe_used(connection, 5, MINUTE)
    after = meanwhile | (of_disputed if "dispute" in meanwhile else {})
    assert all_rows(connection) == {payment.id: replace(payment, **after)}
    assert all_refunds(connection) == {}


@pytest.mark.parametrize("state", ["refunding", "refunded"])
def test_nothing_is_owed_of_what_is_not_in_use(connection: Connection, state: str) -> None:
    booking = add_booking(connection, add_run(connection), "cancelled")
    key = add_operation(connection, booking, "bookEventFor", "confirmed", 3)
    payment = add(connection, state, operation_key=key, look_at=NOW, to_custody=True)
    refunds.owe_used(connection, 5, MINUTE)
    assert all_rows(connection) == {payment.id: payment}


@pytest.mark.slow
def test_a_round_looks_at_the_oldest_used_payments(connection: Connection) -> None:
    booking = add_booking(connection, add_run(connection), "no_show")
    oldest = many(connection, "used", "look_at")
    connection.execute(payments_table.update().values(to_custody=True))
    for key in connection.execute(select(payments_table.c.operation_key)).scalars().all():
        row: dict[str, Any] = {"key": key, "request": "", "kind": "bookEventFor", "subject": booking, "chain_id": 1}
        row |= {"sender": "a", "to_address": "b", "data": b"", "value_wei": 0, "state": "confirmed", "nonce": 1}
        row |= {"nonce": int(key.partition("_")[2]), "tx_hash": "0x", "block_number": 3}
        connection.execute(insert(operations).values(row))
    refunds.owe_used(connection, 5, MINUTE)
    assert [row.id for row in all_rows(connection).values() if row.look_at is not None] == oldest[BATCH:]

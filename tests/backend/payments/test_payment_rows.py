"""Each change of a payment's or refund's row: which rows it changes, in which states, and what in them.

The database's clock stands still at `NOW`, so that what happens at the very moment of an edge is known, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
from app.core.errors import NotPaid, PaymentUnusable
from app.db.database import Database
from app.db.tables import (
    PAYMENT_STATES,
    REFUND_STATES,
    event_run_bookings,
    event_runs,
    experiences,
    operations,
    users,
)
from app.db.tables import payments as payments_table
from app.db.tables import refunds as refunds_table
from app.services.payments import refunds, store
from app.services.payments.gateway import Capture, DisputeNews
from app.services.payments.types import Payment, Refund
from fixed_clock import NOW, clock_at_now
from sqlalchemy import Connection, Engine, Table, insert, select

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
EARLIER = NOW - HOUR
BATCH = 200
"""Number of rows that a round takes."""
CAPTURED = ("captured", "used", "refunding", "refunded")
Change = Callable[[Connection, Payment], Any]
numbers = count(1)


@pytest.fixture(scope="module")
def engine_at_now(database_engine: Engine) -> Iterator[Engine]:
    with clock_at_now(database_engine) as engine:
        yield engine


@pytest.fixture
def connection(database: Database, engine_at_now: Engine) -> Iterator[Connection]:
    with engine_at_now.connect() as connection:
        yield connection
        connection.rollback()


def insert_one(connection: Connection, table: Table, **values: Any) -> UUID:
    return UUID(str(connection.execute(insert(table).values(values).returning(table.c.id)).scalar_one()))


def add_user(connection: Connection) -> UUID:
    return insert_one(connection, users, name="attendee")


def add(connection: Connection, state: str = "created", **values: Any) -> Payment:
    """Stores a payment that can be used, and was quoted an hour ago."""
    number = next(numbers)
    row: dict[str, Any] = {"user_id": add_user(connection), "purpose": "booking", "quoted": {}, "amount_inr": 10}
    row |= {"state": state, "gateway": "razorpay", "gateway_order_id": f"order_{number}"}
    row |= {"expires_at": NOW + MINUTE, "usable_until": NOW + HOUR, "created_at": EARLIER, "updated_at": EARLIER}
    if state in CAPTURED:
        row |= {"gateway_payment_id": f"pay_{number}", "paid_at": EARLIER}
    if state == "used":
        row |= {"operation_key": f"key_{number}", "look_at": EARLIER, "to_custody": True}
    statement = insert(payments_table).values(row | values).returning(payments_table)
    return Payment(*connection.execute(statement).one())


def all_rows(connection: Connection) -> dict[UUID, Payment]:
    return {row.id: Payment(*row) for row in connection.execute(select(payments_table))}


def capture(connection: Connection, payment: Payment, **values: Any) -> str:
    news = Capture(payment.gateway_order_id or "", "pay_new", Decimal(10), "INR", EARLIER)
    return store.capture(connection, "razorpay", replace(news, **values), lambda of: f"seal of {of.id}")


def use(connection: Connection, payment: Payment) -> None:
    of_payment = store.use_of(payment.id, to_custody=False)
    if not connection.execute(of_payment.statement, of_payment.parameters | {"key": "key_new"}).rowcount:
        of_payment.check(connection)


def dispute(outcome: Any, dispute_id: str, connection: Connection, payment: Payment) -> str | None:
    news = DisputeNews(payment.gateway_payment_id or "", dispute_id, outcome)
    return store.dispute(connection, "razorpay", news)


def set_order(connection: Connection, payment: Payment) -> bool:
    return store.set_order(connection, payment.id, "order_new")


def expire(connection: Connection, payment: Payment) -> None:
    store.expire(connection, payment.id)


def fail(connection: Connection, payment: Payment) -> None:
    store.fail(connection, "razorpay", payment.gateway_order_id or "")


def owe_unused(connection: Connection, payment: Payment) -> None:
    refunds.owe_unused(connection)


IS_PAID = {"gateway_payment_id": "pay_new", "paid_at": EARLIER, "state": "captured"}
CHANGES: list[tuple[Change, tuple[str, ...], dict[str, Any], dict[str, Any]]] = [
    (set_order, ("created",), {"gateway_order_id": None}, {"gateway_order_id": "order_new"}),
    (capture, ("created", "failed", "expired"), {}, IS_PAID | {"seal": "seal of it"}),
    (fail, ("created",), {}, {"state": "failed"}),
    (expire, ("created", "failed"), {"expires_at": NOW}, {"state": "expired"}),
    (
        use,
        ("captured",),
        {"usable_until": NOW + SECOND},
        {"state": "used", "operation_key": "key_new", "to_custody": False, "look_at": NOW},
    ),
    (partial(dispute, "open", "dispute_new"), CAPTURED, {}, {"dispute": "open", "dispute_id": "dispute_new"}),
    (owe_unused, ("captured",), {"usable_until": NOW}, {"state": "refunding"}),
]


def changed(payment: Payment, values: dict[str, Any]) -> Payment:
    seal = {"seal": f"seal of {payment.id}"} if "seal" in values else {}
    return replace(payment, **(values | seal | {"updated_at": NOW}))


@pytest.mark.parametrize(("change", "states", "values", "new"), CHANGES)
def test_a_change_is_of_one_payment_in_some_states(
    connection: Connection, change: Change, states: tuple[str, ...], values: dict[str, Any], new: dict[str, Any]
) -> None:
    for state in PAYMENT_STATES:
        payment = add(connection, state, **values)
        same = {"gateway": "manual", "gateway_order_id": payment.gateway_order_id}
        if payment.gateway_payment_id is not None:
            same["gateway_payment_id"] = payment.gateway_payment_id
        if change is not owe_unused:  # it is about all of them
            add(connection, state, **values | same)
            add(connection, state, **values)
        before = all_rows(connection)
        try:
            result = change(connection, payment)
        except (NotPaid, PaymentUnusable):
            assert state not in states
        else:
            assert change is not set_order or result == (state in states)
        after = all_rows(connection)
        expected = before | ({payment.id: changed(payment, new)} if state in states else {})
        assert {key: after[key] for key in before} == expected, state
        connection.rollback()


NO_CHANGE: list[tuple[Change, str, dict[str, Any]]] = [
    (set_order, "created", {"gateway_order_id": "order_of_another_request"}),
    (expire, "created", {"expires_at": NOW + SECOND}),
    (expire, "failed", {"expires_at": NOW + SECOND}),
    (use, "captured", {"usable_until": NOW}),
    (use, "captured", {"dispute": "open"}),
    (use, "captured", {"dispute": "lost"}),
    (owe_unused, "captured", {"usable_until": NOW + SECOND}),
    (owe_unused, "captured", {"usable_until": NOW, "dispute": "open"}),
    (owe_unused, "captured", {"usable_until": NOW, "dispute": "lost"}),
    (partial(dispute, "open", "dispute_new"), "captured", {"dispute": "lost", "dispute_id": "dispute_old"}),
    (partial(dispute, "won", "dispute_new"), "captured", {"dispute": "lost", "dispute_id": "dispute_new"}),
    (partial(dispute, "open", "dispute_new"), "captured", {"dispute": "won", "dispute_id": "dispute_new"}),
]


@pytest.mark.parametrize(("change", "state", "values"), NO_CHANGE)
def test_what_does_not_change_a_payment(
    connection: Connection, change: Change, state: str, values: dict[str, Any]
) -> None:
    payment = add(connection, state, **values)
    try:
        assert not change(connection, payment)
    except PaymentUnusable:
        assert change is use
    assert all_rows(connection) == {payment.id: payment}
    assert refunds.find_of_payment(connection, payment.id) is None


@pytest.mark.parametrize(
    ("state", "values", "error", "reason"),
    [
        ("created", {}, NotPaid, "is not captured: 10.00 INR are to be paid"),
        ("failed", {}, NotPaid, "is not captured: 10.00 INR are to be paid"),
        ("used", {}, PaymentUnusable, "has paid for another request"),
        ("refunding", {}, PaymentUnusable, "is being refunded"),
        ("refunded", {}, PaymentUnusable, "is refunded"),
        ("expired", {}, PaymentUnusable, "was not paid in time"),
        ("captured", {"dispute": "open"}, PaymentUnusable, "is disputed at the gateway"),
        ("captured", {"dispute": "lost"}, PaymentUnusable, "is disputed at the gateway"),
        ("captured", {"usable_until": NOW}, PaymentUnusable, "must have been used by 2030-01-01T12:00:00"),
    ],
)
def test_why_a_payment_can_not_be_used(
    connection: Connection, state: str, values: dict[str, Any], error: type[Exception], reason: str
) -> None:
    payment = add(connection, state, **values)
    with pytest.raises(error, match=reason):
        use(connection, payment)


@pytest.mark.parametrize("before", [{}, {"dispute": "won"}])
def test_what_is_undisputed_or_won_is_used_or_goes_back(connection: Connection, before: dict[str, Any]) -> None:
    use(connection, payment := add(connection, "captured", **before))
    old = add(connection, "captured", usable_until=NOW, **before)
    refunds.owe_unused(connection)
    assert [all_rows(connection)[each.id].state for each in (payment, old)] == ["used", "refunding"]


@pytest.mark.parametrize(
    ("before", "outcome", "dispute_id"),
    [({}, "won", "a"), ({"dispute": "open", "dispute_id": "a"}, "lost", "a"), ({"dispute": "won"}, "open", "b")],
)
def test_news_of_a_dispute_are_stored(
    connection: Connection, before: dict[str, Any], outcome: str, dispute_id: str
) -> None:
    """A later dispute of a payment begins after the first one was won."""
    payment = add(connection, "used", **{"dispute_id": "a"} | before)
    assert dispute(outcome, dispute_id, connection, payment) == "used"
    new = {"dispute": outcome, "dispute_id": dispute_id}
    assert all_rows(connection) == {payment.id: changed(payment, new)}


# ------------------------------------------------------------------------------------------------------------- captures


@pytest.mark.parametrize(
    ("paid_at", "usable_until", "cause"),
    [(NOW - MINUTE, NOW + HOUR, "unused"), (NOW - MINUTE + SECOND, NOW, "late")],
)
def test_what_is_paid_late_is_captured_and_goes_back(
    connection: Connection, paid_at: datetime, usable_until: datetime, cause: str
) -> None:
    payment = add(connection, expires_at=NOW - MINUTE)
    assert capture(connection, payment, paid_at=paid_at) == "captured"
    captured = all_rows(connection)[payment.id]
    assert (captured.paid_at, captured.usable_until) == (paid_at, usable_until)
    refunds.owe_unused(connection)
    assert (refund_of(connection, payment) is not None) == (cause == "late")
    connection.execute(payments_table.update().values(usable_until=NOW))
    refunds.owe_unused(connection)
    refund = refund_of(connection, payment)
    assert refund is not None
    assert (refund.cause, refund.amount_inr, refund.state) == (cause, Decimal(10), "due")


def test_the_time_of_a_payment_is_stored_whatever_the_time_zone_of_the_session(connection: Connection) -> None:
    """Also in the hour that comes twice in a year."""
    connection.exec_driver_sql("SET LOCAL TIME ZONE 'Europe/Berlin'")
    for hour in (0, 1):
        payment, paid_at = add(connection), datetime(2029, 10, 28, hour, 30, tzinfo=UTC)
        for order, amount in ((payment, 10), (add(connection), 11)):
            capture(connection, order, payment_id=f"pay_{hour}_{amount}", paid_at=paid_at, amount=Decimal(amount))
        times = [row.paid_at.astimezone(UTC) for row in all_rows(connection).values() if row.paid_at is not None]
        assert times[-2:] == [paid_at, paid_at]


@pytest.mark.parametrize("amount", [Decimal("9.99"), Decimal("10.01")])
def test_another_amount_is_stored_as_a_payment_of_its_own_and_goes_back(
    connection: Connection, amount: Decimal
) -> None:
    payment = add(connection)
    at_another: dict[str, Any] = {"gateway": "manual", "gateway_order_id": payment.gateway_order_id}
    other = add(connection, "captured", gateway_payment_id="pay_new", **at_another)
    assert capture(connection, payment, amount=amount) == "unexpected"
    assert capture(connection, payment, amount=amount) == "repeated"
    rows = all_rows(connection)
    assert [rows.pop(each.id) for each in (payment, other)] == [payment, other]
    [row] = rows.values()
    stored = (row.user_id, row.purpose, row.state, row.amount_inr, row.gateway, row.gateway_payment_id, row.paid_at)
    assert stored == (payment.user_id, "unexpected", "captured", amount, "razorpay", "pay_new", EARLIER)
    assert (row.gateway_order_id, row.expires_at, row.usable_until, row.seal) == (None, NOW, NOW, None)
    refunds.owe_unused(connection)
    refund = refund_of(connection, row)
    assert refund is not None
    assert (refund.cause, refund.amount_inr) == ("unexpected", amount)


def test_another_gateway_may_give_a_payment_the_same_id(connection: Connection) -> None:
    add(connection, "captured", gateway="manual", gateway_payment_id="pay_new")
    assert capture(connection, add(connection)) == "captured"


def test_one_payment_at_the_gateway_captures_one_order(connection: Connection) -> None:
    first, second = add(connection), add(connection)
    assert capture(connection, first) == "captured"
    for payment, amount in ((first, 10), (first, 11), (second, 10), (second, 11)):
        assert capture(connection, payment, amount=Decimal(amount)) == "repeated"
    assert all_rows(connection) == {
        first.id: changed(first, IS_PAID | {"seal": ""}),
        second.id: second,
    }
    assert capture(connection, first, payment_id="pay_second") == "unexpected"
    assert capture(connection, replace(first, gateway_order_id="order_unknown"), payment_id="pay_3") == "unknown"
    assert len(all_rows(connection)) == 3


# -------------------------------------------------------------------------------------------------------------- refunds


def add_refund(connection: Connection, state: str = "due", of: Payment | None = None, **values: Any) -> Refund:
    number = next(numbers)
    of = of or add(connection, "refunded" if state == "done" else "refunding")
    row: dict[str, Any] = {"payment_id": of.id, "amount_inr": 7, "cause": "cancelled", "state": state}
    row |= {"gateway_refund_id": None if state == "due" else f"refund_{number}", "problem": "none so far"}
    row |= {"next_at": None if state == "done" else EARLIER, "tries": 3, "failed": 1}
    row |= {"created_at": EARLIER, "updated_at": EARLIER}
    statement = insert(refunds_table).values(row | values).returning(refunds_table)
    return Refund(*connection.execute(statement).one())


def refund_of(connection: Connection, payment: Payment) -> Refund | None:
    return refunds.find_of_payment(connection, payment.id)


def all_refunds(connection: Connection) -> dict[UUID, Refund]:
    return {row.id: Refund(*row) for row in connection.execute(select(refunds_table))}


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
    (hurry, ("due", "requested"), {"next_at": NOW, "updated_at": NOW}),
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
        connection.execute(payments_table.update().values(dispute=None))
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


def many(connection: Connection, state: str, column: str, of_refund: bool = False) -> list[UUID]:
    """Stores one more than a round takes, in no order. Returns their ids by the time of a column, oldest first."""
    for method in ("indexscan", "indexonlyscan", "bitmapscan"):  # which give rows in an order that nobody asked for
        connection.exec_driver_sql(f"SET LOCAL enable_{method} = off")
    user, ids = add_user(connection), [uuid4() for _ in range(BATCH + 1)]
    ids.sort(key=str)  # so not in the order of their times
    rows = []
    for number, payment in enumerate(ids):
        row: dict[str, Any] = {"id": payment, "user_id": user, "purpose": "booking", "amount_inr": 10, "state": state}
        row |= {"gateway": "razorpay", "gateway_order_id": f"order_{number}", "expires_at": NOW, "usable_until": NOW}
        row |= {"gateway_payment_id": f"pay_{number}" if state in CAPTURED else None}
        row |= {"operation_key": f"key_{number}" if state == "used" else None}
        rows.append(row if of_refund else row | {column: NOW - SECOND * (number * 37 % len(ids))})
    connection.execute(insert(payments_table), rows)
    if of_refund:
        owed = {"amount_inr": 10, "cause": "unused"}
        times = [NOW - SECOND * (number * 37 % len(ids)) for number in range(len(ids))]
        connection.execute(
            insert(refunds_table),
            [owed | {"payment_id": payment, column: at} for payment, at in zip(ids, times, strict=True)],
        )
    return sorted(ids, key=lambda each: -(ids.index(each) * 37 % len(ids)))


def test_a_round_takes_the_oldest_payments_that_are_overdue(connection: Connection) -> None:
    oldest = many(connection, "created", "expires_at")
    assert [payment for payment, _ in store.overdue(connection)] == oldest[:BATCH]


def test_a_round_takes_the_oldest_payments_that_are_unused(connection: Connection) -> None:
    oldest = many(connection, "captured", "usable_until")
    refunds.owe_unused(connection)
    assert {refund.payment_id for refund in all_refunds(connection).values()} == set(oldest[:BATCH])


def test_older_payments_of_which_nothing_is_owed_are_not_in_the_way(connection: Connection) -> None:
    many(connection, "refunded", "usable_until")
    payment = add(connection, "captured", usable_until=NOW)
    refunds.owe_unused(connection)
    assert refund_of(connection, payment) is not None


def test_a_round_asks_for_the_oldest_refunds(connection: Connection) -> None:
    oldest = many(connection, "refunding", "next_at", of_refund=True)
    asked = [refund.payment_id for refund, _ in refunds.next_refunds(connection, "razorpay")]
    assert asked == oldest[:BATCH]


def test_what_is_overdue_and_what_is_not(connection: Connection) -> None:
    for state in PAYMENT_STATES:
        payment = add(connection, state, expires_at=NOW)
        add(connection, state, expires_at=NOW + SECOND)
        expected = [(payment.id, payment.gateway_order_id)] if state in ("created", "failed") else []
        assert store.overdue(connection) == expected, state
        connection.rollback()


# ------------------------------------------------------------------------------------------- what is owed of used ones


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
    return add(connection, "used", operation_key=key, purpose=purpose, stake_inr=4, look_at=NOW, **values)


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
    later = add(connection, "used", look_at=NOW + SECOND, operation_key=payment.operation_key + "x")  # type: ignore[operator]
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

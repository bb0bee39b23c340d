"""Each change of a payment's row: which rows it changes, in which states, and what in them.

The database's clock stands still at `NOW`, so that what happens at the very moment of an edge is known, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from app.core.errors import NotPaid, PaymentUnusable
from app.db.tables import (
    PAYMENT_STATES,
)
from app.db.tables import payments as payments_table
from app.services.payments import refunds, store
from app.services.payments.gateway import Capture
from app.services.payments.types import Payment
from fixed_clock import NOW
from payment_rows import (
    BATCH,
    CAPTURED,
    EARLIER,
    HOUR,
    IS_PAID,
    MINUTE,
    SECOND,
    add,
    all_rows,
    changed,
    dispute,
    disputed,
    many,
    refund_of,
)
from sqlalchemy import Connection

Change = Callable[[Connection, Payment], Any]


def capture(connection: Connection, payment: Payment, **values: Any) -> str:
    news = Capture(payment.gateway_order_id or "", "pay_new", Decimal(10), "INR", EARLIER)
    return store.capture(connection, "razorpay", replace(news, **values), lambda of: f"seal of {of.id}")


def use(connection: Connection, payment: Payment) -> None:
    of_payment = store.use_of(payment.id, to_custody=False)
    if not connection.execute(of_payment.statement, of_payment.parameters | {"key": "key_new"}).rowcount:
        of_payment.check(connection)


def set_order(connection: Connection, payment: Payment) -> bool:
    return store.set_order(connection, payment.id, "order_new")


def expire(connection: Connection, payment: Payment) -> None:
    store.expire(connection, payment.id)


def fail(connection: Connection, payment: Payment) -> None:
    store.fail(connection, "razorpay", payment.gateway_order_id or "")


def owe_unused(connection: Connection, payment: Payment) -> None:
    refunds.owe_unused(connection)


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
    (partial(dispute, "open", "dispute_new"), CAPTURED, {}, disputed("open", dispute_new="open")),
    (owe_unused, ("captured",), {"usable_until": NOW}, {"state": "refunding"}),
]


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
    (partial(dispute, "won", "dispute_new"), "captured", disputed("lost", dispute_new="lost")),
    (partial(dispute, "open", "dispute_new"), "captured", disputed("won", dispute_new="won")),
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
    ("before", "outcome", "dispute_id", "after"),
    [
        ({}, "won", "a", disputed("won", a="won")),
        (disputed("open", a="open"), "lost", "a", disputed("lost", a="lost")),
        (disputed("won", a="won"), "open", "b", disputed("open", a="won", b="open")),
        (disputed("open", a="open"), "won", "b", disputed("open", a="open", b="won")),
        (disputed("lost", a="lost"), "open", "b", disputed("lost", a="lost", b="open")),
    ],
)
def test_news_of_a_dispute_are_stored(
    connection: Connection, before: dict[str, Any], outcome: str, dispute_id: str, after: dict[str, Any]
) -> None:
    payment = add(connection, "used", **before)
    assert dispute(outcome, dispute_id, connection, payment) == "used"
    assert all_rows(connection) == {payment.id: changed(payment, after)}


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
        assert sorted(times)[-2:] == [paid_at, paid_at]


@pytest.mark.parametrize("amount", [Decimal("9.99"), Decimal("10.01")])
def test_another_amount_is_stored_as_a_payment_of_its_own_and_goes_back(
    connection: Connection, amount: Decimal
) -> None:
    payment = add(connection)
    at_another: dict[str, Any] = {"gateway": "manual", "gateway_order_id": payment.gateway_order_id}
    other = add(connection, **at_another)
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


def test_a_round_takes_the_oldest_payments_that_are_overdue(connection: Connection) -> None:
    oldest = many(connection, "created", "expires_at")
    assert [payment for payment, _ in store.overdue(connection, "razorpay")] == oldest[:BATCH]


def test_what_is_overdue_and_what_is_not(connection: Connection) -> None:
    for state in PAYMENT_STATES:
        payment = add(connection, state, expires_at=NOW)
        add(connection, state, expires_at=NOW + SECOND)
        expected = [(payment.id, payment.gateway_order_id)] if state in ("created", "failed") else []
        assert store.overdue(connection, payment.gateway) == expected, state
        connection.rollback()

"""Rows of payments and refunds as tests begin with them, at a clock that stands still."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from app.db.tables import payments as payments_table
from app.db.tables import refunds as refunds_table
from app.db.tables import (
    users,
)
from app.services.payments import refunds, store
from app.services.payments.gateway import DisputeNews
from app.services.payments.types import Payment, Refund
from fixed_clock import NOW
from sqlalchemy import Connection, Table, insert, select

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
EARLIER = NOW - HOUR
BATCH = 200
"""Number of rows that a round takes."""
CAPTURED = ("captured", "used", "refunding", "refunded")
numbers = count(1)


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


def disputed(dispute: str, **disputes: str) -> dict[str, Any]:
    """Columns of a payment with these disputes, of which the last was told last."""
    return {"dispute": dispute, "dispute_id": [*disputes][-1], "disputes": disputes}


def dispute(outcome: Any, dispute_id: str, connection: Connection, payment: Payment) -> str | None:
    news = DisputeNews(payment.gateway_payment_id or "", dispute_id, outcome)
    return store.dispute(connection, "razorpay", news)


IS_PAID = {"gateway_payment_id": "pay_new", "paid_at": EARLIER, "state": "captured"}


def changed(payment: Payment, values: dict[str, Any]) -> Payment:
    seal = {"seal": f"seal of {payment.id}"} if "seal" in values else {}
    return replace(payment, **(values | seal | {"updated_at": NOW}))


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


def many(connection: Connection, state: str, column: str, of_refund: bool = False) -> list[UUID]:
    """Stores one more than a round takes, in no order. Returns their ids by the time of a column, oldest first."""
    for method in ("indexscan", "indexonlyscan", "bitmapscan"):  # which give rows in an order that nobody asked for
        connection.exec_driver_sql(f"SET LOCAL enable_{method} = off")
    user, ids = add_user(connection), [uuid4() for _ in range(BATCH + 1)]
    ids.sort(key=str)  # so not in the order of their times
    rows = []
    for number, payment in enumerate(ids):
        row: dict[str, Any] = {"id": payment, "user_id": user, "purpose": "booking", "amount_inr": 10, "state": state}
        row |= {"gateway": "razorpay", "gateway_order_id": f"many_{number}", "expires_at": NOW, "usable_until": NOW}
        row |= {"gateway_payment_id": f"many_{number}" if state in CAPTURED else None}
        row |= {"operation_key": f"many_{number}" if state == "used" else None}
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

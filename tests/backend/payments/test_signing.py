"""INV-21 where it counts: the platform signs an order only if a captured payment is used for exactly that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from app.core.errors import PaymentUnusable
from app.db.tables import operations
from app.db.tables import payments as table
from app.services.operation_types import Operation
from app.services.operations import create
from backend_environment import BackendEnvironment
from payments_environment import PaymentsEnvironment
from sqlalchemy import delete, insert, select, update


def prepare(payments: PaymentsEnvironment, run: UUID) -> tuple[UUID, Operation]:
    """A booking that is paid for, and is not signed yet."""
    payment = payments.quote(run)
    payments.pay(payment)
    operation = payments.services.bookings.prepare_book(run, payment.user_id, 1, quote_id=payment.id)
    return payment.id, operation


def change(payments: PaymentsEnvironment, payment: UUID, **values: Any) -> None:
    """Changes a payment's row as somebody does who can write into the database."""
    with payments.backend.database.transaction() as connection:
        connection.execute(update(table).where(table.c.id == payment).values(values))


def forget(payments: PaymentsEnvironment, payment: UUID) -> None:
    with payments.backend.database.transaction() as connection:
        connection.execute(delete(table).where(table.c.id == payment))


def swap(payments: PaymentsEnvironment, payment: UUID) -> None:
    """The payment of a cheaper booking of somebody else is said to pay for this one."""
    key = payments.payments.get(payment).operation_key
    other = payments.quote(payments.open_run().id, user="no_show")
    payments.pay(other)
    change(payments, payment, operation_key=None, state="captured")
    change(payments, other.id, operation_key=key, state="used")


CHANGES: dict[str, tuple[Callable[[PaymentsEnvironment, UUID], None], str]] = {
    "no payment": (forget, "no payment was captured for it"),
    "given back": (lambda p, i: change(p, i, state="refunding"), "is refunding"),
    "charged back": (lambda p, i: change(p, i, dispute="lost"), "is disputed"),
    "disputed": (lambda p, i: change(p, i, dispute="open"), "is disputed"),
    "another capture": (lambda p, i: change(p, i, gateway_payment_id="pay_forged"), "was not recorded by this service"),
    "another amount": (lambda p, i: change(p, i, amount_inr=Decimal("1.00")), "was not recorded by this service"),
    "another stake": (lambda p, i: change(p, i, stake_wei=1), "was not recorded by this service"),
    "no seal": (lambda p, i: change(p, i, seal=None), "was not recorded by this service"),
    "another's": (swap, "is for something else"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_an_order_whose_payment_does_not_hold_is_not_signed(payments: PaymentsEnvironment, name: str) -> None:
    change_row, reason = CHANGES[name]
    payment, operation = prepare(payments, payments.open_run().id)
    change_row(payments, payment)
    held = payments.services.sender.step(operation)
    assert (held.state, held.nonce, held.held_cause) == ("prepared", None, "unpaid")
    assert held.held is not None
    assert reason in held.held


@pytest.mark.slow
def test_a_paid_order_is_signed(payments: PaymentsEnvironment) -> None:
    payment, operation = prepare(payments, payments.open_run().id)
    payments.services.sender.finish(operation)
    assert payments.payments.get(payment).state == "used"


def test_a_dispute_that_is_won_lets_the_order_go_on(payments: PaymentsEnvironment) -> None:
    payment, operation = prepare(payments, payments.open_run().id)
    change(payments, payment, dispute="open")
    assert payments.services.sender.step(operation).held_cause == "unpaid"
    change(payments, payment, dispute="won")
    payments.services.sender.finish(operation)


def test_an_operation_for_more_wei_than_were_paid_for_is_not_signed(payments: PaymentsEnvironment) -> None:
    """A sealed operation, as a fault of the service's own would store it."""
    backend, run = payments.backend, payments.open_run()
    assert run.blockchain_event_run_id is not None
    payment = payments.quote(run.id, 1)
    payments.pay(payment)
    call = backend.chain.book_event_call(run.blockchain_event_run_id, 2, attendee=backend.chain.custody)
    with backend.database.transaction() as connection:
        operation = create(connection, "key", "", backend.chain.sender.draft(call, None, person=payment.user_id))
    change(payments, payment.id, state="used", operation_key=operation.key)
    held = payments.services.sender.step(operation)
    assert held.held is not None
    assert "it sends 240000000000000000 wei, and its payment" in held.held


def test_a_payment_that_somebody_else_stored_is_unusable_and_goes_back(payments: PaymentsEnvironment) -> None:
    """One row in `payments` buys nothing: neither a quote at another price, nor a capture that never was."""
    run = payments.open_run()
    cheap = payments.quote(run.id)
    order = payments.payments.order(payments.payments.get(cheap.id)).order_id
    change(payments, cheap.id, quoted={"event_run_id": str(run.id), "seats": 2})
    payments.stand_in.pay(order)
    payments.deliver()
    changed = payments.get(cheap)
    assert (changed.state, changed.seal) == ("captured", None)  # its money is here
    with pytest.raises(PaymentUnusable, match="was not recorded by this service"):
        payments.book(changed)

    forged = payments.quote(run.id)
    change(payments, forged.id, state="captured", gateway_payment_id="pay_never_was")
    with pytest.raises(PaymentUnusable, match="was not recorded by this service"):
        payments.book(payments.get(forged))
    with payments.backend.database.transaction() as connection:
        columns = {name: getattr(changed, name) for name in table.c.keys() if name not in ("id", "seal")}  # noqa: SIM118
        columns |= {"gateway_order_id": None, "gateway_payment_id": "pay_inserted", "seal": "00" * 32}
        inserted = connection.execute(insert(table).values(columns).returning(table.c.id)).scalar_one()
    with pytest.raises(PaymentUnusable, match="was not recorded by this service"):
        payments.book(payments.payments.get(inserted))


def test_a_booking_of_before_there_were_payments_expires(
    payments: PaymentsEnvironment, backend: BackendEnvironment
) -> None:
    """Payments are switched on while an order is not signed yet."""
    run = payments.open_run()
    assert run.blockchain_event_run_id is not None
    call = backend.chain.book_event_call(run.blockchain_event_run_id, 1, attendee=backend.chain.custody)
    with backend.database.transaction() as connection:
        operation = create(connection, "key", "", backend.chain.sender.draft(call, None))
    held = backend.chain.sender.step(operation)
    assert held.held_cause == "unpaid"
    with backend.database.transaction() as connection:
        late = operations.c.held_at - timedelta(hours=1)
        connection.execute(update(operations).where(operations.c.key == operation.key).values(held_at=late))
    rejected = backend.chain.sender.step(held)
    assert rejected.error is not None
    assert (rejected.state, rejected.error["code"]) == ("rejected", "expired")


def test_exits_need_no_payment(payments: PaymentsEnvironment) -> None:
    run = payments.open_run()
    payment, booking = payments.paid_booking(run.id)
    change(payments, payment.id, dispute="lost")
    payments.services.bookings.cancel(booking)
    assert payments.services.bookings.get(booking).status == "cancelled"
    with payments.backend.database.autocommit() as connection:
        assert connection.execute(select(operations.c.held).where(operations.c.held.is_not(None))).all() == []

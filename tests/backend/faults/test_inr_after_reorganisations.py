"""No INR go back for what a block decided that is not final: rows 8, 16, 17 and 33 with payments in INR."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import pytest
from app.bootstrap.services import Services, build_services
from app.core.errors import ChainUnavailable
from app.db.tables import users
from app.services.operation_types import Operation
from app.services.payments.gateway import ManualGateway
from app.services.payments.service import PaymentService
from app.services.payments.types import Payment
from fault_environment import FaultEnvironment
from payments_environment import AT_ONCE
from sqlalchemy import insert

pytestmark = pytest.mark.slow


@dataclass
class _Paid:
    """An open run, and services that take payments by hand."""

    env: FaultEnvironment
    run: UUID
    services: Services
    payments: PaymentService

    def order(self, user_id: UUID) -> tuple[Payment, Operation]:
        """Pays for two seats, and orders them."""
        _, payment = self.services.bookings.quote_to_pay(self.run, user_id, 2)
        assert payment is not None
        self.payments.order(payment)
        self.payments.record_capture(payment.id, f"UTR-{payment.id}", payment.amount_inr)
        return payment, self.services.bookings.prepare_book(self.run, user_id, 2, quote_id=payment.id)

    def rounds(self, count: int = 1) -> None:
        for _ in range(count):
            self.services.reconciler.run_once(timedelta(0))


@pytest.fixture
def paid(environment: FaultEnvironment) -> _Paid:
    env = environment
    run = env.open_run()
    payments = PaymentService(env.database, ManualGateway(), env.services.sender.sealer, AT_ONCE)
    services = build_services(env.w3, env.database, env.services.chain, env.services.pricing, payments=payments)
    env.opened.append(services)
    env.mine(8)
    services.reconciler.run_once(timedelta(0))
    return _Paid(env, run, services, payments)


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_nonce_that_another_transaction_used_decides_when_its_block_is_final(paid: _Paid, comes_back: bool) -> None:
    env = paid.env
    payment, order = paid.order(env.ids["attendee"])
    order = env.follow(order)
    env.mine(1)
    order = env.follow(order)
    assert order.state == "mined"
    assert order.nonce is not None
    ours = order.attempts[-1].raw_transaction
    env.reorg(1, (env.sign_foreign(order.nonce), 0))
    env.mine(5)
    paid.rounds(3)
    assert env.find(order).state == "failed"
    assert paid.payments.refund_of(payment.id) is None
    if comes_back:  # the branch with the booking wins again
        env.reorg(7, (ours, 0))
    env.mine(80)
    paid.rounds(4)
    assert env.created()["bookings"] == comes_back
    assert env.find(order).state == ("confirmed" if comes_back else "failed")
    refund = paid.payments.refund_of(payment.id)
    assert (refund and refund.cause) == (None if comes_back else "no_effect")


@pytest.mark.parametrize("cancelled", ["booking", "run"])
def test_a_cancellation_that_was_undone_is_no_reason_while_its_run_can_not_be_read(
    paid: _Paid, cancelled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = paid.env
    with env.database.transaction() as connection:  # without a wallet: the contract pays to custody
        row = {"name": "w", "wallet_address": None}
        walletless = connection.execute(insert(users).returning(users.c.id), row).scalar_one()
    payment, order = paid.order(walletless)
    booking = env.settle(order).subject
    assert booking is not None
    env.mine(80)
    paid.rounds()
    services = paid.services
    is_run = cancelled == "run"
    cancel = services.runs.prepare_cancel(paid.run) if is_run else services.bookings.prepare_cancel(booking)
    cancel = env.settle(cancel)
    paid.rounds()
    assert services.bookings.get(booking).status == "cancelled"
    assert paid.payments.refund_of(payment.id) is None
    env.reorg(8)

    def is_down(*_: object) -> None:
        raise ChainUnavailable("event run: the node does not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(services.runs, "refresh", is_down)
        paid.rounds()
    assert env.find(cancel).state == "submitted"
    assert paid.payments.refund_of(payment.id) is None
    env.mine(80)
    paid.rounds(3)
    env.mine(80)
    paid.rounds(2)
    refund = paid.payments.refund_of(payment.id)  # its bytes were sent again
    assert refund is not None
    assert (env.find(cancel).state, refund.cause) == ("confirmed", "cancelled")

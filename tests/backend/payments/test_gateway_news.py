"""News of a gateway about several disputes, and of payments whose webhooks were lost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from app.core.errors import GatewayUnavailable, InvalidRequest
from app.services.payments.gateway import Capture, DisputeNews, ManualGateway
from app.services.payments.service import MAX_UNANSWERED
from app.services.payments.types import Payment
from payments_environment import SLOW_TO_BOOK, SLOW_TO_PAY, PaymentsEnvironment


@pytest.fixture
def run(payments: PaymentsEnvironment) -> UUID:
    return payments.open_run(seats=20).id


# ---------------------------------------------------------------------------------------------------------- disputes


@pytest.mark.parametrize(
    ("news", "dispute"),
    [
        ("d1 open, d2 open, d1 won", "open"),
        ("d2 open, d1 open, d1 won", "open"),
        ("d1 open, d1 won, d2 open", "open"),
        ("d1 open, d2 open, d1 won, d2 won", "won"),
        ("d1 open, d2 open, d1 lost, d2 won", "lost"),
        ("d1 lost, d2 open", "lost"),
        ("d1 won, d1 open", "won"),
        ("d1 lost, d1 won", "lost"),
        ("d1 won, d1 lost", "won"),
        ("d1 open, d1 open", "open"),
    ],
)
def test_of_several_disputes_the_worst_decides(
    payments: PaymentsEnvironment, run: UUID, news: str, dispute: str
) -> None:
    payment = payments.quote(run)
    payments.pay(payment)
    gateway_payment_id = payments.get(payment).gateway_payment_id
    assert gateway_payment_id is not None
    for dispute_id, outcome in (each.split() for each in news.split(", ")):
        payments.payments.receive(DisputeNews(gateway_payment_id, dispute_id, outcome))  # type: ignore[arg-type]
    assert payments.get(payment).dispute == dispute
    payments.age(payment, SLOW_TO_BOOK)
    payments.round()
    assert (payments.payments.refund_of(payment.id) is not None) == (dispute == "won")


# ------------------------------------------------------------------------------------------------ payments that expire


def _overdue(payments: PaymentsEnvironment, run: UUID, *, paid: bool) -> tuple[Payment, str]:
    """A quote that was to be paid until now, and its order; of one that is paid, the webhook was lost."""
    payment = payments.quote(run)
    order_id = payments.payments.order(payments.get(payment)).order_id
    if paid:
        payments.stand_in.pay(order_id)
    payments.age(payment, SLOW_TO_PAY)
    return payment, order_id


@pytest.mark.parametrize("strange", [1, MAX_UNANSWERED - 1, MAX_UNANSWERED, MAX_UNANSWERED + 2])
def test_an_answer_that_can_not_be_read_keeps_nobody_else_waiting(
    payments: PaymentsEnvironment, run: UUID, strange: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_strange = [_overdue(payments, run, paid=False) for _ in range(strange)]
    paid, _ = _overdue(payments, run, paid=True)
    gateway, asked = payments.payments.gateway, list[str]()
    captures = gateway.captures

    def cut_short(order_id: str) -> list[Capture]:
        asked.append(order_id)
        if order_id in [order for _, order in of_strange]:
            raise GatewayUnavailable("The payment gateway answers without amount.")
        return captures(order_id)

    monkeypatch.setattr(gateway, "captures", cut_short)
    problems = payments.payments.run_round(0)
    assert len(problems) == min(strange, MAX_UNANSWERED)
    for _ in range(2):
        payments.payments.run_round(0)
    assert payments.get(paid).state in ("captured", "refunding", "refunded")
    assert {payments.get(each).state for each, _ in of_strange} == {"created"}  # whether they are paid is not known
    asked.clear()
    payments.payments.run_round(0)
    assert len(asked) == min(strange, MAX_UNANSWERED)  # a gateway that is down is not asked for all of them


def test_payments_of_another_gateway_do_not_expire_unasked(payments: PaymentsEnvironment, run: UUID) -> None:
    payment, _ = _overdue(payments, run, paid=True)
    not_begun = payments.quote(run)
    payments.age(not_begun, SLOW_TO_PAY)
    razorpay, payments.payments.gateway = payments.payments.gateway, ManualGateway()
    payments.payments.run_round(0)
    assert (payments.get(payment).state, payments.get(not_begun).state) == ("created", "expired")
    payments.payments.gateway = razorpay
    payments.payments.run_round(0)
    assert payments.get(payment).state != "created"


@pytest.mark.parametrize("ordered", [False, True])
def test_a_late_payment_by_hand_is_recorded_and_goes_back(
    payments: PaymentsEnvironment, run: UUID, ordered: bool
) -> None:
    service: Any = payments.payments
    service.gateway = ManualGateway()
    payment, other = payments.quote(run), payments.quote(run)
    if ordered:
        service.order(payments.get(payment))
    for each in (payment, other):
        payments.age(each, timedelta(hours=3))
    service.run_round(0)
    assert payments.get(payment).state == "expired"
    assert service.record_capture(payment.id, "UTR1", payment.amount_inr).state == "captured"
    with pytest.raises(InvalidRequest, match="another payment's"):
        service.record_capture(other.id, "UTR1", other.amount_inr)
    service.run_round(0)
    refund = service.refund_of(payment.id)
    assert (refund.cause, refund.amount_inr) == ("late", payment.amount_inr)

"""What the gateway answers is believed only if it is what it promises."""

from __future__ import annotations

import pytest
from app.core.errors import GatewayUnavailable
from payments_environment import PaymentsEnvironment


@pytest.mark.parametrize(
    ("field", "answer", "reason"),
    [
        ("amount", 2_400_000.5, "no whole number of paise"),
        ("amount", "2400000", "no whole number of paise"),
        ("amount", True, "no whole number of paise"),
        ("created_at", None, "without its time"),
        ("created_at", "1700000000", "without its time"),
        ("id", "", "without id"),
        ("id", 7, "without id"),
    ],
)
def test_a_malformed_payment_is_not_recorded(
    payments: PaymentsEnvironment, field: str, answer: object, reason: str
) -> None:
    payment = payments.quote(payments.open_run().id)
    order = payments.payments.order(payment.id)
    paid = payments.stand_in.pay(order.order_id)
    right = paid[field]
    paid[field] = answer
    with pytest.raises(GatewayUnavailable, match=reason):
        payments.payments.gateway.captures(order.order_id)
    paid[field] = right
    (capture,) = payments.payments.gateway.captures(order.order_id)
    assert (capture.order_id, capture.payment_id) == (order.order_id, paid["id"])
    assert capture.amount * 100 == paid["amount"]
    assert capture.paid_at.timestamp() == paid["created_at"]

"""What the gateway answers is believed only if it is what it promises."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from app.core.errors import GatewayRefused, GatewayUnavailable
from app.services.payments.razorpay import RazorpayGateway
from payments_environment import PaymentsEnvironment
from pydantic import SecretStr


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def answering() -> Iterator[tuple[RazorpayGateway, dict[str, Any]]]:
    """A gateway, and what the server that stands for it answers next."""
    answer: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answer["body"]
            self.send_response(answer["status"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield RazorpayGateway("key", SecretStr("secret"), SecretStr("webhooks"), url), answer
        server.shutdown()


ERROR = json.dumps({"error": {"code": "BAD_REQUEST_ERROR", "description": "no such order"}}).encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        *((status, ERROR, GatewayUnavailable) for status in (401, 403, 408, 409, 429, 500, 503, 599)),
        *((status, ERROR, GatewayRefused) for status in (400, 404, 422)),
        (200, b"<html>", GatewayUnavailable),
        (200, b"[]", GatewayUnavailable),
        (200, b"{}", GatewayUnavailable),
    ],
)
def test_only_a_clear_no_is_a_refusal(
    answering: tuple[RazorpayGateway, dict[str, Any]], status: int, body: bytes, error: type[Exception]
) -> None:
    """What may be another time is asked again, so that no refund is given up."""
    gateway, answer = answering
    answer |= {"status": status, "body": body}
    with pytest.raises(error):
        gateway.captures("order_1")

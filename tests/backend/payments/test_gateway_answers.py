"""What the gateway answers is believed only if it is what it promises."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import pytest
import requests
from app.core.errors import GatewayRefused, GatewayUnavailable
from app.services.payments.gateway import Capture, DisputeNews, Failure, News, RefundNews
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
    order = payments.payments.order(payments.payments.get(payment.id))
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
            self.send_header("Location", "/elsewhere")
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
        *((400, ERROR.replace(b"BAD_REQUEST", code), GatewayUnavailable) for code in (b"GATEWAY", b"SERVER")),
        (200, b"<html>", GatewayUnavailable),
        (200, b"[]", GatewayUnavailable),
        (200, b"{}", GatewayUnavailable),
        (302, b"", GatewayUnavailable),
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


def test_a_gateway_that_nobody_reaches_is_unavailable() -> None:
    gateway = RazorpayGateway("key", SecretStr("secret"), SecretStr("webhooks"), "http://127.0.0.1:9")
    with pytest.raises(GatewayUnavailable, match=r"^The payment gateway does not answer: ConnectionError\.$"):
        gateway.captures("order_1")


def entity(**values: Any) -> dict[str, Any]:
    return {"entity": {"id": "id_1", "payment_id": "pay_1", "order_id": "order_1"} | PAYMENT | values}


PAYMENT = {"amount": 101, "currency": "USD", "created_at": 1_750_000_000}
CAPTURE = Capture("order_1", "id_1", Decimal("1.01"), "USD", datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC))


@pytest.mark.parametrize(
    ("event", "of", "values", "news"),
    [
        ("payment.captured", "payment", {}, CAPTURE),
        ("order.paid", "payment", {}, CAPTURE),
        ("order.paid", "payment", {"order_id": None}, None),  # of something else that the account sells
        ("payment.failed", "payment", {}, Failure("order_1")),
        ("payment.failed", "payment", {"order_id": None}, None),
        ("payment.authorized", "payment", {}, None),
        ("refund.processed", "refund", {}, RefundNews("id_1", "done")),
        ("refund.failed", "refund", {}, RefundNews("id_1", "failed")),
        ("refund.created", "refund", {}, None),
        ("payment.dispute.created", "dispute", {}, DisputeNews("pay_1", "id_1", "open")),
        ("payment.dispute.under_review", "dispute", {}, DisputeNews("pay_1", "id_1", "open")),
        ("payment.dispute.action_required", "dispute", {}, DisputeNews("pay_1", "id_1", "open")),
        ("payment.dispute.won", "dispute", {}, DisputeNews("pay_1", "id_1", "won")),
        ("payment.dispute.closed", "dispute", {}, DisputeNews("pay_1", "id_1", "won")),
        ("payment.dispute.lost", "dispute", {}, DisputeNews("pay_1", "id_1", "lost")),
    ],
)
def test_what_a_webhook_says(event: str, of: str, values: dict[str, Any], news: News | None) -> None:
    gateway = RazorpayGateway("key", SecretStr("secret"), SecretStr("webhooks"))
    body = json.dumps({"event": event, "payload": {of: entity(**values)}}).encode()
    signature = hmac.new(b"webhooks", body, hashlib.sha256).hexdigest()
    assert gateway.read_webhook(body, {"x-razorpay-signature": signature}) == news


@pytest.mark.parametrize(
    ("status", "outcome"), [("processed", "done"), ("failed", "failed"), ("pending", "pending"), ("queued", "pending")]
)
def test_what_became_of_a_refund(answering: tuple[RazorpayGateway, dict[str, Any]], status: str, outcome: str) -> None:
    """What is not known is asked again."""
    gateway, answer = answering
    answer |= {"status": 200, "body": json.dumps({"id": "refund_1", "status": status}).encode()}
    assert gateway.refund_outcome("refund_1") == outcome
    refunds = [{"id": name, "receipt": name, "status": status} for name in ("refund_0", "refund_1")]
    answer |= {"body": json.dumps({"items": refunds}).encode()}
    assert gateway.find_refund("pay_1", "refund_1") == RefundNews("refund_1", outcome)  # type: ignore[arg-type]
    assert gateway.find_refund("pay_1", "refund_2") is None


def test_only_what_is_captured_counts(answering: tuple[RazorpayGateway, dict[str, Any]]) -> None:
    gateway, answer = answering
    items = [entity(captured=captured)["entity"] for captured in (True, False, "true", None)]
    answer |= {"status": 200, "body": json.dumps({"items": items}).encode()}
    assert gateway.captures("order_1") == [CAPTURE]


def test_an_answer_that_is_too_long_is_not_read(answering: tuple[RazorpayGateway, dict[str, Any]]) -> None:
    gateway, answer = answering
    answer |= {"status": 200, "body": b'{"items": []}'.ljust(1_000_000)}
    assert gateway.captures("order_1") == []
    answer |= {"body": answer["body"] + b" "}
    with pytest.raises(GatewayUnavailable, match="answers 200 without JSON"):
        gateway.captures("order_1")


@pytest.mark.parametrize(
    ("request_of", "sent"),
    [
        (lambda gateway: gateway.check(), ("GET", "/v1/orders", {"count": 1})),
        (
            lambda gateway: gateway.create_order(UUID(int=7), Decimal("24000.01")),
            (
                *("POST", "/v1/orders"),
                {"amount": 2_400_001, "currency": "INR", "receipt": str(UUID(int=7)), "payment_capture": True},
            ),
        ),
        (lambda gateway: gateway.captures("order_1"), ("GET", "/v1/orders/order_1/payments", {})),
        (
            lambda gateway: gateway.refund("pay_1", Decimal("1.50"), "key_1", is_repeated=False),
            ("POST", "/v1/payments/pay_1/refund", {"amount": 150, "speed": "normal", "receipt": "key_1"}),
        ),
        (lambda gateway: gateway.find_refund("pay_1", "key_1"), ("GET", "/v1/payments/pay_1/refunds", {"count": 100})),
        (lambda gateway: gateway.refund_outcome("refund_1"), ("GET", "/v1/refunds/refund_1", {})),
    ],
    ids=["check", "create_order", "captures", "refund", "find_refund", "refund_outcome"],
)
def test_what_the_gateway_is_asked(
    monkeypatch: pytest.MonkeyPatch, request_of: Callable[[RazorpayGateway], object], sent: tuple[str, str, object]
) -> None:
    """Each request has the key, a time limit, and follows no redirect; a refund has its idempotency key."""
    asked: list[tuple[str, str, object]] = []

    def request(session: requests.Session, method: str, url: str, **options: Any) -> requests.Response:
        data = options.get("data") or options.get("params") or {}
        asked.append((method, url, json.loads(data) if isinstance(data, str) else data))
        assert (options["timeout"], options["allow_redirects"]) == (10, False)
        assert options["auth"] == ("key", "secret")
        is_refund = method == "POST" and url.endswith("/refund")
        assert options.get("headers", {}).get("X-Refund-Idempotency") == ("key_1" if is_refund else None)
        response = requests.Response()
        response.status_code, response._content = 200, b'{"id": "id_1", "items": []}'
        return response

    monkeypatch.setattr(requests.Session, "request", request)
    request_of(RazorpayGateway("key", SecretStr("secret"), SecretStr("webhooks"), "http://gateway"))
    method, path, data = sent
    assert asked == [(method, f"http://gateway{path}", data)]

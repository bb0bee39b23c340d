"""Razorpay, by its official client. Amounts of its API are in paise."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import razorpay
import requests
from pydantic import SecretStr
from razorpay.errors import BadRequestError, GatewayError, ServerError

from app.core.errors import ForgedWebhook, GatewayRefused, GatewayUnavailable, InvalidRequest
from app.services.payments.gateway import (
    CURRENCY,
    Capture,
    DisputeNews,
    DisputeOutcome,
    Failure,
    News,
    Order,
    RefundNews,
    RefundOutcome,
)
from app.services.payments.types import paise

API_URL = "https://api.razorpay.com"
SIGNATURE_HEADER = "x-razorpay-signature"
TIMEOUT_S = 10.0
MAX_BYTES = 1_000_000
_DISPUTES: dict[str, DisputeOutcome] = {
    "payment.dispute.created": "open",
    "payment.dispute.under_review": "open",
    "payment.dispute.action_required": "open",
    "payment.dispute.won": "won",
    "payment.dispute.closed": "won",
    "payment.dispute.lost": "lost",
}
_REFUNDS: dict[str, RefundOutcome] = {"processed": "done", "failed": "failed", "pending": "pending"}


class _Session(requests.Session):
    """A session for the client, which has no time-out, and prints what goes wrong to the standard output."""

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """Sends a request. Raises `GatewayUnavailable` unless there is an answer in JSON."""
        options: dict[str, Any] = kwargs | {"timeout": TIMEOUT_S, "allow_redirects": False}
        try:
            response = super().request(method, url, *args, **options)
        except requests.RequestException as error:
            raise GatewayUnavailable(f"The payment gateway does not answer: {type(error).__name__}.") from None
        try:
            answer = json.loads(response.content) if len(response.content) <= MAX_BYTES else None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise GatewayUnavailable(f"The payment gateway answers {response.status_code} without JSON.")
        if response.status_code == 401:
            raise GatewayUnavailable("The payment gateway does not take the API key.")
        if response.status_code in (403, 408, 409, 429) or response.status_code >= 500:
            raise GatewayUnavailable(f"The payment gateway answers {response.status_code}.")
        return response


class RazorpayGateway:
    """Takes payments at Razorpay. Its account has to capture payments automatically, and to send its webhooks.

    Attributes:
        name: `razorpay`.
        key_id: Public id of the API key, for the checkout in a browser.

    Args:
        key_id: Id of the API key.
        key_secret: Its secret.
        webhook_secret: Secret with which webhooks are signed.
        url: URL of the API.
    """

    name = "razorpay"

    def __init__(self, key_id: str, key_secret: SecretStr, webhook_secret: SecretStr, url: str = API_URL) -> None:
        self.key_id = key_id
        self._key_secret, self._webhook_secret, self._url = key_secret, webhook_secret, url

    def check(self) -> None:
        """Checks that the gateway answers and takes the keys; has no effect."""
        self._call(lambda client: client.order.all({"count": 1}))

    def create_order(self, payment_id: UUID, amount_inr: Decimal) -> Order:
        """Creates an order, whose payments are captured as soon as they are authorized."""
        data = {
            "amount": paise(amount_inr),
            "currency": CURRENCY,
            "receipt": str(payment_id),
            "payment_capture": True,
        }
        order = self._call(lambda client: client.order.create(data=data))
        return Order(_text(order, "id"), self.key_id)

    def captures(self, order_id: str) -> list[Capture]:
        """Returns the captured payments of an order."""
        answer = self._call(lambda client: client.order.payments(order_id))
        payments = answer.get("items")
        if not isinstance(payments, list):
            raise GatewayUnavailable("The payment gateway answers without a list of payments.")
        return [_capture(payment) for payment in payments if payment.get("captured") is True]

    def refund(self, payment_id: str, amount_inr: Decimal, key: str, *, is_repeated: bool) -> RefundNews | None:
        """Gives money back, with the key as idempotency key and as receipt."""
        if is_repeated and (known := self.find_refund(payment_id, key)):
            return known  # how long the gateway keeps idempotency keys is not known
        data = {"amount": paise(amount_inr), "speed": "normal", "receipt": key}
        headers = {"X-Refund-Idempotency": key}
        return _refund(self._call(lambda client: client.payment.refund(payment_id, data, headers=headers)))

    def find_refund(self, payment_id: str, key: str) -> RefundNews | None:
        """Returns the refund of a payment that was asked for with a key; None if the gateway has none."""
        answer = self._call(lambda client: client.payment.fetch_multiple_refund(payment_id, data={"count": 100}))
        return next((_refund(known) for known in answer.get("items", []) if known.get("receipt") == key), None)

    def refund_outcome(self, refund_id: str) -> RefundOutcome:
        """Returns what became of a refund."""
        return _refund(self._call(lambda client: client.refund.fetch(refund_id))).outcome

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> News | None:
        """Returns what a webhook says; None if it says nothing that matters."""
        secret = self._webhook_secret.get_secret_value().encode()
        expected = hmac.new(secret, body, hashlib.sha256).hexdigest()
        # bytes, as the client's own function raises TypeError for a signature that is not ASCII
        if not hmac.compare_digest(expected.encode(), headers.get(SIGNATURE_HEADER, "").encode()):
            raise ForgedWebhook("The webhook is not signed with the secret of this service.")
        try:
            return _news(json.loads(body))
        except (ValueError, KeyError, TypeError, AttributeError, GatewayUnavailable):
            raise InvalidRequest("The webhook is signed, and its content can't be understood.") from None

    def _call(self, request: Any) -> dict[str, Any]:
        """Sends a request with a client of its own: the client's session is not made for several threads."""
        with _Session() as session:
            secret = self._key_secret.get_secret_value()
            client = razorpay.Client(session=session, auth=(self.key_id, secret), base_url=self._url)
            try:
                answer: dict[str, Any] = request(client)
            except BadRequestError as error:
                raise GatewayRefused(f"The payment gateway refuses it: {error}") from None
            except (GatewayError, ServerError) as error:
                raise GatewayUnavailable(f"The payment gateway answers an error: {error}") from None
        return answer


def _news(event: dict[str, Any]) -> News | None:
    name, payload = event["event"], event.get("payload", {})
    if name in ("payment.captured", "order.paid"):
        payment = payload["payment"]["entity"]
        return _capture(payment) if payment.get("order_id") else None  # a payment without an order is not ours
    if name == "payment.failed":
        order_id = payload["payment"]["entity"].get("order_id")
        return Failure(str(order_id)) if order_id else None
    if name in ("refund.processed", "refund.failed"):
        return RefundNews(_text(payload["refund"]["entity"], "id"), _REFUNDS[name.partition(".")[2]])
    if name in _DISPUTES:
        dispute = payload["dispute"]["entity"]
        return DisputeNews(_text(dispute, "payment_id"), _text(dispute, "id"), _DISPUTES[name])
    return None


def _capture(payment: dict[str, Any]) -> Capture:
    paid_at = payment.get("created_at")
    if type(paid_at) is not int:
        raise GatewayUnavailable("The payment gateway answers a payment without its time.")
    amount = _rupees(payment.get("amount"))
    ids = (_text(payment, "order_id"), _text(payment, "id"))
    return Capture(*ids, amount, _text(payment, "currency"), datetime.fromtimestamp(paid_at, UTC))


def _refund(refund: dict[str, Any]) -> RefundNews:
    return RefundNews(_text(refund, "id"), _REFUNDS.get(refund.get("status", ""), "pending"))


def _text(entity: dict[str, Any], name: str) -> str:
    value = entity.get(name)
    if not isinstance(value, str) or not value:
        raise GatewayUnavailable(f"The payment gateway answers without {name}.")
    return value


def _rupees(paise: Any) -> Decimal:
    if type(paise) is not int:
        raise GatewayUnavailable("The payment gateway answers an amount that is no whole number of paise.")
    return Decimal(paise).scaleb(-2)

"""A stand-in for Razorpay on this machine: orders, payments, refunds and disputes by its API, and its signed webhooks.

People pay, dispute and so on by the methods of `RazorpayStandIn`, and by `POST /pay/{order}` without a key, in place of
the gateway's own page. It sends webhooks only when `deliver` is called, so a test decides when, in which order and how
often they come; `stakesim serve` has `delivering` send them at once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

SIGNATURE_HEADER = "X-Razorpay-Signature"
DELIVERY_PAUSE_S = 0.1
"""Seconds after which `delivering` looks for new webhooks, and tries again."""
Entity = dict[str, Any]


class Refused(Exception):
    """The API refuses a request, as BAD_REQUEST_ERROR unless there is another status."""

    def __init__(self, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.status = status


@dataclass(frozen=True)
class Webhook:
    """A webhook as it is sent: the raw body, and the headers with its signature."""

    body: bytes
    headers: dict[str, str]

    @property
    def event(self) -> str:
        """Name of the event."""
        return str(json.loads(self.body)["event"])


@dataclass
class RazorpayStandIn:
    """The gateway's state. All methods may be called by several threads.

    Attributes:
        key_id: Id of the API key.
        key_secret: Its secret.
        webhook_secret: Secret with which webhooks are signed.
        clock: Returns the seconds since 1970.
        fails: Number of requests that get 502 from now on; each second one is carried out nevertheless.
        pending_refunds: Whether refunds are carried out only by `process_refund`.
        number: Number of the latest id. The same ids come again with the same start.
        webhooks: All webhooks, in the order of their events.
        refunded_before_news: Payments that were given back before the service had news of a dispute of them.
    """

    key_id: str = "rzp_test_stand_in"
    key_secret: str = "stand-in-key-secret"
    webhook_secret: str = "stand-in-webhook-secret"
    clock: Callable[[], float] = time.time
    fails: int = 0
    pending_refunds: bool = False
    number: int = 0
    orders: dict[str, Entity] = field(default_factory=dict)
    payments: dict[str, Entity] = field(default_factory=dict)
    refunds: dict[str, Entity] = field(default_factory=dict)
    refunded_before_news: set[str] = field(default_factory=set)
    webhooks: list[Webhook] = field(default_factory=list)
    _keys: dict[str, tuple[Entity, str]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    # ------------------------------------------------------------------------------------------------ what people do

    def pay(self, order_id: str, amount: int | None = None, currency: str | None = None) -> Entity:
        """Pays an order; a real gateway takes only its amount in its currency, and only once. Returns the payment.

        Args:
            order_id: Id of the order.
            amount: Amount in paise; the order's if None.
            currency: Currency; the order's if None.
        """
        with self._lock:
            order = self.orders[order_id]
            payment = self._payment(order, amount or order["amount"], currency or order["currency"])
            payment |= {"status": "captured", "captured": True}
            order |= {"status": "paid", "amount_paid": order["amount_paid"] + payment["amount"]}
            self._emit("payment.captured", payment=payment)
            self._emit("order.paid", payment=payment, order=order)
            return payment

    def forget(self) -> None:
        """Forgets everything, as if nobody had paid yet."""
        with self._lock:
            for kept in (self.orders, self.payments, self.refunds, self.webhooks, self._keys):
                kept.clear()
            self.refunded_before_news.clear()
            self.fails = 0

    def forged(self, order_id: str) -> list[Webhook]:
        """Returns webhooks of somebody who does not know the secret: an order is paid, which it is not."""
        forger = RazorpayStandIn(webhook_secret="what-a-stranger-guesses", number=self.number)
        with self._lock:
            forger.orders[order_id] = dict(self.orders[order_id])
        forger.pay(order_id)
        return forger.webhooks

    def fail(self, order_id: str) -> Entity:
        """Tries to pay an order in vain. Returns the payment."""
        with self._lock:
            order = self.orders[order_id]
            payment = self._payment(order, order["amount"], order["currency"]) | {"status": "failed"}
            self.payments[payment["id"]] = payment
            self._emit("payment.failed", payment=payment)
            return payment

    def dispute(self, payment_id: str, outcome: str = "created", dispute_id: str | None = None) -> str:
        """Opens or decides a dispute: `created`, `under_review`, `won`, `lost`. Returns the dispute's id."""
        with self._lock:
            payment = self.payments[payment_id]
            status = {"created": "open"}.get(outcome, outcome)
            entity = {"id": dispute_id or self._id("disp"), "entity": "dispute", "payment_id": payment_id}
            entity |= {"amount": payment["amount"], "currency": payment["currency"], "status": status}
            self._emit(f"payment.dispute.{outcome}", payment=payment, dispute=entity)
            return str(entity["id"])

    def process_refund(self, refund_id: str, outcome: str = "processed") -> None:
        """Carries a pending refund out, or fails to (`failed`): then the payment can be refunded again."""
        with self._lock:
            refund = self.refunds[refund_id]
            if refund["status"] != "pending":
                return
            refund["status"] = outcome
            payment = self.payments[refund["payment_id"]]
            if outcome == "failed":
                payment["amount_refunded"] -= refund["amount"]
            self._emit(f"refund.{outcome}", payment=payment, refund=refund)

    def deliver(self, url: str, webhooks: list[Webhook] | None = None) -> list[int]:
        """Sends webhooks, all if None, to a URL. Returns the HTTP statuses."""
        sent = self.webhooks if webhooks is None else webhooks
        return [requests.post(url, data=each.body, headers=each.headers, timeout=10).status_code for each in sent]

    def sign(self, event: Entity, secret: str | None = None) -> Webhook:
        """Returns an event as a webhook, signed with the secret or another one."""
        body = json.dumps(event).encode()
        key = (self.webhook_secret if secret is None else secret).encode()
        signature = hmac.new(key, body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", SIGNATURE_HEADER: signature}
        return Webhook(body, headers | {"X-Razorpay-Event-Id": hashlib.sha256(body).hexdigest()[:20]})

    # -------------------------------------------------------------------------------------------------------- the API

    def answer(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Entity]:
        """Answers a request to the API: its HTTP status and body."""
        credentials = base64.b64encode(f"{self.key_id}:{self.key_secret}".encode()).decode()
        with self._lock:
            if method == "POST" and (checkout := re.fullmatch(r"/pay/(\w+)", path)):
                return self._check_out(checkout[1])
            if headers.get("authorization") != f"Basic {credentials}":
                return 401, _error("Authentication failed")
            self.fails, is_failing = max(self.fails - 1, 0), self.fails > 0
            if is_failing and self.fails % 2 == 0:
                return 502, {}
            try:
                status, answer = 200, self._answer(method, path, body, headers)
            except Refused as error:
                status, answer = error.status, _error(str(error))
            return (502, {}) if is_failing else (status, answer)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Entity:
        """Answers a request in this process, without a key. Returns the body."""
        with self._lock:
            try:
                return self._answer(method, path, body, headers or {})
            except Refused as error:
                return _error(str(error))

    def _answer(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Entity:
        for route_method, pattern, handle in (
            ("POST", r"/v1/orders", self._create_order),
            ("GET", r"/v1/orders", self._list_orders),
            ("GET", r"/v1/orders/(\w+)/payments", self._payments_of),
            ("POST", r"/v1/payments/(\w+)/refund", self._refund),
            ("GET", r"/v1/payments/(\w+)/refunds", self._refunds_of),
            ("GET", r"/v1/refunds/(\w+)", self._find_refund),
        ):
            match = re.fullmatch(pattern, path.partition("?")[0])
            if match and method == route_method:
                answer: Entity = json.loads(json.dumps(handle(*match.groups(), body=body, headers=headers)))
                return answer
        raise Refused("The requested URL was not found on the server.")

    def _check_out(self, order_id: str) -> tuple[int, Entity]:
        """Pays an order, as a person does on the gateway's own page, which is not in its API."""
        order = self.orders.get(order_id)
        if order is None or order["status"] == "paid":
            return 400, _error("There is no such order, or it is paid.")
        return 200, json.loads(json.dumps(self.pay(order_id)))

    def _create_order(self, *, body: Any, headers: dict[str, str]) -> Entity:
        if type(body.get("amount")) is not int or body["amount"] < 100 or body.get("currency") != "INR":
            raise Refused("Order amount less than minimum amount allowed")
        order = {"id": self._id("order"), "entity": "order", "amount": body["amount"], "amount_paid": 0}
        order |= {"currency": "INR", "receipt": body.get("receipt"), "status": "created", "created_at": self._now()}
        self.orders[order["id"]] = order
        return order

    def _list_orders(self, *, body: Any, headers: dict[str, str]) -> Entity:
        return _collection(list(self.orders.values())[-10:])

    def _payments_of(self, order_id: str, *, body: Any, headers: dict[str, str]) -> Entity:
        if order_id not in self.orders:
            raise Refused("The id provided does not exist")
        return _collection([each for each in self.payments.values() if each["order_id"] == order_id])

    def _refund(self, payment_id: str, *, body: Any, headers: dict[str, str]) -> Entity:
        key, request = headers.get("x-refund-idempotency"), json.dumps([payment_id, body], sort_keys=True)
        if key in self._keys:
            known, of_request = self._keys[key]
            if of_request != request:
                raise Refused("Different request with the same idempotency key has already been processed.")
            return known
        payment = self.payments.get(payment_id)
        if payment is None or not payment["captured"]:
            raise Refused("The id provided does not exist")
        if body["amount"] > payment["amount"] - payment["amount_refunded"]:
            raise Refused("The total refund amount is greater than the refund payment amount")
        refund = {"id": self._id("rfnd"), "entity": "refund", "payment_id": payment_id, "amount": body["amount"]}
        refund |= {"currency": "INR", "receipt": body.get("receipt"), "status": "pending", "created_at": self._now()}
        self.refunds[refund["id"]] = refund
        payment["amount_refunded"] += body["amount"]
        if key is not None:
            self._keys[key] = refund, request
        self._emit("refund.created", payment=payment, refund=refund)
        if not self.pending_refunds:
            self.process_refund(refund["id"])
        return refund

    def _refunds_of(self, payment_id: str, *, body: Any, headers: dict[str, str]) -> Entity:
        return _collection([each for each in self.refunds.values() if each["payment_id"] == payment_id])

    def _find_refund(self, refund_id: str, *, body: Any, headers: dict[str, str]) -> Entity:
        if refund_id not in self.refunds:
            raise Refused("The id provided does not exist")
        return self.refunds[refund_id]

    # ----------------------------------------------------------------------------------------------------- small help

    def _payment(self, order: Entity, amount: int, currency: str) -> Entity:
        payment = {"id": self._id("pay"), "entity": "payment", "order_id": order["id"], "amount": amount}
        payment |= {"currency": currency, "status": "created", "captured": False, "amount_refunded": 0}
        payment["created_at"] = self._now()
        self.payments[payment["id"]] = payment
        return payment

    def _emit(self, event: str, **entities: Entity) -> None:
        payload = {name: {"entity": entity} for name, entity in entities.items()}
        body = {"entity": "event", "event": event, "contains": list(entities), "payload": payload}
        self.webhooks.append(self.sign(body | {"created_at": self._now()}))

    def _id(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}_{self.number:014d}"

    def _now(self) -> int:
        return int(self.clock())


def _error(description: str) -> Entity:
    return {"error": {"code": "BAD_REQUEST_ERROR", "description": description}}


def _collection(items: list[Entity]) -> Entity:
    return {"entity": "collection", "count": len(items), "items": items}


@contextmanager
def delivering(stand_in: RazorpayStandIn, url: str) -> Iterator[None]:
    """Sends each webhook to a URL meanwhile, in order, until the URL takes it."""
    ended = threading.Event()

    def deliver() -> None:
        delivered = 0
        while not ended.wait(DELIVERY_PAUSE_S):
            with suppress(requests.RequestException):
                while delivered < len(stand_in.webhooks):
                    status = stand_in.deliver(url, [stand_in.webhooks[delivered]])[0]
                    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                        break
                    delivered += 1

    thread = threading.Thread(target=deliver, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def serve_stand_in(stand_in: RazorpayStandIn, port: int = 0) -> Iterator[str]:
    """Serves the API on this machine, and yields its URL.

    Args:
        stand_in: The gateway's state.
        port: Port to listen on; 0 takes a free one.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, answer = stand_in.answer(self.command, self.path, body, headers)
            content = json.dumps(answer).encode()
            self.send_response(HTTPStatus(status))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _respond  # noqa: N815, names of the base class

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, name of the base class
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

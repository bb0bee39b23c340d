"""What a payment gateway is to the service, and the gateway of a platform that takes payments by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol
from uuid import UUID

from app.core.errors import NotFound

CURRENCY = "INR"
MIN_AMOUNT_INR = Decimal("1.00")
"""Smallest amount that gateways take."""

RefundOutcome = Literal["pending", "done", "failed"]
DisputeOutcome = Literal["open", "won", "lost"]


@dataclass(frozen=True)
class Order:
    """What a client needs to pay.

    Attributes:
        order_id: The gateway's id of the order.
        key_id: Public key of the gateway's account, for its checkout; None if the gateway has none.
    """

    order_id: str
    key_id: str | None = None


@dataclass(frozen=True)
class Capture:
    """News of a payment that was captured.

    Attributes:
        order_id: The gateway's id of the order.
        payment_id: The gateway's id of the payment.
        amount: Amount in units of the currency.
        currency: ISO 4217 code of the currency.
        paid_at: When it was paid, by the gateway's clock.
    """

    order_id: str
    payment_id: str
    amount: Decimal
    currency: str
    paid_at: datetime


@dataclass(frozen=True)
class Failure:
    """News of an attempt to pay an order that failed. Another attempt may succeed."""

    order_id: str


@dataclass(frozen=True)
class RefundNews:
    """News of a refund, by the gateway's id of it."""

    refund_id: str
    outcome: RefundOutcome


@dataclass(frozen=True)
class DisputeNews:
    """News of a dispute about a payment, by the gateway's ids; `won` and `lost` as the platform sees it."""

    payment_id: str
    dispute_id: str
    outcome: DisputeOutcome


News = Capture | Failure | RefundNews | DisputeNews


class PaymentGateway(Protocol):
    """Takes payments in INR, and gives them back.

    Methods raise `GatewayUnavailable` if nothing is known about the outcome, and `GatewayRefused` if there is none.

    Attributes:
        name: Name of the gateway, as the column `gateway` stores it.
    """

    name: str

    def check(self) -> None:
        """Checks that the gateway answers and takes the keys; has no effect."""
        ...

    def create_order(self, payment_id: UUID, amount_inr: Decimal) -> Order:
        """Creates an order of this amount; `payment_id` is its receipt. Each call creates another one."""
        ...

    def captures(self, order_id: str) -> list[Capture]:
        """Returns the captured payments of an order."""
        ...

    def refund(self, payment_id: str, amount_inr: Decimal, key: str, *, is_repeated: bool) -> RefundNews | None:
        """Gives money back: with one key once, however often it is called.

        Args:
            payment_id: The gateway's id of the payment.
            amount_inr: The amount.
            key: Idempotency key, which is also the refund's receipt.
            is_repeated: Whether the gateway may have been asked before, so that it has to be searched for the refund.

        Returns:
            The refund; None if a person has to carry it out.
        """
        ...

    def find_refund(self, payment_id: str, key: str) -> RefundNews | None:
        """Returns the refund of a payment that was asked for with a key; None if the gateway has none."""
        ...

    def refund_outcome(self, refund_id: str) -> RefundOutcome:
        """Returns what became of a refund."""
        ...

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> News | None:
        """Returns what a webhook says; None if it says nothing that matters.

        Args:
            body: The raw body.
            headers: The headers, whose names are lower case.

        Raises:
            ForgedWebhook: It is not signed with the gateway's secret.
            InvalidRequest: It is signed, and can't be understood.
        """
        ...


class ManualGateway:
    """No gateway: an operator records payments that arrived, and refunds that were made, with their references."""

    name = "manual"

    def check(self) -> None:
        """Has nothing to check."""

    def create_order(self, payment_id: UUID, amount_inr: Decimal) -> Order:
        """Returns the reference to pay with: the payment's id."""
        return Order(str(payment_id))

    def captures(self, order_id: str) -> list[Capture]:
        """Returns nothing, as an operator records captures."""
        return []

    def refund(self, payment_id: str, amount_inr: Decimal, key: str, *, is_repeated: bool) -> RefundNews | None:
        """Returns None: an operator makes the refund, and records it."""
        return None

    def find_refund(self, payment_id: str, key: str) -> RefundNews | None:
        """Returns None: an operator makes refunds."""
        return None

    def refund_outcome(self, refund_id: str) -> RefundOutcome:
        """Returns `done`, as an operator records only that."""
        return "done"

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> News | None:
        """Raises `NotFound`: nobody sends webhooks."""
        raise NotFound("There are no webhooks: an operator records payments here.")

"""Rows of `payments` and `refunds`, and the amounts of a quote."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

Seal = str | None
"""A seal, as the column `seal` stores it."""


def paise(amount_inr: Decimal) -> int:
    """Returns an amount in paise. Raises `ValueError` unless it is a whole number of them."""
    amount = amount_inr.scaleb(2)
    if amount != int(amount):
        raise ValueError(f"{amount_inr} INR are no whole paise.")
    return int(amount)


@dataclass(frozen=True)
class Payment:
    """A row of `payments`: a quote, its payment, and what became of both.

    Attributes:
        id: The quote's id.
        user_id: Who pays, and for whom the operation is.
        purpose: `booking` or `event_run`; `unexpected` for money that nobody asked for, which goes back.
        quoted: The arguments of the request that was quoted.
        inr_per_eth: Rate of the quote.
        price_wei: Of a booking, the price of all its seats in wei; of a run, that of one seat.
        stake_wei: The stake in wei.
        stake_inr: The stake in INR, at the rate of the quote.
        amount_inr: What is to be paid, in INR.
        state: One of `PAYMENT_STATES`.
        gateway: Name of the gateway.
        gateway_order_id: The gateway's id of the order; None until somebody begins to pay.
        gateway_payment_id: The gateway's id of the payment; None until it is captured.
        paid_at: When it was paid, by the gateway's clock.
        expires_at: Until when it must be paid.
        usable_until: Until when it must be used.
        operation_key: Key of the operation that it pays for.
        to_custody: Whether the contract returns what it owes to the custody address; None until it is used.
        look_at: When to find out whether something is owed; None if nothing ever will be.
        dispute: `open`, `won` or `lost`, as the platform sees it; None without a dispute. Of several disputes, one that
            is lost precedes one that is open, and this one that is won.
        dispute_id: The gateway's id of the dispute of which there were news last.
        seal: Proves that this service stored the quote, and recorded its capture; see `app.services.payments.seals`.
        disputes: Outcome of each dispute, by the gateway's id of it.
    """

    id: UUID
    user_id: UUID
    purpose: str
    quoted: dict[str, Any]
    inr_per_eth: Decimal | None
    price_wei: int | None
    stake_wei: int | None
    stake_inr: Decimal | None
    amount_inr: Decimal
    state: str
    gateway: str
    gateway_order_id: str | None
    gateway_payment_id: str | None
    paid_at: datetime | None
    expires_at: datetime
    usable_until: datetime
    operation_key: str | None
    to_custody: bool | None
    look_at: datetime | None
    dispute: str | None
    dispute_id: str | None
    seal: Seal
    created_at: datetime
    updated_at: datetime
    disputes: dict[str, str]

    @property
    def frozen_wei(self) -> tuple[int, int]:
        """Price and stake in wei, as quoted."""
        assert self.price_wei is not None
        assert self.stake_wei is not None
        return self.price_wei, self.stake_wei

    @property
    def rate(self) -> Decimal:
        """Rate of the quote in INR per ETH."""
        assert self.inr_per_eth is not None
        return self.inr_per_eth


@dataclass(frozen=True)
class Refund:
    """A row of `refunds`: what is owed of a payment.

    Attributes:
        payment_id: Id of the payment.
        amount_inr: What is owed, in INR.
        cause: Why.
        state: `due`, `requested` (the gateway has it) or `done`.
        tries: How often the gateway was asked.
        failed: How many refunds the gateway took and could not carry out.
        next_at: When to ask the gateway next; None: never.
        gateway_refund_id: The gateway's id of the refund; None while it is due.
        problem: Why the last try did not succeed.
    """

    id: UUID
    payment_id: UUID
    amount_inr: Decimal
    cause: str
    state: str
    tries: int
    failed: int
    next_at: datetime | None
    gateway_refund_id: str | None
    problem: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def key(self) -> str:
        """Idempotency key at the gateway: another one after a refund that the gateway could not carry out."""
        return f"{self.id}-{self.failed}"


class Amounts(NamedTuple):
    """What a quote freezes.

    Attributes:
        inr_per_eth: The rate.
        price_wei: Of a booking, the price of all its seats in wei; of a run, that of one seat.
        stake_wei: The stake in wei.
        stake_inr: The stake in INR.
        amount_inr: What is to be paid, in INR.
    """

    inr_per_eth: Decimal
    price_wei: int
    stake_wei: int
    stake_inr: Decimal
    amount_inr: Decimal


@dataclass(frozen=True)
class PaymentPolicy:
    """How long quotes and payments are good for.

    Attributes:
        quote_for: Time in which a quote must be paid.
        use_within: Time after the quote's expiry in which a captured payment must be used.
        look_every: Time between two looks at a used payment for which something may come due.
        ask_every: Time after which the gateway is asked again about a refund; doubled each time, up to `ask_at_most`.
        ask_at_most: Maximum of that time.
        request_ends_after: Time after which a request to the gateway has had its effect, or never will.
    """

    quote_for: timedelta = timedelta(minutes=15)
    use_within: timedelta = timedelta(hours=1)
    look_every: timedelta = timedelta(minutes=5)
    ask_every: timedelta = timedelta(minutes=1)
    ask_at_most: timedelta = timedelta(hours=1)
    request_ends_after: timedelta = timedelta(minutes=1)

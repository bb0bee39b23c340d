"""Seals of payments: whoever can write a row into the database must not make the platform pay for it.

A quote is sealed when it is stored, and sealed anew with the gateway's payment when that is captured. Only a payment
with the second seal pays for an operation. One without is captured nevertheless, so that its money goes back.
"""

from __future__ import annotations

import json
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import Connection

from app.services.operation_types import Operation
from app.services.payments import store
from app.services.payments.types import Amounts, Payment, Seal, paise

PURPOSES = {
    "createEventRun": "event_run",
    "createEventRunFor": "event_run",
    "bookEvent": "booking",
    "bookEventFor": "booking",
}
"""What pays for the functions that send wei out."""


class Sealer(Protocol):
    """Makes and checks seals, as `app.services.transactions.limits.Sealer` does."""

    address: str

    def mac(self, *parts: str | int | None) -> str:
        """Returns the seal of a list of values."""
        ...

    def is_mac(self, seal: object, sender: str, *parts: str | int | None) -> bool:
        """Returns whether a seal is that of a list of values that is about an account."""
        ...


def seal_quote(
    payment_id: UUID, user_id: UUID, purpose: str, quoted: dict[str, Any], amounts: Amounts, sealer: Sealer
) -> str:
    """Returns the seal of a quote that is about to be stored."""
    return sealer.mac(*_parts(payment_id, user_id, purpose, quoted, amounts, None))


def is_sealed(payment: Payment, sealer: Sealer) -> bool:
    """Returns whether this service stored the quote and, if it is captured, recorded its capture."""
    return sealer.is_mac(payment.seal, sealer.address, *_parts_of(payment, payment.gateway_payment_id))


def resealed(payment: Payment, gateway_payment_id: str, sealer: Sealer) -> Seal:
    """Returns the seal of a quote's capture; None if the quote is not sealed, and so can't be used."""
    return sealer.mac(*_parts_of(payment, gateway_payment_id)) if is_sealed(payment, sealer) else None


def reason_unpaid(connection: Connection, operation: Operation, sealer: Sealer) -> str | None:
    """Returns why an order of the platform is not paid for, as the end of a sentence; None if it is."""
    payment = store.find_of_operation(connection, operation.key)
    if payment is None:
        return "no payment was captured for it"
    if payment.state != "used":
        return f"its payment {payment.id} is {payment.state}"
    if payment.dispute not in (None, "won"):
        return f"its payment {payment.id} is disputed at the gateway"
    if not is_sealed(payment, sealer):
        return f"its payment {payment.id} was not recorded by this service"
    if (str(payment.user_id), payment.purpose) != (operation.person, PURPOSES.get(operation.kind)):
        return f"its payment {payment.id} is for something else"
    price_wei, stake_wei = payment.frozen_wei
    paid_wei = stake_wei if payment.purpose == "event_run" else price_wei + stake_wei
    if operation.value_wei != paid_wei:
        return f"it sends {operation.value_wei} wei, and its payment {payment.id} is for {paid_wei} wei"
    return None


def _parts_of(payment: Payment, gateway_payment_id: str | None) -> list[str | int | None]:
    quote = (payment.id, payment.user_id, payment.purpose, payment.quoted)
    return _parts(*quote, payment, gateway_payment_id)


def _parts(
    payment_id: UUID,
    user_id: UUID,
    purpose: str,
    quoted: dict[str, Any],
    amounts: Payment | Amounts,
    gateway_payment_id: str | None,
) -> list[str | int | None]:
    whose = ("payment", str(payment_id), str(user_id), purpose, json.dumps(quoted, sort_keys=True))
    return [*whose, str(amounts.price_wei), str(amounts.stake_wei), paise(amounts.amount_inr), gateway_payment_id]

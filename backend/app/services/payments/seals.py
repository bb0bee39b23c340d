"""Seals of payments: whoever can write a row into the database must not make the platform pay for it.

A quote is sealed when it is stored, and sealed anew with the gateway's payment when that is captured. Only a payment
with the second seal pays for an operation. One without is captured nevertheless, so that its money goes back.
"""

from __future__ import annotations

import json
from typing import Protocol

from sqlalchemy import Connection

from app.services.operation_types import Operation
from app.services.payments import store
from app.services.payments.types import Payment, Seal, paise

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


def seal(payment: Payment, gateway_payment_id: str | None, sealer: Sealer) -> str:
    """Returns the seal of a quote; with the gateway's id of the payment, that of a captured payment."""
    return sealer.mac(*_parts(payment, gateway_payment_id))


def is_sealed(payment: Payment, sealer: Sealer) -> bool:
    """Returns whether this service stored the quote and, if it is captured, recorded its capture."""
    return sealer.is_mac(payment.seal, sealer.address, *_parts(payment, payment.gateway_payment_id))


def resealed(payment: Payment, gateway_payment_id: str, sealer: Sealer) -> Seal:
    """Returns the seal of a quote's capture; None if the quote is not sealed, and so can't be used."""
    return seal(payment, gateway_payment_id, sealer) if is_sealed(payment, sealer) else None


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


def _parts(payment: Payment, gateway_payment_id: str | None) -> list[str | int | None]:
    quoted = json.dumps(payment.quoted, sort_keys=True)
    whose = ("payment", str(payment.id), str(payment.user_id), payment.purpose, quoted)
    return [*whose, str(payment.price_wei), str(payment.stake_wei), paise(payment.amount_inr), gateway_payment_id]

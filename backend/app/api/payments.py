"""Routes of payments: show, begin to pay, record by hand, and the gateway's webhooks."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from app.api import payment_schemas as schemas
from app.api.dependencies import AppServices, CurrentCaller, require_platform
from app.api.problem_types import READING
from app.api.problems import problem_responses
from app.api.responses import json_response
from app.bootstrap.services import Services
from app.core.errors import NotFound
from app.core.security import Caller, Forbidden
from app.services.payments.gateway import CURRENCY
from app.services.payments.service import PaymentService
from app.services.payments.types import Payment, paise

router = APIRouter(tags=["payments"])

_PAYERS = {"booking": "attendee", "event_run": "host"}
"""Role in which a person pays, by purpose."""


@router.get(
    "/payments/{payment_id}",
    response_model=schemas.Payment,
    summary="Show a payment",
    responses=problem_responses(*READING, "forbidden", "not_found"),
)
def get_payment(payment_id: UUID, services: AppServices, caller: CurrentCaller) -> Response:
    """Who pays and the platform may do this. The payment's id is the quote's."""
    payments = _payments(services)
    return _respond(payments, _own(payments, payment_id, caller))


@router.post(
    "/payments/{payment_id}/order",
    response_model=schemas.PaymentOrder,
    summary="Begin to pay a quote",
    responses=problem_responses(
        *READING, "forbidden", "not_found", "payment_unusable", "gateway_unavailable", "gateway_refused"
    ),
)
def order_payment(payment_id: UUID, services: AppServices, caller: CurrentCaller) -> Response:
    """Who pays and the platform may do this, until the quote expires. However often, it is one order.

    With Razorpay, open its checkout with `key_id` and `order_id`. With `manual`, transfer the amount with `order_id` as
    its reference. Then read the payment until it is `captured`.
    """
    payments = _payments(services)
    payment = _own(payments, payment_id, caller)
    order = payments.order(payment)
    amount = {"amount_inr": payment.amount_inr, "amount_paise": paise(payment.amount_inr), "currency": CURRENCY}
    body = {"gateway": payment.gateway, "order_id": order.order_id, "key_id": order.key_id, **amount}
    return json_response(200, schemas.PaymentOrder.model_validate(body))


@router.post(
    "/payments/{payment_id}/capture",
    response_model=schemas.Payment,
    summary="Record a payment that arrived",
    responses=problem_responses(*READING, "forbidden", "not_found"),
)
def record_capture(
    payment_id: UUID, body: schemas.CaptureRecord, services: AppServices, caller: CurrentCaller
) -> Response:
    """The platform may do this where payments are taken by hand. The same reference again has no effect."""
    require_platform(caller)
    payments = _payments(services)
    amount_inr = Decimal(body.amount_inr)
    return _respond(payments, payments.record_capture(payment_id, body.reference, amount_inr, body.paid_at))


@router.post(
    "/payments/{payment_id}/refund",
    response_model=schemas.Payment,
    summary="Record a refund that was made",
    responses=problem_responses(*READING, "forbidden", "not_found", "gateway_unavailable", "gateway_refused"),
)
def record_refund(
    payment_id: UUID, body: schemas.RefundRecord, services: AppServices, caller: CurrentCaller
) -> Response:
    """The platform may do this once a refund is due, and the gateway does not have it. It is asked no more."""
    require_platform(caller)
    payments = _payments(services)
    return _respond(payments, payments.record_refund(payment_id, body.reference))


async def _raw_body(request: Request) -> bytes:
    return await request.body()


@router.post(
    "/webhooks/razorpay",
    status_code=204,
    response_class=Response,
    summary="Receive a webhook of Razorpay",
    responses=problem_responses(
        "invalid_request", "not_found", "forged_webhook", "database_unavailable", "database_busy"
    ),
)
def receive_webhook(request: Request, body: Annotated[bytes, Depends(_raw_body)], services: AppServices) -> Response:
    """Razorpay sends what became of orders, refunds and disputes here, signed in the header `X-Razorpay-Signature`.

    It needs no token. However often and in whatever order webhooks come, each has one effect.
    """
    _payments(services).receive_webhook(body, request.headers)
    return Response(status_code=204)


def _payments(services: Services) -> PaymentService:
    if services.payments is None:
        raise NotFound("This service takes no payments.")
    return services.payments


def _own(payments: PaymentService, payment_id: UUID, caller: Caller) -> Payment:
    """Returns a payment. Raises `Forbidden` unless it is the caller's, or the caller is the platform."""
    payment = payments.get(payment_id)
    if caller.role != "platform":
        role = _PAYERS.get(payment.purpose, caller.role)
        if (caller.role, caller.id) != (role, payment.user_id):
            raise Forbidden("Only who pays and the platform may do this.")
    return payment


def _respond(payments: PaymentService, payment: Payment) -> Response:
    body = schemas.Payment.model_validate(vars(payment) | {"refund": payments.refund_of(payment.id)})
    return json_response(200, body)

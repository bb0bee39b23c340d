"""Payments over HTTP: quote, pay, create, book; who may do what; webhooks as the gateway sends them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
from api_environment import SECRET, ApiEnvironment, ApiUser, body_of, problem_of
from app.main import create_app
from app.services.payments.gateway import ManualGateway
from backend_environment import BackendEnvironment
from fastapi import FastAPI
from fastapi.testclient import TestClient
from payments_environment import SLOW_TO_BOOK, PaymentsEnvironment, open_payments
from stakesim_adapter.razorpay_stand_in import RazorpayStandIn

pytestmark = pytest.mark.slow


def api_on(payments: PaymentsEnvironment) -> ApiEnvironment:
    app = create_app(payments.services, SECRET, payments.backend.engine.w3.eth.chain_id)
    return ApiEnvironment(payments.backend, payments.services, TestClient(app))


@pytest.fixture
def api(payments: PaymentsEnvironment) -> Iterator[ApiEnvironment]:
    yield api_on(payments)
    payments.services.follower.stop()


@pytest.fixture
def by_hand(backend: BackendEnvironment) -> Iterator[ApiEnvironment]:
    payments = open_payments(backend, "", RazorpayStandIn(), gateway=ManualGateway())
    yield api_on(payments)
    payments.services.follower.stop()


def deliver(api: ApiEnvironment, stand_in: RazorpayStandIn, number: int) -> list[int]:
    """Sends the last webhooks as the gateway does."""
    client = TestClient(cast(FastAPI, api.client.app))
    return [
        client.post("/webhooks/razorpay", content=each.body, headers=each.headers).status_code
        for each in stand_in.webhooks[-number:]
    ]


def pay(api: ApiEnvironment, payments: PaymentsEnvironment, user: ApiUser, quote_id: str) -> None:
    order = body_of(user.post(f"/payments/{quote_id}/order"), 200)
    payment = body_of(user.get(f"/payments/{quote_id}"), 200)
    assert (payment["state"], payment["amount_inr"], payment["gateway_order_id"]) == (
        "created",
        order["amount_inr"],
        order["order_id"],
    )
    assert order["amount_paise"] == payments.stand_in.orders[order["order_id"]]["amount"]
    assert order["key_id"] == payments.stand_in.key_id
    payments.stand_in.pay(order["order_id"])
    assert deliver(api, payments.stand_in, 2) == [204, 204]
    assert body_of(user.get(f"/payments/{quote_id}"), 200)["state"] == "captured"


def test_quote_pay_create_book_cancel(api: ApiEnvironment, payments: PaymentsEnvironment) -> None:
    terms = api.run_body()
    stake = body_of(api.host.post("/event-runs/calculate-stake", terms), 200)
    assert (stake["stake_inr"], stake["price_per_seat_wei"]) == ("16000.00", str(10**17))
    problem_of(api.host.post("/event-runs", terms), 402, "payment_required")
    paid_run = terms | {"quote_id": stake["quote_id"]}
    problem = problem_of(api.host.post("/event-runs", paid_run, Idempotency_Key="run"), 402, "not_paid")
    assert problem["action"] == "wait"
    pay(api, payments, api.host, stake["quote_id"])
    run = body_of(api.host.post("/event-runs", paid_run, Idempotency_Key="run"), 201)
    assert body_of(api.host.post("/event-runs", paid_run, Idempotency_Key="run"), 201) == run

    wanted = {"event_run_id": run["id"], "seats": 2}
    quote = body_of(api.attendee.post("/bookings/calculate-cost", wanted, Idempotency_Key="quote"), 200)
    assert quote["total_inr"] == "48000.00"
    again = body_of(api.attendee.post("/bookings/calculate-cost", wanted, Idempotency_Key="quote"), 200)
    assert again == quote
    pay(api, payments, api.attendee, quote["quote_id"])
    booking = body_of(api.attendee.post("/bookings/create", wanted | {"quote_id": quote["quote_id"]}), 201)
    assert (booking["total_inr"], booking["blockchain_payment_wei"]) == ("48000.00", quote["payment_wei"])
    problem_of(api.attendee.post("/bookings/create", wanted | {"quote_id": quote["quote_id"]}), 409, "payment_unusable")
    payment = body_of(api.attendee.get(f"/payments/{quote['quote_id']}"), 200)
    assert (payment["state"], payment["refund"]) == ("used", None)
    assert payment["operation"].startswith(f"{api.attendee.id}:")
    payments.check()


def test_what_goes_back_is_shown(api: ApiEnvironment, payments: PaymentsEnvironment) -> None:
    quote = body_of(api.host.post("/event-runs/calculate-stake", api.run_body()), 200)
    pay(api, payments, api.host, quote["quote_id"])
    [row] = payments.rows()
    payments.age(row, SLOW_TO_BOOK)
    payments.round()
    payment = body_of(api.host.get(f"/payments/{quote['quote_id']}"), 200)
    assert payment["state"] == "refunded"
    assert payment["refund"].items() >= {"amount_inr": "16000.00", "cause": "unused", "state": "done"}.items()


def test_who_may(api: ApiEnvironment, payments: PaymentsEnvironment) -> None:
    stake = body_of(api.host.post("/event-runs/calculate-stake", api.run_body()), 200)
    path = f"/payments/{stake['quote_id']}"
    host_as_attendee = ApiUser(api.client, api.host.id, "attendee")
    for stranger in (api.other_host, api.attendee, host_as_attendee):
        problem_of(stranger.get(path), 403, "forbidden")
        problem_of(stranger.post(f"{path}/order"), 403, "forbidden")
    for user in (api.platform, api.host):
        body_of(user.get(path), 200)
        body_of(user.post(f"{path}/order"), 200)
    for user in (api.host, api.attendee):
        record = {"reference": "UTR1", "amount_inr": stake["stake_inr"]}
        problem_of(user.post(f"{path}/capture", record), 403, "forbidden")
        problem_of(user.post(f"{path}/refund", {"reference": "UTR1"}), 403, "forbidden")
    problem_of(api.platform.post(f"{path}/capture", record), 404, "not_found")  # the gateway says what it has
    pay(api, payments, api.host, stake["quote_id"])
    run = body_of(api.host.post("/event-runs", api.run_body() | {"quote_id": stake["quote_id"]}), 201)
    wanted = {"event_run_id": run["id"], "seats": 1}
    for_somebody = wanted | {"user_id": str(api.attendee.id)}
    assert body_of(api.host.post("/bookings/calculate-cost", wanted), 200)["quote_id"] is None
    problem_of(api.no_show.post("/bookings/calculate-cost", for_somebody), 403, "forbidden")
    quote = body_of(api.platform.post("/bookings/calculate-cost", for_somebody), 200)
    pay(api, payments, api.attendee, quote["quote_id"])
    problem_of(api.no_show.post("/bookings/create", wanted | {"quote_id": quote["quote_id"]}), 409, "payment_unusable")
    body_of(api.platform.post("/bookings/create", for_somebody | {"quote_id": quote["quote_id"]}), 201)
    problem_of(api.platform.get(f"/payments/{run['id']}"), 404, "not_found")
    payments.check()


def test_webhooks_need_the_gateways_signature_and_no_token(api: ApiEnvironment, payments: PaymentsEnvironment) -> None:
    quote = body_of(api.host.post("/event-runs/calculate-stake", api.run_body()), 200)
    order = body_of(api.host.post(f"/payments/{quote['quote_id']}/order"), 200)
    payments.stand_in.pay(order["order_id"])
    genuine = payments.stand_in.webhooks[-1]
    for body, headers in (
        (genuine.body, {}),
        (genuine.body + b" ", genuine.headers),
        (genuine.body, {"X-Razorpay-Signature": b"\xff\xff"}),
        (b"", genuine.headers),
    ):
        response = api.client.post("/webhooks/razorpay", content=body, headers=cast(Any, headers))
        problem_of(response, 400, "forged_webhook")
    assert body_of(api.host.get(f"/payments/{quote['quote_id']}"), 200)["state"] == "created"
    malformed = payments.stand_in.sign({"event": "payment.captured"})
    response = api.client.post("/webhooks/razorpay", content=malformed.body, headers=malformed.headers)
    problem_of(response, 422, "invalid_request")
    assert deliver(api, payments.stand_in, 2) * 2 == [204] * 4
    assert body_of(api.host.get(f"/payments/{quote['quote_id']}"), 200)["state"] == "captured"


def test_the_platform_records_by_hand(by_hand: ApiEnvironment) -> None:
    api = by_hand
    terms = api.run_body()
    quote = body_of(api.host.post("/event-runs/calculate-stake", terms), 200)
    path = f"/payments/{quote['quote_id']}"
    assert body_of(api.host.post(f"{path}/order"), 200)["order_id"] == quote["quote_id"]
    wrong = {"reference": "UTR1", "amount_inr": "15999.99"}
    problem_of(api.platform.post(f"{path}/capture", wrong), 422, "invalid_request")
    record = {"reference": "UTR1", "amount_inr": quote["stake_inr"]}
    for _ in range(2):
        assert body_of(api.platform.post(f"{path}/capture", record), 200)["state"] == "captured"
    body_of(api.host.post("/event-runs", terms | {"quote_id": quote["quote_id"]}), 201)
    problem_of(api.platform.post(f"{path}/refund", {"reference": "UTR2"}), 404, "not_found")
    problem_of(api.client.post("/webhooks/razorpay", content=b"{}"), 404, "not_found")


def test_without_payments_quotes_have_no_id(api: ApiEnvironment, payments: PaymentsEnvironment) -> None:
    """As before there were payments, and with `quote_id` of no use."""
    services = replace(
        payments.services,
        payments=None,
        runs=type(payments.services.runs)(payments.backend.database, payments.backend.chain, payments.services.pricing),
    )
    services.sender.policy = replace(services.sender.policy, needs_payments=False)
    cast(FastAPI, api.client.app).state.services = services
    quote = body_of(api.host.post("/event-runs/calculate-stake", api.run_body()), 200)
    assert (quote["quote_id"], quote["expires_at"]) == (None, None)
    body_of(api.host.post("/event-runs", api.run_body()), 201)
    problem_of(api.host.get(f"/payments/{api.host.id}"), 404, "not_found")

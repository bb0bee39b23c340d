"""What somebody gets who has a token, and wants the platform's ether: not a wei that they have not paid for.

Before payments, a host's token moved the whole wallet: open a run, cancel it, and the stake goes to the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from api_environment import SECRET, ApiEnvironment, ApiUser, body_of
from app.main import create_app
from fastapi.testclient import TestClient
from payments_environment import PaymentsEnvironment

pytestmark = pytest.mark.slow

INR_PER_ETH = 200_000


@pytest.fixture
def api(payments: PaymentsEnvironment) -> Iterator[ApiEnvironment]:
    app = create_app(payments.services, SECRET, payments.backend.engine.w3.eth.chain_id)
    yield ApiEnvironment(payments.backend, payments.services, TestClient(app))
    payments.services.follower.stop()


def wallet(payments: PaymentsEnvironment) -> int:
    """Wei of the platform's account."""
    return payments.backend.engine.w3.eth.get_balance(payments.backend.chain.platform)


def pay(user: ApiUser, payments: PaymentsEnvironment, quote_id: str, **options: Any) -> None:
    order = body_of(user.post(f"/payments/{quote_id}/order"), 200)
    already = len(payments.stand_in.webhooks)
    payments.stand_in.pay(order["order_id"], **options)
    payments.deliver(payments.stand_in.webhooks[already:])


def open_paid_run(api: ApiEnvironment, payments: PaymentsEnvironment, **terms: Any) -> dict[str, Any]:
    body = api.run_body(**terms)
    quote = body_of(api.host.post("/event-runs/calculate-stake", body), 200)
    pay(api.host, payments, quote["quote_id"])
    run: dict[str, Any] = body_of(api.host.post("/event-runs", body | {"quote_id": quote["quote_id"]}), 201)
    return run


# Each returns the quote's id that goes with an order, or None for an order without one
Excuse = Callable[[ApiUser, PaymentsEnvironment, Callable[..., dict[str, Any]]], str | None]


def _too_little(user: ApiUser, payments: PaymentsEnvironment, quote: Callable[..., dict[str, Any]]) -> str:
    quote_id: str = quote()["quote_id"]
    pay(user, payments, quote_id, amount=100)
    return quote_id


def _in_yen(user: ApiUser, payments: PaymentsEnvironment, quote: Callable[..., dict[str, Any]]) -> str:
    quote_id: str = quote()["quote_id"]
    pay(user, payments, quote_id, currency="JPY")
    return quote_id


def _for_less(user: ApiUser, payments: PaymentsEnvironment, quote: Callable[..., dict[str, Any]]) -> str:
    quote_id: str = quote(small=True)["quote_id"]
    pay(user, payments, quote_id)
    return quote_id


EXCUSES: dict[str, tuple[Excuse, set[str]]] = {
    "no quote": (lambda user, payments, quote: None, {"payment_required"}),
    "an invented quote": (lambda user, payments, quote: str(uuid4()), {"not_found"}),
    "an unpaid quote": (lambda user, payments, quote: quote()["quote_id"], {"not_paid"}),
    "a quote paid with one rupee": (_too_little, {"not_paid"}),
    "a quote paid in another currency": (_in_yen, {"not_paid"}),
    "a quote of a smaller order": (_for_less, {"payment_unusable"}),
}


@pytest.mark.parametrize("excuse", EXCUSES)
def test_a_hosts_token_opens_no_run_that_is_not_paid(
    api: ApiEnvironment, payments: PaymentsEnvironment, excuse: str
) -> None:
    large, small = api.run_body(seats=200, price_inr="4500000"), api.run_body(seats=1, price_inr="500")
    assert Decimal("4500000") * 200 / 5 / INR_PER_ETH == 900  # ETH of the stake

    def quote(*, small: bool = False, bodies: Any = (large, small)) -> dict[str, Any]:
        answer: dict[str, Any] = body_of(api.host.post("/event-runs/calculate-stake", bodies[small]), 200)
        return answer

    get_quote, codes = EXCUSES[excuse]
    before = wallet(payments)
    quote_id = get_quote(api.host, payments, quote)
    for _ in range(3):
        response = api.host.post("/event-runs", large | ({} if quote_id is None else {"quote_id": quote_id}))
        assert response.json()["code"] in codes, response.text
    payments.round()
    assert wallet(payments) == before
    payments.check()


@pytest.mark.parametrize("excuse", EXCUSES)
def test_an_attendees_token_books_nothing_that_is_not_paid(
    api: ApiEnvironment, payments: PaymentsEnvironment, excuse: str
) -> None:
    run = open_paid_run(api, payments, seats=100, price_inr="100000")

    def quote(*, small: bool = False) -> dict[str, Any]:
        wanted = {"event_run_id": run["id"], "seats": 1 if small else 50}
        answer: dict[str, Any] = body_of(api.attendee.post("/bookings/calculate-cost", wanted), 200)
        return answer

    get_quote, codes = EXCUSES[excuse]
    before = wallet(payments)
    quote_id = get_quote(api.attendee, payments, quote)
    order = {"event_run_id": run["id"], "seats": 50} | ({} if quote_id is None else {"quote_id": quote_id})
    for _ in range(3):
        response = api.attendee.post("/bookings/create", order)
        assert response.json()["code"] in codes, response.text
    payments.round()
    assert wallet(payments) == before
    payments.check()


def test_opening_and_cancelling_runs_gives_the_host_what_they_paid_and_no_more(
    api: ApiEnvironment, payments: PaymentsEnvironment
) -> None:
    """The first theft as it was, by a host who pays: the wei that they get cost them as many INR."""
    w3, start, host_before = payments.backend.engine.w3, wallet(payments), payments.backend.balance("host")
    for _ in range(3):
        run = open_paid_run(api, payments)
        body_of(
            api.host.patch(f"/event-runs/{run['id']}/status", {"status": "cancelled"}, Idempotency_Key=str(uuid4())),
            200,
        )
    payments.round()
    gained = payments.backend.balance("host") - host_before
    captured = sum(row.amount_inr for row in payments.rows())
    assert gained == 3 * 8 * 10**16
    assert Decimal(gained) * INR_PER_ETH / 10**18 == captured == 48_000
    assert all(payments.payments.refund_of(row.id) is None for row in payments.rows())  # not in INR as well
    spent_on_gas = start - wallet(payments) - gained
    assert 0 < spent_on_gas < 10**16
    assert w3.eth.get_balance(payments.backend.chain.address) == 0
    payments.check()


def test_without_a_wallet_the_inr_go_back_and_the_wei_stay(api: ApiEnvironment, payments: PaymentsEnvironment) -> None:
    start = wallet(payments)
    body = api.run_body() | {"experience_id": str(api.other_experience)}
    quote = body_of(api.other_host.post("/event-runs/calculate-stake", body), 200)
    pay(api.other_host, payments, quote["quote_id"])
    run = body_of(api.other_host.post("/event-runs", body | {"quote_id": quote["quote_id"]}), 201)
    path = f"/event-runs/{run['id']}/status"
    body_of(api.other_host.patch(path, {"status": "cancelled"}, Idempotency_Key=str(uuid4())), 200)
    payments.round()
    payments.round()
    assert 0 < start - wallet(payments) < 10**16  # gas
    [row] = payments.rows()
    refund = payments.payments.refund_of(row.id)
    assert refund is not None
    assert (refund.amount_inr, refund.cause, refund.state) == (Decimal("16000.00"), "cancelled", "done")
    payments.check()

"""The same request with the same key has one effect, and gets the first response again."""

from __future__ import annotations

from uuid import uuid4

import pytest
from api_environment import ApiEnvironment, body_of, problem_of


def test_a_repeated_request_gets_the_first_response(api: ApiEnvironment) -> None:
    body = api.run_body()
    first = api.host.post("/event-runs", body, Idempotency_Key="open")
    run = body_of(first, 201)
    booked = api.attendee.post("/bookings/create", _booking(run), Idempotency_Key="book")
    cancelled = api.attendee.post(f"/bookings/{booked.json()['id']}/cancel", Idempotency_Key="cancel")
    closed = api.host.patch(f"/event-runs/{run['id']}/status", {"status": "cancelled"}, Idempotency_Key="close")
    sent = _sent(api)
    for response, again in (
        (first, api.host.post("/event-runs", body, Idempotency_Key="open")),
        (booked, api.attendee.post("/bookings/create", _booking(run), Idempotency_Key="book")),
        (cancelled, api.attendee.post(f"/bookings/{booked.json()['id']}/cancel", Idempotency_Key="cancel")),
        (closed, api.host.patch(f"/event-runs/{run['id']}/status", {"status": "cancelled"}, Idempotency_Key="close")),
    ):
        assert (again.status_code, again.text) == (response.status_code, response.text)
        assert again.headers["content-type"] == response.headers["content-type"]
    assert _sent(api) == sent
    assert len(api.services.runs.list_all()) == len(api.services.bookings.list_all()) == 1


def test_a_repeated_quote_ignores_a_new_rate(api: ApiEnvironment) -> None:
    run = api.open_run()
    first = api.attendee.post("/bookings/calculate-cost", _booking(run), Idempotency_Key="quote")
    api.backend.set_rate(300_000)
    again = api.attendee.post("/bookings/calculate-cost", _booking(run), Idempotency_Key="quote")
    assert again.text == first.text
    anew = body_of(api.attendee.request("POST", "/bookings/calculate-cost", _booking(run)), 200)
    assert anew["total_inr"] != first.json()["total_inr"]


@pytest.mark.slow
def test_a_repeated_request_gets_the_first_refusal(api: ApiEnvironment) -> None:
    run = api.open_run(seats=1)
    booking = api.book(run)
    first = api.no_show.post("/bookings/create", _booking(run), Idempotency_Key="late")
    problem_of(first, 409, "contract_rejected")
    body_of(api.attendee.post(f"/bookings/{booking['id']}/cancel"), 200)
    again = api.no_show.post("/bookings/create", _booking(run), Idempotency_Key="late")
    assert (again.status_code, again.text) == (409, first.text)
    assert again.headers["content-type"] == "application/problem+json"
    body_of(api.no_show.post("/bookings/create", _booking(run), Idempotency_Key="later"), 201)


def test_the_same_key_with_another_request_is_refused(api: ApiEnvironment) -> None:
    run = api.open_run()
    booking = body_of(api.attendee.post("/bookings/create", _booking(run), Idempotency_Key="k"), 201)
    for path, body in (
        ("/bookings/create", _booking(run, seats=2)),
        ("/bookings/calculate-cost", _booking(run)),
        (f"/bookings/{booking['id']}/cancel", None),
    ):
        problem_of(api.attendee.post(path, body, Idempotency_Key="k"), 409, "key_reused")
    assert len(api.services.bookings.list_all()) == 1


def test_a_request_that_stored_no_operation_may_be_repeated(api: ApiEnvironment) -> None:
    """Without a price only the key is stored, and the same request succeeds once there is one."""
    rate, api.backend.feed.rate = api.backend.feed.rate, None
    body = api.run_body()
    response = api.host.post("/event-runs", body, Idempotency_Key="k")
    problem_of(response, 503, "no_price")
    assert response.headers["retry-after"]
    assert api.services.runs.list_all() == []
    api.backend.feed.rate = rate
    body_of(api.host.post("/event-runs", body, Idempotency_Key="k"), 201)


def test_callers_do_not_share_keys(api: ApiEnvironment) -> None:
    run = api.open_run()
    for user in (api.attendee, api.no_show):
        body_of(user.post("/bookings/create", _booking(run), Idempotency_Key="k"), 201)
    assert len(api.services.bookings.list_all()) == 2


def test_without_a_key_nothing_is_sent(api: ApiEnvironment) -> None:
    run = api.open_run()
    for user, path, body in (
        (api.host, "/event-runs", api.run_body()),
        (api.attendee, "/bookings/create", _booking(run)),
        (api.attendee, f"/bookings/{uuid4()}/cancel", None),
        (api.host, "/bookings/confirm-attendance", {"event_run_id": run["id"], "attended_booking_ids": []}),
    ):
        problem = problem_of(user.request("POST", path, body), 400, "idempotency_key_missing")
        assert "Idempotency-Key" in problem["detail"]


@pytest.mark.parametrize("key", ["", " ", "a b", "a/b", "a:b", "ä", "k" * 201])
def test_a_key_has_plain_characters_only(api: ApiEnvironment, key: str) -> None:
    problem_of(api.host.post("/event-runs", api.run_body(), Idempotency_Key=key), 422, "invalid_request")


def _booking(run: dict, seats: int = 1) -> dict:
    return {"event_run_id": run["id"], "seats": seats}


def _sent(api: ApiEnvironment) -> int:
    return api.backend.engine.w3.eth.get_transaction_count(api.backend.sender.address)

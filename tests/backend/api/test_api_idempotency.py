"""The same key and the same request: one effect, and the first answer again."""

from __future__ import annotations

from uuid import uuid4

import pytest
from visitors import Api, answered, refused


def test_the_same_request_again_gives_the_first_answer(api: Api) -> None:
    body = api.run_body()
    first = api.host.post("/event-runs", body, Idempotency_Key="open")
    run = answered(first, 201)
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


def test_a_quote_is_given_again_whatever_the_price_does(api: Api) -> None:
    run = api.open_run()
    first = api.attendee.post("/bookings/calculate-cost", _booking(run), Idempotency_Key="quote")
    api.backend.set_rate(300_000)
    again = api.attendee.post("/bookings/calculate-cost", _booking(run), Idempotency_Key="quote")
    assert again.text == first.text
    anew = answered(api.attendee.ask("POST", "/bookings/calculate-cost", _booking(run)), 200)
    assert anew["total_inr"] != first.json()["total_inr"]


@pytest.mark.slow
def test_a_refusal_is_the_first_answer_too(api: Api) -> None:
    run = api.open_run(seats=1)
    booking = api.book(run)
    first = api.no_show.post("/bookings/create", _booking(run), Idempotency_Key="late")
    refused(first, 409, "contract_rejected")
    answered(api.attendee.post(f"/bookings/{booking['id']}/cancel"), 200)
    again = api.no_show.post("/bookings/create", _booking(run), Idempotency_Key="late")
    assert (again.status_code, again.text) == (409, first.text)
    assert again.headers["content-type"] == "application/problem+json"
    answered(api.no_show.post("/bookings/create", _booking(run), Idempotency_Key="later"), 201)


def test_the_same_key_with_another_request_is_refused(api: Api) -> None:
    run = api.open_run()
    booking = answered(api.attendee.post("/bookings/create", _booking(run), Idempotency_Key="k"), 201)
    for path, body in (
        ("/bookings/create", _booking(run, seats=2)),
        ("/bookings/calculate-cost", _booking(run)),
        (f"/bookings/{booking['id']}/cancel", None),
    ):
        refused(api.attendee.post(path, body, Idempotency_Key="k"), 409, "key_reused")
    assert len(api.services.bookings.list_all()) == 1


def test_what_was_not_begun_may_be_tried_again(api: Api) -> None:
    """No price: nothing was written but the key, and the same request may be made once there is one."""
    rate, api.backend.feed.rate = api.backend.feed.rate, None
    body = api.run_body()
    response = api.host.post("/event-runs", body, Idempotency_Key="k")
    refused(response, 503, "no_price")
    assert response.headers["retry-after"]
    assert api.services.runs.list_all() == []
    api.backend.feed.rate = rate
    answered(api.host.post("/event-runs", body, Idempotency_Key="k"), 201)


def test_keys_are_each_callers_own(api: Api) -> None:
    run = api.open_run()
    for who in (api.attendee, api.no_show):
        answered(who.post("/bookings/create", _booking(run), Idempotency_Key="k"), 201)
    assert len(api.services.bookings.list_all()) == 2


def test_without_a_key_nothing_is_sent(api: Api) -> None:
    run = api.open_run()
    for who, path, body in (
        (api.host, "/event-runs", api.run_body()),
        (api.attendee, "/bookings/create", _booking(run)),
        (api.attendee, f"/bookings/{uuid4()}/cancel", None),
        (api.host, "/bookings/confirm-attendance", {"event_run_id": run["id"], "attended_booking_ids": []}),
    ):
        problem = refused(who.ask("POST", path, body), 400, "idempotency_key_missing")
        assert "Idempotency-Key" in problem["detail"]


@pytest.mark.parametrize("key", ["", " ", "a b", "a/b", "a:b", "ä", "k" * 201])
def test_a_key_is_of_plain_characters(api: Api, key: str) -> None:
    refused(api.host.post("/event-runs", api.run_body(), Idempotency_Key=key), 422, "invalid_request")


def _booking(run: dict, seats: int = 1) -> dict:
    return {"event_run_id": run["id"], "seats": seats}


def _sent(api: Api) -> int:
    return api.backend.engine.w3.eth.get_transaction_count(api.backend.sender.address)

"""Bookings over HTTP: quote, create, cancel, list."""

from __future__ import annotations

from uuid import uuid4

import pytest
from api_environment import ApiEnvironment, body_of, problem_of
from backend_environment import DAY


@pytest.mark.slow
def test_the_quoted_cost_is_paid(api: ApiEnvironment) -> None:
    run = api.open_run()
    api.backend.set_rate(300_000)
    cost = body_of(api.attendee.post("/bookings/calculate-cost", {"event_run_id": run["id"], "seats": 3}), 200)
    assert cost == {
        "event_run_id": run["id"],
        "seats": 3,
        "payment_wei": "300000000000000000",
        "stake_wei": "60000000000000000",
        "total_wei": "360000000000000000",
        "payment_inr": "90000.00",
        "stake_inr": "18000.00",
        "total_inr": "108000.00",
        "rate": cost["rate"],
        "quote_id": None,
        "expires_at": None,
    }
    assert cost["rate"]["inr_per_eth"] == "300000"
    booking = api.book(run, 3)
    assert (booking["blockchain_payment_wei"], booking["blockchain_stake_amount_wei"]) == (
        cost["payment_wei"],
        cost["stake_wei"],
    )
    assert (booking["total_inr"], booking["status"], booking["seats"]) == ("108000.00", "active", 3)


@pytest.mark.slow
def test_a_cancelled_booking_is_refunded_and_its_seats_are_free(api: ApiEnvironment) -> None:
    run = api.open_run(seats=2)
    booking = api.book(run, 2)
    before = api.backend.balance("attendee")
    response = body_of(api.attendee.post(f"/bookings/{booking['id']}/cancel"), 200)
    assert response["booking"]["status"] == "cancelled"
    assert response["settlement"]["refund_wei"] == "240000000000000000"
    assert api.backend.balance("attendee") - before == 24 * 10**16
    assert body_of(api.host.get(f"/event-runs/{run['id']}"), 200)["database"]["seats_booked"] == 0
    problem = problem_of(api.attendee.post(f"/bookings/{booking['id']}/cancel"), 409, "contract_rejected")
    assert problem["error"]


@pytest.mark.slow
def test_the_platform_books_for_an_attendee(api: ApiEnvironment) -> None:
    run = api.open_run()
    body = {"event_run_id": run["id"], "seats": 1, "user_id": str(api.no_show.id)}
    assert body_of(api.platform.post("/bookings/create", body), 201)["user_id"] == str(api.no_show.id)
    problem_of(api.platform.post("/bookings/create", body | {"user_id": str(uuid4())}), 404, "not_found")


@pytest.mark.slow
def test_more_seats_than_are_free_are_refused_with_the_numbers(api: ApiEnvironment) -> None:
    run = api.open_run(seats=2)
    problem = problem_of(
        api.attendee.post("/bookings/create", {"event_run_id": run["id"], "seats": 3}), 409, "contract_rejected"
    )
    assert problem["error"] == "NotEnoughSeats"
    assert all(isinstance(argument, str) for argument in problem["arguments"])


@pytest.mark.slow
def test_attended_bookings_must_be_of_this_run(api: ApiEnvironment) -> None:
    run, other = api.open_run(), api.open_run()
    booking = api.book(other)
    api.backend.go_to(api.backend.now() + 4 * DAY)
    api.backend.engine.mine()
    for ids, status, code in (
        ([str(uuid4())], 404, "not_found"),
        ([booking["id"]], 409, "contract_rejected"),
        (["x"], 422, "invalid_request"),
    ):
        body = {"event_run_id": run["id"], "attended_booking_ids": ids}
        problem_of(api.host.post("/bookings/confirm-attendance", body), status, code)


@pytest.mark.parametrize("seats", [0, -1, 2**31 + 1, "1", 1.5, None, True])
def test_seats_are_a_positive_integer(api: ApiEnvironment, seats: object) -> None:
    for path in ("/bookings/calculate-cost", "/bookings/create"):
        problem_of(api.attendee.post(path, {"event_run_id": str(uuid4()), "seats": seats}), 422, "invalid_request")


@pytest.mark.slow
def test_unknown_ids_are_404(api: ApiEnvironment) -> None:
    nothing = uuid4()
    body = {"event_run_id": str(nothing)}
    for response in (
        api.platform.get(f"/event-runs/{nothing}"),
        api.platform.get(f"/event-runs/{nothing}/bookings"),
        api.platform.patch(f"/event-runs/{nothing}/status", {"status": "expired"}),
        api.platform.delete(f"/event-runs/{nothing}"),
        api.platform.post("/bookings/calculate-cost", body | {"seats": 1}),
        api.platform.post("/bookings/create", body | {"seats": 1}),
        api.platform.post("/bookings/confirm-attendance", body | {"attended_booking_ids": []}),
        api.platform.post(f"/bookings/{nothing}/cancel"),
        api.platform.get(f"/operations/{nothing}"),
        api.host.post("/event-runs", api.run_body() | {"experience_id": str(nothing)}),
    ):
        problem_of(response, 404, "not_found")

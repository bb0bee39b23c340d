"""Event runs over HTTP: create, show, complete, cancel, expire."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

import pytest
from api_environment import ApiEnvironment, body_of, problem_of
from app.core.errors import ContractRejected
from backend_environment import DAY


def test_a_run_is_created_and_shown_side_by_side(api: ApiEnvironment) -> None:
    run = api.open_run()
    assert (run["status"], run["blockchain_status"], run["blockchain_event_run_id"]) == ("active", "confirmed", 1)
    assert run["host_id"] == str(api.host.id)
    side_by_side = body_of(api.attendee.get(f"/event-runs/{run['id']}"), 200)
    assert side_by_side["database"] == run
    assert side_by_side["chain"]["host"] == api.backend.wallets["host"].address
    assert side_by_side["chain"]["price_per_seat_wei"] == run["blockchain_price_per_seat_wei"]
    assert side_by_side["chain"]["starts_at"] == run["starts_at"]
    assert side_by_side["differences"] == []


def test_an_action_past_the_service_is_a_difference(api: ApiEnvironment) -> None:
    run = api.open_run()
    api.backend.chain.book_event_onchain(1, 3)
    side_by_side = body_of(api.host.get(f"/event-runs/{run['id']}"), 200)
    assert (side_by_side["database"]["seats_booked"], side_by_side["chain"]["seats_booked"]) == (0, 3)
    assert side_by_side["differences"] == ["seats_booked"]


def test_a_run_that_the_chain_lost_is_a_difference(api: ApiEnvironment) -> None:
    before = api.backend.engine.snapshot()
    run = api.open_run()
    api.backend.engine.revert(before)
    side_by_side = body_of(api.host.get(f"/event-runs/{run['id']}"), 200)
    assert (side_by_side["chain"], side_by_side["differences"]) == (None, ["blockchain_event_run_id"])


def test_the_platform_creates_a_run_for_a_host(api: ApiEnvironment) -> None:
    body = api.run_body(host_id=str(api.host.id))
    assert body_of(api.platform.post("/event-runs", body), 201)["host_id"] == str(api.host.id)
    body = api.run_body(host_id=str(uuid4()))
    problem_of(api.platform.post("/event-runs", body), 404, "not_found")


@pytest.mark.slow
def test_a_run_is_completed_with_the_attended_bookings(api: ApiEnvironment) -> None:
    run = api.open_run()
    attended = api.book(run, 1)
    api.book(run, 1, api.no_show)
    api.backend.go_to(datetime.fromisoformat(run["starts_at"]))
    response = body_of(_status(api, run, "completed", attended_booking_ids=[attended["id"]]), 200)
    assert response["event_run"]["status"] == "completed"
    assert response["settlement"]["host_payout_wei"] == "190000000000000000"


@pytest.mark.slow
def test_a_run_is_cancelled_and_everybody_refunded(api: ApiEnvironment) -> None:
    run = api.open_run()
    booking = api.book(run, 2)
    response = body_of(_status(api, run, "cancelled"), 200)
    assert response["event_run"]["status"] == "cancelled"
    assert response["settlement"]["refunds_issued_wei"] == "240000000000000000"
    assert response["settlement"]["host_payout_wei"] is None
    assert [b["status"] for b in _bookings(api, run) if b["id"] == booking["id"]] == ["cancelled"]


@pytest.mark.slow
def test_anybody_may_expire_a_run_that_nobody_completed(api: ApiEnvironment) -> None:
    run = api.open_run()
    api.book(run, 1)
    problem = problem_of(_status(api, run, "expired", api.no_show), 409, "contract_rejected")
    assert (problem["error"], problem["outcome"]) == ("TooEarly", "rejected")
    api.backend.go_to(datetime.fromisoformat(run["starts_at"]) + 7 * DAY)
    api.backend.engine.mine()
    response = body_of(_status(api, run, "expired", api.no_show), 200)
    assert response["event_run"]["status"] == "expired"
    assert response["settlement"]["compensation_wei"] == "80000000000000000"


@pytest.mark.slow
def test_deleting_a_run_cancels_it_on_chain(api: ApiEnvironment) -> None:
    run = api.open_run()
    api.book(run, 1)
    response = body_of(api.host.delete(f"/event-runs/{run['id']}"), 200)
    assert response["event_run"]["status"] == "cancelled"
    assert response["settlement"]["refunds_issued_wei"] == "120000000000000000"
    side_by_side = body_of(api.host.get(f"/event-runs/{run['id']}"), 200)
    assert (side_by_side["chain"]["status"], side_by_side["differences"]) == ("cancelled", [])
    problem_of(api.host.delete(f"/event-runs/{run['id']}"), 409, "contract_rejected")


def test_deleting_a_run_that_never_got_on_chain_marks_it_cancelled(api: ApiEnvironment) -> None:
    starts_at = (api.backend.now() - DAY).isoformat()
    problem_of(api.host.post("/event-runs", api.run_body() | {"starts_at": starts_at}), 409, "contract_rejected")
    [failed] = api.services.runs.list_all()
    assert failed.blockchain_status == "failed"
    side_by_side = body_of(api.host.get(f"/event-runs/{failed.id}"), 200)
    assert (side_by_side["chain"], side_by_side["differences"]) == (None, [])
    sent = api.backend.engine.w3.eth.get_transaction_count(api.backend.sender.address)
    response = body_of(api.host.delete(f"/event-runs/{failed.id}"), 200)
    assert (response["event_run"]["status"], response["settlement"]) == ("cancelled", None)
    assert api.backend.engine.w3.eth.get_transaction_count(api.backend.sender.address) == sent


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"starts_at": "2101-01-01T00:00:00"},  # no time zone
        {"starts_at": "2101-01-01 00:00:00+00:00"},
        {"starts_at": "0001-01-01T00:00:00+23:59"},
        {"starts_at": "2101-01-01T00:00:00+99:99"},
        {"starts_at": 4_000_000_000},
        {"starts_at": "1969-12-31T23:59:59Z"},  # the contract's times begin in 1970
        {"price_inr": 2500},
        {"price_inr": "2500.001"},
        {"price_inr": "-1"},
        {"price_inr": "NaN"},
        {"price_inr": "１２"},
        {"price_inr": "1234567890123"},
        {"max_seats": 0},
        {"max_seats": 2**31 + 1},
        {"max_seats": "4"},
        {"max_seats": 4.5},
        {"max_seats": True},
        {"experience_id": "no uuid"},
        {"experience_id": "\x00"},
        {"host_id": "\ud800"},
        {"\ud800": 1},
        {"surprise": 1},
    ],
)
def test_a_malformed_request_is_refused_before_anything_is_stored(
    api: ApiEnvironment, change: dict[str, object]
) -> None:
    problem = problem_of(api.host.post("/event-runs", api.run_body() | change), 422, "invalid_request")
    [name] = change
    locations = [error["where"] for error in problem.get("errors", [])]
    assert all(where == "body" or name in where for where in locations)
    assert api.services.runs.list_all() == []


@pytest.mark.parametrize(
    "body",
    [
        {"status": "active"},
        {"status": "completed"},
        {"status": "cancelled", "attended_booking_ids": []},
        {"status": "completed", "attended_booking_ids": ["x"]},
        {"attended_booking_ids": []},
        {},
        [],
        None,
    ],
)
def test_each_status_requires_its_own_fields(api: ApiEnvironment, body: object) -> None:
    run = api.open_run()
    problem_of(api.host.patch(f"/event-runs/{run['id']}/status", body), 422, "invalid_request")


def test_times_of_any_zone_come_back_in_utc(api: ApiEnvironment) -> None:
    body = api.run_body() | {"starts_at": "2101-01-01T05:30:00.999999+05:30"}
    run = body_of(api.host.post("/event-runs", body), 201)
    assert run["starts_at"] == "2101-01-01T00:00:00Z"
    assert run["created_at"].endswith("Z")


def test_a_contract_error_is_in_the_problem(api: ApiEnvironment) -> None:
    run = api.open_run()
    problem = problem_of(_status(api, run, "completed", attended_booking_ids=[]), 409, "contract_rejected")
    with pytest.raises(ContractRejected) as caught:
        api.services.runs.complete(api.services.runs.list_all()[0].id, [])
    error = caught.value
    assert (problem["error"], problem["outcome"]) == (error.name, error.outcome)
    assert problem["arguments"] == [str(arg) for arg in error.args]
    assert problem["operation"].startswith(f"{api.host.id}:")


def _status(api: ApiEnvironment, run: dict, status: str, by: object = None, **more: object):  # type: ignore[no-untyped-def]
    return (by or api.host).patch(f"/event-runs/{run['id']}/status", {"status": status, **more})  # type: ignore[attr-defined]


def _bookings(api: ApiEnvironment, run: dict) -> list[dict]:
    return body_of(api.host.get(f"/event-runs/{run['id']}/bookings"), 200)["items"]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["\ud800", "\0", "\udc00\ud800", "a\ud800b"])
@pytest.mark.parametrize("field", ["experience_id", "starts_at", "max_seats", "price_inr", "host_wallet", "unknown"])
def test_39_texts_that_are_no_unicode_are_refused(api: ApiEnvironment, field: str, text: str) -> None:
    """Half a surrogate pair in a JSON string: a problem of the client's, and no error of the server."""
    response = api.host.post("/event-runs", api.run_body() | {field: text})
    assert body_of(response, 422)["code"] == "invalid_request"

"""All routes on a contract with the minimal interface, like the one deployed on Sepolia.

Each works, or is refused as documented. The API signs with the platform's key only, so it can create runs and bookings
only for users without a wallet.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from api_environment import ETH, ApiEnvironment, ApiUser, body_of, open_api, problem_of
from app.db.database import Database
from app.db.tables import event_runs
from backend_environment import DAY, BackendEnvironment, DeployedContracts, backend_on
from httpx import Response
from sqlalchemy import update

UNSUPPORTED = (501, "unsupported_by_contract")


@pytest.fixture
def api(deployed_contracts: DeployedContracts, database: Database) -> ApiEnvironment:
    return open_api(backend_on(deployed_contracts, "MinimalEventStake", database))


@pytest.fixture
def backend(api: ApiEnvironment) -> BackendEnvironment:
    return api.backend


@pytest.fixture
def guest(api: ApiEnvironment) -> ApiUser:
    """An attendee without a wallet."""
    return ApiUser(api.client, api.backend.ids["walletless"], "attendee")


def other_body(api: ApiEnvironment) -> dict[str, Any]:
    """Returns a run of the other host, who has no wallet."""
    return api.run_body(experience_id=str(api.other_experience))


def own_run(api: ApiEnvironment) -> dict[str, Any]:
    """Creates a run of a host without a wallet."""
    return body_of(api.other_host.post("/event-runs", other_body(api)), 201)


def signed_run(backend: BackendEnvironment) -> str:
    """Creates a run of a host who signed with their wallet, and returns its id."""
    return str(backend.open_run(signer=backend.wallets["host"]).id)


@pytest.mark.slow
def test_everything_works_or_is_refused_as_documented(api: ApiEnvironment, guest: ApiUser) -> None:
    paths: dict[str, Any] = api.client.get("/openapi.json").json()["paths"]
    untested_routes = {(method, path) for path, methods in paths.items() for method in methods}

    def checked(method: str, path: str, response: Response) -> Response:
        untested_routes.discard((method, path))
        assert str(response.status_code) in paths[path][method]["responses"], response.text
        assert response.status_code < 500 or problem_of(response, *UNSUPPORTED)
        return response

    host, body = api.other_host, other_body(api)
    stake = checked("post", "/event-runs/calculate-stake", host.post("/event-runs/calculate-stake", body))
    assert body_of(stake, 200)["quote_id"] is None  # nobody pays in INR here
    run = body_of(checked("post", "/event-runs", host.post("/event-runs", body, Idempotency_Key="first")), 201)
    assert run["blockchain_stake_amount_wei"] == "80000000000000000"
    other, third = own_run(api), own_run(api)
    run_path = f"/event-runs/{run['id']}"

    seats_of_run = {"event_run_id": run["id"], "seats": 2}
    cost = checked("post", "/bookings/calculate-cost", guest.post("/bookings/calculate-cost", seats_of_run))
    assert body_of(cost, 200)["total_wei"] == "240000000000000000"
    booking = body_of(checked("post", "/bookings/create", guest.post("/bookings/create", seats_of_run)), 201)
    side_by_side = body_of(checked("get", "/event-runs/{event_run_id}", guest.get(run_path)), 200)
    assert (side_by_side["chain"]["status"], side_by_side["chain"]["seats_booked"], side_by_side["differences"]) == (
        "active",
        2,
        [],
    )
    listed = checked("get", "/event-runs/{event_run_id}/bookings", host.get(f"{run_path}/bookings"))
    assert [row["id"] for row in body_of(listed, 200)["items"]] == [booking["id"]]
    for path in ("/event-runs", "/bookings", "/operations"):
        assert body_of(checked("get", path, host.get(path)), 200)["items"]
    one_booking = f"/bookings/{booking['id']}"
    assert body_of(checked("get", "/bookings/{booking_id}", guest.get(one_booking)), 200) == booking
    assert body_of(checked("get", "/operations/{key}", host.get("/operations/first")), 200)["state"] == "confirmed"

    cancel = f"/bookings/{booking['id']}/cancel"
    problem_of(checked("post", "/bookings/{booking_id}/cancel", guest.post(cancel)), *UNSUPPORTED)
    change = ("patch", "/event-runs/{event_run_id}/status")
    problem_of(checked(*change, guest.patch(f"{run_path}/status", {"status": "expired"})), *UNSUPPORTED)
    called_off = checked(*change, host.patch(f"/event-runs/{other['id']}/status", {"status": "cancelled"}))
    assert body_of(called_off, 200)["event_run"]["status"] == "cancelled"
    deleted = checked("delete", "/event-runs/{event_run_id}", host.delete(f"/event-runs/{third['id']}"))
    assert body_of(deleted, 200)["event_run"]["status"] == "cancelled"

    api.backend.go_to(datetime.fromisoformat(run["starts_at"]) + 30 * DAY)  # there is no deadline
    attendance = {"event_run_id": run["id"], "attended_booking_ids": [booking["id"]]}
    completed = checked("post", "/bookings/confirm-attendance", host.post("/bookings/confirm-attendance", attendance))
    assert body_of(completed, 200)["settlement"]["host_payout_wei"] == "190000000000000000"
    for run_id in (run["id"], other["id"], third["id"]):
        assert body_of(host.get(f"/event-runs/{run_id}"), 200)["differences"] == []
    state = body_of(checked("get", "/pause", api.platform.get("/pause")), 200)
    assert state == {"paused": False, "since": None, "paused_by": None, "reason": None}
    assert body_of(checked("post", "/pause", api.platform.post("/pause", {})), 200)["paused"]
    assert body_of(checked("delete", "/pause", api.platform.delete("/pause")), 200) == state
    approved = checked("post", "/operations/{key}/approve", api.platform.post("/operations/first/approve"))
    problem_of(approved, 404, "not_found")
    for path in ("/health", "/ready", "/metrics"):
        assert checked("get", path, api.client.get(path)).status_code == 200
    for method, route, sent in (
        ("get", "", None),
        ("post", "/order", None),
        ("post", "/capture", {"reference": "UTR1", "amount_inr": "16000.00"}),
        ("post", "/refund", {"reference": "UTR1"}),
    ):
        response = api.platform.request(method, f"/payments/{uuid4()}{route}", sent)
        problem_of(checked(method, "/payments/{payment_id}" + route, response), 404, "not_found")
    webhook = api.client.post("/webhooks/razorpay", content=b"{}")
    problem_of(checked("post", "/webhooks/razorpay", webhook), 404, "not_found")
    assert untested_routes == set()


def test_users_with_a_wallet_have_to_sign(api: ApiEnvironment, backend: BackendEnvironment) -> None:
    problem = problem_of(api.host.post("/event-runs", api.run_body()), *UNSUPPORTED)
    assert problem["detail"].endswith(f"createEventRunFor: {backend.wallets['host'].address} has to sign for itself.")
    run = own_run(api)
    problem = problem_of(api.attendee.post("/bookings/create", {"event_run_id": run["id"], "seats": 1}), *UNSUPPORTED)
    assert problem["detail"].endswith(f"bookEventFor: {backend.wallets['attendee'].address} has to sign for itself.")
    response = body_of(api.attendee.get(f"/event-runs/{run['id']}/bookings"), 200)
    assert response == {"items": [], "next": None}


@pytest.mark.slow
def test_a_run_whose_host_signed_is_read_and_completed_but_not_cancelled(
    api: ApiEnvironment, backend: BackendEnvironment
) -> None:
    run = signed_run(backend)
    booking = backend.bookings.book(UUID(run), backend.ids["attendee"], 2, signer=backend.wallets["attendee"])
    for user in (api.host, api.attendee, api.platform):
        side_by_side = body_of(user.get(f"/event-runs/{run}"), 200)
        assert (side_by_side["chain"]["host"], side_by_side["differences"]) == (backend.wallets["host"].address, [])
    for response in (
        api.platform.delete(f"/event-runs/{run}"),
        api.host.patch(f"/event-runs/{run}/status", {"status": "cancelled"}),
    ):
        assert problem_of(response, 409, "contract_rejected")["arguments"] == ["Only host"]
    backend.go_to(backend.runs.get(UUID(run)).starts_at)
    body = {"status": "completed", "attended_booking_ids": [str(booking.id)]}
    before = backend.balance("host")
    response = body_of(api.platform.patch(f"/event-runs/{run}/status", body), 200)
    assert response["event_run"]["status"] == "completed"
    assert backend.balance("host") - before == 27 * ETH // 100


def test_a_run_that_is_not_in_the_contract_is_shown_as_missing_on_chain(
    api: ApiEnvironment, backend: BackendEnvironment, guest: ApiUser
) -> None:
    """The contract's view returns zeros for it, which must not be shown, and not be quoted as a price."""
    run = own_run(api)
    with backend.database.transaction() as connection:
        connection.execute(update(event_runs).values(blockchain_event_run_id=9))
    side_by_side = body_of(guest.get(f"/event-runs/{run['id']}"), 200)
    assert (side_by_side["chain"], side_by_side["differences"]) == (None, ["blockchain_event_run_id"])
    body = {"event_run_id": run["id"], "seats": 1}
    for path in ("/bookings/calculate-cost", "/bookings/create"):
        problem = problem_of(guest.post(path, body), 409, "contract_rejected")
        assert (problem["error"], problem["arguments"]) == ("UnknownEventRun", ["9"])
    assert backend.bookings.list_all() == []

"""All that the API offers, on a contract that is as the one deployed on Sepolia is: it works, or is refused as the
documentation says. The platform's key is all that the API has, so only who has no wallet can be entered by it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from app.db.database import Database
from app.db.tables import event_runs
from httpx import Response
from sqlalchemy import update
from stage import DAY, Ground, Stage, set_up
from visitors import ETH, Api, Visitor, answered, open_api, refused

UNSUPPORTED = (501, "unsupported_by_contract")


@pytest.fixture
def api(ground: Ground, database: Database) -> Api:
    return open_api(set_up(ground, "MinimalEventStake", database))


@pytest.fixture
def stage(api: Api) -> Stage:
    return api.stage


@pytest.fixture
def guest(api: Api) -> Visitor:
    """An attendee without a wallet."""
    return Visitor(api.client, api.stage.ids["walletless"], "attendee")


def own_run(api: Api) -> dict[str, Any]:
    """Of a host without a wallet."""
    return answered(api.other_host.post("/event-runs", api.run_body()), 201)


def signed_run(stage: Stage) -> str:
    """Of a host who has a wallet, and signed."""
    return str(stage.open_run(signer=stage.wallets["host"]).id)


def test_everything_works_or_is_refused_as_documented(api: Api, guest: Visitor) -> None:
    paths: dict[str, Any] = api.client.get("/openapi.json").json()["paths"]
    left = {(method, path) for path, methods in paths.items() for method in methods}

    def noted(method: str, path: str, response: Response) -> Response:
        left.discard((method, path))
        assert str(response.status_code) in paths[path][method]["responses"], response.text
        assert response.status_code < 500 or refused(response, *UNSUPPORTED)
        return response

    host, body = api.other_host, api.run_body()
    run = answered(noted("post", "/event-runs", host.post("/event-runs", body, Idempotency_Key="first")), 201)
    assert run["blockchain_stake_amount_wei"] == "80000000000000000"
    other, third = own_run(api), own_run(api)
    where = f"/event-runs/{run['id']}"

    wanted = {"event_run_id": run["id"], "seats": 2}
    cost = noted("post", "/bookings/calculate-cost", guest.post("/bookings/calculate-cost", wanted))
    assert answered(cost, 200)["total_wei"] == "240000000000000000"
    booking = answered(noted("post", "/bookings/create", guest.post("/bookings/create", wanted)), 201)
    seen = answered(noted("get", "/event-runs/{event_run_id}", guest.get(where)), 200)
    assert (seen["chain"]["status"], seen["chain"]["seats_booked"], seen["differences"]) == ("active", 2, [])
    listed = noted("get", "/event-runs/{event_run_id}/bookings", host.get(f"{where}/bookings"))
    assert [one["id"] for one in answered(listed, 200)["bookings"]] == [booking["id"]]
    assert answered(noted("get", "/operations/{key}", host.get("/operations/first")), 200)["state"] == "confirmed"

    cancel = f"/bookings/{booking['id']}/cancel"
    refused(noted("post", "/bookings/{booking_id}/cancel", guest.post(cancel)), *UNSUPPORTED)
    change = ("patch", "/event-runs/{event_run_id}/status")
    refused(noted(*change, guest.patch(f"{where}/status", {"status": "expired"})), *UNSUPPORTED)
    called_off = noted(*change, host.patch(f"/event-runs/{other['id']}/status", {"status": "cancelled"}))
    assert answered(called_off, 200)["event_run"]["status"] == "cancelled"
    deleted = noted("delete", "/event-runs/{event_run_id}", host.delete(f"/event-runs/{third['id']}"))
    assert answered(deleted, 200)["event_run"]["status"] == "cancelled"

    api.stage.go_to(datetime.fromisoformat(run["starts_at"]) + 30 * DAY)  # there is no deadline
    attendance = {"event_run_id": run["id"], "attended_booking_ids": [booking["id"]]}
    done = noted("post", "/bookings/confirm-attendance", host.post("/bookings/confirm-attendance", attendance))
    assert answered(done, 200)["settlement"]["host_payout_wei"] == "190000000000000000"
    for run_id in (run["id"], other["id"], third["id"]):
        assert answered(host.get(f"/event-runs/{run_id}"), 200)["differences"] == []
    for path in ("/health", "/ready", "/metrics"):
        assert noted("get", path, api.client.get(path)).status_code == 200
    assert left == set()


def test_who_has_a_wallet_has_to_sign(api: Api, stage: Stage) -> None:
    problem = refused(api.host.post("/event-runs", api.run_body()), *UNSUPPORTED)
    assert problem["detail"].endswith(f"createEventRunFor: {stage.wallets['host'].address} has to sign for itself.")
    run = own_run(api)
    problem = refused(api.attendee.post("/bookings/create", {"event_run_id": run["id"], "seats": 1}), *UNSUPPORTED)
    assert problem["detail"].endswith(f"bookEventFor: {stage.wallets['attendee'].address} has to sign for itself.")
    seen = answered(api.attendee.get(f"/event-runs/{run['id']}/bookings"), 200)
    assert seen == {"bookings": []}


def test_a_run_whose_host_signed_is_read_and_completed_but_not_cancelled(api: Api, stage: Stage) -> None:
    run = signed_run(stage)
    booking = stage.bookings.book(UUID(run), stage.ids["attendee"], 2, signer=stage.wallets["attendee"])
    for visitor in (api.host, api.attendee, api.platform):
        seen = answered(visitor.get(f"/event-runs/{run}"), 200)
        assert (seen["chain"]["host"], seen["differences"]) == (stage.wallets["host"].address, [])
    for response in (
        api.platform.delete(f"/event-runs/{run}"),
        api.host.patch(f"/event-runs/{run}/status", {"status": "cancelled"}),
    ):
        assert refused(response, 409, "contract_rejected")["arguments"] == ["Only host"]
    stage.go_to(stage.runs.get(UUID(run)).starts_at)
    body = {"status": "completed", "attended_booking_ids": [str(booking.id)]}
    before = stage.balance("host")
    done = answered(api.platform.patch(f"/event-runs/{run}/status", body), 200)
    assert done["event_run"]["status"] == "completed"
    assert stage.balance("host") - before == 27 * ETH // 100


def test_a_run_that_is_not_there_is_shown_as_missing_on_chain(api: Api, stage: Stage, guest: Visitor) -> None:
    """Not as one that is nobody's, with zeros; and its seats are not for nothing."""
    run = own_run(api)
    with stage.database.transaction() as connection:
        connection.execute(update(event_runs).values(blockchain_event_run_id=9))
    seen = answered(guest.get(f"/event-runs/{run['id']}"), 200)
    assert (seen["chain"], seen["differences"]) == (None, ["blockchain_event_run_id"])
    wanted = {"event_run_id": run["id"], "seats": 1}
    for path in ("/bookings/calculate-cost", "/bookings/create"):
        problem = refused(guest.post(path, wanted), 409, "contract_rejected")
        assert (problem["error"], problem["arguments"]) == ("UnknownEventRun", ["9"])
    assert stage.bookings.list_all() == []

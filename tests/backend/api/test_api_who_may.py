"""Every route takes a token; roles act on what is theirs. `test_api_authority` has the whole table."""

from __future__ import annotations

from uuid import uuid4

import pytest
from api_environment import ApiEnvironment, ApiUser, body_of, problem_of

pytestmark = pytest.mark.slow


def test_every_route_requires_a_valid_token(api: ApiEnvironment) -> None:
    run = f"/event-runs/{uuid4()}"
    for authorization in (None, "Bearer", "Bearer x", "Basic eDp4", "Bearer \xff"):
        headers = {"Authorization": authorization.encode("latin-1")} if authorization else {}
        headers["Idempotency-Key"] = b"k"
        for method, path, body in (
            ("POST", "/event-runs", api.run_body()),
            ("GET", run, None),
            ("PATCH", f"{run}/status", {"status": "expired"}),
            ("DELETE", run, None),
            ("GET", f"{run}/bookings", None),
            ("GET", "/event-runs", None),
            ("GET", "/bookings", None),
            ("GET", f"/bookings/{uuid4()}", None),
            ("GET", "/operations", None),
            ("POST", "/event-runs/calculate-stake", api.run_body()),
            ("GET", f"/payments/{uuid4()}", None),
            ("POST", f"/payments/{uuid4()}/order", None),
            ("POST", f"/payments/{uuid4()}/capture", {"reference": "x", "amount_inr": "1"}),
            ("POST", f"/payments/{uuid4()}/refund", {"reference": "x"}),
            ("POST", "/bookings/calculate-cost", {"event_run_id": str(uuid4()), "seats": 1}),
            ("POST", "/bookings/create", {"event_run_id": str(uuid4()), "seats": 1}),
            ("POST", "/bookings/confirm-attendance", {"event_run_id": str(uuid4()), "attended_booking_ids": []}),
            ("POST", f"/bookings/{uuid4()}/cancel", None),
            ("GET", "/operations/x", None),
            ("POST", "/operations/x/approve", None),
            ("GET", "/pause", None),
            ("POST", "/pause", {}),
            ("DELETE", "/pause", None),
        ):
            response = api.client.request(method, path, json=body, headers=headers)
            problem_of(response, 401, "unauthenticated")
            assert response.headers["www-authenticate"] == "Bearer"


def test_a_host_acts_on_own_runs_only(api: ApiEnvironment) -> None:
    run = api.open_run()
    path, nobody = f"/event-runs/{run['id']}", {"event_run_id": run["id"], "attended_booking_ids": []}
    for stranger in (api.other_host, api.attendee, ApiUser(api.client, api.host.id, "attendee")):
        for response in (
            stranger.patch(f"{path}/status", {"status": "cancelled"}),
            stranger.patch(f"{path}/status", {"status": "completed", "attended_booking_ids": []}),
            stranger.delete(path),
            stranger.post("/bookings/confirm-attendance", nobody),
            stranger.post("/event-runs", api.run_body(host_id=str(api.host.id))),
        ):
            problem_of(response, 403, "forbidden")
    problem_of(api.attendee.post("/event-runs", api.run_body()), 403, "forbidden")
    problem_of(api.other_host.get(f"{path}/bookings"), 403, "forbidden")
    assert body_of(api.other_host.get(path), 200)["database"]["status"] == "active"
    assert body_of(api.platform.delete(path), 200)["event_run"]["status"] == "cancelled"


def test_an_attendee_acts_on_own_bookings_only(api: ApiEnvironment) -> None:
    run = api.open_run()
    mine, other = api.book(run, 1, api.attendee), api.book(run, 1, api.no_show)
    body = {"event_run_id": run["id"], "seats": 1}
    for response in (
        api.no_show.post(f"/bookings/{mine['id']}/cancel"),
        api.host.post(f"/bookings/{mine['id']}/cancel"),
        api.host.post("/bookings/create", body),
        api.attendee.post("/bookings/create", body | {"user_id": str(api.no_show.id)}),
    ):
        problem_of(response, 403, "forbidden")
    path = f"/event-runs/{run['id']}/bookings"
    assert [b["id"] for b in body_of(api.attendee.get(path), 200)["items"]] == [mine["id"]]
    for user in (api.host, api.platform):
        assert [b["id"] for b in body_of(user.get(path), 200)["items"]] == [other["id"], mine["id"]]
    body_of(api.attendee.post("/bookings/create", body | {"user_id": str(api.attendee.id)}), 201)
    body_of(api.platform.post(f"/bookings/{mine['id']}/cancel"), 200)


def test_an_operation_is_shown_to_its_user_and_the_platform(api: ApiEnvironment) -> None:
    body_of(api.host.post("/event-runs", api.run_body(), Idempotency_Key="mine"), 201)
    full = f"/operations/{api.host.id}:mine"
    response = body_of(api.host.get("/operations/mine"), 200)
    assert response == body_of(api.host.get(full), 200) == body_of(api.platform.get(full), 200)
    problem_of(api.other_host.get(full), 403, "forbidden")
    problem_of(api.other_host.get("/operations/mine"), 404, "not_found")

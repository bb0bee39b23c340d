"""Authentication by tokens, and authorization by roles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from api_environment import SECRET, ApiEnvironment, ApiUser, body_of, problem_of
from app.core.security import Caller, Unauthenticated, issue_token, verify_token
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

ME = uuid4()
LATER = datetime.now(UTC) + timedelta(hours=1)
GOOD: dict[str, Any] = {"sub": str(ME), "role": "host", "exp": LATER}
KEY = SECRET.get_secret_value()


def test_a_token_identifies_the_caller() -> None:
    assert verify_token(SECRET, issue_token(SECRET, ME, "attendee")) == Caller(ME, "attendee")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "\ud800",
        issue_token(SecretStr("another-0123456789abcdefghijklmnopqrstuvwxyz"), ME, "host"),
        issue_token(SECRET, ME, "host", timedelta(seconds=-1)),
        jwt.encode(GOOD, None, algorithm="none"),
        jwt.encode(GOOD, KEY * 2, algorithm="HS512"),
        jwt.encode(GOOD, KEY, algorithm="HS384"),
        *(jwt.encode({k: v for k, v in GOOD.items() if k != missing}, KEY) for missing in GOOD),
        jwt.encode(GOOD | {"sub": "somebody"}, KEY),
        jwt.encode(GOOD | {"role": "admin"}, KEY),
        jwt.encode(GOOD | {"role": ["host"]}, KEY),
        jwt.encode(GOOD | {"exp": "never"}, KEY),
        jwt.encode(GOOD | {"nbf": LATER}, KEY),
    ],
)
def test_a_foreign_or_incomplete_token_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        verify_token(SECRET, token)


_part = st.text() | st.sampled_from([issue_token(SECRET, ME, "host").split(".")[0], "e30", "W10", "bnVsbA"])


@given(st.lists(_part, max_size=4).map(".".join))
@pytest.mark.slow
def test_no_malformed_token_causes_another_error(token: str) -> None:
    with pytest.raises(Unauthenticated):
        verify_token(SECRET, token)


@pytest.mark.slow
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
            ("POST", "/bookings/calculate-cost", {"event_run_id": str(uuid4()), "seats": 1}),
            ("POST", "/bookings/create", {"event_run_id": str(uuid4()), "seats": 1}),
            ("POST", "/bookings/confirm-attendance", {"event_run_id": str(uuid4()), "attended_booking_ids": []}),
            ("POST", f"/bookings/{uuid4()}/cancel", None),
            ("GET", "/operations/x", None),
        ):
            response = api.client.request(method, path, json=body, headers=headers)
            problem_of(response, 401, "unauthenticated")
            assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.slow
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


@pytest.mark.slow
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

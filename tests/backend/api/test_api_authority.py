"""Who may do what: every route, by every role, on what is one's own and on what belongs to somebody else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import pytest
from api_environment import ApiEnvironment, ApiUser, body_of, problem_of
from app.db.tables import operations as operations_table
from app.services import operations
from backend_environment import DAY
from sqlalchemy import update

pytestmark = pytest.mark.slow

EVERYBODY = ("platform", "host", "other_host", "attendee", "no_show", "host_as_attendee", "attendee_as_host")
HOST = ("platform", "host")
ATTENDEE = ("platform", "attendee")
ATTENDEES = ("platform", "attendee", "no_show", "host_as_attendee")


class Own(NamedTuple):
    """What belongs to `host` and to `attendee`: a run, and a booking on it."""

    run: dict[str, Any]
    booking: dict[str, Any]


class Case(NamedTuple):
    """A request, and who may send it."""

    operation_id: str
    method: str
    path: Callable[[ApiEnvironment, Own], str]
    body: Callable[[ApiEnvironment, Own], Any]
    allowed: tuple[str, ...]


def _nothing(api: ApiEnvironment, own: Own) -> None:
    return None


def _attendance(api: ApiEnvironment, own: Own) -> Any:
    return {"event_run_id": own.run["id"], "attended_booking_ids": [own.booking["id"]]}


def _booking(api: ApiEnvironment, own: Own) -> Any:
    return {"event_run_id": own.run["id"], "seats": 1}


def _held_key(api: ApiEnvironment) -> str:
    """Key of an operation of the host that a limit holds."""
    key = f"{api.host.id}:of-the-host"
    with api.backend.database.transaction() as connection:
        held = {"state": "prepared", "nonce": None, "attempts": [], "tx_hash": None, "held_cause": "above_limit"}
        connection.execute(update(operations_table).where(operations_table.c.key == key).values(held))
    return key


CASES: tuple[Case, ...] = (
    Case("create_event_run", "POST", lambda a, o: "/event-runs", lambda a, o: a.run_body(), HOST),
    Case("create_event_run", "POST", lambda a, o: "/event-runs", lambda a, o: a.run_body(host_id=str(a.host.id)), HOST),
    Case(
        "create_event_run",
        "POST",
        lambda a, o: "/event-runs",
        lambda a, o: a.run_body(experience_id=str(a.other_experience)),
        ("platform", "other_host"),
    ),
    Case("calculate_stake", "POST", lambda a, o: "/event-runs/calculate-stake", lambda a, o: a.run_body(), HOST),
    Case("list_event_runs", "GET", lambda a, o: "/event-runs", _nothing, EVERYBODY),
    Case("get_event_run", "GET", lambda a, o: f"/event-runs/{o.run['id']}", _nothing, EVERYBODY),
    *(
        Case("change_event_run_status", "PATCH", lambda a, o: f"/event-runs/{o.run['id']}/status", body, allowed)
        for body, allowed in (
            (lambda a, o: {"status": "cancelled"}, HOST),
            (lambda a, o: {"status": "completed", "attended_booking_ids": [o.booking["id"]]}, HOST),
            (lambda a, o: {"status": "expired"}, EVERYBODY),  # everybody whose money is in it waits for that
        )
    ),
    Case("cancel_event_run", "DELETE", lambda a, o: f"/event-runs/{o.run['id']}", _nothing, HOST),
    Case(
        "list_event_run_bookings",
        "GET",
        lambda a, o: f"/event-runs/{o.run['id']}/bookings",
        _nothing,
        ("platform", "host", "attendee", "no_show", "host_as_attendee"),
    ),
    Case("calculate_booking_cost", "POST", lambda a, o: "/bookings/calculate-cost", _booking, EVERYBODY),
    Case("create_booking", "POST", lambda a, o: "/bookings/create", _booking, ATTENDEES),
    Case(
        "create_booking",
        "POST",
        lambda a, o: "/bookings/create",
        lambda a, o: _booking(a, o) | {"user_id": str(a.attendee.id)},
        ATTENDEE,
    ),
    Case("confirm_attendance", "POST", lambda a, o: "/bookings/confirm-attendance", _attendance, HOST),
    Case("cancel_booking", "POST", lambda a, o: f"/bookings/{o.booking['id']}/cancel", _nothing, ATTENDEE),
    Case("list_bookings", "GET", lambda a, o: "/bookings", _nothing, EVERYBODY),
    Case(
        "list_bookings",
        "GET",
        lambda a, o: f"/bookings?user_id={a.attendee.id}",
        _nothing,
        ("platform", "host", "other_host", "attendee", "attendee_as_host"),
    ),
    Case("get_booking", "GET", lambda a, o: f"/bookings/{o.booking['id']}", _nothing, ("platform", "host", "attendee")),
    Case("list_operations", "GET", lambda a, o: "/operations", _nothing, EVERYBODY),
    Case(
        "get_operation",
        "GET",
        lambda a, o: f"/operations/{a.host.id}:of-the-host",
        _nothing,
        ("platform", "host", "host_as_attendee"),
    ),
    Case(
        "get_operation",
        "GET",
        lambda a, o: f"/operations/{a.attendee.id}:of-the-attendee",
        _nothing,
        ("platform", "attendee", "attendee_as_host"),
    ),
)
CASES += (
    Case("get_pause", "GET", lambda a, o: "/pause", _nothing, ("platform",)),
    Case("start_pause", "POST", lambda a, o: "/pause", lambda a, o: {"reason": "a test"}, ("platform",)),
    Case("end_pause", "DELETE", lambda a, o: "/pause", _nothing, ("platform",)),
    Case(
        "approve_operation",
        "POST",
        lambda a, o: f"/operations/{_held_key(a)}/approve",
        _nothing,
        ("platform",),
    ),
)
OPEN_ROUTES = {"get_health", "get_readiness", "get_metrics"}
PAYMENTS = {"get_payment", "order_payment", "record_capture", "record_refund", "receive_webhook"}
"""Routes that `test_api_payments.py` has, as they take a service with payments."""


def users_of(api: ApiEnvironment) -> dict[str, ApiUser]:
    return {
        **{name: getattr(api, name) for name in EVERYBODY[:5]},
        "host_as_attendee": ApiUser(api.client, api.host.id, "attendee"),
        "attendee_as_host": ApiUser(api.client, api.attendee.id, "host"),
    }


def own_things(api: ApiEnvironment) -> Own:
    run = body_of(api.host.post("/event-runs", api.run_body(seats=20), Idempotency_Key="of-the-host"), 201)
    body = {"event_run_id": run["id"], "seats": 1}
    booking = body_of(api.attendee.post("/bookings/create", body, Idempotency_Key="of-the-attendee"), 201)
    return Own(run, booking)


def number_of_operations(api: ApiEnvironment) -> int:
    with api.backend.database.autocommit() as connection:
        return len(connection.exec_driver_sql("SELECT key FROM operations").all())


def test_every_route_is_in_the_table(api: ApiEnvironment) -> None:
    paths = api.client.get("/openapi.json").json()["paths"]
    documented = {operation["operationId"] for path in paths.values() for operation in path.values()}
    assert documented == {case.operation_id for case in CASES} | OPEN_ROUTES | PAYMENTS


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method} {case.operation_id}")
def test_who_may(api: ApiEnvironment, case: Case) -> None:
    """All others get 403, and nothing is stored. Who may gets a success, or what the contract says."""
    own, users = own_things(api), users_of(api)
    path, body = case.path(api, own), case.body(api, own)
    headers = {"Idempotency_Key": "k"} if case.method != "GET" else {}
    stored = number_of_operations(api)
    for name in EVERYBODY:
        if name not in case.allowed:
            problem_of(users[name].request(case.method, path, body, **headers), 403, "forbidden")
    assert number_of_operations(api) == stored
    for name in case.allowed:
        to_send = body
        if name == "platform" and case.operation_id.startswith("create_") and not {"host_id", "user_id"} & body.keys():
            owner = api.other_host if "experience_id" in body else api.attendee
            to_send = body | {"host_id" if "experience_id" in body else "user_id": str(owner.id)}
        response = users[name].request(case.method, path, to_send, **headers)
        accepted = response.status_code in (200, 201) or response.json()["code"] == "contract_rejected"
        assert accepted, (name, response.text)


def test_a_refund_goes_to_whoever_booked(api: ApiEnvironment) -> None:
    """The platform cancels; neither it nor the host gets the money."""
    own = own_things(api)
    before = {role: api.backend.balance(role) for role in ("attendee", "host", "no_show")}
    body_of(api.platform.post(f"/bookings/{own.booking['id']}/cancel"), 200)
    paid = int(own.booking["blockchain_payment_wei"]) + int(own.booking["blockchain_stake_amount_wei"])
    gains = {role: api.backend.balance(role) - before[role] for role in before}
    assert gains == {"attendee": paid, "host": 0, "no_show": 0}


def test_attendance_of_another_hosts_booking_changes_nothing(api: ApiEnvironment) -> None:
    own = own_things(api)
    other_body = api.run_body(experience_id=str(api.other_experience))
    other = body_of(api.other_host.post("/event-runs", other_body), 201)
    api.backend.go_to(datetime.fromisoformat(own.run["starts_at"]) + DAY)
    api.backend.engine.mine()
    body = {"event_run_id": other["id"], "attended_booking_ids": [own.booking["id"]]}
    problem = problem_of(api.other_host.post("/bookings/confirm-attendance", body), 409, "contract_rejected")
    assert problem["error"] == "BookingNotOfRun"
    assert body_of(api.attendee.get(f"/bookings/{own.booking['id']}"), 200) == own.booking


def test_a_key_of_somebody_else_does_not_lead_to_their_operation(api: ApiEnvironment) -> None:
    """Neither their response nor their operation."""
    own_things(api)
    with api.backend.database.autocommit() as connection:
        assert operations.find(connection, f"{api.host.id}:of-the-host")
    other = api.run_body(experience_id=str(api.other_experience))
    mine = body_of(api.other_host.post("/event-runs", other, Idempotency_Key="of-the-host"), 201)
    assert mine["host_id"] == str(api.other_host.id)
    stolen = f"{api.host.id}:of-the-host"
    problem_of(api.other_host.post("/event-runs", other, Idempotency_Key=stolen), 422, "invalid_request")

"""Lists over HTTP: who sees what, filters, pages, cursors."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from api_environment import ApiEnvironment, ApiUser, body_of, problem_of
from app.api.pagination import DEFAULT_LIMIT, MAX_LIMIT
from app.db.tables import event_run_bookings, event_runs, operations
from sqlalchemy import func, insert, select, update

pytestmark = pytest.mark.slow

LISTS = ("/event-runs", "/bookings", "/operations")


def ids_of(user: ApiUser, path: str, **filters: Any) -> list[str]:
    """Returns the ids, or keys, of a list's first page."""
    query = urlencode(filters)
    return [item.get("id") or item["key"] for item in body_of(user.get(f"{path}?{query}"), 200)["items"]]


def walk(user: ApiUser, path: str, **filters: Any) -> Iterator[list[dict[str, Any]]]:
    """Yields the pages of a list."""
    while True:
        page = body_of(user.get(f"{path}?{urlencode(filters)}"), 200)
        yield page["items"]
        if page["next"] is None:
            return
        filters["cursor"] = page["next"]


@pytest.fixture
def filled(api: ApiEnvironment) -> ApiEnvironment:
    """Five runs of the host and one of the other host; bookings of both attendees on two of them."""
    first, second = api.open_run(), api.open_run(starts_at=(api.backend.now() + timedelta(days=2)).isoformat())
    for _ in range(3):
        api.open_run()
    other = body_of(api.platform.post("/event-runs", api.run_body(host_id=str(api.other_host.id))), 201)
    for run in (first, second, other):
        api.book(run)
        api.book(run, by=api.no_show)
    return api


def test_everybody_sees_their_own_bookings_and_operations(filled: ApiEnvironment) -> None:
    """A host sees the bookings of their runs, the platform everything."""
    bookings = filled.services.bookings.list_all()[::-1]
    of_host = {run.id for run in filled.services.runs.list_all() if run.host_id == filled.host.id}
    for user, seen in (
        (filled.platform, bookings),
        (filled.host, [booking for booking in bookings if booking.event_run_id in of_host]),
        (filled.other_host, [booking for booking in bookings if booking.event_run_id not in of_host]),
        (filled.attendee, [booking for booking in bookings if booking.user_id == filled.attendee.id]),
        (ApiUser(filled.client, filled.host.id, "attendee"), []),
    ):
        assert ids_of(user, "/bookings") == [str(booking.id) for booking in seen]
    assert len(ids_of(filled.platform, "/operations")) == 12
    for user, count in ((filled.host, 5), (filled.attendee, 3), (filled.no_show, 3), (filled.other_host, 0)):
        keys = ids_of(user, "/operations")
        assert len(keys) == count
        assert all(key.startswith(f"{user.id}:") for key in keys)
    for user in (filled.platform, filled.host, filled.other_host, filled.attendee):
        assert len(ids_of(user, "/event-runs")) == 6


def test_one_booking_is_shown_to_its_attendee_its_host_and_the_platform(filled: ApiEnvironment) -> None:
    booking = filled.services.bookings.list_all()[0]
    path = f"/bookings/{booking.id}"
    shown = body_of(filled.attendee.get(path), 200)
    assert shown["id"] == str(booking.id)
    assert body_of(filled.host.get(path), 200) == body_of(filled.platform.get(path), 200) == shown
    for stranger in (filled.no_show, filled.other_host, ApiUser(filled.client, filled.attendee.id, "host")):
        problem_of(stranger.get(path), 403, "forbidden")
    problem_of(filled.platform.get(f"/bookings/{uuid4()}"), 404, "not_found")


def test_filters_of_bookings(filled: ApiEnvironment) -> None:
    booking = filled.services.bookings.list_all()[0]
    body_of(filled.attendee.post(f"/bookings/{booking.id}/cancel"), 200)
    run, user = booking.event_run_id, booking.user_id
    assert ids_of(filled.platform, "/bookings", status="cancelled") == [str(booking.id)]
    assert ids_of(filled.platform, "/bookings", event_run_id=run, user_id=user) == [str(booking.id)]
    assert ids_of(filled.host, "/bookings", event_run_id=run, user_id=user, status="active") == []
    assert len(ids_of(filled.host, "/bookings", user_id=filled.no_show.id)) == 2
    assert len(ids_of(filled.host, "/bookings", event_run_id=run)) == 2
    assert ids_of(filled.other_host, "/bookings", event_run_id=run) == []
    assert len(ids_of(filled.attendee, "/bookings", user_id=user)) == 3
    problem_of(filled.attendee.get(f"/bookings?user_id={filled.no_show.id}"), 403, "forbidden")
    path = f"/event-runs/{run}/bookings"
    assert ids_of(filled.host, path, status="cancelled") == ids_of(filled.attendee, path) == [str(booking.id)]
    assert ids_of(filled.attendee, path, status="active") == []


def test_filters_of_event_runs(filled: ApiEnvironment) -> None:
    runs = sorted(filled.services.runs.list_all(), key=lambda run: (run.starts_at, run.id))
    soonest = runs[0]
    assert ids_of(filled.attendee, "/event-runs") == [str(run.id) for run in runs]
    assert len(ids_of(filled.attendee, "/event-runs", host_id=filled.host.id)) == 5
    assert len(ids_of(filled.attendee, "/event-runs", experience_id=filled.experience)) == 6
    assert ids_of(filled.attendee, "/event-runs", experience_id=uuid4()) == []
    starts = {run.starts_at for run in runs}
    assert len(starts) > 1
    before = ids_of(filled.attendee, "/event-runs", starts_before=runs[1].starts_at.isoformat())
    assert before == [str(soonest.id)]
    since = ids_of(filled.attendee, "/event-runs", starts_from=runs[1].starts_at.isoformat())
    assert since == [str(run.id) for run in runs[1:]]
    body_of(filled.host.delete(f"/event-runs/{soonest.id}"), 200)
    assert ids_of(filled.attendee, "/event-runs", status="cancelled") == [str(soonest.id)]
    assert ids_of(filled.attendee, "/event-runs", blockchain_status="failed") == []


def test_filters_of_operations(filled: ApiEnvironment) -> None:
    with filled.backend.database.transaction() as connection:
        held = connection.execute(select(operations.c.key).limit(1)).scalar_one()
        connection.execute(update(operations).where(operations.c.key == held).values(held="why", held_cause="refused"))
    assert ids_of(filled.platform, "/operations", held="true") == [held]
    assert len(ids_of(filled.platform, "/operations", held="false")) == 11
    assert len(ids_of(filled.platform, "/operations", state="confirmed")) == 12
    assert ids_of(filled.platform, "/operations", state="rejected") == []


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 7])
def test_pages_have_each_item_once(filled: ApiEnvironment, limit: int) -> None:
    """Also if all rows have the same time."""
    with filled.backend.database.transaction() as connection:
        connection.execute(update(event_runs).values(starts_at=func.now(), created_at=func.now()))
        connection.execute(update(event_run_bookings).values(created_at=func.now()))
        connection.execute(update(operations).values(created_at=func.now()))
    for user in (filled.platform, filled.host):
        for path in LISTS:
            whole = [item.get("id") or item["key"] for item in body_of(user.get(path), 200)["items"]]
            pages = [[item.get("id") or item["key"] for item in page] for page in walk(user, path, limit=limit)]
            assert [name for page in pages for name in page] == whole
            assert all(len(page) == limit for page in pages[:-1])
            assert pages[-1]


def test_rows_that_are_inserted_meanwhile_move_no_others(filled: ApiEnvironment) -> None:
    bookings = [str(booking.id) for booking in filled.services.bookings.list_all()[::-1]]
    run = filled.services.runs.list_all()[-1]
    seen: list[str] = []
    for page in walk(filled.platform, "/bookings", limit=2):
        seen += [item["id"] for item in page]
        row = {"event_run_id": run.id, "user_id": filled.no_show.id, "seats": 1, "total_inr": 1}
        with filled.backend.database.transaction() as connection:
            connection.execute(insert(event_run_bookings).values(row))
    assert seen == bookings


def test_pages_have_a_default_and_a_maximum(filled: ApiEnvironment) -> None:
    run = filled.services.runs.list_all()[0]
    row = {"event_run_id": run.id, "user_id": filled.no_show.id, "seats": 1, "total_inr": 1}
    with filled.backend.database.transaction() as connection:
        connection.execute(insert(event_run_bookings), [row] * (MAX_LIMIT + 1))
    for path in ("/bookings", f"/event-runs/{run.id}/bookings"):
        assert len(ids_of(filled.platform, path)) == DEFAULT_LIMIT
        assert len(ids_of(filled.platform, path, limit=MAX_LIMIT)) == MAX_LIMIT
        for limit in (0, -1, MAX_LIMIT + 1, "x", ""):
            problem_of(filled.platform.get(f"{path}?limit={limit}"), 422, "invalid_request")


def test_a_cursor_is_good_for_its_list_filters_and_caller_only(filled: ApiEnvironment) -> None:
    cursor = body_of(filled.platform.get("/bookings?limit=1"), 200)["next"]
    run = filled.services.runs.list_all()[0]
    assert ids_of(filled.platform, "/bookings", cursor=cursor, limit=3)  # another limit is no other list
    for user, path in (
        (filled.platform, "/event-runs?"),
        (filled.platform, "/operations?"),
        (filled.platform, f"/event-runs/{run.id}/bookings?"),
        (filled.platform, "/bookings?status=active&"),
        (filled.host, "/bookings?"),
        (ApiUser(filled.client, filled.platform.id, "host"), "/bookings?"),
    ):
        problem_of(user.get(f"{path}cursor={cursor}"), 422, "invalid_cursor")


def test_a_malformed_cursor_is_refused(filled: ApiEnvironment) -> None:
    good = body_of(filled.platform.get("/operations?limit=1"), 200)["next"]
    of_list, time, key = json.loads(base64.urlsafe_b64decode(good + "=="))

    def forged(*parts: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")

    assert forged(of_list, time, key) == good
    for cursor in (
        "x",
        good[:-1],
        good + "A",
        forged(),
        forged(of_list, time),
        forged(of_list, time, key, 1),
        forged(of_list, 10**30, key),
        forged(of_list, -(10**18), key),
        forged(of_list, float(time), key),
        forged(of_list, True, key),
        forged(of_list, str(time), key),
        forged(of_list, time, "\0"),
        forged(of_list, time, "\ud800"),
        forged(of_list, time, 7),
        forged(of_list, time, None),
        forged([], time, key),
        base64.urlsafe_b64encode(b"[" * 400).decode().rstrip("="),
        base64.urlsafe_b64encode(b"\xff\xfe").decode().rstrip("="),
    ):
        problem_of(filled.platform.get(f"/operations?cursor={cursor}"), 422, "invalid_cursor")
    for cursor in ("", "=", "a b", "%00", "a" * 601):
        problem_of(filled.platform.get(f"/operations?cursor={cursor}"), 422, "invalid_request")
    of_runs = body_of(filled.platform.get("/event-runs?limit=1"), 200)["next"]
    of_list, time, _ = json.loads(base64.urlsafe_b64decode(of_runs + "=" * (-len(of_runs) % 4)))
    problem_of(filled.platform.get(f"/event-runs?cursor={forged(of_list, time, 'no-id')}"), 422, "invalid_cursor")


def test_an_unknown_filter_is_refused(filled: ApiEnvironment) -> None:
    """A misspelled filter would otherwise list everything."""
    for path in (*LISTS, f"/event-runs/{filled.services.runs.list_all()[0].id}/bookings"):
        problem_of(filled.platform.get(f"{path}?statsu=active"), 422, "invalid_request")
    for query in ("status=gone", "host_id=x", "starts_from=2030-01-01", "starts_from=%00", "experience_id=%ff"):
        problem_of(filled.platform.get(f"/event-runs?{query}"), 422, "invalid_request")


def test_a_start_before_the_epoch_has_a_cursor_as_well(filled: ApiEnvironment) -> None:
    with filled.backend.database.transaction() as connection:
        starts_at = datetime.fromisoformat("1066-10-14T09:00:00.000001Z")
        connection.execute(update(event_runs).values(starts_at=starts_at))
    assert sum(len(page) for page in walk(filled.platform, "/event-runs", limit=2)) == 6

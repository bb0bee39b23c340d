"""What `EventRunService` writes to rows by itself: results of views, and the end of runs that never came on chain."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from app.db.database import Database
from app.db.tables import event_run_bookings, event_runs, experiences, users
from app.services.contract_types import RunStatus
from app.services.event_run_service import EventRunService
from fixed_clock import NOW
from sqlalchemy import Connection, Table, insert, select

STATUSES = ("pending", "confirmed", "failed")


def service(database: Database) -> EventRunService:
    return EventRunService(database, None, None)  # type: ignore[arg-type]


def add_one(connection: Connection, table: Table, **values: Any) -> UUID:
    return UUID(str(connection.execute(insert(table).values(values).returning(table.c.id)).scalar_one()))


def add_run(database: Database, number: int, **values: Any) -> tuple[UUID, UUID]:
    """A run and its booking, which have this number on chain."""
    with database.transaction() as connection:
        user = add_one(connection, users, name="somebody")
        experience = add_one(connection, experiences, host_id=user, title="Pottery")
        row = {"experience_id": experience, "host_id": user, "starts_at": NOW, "max_seats": 4, "price_inr": 10}
        row |= {"blockchain_event_run_id": number, "blockchain_status": "confirmed", "blockchain_block": 5}
        run = add_one(connection, event_runs, **row | {"refresh_due": True} | values)
        booked = {"event_run_id": run, "user_id": user, "seats": 1, "total_inr": 10, "status": "active"}
        booked |= {"blockchain_booking_id": number, "blockchain_status": "confirmed"}
        return run, add_one(connection, event_run_bookings, **booked)


def rows(database: Database) -> dict[UUID, dict[str, Any]]:
    with database.autocommit() as connection:
        found = [*connection.execute(select(event_runs)), *connection.execute(select(event_run_bookings))]
        return {row.id: row._asdict() for row in found}


@pytest.mark.parametrize("statuses", [{}, {1: "completed"}])
@pytest.mark.parametrize(("block", "is_newer"), [(4, False), (5, True), (6, True)])
def test_the_results_of_views_are_stored_unless_the_row_is_newer(
    database: Database, block: int, is_newer: bool, statuses: dict[int, str]
) -> None:
    run, booking = add_run(database, 1)
    add_run(database, 2)
    before = rows(database)
    view: Any = SimpleNamespace(status=RunStatus.COMPLETED, seats_booked=3)
    service(database)._store_refreshed(run, block, view, statuses)
    if is_newer:
        before[run] |= {"status": "completed", "seats_booked": 3, "blockchain_block": block}
        before[run] |= {"refreshed_block": block, "refresh_due": False}
        before[booking] |= {"status": statuses.get(1, "active")}
    assert rows(database) == before


def test_each_booking_gets_its_own_status(database: Database) -> None:
    run, first = add_run(database, 1)
    (_, second), (_, third) = add_run(database, 2), add_run(database, 3)
    view: Any = SimpleNamespace(status=RunStatus.COMPLETED, seats_booked=3)
    service(database)._store_refreshed(run, 9, view, {1: "completed", 2: "no_show"})
    stored = rows(database)
    assert [stored[booking]["status"] for booking in (first, second, third)] == ["completed", "no_show", "active"]


@pytest.mark.parametrize("status", STATUSES)
def test_only_a_run_that_never_came_on_chain_is_cancelled_by_hand(database: Database, status: str) -> None:
    runs = {each: add_run(database, number, blockchain_status=each)[0] for number, each in enumerate(STATUSES)}
    before = rows(database)
    service(database).cancel_failed(runs[status])
    before[runs[status]] |= {"status": "cancelled" if status == "failed" else "active"}
    assert rows(database) == before

"""Projections: rows change together with the operation, and final rows never change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from app.core.errors import UnexpectedReceipt
from app.db.tables import EventRun
from app.services import operations, projections
from app.services.codec import Event
from app.services.operation_types import Operation
from backend_environment import BackendEnvironment, before_request, transact
from test_rows import mined, rows


def signed(backend: BackendEnvironment, run: EventRun) -> Operation:
    """Returns an operation that is signed and not closed."""
    return backend.sender.step(backend.runs.prepare_cancel(run.id))


def close(backend: BackendEnvironment, operation: Operation, events: list[Event], **options: Any) -> Operation | None:
    """Closes the operation as if its transaction had emitted these events in the latest block."""
    block = backend.chain.block_number()
    effects = projections.effects_of_success(operation, events, "0xab", block)
    mined = {"tx_hash": "0xab", "block_number": block, "block_hash": "0xcd", "gas_used": 21_000, "gas_price_wei": 1}
    with backend.database.autocommit() as connection:
        return operations.close(connection, operation, ("signed",), effects, state="confirmed", **mined, **options)


COMPLETED = [
    Event("BookingCompleted", {"booking_id": 1}),
    Event("BookingNoShow", {"booking_id": 2}),
    Event("EventCompleted", {"event_run_id": 1}),
]
CANCELLED = [Event("EventCancelled", {"event_run_id": 1})]
EXPIRED = [Event("EventExpired", {"event_run_id": 1})]
REFUNDED = [Event("BookingCancelled", {"booking_id": 1})]
ALL = pytest.mark.parametrize("events", [COMPLETED, CANCELLED, EXPIRED, REFUNDED], ids=lambda events: events[-1].name)


def booked(backend: BackendEnvironment) -> EventRun:
    run = backend.open_run()
    for role in ("attendee", "no_show"):
        backend.bookings.book(run.id, backend.ids[role], 1)
    return run


@ALL
def test_rows_do_not_change_before_the_operation_closes(backend: BackendEnvironment, events: list[Event]) -> None:
    """An open operation with a lower nonce keeps a later one from closing."""
    run = booked(backend)
    earlier, later = signed(backend, run), signed(backend, run)
    before = rows(backend)
    assert close(backend, later, events, in_order=True) is None
    assert rows(backend) == before
    assert close(backend, earlier, [], in_order=True) is not None
    assert rows(backend) == before
    assert close(backend, later, events, in_order=True) is not None
    assert rows(backend) != before


@ALL
def test_events_do_not_change_final_rows(backend: BackendEnvironment, events: list[Event]) -> None:
    """A row that was refreshed from a later block is not reverted by an earlier event."""
    run = booked(backend)
    late = signed(backend, run)
    transact(backend, "attendee", "cancelBooking", 1)
    transact(backend, "host", "cancelEvent", 1)
    backend.runs.refresh(run.id)
    with backend.database.transaction() as connection:  # as a booking that is entered after its run was closed
        connection.exec_driver_sql("UPDATE event_run_bookings SET status = 'active' WHERE blockchain_booking_id = 2")
    before = backend.runs.get(run.id), backend.bookings.list_all()[0] if events is REFUNDED else None
    assert close(backend, late, events) is not None
    after = backend.runs.get(run.id), backend.bookings.list_all()[0] if events is REFUNDED else None
    assert after == before
    if events in (CANCELLED, EXPIRED):
        assert backend.bookings.list_all()[1].status == "active"


def test_seats_are_freed_once(backend: BackendEnvironment) -> None:
    run = booked(backend)
    for seats_booked in (1, 1):
        assert close(backend, signed(backend, run), REFUNDED) is not None
        assert (backend.runs.get(run.id).seats_booked, backend.bookings.list_all()[0].status) == (
            seats_booked,
            "cancelled",
        )


def test_a_booking_that_is_entered_late_does_not_open_its_run_again(backend: BackendEnvironment) -> None:
    run = backend.open_run()
    operation = mined(backend, backend.bookings.prepare_book(run.id, backend.ids["attendee"], 2))
    transact(backend, "host", "cancelEvent", 1)
    refreshed = backend.runs.refresh(run.id)
    assert refreshed.status == "cancelled"
    backend.sender.finish(operation)
    assert backend.runs.get(run.id) == replace(refreshed, refresh_due=True)


def test_a_run_knows_the_block_that_it_was_created_in(backend: BackendEnvironment) -> None:
    run = backend.open_run()
    receipt = backend.engine.w3.eth.get_transaction_receipt(run.blockchain_tx_hash)  # type: ignore[arg-type]
    assert run.blockchain_block == receipt["blockNumber"] == backend.chain.block_number()


@pytest.mark.parametrize("count", [0, 2])
def test_a_creation_requires_exactly_one_event(backend: BackendEnvironment, count: int) -> None:
    operation = backend.bookings.prepare_book(backend.open_run().id, backend.ids["attendee"], 1)
    message = f"^Transaction 0xab has {count} events BookingCreated where one must be\\.$"
    with pytest.raises(UnexpectedReceipt, match=message):
        projections.effects_of_success(operation, [Event("BookingCreated", {})] * count, "0xab", 7)


def test_a_refresh_is_dropped_if_a_later_event_came_meanwhile(backend: BackendEnvironment) -> None:
    run = backend.open_run()

    before_request(backend.engine.w3, lambda: backend.bookings.book(run.id, backend.ids["attendee"], 3), "eth_call")
    assert backend.runs.refresh(run.id) == replace(
        run, seats_booked=3, blockchain_block=backend.chain.block_number(), refreshed_block=run.refreshed_block
    )

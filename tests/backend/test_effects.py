"""What the closing of an operation does to rows: with it or not at all, and never to what is final."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from app.core.errors import UnexpectedReceipt
from app.db.tables import EventRun
from app.services import operations, projections
from app.services.codec import Event
from app.services.operation_types import Operation
from stage import Stage, before_request, transact
from test_rows import mined, rows


def signed(stage: Stage, run: EventRun) -> Operation:
    """An operation that is signed and not closed, whatever it is about."""
    return stage.sender.step(stage.runs.prepare_cancel(run.id))


def close(stage: Stage, operation: Operation, events: list[Event], **options: Any) -> Operation | None:
    """Closes it as if its transaction had emitted these events in the latest block."""
    block = stage.chain.block_number()
    done = projections.effects_of_success(operation, events, "0xab", block)
    mined = {"tx_hash": "0xab", "block_number": block, "block_hash": "0xcd", "gas_used": 21_000, "gas_price_wei": 1}
    with stage.database.autocommit() as connection:
        return operations.close(connection, operation, ("signed",), done, state="confirmed", **mined, **options)


COMPLETED = [
    Event("BookingCompleted", {"booking_id": 1}),
    Event("BookingNoShow", {"booking_id": 2}),
    Event("EventCompleted", {"event_run_id": 1}),
]
CANCELLED = [Event("EventCancelled", {"event_run_id": 1})]
EXPIRED = [Event("EventExpired", {"event_run_id": 1})]
REFUNDED = [Event("BookingCancelled", {"booking_id": 1})]
ALL = pytest.mark.parametrize("events", [COMPLETED, CANCELLED, EXPIRED, REFUNDED], ids=lambda events: events[-1].name)


def booked(stage: Stage) -> EventRun:
    run = stage.open_run()
    for role in ("attendee", "no_show"):
        stage.bookings.book(run.id, stage.ids[role], 1)
    return run


@ALL
def test_what_is_not_closed_changes_no_row(stage: Stage, events: list[Event]) -> None:
    """An operation with a lower nonce is open, so that this one can't be closed yet; then it can."""
    run = booked(stage)
    earlier, later = signed(stage, run), signed(stage, run)
    before = rows(stage)
    assert close(stage, later, events, in_order=True) is None
    assert rows(stage) == before
    assert close(stage, earlier, [], in_order=True) is not None
    assert rows(stage) == before
    assert close(stage, later, events, in_order=True) is not None
    assert rows(stage) != before


@ALL
def test_what_is_final_stays_as_it_is(stage: Stage, events: list[Event]) -> None:
    """What a view of a later block has told already, the event does not take back."""
    run = booked(stage)
    late = signed(stage, run)
    transact(stage, "attendee", "cancelBooking", 1)
    transact(stage, "host", "cancelEvent", 1)
    stage.runs.refresh(run.id)
    with stage.database.transaction() as connection:  # as a booking that is entered after its run was closed
        connection.exec_driver_sql("UPDATE event_run_bookings SET status = 'active' WHERE blockchain_booking_id = 2")
    before = stage.runs.get(run.id), stage.bookings.list_all()[0] if events is REFUNDED else None
    assert close(stage, late, events) is not None
    after = stage.runs.get(run.id), stage.bookings.list_all()[0] if events is REFUNDED else None
    assert after == before
    if events in (CANCELLED, EXPIRED):
        assert stage.bookings.list_all()[1].status == "active"


def test_seats_are_freed_once(stage: Stage) -> None:
    run = booked(stage)
    for left in (1, 1):
        assert close(stage, signed(stage, run), REFUNDED) is not None
        assert (stage.runs.get(run.id).seats_booked, stage.bookings.list_all()[0].status) == (left, "cancelled")


def test_a_booking_that_is_entered_late_does_not_open_its_run_again(stage: Stage) -> None:
    run = stage.open_run()
    operation = mined(stage, stage.bookings.prepare_book(run.id, stage.ids["attendee"], 2))
    transact(stage, "host", "cancelEvent", 1)
    seen = stage.runs.refresh(run.id)
    assert seen.status == "cancelled"
    stage.sender.finish(operation)
    assert stage.runs.get(run.id) == replace(seen, refresh_due=True)


def test_a_run_knows_the_block_that_it_was_created_in(stage: Stage) -> None:
    run = stage.open_run()
    receipt = stage.engine.w3.eth.get_transaction_receipt(run.blockchain_tx_hash)  # type: ignore[arg-type]
    assert run.blockchain_block == receipt["blockNumber"] == stage.chain.block_number()


@pytest.mark.parametrize("count", [0, 2])
def test_what_was_to_be_created_is_told_of_once(stage: Stage, count: int) -> None:
    operation = stage.bookings.prepare_book(stage.open_run().id, stage.ids["attendee"], 1)
    said = f"^Transaction 0xab has {count} events BookingCreated where one must be\\.$"
    with pytest.raises(UnexpectedReceipt, match=said):
        projections.effects_of_success(operation, [Event("BookingCreated", {})] * count, "0xab", 7)


def test_a_view_is_dropped_where_something_later_came_in_between(stage: Stage) -> None:
    run = stage.open_run()

    before_request(stage.engine.w3, lambda: stage.bookings.book(run.id, stage.ids["attendee"], 3), "eth_call")
    assert stage.runs.refresh(run.id) == replace(
        run, seats_booked=3, blockchain_block=stage.chain.block_number(), refreshed_block=run.refreshed_block
    )

"""Projections: rows change together with the operation, and final rows never change."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from app.core.errors import UnexpectedReceipt
from app.db.tables import EventRun
from app.services import operations, projections
from app.services.codec import Event
from app.services.operation_types import Operation
from backend_environment import DAY, BackendEnvironment, before_request, transact
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


def signed_creation(backend: BackendEnvironment) -> Operation:
    run = backend.open_run()
    terms = run.experience_id, backend.now() + 3 * DAY, 4, Decimal(20_000)
    return backend.sender.step(backend.runs.prepare_create(backend.ids["host"], *terms))


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


@pytest.mark.slow
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


def write(backend: BackendEnvironment, table: str, row: UUID | str, **values: Any) -> None:
    """Writes values into a row, as an earlier event, refresh or reorganisation would have."""
    names = ", ".join(f"{name} = %({name})s" for name in values)
    with backend.database.transaction() as connection:
        key = "key" if table == "operations" else "id"
        connection.exec_driver_sql(f"UPDATE {table} SET {names} WHERE {key} = %(row)s", values | {"row": str(row)})


def changes(before: EventRun, after: EventRun) -> dict[str, Any]:
    return {name: value for name, value in vars(after).items() if value != getattr(before, name)}


# What a run's row has before an event adds two seats of four in block 0, and what changes. Blocks are relative to it.
SEATS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"seats_booked": 0}, {"seats_booked": 2}),
    ({"seats_booked": 1}, {"seats_booked": 3}),
    ({"seats_booked": 2}, {"seats_booked": 4, "status": "full"}),
    ({"seats_booked": 0, "refreshed_block": -1}, {"seats_booked": 2}),
    ({"seats_booked": 2, "refreshed_block": 0}, {"refresh_due": True}),
    ({"seats_booked": 2, "refreshed_block": 1}, {"refresh_due": True}),
    ({"seats_booked": 4, "status": "full", "refreshed_block": 0}, {"refresh_due": True}),
    ({"seats_booked": 3, "status": "full", "refreshed_block": 0}, {"status": "active", "refresh_due": True}),
    ({"seats_booked": 0, "refresh_due": True}, {"seats_booked": 2}),
    ({"seats_booked": 0, "status": "completed"}, {"seats_booked": 2, "refresh_due": True}),
    ({"seats_booked": 2, "status": "cancelled"}, {"seats_booked": 4, "refresh_due": True}),
    ({"seats_booked": 0, "blockchain_block": 5}, {"seats_booked": 2}),
]


@pytest.mark.slow
def test_a_booking_adds_its_seats_once_and_fills_the_run(backend: BackendEnvironment) -> None:
    cases = [(reorged, *case) for reorged in (False, True) for case in SEATS]
    other, runs = backend.open_run(), [backend.open_run() for _ in cases]
    prepared = [backend.bookings.prepare_book(run.id, backend.ids["attendee"], 2) for run in runs]
    booked = [backend.sender.step(operation) for operation in prepared]
    block = backend.chain.block_number()
    for (reorged, before, expected), run, operation in zip(cases, runs, booked, strict=True):
        write(backend, "operations", operation.key, reorged=reorged)
        blocks = {name: block + before[name] for name in ("refreshed_block", "blockchain_block") if name in before}
        write(backend, "event_runs", run.id, **before | blocks)
        old, on_chain_id = backend.runs.get(run.id), run.blockchain_event_run_id
        created = {"booking_id": on_chain_id, "total_payment": 7, "user_stake": 5}
        assert close(backend, operation, [Event("BookingCreated", created)]) is not None
        known = {"refresh_due": True} if reorged and not old.refresh_due else {}
        new_block = {} if "blockchain_block" in before else {"blockchain_block": block}
        assert changes(old, backend.runs.get(run.id)) == expected | new_block | known, before
        assert operation.subject is not None
        booking = backend.bookings.get(operation.subject)
        assert (booking.blockchain_booking_id, booking.blockchain_status) == (on_chain_id, "confirmed")
        amounts = (booking.blockchain_payment_wei, booking.blockchain_stake_amount_wei, booking.blockchain_tx_hash)
        assert amounts == (7, 5, "0xab")
    assert backend.runs.get(other.id) == other


# What a run's row has before its booking of two seats is cancelled in block 0, and what changes
FREED: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"seats_booked": 2}, "active", {"seats_booked": 0}),
    ({"seats_booked": 4, "status": "full"}, "active", {"seats_booked": 2, "status": "active"}),
    ({"seats_booked": 2, "refreshed_block": -1}, "active", {"seats_booked": 0}),
    ({"seats_booked": 0, "refreshed_block": 0}, "active", {"refresh_due": True}),
    ({"seats_booked": 2, "status": "cancelled"}, "active", {"seats_booked": 0, "refresh_due": True}),
    ({"seats_booked": 2, "refreshed_block": -1}, "cancelled", {}),
    ({"seats_booked": 2, "refreshed_block": 0}, "cancelled", {"blockchain_block": None}),
    ({"seats_booked": 2}, "cancelled", {}),
]


@pytest.mark.slow
def test_a_cancelled_booking_frees_its_seats_once(backend: BackendEnvironment) -> None:
    other, runs = backend.open_run(), [backend.open_run() for _ in FREED]
    bookings = [backend.bookings.book(run.id, backend.ids["attendee"], 2) for run in runs]
    others = backend.bookings.book(other.id, backend.ids["attendee"], 2)
    cancelled = [signed(backend, run) for run in runs]
    other, block = backend.runs.get(other.id), backend.chain.block_number()
    for (before, status, expected), run, booking, operation in zip(FREED, runs, bookings, cancelled, strict=True):
        blocks = {"refreshed_block": block + before["refreshed_block"]} if "refreshed_block" in before else {}
        write(backend, "event_runs", run.id, **before | blocks | {"blockchain_block": block - 1})
        write(backend, "event_run_bookings", booking.id, status=status)
        old = backend.runs.get(run.id)
        event = Event("BookingCancelled", {"booking_id": booking.blockchain_booking_id})
        assert close(backend, operation, [event]) is not None
        expected = {"blockchain_block": block} | expected
        assert changes(old, backend.runs.get(run.id)) == {k: v for k, v in expected.items() if v is not None}, before
        assert backend.bookings.get(booking.id).status == "cancelled"
    assert (backend.runs.get(other.id), backend.bookings.get(others.id)) == (other, others)


@pytest.mark.parametrize("reorged", [False, True])
def test_a_run_is_confirmed_with_what_its_event_says(backend: BackendEnvironment, reorged: bool) -> None:
    """If a reorganisation dropped its creation, it has missed the events meanwhile, and is due for a refresh."""
    before = backend.open_run()
    operation = signed_creation(backend)
    write(backend, "operations", operation.key, reorged=reorged)
    created = {"event_run_id": 9, "price_per_seat": 7, "host_stake": 5}
    assert close(backend, operation, [Event("EventRunCreated", created)]) is not None
    assert operation.subject is not None
    run = backend.runs.get(operation.subject)
    assert (run.blockchain_event_run_id, run.blockchain_price_per_seat_wei, run.blockchain_stake_amount_wei) == (
        9,
        7,
        5,
    )
    assert (run.blockchain_tx_hash, run.blockchain_status, run.refresh_due) == ("0xab", "confirmed", reorged)
    assert run.blockchain_block == backend.chain.block_number()
    assert backend.runs.get(before.id) == before


@pytest.mark.slow
@pytest.mark.parametrize(("event", "status"), [("EventCancelled", "cancelled"), ("EventExpired", "expired")])
def test_a_run_that_ends_refunds_the_bookings_that_are_active_on_chain(
    backend: BackendEnvironment, event: str, status: str
) -> None:
    run, other = backend.open_run(seats=9), backend.open_run(seats=9)
    rows = {
        (each.id, before, on_chain): backend.bookings.book(each.id, backend.ids["attendee"], 1).id
        for each in (run, other)
        for before, on_chain in (("active", "confirmed"), ("completed", "confirmed"), ("active", "pending"))
    }
    for (_, before, on_chain), booking in rows.items():
        write(backend, "event_run_bookings", booking, status=before, blockchain_status=on_chain)
    write(backend, "event_runs", run.id, blockchain_block=backend.chain.block_number() + 3)
    old, others = backend.runs.get(run.id), backend.runs.get(other.id)
    assert close(backend, signed(backend, run), [Event(event, {"event_run_id": 1})]) is not None
    assert changes(old, backend.runs.get(run.id)) == {"status": status}  # what is known is of a later block
    assert backend.runs.get(other.id) == others
    for (of_run, before, on_chain), booking in rows.items():
        is_refunded = (of_run, before, on_chain) == (run.id, "active", "confirmed")
        assert backend.bookings.get(booking).status == ("cancelled" if is_refunded else before)


def test_what_fails_says_why_and_nothing_else_changes(backend: BackendEnvironment) -> None:
    run = backend.open_run()
    booking = backend.bookings.book(run.id, backend.ids["attendee"], 1)
    creation = signed_creation(backend)
    booked = backend.sender.step(backend.bookings.prepare_book(run.id, backend.ids["attendee"], 1))
    before = backend.runs.get(run.id)
    for operation in (creation, booked):
        effects = projections.effects_of_failure(operation, "no seats", "0xef")
        with backend.database.autocommit() as connection:
            reverted: dict[str, Any] = {
                "tx_hash": "0xef",
                "block_number": 7,
                "block_hash": "0xcd",
                "gas_used": 1,
                "gas_price_wei": 1,
            }
            assert operations.close(connection, operation, ("signed",), effects, state="failed", **reverted)
    assert creation.subject is not None
    assert booked.subject is not None
    for row in (backend.runs.get(creation.subject), backend.bookings.get(booked.subject)):
        assert (row.blockchain_status, row.blockchain_error, row.blockchain_tx_hash) == ("failed", "no seats", "0xef")
    assert backend.runs.get(run.id) == before
    assert backend.bookings.get(booking.id) == booking
    assert projections.effects_of_failure(signed(backend, run), "no seats", None) == []


def test_all_who_attended_and_all_who_were_absent_are_entered(backend: BackendEnvironment) -> None:
    run = booked(backend)
    for role in ("attendee", "no_show"):
        backend.bookings.book(run.id, backend.ids[role], 1)
    attended = [Event("BookingCompleted", {"booking_id": number}) for number in (1, 3)]
    absent = [Event("BookingNoShow", {"booking_id": number}) for number in (2, 4)]
    assert close(backend, signed(backend, run), [*attended, *absent, *COMPLETED[2:]]) is not None
    assert [booking.status for booking in backend.bookings.list_all()] == ["completed", "no_show"] * 2

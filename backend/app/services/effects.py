"""What becomes of the rows when an operation is final: by the contract's events, in the transaction that closes it.

Rows are changed here and nowhere else, so that nothing has to be taken back when a block is: before an operation is
final, only its own row in `operations` knows of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, case, func, update

from app.core.errors import UnexpectedReceipt
from app.db.tables import event_run_bookings, event_runs
from app.services.codec import Event
from app.services.operations import Operation

_CREATES = {
    "createEventRun": ("EventRunCreated", event_runs),
    "createEventRunFor": ("EventRunCreated", event_runs),
    "bookEvent": ("BookingCreated", event_run_bookings),
    "bookEventFor": ("BookingCreated", event_run_bookings),
}
"""By function: the event that tells of what was created, and the table that has a row for it."""

_runs, _bookings = event_runs.c, event_run_bookings.c
_OPEN = _runs.status.in_(("active", "full"))
_AT = bindparam("block", type_=BigInteger)
_BLOCK = func.greatest(_runs.blockchain_block, _AT)
_COUNTED = _runs.refreshed_block >= _AT
_BOOKED = _runs.seats_booked + case((_COUNTED, 0), else_=bindparam("seats", type_=BigInteger))
_IF_OPEN = case((_runs.max_seats > _BOOKED, "active"), else_="full")

_ENTER_RUN = update(event_runs).where(_runs.id == bindparam("row")).values(blockchain_status="confirmed")
_ENTER_BOOKING = (
    update(event_run_bookings)
    .where(_bookings.id == bindparam("row"))
    .values(blockchain_status="confirmed")
    .returning(_bookings.event_run_id)
)
_TAKE_SEATS = (
    update(event_runs)
    .where(_runs.id == bindparam("row"))
    .values(
        seats_booked=_BOOKED,
        status=case((_OPEN, _IF_OPEN), else_=_runs.status),
        blockchain_block=_BLOCK,
        refresh_due=_runs.refresh_due | _COUNTED,
    )
)
"""Adds `seats` to those booked, takes them off where negative, unless a view of a later block has counted them already;
full exactly when all are booked."""
_CLOSE_RUN = (
    update(event_runs)
    .where(_runs.blockchain_event_run_id == bindparam("run_id"), _OPEN)
    .values(status=bindparam("now"), blockchain_block=_BLOCK)
    .returning(_runs.id)
)


def confirm(connection: Connection, operation: Operation, events: Sequence[Event], tx_hash: str, block: int) -> None:
    """What the events of an operation that succeeded say of runs and bookings.

    Raises `UnexpectedReceipt` where they don't tell of the run or booking that was to be created.
    """
    if operation.subject and operation.kind in _CREATES:
        name, _ = _CREATES[operation.kind]
        created = [event.args for event in events if event.name == name]
        if len(created) != 1:
            raise UnexpectedReceipt(f"Transaction {tx_hash} has {len(created)} events {name} where one must be.")
        _enter(connection, operation, created[0], tx_hash, block)
    for status, name in (("completed", "BookingCompleted"), ("no_show", "BookingNoShow")):
        if ids := [event.args["booking_id"] for event in events if event.name == name]:
            connection.execute(
                update(event_run_bookings).where(_bookings.blockchain_booking_id.in_(ids)), {"status": status}
            )
    for event in events:
        if event.name == "BookingCancelled":
            _cancel_booking(connection, event.args["booking_id"], block)
        elif event.name in _CLOSING:
            _close(connection, event.args["event_run_id"], _CLOSING[event.name], block)


def refuse(connection: Connection, operation: Operation, reason: str, tx_hash: str | None) -> None:
    """The row that an operation was to bring on chain is marked as failed, with the reason."""
    if operation.subject and operation.kind in _CREATES:
        _, table = _CREATES[operation.kind]
        values = {"blockchain_status": "failed", "blockchain_error": reason, "blockchain_tx_hash": tx_hash}
        connection.execute(update(table).where(table.c.id == operation.subject), values)


def _enter(connection: Connection, operation: Operation, created: dict[str, Any], tx_hash: str, block: int) -> None:
    if "booking_id" not in created:
        values = {
            "blockchain_event_run_id": created["event_run_id"],
            "blockchain_tx_hash": tx_hash,
            "blockchain_price_per_seat_wei": created["price_per_seat"],
            "blockchain_stake_amount_wei": created["host_stake"],
            "blockchain_block": block,
        }
        connection.execute(_ENTER_RUN, {"row": operation.subject, **values})
        return
    values = {
        "blockchain_booking_id": created["booking_id"],
        "blockchain_tx_hash": tx_hash,
        "blockchain_payment_wei": created["total_payment"],
        "blockchain_stake_amount_wei": created["user_stake"],
    }
    run = connection.execute(_ENTER_BOOKING, {"row": operation.subject, **values}).scalar_one()
    connection.execute(_TAKE_SEATS, {"row": run, "seats": created["seat_count"], "block": block})


def _cancel_booking(connection: Connection, booking_id: int, block: int) -> None:
    mine = update(event_run_bookings).where(_bookings.blockchain_booking_id == booking_id, _bookings.status == "active")
    cancelled = connection.execute(mine.values(status="cancelled").returning(_bookings.event_run_id, _bookings.seats))
    for run, seats in cancelled:
        connection.execute(_TAKE_SEATS, {"row": run, "seats": -seats, "block": block})


_CLOSING = {"EventCompleted": "completed", "EventCancelled": "cancelled", "EventExpired": "expired"}


def _close(connection: Connection, event_run_id: int, status: str, block: int) -> None:
    row = connection.execute(_CLOSE_RUN, {"run_id": event_run_id, "now": status, "block": block}).scalar_one_or_none()
    if row is not None and status != "completed":
        refunded = update(event_run_bookings).where(
            _bookings.event_run_id == row, _bookings.status == "active", _bookings.blockchain_status == "confirmed"
        )
        connection.execute(refunded, {"status": "cancelled"})

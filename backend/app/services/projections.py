"""Projections: updates rows by the contract's events, in the statement that closes an operation.

Only this module, `EventRunService.refresh` and `finality` write on-chain values to rows of runs and bookings. An
operation is closed when it is confirmed, and until then only its row in `operations` refers to a block. So a
reorganisation changes these rows only if it is deeper than the confirmations: then `finality` sets them back, and the
same updates come again when the operation is confirmed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import CTE, BigInteger, ColumnElement, Update, bindparam, case, exists, func, select, update

from app.db.tables import event_run_bookings, event_runs, in_states
from app.services.codec import Event
from app.services.contract_receipts import unexpected_count
from app.services.operation_types import Effect, EffectStatement, Operation

_runs, _bookings = event_runs.c, event_run_bookings.c
_IS_OPEN = in_states(("active", "full"), _runs.status)
_EVENT_BLOCK = bindparam("event_block", type_=BigInteger)
_LATEST_BLOCK = func.greatest(_runs.blockchain_block, _EVENT_BLOCK)


def _new_values(*columns: str) -> dict[str, Any]:
    """Returns a bind parameter new_COLUMN for each column."""
    return {column: bindparam(f"new_{column}") for column in columns}


def _add_seats(closed: CTE, run_id: ColumnElement[Any], seats: ColumnElement[int]) -> Update:
    """Adds to the run's booked seats, and sets its status to full exactly when all seats are booked.

    A negative number frees seats. If the row was refreshed as of the event's block or a later one, it has counted these
    seats: they are not added, and the run becomes due for another refresh. So does a closed run, as its closing has
    decided what became of a booking that no row had then; and the run of an operation that a reorganisation dropped.
    """
    is_counted = _runs.refreshed_block >= _EVENT_BLOCK
    seats_booked = _runs.seats_booked + case((is_counted, 0), else_=seats)
    status = case((_runs.max_seats > seats_booked, "active"), else_="full")
    return (
        update(event_runs)
        .where(_runs.id == run_id)
        .values(
            seats_booked=seats_booked,
            status=case((_IS_OPEN, status), else_=_runs.status),
            blockchain_block=_LATEST_BLOCK,
            refresh_due=_runs.refresh_due | is_counted | ~_IS_OPEN | select(closed.c.reorged).scalar_subquery(),
        )
    )


def _confirm_run(closed: CTE) -> Update:
    """Confirms a run. If a reorganisation dropped its creation, its row has missed the events while it was pending."""
    columns = ("event_run_id", "tx_hash", "price_per_seat_wei", "stake_amount_wei")
    return (
        update(event_runs)
        .where(_runs.id == closed.c.subject)
        .values(blockchain_status="confirmed", blockchain_block=_EVENT_BLOCK, refresh_due=closed.c.reorged)
        .values(_new_values(*(f"blockchain_{name}" for name in columns)))
    )


def _confirm_booking(closed: CTE) -> Update:
    columns = ("booking_id", "tx_hash", "payment_wei", "stake_amount_wei")
    booking = (
        update(event_run_bookings)
        .where(_bookings.id == closed.c.subject)
        .values(blockchain_status="confirmed")
        .values(_new_values(*(f"blockchain_{name}" for name in columns)))
        .returning(_bookings.event_run_id, _bookings.seats)
        .cte()
    )
    return _add_seats(closed, booking.c.event_run_id, booking.c.seats)


def _cancel_booking(closed: CTE) -> Update:
    """Cancels a booking, unless its run's cancellation has done so, which another account sent and was closed first."""
    is_cancelled = _bookings.blockchain_booking_id == bindparam("cancelled_id")
    booking = (
        update(event_run_bookings)
        .where(is_cancelled, _bookings.status == "active", exists().select_from(closed))
        .values(status="cancelled")
        .returning(_bookings.seats)
        .cte()
    )
    run_id = select(_bookings.event_run_id).where(is_cancelled, exists().select_from(closed)).scalar_subquery()
    freed = select(booking.c.seats).scalar_subquery()
    is_news = freed.is_not(None) | (_runs.refreshed_block < _EVENT_BLOCK)
    return _add_seats(closed, run_id, -func.coalesce(freed, 0)).where(is_news)


def _close_run(closed: CTE) -> Update:
    return (
        update(event_runs)
        .where(_runs.blockchain_event_run_id == bindparam("closed_id"), _IS_OPEN, exists().select_from(closed))
        .values(status=bindparam("closed_as"), blockchain_block=_LATEST_BLOCK)
    )


def _refund_run(closed: CTE) -> Update:
    run = _close_run(closed).returning(_runs.id).cte()
    is_active = (_bookings.status == "active") & (_bookings.blockchain_status == "confirmed")
    return update(event_run_bookings).where(_bookings.event_run_id == run.c.id, is_active).values(status="cancelled")


def _set_bookings_completed(closed: CTE) -> Update:
    attended = _bookings.blockchain_booking_id == func.any(bindparam("attended_ids"))
    return update(event_run_bookings).where(attended, exists().select_from(closed)).values(status="completed")


def _set_bookings_no_show(closed: CTE) -> Update:
    no_show = _bookings.blockchain_booking_id == func.any(bindparam("no_show_ids"))
    return update(event_run_bookings).where(no_show, exists().select_from(closed)).values(status="no_show")


def _fail_run(closed: CTE) -> Update:
    values = _new_values("blockchain_error", "blockchain_tx_hash")
    return update(event_runs).where(_runs.id == closed.c.subject).values(blockchain_status="failed", **values)


def _fail_booking(closed: CTE) -> Update:
    values = _new_values("blockchain_error", "blockchain_tx_hash")
    return (
        update(event_run_bookings).where(_bookings.id == closed.c.subject).values(blockchain_status="failed", **values)
    )


class _Creation(NamedTuple):
    """What a function of the contract creates.

    Attributes:
        event: The event that it emits.
        fail: The update of the row if nothing was created.
    """

    event: str
    fail: EffectStatement


_CREATIONS = {
    "createEventRun": _Creation("EventRunCreated", _fail_run),
    "createEventRunFor": _Creation("EventRunCreated", _fail_run),
    "bookEvent": _Creation("BookingCreated", _fail_booking),
    "bookEventFor": _Creation("BookingCreated", _fail_booking),
}
_ATTENDANCE_EVENTS = (
    ("BookingCompleted", _set_bookings_completed, "attended_ids"),
    ("BookingNoShow", _set_bookings_no_show, "no_show_ids"),
)
"""Event, update, and the update's parameter for the bookings' on-chain ids."""
_CLOSING_EVENTS = {"EventCompleted": "completed", "EventCancelled": "cancelled", "EventExpired": "expired"}
"""The run's status by event."""


def effects_of_success(operation: Operation, events: Sequence[Event], tx_hash: str, block_number: int) -> list[Effect]:
    """Returns the updates of runs and bookings after a transaction that succeeded.

    Args:
        operation: The operation that the transaction belongs to.
        events: The contract's events in the receipt.
        tx_hash: Hash of the transaction.
        block_number: Number of its block.

    Raises:
        UnexpectedReceipt: The operation creates a run or booking, and there is not exactly one event for it.
    """
    effects: list[Effect] = []
    if operation.subject and operation.kind in _CREATIONS:
        name = _CREATIONS[operation.kind].event
        created = [event.args for event in events if event.name == name]
        if len(created) != 1:
            raise unexpected_count(tx_hash, name, len(created))
        effects.append(_effect_of_creation(created[0], tx_hash, block_number))
    for name, statement, parameter in _ATTENDANCE_EVENTS:
        if onchain_booking_ids := [event.args["booking_id"] for event in events if event.name == name]:
            effects.append(Effect(statement, {parameter: onchain_booking_ids}))
    for event in events:
        if event.name == "BookingCancelled":
            parameters = {"cancelled_id": event.args["booking_id"], "event_block": block_number}
            effects.append(Effect(_cancel_booking, parameters))
        elif event.name in _CLOSING_EVENTS:
            parameters = {
                "closed_id": event.args["event_run_id"],
                "closed_as": _CLOSING_EVENTS[event.name],
                "event_block": block_number,
            }
            effects.append(Effect(_close_run if event.name == "EventCompleted" else _refund_run, parameters))
    return effects


def effects_of_failure(operation: Operation, reason: str, tx_hash: str | None) -> list[Effect]:
    """Returns the update that marks the row of an operation as failed, if the operation was to create it on chain.

    Args:
        operation: The operation that has no effect.
        reason: Why, in a sentence.
        tx_hash: Hash of the transaction that reverted; None if none was mined.
    """
    if not operation.subject or operation.kind not in _CREATIONS:
        return []
    parameters = {"new_blockchain_error": reason, "new_blockchain_tx_hash": tx_hash}
    return [Effect(_CREATIONS[operation.kind].fail, parameters)]


def _effect_of_creation(created: dict[str, Any], tx_hash: str, block_number: int) -> Effect:
    parameters: dict[str, Any] = {"new_blockchain_tx_hash": tx_hash, "event_block": block_number}
    if "booking_id" not in created:
        parameters |= {
            "new_blockchain_event_run_id": created["event_run_id"],
            "new_blockchain_price_per_seat_wei": created["price_per_seat"],
            "new_blockchain_stake_amount_wei": created["host_stake"],
        }
        return Effect(_confirm_run, parameters)
    parameters |= {
        "new_blockchain_booking_id": created["booking_id"],
        "new_blockchain_payment_wei": created["total_payment"],
        "new_blockchain_stake_amount_wei": created["user_stake"],
    }
    return Effect(_confirm_booking, parameters)

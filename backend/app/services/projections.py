"""What becomes of the rows when an operation is closed: by the contract's events, in the statement that closes it.

Rows are changed here and nowhere else, so that nothing has to be taken back when a block is: before an operation is
final, only its own row in `operations` knows of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CTE, BigInteger, ColumnElement, Update, bindparam, case, exists, func, update

from app.core.errors import UnexpectedReceipt
from app.db.tables import event_run_bookings, event_runs
from app.services.codec import Event
from app.services.operations import Effect, Operation, Statement

_runs, _bookings = event_runs.c, event_run_bookings.c
_OPEN = _runs.status.in_(("active", "full"))
_AT = bindparam("at_block", type_=BigInteger)
_BLOCK = func.greatest(_runs.blockchain_block, _AT)


def _new(*names: str) -> dict[str, Any]:
    """Columns that get the values given as new_NAME."""
    return {name: bindparam(f"new_{name}") for name in names}


def _take_seats(run: ColumnElement[Any], seats: ColumnElement[int]) -> Update:
    """Adds to the seats booked, or takes them off where negative, unless a view of a later block has counted them
    already; full exactly when all are booked."""
    counted = _runs.refreshed_block >= _AT
    booked = _runs.seats_booked + case((counted, 0), else_=seats)
    if_open = case((_runs.max_seats > booked, "active"), else_="full")
    return (
        update(event_runs)
        .where(_runs.id == run)
        .values(
            seats_booked=booked,
            status=case((_OPEN, if_open), else_=_runs.status),
            blockchain_block=_BLOCK,
            refresh_due=_runs.refresh_due | counted,
        )
    )


def _enter_run(closed: CTE) -> Update:
    ours = ("event_run_id", "tx_hash", "price_per_seat_wei", "stake_amount_wei")
    return (
        update(event_runs)
        .where(_runs.id == closed.c.subject)
        .values(blockchain_status="confirmed", blockchain_block=_AT)
        .values(_new(*(f"blockchain_{name}" for name in ours)))
    )


def _enter_booking(closed: CTE) -> Update:
    ours = ("booking_id", "tx_hash", "payment_wei", "stake_amount_wei")
    booked = (
        update(event_run_bookings)
        .where(_bookings.id == closed.c.subject)
        .values(blockchain_status="confirmed")
        .values(_new(*(f"blockchain_{name}" for name in ours)))
        .returning(_bookings.event_run_id, _bookings.seats)
        .cte()
    )
    return _take_seats(booked.c.event_run_id, booked.c.seats)


def _cancel_booking(closed: CTE) -> Update:
    cancelled = (
        update(event_run_bookings)
        .where(_bookings.blockchain_booking_id == bindparam("cancelled_id"), _bookings.status == "active")
        .where(exists().select_from(closed))
        .values(status="cancelled")
        .returning(_bookings.event_run_id, _bookings.seats)
        .cte()
    )
    return _take_seats(cancelled.c.event_run_id, -cancelled.c.seats)


def _close_run(closed: CTE) -> Update:
    return (
        update(event_runs)
        .where(_runs.blockchain_event_run_id == bindparam("closed_id"), _OPEN, exists().select_from(closed))
        .values(status=bindparam("closed_as"), blockchain_block=_BLOCK)
    )


def _refund_run(closed: CTE) -> Update:
    run = _close_run(closed).returning(_runs.id).cte()
    mine = (_bookings.event_run_id == run.c.id, _bookings.status == "active")
    return (
        update(event_run_bookings).where(*mine, _bookings.blockchain_status == "confirmed").values(status="cancelled")
    )


def _complete_bookings(closed: CTE) -> Update:
    came = _bookings.blockchain_booking_id.in_(bindparam("came"))
    return update(event_run_bookings).where(came, exists().select_from(closed)).values(status="completed")


def _miss_bookings(closed: CTE) -> Update:
    missed = _bookings.blockchain_booking_id.in_(bindparam("missed"))
    return update(event_run_bookings).where(missed, exists().select_from(closed)).values(status="no_show")


def _fail_run(closed: CTE) -> Update:
    told = _new("blockchain_error", "blockchain_tx_hash")
    return update(event_runs).where(_runs.id == closed.c.subject).values(blockchain_status="failed", **told)


def _fail_booking(closed: CTE) -> Update:
    told = _new("blockchain_error", "blockchain_tx_hash")
    return update(event_run_bookings).where(_bookings.id == closed.c.subject).values(blockchain_status="failed", **told)


def confirmed(operation: Operation, events: Sequence[Event], tx_hash: str, block: int) -> list[Effect]:
    """What the events of an operation that succeeded say of runs and bookings.

    Raises `UnexpectedReceipt` where they don't tell of the run or booking that was to be created.
    """
    found: list[Effect] = []
    if operation.subject and operation.kind in _CREATES:
        name, _ = _CREATES[operation.kind]
        created = [event.args for event in events if event.name == name]
        if len(created) != 1:
            raise UnexpectedReceipt(f"Transaction {tx_hash} has {len(created)} events {name} where one must be.")
        found.append(_entered(created[0], tx_hash, block))
    for name, statement, given in (
        ("BookingCompleted", _complete_bookings, "came"),
        ("BookingNoShow", _miss_bookings, "missed"),
    ):
        if ids := [event.args["booking_id"] for event in events if event.name == name]:
            found.append(Effect(statement, {given: ids}))
    for event in events:
        if event.name == "BookingCancelled":
            found.append(Effect(_cancel_booking, {"cancelled_id": event.args["booking_id"], "at_block": block}))
        elif event.name in _CLOSING:
            closing = {"closed_id": event.args["event_run_id"], "closed_as": _CLOSING[event.name], "at_block": block}
            found.append(Effect(_close_run if event.name == "EventCompleted" else _refund_run, closing))
    return found


def refused(operation: Operation, reason: str, tx_hash: str | None) -> list[Effect]:
    """The row that an operation was to bring on chain is marked as failed, with the reason."""
    if not operation.subject or operation.kind not in _CREATES:
        return []
    _, fail = _CREATES[operation.kind]
    return [Effect(fail, {"new_blockchain_error": reason, "new_blockchain_tx_hash": tx_hash})]


_CLOSING = {"EventCompleted": "completed", "EventCancelled": "cancelled", "EventExpired": "expired"}


def _entered(created: dict[str, Any], tx_hash: str, block: int) -> Effect:
    given: dict[str, Any] = {"new_blockchain_tx_hash": tx_hash, "at_block": block}
    if "booking_id" not in created:
        given |= {
            "new_blockchain_event_run_id": created["event_run_id"],
            "new_blockchain_price_per_seat_wei": created["price_per_seat"],
            "new_blockchain_stake_amount_wei": created["host_stake"],
        }
        return Effect(_enter_run, given)
    given |= {
        "new_blockchain_booking_id": created["booking_id"],
        "new_blockchain_payment_wei": created["total_payment"],
        "new_blockchain_stake_amount_wei": created["user_stake"],
    }
    return Effect(_enter_booking, given)


_CREATES: dict[str, tuple[str, Statement]] = {
    "createEventRun": ("EventRunCreated", _fail_run),
    "createEventRunFor": ("EventRunCreated", _fail_run),
    "bookEvent": ("BookingCreated", _fail_booking),
    "bookEventFor": ("BookingCreated", _fail_booking),
}
"""By function: the event that tells of what was created, and what becomes of its row where it was not."""

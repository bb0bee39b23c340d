"""The limit of a user's seats in one event run."""

from __future__ import annotations

from sqlalchemy import Connection, Uuid, bindparam, exists, func, select, tuple_

from app.db.statements import Compiled
from app.db.tables import Wei, event_run_bookings, event_runs, operations
from app.services.codec import event_stake_codec
from app.services.operation_types import Operation
from app.services.transactions.limits import Amounts

BOOKINGS = ("bookEvent", "bookEventFor")
_runs, _bookings, _own = event_runs.c, event_run_bookings.c, event_run_bookings.alias("own")
_IS_SIGNED = exists().where(operations.c.subject == _bookings.id, operations.c.nonce.is_not(None))
_OTHER_SEATS = Compiled(
    select(func.coalesce(func.sum(_bookings.seats), 0))
    .select_from(event_run_bookings)
    .join(event_runs, event_runs.c.id == _bookings.event_run_id)
    .join(_own, _own.c.id == bindparam("subject", type_=Uuid))
    .where(
        _runs.blockchain_event_run_id == bindparam("run", type_=Wei),
        _bookings.user_id == bindparam("user", type_=Uuid(as_uuid=False)),
    )
    .where(_bookings.status != "cancelled", _bookings.blockchain_status != "failed")
    .where((tuple_(_bookings.created_at, _bookings.id) < tuple_(_own.c.created_at, _own.c.id)) | _IS_SIGNED)
    .where(_bookings.id != _own.c.id)
)


def reason_against_seats(connection: Connection, operation: Operation, amounts: Amounts) -> str | None:
    """Returns why a user may not have so many seats in a run, as the end of a sentence; None if they may.

    The user's earlier bookings count, those that are not sent yet too, and later ones that are signed: a row may become
    visible after a later one was signed. What was cancelled or failed does not count.
    """
    if operation.kind not in BOOKINGS or operation.person is None:
        return None
    call = event_stake_codec().decode_call(operation.data)
    if call is None:
        return None
    parameters = {"run": call.args["event_run_id"], "user": operation.person, "subject": operation.subject}
    seats = call.args["seat_count"] + int(connection.execute(_OTHER_SEATS, parameters).scalar_one())
    if amounts.person_run_seats is None or seats <= amounts.person_run_seats:
        return None
    return f"its user would have {seats} seats in one event run, above the limit of {amounts.person_run_seats}"

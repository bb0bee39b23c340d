"""The table `refunds`: what is owed of payments, each once, and asked of the gateway until it has carried it out.

What is owed is concluded from rows, and only from what cannot change any more: from operations that have no effect, and
from bookings and runs as of a finalized block. So a reorganisation takes nothing back for which INR were returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Connection,
    Interval,
    Numeric,
    String,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from app.db.tables import event_run_bookings, event_runs, operations, payments, refunds
from app.services.payments.store import BATCH, IS_UNDISPUTED, NOW, in_state
from app.services.payments.types import Refund

_p, _r, _o = payments.c, refunds.c, operations.c
_ID = bindparam("of_id", type_=Uuid)

_UNUSED = and_(in_state("captured"), _p.usable_until <= NOW, IS_UNDISPUTED)
_UNUSED_CAUSE = case(
    (_p.purpose == "unexpected", literal_column("'unexpected'", String)),
    (_p.paid_at > _p.expires_at, literal_column("'late'", String)),
    else_=literal_column("'unused'", String),
)
_SOME_UNUSED = select(_p.id).where(_UNUSED).order_by(_p.usable_until).limit(BATCH)
_GIVE_UP = (
    update(payments)
    .where(_p.id == func.any(func.array(_SOME_UNUSED.scalar_subquery())), _UNUSED)
    .values(state="refunding", updated_at=NOW)
    .returning(_p.id, _p.amount_inr, _UNUSED_CAUSE.label("cause"))
    .cte("given_up")
)
_OWE_UNUSED = insert(refunds).from_select(["payment_id", "amount_inr", "cause"], select(*_GIVE_UP.c))


def owe_unused(connection: Connection) -> None:
    """Makes refunds due for payments that can't be used any more (captured -> refunding)."""
    connection.execute(_OWE_UNUSED)


class Owed(NamedTuple):
    """What is owed of a used payment: an amount in INR, and why."""

    amount_inr: Decimal
    cause: str


class Settled(NamedTuple):
    """Nothing is owed of a used payment, and never will be."""


_runs, _bookings = event_runs.c, event_run_bookings.c
_cancelling = operations.alias("cancelling").c
_CANCELLED_IN = (
    select(func.max(_cancelling.block_number))
    .where(_cancelling.subject == _bookings.id, _cancelling.kind == "cancelBooking", _cancelling.state == "confirmed")
    .scalar_subquery()
)
_LOOK = (
    select(
        _p.id,
        _p.purpose,
        _p.amount_inr,
        _p.stake_inr,
        _p.to_custody,
        _p.dispute,
        _o.state,
        _o.block_number,
        _bookings.status.label("booking_status"),
        _runs.status.label("run_status"),
        _runs.seats_booked,
        func.coalesce(_CANCELLED_IN, _runs.blockchain_block).label("decided_in"),
        _runs.refresh_due,
    )
    .select_from(
        payments.join(operations, _o.key == _p.operation_key)
        .outerjoin(event_run_bookings, (_bookings.id == _o.subject) & (_p.purpose == "booking"))
        .outerjoin(event_runs, _runs.id == func.coalesce(_bookings.event_run_id, _o.subject))
    )
    .where(_p.look_at <= NOW, in_state("used"))
    .order_by(_p.look_at)
    .limit(BATCH)
)
_LOOK_LATER = (
    update(payments).where(_p.id == _ID, in_state("used")).values(look_at=NOW + bindparam("after", type_=Interval))
)
_SETTLE = update(payments).where(_p.id == _ID, in_state("used")).values(look_at=None)
_OWED = (
    update(payments)
    .where(_p.id == _ID, in_state("used"), IS_UNDISPUTED)
    .values(state="refunding", look_at=None, updated_at=NOW)
    .returning(_p.id)
    .cte("owed")
)
_OWE_USED = insert(refunds).from_select(
    ["payment_id", "amount_inr", "cause"],
    select(_OWED.c.id, bindparam("new_amount", type_=Numeric), bindparam("new_cause", type_=Text)),
)


def what_is_owed(row: Any, finalized_block: int) -> Owed | Settled | None:
    """Returns what is owed of a used payment; None if that is not decided yet.

    Args:
        row: A row of `_LOOK`.
        finalized_block: Number of the latest block that cannot change. What is known of later ones decides nothing.
    """
    if row.dispute == "lost":
        return Settled()
    if row.dispute == "open":
        return None
    if row.state in ("failed", "rejected"):
        is_final = row.block_number is None or row.block_number <= finalized_block
        return Owed(row.amount_inr, "no_effect") if is_final else None
    if row.state != "confirmed" or row.block_number > finalized_block:
        return None
    if not row.to_custody:  # the contract pays them itself
        return Settled()
    if row.decided_in is None or row.decided_in > finalized_block or row.refresh_due:
        return None  # the rows of a run that is due may be of blocks that a reorganisation dropped
    return _owed_to_custody(row)


def _owed_to_custody(row: Any) -> Owed | Settled | None:
    """Returns what the custody address holds for the person who paid, by what became of the booking or run."""
    stake = Owed(row.stake_inr, "stake_returned") if row.stake_inr else Settled()
    everything = Owed(row.amount_inr, "cancelled")
    if row.purpose == "booking":
        return {"cancelled": everything, "completed": stake, "no_show": Settled()}.get(row.booking_status)
    if row.run_status == "expired":  # the stake is the attendees', unless nobody had booked
        return Settled() if row.seats_booked else stake
    return {"cancelled": everything, "completed": stake}.get(row.run_status)


def owe_used(connection: Connection, finalized_block: int, look_every: timedelta) -> None:
    """Makes refunds due for used payments of which something is owed (used -> refunding).

    Args:
        connection: A connection on which each statement commits itself.
        finalized_block: Number of the latest block that cannot change.
        look_every: Time after which an undecided payment is looked at again.
    """
    for row in connection.execute(_LOOK).all():
        decision = what_is_owed(row, finalized_block)
        if decision is None:
            connection.execute(_LOOK_LATER, {"of_id": row.id, "after": look_every})
        elif isinstance(decision, Settled):
            connection.execute(_SETTLE, {"of_id": row.id})
        else:
            parameters = {"of_id": row.id, "new_amount": decision.amount_inr, "new_cause": decision.cause}
            connection.execute(_OWE_USED, parameters)


# ------------------------------------------------------------------------------------------------- asking the gateway

_NEXT = (
    select(refunds, _p.gateway_payment_id)
    .join(payments, _p.id == _r.payment_id)
    .where(_r.next_at <= NOW, _p.gateway == bindparam("of_gateway"), IS_UNDISPUTED)
    .order_by(_r.next_at)
    .limit(BATCH)
)
_SEEN = (_r.id == _ID) & (_r.tries == bindparam("seen_tries", type_=BigInteger))
_IS_QUIET = (_r.tries == 0) | (_r.updated_at <= NOW - bindparam("quiet_for", type_=Interval))
_CLAIM = (
    update(refunds)
    .where(_SEEN, _IS_QUIET)
    .values(tries=_r.tries + 1, next_at=NOW + bindparam("after", type_=Interval), updated_at=NOW)
)
_TAKEN = (
    update(refunds)
    .where(_r.id == _ID, _r.state == "due")
    .values(state="requested", gateway_refund_id=bindparam("new_refund"), problem=None, updated_at=NOW)
)
_MADE_BY_HAND = _TAKEN.where(_r.tries == bindparam("seen_tries", type_=BigInteger))
_HURRY = (
    update(refunds)
    .where(_r.payment_id == bindparam("of_payment", type_=Uuid), _r.next_at.is_not(None))
    .values(next_at=NOW)  # `updated_at` tells when the gateway was asked last
)
_PROBLEM = update(refunds).where(_r.id == _ID, _r.state == "due").values(problem=bindparam("new_problem"))
_OF_GATEWAY = (_r.gateway_refund_id == bindparam("of_refund")) & (_r.state == "requested")
_DONE = (
    update(refunds)
    .where(_OF_GATEWAY)
    .values(state="done", next_at=None, problem=None, updated_at=NOW)
    .returning(_r.payment_id)
    .cte("done")
)
_REFUNDED = (
    update(payments).where(_p.id == _DONE.c.payment_id, in_state("refunding")).values(state="refunded", updated_at=NOW)
)
_FAILED = (
    update(refunds)
    .where(_OF_GATEWAY)
    .values(
        state="due",
        gateway_refund_id=None,
        failed=_r.failed + 1,
        problem="The gateway could not carry the refund out.",
        next_at=NOW,
        updated_at=NOW,
    )
)


def next_refunds(connection: Connection, gateway: str) -> Sequence[tuple[Refund, str]]:
    """Returns refunds about which the gateway is to be asked now, each with the gateway's id of the payment."""
    rows = connection.execute(_NEXT, {"of_gateway": gateway}).all()
    return [(Refund(*row[:-1]), row[-1]) for row in rows]


def claim(connection: Connection, refund: Refund, after: timedelta, quiet_for: timedelta = timedelta(0)) -> bool:
    """Counts a try, after which nobody asks the gateway again for a while.

    Args:
        connection: A connection.
        refund: The refund, as it was read.
        after: The while.
        quiet_for: Time for which the gateway must not have been asked, so that no request is on its way.

    Returns:
        False if somebody else asked meanwhile, or within that time.
    """
    parameters = {"of_id": refund.id, "seen_tries": refund.tries, "after": after, "quiet_for": quiet_for}
    return connection.execute(_CLAIM, parameters).rowcount == 1


def hurry(connection: Connection, payment_id: UUID) -> bool:
    """Lets the gateway be asked now about an open refund. Returns whether there is one."""
    return connection.execute(_HURRY, {"of_payment": payment_id}).rowcount == 1


def taken(connection: Connection, refund_id: UUID, gateway_refund_id: str) -> bool:
    """Stores that the gateway has the refund (due -> requested). Returns False if it is not due any more."""
    return connection.execute(_TAKEN, {"of_id": refund_id, "new_refund": gateway_refund_id}).rowcount == 1


def made_by_hand(connection: Connection, refund: Refund, reference: str) -> None:
    """Stores that a person has made a refund (due -> done), unless the gateway was asked since it was read."""
    connection.execute(_MADE_BY_HAND, {"of_id": refund.id, "new_refund": reference, "seen_tries": refund.tries})
    done(connection, reference)


def not_taken(connection: Connection, refund_id: UUID, problem: str) -> None:
    """Stores why the gateway does not have the refund; it stays due."""
    connection.execute(_PROBLEM, {"of_id": refund_id, "new_problem": problem})


def done(connection: Connection, gateway_refund_id: str) -> None:
    """Stores that the gateway has carried a refund out (requested -> done)."""
    connection.execute(_REFUNDED, {"of_refund": gateway_refund_id})


def could_not(connection: Connection, gateway_refund_id: str) -> None:
    """Stores that the gateway could not carry a refund out (requested -> due)."""
    connection.execute(_FAILED, {"of_refund": gateway_refund_id})


def find_of_payment(connection: Connection, payment_id: UUID) -> Refund | None:
    """Returns the refund of a payment; None if nothing is owed of it."""
    row = connection.execute(select(refunds).where(_r.payment_id == payment_id)).one_or_none()
    return None if row is None else Refund(*row)

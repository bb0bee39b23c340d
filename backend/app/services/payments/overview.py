"""What operators look at: refunds that are not carried out, disputes, and payments that wait to be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from app.db.tables import payments, refunds
from app.services.payments.store import NOW, in_state

_p, _r = payments.c, refunds.c
_IS_OPEN = _r.next_at.is_not(None)
"""What is charged back is due no more, and has no next time."""
_OPEN_REFUNDS = (
    select(_r.state, func.count(), func.extract("epoch", NOW - func.min(_r.created_at)))
    .where(_IS_OPEN)
    .group_by(_r.state)
)
_DISPUTED = select(_p.dispute, func.count()).where(_p.dispute.is_not(None)).group_by(_p.dispute)
_WAITING = select(func.count()).select_from(payments).where(in_state("captured"))
_SHOWN = (_p.id, _p.user_id, _p.amount_inr, _p.state, _p.dispute, _p.gateway_payment_id, _p.operation_key)
_LIST_REFUNDS = (
    select(
        *_SHOWN,
        _r.amount_inr.label("refund_inr"),
        _r.cause,
        _r.state.label("refund_state"),
        _r.tries,
        _r.problem,
        _r.created_at,
    )
    .join(payments, _p.id == _r.payment_id)
    .where(_IS_OPEN)
    .order_by(_r.next_at)
)
_LIST_DISPUTES = (
    select(*_SHOWN, _p.dispute_id).where(_p.dispute.is_not(None), _p.dispute != "won").order_by(_p.updated_at)
)


def open_refunds(connection: Connection) -> dict[str, tuple[int, float]]:
    """Returns number and age in seconds of the oldest of the refunds that are not carried out, by state."""
    return {row[0]: (row[1], float(row[2])) for row in connection.execute(_OPEN_REFUNDS)}


def disputed(connection: Connection) -> dict[str, int]:
    """Returns the number of disputed payments, by what became of the dispute."""
    return {row[0]: row[1] for row in connection.execute(_DISPUTED)}


def waiting(connection: Connection) -> int:
    """Returns the number of captured payments that are neither used nor given back."""
    return int(connection.execute(_WAITING).scalar_one())


def list_open_refunds(connection: Connection, limit: int) -> Sequence[Any]:
    """Returns refunds that are not carried out with their payments, those that are asked for next first."""
    return connection.execute(_LIST_REFUNDS.limit(limit)).all()


def list_disputes(connection: Connection, limit: int) -> Sequence[Any]:
    """Returns disputed payments that are not won."""
    return connection.execute(_LIST_DISPUTES.limit(limit)).all()

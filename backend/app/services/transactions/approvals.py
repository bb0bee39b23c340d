"""Approvals: a person lets one operation go on though it is above a limit.

An approval is for exactly one operation: its seal covers the operation's, and so all that the operation asks for.
Without the platform's key nobody can make one, so a row that somebody else writes is none.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert

from app.db.tables import approvals
from app.services.operation_types import Operation
from app.services.transactions.limits import Sealer

_a = approvals.c
_FIND = select(_a.approved_by, _a.approved_at, _a.seal).where(_a.operation_key == bindparam("of_key"))


class Approval(NamedTuple):
    """Who approved an operation, and when."""

    approved_by: str
    approved_at: datetime


def find_approval(connection: Connection, operation: Operation, sealer: Sealer) -> Approval | None:
    """Returns the operation's approval; None if there is none with a valid seal."""
    row = connection.execute(_FIND, {"of_key": operation.key}).one_or_none()
    if row is None or row.seal != _seal(operation, row.approved_by, row.approved_at, sealer):
        return None
    return Approval(row.approved_by, row.approved_at)


def approve(connection: Connection, operation: Operation, approved_by: str, sealer: Sealer) -> Approval:
    """Stores that a person approves an operation. The first valid approval stays."""
    found = find_approval(connection, operation, sealer)
    if found is not None:
        return found
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    values = {"approved_by": approved_by, "approved_at": now, "seal": _seal(operation, approved_by, now, sealer)}
    statement = insert(approvals).values(operation_key=operation.key, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=[_a.operation_key], set_=values))
    return Approval(approved_by, now)


def _seal(operation: Operation, approved_by: str, approved_at: datetime, sealer: Sealer) -> str:
    return sealer.mac("approval", operation.key, operation.seal, approved_by, int(approved_at.timestamp() * 1_000_000))

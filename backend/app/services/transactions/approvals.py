"""Approvals: a person lets one operation go on though it is above a limit.

An approval is for one signature of one operation: its seal covers the operation's, and so all that it asks for.
Without the platform's key nobody can make one, so a row that somebody else writes is none.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert

from app.db.statements import Compiled
from app.db.tables import approvals
from app.services.operation_types import Operation
from app.services.transactions.limits import Sealer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_a = approvals.c
_FIND = Compiled(select(_a.approved_by, _a.approved_at, _a.seal).where(_a.operation_key == bindparam("of_key")))


class Approval(NamedTuple):
    """Who approved an operation, and when."""

    approved_by: str
    approved_at: datetime

    @property
    def microseconds(self) -> int:
        """The time in microseconds since 1970."""
        return _microseconds(self.approved_at)


def find_approval(connection: Connection, operation: Operation, sealer: Sealer) -> Approval | None:
    """Returns the operation's approval; None if there is none with a valid seal."""
    row = connection.execute(_FIND, {"of_key": operation.key}).one_or_none()
    if row is None:
        return None
    parts = _sealed_parts(operation, row.approved_by, row.approved_at)
    if not sealer.is_mac(row.seal, operation.sender, *parts):
        return None
    return Approval(row.approved_by, row.approved_at)


def approve(connection: Connection, operation: Operation, approved_by: str, sealer: Sealer) -> Approval:
    """Stores that a person approves one signature of an operation, within the next 24 hours."""
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    seal = sealer.mac(*_sealed_parts(operation, approved_by, now))
    values = {"approved_by": approved_by, "approved_at": now, "seal": seal}
    statement = insert(approvals).values(operation_key=operation.key, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=[_a.operation_key], set_=values))
    return Approval(approved_by, now)


def _sealed_parts(operation: Operation, approved_by: str, approved_at: datetime) -> list[str | int | None]:
    return ["approval", operation.key, operation.seal, approved_by, _microseconds(approved_at)]


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)

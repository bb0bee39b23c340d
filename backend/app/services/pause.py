"""The pause: one switch, for all processes, that stops all signing but that of exits.

The statements that store an order and that sign one look at it themselves, so no process can have missed it. Opening a
pause waits for the statements that are signing at that moment: afterwards none signs an order.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, insert, select, update

from app.db.database import Database
from app.db.tables import IS_PAUSED, pauses

log = logging.getLogger(__name__)
_OPEN = select(pauses.c.since, pauses.c.paused_by, pauses.c.reason).where(pauses.c.ended_at.is_(None))
_LOCK = "LOCK TABLE nonces IN {} MODE"
_PATIENCE = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s'"
"""A statement that raises fees holds its lock while a remote signer signs: for `SIGNER_TIMEOUT_SECONDS` at most."""


class Pause(NamedTuple):
    """An open pause: since when, by whom, and why, if they said so."""

    since: datetime
    paused_by: str
    reason: str | None

    def __str__(self) -> str:
        """Returns the pause as a sentence without its dot."""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.paused_by} paused new event runs and bookings at {self.since:%Y-%m-%d %H:%M:%S %Z}{why}"


def current_pause(connection: Connection) -> Pause | None:
    """Returns the open pause; None if there is none."""
    row = connection.execute(_OPEN).one_or_none()
    return None if row is None else Pause(*row)


def lock_against_pause(connection: Connection) -> bool:
    """Lets no pause begin until the caller's transaction ends, and returns whether one is open."""
    connection.exec_driver_sql(_LOCK.format("ROW EXCLUSIVE"))
    return bool(connection.execute(select(IS_PAUSED)).scalar_one())


def pause(database: Database, operator: str, reason: str | None = None) -> Pause:
    """Pauses the service; leaves an open pause as it is. Returns the open pause."""
    with database.transaction() as connection:
        connection.exec_driver_sql(_PATIENCE)
        connection.exec_driver_sql(_LOCK.format("SHARE ROW EXCLUSIVE"))
        found = current_pause(connection)
        if found is not None:
            return found
        columns = (pauses.c.since, pauses.c.paused_by, pauses.c.reason)
        values = {"paused_by": operator, "reason": reason}
        opened = Pause(*connection.execute(insert(pauses).values(values).returning(*columns)).one())
    log.error("%s", opened)
    return opened


def resume(database: Database, operator: str) -> Pause | None:
    """Ends the pause. Returns the pause that was open; None if there was none."""
    is_open = pauses.c.ended_at.is_(None)
    values = {"ended_at": func.clock_timestamp(), "ended_by": operator}
    columns = (pauses.c.since, pauses.c.paused_by, pauses.c.reason)
    with database.autocommit() as connection:
        row = connection.execute(update(pauses).where(is_open).values(values).returning(*columns)).one_or_none()
    if row is None:
        return None
    log.warning("%s resumed what %s paused at %s", operator, row.paused_by, row.since)
    return Pause(*row)

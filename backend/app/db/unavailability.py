"""What PostgreSQL and poolers mean by an error: "not now", or a mistake of this service.

"Not now" is `DatabaseUnavailable` with a reason out of these tables. Errors of the driver are not quoted, as they may
contain parts of a mistyped `DATABASE_URL`. Everything else stays an error of SQLAlchemy, and so an unexpected one.
"""

from __future__ import annotations

from typing import NamedTuple

import psycopg

from app.core.errors import DatabaseBusy, DatabaseUnavailable


class Unavailability(NamedTuple):
    """Meaning of an error.

    Attributes:
        reason: Why the database can't serve this request, for the sentence "The database is unavailable: <reason>."
        kind: The error that it is raised as.
        drops: Whether the connection is of no use any more, nor are others that are as old.
    """

    reason: str
    kind: type[DatabaseUnavailable] = DatabaseUnavailable
    drops: bool = False

    def as_error(self) -> DatabaseUnavailable:
        """Returns the error to raise."""
        state = "busy" if self.kind is DatabaseBusy else "unavailable"
        return self.kind(f"The database is {state}: {self.reason}.", self.reason)


READ_ONLY = "it is a read-only standby, or was set read-only; the service needs the primary"
_BROKEN = Unavailability("the connection broke", drops=True)
_COLLISION = Unavailability("transactions collided", DatabaseBusy)
POOL_IN_USE = Unavailability("all connections of this process are in use (DATABASE_POOL_SIZE)", DatabaseBusy)
_STATEMENTS = "a pooler mixed up prepared statements: add pgbouncer=true to DATABASE_URL"

NOT_NOW: dict[str, Unavailability] = {
    "08": _BROKEN,  # connection exceptions; pgbouncer's own errors
    "25006": Unavailability(READ_ONLY, drops=True),
    "25P03": Unavailability("a transaction was idle for too long", drops=True),
    "25P04": Unavailability("a transaction took too long", drops=True),
    "26000": Unavailability(_STATEMENTS, drops=True),  # a prepared statement does not exist
    "40001": _COLLISION,
    "40P01": _COLLISION,  # deadlock
    "42P05": Unavailability(_STATEMENTS, drops=True),  # a prepared statement exists
    "53100": Unavailability("its disk is full"),
    "53200": Unavailability("it is out of memory"),
    "53300": Unavailability("it has no free connection", DatabaseBusy),
    "53": Unavailability("it lacks resources"),
    "55P03": Unavailability("somebody held a lock longer than DATABASE_LOCK_TIMEOUT_SECONDS", DatabaseBusy),
    "57014": Unavailability("a statement took longer than DATABASE_STATEMENT_TIMEOUT_SECONDS", DatabaseBusy),
    "57P01": Unavailability("it was shut down, or the session was ended", drops=True),
    "57P02": Unavailability("it crashed, and restarts", drops=True),
    "57P03": Unavailability("it is starting or stopping", drops=True),
    "57P04": Unavailability("the database was dropped", drops=True),
    "57P05": Unavailability("an idle session was ended", drops=True),
    "58": Unavailability("it can't read or write its files"),
}
"""By SQLSTATE, or by its class (the first two characters)."""

_REFUSALS = {
    "unsupported startup parameter": "a pooler refuses a startup parameter (options, or schema) of DATABASE_URL",
    "password authentication failed": "it refuses the user or the password",
    "authentication failed": "it refuses the user or the password",
    "no password supplied": "it asks for a password",
    "no pg_hba.conf entry": "it does not allow this user from this address",
    "does not exist": "it has no such database or user",
    "no such database": "it has no such database or user",
    "no such user": "it has no such database or user",
    "too many": NOT_NOW["53300"].reason,
    "no more connections": NOT_NOW["53300"].reason,
    "max clients": NOT_NOW["53300"].reason,
    "remaining connection slots": NOT_NOW["53300"].reason,
    "starting up": NOT_NOW["57P03"].reason,
    "shutting down": NOT_NOW["57P03"].reason,
    "not currently accepting connections": "the database accepts no connections",
    "read-only": READ_ONLY,
    "certificate": "its TLS certificate is not accepted, as sslmode asks for it",
    "ssl": "it does not agree on TLS with sslmode",
    "invalid": "a parameter of DATABASE_URL has a value that libpq does not understand",
    "resolve host": "its host name is unknown",
    "translate host": "its host name is unknown",
    "connection refused": "it refuses the connection: nothing listens there",
    "no such file": "its socket does not exist",
    "timeout": "it does not answer in time",
    "timed out": "it does not answer in time",
    "no route": "its network can't be reached",
    "unreachable": "its network can't be reached",
}
"""Reasons by words in the error of a connection that could not be opened. libpq gives no SQLSTATE for them."""


def meaning_of(error: BaseException) -> Unavailability | None:
    """Returns what an error of psycopg means; None if it is a mistake of this service."""
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return NOT_NOW.get(error.sqlstate) or NOT_NOW.get(error.sqlstate[:2])
    if not isinstance(error, psycopg.OperationalError):
        return None
    text = str(error).lower()
    reason = next((reason for words, reason in _REFUSALS.items() if words in text), None)
    return Unavailability(reason, drops=True) if reason else _BROKEN

"""What PostgreSQL and poolers mean by an error: "not now", or a mistake of this service.

"Not now" is `DatabaseUnavailable` with a reason out of these tables. Errors of the driver are not quoted, as they may
contain parts of a mistyped `DATABASE_URL`. Everything else stays an error of SQLAlchemy, and so an unexpected one.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal, NamedTuple, get_args

import psycopg

from app.core.errors import DatabaseBusy, DatabaseUnavailable

Trouble = Literal[
    "broken",
    "collision",
    "disk_full",
    "lock_timeout",
    "pool_in_use",
    "prepared_statements",
    "read_only",
    "refused",
    "resources",
    "restarting",
    "session_ended",
    "statement_timeout",
    "too_many_connections",
    "unreachable",
]
"""Short names of the reasons, for metrics."""
troubles: Counter[Trouble] = Counter(dict.fromkeys(get_args(Trouble), 0))
"""How often the database was unavailable since the start of the process, by reason."""


class Unavailability(NamedTuple):
    """Meaning of an error.

    Attributes:
        trouble: Short name of the reason, for metrics.
        reason: Why the database can't serve this request, for the sentence "The database is unavailable: <reason>."
        kind: The error that it is raised as.
        drops: Whether the connection is of no use any more, nor are others that are as old.
    """

    trouble: Trouble
    reason: str
    kind: type[DatabaseUnavailable] = DatabaseUnavailable
    drops: bool = False

    def as_error(self) -> DatabaseUnavailable:
        """Counts the trouble, and returns the error to raise."""
        troubles[self.trouble] += 1
        state = "busy" if self.kind is DatabaseBusy else "unavailable"
        return self.kind(f"The database is {state}: {self.reason}.", self.reason)


READ_ONLY = "it is a read-only standby, or was set read-only; the service needs the primary"
_BROKEN = Unavailability("broken", "the connection broke", drops=True)
_COLLISION = Unavailability("collision", "transactions collided", DatabaseBusy)
POOL_IN_USE = Unavailability(
    "pool_in_use", "all connections of this process are in use (DATABASE_POOL_SIZE)", DatabaseBusy
)
_STATEMENTS = Unavailability(
    "prepared_statements", "a pooler mixed up prepared statements: add pgbouncer=true to DATABASE_URL", drops=True
)
_LOCK_TIMEOUT = "somebody held a lock longer than DATABASE_LOCK_TIMEOUT_SECONDS"
_STATEMENT_TIMEOUT = "a statement took longer than DATABASE_STATEMENT_TIMEOUT_SECONDS"
_NO_CONNECTION = "it has no free connection"
_STARTING = "it is starting or stopping"

NOT_NOW: dict[str, Unavailability] = {
    "08": _BROKEN,  # connection exceptions; pgbouncer's own errors
    "25006": Unavailability("read_only", READ_ONLY, drops=True),
    "25P03": Unavailability("session_ended", "a transaction was idle for too long", drops=True),
    "25P04": Unavailability("session_ended", "a transaction took too long", drops=True),
    "26000": _STATEMENTS,  # a prepared statement does not exist
    "40001": _COLLISION,
    "40P01": _COLLISION,  # deadlock
    "42P05": _STATEMENTS,  # a prepared statement exists
    "53100": Unavailability("disk_full", "its disk is full"),
    "53200": Unavailability("resources", "it is out of memory"),
    "53300": Unavailability("too_many_connections", _NO_CONNECTION, DatabaseBusy),
    "53": Unavailability("resources", "it lacks resources"),
    "55P03": Unavailability("lock_timeout", _LOCK_TIMEOUT, DatabaseBusy),
    "57014": Unavailability("statement_timeout", _STATEMENT_TIMEOUT, DatabaseBusy),
    "57P01": Unavailability("restarting", "it was shut down, or the session was ended", drops=True),
    "57P02": Unavailability("restarting", "it crashed, and restarts", drops=True),
    "57P03": Unavailability("restarting", _STARTING, drops=True),
    "57P04": Unavailability("refused", "the database was dropped", drops=True),
    "57P05": Unavailability("session_ended", "an idle session was ended", drops=True),
    "58": Unavailability("resources", "it can't read or write its files"),
}
"""By SQLSTATE, or by its class (the first two characters)."""

_PASSWORD = "it refuses the user or the password"
_NO_DATABASE = "it has no such database or user"
_TIME_OUT, _NO_ROUTE = "it does not answer in time", "its network can't be reached"
_STARTUP_PARAMETER = "a pooler refuses a startup parameter (options, or schema) of DATABASE_URL"
_PARAMETER = "a parameter of DATABASE_URL has a value that libpq does not understand"
_REFUSALS: dict[str, tuple[Trouble, str]] = {
    "unsupported startup parameter": ("refused", _STARTUP_PARAMETER),
    "password authentication failed": ("refused", _PASSWORD),
    "authentication failed": ("refused", _PASSWORD),
    "no password supplied": ("refused", "it asks for a password"),
    "no pg_hba.conf entry": ("refused", "it does not allow this user from this address"),
    "does not exist": ("refused", _NO_DATABASE),
    "no such database": ("refused", _NO_DATABASE),
    "no such user": ("refused", _NO_DATABASE),
    "too many": ("too_many_connections", _NO_CONNECTION),
    "no more connections": ("too_many_connections", _NO_CONNECTION),
    "max clients": ("too_many_connections", _NO_CONNECTION),
    "remaining connection slots": ("too_many_connections", _NO_CONNECTION),
    "query_wait_timeout": ("too_many_connections", "its pooler has no free connection to the server"),
    "starting up": ("restarting", _STARTING),
    "shutting down": ("restarting", _STARTING),
    "not currently accepting connections": ("restarting", "the database accepts no connections"),
    "read-only": ("read_only", READ_ONLY),
    "certificate": ("refused", "its TLS certificate is not accepted, as sslmode asks for it"),
    "ssl": ("refused", "it does not agree on TLS with sslmode"),
    "invalid": ("refused", _PARAMETER),
    "resolve host": ("unreachable", "its host name is unknown"),
    "translate host": ("unreachable", "its host name is unknown"),
    "connection refused": ("unreachable", "it refuses the connection: nothing listens there"),
    "no such file": ("unreachable", "its socket does not exist"),
    "timeout": ("unreachable", _TIME_OUT),
    "timed out": ("unreachable", _TIME_OUT),
    "no route": ("unreachable", _NO_ROUTE),
    "unreachable": ("unreachable", _NO_ROUTE),
}
"""By words of a connection that could not be opened, for which libpq gives no SQLSTATE, and of a pooler's errors."""


def meaning_of(error: BaseException) -> Unavailability | None:
    """Returns what an error of psycopg means; None if it is a mistake of this service."""
    state = (error.sqlstate if isinstance(error, psycopg.Error) else None) or "08"
    if not state.startswith("08"):
        return NOT_NOW.get(state) or NOT_NOW.get(state[:2])
    if isinstance(error, psycopg.InternalError):  # the driver's own: the answer belongs to no request, as at an end
        return _BROKEN
    if not isinstance(error, psycopg.OperationalError):
        return None
    text = str(error).lower()
    found = next((meaning for words, meaning in _REFUSALS.items() if words in text), None)
    return Unavailability(*found, drops=True) if found else _BROKEN

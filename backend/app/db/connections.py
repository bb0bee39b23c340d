"""Opens connections of a pool: checked, with time-outs, and safe behind a pooler.

A transaction pooler, such as pgbouncer, gives each transaction any of its server connections. What a session keeps
there would be lost, or be another client's: SET, prepared statements, LISTEN, session locks. A pooler gives its clients
a process id of its own, which differs from `pg_backend_pid()`. On such a connection nothing is prepared, and each
transaction sets its time-outs itself. A session pooler is treated likewise: it costs two round trips a statement.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import psycopg
from psycopg.errors import DeadlockDetected, ReadOnlySqlTransaction, SerializationFailure
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, PoolProxiedConnection, QueuePool, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.core.errors import DatabaseUnavailable
from app.db.unavailability import POOL_IN_USE, READ_ONLY, meaning_of

MAX_TRIES = 3
"""Number of times that a statement outside of a transaction is executed, if it collides with others each time."""
PING_AFTER_S = 30
"""Seconds of being idle after which a connection is tried before it is used."""
RECYCLE_AFTER_S = 1800
"""Age in seconds at which a connection is replaced, so that a service moves to servers that were added."""
IDLE_TRANSACTION_TIMEOUT_S = 60
"""Seconds after which the server ends a session whose transaction does nothing, and so releases its locks."""
_LIBPQ: dict[str, str | int] = {
    "fallback_application_name": "stakesim",  # so that an operator knows whose a session is
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds; keepalives do not run while data waits for an acknowledgement
}
"""Notice a peer that vanished without a word, as behind a firewall, within about half a minute."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class DatabasePolicy:
    """Limits of a process's connections.

    Attributes:
        pool_size: Maximum number of connections.
        pool_timeout: Seconds to wait for a connection of the pool.
        statement_timeout: Seconds that a statement may take.
        lock_timeout: Seconds that a statement may wait for a lock.
        is_pooled: Whether to treat all connections as those of a pooler; if not, each is asked.
    """

    pool_size: int = 10
    pool_timeout: float = 5
    statement_timeout: float = 30
    lock_timeout: float = 5
    is_pooled: bool = False

    def set_timeouts(self, scope: Literal["SESSION", "LOCAL"]) -> str:
        """Returns the SQL that sets the time-outs of a session or a transaction."""
        timeouts = {
            "statement_timeout": self.statement_timeout,
            "lock_timeout": self.lock_timeout,
            "idle_in_transaction_session_timeout": IDLE_TRANSACTION_TIMEOUT_S,
        }
        return "; ".join(f"SET {scope} {name} = {int(1000 * seconds)}" for name, seconds in timeouts.items())


class Pool(QueuePool):
    """A pool that is busy, and not at fault, if no connection is free in time.

    Attributes:
        dropped_at: Connections that were open by then (`time.monotonic`) are of no use, as one of them was of none.
    """

    dropped_at = 0.0

    def connect(self) -> PoolProxiedConnection:
        """Lends a connection. Raises `DatabaseBusy`."""
        try:
            return super().connect()
        except PoolTimeoutError:
            raise POOL_IN_USE.as_error() from None


class _Cursor(psycopg.Cursor[Any]):
    """Repeats a statement that collided with others, if it is a transaction of its own."""

    def execute(self, *args: Any, **options: Any) -> Any:
        return self._repeated(lambda: super(_Cursor, self).execute(*args, **options))

    def executemany(self, *args: Any, **options: Any) -> None:
        self._repeated(lambda: super(_Cursor, self).executemany(*args, **options))

    def _repeated(self, run: Callable[[], _T]) -> _T:
        tries = 1
        while True:
            try:
                return run()
            except (SerializationFailure, DeadlockDetected):
                connection = self.connection
                is_whole = connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE
                if not is_whole or tries == MAX_TRIES:
                    raise
            tries += 1


def _pooler_cursor(policy: DatabasePolicy) -> type[psycopg.Cursor[Any]]:
    """Returns a class of cursors that set the time-outs in each transaction, and open one if there is none."""
    timeouts = policy.set_timeouts("LOCAL")

    class PoolerCursor(_Cursor):
        def _repeated(self, run: Callable[[], _T]) -> _T:
            connection = self.connection
            if connection.info.transaction_status != TransactionStatus.IDLE:
                return run()
            if not connection.autocommit:  # psycopg opens the transaction
                _send(connection, timeouts)
                return run()
            return super()._repeated(lambda: self._in_transaction(run))

        def _in_transaction(self, run: Callable[[], _T]) -> _T:
            connection = self.connection
            _send(connection, f"BEGIN; {timeouts}")
            try:
                result = run()
                _send(connection, "COMMIT")
            except BaseException:
                if not connection.broken and connection.info.transaction_status != TransactionStatus.IDLE:
                    _send(connection, "ROLLBACK")
                raise
            return result

    return PoolerCursor


def _send(connection: psycopg.Connection[Any], sql: str) -> psycopg.Cursor[Any]:
    """Sends statements without parameters in one message."""
    return psycopg.Cursor(connection).execute(sql.encode(), prepare=False)


def install(engine: Engine, policy: DatabasePolicy) -> None:
    """Makes an engine open connections with this policy, check them before use, and raise `DatabaseUnavailable`."""
    pooler_cursor = _pooler_cursor(policy)

    @event.listens_for(engine, "do_connect")
    def open_connection(dialect: Any, record: Any, args: Any, options: dict[str, Any]) -> psycopg.Connection[Any]:
        try:
            connection: psycopg.Connection[Any] = psycopg.connect(*args, **_LIBPQ | options, autocommit=True)
        except UnicodeError:
            raise psycopg.OperationalError("can't resolve host") from None
        except psycopg.ProgrammingError:
            raise psycopg.OperationalError("invalid connection option") from None
        try:
            _prepare(connection, policy, pooler_cursor)
        except BaseException:
            connection.close()
            raise
        return connection

    # A commit that is interrupted leaves a transaction open, and so does a connection that is not closed. It ends here,
    # before the engine sets the connection's mode back. The engine's own reset takes longer, as it asks psycopg
    @event.listens_for(engine, "reset")
    def end_transaction(connection: psycopg.Connection[Any], record: Any, state: Any) -> None:
        if not connection.closed and connection.pgconn.transaction_status != TransactionStatus.IDLE:
            connection.rollback()

    @event.listens_for(engine, "checkin")
    def put_back(connection: psycopg.Connection[Any] | None, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def check(connection: psycopg.Connection[Any], record: Any, proxy: Any) -> None:
        info = record.info
        if "used_at" not in info:  # it was just opened
            info["poll"], info["opened_at"] = _poll(connection), time.monotonic()
        elif info["opened_at"] <= getattr(engine.pool, "dropped_at", 0):
            raise DisconnectionError
        elif info["poll"].poll(0) or time.monotonic() - info["used_at"] > PING_AFTER_S:
            try:
                _send(connection, "")
            except psycopg.Error:
                raise DisconnectionError from None

    @event.listens_for(engine, "handle_error")
    def translate(context: ExceptionContext) -> DatabaseUnavailable | None:
        meaning = meaning_of(context.original_exception)
        if meaning is None:
            return None
        context.is_disconnect = context.is_disconnect or meaning.drops
        return meaning.as_error()


def _prepare(
    connection: psycopg.Connection[Any], policy: DatabasePolicy, pooler_cursor: type[psycopg.Cursor[Any]]
) -> None:
    """Checks that the server can be written to, and sets the connection up for a pooler or for a session."""
    row = _send(connection, "SELECT pg_backend_pid(), pg_is_in_recovery()").fetchone()
    assert row is not None
    server_pid, is_standby = row
    if is_standby:
        raise ReadOnlySqlTransaction(READ_ONLY)
    if policy.is_pooled or server_pid != connection.info.backend_pid:
        connection.prepare_threshold = None
        connection.cursor_factory = pooler_cursor
    else:
        connection.cursor_factory = _Cursor
        _send(connection, f"{policy.set_timeouts('SESSION')}; SET SESSION plan_cache_mode = force_generic_plan")


def drop(connection: Connection, error: BaseException) -> None:
    """Closes a connection that is of no use any more, and lets the pool replace the others that are as old."""
    if isinstance(connection.engine.pool, Pool):
        connection.engine.pool.dropped_at = time.monotonic()
    connection.invalidate(error)


def is_behind_pooler(connection: Connection) -> bool:
    """Returns whether a connection of the pool goes through a pooler, or is treated as if it did."""
    driver_connection = connection.connection.driver_connection
    assert isinstance(driver_connection, psycopg.Connection)
    return driver_connection.prepare_threshold is None


def _poll(connection: psycopg.Connection[Any]) -> select.poll:
    """Returns a poll object that sees what the server sends to an idle connection, such as its end."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return poll

"""Connections: to the database of `DATABASE_URL`, or to the embedded server."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from psycopg.errors import DuplicateDatabase, UniqueViolation
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.core.errors import DatabaseUnavailable
from app.db.embedded import default_data_dir, start_embedded

EMBEDDED_DATABASE = "stakesim"
"""Name of the database on the embedded server."""
DATABASE_ERRORS = (OperationalError, InterfaceError, PoolTimeoutError)
"""Errors that SQLAlchemy raises if the database does not answer, or no connection of the pool is free in time."""


class Database:
    """Opens connections with or without a transaction.

    A transaction costs two extra round trips (BEGIN, COMMIT), which matter if the database is far away. A single
    statement needs none: use `autocommit` for it. Its connections have a separate pool, so that none has to change its
    isolation level on each use.

    Attributes:
        engine: Connects to the database. Disposing of it also disposes of `autocommit_engine`.
        autocommit_engine: Connects to the same database; each statement commits itself.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.autocommit_engine = _autocommit_engine(engine)

    def transaction(self) -> AbstractContextManager[Connection]:
        """Opens a connection with one transaction: committed at the end, rolled back on an exception."""
        return self.engine.begin()

    def autocommit(self) -> AbstractContextManager[Connection]:
        """Opens a connection on which each statement commits itself."""
        return self.autocommit_engine.connect()


def connect(url: str | None = None, data_dir: Path | None = None) -> Engine:
    """Connects to a database, and checks that it answers.

    Args:
        url: A PostgreSQL URL. If None or empty, the embedded server is used, and started if it does not run.
        data_dir: Data directory of the embedded server; `default_data_dir()` if None.

    Raises:
        DatabaseUnavailable: The URL is not a PostgreSQL URL, or no server answers there.
    """
    if not url:
        return create_database(start_embedded(data_dir or default_data_dir()), EMBEDDED_DATABASE)
    try:
        parsed_url = make_url(url)
    except ArgumentError:
        raise DatabaseUnavailable("DATABASE_URL is not a URL: give postgresql://user:password@host/database.") from None
    if parsed_url.drivername.split("+")[0] not in ("postgres", "postgresql"):
        raise DatabaseUnavailable(f"DATABASE_URL is for {parsed_url.drivername}: only PostgreSQL is supported.")
    engine = _engine(parsed_url)
    try:
        engine.connect().close()
    except OperationalError as error:
        address, reason = parsed_url.render_as_string(hide_password=True), str(error.orig).strip().splitlines()[0]
        raise DatabaseUnavailable(f"No database answers at {address}: {reason}. Check DATABASE_URL.") from None
    return engine


def create_database(server: URL, name: str, template: str | None = None) -> Engine:
    """Connects to a database, and creates it first if it does not exist.

    Args:
        server: The server to create it on.
        name: Name of the database.
        template: Database to copy when it is created. PostgreSQL refuses the copy while anybody is connected to it.
    """
    engine = _engine(server.set(database=name))
    try:
        engine.connect().close()
    except OperationalError:
        admin = _admin_engine(server)
        quote = admin.dialect.identifier_preparer.quote
        with admin.connect() as connection:
            try:
                copy = f" TEMPLATE {quote(template)}" if template else ""
                connection.exec_driver_sql(f"CREATE DATABASE {quote(name)}{copy}")
            except DBAPIError as error:
                # another process may have created it meanwhile
                if not isinstance(error.orig, DuplicateDatabase | UniqueViolation):
                    raise
        admin.dispose()
    return engine


def drop_database(server: URL, name: str) -> None:
    """Drops a database if it exists, and ends all connections to it."""
    admin = _admin_engine(server)
    with admin.connect() as connection:
        quoted_name = admin.dialect.identifier_preparer.quote(name)
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {quoted_name} WITH (FORCE)")
    admin.dispose()


_AUTOCOMMIT_ENGINES: WeakKeyDictionary[Engine, Engine] = WeakKeyDictionary()


def _autocommit_engine(engine: Engine) -> Engine:
    """Returns the autocommit engine of the same database: one for each engine, disposed of together with it."""
    if engine not in _AUTOCOMMIT_ENGINES:
        autocommit_engine = _engine(engine.url, isolation_level="AUTOCOMMIT", pool_reset_on_return=None)
        event.listen(engine, "engine_disposed", lambda _: autocommit_engine.dispose())
        _AUTOCOMMIT_ENGINES[engine] = autocommit_engine
    return _AUTOCOMMIT_ENGINES[engine]


def _admin_engine(server: URL) -> Engine:
    """Returns an engine for CREATE and DROP DATABASE, which PostgreSQL refuses inside a transaction."""
    return _engine(server.set(database="postgres")).execution_options(isolation_level="AUTOCOMMIT")


def _engine(url: URL, **options: Any) -> Engine:
    return create_engine(url.set(drivername="postgresql+psycopg"), connect_args={"connect_timeout": 10}, **options)

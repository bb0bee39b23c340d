"""Connections: to the database of `DATABASE_URL`, or to the embedded server."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from weakref import WeakKeyDictionary

from psycopg.errors import DuplicateDatabase, UniqueViolation
from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError

from app.core.errors import DatabaseUnavailable
from app.db.connections import RECYCLE_AFTER_S, DatabasePolicy, Pool, install
from app.db.embedded import default_data_dir, start_embedded
from app.db.url import DRIVER, DatabaseURL, parse_database_url

EMBEDDED_DATABASE = "stakesim"
"""Name of the database on the embedded server."""
DATABASE_ERRORS = (DatabaseUnavailable,)
"""Errors that say "not now". Other errors of the database are mistakes of this service."""


class Database:
    """Lends connections of one pool, with or without a transaction.

    A transaction costs two extra round trips (BEGIN, COMMIT), which matter if the database is far away. A single
    statement needs none: use `autocommit` for it.

    Both raise `DatabaseUnavailable` instead of the driver's errors that say "not now", and `DatabaseBusy` if no
    connection is free in time. A thread that has a connection must not ask for another one: with all threads waiting
    for their second, none would go on.

    Attributes:
        engine: Engine of the pool, from `open_engine`; its connections begin a transaction.
        autocommit_engine: Engine of the same pool; each statement commits itself. Its events include the other's.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.autocommit_engine = _AUTOCOMMIT_ENGINES[engine]

    def transaction(self) -> AbstractContextManager[Connection]:
        """Lends a connection with one transaction: committed at the end, rolled back on an exception."""
        return self.engine.begin()

    def autocommit(self) -> Connection:
        """Lends a connection, as a context manager, on which each statement commits itself."""
        return self.autocommit_engine.connect()


_AUTOCOMMIT_ENGINES: WeakKeyDictionary[Engine, Engine] = WeakKeyDictionary()


def open_engine(url: URL, policy: DatabasePolicy | None = None) -> Engine:
    """Returns an engine with a pool of its own for `Database`. Opens no connection yet.

    Args:
        url: URL with parameters of libpq only.
        policy: Limits of its connections; the default ones if None.
    """
    policy = policy or DatabasePolicy()
    autocommit_engine = create_engine(
        url.set(drivername=DRIVER),
        isolation_level="AUTOCOMMIT",
        poolclass=Pool,
        pool_size=policy.pool_size,
        max_overflow=0,
        pool_timeout=policy.pool_timeout,
        pool_recycle=RECYCLE_AFTER_S,
        pool_use_lifo=True,
        pool_reset_on_return=None,  # `install` does it
        hide_parameters=True,
        use_native_hstore=False,
    )
    install(autocommit_engine, policy)
    engine = autocommit_engine.execution_options(isolation_level="READ COMMITTED")
    _AUTOCOMMIT_ENGINES[engine] = autocommit_engine
    return engine


def connect(url: str | None = None, data_dir: Path | None = None, policy: DatabasePolicy | None = None) -> Engine:
    """Connects to a database, and checks that it answers and can be written to.

    Args:
        url: A PostgreSQL URL. If None or empty, the embedded server is used, and started if it does not run.
        data_dir: Data directory of the embedded server; `default_data_dir()` if None.
        policy: Limits of the connections; those in the URL precede.

    Raises:
        DatabaseUnavailable: The URL is not a PostgreSQL URL, no server answers there, or it is a read-only standby.
    """
    policy = policy or DatabasePolicy()
    if not url or not url.strip():
        return create_database(start_embedded(data_dir or default_data_dir()), EMBEDDED_DATABASE, policy=policy)
    parsed_url = parse_database_url(url)
    engine = open_engine(parsed_url.url, _with_limits_of_url(policy, parsed_url))
    try:
        with engine.connect() as connection:
            schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    except DatabaseUnavailable as error:
        engine.dispose()
        reason = error.reason
        raise DatabaseUnavailable(
            f"The database at {parsed_url.address} is unavailable: {reason}. Check DATABASE_URL.", reason
        ) from None
    if parsed_url.schema not in (None, schema):
        engine.dispose()
        raise DatabaseUnavailable(
            f"The database at {parsed_url.address} does not use the schema of DATABASE_URL: create it; behind a pooler "
            "that drops it, set it with ALTER ROLE ... SET search_path."
        )
    return engine


def _with_limits_of_url(policy: DatabasePolicy, url: DatabaseURL) -> DatabasePolicy:
    return replace(
        policy,
        pool_size=url.pool_size or policy.pool_size,
        pool_timeout=policy.pool_timeout if url.pool_timeout is None else url.pool_timeout,
        is_pooled=policy.is_pooled or url.is_pooled,
    )


def create_database(
    server: URL, name: str, template: str | None = None, policy: DatabasePolicy | None = None
) -> Engine:
    """Connects to a database, and creates it first if it does not exist.

    Args:
        server: The server to create it on.
        name: Name of the database.
        template: Database to copy when it is created. PostgreSQL refuses the copy while anybody is connected to it.
        policy: Limits of the connections; the default ones if None.
    """
    engine = open_engine(server.set(database=name), policy)
    try:
        engine.connect().close()
    except DatabaseUnavailable:
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


def _admin_engine(server: URL) -> Engine:
    """Returns an engine for CREATE and DROP DATABASE, which PostgreSQL refuses inside a transaction."""
    unhurried = DatabasePolicy(statement_timeout=600, lock_timeout=60)
    return Database(open_engine(server.set(database="postgres"), unhurried)).autocommit_engine

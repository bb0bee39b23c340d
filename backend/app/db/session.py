"""The database: that of `DATABASE_URL` or the embedded server's, its migrations, and copies of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from psycopg.errors import DuplicateDatabase, UniqueViolation
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from app.core.errors import DatabaseUnavailable, MigrationsMissing
from app.db.embedded import default_data_dir, start_embedded

MIGRATIONS = Path(__file__).parents[2] / "database" / "migrations"
DATABASE = "stakesim"
"""Name of the database on the embedded server."""
_MIGRATING = 7_305_115
"""Key of the lock that lets one process at a time migrate."""


class Database:
    """What the services are handed: a transaction for several statements, or a connection for one.

    A transaction costs two round trips more than its statements do, which matters where the database is far away. The
    connections for one statement are a pool of their own, so that none is set up and reset around each statement;
    disposing of the engine empties it too.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.autocommit = _autocommit(engine)

    def begin(self) -> AbstractContextManager[Connection]:
        """One transaction, committed at the end, rolled back on an error."""
        return self.engine.begin()

    def single(self) -> AbstractContextManager[Connection]:
        """Each statement is a transaction of its own."""
        return self.autocommit.connect()


def connect(url: str | None = None, data_dir: Path | None = None) -> Engine:
    """An engine on the database of this URL; without one, on the embedded server, started when it is not up.

    Args:
        data_dir: Of the embedded server; `default_data_dir()` if left out.

    Raises:
        DatabaseUnavailable: No PostgreSQL answers there.
    """
    if not url:
        return create_database(start_embedded(data_dir or default_data_dir()), DATABASE)
    try:
        target = make_url(url)
    except ArgumentError:
        raise DatabaseUnavailable("DATABASE_URL is no URL: give postgresql://user:password@host/database.") from None
    if target.drivername.split("+")[0] not in ("postgres", "postgresql"):
        raise DatabaseUnavailable(f"DATABASE_URL is of {target.drivername}: only PostgreSQL will do.")
    engine = _engine(target)
    try:
        engine.connect().close()
    except OperationalError as error:
        where, why = target.render_as_string(hide_password=True), str(error.orig).strip().splitlines()[0]
        raise DatabaseUnavailable(f"No database answers at {where}: {why}. Check DATABASE_URL.") from None
    return engine


def create_database(server: URL, name: str, template: str | None = None) -> Engine:
    """An engine on the database of this name on that server, which is made if it is not there.

    template: the database to copy then; nothing may be connected to it meanwhile.
    """
    engine = _engine(server.set(database=name))
    try:
        engine.connect().close()
    except OperationalError:
        admin = _engine(server.set(database="postgres")).execution_options(isolation_level="AUTOCOMMIT")
        quote = admin.dialect.identifier_preparer.quote
        with admin.connect() as connection:
            try:
                copied = f" TEMPLATE {quote(template)}" if template else ""
                connection.exec_driver_sql(f"CREATE DATABASE {quote(name)}{copied}")
            except DBAPIError as error:
                if not isinstance(error.orig, DuplicateDatabase | UniqueViolation):  # another process was faster
                    raise
        admin.dispose()
    return engine


def drop_database(server: URL, name: str) -> None:
    """Drops it if it is there, whoever is connected."""
    admin = _engine(server.set(database="postgres")).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        quoted = admin.dialect.identifier_preparer.quote(name)
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")
    admin.dispose()


def migration_files() -> list[Path]:
    """All migrations, in the order in which they are applied.

    Raises:
        MigrationsMissing: There are none, so nothing can be said of any database's schema.
    """
    found = sorted(MIGRATIONS.glob("*.sql"))
    if not found:
        raise MigrationsMissing("The migration files are not there: deploy backend/database together with backend/app.")
    return found


def migrate(engine: Engine) -> list[str]:
    """Applies the migrations that the database has not had, in order, all or none. Returns their names.

    Raises:
        MigrationsMissing: There are no migration files.
    """
    files = migration_files()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
        connection.exec_driver_sql(
            "CREATE TABLE IF NOT EXISTS schema_migrations "
            "(name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        applied = set(connection.exec_driver_sql("SELECT name FROM schema_migrations").scalars())
        missing = [path for path in files if path.stem not in applied]
        for path in missing:
            connection.execution_options(no_parameters=True).exec_driver_sql(path.read_text())
            connection.exec_driver_sql("INSERT INTO schema_migrations (name) VALUES (%s)", (path.stem,))
    return [path.stem for path in missing]


_AUTOCOMMIT: WeakKeyDictionary[Engine, Engine] = WeakKeyDictionary()


def _autocommit(engine: Engine) -> Engine:
    """The same database, by connections that commit each statement; one pool of them for an engine."""
    if engine not in _AUTOCOMMIT:
        twin = _engine(engine.url, isolation_level="AUTOCOMMIT", pool_reset_on_return=None)
        event.listen(engine, "engine_disposed", lambda _: twin.dispose())
        _AUTOCOMMIT[engine] = twin
    return _AUTOCOMMIT[engine]


def _engine(url: URL, **options: Any) -> Engine:
    return create_engine(url.set(drivername="postgresql+psycopg"), connect_args={"connect_timeout": 10}, **options)

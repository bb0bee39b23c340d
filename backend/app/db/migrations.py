"""The schema: SQL files in `database/migrations`, applied in the order of their names."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect

from app.core.errors import MigrationsMissing

MIGRATIONS = Path(__file__).parents[2] / "database" / "migrations"
_LOCK_KEY = 7_305_115
"""Key of the PostgreSQL advisory lock that allows one process at a time to migrate. It ends with the transaction, as a
pooler may give a session's lock to somebody else."""
_TIMEOUTS = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s'"
"""An index of a large table takes its time; a lock that somebody holds longer than this is not waited for."""


def migration_files() -> list[Path]:
    """Returns all migration files, in the order in which they are applied.

    Raises:
        MigrationsMissing: There are no migration files.
    """
    files = sorted(MIGRATIONS.glob("*.sql"))
    if not files:
        raise MigrationsMissing("The migration files are not there: deploy backend/database together with backend/app.")
    return files


def missing_migrations(engine: Engine) -> list[str]:
    """Returns the names of the migrations that are not applied to this database, in order.

    Raises:
        MigrationsMissing: There are no migration files.
    """
    with engine.connect() as connection:
        applied = _applied(connection) if inspect(connection).has_table("schema_migrations") else set()
    return [path.stem for path in migration_files() if path.stem not in applied]


def migrate(engine: Engine) -> list[str]:
    """Applies the missing migrations in one transaction, and returns their names.

    Raises:
        MigrationsMissing: There are no migration files.
        DatabaseUnavailable: Somebody else holds a lock for longer than a minute, such as another process that migrates.
    """
    files = migration_files()
    with engine.begin() as connection:
        connection.exec_driver_sql(_TIMEOUTS)
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})")
        connection.exec_driver_sql(
            "CREATE TABLE IF NOT EXISTS schema_migrations "
            "(name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        applied = _applied(connection)
        missing = [path for path in files if path.stem not in applied]
        for path in missing:
            connection.execution_options(no_parameters=True).exec_driver_sql(path.read_text())
            connection.exec_driver_sql("INSERT INTO schema_migrations (name) VALUES (%s)", (path.stem,))
    return [path.stem for path in missing]


def _applied(connection: Connection) -> set[str]:
    return set(connection.exec_driver_sql("SELECT name FROM schema_migrations").scalars())

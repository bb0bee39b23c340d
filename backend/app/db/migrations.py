"""The schema: SQL files in `database/migrations`, applied in the order of their names."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect

from app.core.errors import MigrationsMissing
from app.db.access import backend_tables

MIGRATIONS = Path(__file__).parents[2] / "database" / "migrations"
_LOCK_KEY = 7_305_115
"""Key of the PostgreSQL advisory lock that allows one process at a time to migrate. It ends with the transaction, as a
pooler may give a session's lock to somebody else."""
_TIMEOUTS = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s'"
"""An index of a large table takes its time; a lock that somebody holds longer than this is not waited for."""

_PROTECT = """
    SELECT protect_tables(VARIADIC array_agg(oid::regclass)) FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relname = ANY(%s)
"""
_MAY_MIGRATE = """
    SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)
        AND NOT EXISTS (
            SELECT FROM pg_class WHERE oid = to_regclass('schema_migrations') AND NOT pg_has_role(relowner, 'USAGE')
        )
"""
_MAY_READ = "SELECT coalesce(has_table_privilege(to_regclass('schema_migrations'), 'SELECT'), true)"


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
        MigrationsMissing: There are no migration files, or the database's user may not read the tables.
    """
    with engine.connect() as connection:
        if not connection.exec_driver_sql(_MAY_READ).scalar_one():
            message = f"The database's user {_user(connection)} may not read the tables"
            raise MigrationsMissing(f"{message}: run `stakesim migrate` as their owner, which grants it.")
        applied = _applied(connection) if inspect(connection).has_table("schema_migrations") else set()
    return [path.stem for path in migration_files() if path.stem not in applied]


def ensure_migrated(engine: Engine) -> None:
    """Applies the missing migrations, if there are any and the database's user may.

    Raises:
        MigrationsMissing: It may not, or there are no migration files.
        DatabaseUnavailable: As `migrate`.
    """
    missing = missing_migrations(engine)
    if not missing:
        return
    with engine.connect() as connection:
        may_migrate, user = connection.exec_driver_sql(_MAY_MIGRATE).scalar_one(), _user(connection)
    if not may_migrate:
        message = f"The database lacks {', '.join(missing)}, and its user {user} may not create tables"
        raise MigrationsMissing(f"{message}: run `stakesim migrate` as the tables' owner.")
    migrate(engine)


def migrate(engine: Engine) -> list[str]:
    """Applies the missing migrations in one transaction, and returns their names.

    Then closes all tables to everybody but their owner and the role `stakesim_service`: a table of a new migration, and
    all of them for a role that was created since.

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
        if connection.exec_driver_sql("SELECT to_regproc('protect_tables') IS NOT NULL").scalar_one():
            connection.exec_driver_sql(_PROTECT, (backend_tables(),))
    return [path.stem for path in missing]


def _user(connection: Connection) -> str:
    return str(connection.exec_driver_sql("SELECT current_user").scalar_one())


def _applied(connection: Connection) -> set[str]:
    return set(connection.exec_driver_sql("SELECT name FROM schema_migrations").scalars())

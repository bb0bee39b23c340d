"""A schema that lives as long as its process: what a killed one leaves behind is dropped by the next one."""

from __future__ import annotations

import logging
import uuid

from app.core.errors import DatabaseUnavailable
from app.db.connections import is_behind_pooler
from app.db.database import Database
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

KINDS = ("scenarios", "serve")
"""How the names of such schemas begin."""
_OWN_SCHEMAS = f"SELECT nspname FROM pg_namespace WHERE nspname ~ '^({'|'.join(KINDS)})_[0-9a-f]{{32}}$'"
_OWN_SCHEMAS += " AND pg_has_role(nspowner, 'USAGE')"
_log = logging.getLogger(__name__)


class TemporarySchema:
    """An empty schema under a new name.

    A connection holds an advisory lock on the name until `drop`, or until the process ends, however it ends. So a
    schema whose lock is free belongs to nobody any more. Behind a pooler, whose connections outlive the process, there
    are no such locks, and nothing is dropped but the schema itself.

    Attributes:
        name: The schema's name.
    """

    def __init__(self, engine: Engine, kind: str) -> None:
        """Drops the schemas of processes that no longer live, and creates one.

        Args:
            engine: Connects to the database; `drop` disposes of it.
            kind: One of `KINDS`.
        """
        assert kind in KINDS
        self.name = f"{kind}_{uuid.uuid4().hex}"
        self._engine = engine
        self._claim = Database(engine).autocommit()
        if not is_behind_pooler(self._claim):
            _claims(self._claim, self.name)
            _drop_leftovers(self._claim)
        self._claim.exec_driver_sql(f"CREATE SCHEMA {self.name}")

    def drop(self) -> None:
        """Drops the schema with all that is in it."""
        try:
            with self._engine.begin() as connection:
                connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {self.name} CASCADE")
        finally:
            self._claim.invalidate()  # closes it, so that the lock goes with it
            self._claim.close()
            self._engine.dispose()


def _drop_leftovers(connection: Connection) -> None:
    for name in connection.exec_driver_sql(_OWN_SCHEMAS).scalars().all():
        if not _claims(connection, name):
            continue
        try:
            connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {name} CASCADE")
        except (DBAPIError, DatabaseUnavailable) as error:  # the next process tries again
            _log.warning("the schema %s of a process that has ended can't be dropped: %s", name, error)
        connection.exec_driver_sql("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (name,))


def _claims(connection: Connection, name: str) -> bool:
    """Locks the name if no other connection has; returns whether it is locked now."""
    statement = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
    return bool(connection.exec_driver_sql(statement, (name,)).scalar_one())

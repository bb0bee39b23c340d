"""A schema that belongs to one process: what a killed one leaves behind is dropped by the next one."""

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
_OWN_SCHEMAS = f"""
    SELECT nspname, obj_description(oid, 'pg_namespace') FROM pg_namespace
    WHERE nspname ~ '^({"|".join(KINDS)})_[0-9a-f]{{32}}$' AND pg_has_role(nspowner, 'USAGE')
"""
_log = logging.getLogger(__name__)


class TemporarySchema:
    """An empty schema under a new name, or one that another process has left with the same tables in it.

    A connection holds an advisory lock on the name until its end, or until the process ends, however it ends. So a
    schema whose lock is free belongs to nobody any more. Behind a pooler, whose connections outlive the process, there
    are no such locks, and nothing is dropped but the schema itself.

    Attributes:
        name: The schema's name.
    """

    def __init__(self, engine: Engine, kind: str, tables: str | None = None) -> None:
        """Drops the schemas of processes that no longer live, and takes one that was left for others or creates one.

        Args:
            engine: Connects to the database; `leave` and `drop` dispose of it.
            kind: One of `KINDS`.
            tables: Hash of the migrations by which the caller makes its tables. The schema is left at the end for the
                next process with the same, as making tables takes as long as a short scenario: rows may be in them.
                None: it is empty, and is dropped.
        """
        assert kind in KINDS
        self._engine = engine
        self._claim = Database(engine).autocommit()
        self._tables = None if is_behind_pooler(self._claim) else tables
        self.name = f"{kind}_{uuid.uuid4().hex}"
        if not is_behind_pooler(self._claim):
            if left := _claim_or_drop_leftovers(self._claim, self._tables):
                self.name = left
                self._claim.exec_driver_sql(f"COMMENT ON SCHEMA {left} IS NULL")  # dropped if this process is killed
                return
            _claims(self._claim, self.name)
        self._claim.exec_driver_sql(f"CREATE SCHEMA {self.name}")

    def leave(self) -> None:
        """Leaves the schema for the next process with the same `tables`; drops it if there are none."""
        if self._tables is None:
            self.drop()
        else:
            self._end(f"COMMENT ON SCHEMA {self.name} IS '{self._tables}'")

    def drop(self) -> None:
        """Drops the schema with all that is in it."""
        self._end(f"DROP SCHEMA IF EXISTS {self.name} CASCADE")

    def _end(self, statement: str) -> None:
        try:
            with self._engine.begin() as connection:
                connection.exec_driver_sql(statement)
        finally:
            self._claim.invalidate()  # closes it, so that the lock goes with it
            self._claim.close()
            self._engine.dispose()


def _claim_or_drop_leftovers(connection: Connection, tables: str | None) -> str | None:
    """Claims a schema that was left with these tables, if there is one, and returns its name.

    Drops those that belong to nobody: whose processes were killed, and those that were left with other tables.
    """
    claimed = None
    for name, left_with in connection.exec_driver_sql(_OWN_SCHEMAS).all():
        for_others = left_with is not None and (tables is None or (left_with == tables and claimed is not None))
        if for_others or not _claims(connection, name):
            continue
        if left_with is not None and left_with == tables:
            claimed = name
            continue
        try:
            connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {name} CASCADE")
        except (DBAPIError, DatabaseUnavailable) as error:  # the next process tries again
            _log.warning("the schema %s of a process that has ended can't be dropped: %s", name, error)
        connection.exec_driver_sql("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (name,))
    return claimed


def _claims(connection: Connection, name: str) -> bool:
    """Locks the name if no other connection has; returns whether it is locked now."""
    statement = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
    return bool(connection.exec_driver_sql(statement, (name,)).scalar_one())

"""Follows the SQL statements of a database, whether SQLAlchemy runs them or psycopg alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from app.db.database import Database
from sqlalchemy import event

_Told = Callable[[str, Any], None]


def _ignore(sql: str, parameters: Any) -> None:
    """Does nothing."""


def follow_statements(database: Database, *, before: _Told = _ignore, after: _Told = _ignore) -> Callable[[], None]:
    """Calls functions before and after each statement from now on.

    Args:
        database: The database.
        before: Called with the SQL and its parameters before a statement.
        after: Called likewise after a statement that did not fail.

    Returns:
        A function that ends it.
    """
    is_followed = True

    def follow(connection: psycopg.Connection[Any], record: Any, proxy: Any) -> None:
        cursors: Any = connection.cursor_factory
        if follow in getattr(cursors, "followed_by", ()):
            return

        class FollowedCursor(cursors):  # type: ignore[misc]
            followed_by = (follow, *getattr(cursors, "followed_by", ()))

            def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
                sql = query.decode() if isinstance(query, bytes) else str(query)
                if is_followed:
                    before(sql, params)
                result = super().execute(query, params, **options)
                if is_followed:
                    after(sql, params)
                return result

        connection.cursor_factory = FollowedCursor

    def stop() -> None:
        nonlocal is_followed
        is_followed = False

    event.listen(database.autocommit_engine, "checkout", follow)
    return stop

"""A database whose clock stands still, so that what happens at the very moment of an edge is known, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from app.db.database import open_engine
from sqlalchemy import Engine

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


@contextmanager
def clock_at_now(engine: Engine) -> Iterator[Engine]:
    """Opens the schema that an engine's URL names with a `clock_timestamp` that is always `NOW`."""
    options = str(engine.url.query["options"])
    schema = options.partition("search_path=")[2].partition(" ")[0]
    clock = f"{schema}_clock"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {clock}")
        connection.exec_driver_sql(
            f"CREATE FUNCTION {clock}.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
            f"$$ SELECT timestamptz '{NOW.isoformat()}' $$"
        )
    path = f"search_path={clock},{schema},pg_catalog"
    at_now = open_engine(engine.url.update_query_dict({"options": options.replace(f"search_path={schema}", path)}))
    try:
        yield at_now
    finally:
        at_now.dispose()
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {clock} CASCADE")

"""Workers with limits of amounts, on a database whose clock the test sets forward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from app.db.database import Database, open_engine
from app.services.transactions.limits import Amounts
from fault_environment import FaultEnvironment
from sqlalchemy import text

ETH = 10**18
AMOUNTS = Amounts(operation_wei=ETH, person_day_wei=4 * ETH, day_wei=10 * ETH, person_run_seats=4)
_CLOCK = """
CREATE SCHEMA IF NOT EXISTS clock;
CREATE TABLE IF NOT EXISTS clock.shift (by interval NOT NULL);
TRUNCATE clock.shift;
INSERT INTO clock.shift VALUES ('0');
CREATE OR REPLACE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT pg_catalog.clock_timestamp() + (SELECT by FROM clock.shift)';
"""


@contextmanager
def with_clock(environment: FaultEnvironment) -> Iterator[FaultEnvironment]:
    """The environment on the same database, whose `clock_timestamp` is one that `shift_clock` sets forward."""
    with environment.database.transaction() as connection:
        connection.execute(text(_CLOCK))
    options = "-csearch_path=clock,public,pg_catalog -csynchronous_commit=off"
    engine = open_engine(environment.database.engine.url.update_query_dict({"options": options}))
    try:
        yield replace(environment, database=Database(engine)).worker(amounts=AMOUNTS)
    finally:
        engine.dispose()
        with environment.database.transaction() as connection:
            connection.execute(text("DROP SCHEMA clock CASCADE"))


def shift_clock(environment: FaultEnvironment, seconds: float) -> None:
    """Sets the database's clock forward."""
    with environment.database.transaction() as connection:
        connection.execute(text("UPDATE clock.shift SET by = by + make_interval(secs => :s)"), {"s": seconds})


def limited(environment: FaultEnvironment, **changes: Any) -> FaultEnvironment:
    """Another process with these limits; all others are so high that they don't matter."""
    amounts = Amounts(operation_wei=1000 * ETH, person_day_wei=1000 * ETH, day_wei=1000 * ETH, person_run_seats=1000)
    return environment.worker(amounts=replace(amounts, **changes), expire_after=float("inf"))

"""A database for explorations, and the processes that they begin with."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from app.db.database import create_database, drop_database
from app.db.embedded import default_data_dir, start_embedded
from app.db.migrations import migrate
from sqlalchemy import Connection

from .explorer import Beginning
from .process import Process
from .world import CLOCK

RECONCILER = Process(("round",), repeats=True)


def worker(steps: int, *, raises_fees: bool = False, key: str = "a") -> Process:
    """A process that takes so many steps with an operation."""
    return Process(("load", *["step"] * steps), key, raises_fees)


def operator(command: str, *, has_key: bool = True, key: str = "a") -> Process:
    """An operator's command about an operation; `has_key` as `Process.has_key`."""
    return Process(("load", command), key, has_key=has_key)


BEGINNINGS = {
    "prepared": (),
    "signed": (Beginning(worker(1)),),
    "submitted": (Beginning(worker(2)),),
    "mined": (Beginning(worker(2), ("mine",)),),
    "followed": (Beginning(worker(2), ("mine",)), Beginning(Process(("full",)), ("mine",))),
}
"""What has happened to the operation before an exploration; "followed" is mined, and a reconciler has seen it."""


@pytest.fixture(scope="session")
def connection() -> Iterator[Connection]:
    """A migrated database that commits each statement, and in which time stands still."""
    server, name = start_embedded(default_data_dir()), f"test_exploration_{os.getpid()}"
    database = create_database(server, name)
    with database.begin() as connection:
        connection.exec_driver_sql(CLOCK)
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
    database.dispose()
    migrate(database)
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("SET synchronous_commit = off")
        yield connection
    database.dispose()
    drop_database(server, name)


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    """An exploration logs what happens in thousands of states."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)

"""A database for whatever needs one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from app.db.embedded import default_data_dir, start_embedded
from app.db.session import Database, create_database, drop_database, migrate
from sqlalchemy import Engine

from harness.runner.world import EMPTY_TABLES


@pytest.fixture(scope="session")
def database_engine() -> Iterator[Engine]:
    """A migrated database of this process's own."""
    server = start_embedded(default_data_dir())
    name = f"test_backend_{os.getpid()}"
    engine = create_database(server, name)
    migrate(engine)
    yield engine
    engine.dispose()
    drop_database(server, name)


@pytest.fixture
def database(database_engine: Engine) -> Iterator[Database]:
    """The same with empty tables, and empty again afterwards."""
    yield Database(database_engine)
    with database_engine.begin() as connection:
        connection.exec_driver_sql(EMPTY_TABLES)

"""A database for whatever needs one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from app.db.database import Database, create_database
from app.db.embedded import default_data_dir, start_embedded
from app.db.migrations import migrate
from sqlalchemy import Engine, create_engine
from stakesim_adapter.backend import EMPTY_TABLES


@pytest.fixture(scope="session")
def database_engine() -> Iterator[Engine]:
    """Migrated, in a schema of this process's own, which is made much faster than a database."""
    shared = create_database(start_embedded(default_data_dir()), "test_backend")
    schema = f"test_{os.getpid()}"
    with shared.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    options = f"-csearch_path={schema} -csynchronous_commit=off"  # what a crash loses here, nobody misses
    engine = create_engine(shared.url.update_query_dict({"options": options}))
    migrate(engine)
    yield engine
    engine.dispose()
    with shared.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
    shared.dispose()


@pytest.fixture
def database(database_engine: Engine) -> Iterator[Database]:
    """The same with empty tables, and empty again afterwards."""
    yield Database(database_engine)
    with database_engine.begin() as connection:
        connection.exec_driver_sql(EMPTY_TABLES)


@pytest.fixture(scope="session")
def environment(stakesim_environment):
    """The session's environment."""
    return stakesim_environment

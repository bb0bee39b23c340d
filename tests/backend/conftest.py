"""Engines, a database, and stages on them that leave nothing behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from app.db.embedded import default_data_dir, start_embedded
from app.db.session import create_database, drop_database, migrate
from sqlalchemy import Engine as Database
from sqlalchemy.orm import Session, sessionmaker
from stage import Stage, set_up

from harness.evm.engine import Engine, open_engine


@pytest.fixture(scope="session", params=["py-evm", "anvil"])
def each_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = open_engine(request.param)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def py_evm() -> Iterator[Engine]:
    engine = open_engine("py-evm")
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    """A migrated database of this process's own."""
    server = start_embedded(default_data_dir())
    name = f"test_backend_{os.getpid()}"
    database = create_database(server, name)
    migrate(database)
    yield database
    database.dispose()
    drop_database(server, name)


@pytest.fixture
def sessions(database: Database) -> Iterator[sessionmaker[Session]]:
    """Sessions inside one transaction that is never committed, so that what a test wrote is gone after it."""
    with database.connect() as connection, connection.begin() as transaction:
        yield sessionmaker(connection, join_transaction_mode="create_savepoint")
        transaction.rollback()


@pytest.fixture
def stage(py_evm: Engine, sessions: sessionmaker[Session]) -> Iterator[Stage]:
    """`EventStake` on py-evm."""
    before = py_evm.snapshot()
    yield set_up(py_evm, "EventStake", sessions)
    py_evm.revert(before)


@pytest.fixture
def each_stage(each_engine: Engine, sessions: sessionmaker[Session]) -> Iterator[Stage]:
    """`EventStake` on each engine."""
    before = each_engine.snapshot()
    yield set_up(each_engine, "EventStake", sessions)
    each_engine.revert(before)


@pytest.fixture
def minimal(each_engine: Engine, sessions: sessionmaker[Session]) -> Iterator[Stage]:
    """A contract with only the interface deployed on Sepolia, on each engine."""
    before = each_engine.snapshot()
    yield set_up(each_engine, "MinimalEventStake", sessions)
    each_engine.revert(before)

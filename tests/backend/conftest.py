"""Engines, a database, and stages on them that leave nothing behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from app.db.embedded import default_data_dir, start_embedded
from app.db.session import create_database, drop_database, migrate
from sqlalchemy import Engine as Database
from sqlalchemy.orm import Session, sessionmaker
from stage import Ground, Stage, lay_ground, set_up


@pytest.fixture(scope="session", params=["py-evm", "anvil"])
def each_ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    ground = lay_ground(request.param)
    yield ground
    ground.engine.close()


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    ground = lay_ground("py-evm")
    yield ground
    ground.engine.close()


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
def stage(ground: Ground, sessions: sessionmaker[Session]) -> Stage:
    """`EventStake` on py-evm."""
    return set_up(ground, "EventStake", sessions)


@pytest.fixture
def each_stage(each_ground: Ground, sessions: sessionmaker[Session]) -> Stage:
    """`EventStake` on each engine."""
    return set_up(each_ground, "EventStake", sessions)


@pytest.fixture
def minimal(each_ground: Ground, sessions: sessionmaker[Session]) -> Stage:
    """A contract with only the interface deployed on Sepolia, on each engine."""
    return set_up(each_ground, "MinimalEventStake", sessions)


@pytest.fixture
def grumbler(each_ground: Ground, sessions: sessionmaker[Session]) -> Stage:
    """A contract that fails in every way there is, on each engine."""
    return set_up(each_ground, "Grumbler", sessions)

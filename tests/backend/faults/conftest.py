"""A backend for each fault test, on an anvil and a database with real commits."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from app.db.database import create_database, drop_database
from app.db.embedded import default_data_dir, start_embedded
from app.db.migrations import migrate
from backend_environment import TERMS, deploy
from database_environment import Start, running
from fault_environment import POLICY, FaultEnvironment
from sqlalchemy import Engine as DatabaseEngine
from stakesim.evm.anvil import AnvilEngine
from stakesim.evm.engines import open_engine


@pytest.fixture(scope="session")
def committing() -> Iterator[DatabaseEngine]:
    """A migrated database in which tests commit."""
    server, name = start_embedded(default_data_dir()), f"test_faults_{os.getpid()}"
    database = create_database(server, name)
    migrate(database)
    yield database
    database.dispose()
    drop_database(server, name)


@pytest.fixture(scope="session")
def anvil() -> Iterator[Start]:
    """An anvil with the contract, reset to the state with which each test begins."""
    engine = open_engine("anvil")
    assert isinstance(engine, AnvilEngine)
    address = deploy(engine, "EventStake", engine.accounts[0].address, TERMS)
    for _ in range(POLICY.confirmations):
        engine.mine()
    yield Start(engine, address, engine.snapshot())
    engine.close()


@pytest.fixture
def environment(anvil: Start, committing: DatabaseEngine) -> Iterator[FaultEnvironment]:
    with running(anvil, committing, committing) as environment:
        yield environment

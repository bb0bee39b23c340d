"""A backend for each fault test, on an anvil and a database with real commits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from app.db.database import Database, create_database, drop_database
from app.db.embedded import default_data_dir, start_embedded
from app.db.migrations import migrate
from app.db.tables import metadata
from backend_environment import TERMS, deploy
from fault_environment import POLICY, FaultEnvironment, open_environment
from sqlalchemy import Engine as DatabaseEngine
from stakesim.evm.anvil import AnvilEngine
from stakesim.evm.engine import Snapshot
from stakesim.evm.engines import open_engine
from web3.types import RPCEndpoint


class Start(NamedTuple):
    """The chain and contract that every test begins with."""

    engine: AnvilEngine
    address: str
    snapshot: Snapshot


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
    environment = open_environment(anvil.engine, anvil.address, Database(committing))
    yield environment
    environment.stop_followers()
    rpc = anvil.engine.w3.manager.request_blocking
    rpc(RPCEndpoint("anvil_dropAllTransactions"), [])
    rpc(RPCEndpoint("evm_setAutomine"), [True])
    anvil.engine.revert(anvil.snapshot)
    tables = ", ".join(table.name for table in metadata.sorted_tables)
    with committing.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE {tables} CASCADE")

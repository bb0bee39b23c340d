"""The API on a backend, called in process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from app.db.database import Database
from backend_environment import BackendEnvironment, DeployedContracts, backend_on, deploy_contracts
from visitors import Api, open_api, settle


@pytest.fixture
def api(backend: BackendEnvironment) -> Api:
    return open_api(backend)


@pytest.fixture
def committed(database: Database) -> Iterator[Database]:
    """For what goes on in other threads: they have ended before the tables are emptied."""
    yield database
    settle()


@pytest.fixture
def shared_stage(deployed_contracts: DeployedContracts, committed: Database) -> BackendEnvironment:
    """`EventStake` on an engine in process, and a database that several threads can use."""
    return backend_on(deployed_contracts, "EventStake", committed)


@pytest.fixture(scope="session")
def anvil() -> Iterator[DeployedContracts]:
    deployed_contracts = deploy_contracts("anvil")
    yield deployed_contracts
    deployed_contracts.engine.close()


@pytest.fixture
def racing_api(anvil: DeployedContracts, committed: Database) -> Api:
    """On a node and a database that several threads can use."""
    return open_api(backend_on(anvil, "EventStake", committed))

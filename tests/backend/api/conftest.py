"""The API on a backend, called in process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from api_environment import ApiEnvironment, open_api, wait_for_background
from app.db.database import Database
from backend_environment import BackendEnvironment, DeployedContracts, backend_on, deploy_contracts
from payments_environment import PaymentsEnvironment, open_payments
from stakesim_adapter.razorpay_stand_in import RazorpayStandIn, serve_stand_in


@pytest.fixture
def api(backend: BackendEnvironment) -> ApiEnvironment:
    return open_api(backend)


@pytest.fixture(autouse=True)
def no_threads_left(database: Database) -> Iterator[None]:
    """Ends the threads of each test before the tables are emptied."""
    yield
    wait_for_background()


@pytest.fixture
def threaded_backend(deployed_contracts: DeployedContracts, database: Database) -> BackendEnvironment:
    """`EventStake` on an engine in process, and a database that several threads can use."""
    return backend_on(deployed_contracts, "EventStake", database)


@pytest.fixture(scope="session")
def anvil() -> Iterator[DeployedContracts]:
    deployed_contracts = deploy_contracts("anvil")
    yield deployed_contracts
    deployed_contracts.engine.close()


@pytest.fixture
def racing_api(anvil: DeployedContracts, database: Database) -> ApiEnvironment:
    """The API on a node and a database that several threads can use."""
    return open_api(backend_on(anvil, "EventStake", database))


@pytest.fixture
def payments(backend: BackendEnvironment) -> Iterator[PaymentsEnvironment]:
    stand_in = RazorpayStandIn()
    with serve_stand_in(stand_in) as url:
        yield open_payments(backend, url, stand_in)

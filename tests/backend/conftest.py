"""Engines, a database, and backends on them; each test begins with the same chain and empty tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from app.db.database import Database
from backend_environment import BackendEnvironment, DeployedContracts, backend_on, deploy_contracts
from fixed_clock import clock_at_now
from sqlalchemy import URL, Connection, Engine
from supabase import run_supabase


@pytest.fixture(scope="session", params=["in process", pytest.param("anvil", marks=pytest.mark.slow)])
def contracts_on_each_engine(request: pytest.FixtureRequest, engine_name: str) -> Iterator[DeployedContracts]:
    deployed_contracts = deploy_contracts("anvil:osaka" if request.param == "anvil" else engine_name)
    yield deployed_contracts
    deployed_contracts.engine.close()


@pytest.fixture(scope="session")
def deployed_contracts(engine_name: str) -> Iterator[DeployedContracts]:
    deployed_contracts = deploy_contracts(engine_name)
    yield deployed_contracts
    deployed_contracts.engine.close()


@pytest.fixture
def backend(deployed_contracts: DeployedContracts, database: Database) -> BackendEnvironment:
    """`EventStake` on an engine in process."""
    return backend_on(deployed_contracts, "EventStake", database)


@pytest.fixture
def backend_on_each_engine(contracts_on_each_engine: DeployedContracts, database: Database) -> BackendEnvironment:
    """`EventStake` on each engine."""
    return backend_on(contracts_on_each_engine, "EventStake", database)


@pytest.fixture
def minimal(contracts_on_each_engine: DeployedContracts, database: Database) -> BackendEnvironment:
    """A contract with only the interface deployed on Sepolia, on each engine."""
    return backend_on(contracts_on_each_engine, "MinimalEventStake", database)


@pytest.fixture
def grumbler(contracts_on_each_engine: DeployedContracts, database: Database) -> BackendEnvironment:
    """A contract that fails in every possible way, on each engine."""
    return backend_on(contracts_on_each_engine, "Grumbler", database)


@pytest.fixture(scope="session")
def supabase_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[URL]:
    """A server of these tests' own, with Supabase's roles."""
    with run_supabase(Path(tmp_path_factory.mktemp("supabase")) / "postgres") as server:
        yield server


@pytest.fixture(scope="module")
def engine_at_now(database_engine: Engine) -> Iterator[Engine]:
    """The tests' database, whose clock stands still."""
    with clock_at_now(database_engine) as engine:
        yield engine


@pytest.fixture
def connection(database: Database, engine_at_now: Engine) -> Iterator[Connection]:
    """A connection to it, in a transaction that is rolled back."""
    with engine_at_now.connect() as connection:
        yield connection
        connection.rollback()

"""What tests of databases share: the service on a database of its own, workers on another one, requests to the API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from app.bootstrap.checks import read_settings
from app.core.config import Settings
from app.core.security import issue_token
from app.db.database import Database
from app.db.tables import metadata
from fastapi.testclient import TestClient
from fault_environment import FaultEnvironment, open_environment
from pydantic import SecretStr
from sqlalchemy import URL, Engine
from stakesim.evm.anvil import AnvilEngine
from stakesim.evm.engine import Snapshot
from stakesim_adapter.faults import poolers
from web3.types import RPCEndpoint

SECRET = SecretStr("0123456789abcdefghijklmnopqrstuvwxyz-of-these-tests")
needs_pgbouncer = pytest.mark.skipif(poolers.find_pgbouncer() is None, reason=poolers.MISSING)


class Start(NamedTuple):
    """The chain and contract that every test begins with."""

    engine: AnvilEngine
    address: str
    snapshot: Snapshot


@contextmanager
def running(anvil: Start, service: Engine, owner: Engine) -> Iterator[FaultEnvironment]:
    """Runs the service on the chain and a database, and empties its tables as their owner."""
    environment = open_environment(anvil.engine, anvil.address, Database(service))
    yield environment
    environment.stop_followers()
    rpc = anvil.engine.w3.manager.request_blocking
    rpc(RPCEndpoint("anvil_dropAllTransactions"), [])
    rpc(RPCEndpoint("evm_setAutomine"), [True])
    anvil.engine.revert(anvil.snapshot)
    tables = ", ".join(table.name for table in metadata.sorted_tables)
    with owner.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE {tables} CASCADE")


def worker_on(environment: FaultEnvironment, database: Database, **policy: Any) -> FaultEnvironment:
    return replace(environment, database=database).worker(**policy)


def settings_for(url: URL) -> Settings:
    """Returns settings with this database; no node answers at theirs."""
    return read_settings(
        None,
        blockchain_rpc_url="http://127.0.0.1:1",
        contract_address="0x" + "ab" * 20,
        platform_private_key="0x" + "1" * 64,
        jwt_secret=SECRET,
        database_url=url.render_as_string(),
    )


def headers_of(environment: FaultEnvironment, **more: str) -> dict[str, str]:
    token = issue_token(SECRET, environment.ids["attendee"], "attendee")
    return {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid4()), **more}


def post_booking(client: TestClient, environment: FaultEnvironment, run: Any, **headers: str) -> Any:
    body = {"event_run_id": str(run), "seats": 1}
    return client.post("/bookings/create", json=body, headers=headers_of(environment, **headers))


def wait_for(condition: Callable[[], Any]) -> None:
    for _ in range(500):
        if condition():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it did not happen")

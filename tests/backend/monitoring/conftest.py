"""A service in this process, with two endpoints that a test scripts, and its metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from app.api import metrics, readiness
from app.bootstrap.container import connect_web3
from app.bootstrap.services import Services, build_services
from app.services.pricing import Pricing
from backend_environment import BackendEnvironment, Time
from fastapi.testclient import TestClient
from monitored import EVERY, app_of
from scripted_node import ScriptedNode, running


@pytest.fixture(autouse=True)
def no_look_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((readiness, "PROBE_MAX_AGE_S"), (metrics, "MAX_AGE_S")):
        monkeypatch.setattr(module, name, 0)


@pytest.fixture
def nodes(backend: BackendEnvironment) -> Iterator[list[ScriptedNode]]:
    """The endpoints of `services`, for looks at the node; all else uses the backend's own chain."""
    scripted = [ScriptedNode(chain_id=backend.engine.w3.eth.chain_id) for _ in range(2)]
    with running(*scripted):
        yield scripted


@pytest.fixture
def clock() -> Time:
    """The clock of the endpoints' provider."""
    return Time()


@pytest.fixture
def services(backend: BackendEnvironment, nodes: list[ScriptedNode], clock: Time) -> Services:
    w3 = backend.engine.w3
    services = build_services(w3, backend.database, backend.chain, Pricing(backend.feed, backend.now))
    times = {"clock": lambda: clock.now, "sleep": clock.sleep, "check_every": EVERY}
    return replace(services, w3=connect_web3([node.url for node in nodes], chain_id=w3.eth.chain_id, **times))


@pytest.fixture
def client(services: Services) -> TestClient:
    return TestClient(app_of(services), raise_server_exceptions=False)

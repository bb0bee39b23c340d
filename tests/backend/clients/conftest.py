"""The service on a local testnet, and each client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from client_environment import BuiltClient, Service, Testnet, build_python, build_typescript
from stakesim_adapter.serve import local_testnet

BLOCK_TIME_S = 0.25


@pytest.fixture(scope="session")
def testnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testnet]:
    with local_testnet(BLOCK_TIME_S) as settings:
        testnet = Testnet(settings, Service(settings, tmp_path_factory.mktemp("service")))
        testnet.service.start()
        yield testnet
        testnet.service.kill()
        testnet.database.engine.dispose()


@pytest.fixture(scope="session", params=["python", "typescript"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BuiltClient:
    """The client in each language."""
    build = build_python if request.param == "python" else build_typescript
    return build(tmp_path_factory.mktemp(request.param))

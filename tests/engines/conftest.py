"""Tests that take `engine` run on each engine. `rpc` is the engine on a URL, that of an anvil with Osaka's rules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from stakesim.evm.engine import Engine
from stakesim.evm.engines import open_engine
from web3.contract import Contract

from tests.engines.transactions import deploy

NODES = [pytest.param(name, marks=pytest.mark.slow) for name in ("anvil", "rpc")]


@pytest.fixture(scope="session", params=["py-evm", "revm", *NODES])
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, Contract]]:
    with ExitStack() as stack:
        if request.param == "rpc":
            node = stack.enter_context(closing(open_engine("anvil:osaka")))
            engine = stack.enter_context(closing(open_engine(f"rpc:{node.w3.provider.endpoint_uri}")))
        else:
            if request.param == "revm":
                pytest.importorskip("pyrevm", reason="the engine revm is an extra: pip install -e '.[revm]'")
            engine = stack.enter_context(closing(open_engine(request.param)))
        yield engine, deploy(engine)


@pytest.fixture
def engine(opened: tuple[Engine, Contract]) -> Iterator[Engine]:
    """Put back after each test."""
    engine, _ = opened
    before = engine.snapshot()
    yield engine
    engine.revert(before)


@pytest.fixture
def probe(engine: Engine, opened: tuple[Engine, Contract]) -> Contract:
    return opened[1]

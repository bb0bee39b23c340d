"""Engines, a database, and stages on them that leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from app.db.database import Database
from app.services import operations
from app.services.codec import event_stake_codec
from stage import Ground, Stage, lay_ground, set_up


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    """What the services work out once is worked out in each test, so that more than the first notice what is wrong."""
    event_stake_codec.cache_clear()
    operations._close_statement.cache_clear()


@pytest.fixture(scope="session", params=["in process", pytest.param("anvil", marks=pytest.mark.slow)])
def each_ground(request: pytest.FixtureRequest, engine_name: str) -> Iterator[Ground]:
    ground = lay_ground("anvil" if request.param == "anvil" else engine_name)
    yield ground
    ground.engine.close()


@pytest.fixture(scope="session")
def ground(engine_name: str) -> Iterator[Ground]:
    ground = lay_ground(engine_name)
    yield ground
    ground.engine.close()


@pytest.fixture
def stage(ground: Ground, database: Database) -> Stage:
    """`EventStake` on an engine in process."""
    return set_up(ground, "EventStake", database)


@pytest.fixture
def each_stage(each_ground: Ground, database: Database) -> Stage:
    """`EventStake` on each engine."""
    return set_up(each_ground, "EventStake", database)


@pytest.fixture
def minimal(each_ground: Ground, database: Database) -> Stage:
    """A contract with only the interface deployed on Sepolia, on each engine."""
    return set_up(each_ground, "MinimalEventStake", database)


@pytest.fixture
def grumbler(each_ground: Ground, database: Database) -> Stage:
    """A contract that fails in every way there is, on each engine."""
    return set_up(each_ground, "Grumbler", database)

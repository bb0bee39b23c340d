"""The API on a stage, called in process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from app.db.database import Database
from stage import Ground, Stage, lay_ground, set_up
from visitors import Api, open_api, settle


@pytest.fixture
def api(stage: Stage) -> Api:
    return open_api(stage)


@pytest.fixture
def committed(database: Database) -> Iterator[Database]:
    """For what goes on in other threads: they have ended before the tables are emptied."""
    yield database
    settle()


@pytest.fixture
def shared_stage(ground: Ground, committed: Database) -> Stage:
    """`EventStake` on an engine in process, and a database that several threads can use."""
    return set_up(ground, "EventStake", committed)


@pytest.fixture(scope="session")
def anvil() -> Iterator[Ground]:
    ground = lay_ground("anvil")
    yield ground
    ground.engine.close()


@pytest.fixture
def racing_api(anvil: Ground, committed: Database) -> Api:
    """On a node and a database that several threads can use."""
    return open_api(set_up(anvil, "EventStake", committed))

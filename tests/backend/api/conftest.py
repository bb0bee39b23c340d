"""The API on a stage, called in process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from app.db.tables import metadata
from sqlalchemy import Engine as Database
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker
from stage import Ground, Stage, lay_ground, set_up
from visitors import Api, open_api, settle


@pytest.fixture
def api(stage: Stage) -> Api:
    return open_api(stage)


@pytest.fixture
def committed(database: Database) -> Iterator[sessionmaker[Session]]:
    """Sessions that several threads can have, each a connection of its own; what they wrote is deleted."""
    yield sessionmaker(database)
    settle()
    with database.begin() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(metadata.tables)}"))


@pytest.fixture
def shared_stage(ground: Ground, committed: sessionmaker[Session]) -> Stage:
    """`EventStake` on py-evm, and a database that several threads can use."""
    return set_up(ground, "EventStake", committed)


@pytest.fixture(scope="session")
def anvil() -> Iterator[Ground]:
    ground = lay_ground("anvil")
    yield ground
    ground.engine.close()


@pytest.fixture
def racing_api(anvil: Ground, committed: sessionmaker[Session]) -> Api:
    """On a node and a database that several threads can use."""
    return open_api(set_up(anvil, "EventStake", committed))

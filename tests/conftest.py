"""A database for whatever needs one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from app.db.embedded import default_data_dir, start_embedded
from app.db.session import create_database, drop_database, migrate
from sqlalchemy import Engine as Database
from sqlalchemy.orm import Session, sessionmaker


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    """A migrated database of this process's own."""
    server = start_embedded(default_data_dir())
    name = f"test_backend_{os.getpid()}"
    database = create_database(server, name)
    migrate(database)
    yield database
    database.dispose()
    drop_database(server, name)


@pytest.fixture
def sessions(database: Database) -> Iterator[sessionmaker[Session]]:
    """Sessions inside one transaction that is never committed, so that what a test wrote is gone after it."""
    with database.connect() as connection, connection.begin() as transaction:
        yield sessionmaker(connection, join_transaction_mode="create_savepoint")
        transaction.rollback()

"""Compiled statements: the same rows and errors as with SQLAlchemy, on every way to a connection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from app.core.errors import DatabaseBusy, DatabaseUnavailable
from app.db.connections import DatabasePolicy
from app.db.database import Database, open_engine
from app.db.statements import Compiled
from app.db.tables import event_run_bookings, event_runs, metadata, operations, users
from backend_environment import BackendEnvironment
from sqlalchemy import Uuid, bindparam, insert, select, text, update
from sqlalchemy.exc import MultipleResultsFound, NoResultFound

BY_NAME = Compiled(select(users.c.id, users.c.name).where(users.c.name == bindparam("user_name")))
ADD_USER = Compiled(insert(users).values(name=bindparam("user_name")).returning(users.c.id))
RENAME = Compiled(update(users).where(users.c.id == bindparam("of_id", type_=Uuid)).values(name=bindparam("new_name")))


@pytest.fixture
def booked(backend: BackendEnvironment) -> BackendEnvironment:
    backend.bookings.book(backend.open_run().id, backend.ids["attendee"], 1)
    return backend


@pytest.mark.slow
@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
def test_all_columns_of_all_tables_are_read_as_sqlalchemy_reads_them(booked: BackendEnvironment, table: Any) -> None:
    statement = select(table)
    with booked.database.autocommit() as connection:
        expected, actual = connection.execute(statement).all(), connection.execute(Compiled(statement)).all()
    assert [tuple(row) for row in actual] == [tuple(row) for row in expected]
    for left, right in zip(actual, expected, strict=True):
        assert left._asdict() == right._asdict()
        assert [type(value) for value in left] == [type(value) for value in right]
    assert actual or table not in (users, event_runs, event_run_bookings, operations)


@pytest.mark.parametrize("lend", ["autocommit", "transaction"])
def test_rows_are_written_and_counted(backend: BackendEnvironment, lend: str) -> None:
    name = f"user {uuid4()}"
    with getattr(backend.database, lend)() as connection:
        user_id = connection.execute(ADD_USER, {"user_name": name}).scalar_one()
        assert connection.execute(RENAME, {"of_id": user_id, "new_name": name + "!"}).rowcount == 1
        assert connection.execute(RENAME, {"of_id": uuid4(), "new_name": name}).rowcount == 0
    with backend.database.autocommit() as connection:
        assert connection.execute(BY_NAME, {"user_name": name + "!"}).one() == (user_id, name + "!")
        assert list(connection.execute(BY_NAME, {"user_name": name + "!"}).scalars()) == [user_id]
        assert connection.execute(BY_NAME, {"user_name": name}).one_or_none() is None
        assert connection.execute(BY_NAME, {"user_name": name}).scalar_one_or_none() is None
        assert connection.scalar(BY_NAME, {"user_name": name + "!"}) == user_id
        assert connection.scalar(BY_NAME, {"user_name": name}) is None
        assert [*connection.scalars(BY_NAME, {"user_name": name + "!"})] == [user_id]


def test_a_transaction_that_fails_leaves_nothing(backend: BackendEnvironment) -> None:
    name = f"user {uuid4()}"
    with suppress(LookupError), backend.database.transaction() as connection:
        connection.execute(ADD_USER, {"user_name": name})
        raise LookupError
    with backend.database.autocommit() as connection:
        assert connection.execute(BY_NAME, {"user_name": name}).all() == []


def test_one_row_is_one(backend: BackendEnvironment) -> None:
    with backend.database.autocommit() as connection:
        for _ in range(2):
            connection.execute(ADD_USER, {"user_name": "twin"})
        with pytest.raises(MultipleResultsFound):
            connection.execute(BY_NAME, {"user_name": "twin"}).one_or_none()
        with pytest.raises(NoResultFound):
            connection.execute(BY_NAME, {"user_name": "nobody"}).one()


def test_a_missing_parameter_is_told_before_anything_is_sent(backend: BackendEnvironment) -> None:
    with backend.database.autocommit() as connection, pytest.raises((KeyError, psycopg.ProgrammingError)):
        connection.execute(BY_NAME, {})


def test_several_sets_of_parameters_are_refused(backend: BackendEnvironment) -> None:
    with backend.database.autocommit() as connection, pytest.raises(AssertionError, match="one set of parameters"):
        connection.execute(BY_NAME, [{"user_name": "a"}, {"user_name": "b"}])


def test_a_list_as_a_parameter_of_in_is_refused(backend: BackendEnvironment) -> None:
    statement = Compiled(select(users.c.id).where(users.c.name.in_(bindparam("names"))))
    with backend.database.autocommit() as connection, pytest.raises(AssertionError, match="in_"):
        connection.execute(statement, {"names": ["a"]})


def test_wei_are_checked_as_by_sqlalchemy(backend: BackendEnvironment) -> None:
    statement = Compiled(select(operations.c.key).where(operations.c.value_wei == bindparam("wei")))
    with backend.database.autocommit() as connection:
        assert connection.execute(statement, {"wei": 2**256 - 1}).all() == []
        with pytest.raises(TypeError, match="wei are ints"):
            connection.execute(statement, {"wei": 1.0})


def test_a_violated_constraint_is_the_drivers_error(booked: BackendEnvironment) -> None:
    stored = Compiled(insert(users).values(id=bindparam("user_id", type_=Uuid), name="twice"))
    with booked.database.autocommit() as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(stored, {"user_id": booked.ids["attendee"]})
    with booked.database.autocommit() as connection:
        assert connection.execute(BY_NAME, {"user_name": "twice"}).all() == []


# ------------------------------------------------------------------------------------------------------------ not now


@pytest.fixture
def other(backend: BackendEnvironment) -> Any:
    """The same database through a pool of its own, with short time-outs."""
    engine = open_engine(backend.database.engine.url, DatabasePolicy(pool_size=3, lock_timeout=0.05))
    yield Database(engine)
    engine.dispose()


def _pids(database: Database, count: int) -> set[int]:
    """Opens so many connections at once, and returns the processes that serve them."""
    lent = [database.autocommit() for _ in range(count)]
    pids = {connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() for connection in lent}
    for connection in lent:
        connection.close()
    return pids


def test_a_held_lock_is_busy(backend: BackendEnvironment, other: Database) -> None:
    with backend.database.autocommit() as connection:
        user_id = connection.execute(ADD_USER, {"user_name": "held"}).scalar_one()
    with backend.database.transaction() as holder, other.autocommit() as connection:
        holder.execute(select(users.c.id).where(users.c.id == user_id).with_for_update())
        with pytest.raises(DatabaseBusy, match="lock"):
            connection.execute(RENAME, {"of_id": user_id, "new_name": "another"})
        assert connection.execute(BY_NAME, {"user_name": "held"}).one().id == user_id


@pytest.mark.parametrize("lend", ["autocommit", "transaction"])
def test_after_a_session_that_the_server_ends_all_older_connections_are_replaced(
    backend: BackendEnvironment, other: Database, lend: str
) -> None:
    before = _pids(other, 3)

    def end_its_own_session() -> None:
        with getattr(other, lend)() as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            with backend.database.autocommit() as killer:
                killer.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
            connection.execute(BY_NAME, {"user_name": "nobody"})

    with pytest.raises(DatabaseUnavailable):
        end_its_own_session()
    after = _pids(other, 3)
    assert len(after) == 3
    assert not after & before


def test_a_database_that_was_set_read_only_is_left(backend: BackendEnvironment, other: Database) -> None:
    before = _pids(other, 3)
    with other.autocommit() as connection:
        connection.exec_driver_sql("SET default_transaction_read_only = on")
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            connection.execute(ADD_USER, {"user_name": "nobody"})
    assert not _pids(other, 3) & before


def test_a_statement_that_collides_is_repeated(backend: BackendEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    """As any other outside of a transaction: psycopg's cursor does it."""
    tries: list[int] = []
    execute: Callable[..., Any] = psycopg.Cursor.execute

    def collide(cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        if "users.name" in str(query):
            tries.append(1)
            if len(tries) == 1:
                raise psycopg.errors.SerializationFailure("could not serialize")
        return execute(cursor, query, *arguments, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", collide)
    with backend.database.autocommit() as connection:
        assert connection.execute(BY_NAME, {"user_name": "nobody"}).all() == []
    assert len(tries) == 2

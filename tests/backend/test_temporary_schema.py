"""A schema of a process that was killed is dropped by the next one; that of a living one never is.

One that was left whole is taken by the next process whose tables are the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing

import pytest
from app.db.database import connect, create_database, drop_database
from app.db.embedded import start_embedded
from app.db.tables import users
from sqlalchemy import insert
from stakesim.paths import state_dir
from stakesim_adapter.backend import EventStakeBackend
from stakesim_adapter.serve import temporary_schema
from stakesim_adapter.temporary_schema import TemporarySchema

OPENS_A_SCHEMA = """
import sys
from app.db.database import connect
from stakesim_adapter.temporary_schema import TemporarySchema

print(TemporarySchema(connect(sys.argv[1]), "scenarios").name, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def engine():
    engine = connect(None, state_dir() / "postgres")
    yield engine
    engine.dispose()


def schemas(engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.exec_driver_sql("SELECT nspname FROM pg_namespace").scalars())


def open_schema(kind: str = "serve") -> TemporarySchema:
    return TemporarySchema(connect(None, state_dir() / "postgres"), kind)


@pytest.mark.slow
def test_what_a_killed_process_left_is_dropped_and_what_a_living_one_has_is_not(engine):
    url = engine.url.render_as_string(hide_password=False)
    process = subprocess.Popen(
        [sys.executable, "-c", OPENS_A_SCHEMA, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    killed, living = process.stdout.readline().strip(), open_schema()
    assert {killed, living.name} <= schemas(engine)
    assert killed.startswith("scenarios_")
    process.kill()
    process.communicate()
    assert killed in schemas(engine)
    next_one = open_schema()
    left = schemas(engine)
    for schema in (living, next_one):
        schema.drop()
    assert killed not in left
    assert {living.name, next_one.name} <= left
    assert not {living.name, next_one.name} & schemas(engine)


@pytest.mark.slow
def test_scenarios_and_the_local_testnet_have_such_schemas(engine):
    with closing(EventStakeBackend()), temporary_schema() as url:
        found = [name for name in schemas(engine) if name in url or name.startswith("scenarios_")]
        assert len(found) >= 2
        another = open_schema()
        assert set(found) <= schemas(engine)
        another.drop()


def test_schemas_of_other_names_are_left_alone(engine):
    """Whatever they begin with: only a kind and 32 digits are names of a `TemporarySchema`."""
    names = ["scenarios", "scenarios_of_mine", "serve_" + "g" * 32, "xscenarios_" + "0" * 32]
    with engine.begin() as connection:
        for name in names:
            connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{name}"')
    open_schema().drop()
    assert set(names) <= schemas(engine)
    with engine.begin() as connection:
        for name in names:
            connection.exec_driver_sql(f'DROP SCHEMA "{name}"')


def test_behind_a_pooler_no_other_schema_is_dropped(engine, monkeypatch):
    """A pooler's connection may hold the locks of others, so that they look free."""
    monkeypatch.setattr("stakesim_adapter.temporary_schema.is_behind_pooler", lambda _: True)
    abandoned = "serve_" + "0" * 32
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {abandoned}")
    open_schema().drop()
    assert abandoned in schemas(engine)
    monkeypatch.undo()
    open_schema().drop()
    assert abandoned not in schemas(engine)


@pytest.fixture
def own_database(monkeypatch):
    """The name of a database in which no other process opens schemas; backends of scenarios use it."""
    server, name = start_embedded(state_dir() / "postgres"), f"test_schemas_{os.getpid()}"
    create_database(server, name).dispose()
    monkeypatch.setattr("stakesim_adapter.backend.connect", lambda *_: create_database(server, name))
    yield lambda tables=None: TemporarySchema(create_database(server, name), "scenarios", tables)
    drop_database(server, name)


@pytest.mark.slow
def test_a_schema_that_was_left_is_taken_by_one_process_with_the_same_tables(own_database):
    left = own_database("a")
    left.leave()
    stranger, first, second = own_database(), own_database("a"), own_database("a")
    assert first.name == left.name
    assert second.name not in (left.name, stranger.name)
    for schema in (stranger, first, second):
        schema.leave()
    taken = own_database("a"), own_database("a")
    assert {schema.name for schema in taken} == {first.name, second.name}, "a stranger leaves both to others"
    for schema in taken:
        schema.leave()
    for _ in range(100):  # a schema that was just left is free when the server has seen its session end
        other = own_database("b")
        kept = schemas(other._engine) & {stranger.name, first.name, second.name}
        other.drop()
        if not kept:
            break
        time.sleep(0.1)
    assert kept == set(), "nobody has such tables any more"


@pytest.mark.slow
def test_a_schema_that_was_taken_is_dropped_if_its_process_is_killed(own_database):
    left = own_database("a")
    left.leave()
    taken = own_database("a")
    taken._claim.invalidate()  # closes the connection, as if the process had been killed
    new = own_database("a")
    assert taken.name == left.name != new.name
    assert left.name not in schemas(new._engine)
    new.drop()


@pytest.mark.slow
def test_scenarios_take_the_tables_of_the_last_process(own_database, monkeypatch):
    with closing(EventStakeBackend()) as first, first.database.transaction() as connection:
        connection.execute(insert(users), {"name": "somebody"})
    with closing(EventStakeBackend()) as second:
        assert second._schema.name == first._schema.name
    monkeypatch.setenv("DATABASE_URL", "somebody else's, where nothing is left")
    with closing(EventStakeBackend()) as third:
        assert third._schema.name != first._schema.name
    left = own_database()
    assert third._schema.name not in schemas(left._engine)
    left.drop()

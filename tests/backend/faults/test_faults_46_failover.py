"""Row 46: a read-only standby is refused; after a failover the service goes on with the new primary."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from app.bootstrap.checks import check_deployment
from app.core.errors import DatabaseUnavailable
from app.db.database import Database, connect, open_engine
from app.db.embedded import start_embedded, stop_embedded
from app.db.migrations import migrate
from app.db.tables import experiences, users
from app.main import create_app
from database_environment import SECRET, needs_pgbouncer, settings_for, wait_for, worker_on
from fastapi.testclient import TestClient
from fault_environment import FaultEnvironment
from sqlalchemy import URL, insert, select
from stakesim_adapter.faults.poolers import pgbouncer
from stakesim_adapter.faults.standby import standby

pytestmark = pytest.mark.slow


@pytest.fixture
def primary() -> Iterator[URL]:
    """A server of its own, with a migrated database `postgres`."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        data_dir = Path(folder) / "primary"
        starter = multiprocessing.get_context("fork").Process(target=start_embedded, args=(data_dir,))
        starter.start()
        starter.join()
        url = start_embedded(data_dir)
        engine = connect(url.render_as_string())
        migrate(engine)
        engine.dispose()
        yield url
        stop_embedded(data_dir)


@pytest.fixture
def second() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        yield Path(folder)


def both(primary: URL, other: URL) -> str:
    return f"postgresql://postgres@/postgres?host={primary.query['host']},{other.query['host']}&port={primary.port}"


@pytest.mark.parametrize("pooled", [False, pytest.param(True, marks=needs_pgbouncer)], ids=["direct", "pgbouncer"])
def test_46_a_standby_is_refused_at_the_start(
    primary: URL, second: Path, pooled: bool, environment: FaultEnvironment
) -> None:
    with standby(primary, second) as copy:
        if not pooled:
            assert_standby_is_refused(copy.url, environment)
            return
        with pgbouncer(copy.url, "transaction") as url:
            assert_standby_is_refused(url, environment)


def assert_standby_is_refused(url: URL, environment: FaultEnvironment) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"is unavailable: it is a read-only standby.*Check DATABASE_URL\.$"):
        connect(url.render_as_string())
    settings = settings_for(url)
    check = list(check_deployment(settings))[-1]
    assert (check.name, check.ok, check.fatal) == ("database", False, True)
    assert "read-only standby" in check.finding
    worker = worker_on(environment, Database(open_engine(url)))
    client = TestClient(create_app(worker.services, SECRET, environment.w3.eth.chain_id))
    ready = client.get("/ready")
    assert (ready.status_code, "read-only standby" in ready.json()["checks"]["database"]) == (503, True)


def test_46_a_failover_to_the_standby_costs_no_operation(
    environment: FaultEnvironment, primary: URL, second: Path
) -> None:
    """The primary stops in the middle of bookings, and the standby is promoted."""
    with standby(primary, second) as copy:
        database = Database(connect(both(primary, copy.url)))
        worker = on_other_database(environment, database)
        run = worker.open_run()
        booking = worker.step(worker.prepare_booking(run))
        copy.wait_for(primary)
        stop_embedded(Path(str(primary.query["host"])))
        with pytest.raises(DatabaseUnavailable) as caught:
            worker.step(booking)
        assert caught.value.reason
        with pytest.raises(DatabaseUnavailable, match=r"standby|nothing listens|socket"):
            worker.prepare_booking(run)
        client = TestClient(create_app(worker.services, SECRET, environment.w3.eth.chain_id))
        assert client.get("/ready").status_code == 503
        copy.promote()
        wait_for(lambda: client.get("/ready").json()["checks"]["database"] == "ok")  # a look is used for a second
        assert worker.settle(worker.find(booking)).state == "confirmed"
        worker.settle(worker.prepare_booking(run))
        worker.check(runs=1, bookings=2)
        database.engine.dispose()


def test_46_connections_to_a_demoted_primary_are_dropped(
    environment: FaultEnvironment, primary: URL, second: Path
) -> None:
    """The old primary still answers, but takes no writes any more; the promoted standby does."""
    with standby(primary, second) as copy:
        database = Database(connect(both(primary, copy.url)))
        worker = on_other_database(environment, database)
        run = worker.open_run()
        copy.wait_for(primary)
        copy.promote()
        with connected(primary) as admin:
            admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            admin.execute("SELECT pg_reload_conf()")
        wait_for(lambda: server_of(database, "transaction_read_only") == "on")
        with pytest.raises(DatabaseUnavailable, match="read-only standby"):
            worker.prepare_booking(run)
        worker.settle(worker.prepare_booking(run))
        assert server_of(database, "data_directory") == str(copy.data_dir)
        worker.check(runs=1, bookings=1)
        database.engine.dispose()


def on_other_database(environment: FaultEnvironment, database: Database) -> FaultEnvironment:
    """Returns a worker on another, empty database, with the environment's users."""
    worker = worker_on(environment, database)
    with environment.database.transaction() as old, database.transaction() as new:
        for table in (users, experiences):
            new.execute(insert(table), [dict(row._mapping) for row in old.execute(select(table))])
    return worker


def connected(url: URL) -> Any:
    return psycopg.connect(
        host=str(url.query["host"]), port=url.port, user=url.username, dbname=url.database, autocommit=True
    )


def server_of(database: Database, setting: str) -> str:
    with database.autocommit() as connection:
        return str(connection.exec_driver_sql(f"SHOW {setting}").scalar_one())

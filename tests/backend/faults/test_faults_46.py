"""Row 46: PostgreSQL through poolers, with few connections, closed ones, locks held for ever; a standby, a failover."""

from __future__ import annotations

import logging
import select as select_module
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any, Literal
from uuid import uuid4

import psycopg
import pytest
from app.api.background import ReconcilerThread
from app.bootstrap.checks import check_database
from app.core.errors import DatabaseBusy, DatabaseUnavailable
from app.db import connections
from app.db.connections import DatabasePolicy
from app.db.database import Database, connect, create_database, drop_database, open_engine
from app.db.migrations import migrate, missing_migrations
from app.db.statements import Compiled
from app.db.tables import operations, users
from app.db.unavailability import NOT_NOW
from app.main import create_app
from backend_environment import DAY
from database_environment import SECRET, headers_of, needs_pgbouncer, post_booking, settings_for, wait_for, worker_on
from fastapi.testclient import TestClient
from fault_environment import FaultEnvironment, all_operations
from sqlalchemy import URL, Engine, bindparam, event, insert, select, text
from sqlalchemy.exc import DBAPIError
from stakesim_adapter.faults.poolers import pgbouncer
from stakesim_adapter.faults.statements import follow_statements

pytestmark = pytest.mark.slow

HASTY = DatabasePolicy(pool_size=4, pool_timeout=3, lock_timeout=0.5, statement_timeout=1.5)
WAYS = ("direct", "session", "transaction")


@dataclass
class Way:
    """A way to the tests' database.

    Attributes:
        name: One of `WAYS`.
        url: URL of the database on this way.
    """

    name: str
    url: URL

    def open(self, policy: DatabasePolicy | None = None) -> Database:
        return Database(connect(self.url.render_as_string(), policy=policy))


@pytest.fixture(scope="module", params=["direct", *(pytest.param(way, marks=needs_pgbouncer) for way in WAYS[1:])])
def way(request: pytest.FixtureRequest, committing: Engine) -> Iterator[Way]:
    """A way to the database, directly or through a pgbouncer with few connections."""
    if request.param == "direct":
        yield Way("direct", committing.url)
        return
    # a session keeps its connection, so there are as many as the workers of a test have; transactions share three
    size = 40 if request.param == "session" else 3
    with pgbouncer(committing.url, request.param, default_pool_size=size) as url:
        yield Way(request.param, url)


@pytest.fixture
def opened(way: Way) -> Iterator[Any]:
    """A function that opens the database on this way, and disposes of it after the test."""
    databases: list[Database] = []

    def opened(policy: DatabasePolicy | None = None) -> Database:
        databases.append(way.open(policy))
        return databases[-1]

    yield opened
    for database in databases:
        database.engine.dispose()


@contextmanager
def blocks_coming(environment: FaultEnvironment) -> Iterator[None]:
    """Mines a block every few milliseconds."""
    over = threading.Event()

    def mine() -> None:
        while not over.wait(0.02):
            environment.mine()

    thread = threading.Thread(target=mine)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# --------------------------------------------------------------------------------------------------- on each way


def test_46_runs_and_bookings(environment: FaultEnvironment, opened: Any) -> None:
    worker = worker_on(environment, opened())
    run = worker.open_run()
    booking = worker.settle(worker.prepare_booking(run, seats=2))
    worker.settle(worker.services.bookings.prepare_cancel(booking.subject))
    for _ in range(4):
        worker.settle(worker.prepare_booking(run))
    for _ in range(8):  # more often than psycopg waits before it prepares a statement
        assert worker.services.runs.get(run).status == "full"
    environment.check(runs=1, bookings=5)


def test_46_workers_race(environment: FaultEnvironment, opened: Any) -> None:
    """Three processes, each with two threads, on one request and on requests of their own."""
    workers = [worker_on(environment, opened(), give_up_after=30) for _ in range(3)]

    def work(number: int) -> None:
        runs, key = workers[number % 3].services.runs, "user:once" if number < 6 else None
        runs.create(*host_and_experience, starts_at, 4, Decimal(20_000), idempotency_key=key)

    starts_at, host_and_experience = (
        environment.now() + 3 * DAY,
        (environment.ids["host"], environment.ids["experience"]),
    )
    with blocks_coming(environment), ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(12)))
    everything = all_operations(environment.database)
    assert sorted(operation.nonce or 0 for operation in everything) == list(range(1, 8))
    environment.check(runs=7)


def test_46_the_reconciler_goes_on_and_follows(environment: FaultEnvironment, opened: Any) -> None:
    worker = worker_on(environment, opened())
    run = worker.open_run()
    pending = worker.prepare_booking(run)
    worker.services.reconciler.run_full()
    environment.mine(3)
    worker.send_as(0, "cancelEvent", 1)
    environment.mine(3)
    for _ in range(3):
        environment.mine()
        report = worker.services.reconciler.run_full()
    assert (report.problems, report.pending, report.differences) == ([], [], [])
    assert worker.find(pending).state == "confirmed"
    assert worker.services.runs.get(run).status == "cancelled"


def test_46_processes_migrate_at_once(way: Way, committing: Engine) -> None:
    server, name = committing.url, f"test_46_{uuid4().hex[:8]}"
    create_database(server, name).dispose()
    engines = [connect(way.url.set(database=name).render_as_string()) for _ in range(3)]
    try:
        with ThreadPoolExecutor(3) as pool:
            applied = list(pool.map(migrate, engines))
        assert [names for names in applied if names] == [max(applied, key=len)]
        assert missing_migrations(engines[0]) == []
    finally:
        for engine in engines:
            engine.dispose()
        drop_database(server, name)


def test_46_a_statement_outside_of_a_transaction_commits_itself(opened: Any, environment: FaultEnvironment) -> None:
    database, name = opened(), f"user {uuid4()}"
    seen = select(users.c.id).where(users.c.name == name)
    with database.autocommit() as connection:
        connection.execute(insert(users), {"name": name})
        with environment.database.autocommit() as other:
            assert len(other.execute(seen).all()) == 1
        with pytest.raises(DBAPIError, match="division by zero"):
            connection.exec_driver_sql("SELECT 1 / 0")
        connection.execute(insert(users), [{"name": name}, {"name": name}])
        with environment.database.autocommit() as other:
            assert len(other.execute(seen).all()) == 3

    def insert_and_fail() -> None:
        with database.transaction() as connection:
            connection.execute(insert(users), {"name": name})
            connection.exec_driver_sql("SELECT 1 / 0")

    with pytest.raises(DBAPIError, match="division by zero"):
        insert_and_fail()
    with database.autocommit() as connection:
        assert len(connection.execute(seen).all()) == 3


def test_46_statements_and_locks_take_bounded_time(opened: Any, environment: FaultEnvironment) -> None:
    database = opened(HASTY)
    slow = text("SELECT pg_sleep(60)")
    locked = select(users.c.id).with_for_update()
    with environment.database.transaction() as other:
        other.execute(locked)
        for lent in (database.autocommit, database.transaction):
            with (
                pytest.raises(DatabaseBusy, match="held a lock longer than DATABASE_LOCK_TIMEOUT"),
                lent() as connection,
            ):
                connection.execute(locked)
            with pytest.raises(DatabaseBusy, match="longer than DATABASE_STATEMENT_TIMEOUT"), lent() as connection:
                connection.execute(slow)
    for lent in (database.autocommit, database.transaction):
        with lent() as connection:
            assert len(connection.execute(locked).all()) == 2


def test_46_a_lock_held_for_ever_is_503_and_the_reconciler_goes_on_after_it(
    environment: FaultEnvironment, opened: Any, caplog: pytest.LogCaptureFixture
) -> None:
    worker = worker_on(environment, opened(HASTY))
    app = create_app(worker.services, SECRET, environment.w3.eth.chain_id)
    client = TestClient(app, raise_server_exceptions=False)
    run = worker.open_run()
    rounds = ReconcilerThread(worker.services.reconciler, 0.01)
    with environment.database.transaction() as other:
        other.exec_driver_sql("LOCK TABLE operations, answers IN ACCESS EXCLUSIVE MODE")
        response = post_booking(client, environment, run)
        assert (response.status_code, response.json()["code"]) == (503, "database_busy")
        assert response.headers["Retry-After"] == "5"
        assert "held a lock longer than DATABASE_LOCK_TIMEOUT_SECONDS" in response.json()["detail"]
        with caplog.at_level(logging.ERROR), pytest.raises(DatabaseBusy):
            worker.services.reconciler.run_once()
        rounds.start()
        wait_for(lambda: "held a lock longer" in caplog.text)
    prepared = worker.prepare_booking(run)
    wait_for(lambda: environment.find(prepared).state != "prepared" or environment.mine() or False)
    rounds.stop()
    worker.settle(environment.find(prepared))
    environment.check(runs=1, bookings=1)


def lent_and_ended(environment: FaultEnvironment, lent: Any) -> tuple[int, select_module.poll]:
    """Ends the session that a connection of the pool has had. Returns its process id, and a poll of the connection."""
    with lent() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        poll = select_module.poll()
        poll.register(connection.connection.driver_connection.fileno(), select_module.POLLIN)
    with environment.database.autocommit() as other:
        other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        alive = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
        wait_for(lambda: other.execute(alive, {"pid": pid}).scalar_one() == 0)
    return pid, poll


def test_46_connections_that_the_server_closed_are_noticed(
    way: Way, opened: Any, environment: FaultEnvironment
) -> None:
    """A server or pooler that closes idle connections, or was restarted meanwhile, costs no request."""
    database = opened()
    for lent in (database.autocommit, database.transaction):
        pid, poll = lent_and_ended(environment, lent)
        if way.name != "transaction":  # there the pooler keeps its client
            wait_for(lambda: poll.poll(0))  # noqa: B023
        with lent() as connection:
            assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != pid


def test_46_a_connection_that_ends_just_now_is_at_worst_unavailable(opened: Any, environment: FaultEnvironment) -> None:
    """The pooler may tell its client just when that sends: then the driver gets one answer too many."""
    database = opened()
    for lent in (database.autocommit, database.transaction) * 10:
        pid, _ = lent_and_ended(environment, lent)
        with suppress(DatabaseUnavailable), lent() as connection:
            assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != pid
        with lent() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1


INSERT_USER = insert(users).values(name=bindparam("user_name"))


@pytest.mark.parametrize("statement", [INSERT_USER, Compiled(INSERT_USER)], ids=["SQLAlchemy", "compiled"])
@pytest.mark.parametrize("moment", ["before", "after", "commit", "rollback"])
@pytest.mark.parametrize("mode", ["transaction", "autocommit"])
def test_46_an_interrupted_statement_or_commit_leaves_no_transaction_open(
    opened: Any, moment: str, mode: Literal["transaction", "autocommit"], statement: Any
) -> None:
    """Ctrl-C or SIGTERM at any moment: it is what ends the block, and the next block is as good as the first one."""
    database = opened(DatabasePolicy(pool_size=1, pool_timeout=5))
    name = f"user {uuid4()}"

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    def insert_user(fails: bool = False) -> None:
        with getattr(database, mode)() as connection:
            connection.execute(statement, {"user_name": name})
            assert not fails

    is_compiled, ends = isinstance(statement, Compiled), moment in ("commit", "rollback")
    if ends:
        engine = database.engine if mode == "transaction" else database.autocommit_engine
        event.listen(engine, moment, interrupt)
        stop = partial(event.remove, engine, moment, interrupt)
    else:
        stop = follow_statements(database, **{moment: interrupt})
    # in this mode SQLAlchemy only pretends to end a transaction, and has none with a compiled statement
    interrupted = mode == "transaction" or not ends or (moment == "rollback" and not is_compiled)
    with pytest.raises(KeyboardInterrupt if interrupted else AssertionError):
        insert_user(fails=moment == "rollback" or not interrupted)
    stop()
    insert_user()
    stored = 1 + (mode == "autocommit" and moment != "before")
    with database.autocommit() as connection:
        assert len(connection.execute(select(users.c.id).where(users.c.name == name)).all()) == stored
    assert database.engine.pool.checkedout() == 0


def test_46_one_connection_is_enough(environment: FaultEnvironment, opened: Any) -> None:
    """No thread asks for a second connection while it has one; otherwise all would wait for each other."""
    worker = worker_on(environment, opened(DatabasePolicy(pool_size=1, pool_timeout=5)))
    run = worker.open_run()
    worker.settle(worker.prepare_booking(run))
    stuck = worker.step(worker.prepare_booking(run))
    bumping = worker_on(environment, worker.database, bump_after=0)
    bumping.step(bumping.step(bumping.step(stuck)))
    environment.mine(4)
    worker.services.reconciler.run_full()
    worker.services.reconciler.dry_run()
    client = TestClient(create_app(worker.services, SECRET, environment.w3.eth.chain_id))
    assert client.get("/ready").status_code == 200
    assert client.get("/metrics").status_code == 200
    assert post_booking(client, environment, run, prefer="respond-async").status_code == 202
    environment.stop_followers()
    assert worker.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_46_more_threads_than_connections_wait_and_then_get_503(environment: FaultEnvironment, opened: Any) -> None:
    database = opened(DatabasePolicy(pool_size=1, pool_timeout=0.1))
    worker = worker_on(environment, database)
    client = TestClient(create_app(worker.services, SECRET, environment.w3.eth.chain_id))
    with database.autocommit():
        response = client.get(f"/event-runs/{uuid4()}", headers=headers_of(environment))
        assert (response.status_code, response.json()["code"]) == (503, "database_busy")
        assert "DATABASE_POOL_SIZE" in response.json()["detail"]
        assert (
            client.get("/ready").json()["checks"]["database"].startswith("all connections of this process are in use")
        )
        assert client.get("/metrics").text.count("stakesim_database_up 0.0") == 1
    assert client.get(f"/event-runs/{uuid4()}", headers=headers_of(environment)).status_code == 404


def test_46_collisions_are_repeated_if_that_is_sound(opened: Any) -> None:
    """PostgreSQL ends one of two statements that wait for each other; outside of a transaction it is executed again."""
    database, together = opened(DatabasePolicy(lock_timeout=20)), threading.Barrier(2, timeout=20)
    lock = text("DO $$ BEGIN PERFORM pg_advisory_xact_lock(461); PERFORM pg_sleep(0.3); "
                "PERFORM pg_advisory_xact_lock(462); END $$")  # fmt: skip
    other_order = text(str(lock).replace("461", "46x").replace("462", "461").replace("46x", "462"))

    def in_autocommit(statement: Any) -> None:
        with database.autocommit() as connection:
            together.wait()
            connection.execute(statement)

    def in_transaction(statement: Any) -> None:
        with database.transaction() as connection:
            together.wait()
            connection.execute(statement)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(in_autocommit, (lock, other_order)))
        ended = [pool.submit(in_transaction, statement) for statement in (lock, other_order)]
        errors = [error for error in (future.exception() for future in ended) if error]
    assert [(type(error), str(error)) for error in errors] == [
        (DatabaseBusy, "The database is busy: transactions collided.")
    ]


@pytest.mark.parametrize("key", NOT_NOW)
def test_46_what_the_server_can_not_do_now_is_said_with_its_reason(opened: Any, key: str) -> None:
    """Raised by a real server, for each SQLSTATE or class."""
    database = opened()
    state = (key + "000")[:5]
    meaning = NOT_NOW.get(state) or NOT_NOW[key]
    for lent in (database.autocommit, database.transaction):
        with pytest.raises(meaning.kind) as caught, lent() as connection:
            connection.exec_driver_sql(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")
        assert caught.value.reason == meaning.reason
        with lent() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1


@pytest.mark.parametrize("state", ["22012", "23505", "42601", "42P01", "P0001", "XX000"])
def test_46_mistakes_stay_unexpected(environment: FaultEnvironment, opened: Any, state: str) -> None:
    database = opened()
    with pytest.raises(DBAPIError), database.autocommit() as connection:
        connection.exec_driver_sql(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")
    worker = worker_on(environment, database)

    def fail(*_: Any) -> None:
        with database.autocommit() as connection:
            connection.exec_driver_sql(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")

    app = create_app(replace(worker.services, runs=type("Runs", (), {"get": fail})()), SECRET, 1)  # type: ignore[arg-type]
    client = TestClient(app, raise_server_exceptions=False)
    assert client.get(f"/event-runs/{uuid4()}", headers=headers_of(environment)).status_code == 500


# ------------------------------------------------------------------------------------------------ pooler or session


def test_46_a_pooler_is_recognised_and_said(way: Way, opened: Any) -> None:
    database = opened()
    with database.autocommit() as connection:
        driver: Any = connection.connection.driver_connection
        assert (driver.prepare_threshold is None) == (way.name != "direct")
    migrate(database.engine)
    settings = settings_for(way.url)
    check = next(iter(check_database(settings, database.engine)))
    assert check.ok
    assert ("pooler" in check.finding) == (way.name != "direct")


@needs_pgbouncer
def test_46_nothing_is_left_in_a_session_of_the_pooler(committing: Engine) -> None:
    with pgbouncer(committing.url, "transaction", default_pool_size=1) as url:
        database = Database(connect(url.render_as_string()))
        for _ in range(10):
            with database.autocommit() as connection:
                connection.execute(select(users.c.id).where(users.c.name == "nobody"))
            with database.transaction() as connection:
                connection.execute(select(operations.c.key).where(operations.c.key == "nothing"))
        with psycopg.connect(host=url.host, port=url.port, user=url.username, dbname=url.database) as other:
            other.prepare_threshold = None
            left = other.execute(
                "SELECT name, setting FROM pg_settings WHERE source = 'session' AND name LIKE '%_timeout' "
                "UNION ALL SELECT 'prepared', statement FROM pg_prepared_statements "
                "UNION ALL SELECT 'lock', objid::text FROM pg_locks "
                "WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
            )
            assert left.fetchall() == []
        database.engine.dispose()


def test_46_a_prepared_statement_that_is_gone_costs_one_request(committing: Engine) -> None:
    """As if a pooler had given this client another server connection."""
    database = Database(open_engine(committing.url, DatabasePolicy(pool_size=1)))
    find = select(users.c.id).where(users.c.name == "nobody")

    def prepared() -> int:
        with database.autocommit() as connection:
            for _ in range(7):
                connection.execute(find)
            return int(connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one())

    assert prepared() > 0
    with database.autocommit() as connection:
        connection.exec_driver_sql("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")  # psycopg does not see it
    with pytest.raises(DatabaseUnavailable, match="add pgbouncer=true to DATABASE_URL"):
        prepared()
    assert prepared() > 0
    database.engine.dispose()


def test_46_idle_connections_are_tried_and_watched_for_silent_peers(
    committing: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall drops idle connections without a word, so nothing arrives that could be noticed."""
    database = Database(connect(f"{committing.url.render_as_string()}"))
    sent: list[str] = []
    with database.autocommit() as connection:
        driver: Any = connection.connection.driver_connection
    keepalive = {"keepalives_idle": "30", "keepalives_count": "3", "tcp_user_timeout": "20000", "connect_timeout": "5"}
    assert keepalive.items() <= driver.info.get_parameters().items()
    send = connections._send
    monkeypatch.setattr(connections, "_send", lambda connection, sql: sent.append(sql) or send(connection, sql))
    with database.autocommit():
        assert sent == []
    monkeypatch.setattr(connections, "PING_AFTER_S", 0)
    with database.autocommit():
        assert sent == [""]
    database.engine.dispose()


def test_46_a_pool_has_a_stated_size(committing: Engine) -> None:
    engine = connect(f"{committing.url.render_as_string()}&connection_limit=3", policy=DatabasePolicy(pool_timeout=0.1))
    database, lent = Database(engine), []
    opened: list[Any] = []
    event.listen(database.autocommit_engine, "connect", lambda connection, record: opened.append(connection))
    for borrow in (database.autocommit, engine.connect, database.autocommit):
        lent.append(borrow())
    with pytest.raises(DatabaseBusy):
        database.autocommit()
    with pytest.raises(DatabaseBusy), database.transaction():
        pass
    assert len(opened) == 2  # and the one that `connect` opened
    for connection in lent:
        connection.close()
    engine.dispose()

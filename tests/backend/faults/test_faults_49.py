"""Row 49: a million operations. Statements find rows by index, totals are kept, old responses are removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from app.bootstrap.checks import check_database, check_pending
from app.core.errors import ContractRejected
from app.core.security import issue_token
from app.db.database import Database
from app.db.tables import answers, event_run_bookings, event_runs, operation_totals, operations, users
from app.main import create_app
from app.services import housekeeping, run_pages
from app.services.housekeeping import TOTALS, tidy
from app.services.interventions import approve_operation
from app.services.operation_list import Selection, find_operation, history, list_operations, list_orphans
from app.services.pause import pause, resume
from app.services.run_pages import pages_of_runs
from app.services.transactions.limits import Amounts
from database_environment import SECRET, headers_of, post_booking, settings_for
from fastapi.testclient import TestClient
from fault_environment import STORED, FaultEnvironment
from lanes_environment import OPERATORS, hire, with_lanes
from limits_environment import ETH, limited
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus
from sqlalchemy import Connection, func, insert, select, text, update
from stakesim_adapter.faults.statements import follow_statements

pytestmark = pytest.mark.slow

ROWS = 20_000
LARGE = {"operations", "event_runs", "event_run_bookings", "answers", "payments", "refunds"}


def fill(database: Database, ids: dict[str, UUID], chain_id: int, address: str, rows: int = ROWS) -> None:
    """Inserts so many closed operations of the first block, bookings, responses, and a fifth as many runs, all old."""
    values = {"rows": rows, "host": ids["host"], "experience": ids["experience"], "user": ids["attendee"]}
    values |= {"chain": chain_id, "address": address}
    with database.transaction() as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        for statement in (
            "INSERT INTO event_runs (id, experience_id, host_id, starts_at, max_seats, price_inr, status, created_at, "
            "blockchain_event_run_id, blockchain_status, blockchain_price_per_seat_wei, blockchain_stake_amount_wei) "
            "SELECT md5('run' || n)::uuid, :experience, :host, now(), 5, 1, 'completed', "
            "now() - interval '1 year' + n * interval '1 second', 1000000 + n, 'confirmed', 1, 1 "
            "FROM generate_series(1, CAST(:rows AS int) / 5) n",
            "INSERT INTO event_run_bookings (id, event_run_id, user_id, seats, total_inr, status, "
            "blockchain_booking_id, blockchain_status) SELECT md5('booking' || n)::uuid, "
            "md5('run' || 1 + n / 6)::uuid, :user, 1, 1, 'completed', 1000000 + n, 'confirmed' "
            "FROM generate_series(1, CAST(:rows AS int)) n",
            "INSERT INTO operations (key, request, kind, subject, chain_id, sender, to_address, data, value_wei, "
            "state, nonce, attempts, tx_hash, block_number, gas_used, gas_price_wei, created_at, updated_at) "
            "SELECT 'old:' || n, '', 'bookEventFor', md5('booking' || n)::uuid, :chain, '0xold', :address, '\\x', 1, "
            "CASE WHEN n % 1000 = 0 THEN 'rejected' ELSE 'confirmed' END::operation_state, "
            "CASE WHEN n % 1000 = 0 THEN NULL ELSE n END, '[]', md5('hash' || n), 0, 100, 7, "
            "now() - interval '1 year', now() - interval '1 year' FROM generate_series(1, CAST(:rows AS int)) n",
            "INSERT INTO payments (id, user_id, purpose, stake_inr, amount_inr, state, gateway, gateway_order_id, "
            "gateway_payment_id, paid_at, expires_at, usable_until, operation_key, to_custody) "
            "SELECT md5('payment' || n)::uuid, :user, 'booking', 1, 6, "
            "(ARRAY['used', 'refunded', 'expired']::payment_state[])[1 + n % 3], 'razorpay', 'order_old' || n, "
            "CASE WHEN n % 3 < 2 THEN 'pay_old' || n END, now(), now() - interval '1 year', now() - interval '1 year', "
            "CASE WHEN n % 3 = 0 THEN 'old:' || n END, true FROM generate_series(1, CAST(:rows AS int)) n",
            "INSERT INTO refunds (payment_id, amount_inr, cause, state, next_at, gateway_refund_id) "
            "SELECT id, 6, 'unused', 'done', NULL, 'rfnd' || gateway_payment_id FROM payments WHERE state = 'refunded'",
            "INSERT INTO answers (key, request, status, body, created_at) SELECT 'old:' || n, '', 201, '{}', "
            "now() - interval '6 days' FROM generate_series(1, CAST(:rows AS int)) n",
        ):
            names = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), names)
    with database.autocommit() as connection:
        connection.exec_driver_sql("ANALYZE")


@contextmanager
def recorded(database: Database) -> Iterator[dict[str, Any]]:
    """Records each statement with the parameters of its first execution, without those of the tests' own checks."""
    statements: dict[str, Any] = {}

    def record(statement: str, parameters: Any) -> None:
        of_checks = statement.endswith("FROM operations ORDER BY operations.created_at") or statement.startswith(STORED)
        if not of_checks:
            statements.setdefault(statement, parameters)

    stop = follow_statements(database, before=record)
    try:
        yield statements
    finally:
        stop()


def scanned_tables(database: Database, statement: str, parameters: Any) -> set[str]:
    """Returns the large tables that a statement reads from end to end, or in the order of an index, by its plans.

    These are the plan for its parameters, and the one that is kept for all parameters.
    """
    if not statement.lstrip().upper().startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")):
        return set()
    one = parameters[0] if isinstance(parameters, list) else parameters
    with database.autocommit() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", one).scalar_one()
        plans = [plan[0], generic_plan(connection, statement, one)]
        whole = connection.exec_driver_sql("SELECT indexrelid::regclass::text FROM pg_index WHERE indpred IS NULL")
        whole_indexes = set(whole.scalars())
        return {table for plan in plans for table in _scans(plan["Plan"], whole_indexes)} & LARGE


def generic_plan(connection: Connection, statement: str, parameters: Any) -> dict[str, Any]:
    """Returns the plan of a statement that psycopg has prepared, which knows no values of the parameters."""
    driver_connection = connection.connection.driver_connection
    assert isinstance(driver_connection, psycopg.Connection)
    query = PostgresQuery(Transformer(driver_connection))
    query.convert(statement, parameters)
    prepared = driver_connection.pgconn.prepare(b"explained", query.query, query.types)
    assert prepared.status == ExecStatus.COMMAND_OK, prepared.error_message
    with psycopg.Cursor(driver_connection) as cursor:
        arguments = f"({', '.join(['NULL'] * len(query.types))})" if query.types else ""
        cursor.execute("SET plan_cache_mode = force_generic_plan")
        row = cursor.execute(f"EXPLAIN (FORMAT JSON) EXECUTE explained{arguments}", prepare=False).fetchone()
        cursor.execute("RESET plan_cache_mode; DEALLOCATE explained")
    assert row is not None
    plan: dict[str, Any] = row[0][0]
    return plan


def _scans(plan: dict[str, Any], whole_indexes: set[str]) -> Iterator[str]:
    """Yields the tables of scans. `whole_indexes`: names of the indexes that have all rows of their table."""
    reads_index = plan["Node Type"] in ("Index Scan", "Index Only Scan") and plan["Index Name"] in whole_indexes
    if plan["Node Type"] == "Seq Scan" or (reads_index and "Index Cond" not in plan):
        yield plan["Relation Name"]
    if plan["Node Type"] != "Limit":
        for part in plan.get("Plans", ()):
            yield from _scans(part, whole_indexes)


def use_everything(environment: FaultEnvironment) -> None:
    """Does what a running service does: start, requests of all kinds, rounds, foreign transactions, monitoring."""
    services = environment.services
    chain_id = environment.w3.eth.chain_id
    settings = settings_for(environment.database.engine.url).model_copy(
        update={"chain_id": chain_id, "contract_address": environment.address}
    )
    assert all(check.ok for check in check_database(settings, environment.database.engine))
    check_pending(environment.database, chain_id)
    services.reconciler.run_once()
    run = environment.open_run()
    bumping = environment.worker(bump_after=0)
    bumping.settle(bumping.step(bumping.step(bumping.prepare_booking(run))))
    booking = environment.settle(environment.prepare_booking(run, idempotency_key="user:once"))
    environment.prepare_booking(run, idempotency_key="user:once")
    environment.settle(services.bookings.prepare_cancel(booking.subject))
    rejected = environment.prepare_booking(run)
    environment.settle(services.runs.prepare_cancel(environment.open_run()))
    environment.send_as(0, "cancelEvent", 1)
    environment.mine(4)
    assert environment.step(rejected).state == "rejected"
    with pytest.raises(ContractRejected):
        services.bookings.book(run, environment.ids["attendee"], 1)
    report = services.reconciler.run_once()
    assert (report.problems, report.failure) == ([], None)
    client = TestClient(create_app(services, SECRET, chain_id))
    headers = headers_of(environment)
    for path in (f"/event-runs/{run}", f"/bookings/{booking.subject}", "/operations/user:once", "/ready", "/metrics"):
        client.get(path, headers=headers)
    read_lists(environment, client, environment.ids["host"], run)
    assert post_booking(client, environment, run).status_code == 409
    post_booking(client, environment, run, prefer="respond-async")
    services.runs.refresh(run)
    use_limits_and_pause(environment)
    use_lanes(environment)
    list_operations(environment.database, Selection())
    list_orphans(environment.database)
    history(environment.database, find_operation(environment.database, "user:once").key)


def use_limits_and_pause(environment: FaultEnvironment) -> None:
    """Signs with limits, is held above one, approves, pauses and resumes."""
    worker, run = limited(environment, day_wei=2 * 10**17), environment.open_run()
    worker.settle(worker.prepare_booking(run))
    worker = limited(environment, day_wei=2 * 10**17)
    held = worker.step(worker.step(worker.prepare_booking(run)))
    approve_operation(worker.database, worker.services.sender.sealer, held.key, "operator")
    pause(worker.database, "operator")
    worker.step(held)
    resume(worker.database, "operator")
    assert worker.step(held).state == "signed"


def use_lanes(environment: FaultEnvironment) -> None:
    """Books in two lanes within limits, in two processes."""
    hire(environment, OPERATORS[0])
    amounts = Amounts(operation_wei=ETH, person_day_wei=100 * ETH, day_wei=100 * ETH)
    run = environment.open_run()
    for process in (with_lanes(environment, OPERATORS[0], amounts=amounts) for _ in range(2)):
        for booking in [process.prepare_booking(run) for _ in range(2)]:
            process.step(booking)


def read_lists(environment: FaultEnvironment, client: TestClient, host: UUID, run: UUID) -> None:
    """Reads two pages of each list, with each filter, as each role. The run is one of the host."""
    ids = environment.ids
    for role, user in (("platform", host), ("host", host), ("attendee", ids["attendee"])):
        token = {"Authorization": f"Bearer {issue_token(SECRET, user, role)}"}
        for path, filters in (
            (
                "/event-runs",
                ["status=completed", "status=full", f"host_id={host}", "blockchain_status=confirmed"],
            ),
            ("/event-runs", ["starts_from=2020-01-01T00:00:00Z", f"experience_id={run}"]),
            ("/bookings", ["status=completed", "status=no_show", f"event_run_id={run}", f"user_id={ids['attendee']}"]),
            (f"/event-runs/{run}/bookings", ["status=active"]),
            (
                "/operations",
                ["state=confirmed", "state=failed", "state=rejected", "state=mined", "held=true", "held=false"],
            ),
        ):
            for query in ("", *filters):
                page = client.get(f"{path}?limit=1&{query}", headers=token)
                assert page.status_code == 200, page.text
                if page.json()["next"]:
                    following = client.get(f"{path}?limit=1&{query}&cursor={page.json()['next']}", headers=token)
                    assert following.status_code == 200, following.text


def test_49_every_statement_of_a_running_service_finds_its_rows_by_index(environment: FaultEnvironment) -> None:
    fill(environment.database, environment.ids, environment.w3.eth.chain_id, environment.address)
    with recorded(environment.database) as statements:
        use_everything(environment)
        list(pages_of_runs(environment.database))
    assert len(statements) > 40
    scanning = {
        statement: tables
        for statement, parameters in statements.items()
        if (tables := scanned_tables(environment.database, statement, parameters))
    }
    assert scanning == {}, "\n".join(scanning)


def rows_read(plan: dict[str, Any]) -> int:
    """Returns how many rows the scans of an analysed plan read, with those that they dropped."""
    own = 0
    if "Scan" in plan["Node Type"]:
        own = round((plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"])
    return own + sum(rows_read(part) for part in plan.get("Plans", ()))


def test_49_a_page_reads_few_rows(environment: FaultEnvironment) -> None:
    """However many rows there are: no more than a page, or what belongs to one host, attendee or run."""
    fill(environment.database, environment.ids, environment.w3.eth.chain_id, environment.address)
    client = TestClient(create_app(environment.services, SECRET, 1))
    with environment.database.transaction() as connection:  # another host, with one run that has one booking
        small_host = connection.execute(insert(users).values(name="small").returning(users.c.id)).scalar_one()
        run = connection.execute(select(event_run_bookings.c.event_run_id).limit(1)).scalar_one()
        connection.execute(update(event_runs).where(event_runs.c.id == run).values(host_id=small_host))
    with recorded(environment.database) as statements:
        read_lists(environment, client, small_host, run)
    lists = {statement: one for statement, one in statements.items() if "LIMIT 2" in statement}
    assert len(lists) > 20
    assert any("LATERAL" in statement for statement in lists)
    with environment.database.autocommit() as connection:
        plans = {
            statement: connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", one).scalar_one()
            for statement, one in lists.items()
        }
    reading_much = {statement: rows for statement, plan in plans.items() if (rows := rows_read(plan[0]["Plan"])) > 50}
    assert reading_much == {}


def test_49_a_full_table_scan_would_be_seen(environment: FaultEnvironment) -> None:
    fill(environment.database, environment.ids, environment.w3.eth.chain_id, environment.address)
    with recorded(environment.database) as statements:
        environment.services.bookings.list_all()
        with environment.database.autocommit() as connection:
            connection.execute(select(operations.c.state, func.count()).group_by(operations.c.state))
    assert [scanned_tables(environment.database, *item) for item in statements.items()] == [
        {"event_run_bookings"}, {"operations"}
    ]  # fmt: skip


def counted(database: Database) -> dict[str, tuple[int, int]]:
    """Returns number and wei of gas of closed operations by state, from the rows themselves."""
    spent = func.coalesce(func.sum(operations.c.gas_used * operations.c.gas_price_wei), 0)
    statement = select(operations.c.state, func.count(), spent).group_by(operations.c.state)
    closed = operations.c.state.in_(("confirmed", "failed", "rejected"))
    with database.autocommit() as connection:
        return {row[0]: (row[1], int(row[2])) for row in connection.execute(statement.where(closed))}


def totals(database: Database) -> dict[str, tuple[int, int]]:
    with database.autocommit() as connection:
        return {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(TOTALS) if row[1]}


def test_49_totals_are_those_of_the_rows(environment: FaultEnvironment) -> None:
    """Also after an operation that was closed is opened again, and after totals were added up."""
    database = environment.database
    run = environment.open_run()
    environment.settle(environment.prepare_booking(run, seats=4))
    assert environment.step(environment.prepare_booking(run)).state == "rejected"
    assert totals(database) == counted(database)
    assert Counter({state: number for state, (number, _) in totals(database).items()}) == Counter(
        confirmed=2, rejected=1
    )
    with database.transaction() as connection:
        reopened = update(operations).where(operations.c.kind == "bookEventFor", operations.c.state == "confirmed")
        connection.execute(reopened.values(state="mined"))
    assert totals(database) == counted(database)
    for _ in range(2):
        tidy(database)
        assert totals(database) == counted(database)
    with database.autocommit() as connection:
        assert connection.execute(select(func.count()).select_from(operation_totals)).scalar_one() == 2
    environment.services.reconciler.run_full()
    assert totals(database) == counted(database)
    environment.check(runs=1, bookings=1)


def test_49_old_answers_are_removed_and_a_repeated_request_still_has_one_effect(environment: FaultEnvironment) -> None:
    run, chain_id = environment.open_run(), environment.w3.eth.chain_id
    client = TestClient(create_app(environment.services, SECRET, chain_id))
    environment.rpc("evm_setAutomine", True)
    headers, body = headers_of(environment), {"event_run_id": str(run), "seats": 1}
    stuck = client.post("/bookings/create", json=body, headers=headers)
    assert stuck.status_code == 202
    environment.mine(4)
    first = client.post("/bookings/create", json=body, headers=headers)
    assert first.status_code == 201
    with environment.database.transaction() as connection:
        age = update(answers).values(created_at=func.now() - timedelta(days=6))
        connection.execute(age)
    tidy(environment.database)
    assert number_of_answers(environment.database) == 1
    with environment.database.transaction() as connection:
        connection.execute(age.values(created_at=func.now() - timedelta(days=8)))
    environment.services.reconciler.run_once()
    assert number_of_answers(environment.database) == 0
    again = client.post("/bookings/create", json=body, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    other = client.post("/bookings/create", json=body | {"seats": 2}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "key_reused")
    environment.check(runs=1, bookings=1)


def number_of_answers(database: Database) -> int:
    with database.autocommit() as connection:
        return int(connection.execute(select(func.count()).select_from(answers)).scalar_one())


def test_49_many_old_answers_are_removed_in_batches(
    environment: FaultEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(environment.database, environment.ids, environment.w3.eth.chain_id, environment.address)
    with recorded(environment.database) as statements:
        tidy(environment.database, timedelta(days=5))
    assert number_of_answers(environment.database) == 0
    (removing,) = [statement for statement in statements if "DELETE FROM answers" in statement]
    fill_answers = text("INSERT INTO answers (key, request, created_at) SELECT n::text, '', now() - interval '9 days' "
                        "FROM generate_series(1, 25000) n")  # fmt: skip
    with environment.database.transaction() as connection:
        connection.execute(fill_answers)
    executed: list[str] = []
    follow_statements(environment.database, before=lambda sql, parameters: executed.append(sql))
    tidy(environment.database)
    assert executed.count(removing) == 25_000 // housekeeping.BATCH + 1
    assert number_of_answers(environment.database) == 0


def test_49_all_runs_are_compared_in_pages(environment: FaultEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, in their order, also if they were stored at the same time; memory is bounded by the page."""
    monkeypatch.setattr(run_pages, "PAGE_SIZE", 3)
    for _ in range(4):
        environment.settle(environment.prepare_booking(environment.open_run()))
    with environment.database.transaction() as connection:
        everything = update(event_runs).values(created_at=func.now())
        connection.execute(everything)
        ids = connection.scalars(select(event_runs.c.id).order_by(event_runs.c.id)).all()
    pages = list(pages_of_runs(environment.database))
    assert [len(page.runs) for page in pages] == [3, 1]
    assert [run.id for page in pages for run in page.runs] == ids
    assert sum(len(of_run) for page in pages for of_run in page.bookings.values()) == 4
    with environment.database.transaction() as connection:
        connection.execute(update(event_runs).where(event_runs.c.id == ids[3]).values(seats_booked=0))
    [difference] = environment.services.reconciler.dry_run().differences
    onchain_id = environment.services.runs.get(ids[3]).blockchain_event_run_id
    assert difference == f"event run {ids[3]} ({onchain_id} on chain): seats_booked is 0 in the database, 1 on chain"

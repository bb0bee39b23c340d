"""Row 48: a round of the reconciler that fails, hangs or meets trouble is said, and stops nothing else."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio.to_thread
import httpx
import pytest
from app.api.background import ReconcilerThread
from app.bootstrap.services import Services
from app.db.database import Database
from app.db.tables import chain_cursors
from app.services.health import HealthLimits
from app.services.operation_types import Operation
from fault_environment import FaultEnvironment, Forward, node_error
from monitoring import client_of, errors, metrics, ready, use_clock
from sqlalchemy import event, select

pytestmark = pytest.mark.slow


def cursor(database: Database) -> int | None:
    with database.autocommit() as connection:
        return connection.execute(select(chain_cursors.c.block_number)).scalar_one_or_none()


def in_trouble(monkeypatch: pytest.MonkeyPatch, services: Services, key: str) -> None:
    """Makes each step of one operation raise what nobody foresaw."""
    step = services.sender.step

    def raising_for_one(operation: Operation) -> Operation:
        if operation.key == key:
            raise KeyError("nobody foresaw this")
        return step(operation)

    monkeypatch.setattr(services.sender, "step", raising_for_one)


def test_48_one_operation_in_trouble_stops_no_other(
    environment: FaultEnvironment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    services, database = environment.services, environment.database
    bad, good = environment.prepare_run(idempotency_key="bad"), environment.prepare_run(idempotency_key="good")
    services.reconciler.run_full()
    followed = cursor(database)
    in_trouble(monkeypatch, services, bad.key)
    environment.mine()
    for _ in range(2):
        report = services.reconciler.run_full()
        assert (report.failure, report.problems) == (None, ["createEventRunFor bad: unexpected KeyError"])
    assert (environment.find(bad).state, environment.find(good).state) == ("submitted", "mined")
    assert followed is not None
    assert cursor(database) == followed + 1
    said = "the reconciler could not do everything: createEventRunFor bad: unexpected KeyError"
    assert errors(caplog).count(said) == 1  # once, not each round
    status, checks = ready(services)
    assert status == 200
    assert "createEventRunFor bad" in checks["reconciler"]
    assert metrics(services)["stakesim_reconciler_problems"] == 1
    monkeypatch.undo()
    environment.mine(2)
    services.reconciler.run_full()
    assert {environment.find(operation).state for operation in (bad, good)} == {"confirmed"}
    assert ready(services) == (200, {})
    environment.check(runs=2)


def test_48_one_run_in_trouble_stops_neither_others_nor_the_cursor(
    environment: FaultEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, runs = environment.services, [environment.open_run() for _ in range(2)]
    services.reconciler.run_full()
    for onchain_id in (1, 2):
        environment.send_as(1, "cancelEvent", onchain_id)
        environment.mine()
    environment.mine(2)
    get_run = services.chain.get_event_run_from_chain

    def raising_for_one(onchain_id: int, *args: Any) -> Any:
        if onchain_id == 1:
            raise ValueError("nobody foresaw this")
        return get_run(onchain_id, *args)

    monkeypatch.setattr(services.chain, "get_event_run_from_chain", raising_for_one)
    for _ in range(2):
        report = services.reconciler.run_once()
        assert (report.failure, len(report.problems)) == (None, 1)
    assert [services.runs.get(run).status for run in runs] == ["active", "cancelled"]
    assert cursor(environment.database) == services.chain.block_number() - 2
    monkeypatch.undo()
    assert services.reconciler.run_once().refreshed == [runs[0]]
    assert services.runs.get(runs[0]).status == "cancelled"


def test_48_failed_rounds_are_said_and_the_service_is_not_ready_after_a_while(
    environment: FaultEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    services = environment.services
    clock = use_clock(services)
    services.health.started()
    services.reconciler.run_full()
    environment.connection.fault = node_error("missing trie node")
    for _ in range(2):
        clock.now += 40
        assert services.reconciler.run_once().failure
    said = [line for line in errors(caplog) if "missing trie node" in line]
    assert len(said) == 1
    environment.connection.fault = None
    status, checks = ready(services)
    assert status == 503
    assert "80 s ago" in checks["reconciler"]
    assert "missing trie node" in checks["reconciler"]
    assert metrics(services)["stakesim_reconciler_last_good_round_age_seconds"] == 80
    assert metrics(services)["stakesim_problem{true}{reconciler}"] == 1
    assert services.reconciler.run_once().failure is None
    assert ready(services) == (200, {})


def test_48_a_round_that_hangs_shows_as_its_age(environment: FaultEnvironment) -> None:
    services = environment.services
    clock, hangs, goes_on = use_clock(services), threading.Event(), threading.Event()
    assert ready(services) == (200, {})

    def hang(method: str, params: Any, forward: Forward) -> Any:
        if threading.current_thread().name == "reconciler":
            hangs.set()
            goes_on.wait()
        return forward()

    environment.connection.fault = hang
    thread = ReconcilerThread(services.reconciler, interval=3600)
    thread.start()
    try:
        assert hangs.wait(30)
        assert ready(services) == (200, {})
        clock.now += 61
        status, checks = ready(services)
        assert (status, checks) == (503, {"reconciler": "the last good round ended 61 s ago: the round does not end"})
        assert metrics(services)["stakesim_reconciler_last_good_round_age_seconds"] == 61
    finally:
        goes_on.set()
        thread.stop()
    assert ready(services) == (200, {})


def test_48_rows_far_behind_the_chain_are_said(environment: FaultEnvironment) -> None:
    """A mined operation that does not close holds the cursor back: its run must not be read before."""
    services = environment.services
    services.health.limits = HealthLimits(cursor_lag=2)
    services.reconciler.run_full()
    operation = environment.follow(environment.prepare_run())
    environment.mine()
    operation = environment.follow(operation)
    environment.mine(6)
    environment.services.sender.step = lambda operation: operation  # type: ignore[method-assign]
    services.reconciler.run_full()
    assert metrics(services)["stakesim_cursor_lag_blocks"] == 5
    status, checks = ready(services)
    assert status == 503
    assert "5 blocks behind" in checks["reconciler"]


def test_48_readiness_waits_for_neither_node_nor_database_nor_requests(environment: FaultEnvironment) -> None:
    """Node and database hang until the response is there, and all threads for requests are taken."""
    services, goes_on = environment.services, threading.Event()
    app: Any = client_of(services).app

    def hang(method: str, params: Any, forward: Forward) -> Any:
        goes_on.wait()
        return forward()

    environment.connection.fault = hang
    event.listen(services.database.autocommit_engine, "checkout", lambda *_: goes_on.wait() and None)

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = 1
        waiting = asyncio.create_task(anyio.to_thread.run_sync(goes_on.wait))
        await asyncio.sleep(0)
        try:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
                responses = await asyncio.gather(*(client.get("/ready") for _ in range(50)))
        finally:
            goes_on.set()
        await waiting
        return responses[0], responses[-1]

    for response in asyncio.run(ask()):
        assert response.status_code == 503
        checks = response.json()["checks"]
        assert checks["node"] == checks["database"] == "has not answered within 1 s"

"""Monitoring of the process: health, readiness, metrics, log lines, and unexpected errors."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_environment import (
    SECRET,
    ApiEnvironment,
    body_of,
    mine_confirmations,
    open_api,
    problem_of,
    services_for,
    unreachable_database,
    unreachable_node,
)
from app.api import metrics, readiness
from app.api.health import CHECKS
from app.core.logs import configure_json_logging, log_context
from app.core.security import issue_token
from app.db import migrations
from app.main import create_app
from app.services.transactions.policy import TransactionPolicy
from backend_environment import BackendEnvironment
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text


@pytest.fixture(autouse=True)
def no_look_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((readiness, "PROBE_MAX_AGE_S"), (metrics, "MAX_AGE_S")):
        monkeypatch.setattr(module, name, 0)


def test_alive_and_ready(api: ApiEnvironment) -> None:
    assert body_of(api.client.get("/health"), 200) == {"status": "ok"}
    checks = body_of(api.client.get("/ready"), 200)["checks"]
    assert checks == dict.fromkeys(CHECKS, "ok")


@pytest.mark.slow
def test_not_ready_says_what_is_missing_and_what_to_do(api: ApiEnvironment) -> None:
    backend = api.backend
    other_chain = create_app(api.services, SECRET, 1)
    no_node = create_app(services_for(backend, TransactionPolicy(), w3=unreachable_node()), SECRET, 1)
    no_rows = create_app(services_for(backend, TransactionPolicy(), database=unreachable_database()), SECRET, 1)
    for app, name, says in (
        (other_chain, "chain_id", "CHAIN_ID is 1"),
        (no_node, "node", "BLOCKCHAIN_RPC_URL"),
        (no_rows, "database", "DATABASE_URL"),
    ):
        client = TestClient(app)
        problem = problem_of(client.get("/ready"), 503, "not_ready")
        assert says in problem["checks"][name]
        assert body_of(client.get("/health"), 200)
    with backend.database.transaction() as connection:
        connection.execute(text("DELETE FROM schema_migrations WHERE name = '003_operations'"))
    problem = problem_of(api.client.get("/ready"), 503, "not_ready")
    with backend.database.transaction() as connection:
        connection.execute(text("INSERT INTO schema_migrations (name) VALUES ('003_operations')"))
    assert problem["checks"]["migrations"].startswith("003_operations not applied")


def test_a_service_without_its_migration_files_is_not_ready(
    api: ApiEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the files it can't check the database."""
    monkeypatch.setattr(migrations, "MIGRATIONS", tmp_path)
    problem = problem_of(api.client.get("/ready"), 503, "not_ready")
    assert problem["checks"]["migrations"].startswith("The migration files are not there")


@pytest.mark.slow
def test_metrics_show_operations_gas_and_the_wallet(backend: BackendEnvironment) -> None:
    mine_confirmations(backend)
    api = open_api(backend, TransactionPolicy(confirmations=3, give_up_after=0.3))
    for _ in range(2):
        api.host.post("/event-runs", api.run_body(seats=10_000))  # refused: more than a run may have
    body_of(api.host.post("/event-runs", api.run_body()), 202)
    numbers = _numbers(api.client)
    assert (numbers["stakesim_operations_pending"], numbers["stakesim_operations_failed"]) == (1, 0)
    assert (numbers["stakesim_operations{mined}"], numbers["stakesim_operations{rejected}"]) == (1, 2)
    assert numbers["stakesim_operations_held{no_funds}"] == numbers["stakesim_gas_spent_wei_total"] == 0
    assert numbers["stakesim_operations_oldest_pending_seconds"] > 0
    assert numbers[f"stakesim_wallet_balance_wei{{{backend.sender.address}}}"] == float(backend.balance("platform"))

    mine_confirmations(backend)
    [operation] = api.services.reconciler.dry_run().pending
    receipt = api.services.chain.sender.finish(operation)
    numbers = _numbers(api.client)
    assert (numbers["stakesim_operations_pending"], numbers["stakesim_operations{confirmed}"]) == (0, 1)
    assert numbers["stakesim_gas_spent_wei_total"] == receipt.gas_used * receipt.gas_price


@pytest.mark.slow
def test_an_empty_wallet_is_seen_in_the_metrics(backend: BackendEnvironment) -> None:
    api = open_api(backend)
    backend.engine.set_balance(backend.sender.address, 0)
    body_of(api.host.post("/event-runs", api.run_body()), 202)
    numbers = _numbers(api.client)
    balance = numbers[f"stakesim_wallet_balance_eth{{{backend.sender.address}}}"]
    assert (numbers["stakesim_operations_held{no_funds}"], balance) == (1, 0)


@pytest.mark.slow
def test_metrics_show_what_does_not_answer(api: ApiEnvironment) -> None:
    client = TestClient(
        create_app(
            services_for(api.backend, TransactionPolicy(), unreachable_node(), unreachable_database()), SECRET, 1
        )
    )
    numbers = _numbers(client)
    assert (numbers["stakesim_database_up"], numbers["stakesim_node_up"]) == (0, 0)
    assert numbers["stakesim_problem{true}{database}"] == numbers["stakesim_problem{true}{node}"] == 1


def test_an_unexpected_error_is_a_problem_without_details(api: ApiEnvironment) -> None:
    app = create_app(replace(api.services, runs=None), SECRET, 1)  # type: ignore[arg-type]
    api.host.client = TestClient(app, raise_server_exceptions=False)
    response = api.host.get(f"/event-runs/{api.host.id}")
    problem = body_of(response, 500)
    assert response.headers["content-type"] == "application/problem+json"
    assert (problem["type"], problem["code"]) == ("urn:stakesim:problem:internal_error", "internal_error")
    assert "NoneType" not in response.text


def test_unknown_paths_and_methods_are_problems(api: ApiEnvironment) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("PUT", "/event-runs", 405), ("GET", "/%00", 404)):
        response = api.client.request(method, path)
        problem_of(response, status, "unknown_route" if status == 404 else "method_not_allowed")
    assert api.client.put("/event-runs").headers["allow"] == "GET, POST"
    assert api.client.put(f"/event-runs/{api.host.id}").headers["allow"] == "DELETE, GET"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"\xff", 400),
        (b'{"max_seats": ' + b"9" * 5_000 + b"}", 400),  # more digits than Python reads
        (b"[" * 60_000, 400),  # would end the process if it were read
        ("[".encode("utf-16-le") * 20_000, 400),
        (b" " * 100_000, 413),
    ],
    ids=range(7),
)
def test_unreadable_bodies_are_problems(api: ApiEnvironment, body: bytes, status: int) -> None:
    headers = {
        "Authorization": f"Bearer {issue_token(SECRET, api.host.id, 'host')}",
        "Idempotency-Key": "k",
        "Content-Type": "application/json",
    }
    response = api.client.post("/event-runs", content=body, headers=headers)
    assert body_of(response, status)["status"] == status
    assert response.headers["content-type"] == "application/problem+json"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """The lines that are logged as JSON while the test runs."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    configure_json_logging(stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_log_lines_are_json_with_the_operations_key(api: ApiEnvironment, lines: io.StringIO) -> None:
    body_of(api.host.post("/event-runs", api.run_body(), Idempotency_Key="k"), 201)
    logged: list[dict[str, Any]] = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in logged)
    of_sender = [line for line in logged if line["logger"] == "app.services.transactions.sender"]
    assert of_sender
    assert {line["operation"] for line in of_sender} == {f"{api.host.id}:k"}
    [access] = [line for line in logged if line["logger"] == "app.api.middleware"]
    assert (access["method"], access["path"], access["status"]) == ("POST", "/event-runs", 201)
    assert "Bearer" not in lines.getvalue()


def test_log_fields_end_with_their_context(lines: io.StringIO) -> None:
    log = logging.getLogger("test")
    with log_context(operation="a"), log_context(state="mined"):
        log.info("inside")
        log.info("its own", extra={"operation": "b"})
    log.info("outside")
    logged = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [(line.get("operation"), line.get("state")) for line in logged] == [
        ("a", "mined"),
        ("b", "mined"),
        (None, None),
    ]


def _numbers(client: TestClient) -> dict[str, float]:
    """Returns this app's metrics by name, and by label if they have one."""
    response = client.get("/metrics")
    assert response.status_code == 200
    return {
        sample.name + "".join(f"{{{label}}}" for label in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }

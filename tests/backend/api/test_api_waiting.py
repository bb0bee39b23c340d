"""Clients that don't wait, waiting that takes too long, and simultaneous requests with one key."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, cast

import pytest
from anyio import to_thread
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
    use_services,
)
from app.core.security import issue_token
from app.main import create_app
from app.services import operations
from app.services.operation_types import Operation
from app.services.transactions.policy import TransactionPolicy
from backend_environment import BackendEnvironment
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import ASGITransport, AsyncClient
from web3.types import RPCEndpoint

ASYNC = {"Prefer": "respond-async"}


def test_a_client_that_does_not_wait_gets_the_operation_and_later_the_response(
    threaded_backend: BackendEnvironment,
) -> None:
    api = open_api(threaded_backend)
    body = api.run_body()
    response = api.host.post("/event-runs", body, Idempotency_Key="k", **ASYNC)
    operation = body_of(response, 202)
    assert response.headers["location"] == f"/operations/{operation['key']}" == f"/operations/{api.host.id}:k"
    assert response.headers["preference-applied"] == "respond-async"
    assert (operation["kind"], operation["state"]) == ("createEventRunFor", "prepared")

    operation = _closed(api, response.headers["location"])
    assert operation["state"] == "confirmed"
    assert operation["tx_hash"] in operation["tx_hashes"]
    run = body_of(api.host.post("/event-runs", body, Idempotency_Key="k", **ASYNC), 201)
    assert run["id"] == operation["subject"]
    assert body_of(api.host.post("/event-runs", body, Idempotency_Key="k"), 201) == run
    assert len(api.services.runs.list_all()) == 1


def test_a_client_that_does_not_wait_finds_the_error_in_the_operation(threaded_backend: BackendEnvironment) -> None:
    api = open_api(threaded_backend)
    run = api.open_run(seats=1)
    path, body = f"/event-runs/{run['id']}/status", {"status": "completed", "attended_booking_ids": []}
    response = api.host.patch(path, body, Idempotency_Key="k", Prefer="wait=5, Respond-Async; x")
    operation = _closed(api, f"/operations/{body_of(response, 202)['key']}")
    assert (operation["state"], operation["error"]["error"]) == ("rejected", "TooEarly")
    assert operation["error"]["outcome"] == "rejected"
    problem = problem_of(api.host.patch(path, body, Idempotency_Key="k"), 409, "contract_rejected")
    assert problem["arguments"] == operation["error"]["arguments"]
    assert problem["operation"] == operation["key"]


@pytest.mark.slow
def test_waiting_that_takes_too_long_ends_with_the_operation(backend: BackendEnvironment) -> None:
    """Three blocks have to be mined, and are not mined yet."""
    mine_confirmations(backend)
    api = open_api(backend, TransactionPolicy(confirmations=3, give_up_after=0.3))
    body = api.run_body()
    operation = body_of(api.host.post("/event-runs", body, Idempotency_Key="k"), 202)
    assert (operation["state"], operation["nonce"] is None) == ("mined", False)
    [row] = api.services.runs.list_all()
    assert (str(row.id), row.blockchain_status) == (operation["subject"], "pending")
    side_by_side = body_of(api.host.get(f"/event-runs/{row.id}"), 200)
    assert (side_by_side["chain"], side_by_side["database"]["blockchain_status"]) == (None, "pending")
    assert body_of(api.host.post("/event-runs", body, Idempotency_Key="k"), 202)["tx_hash"] == operation["tx_hash"]

    mine_confirmations(backend)
    run = body_of(api.host.post("/event-runs", body, Idempotency_Key="k"), 201)
    assert (run["id"], run["blockchain_tx_hash"]) == (operation["subject"], operation["tx_hash"])


def test_an_empty_wallet_holds_the_operation_until_it_is_topped_up(backend: BackendEnvironment) -> None:
    api, balance = open_api(backend), backend.balance("platform")
    backend.engine.set_balance(backend.sender.address, 0)
    body = api.run_body()
    held = body_of(api.host.post("/event-runs", body, Idempotency_Key="k"), 202)
    assert "insufficient funds" in held["held"]
    backend.engine.set_balance(backend.sender.address, balance)
    api.services.reconciler.run_once(quiet_for=timedelta(0))
    assert body_of(api.host.get("/operations/k"), 200)["state"] == "confirmed"
    body_of(api.host.post("/event-runs", body, Idempotency_Key="k"), 201)


@pytest.mark.slow
def test_an_unreachable_node_is_503_if_nothing_was_stored(backend: BackendEnvironment) -> None:
    api = open_api(backend)
    run = api.open_run()
    client = TestClient(
        create_app(services_for(backend, TransactionPolicy(give_up_after=0.01), unreachable_node()), SECRET, 1)
    )
    api.host.client = api.attendee.client = client
    for response in (
        api.host.post("/event-runs", api.run_body()),
        api.attendee.post("/bookings/create", {"event_run_id": run["id"], "seats": 1}),
        api.attendee.post("/bookings/calculate-cost", {"event_run_id": run["id"], "seats": 1}),
        api.host.get(f"/event-runs/{run['id']}"),
    ):
        problem = problem_of(response, 503, "chain_unavailable")
        assert "operation" not in problem
        assert response.headers["retry-after"] == "5"
        assert "127.0.0.1" not in response.text


@pytest.mark.slow
def test_an_unreachable_database_is_503(backend: BackendEnvironment) -> None:
    api = open_api(backend)
    client = TestClient(
        create_app(services_for(backend, TransactionPolicy(), database=unreachable_database()), SECRET, 1)
    )
    for user, method, path, body in (
        (api.host, "POST", "/event-runs", api.run_body()),
        (api.host, "GET", f"/event-runs/{api.host.id}", None),
        (api.host, "GET", "/operations/k", None),
    ):
        user.client = client
        response = user.request(method, path, body, Idempotency_Key="k")
        problem_of(response, 503, "database_unavailable")
        assert response.headers["retry-after"] == "5"
        assert "127.0.0.1" not in response.text


@pytest.mark.slow
def test_simultaneous_requests_with_one_key_create_one_run_and_get_one_response(racing_api: ApiEnvironment) -> None:
    api = racing_api
    body = api.run_body()
    with ThreadPoolExecutor(8) as threads:
        responses = list(threads.map(lambda _: api.host.post("/event-runs", body, Idempotency_Key="k"), range(8)))
    assert {(r.status_code, r.text) for r in responses} == {(201, responses[0].text)}
    assert len(api.services.runs.list_all()) == 1
    assert len(api.backend.chain.get_host_events(api.backend.wallets["host"].address)) == 1


def test_the_reconciler_completes_open_operations_at_start(threaded_backend: BackendEnvironment) -> None:
    api = open_api(threaded_backend)
    run = api.services.runs.prepare_create(
        api.host.id,
        api.experience,
        threaded_backend.now().replace(year=2101),
        1,
        api.services.pricing.rate().inr_per_eth,
    )
    app = create_app(api.services, SECRET, 1, reconcile_seconds=0.05)
    with TestClient(app):
        deadline = time.monotonic() + 60
        while api.services.runs.list_all()[0].blockchain_status == "pending" and time.monotonic() < deadline:
            time.sleep(0.01)
    assert api.services.runs.get(run.subject or api.host.id).blockchain_status == "confirmed"
    assert "reconciler" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.in_turn
@pytest.mark.slow
def test_44_a_hundred_clients_wait_without_a_thread(racing_api: ApiEnvironment) -> None:
    """While no block comes, all clients wait, and the others are answered."""
    api, backend, count = racing_api, racing_api.backend, 100
    booked_run = api.open_run(seats=count)
    mine_confirmations(backend)
    backend.engine.w3.manager.request_blocking(RPCEndpoint("evm_setAutomine"), [False])
    policy = TransactionPolicy(confirmations=3, give_up_after=60)
    use_services(api.client, services_for(backend, policy))
    token = issue_token(SECRET, api.attendee.id, "attendee")
    body = {"event_run_id": booked_run["id"], "seats": 1}

    async def book(client: AsyncClient, number: int) -> int:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(number)}
        return (await client.post("/bookings/create", json=body, headers=headers)).status_code

    async def scenario() -> tuple[float, int, list[int]]:
        transport = ASGITransport(cast(FastAPI, api.client.app))
        async with AsyncClient(transport=transport, base_url="http://api", timeout=60) as client:
            bookings = [asyncio.create_task(book(client, number)) for number in range(count)]
            while sum(operation.state in ("submitted", "mined") for operation in operations_of(backend)) < count:
                await asyncio.sleep(0.05)
            limiter = to_thread.current_default_thread_limiter()
            for _ in range(100):  # the thread of the last request ends just after the operation is stored as sent
                if (threads := limiter.borrowed_tokens) == 0:
                    break
                await asyncio.sleep(0.05)
            reading = await client.get("/event-runs/" + booked_run["id"], headers={"Authorization": f"Bearer {token}"})
            assert not any(booking.done() for booking in bookings)
            for _ in range(3):
                await to_thread.run_sync(backend.engine.mine)
            return threads, reading.status_code, list(await asyncio.gather(*bookings))

    try:
        threads, reading, statuses = asyncio.run(scenario())
    finally:
        backend.engine.w3.manager.request_blocking(RPCEndpoint("evm_setAutomine"), [True])
    assert (threads, reading) == (0, 200)
    assert statuses == [201] * count


def operations_of(backend: BackendEnvironment) -> list[Operation]:
    with backend.database.autocommit() as connection:
        return operations.open_operations(connection, backend.sender.chain_id)


def _closed(api: ApiEnvironment, path: str) -> Any:
    """Waits until the operation is closed, and returns it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        operation = body_of(api.host.get(path), 200)
        if operation["state"] in ("confirmed", "failed", "rejected"):
            return operation
        time.sleep(0.005)
    raise AssertionError(f"{path} is {operation['state']} after a minute")

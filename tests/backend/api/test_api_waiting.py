"""Clients that don't wait, waiting that takes too long, and clients that ask twice at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from app.main import create_app
from app.services.transactions.policy import TransactionPolicy
from fastapi.testclient import TestClient
from stage import Stage
from visitors import SECRET, Api, answered, bury, no_database, nowhere, open_api, refused, wire

ASYNC = {"Prefer": "respond-async"}


def test_who_does_not_wait_gets_the_operation_and_later_the_answer(shared_stage: Stage) -> None:
    api = open_api(shared_stage)
    body = api.run_body()
    response = api.host.post("/event-runs", body, Idempotency_Key="k", **ASYNC)
    operation = answered(response, 202)
    assert response.headers["location"] == f"/operations/{operation['key']}" == f"/operations/{api.host.id}:k"
    assert response.headers["preference-applied"] == "respond-async"
    assert (operation["kind"], operation["state"]) == ("createEventRunFor", "prepared")

    operation = _closed(api, response.headers["location"])
    assert operation["state"] == "confirmed"
    assert operation["tx_hash"] in operation["tx_hashes"]
    run = answered(api.host.post("/event-runs", body, Idempotency_Key="k", **ASYNC), 201)
    assert run["id"] == operation["subject"]
    assert answered(api.host.post("/event-runs", body, Idempotency_Key="k"), 201) == run
    assert len(api.services.runs.list_all()) == 1


def test_who_does_not_wait_finds_the_refusal_at_the_operation(shared_stage: Stage) -> None:
    api = open_api(shared_stage)
    run = api.open_run(seats=1)
    path, body = f"/event-runs/{run['id']}/status", {"status": "completed", "attended_booking_ids": []}
    response = api.host.patch(path, body, Idempotency_Key="k", Prefer="wait=5, Respond-Async; x")
    operation = _closed(api, f"/operations/{answered(response, 202)['key']}")
    assert (operation["state"], operation["error"]["error"]) == ("rejected", "TooEarly")
    assert operation["error"]["outcome"] == "rejected"
    problem = refused(api.host.patch(path, body, Idempotency_Key="k"), 409, "contract_rejected")
    assert problem["arguments"] == operation["error"]["arguments"]
    assert problem["operation"] == operation["key"]


@pytest.mark.slow
def test_waiting_that_takes_too_long_ends_with_the_operation(stage: Stage) -> None:
    """Three blocks have to pass, and nobody mines them yet."""
    bury(stage)
    api = open_api(stage, TransactionPolicy(confirmations=3, give_up_after=0.3))
    body = api.run_body()
    operation = answered(api.host.post("/event-runs", body, Idempotency_Key="k"), 202)
    assert (operation["state"], operation["nonce"] is None) == ("mined", False)
    [row] = api.services.runs.list_all()
    assert (str(row.id), row.blockchain_status) == (operation["subject"], "pending")
    seen = answered(api.host.get(f"/event-runs/{row.id}"), 200)
    assert (seen["chain"], seen["database"]["blockchain_status"]) == (None, "pending")
    assert answered(api.host.post("/event-runs", body, Idempotency_Key="k"), 202)["tx_hash"] == operation["tx_hash"]

    bury(stage)
    run = answered(api.host.post("/event-runs", body, Idempotency_Key="k"), 201)
    assert (run["id"], run["blockchain_tx_hash"]) == (operation["subject"], operation["tx_hash"])


def test_an_empty_wallet_holds_the_operation_until_it_is_topped_up(stage: Stage) -> None:
    api, balance = open_api(stage), stage.balance("platform")
    stage.engine.set_balance(stage.sender.address, 0)
    body = api.run_body()
    held = answered(api.host.post("/event-runs", body, Idempotency_Key="k"), 202)
    assert "insufficient funds" in held["held"]
    stage.engine.set_balance(stage.sender.address, balance)
    api.services.reconciler.run_once(quiet_for=timedelta(0))
    assert answered(api.host.get("/operations/k"), 200)["state"] == "confirmed"
    answered(api.host.post("/event-runs", body, Idempotency_Key="k"), 201)


@pytest.mark.slow
def test_a_node_out_of_reach_before_anything_is_begun_is_503(stage: Stage) -> None:
    api = open_api(stage)
    run = api.open_run()
    client = TestClient(create_app(wire(stage, TransactionPolicy(give_up_after=0.01), nowhere()), SECRET, 1))
    api.host.client = api.attendee.client = client
    for response in (
        api.host.post("/event-runs", api.run_body()),
        api.attendee.post("/bookings/create", {"event_run_id": run["id"], "seats": 1}),
        api.attendee.post("/bookings/calculate-cost", {"event_run_id": run["id"], "seats": 1}),
        api.host.get(f"/event-runs/{run['id']}"),
    ):
        problem = refused(response, 503, "chain_unavailable")
        assert "operation" not in problem
        assert response.headers["retry-after"] == "5"
        assert "127.0.0.1" not in response.text


def test_a_database_out_of_reach_is_503(stage: Stage) -> None:
    api = open_api(stage)
    client = TestClient(create_app(wire(stage, TransactionPolicy(), database=no_database()), SECRET, 1))
    for visitor, method, path, body in (
        (api.host, "POST", "/event-runs", api.run_body()),
        (api.host, "GET", f"/event-runs/{api.host.id}", None),
        (api.host, "GET", "/operations/k", None),
    ):
        visitor.client = client
        response = visitor.ask(method, path, body, Idempotency_Key="k")
        refused(response, 503, "database_unavailable")
        assert response.headers["retry-after"] == "5"
        assert "127.0.0.1" not in response.text


@pytest.mark.slow
def test_a_client_that_posts_twice_at_once_gets_one_run_and_one_answer(racing_api: Api) -> None:
    api = racing_api
    body = api.run_body()
    with ThreadPoolExecutor(8) as threads:
        responses = list(threads.map(lambda _: api.host.post("/event-runs", body, Idempotency_Key="k"), range(8)))
    assert {(r.status_code, r.text) for r in responses} == {(201, responses[0].text)}
    assert len(api.services.runs.list_all()) == 1
    assert len(api.stage.chain.get_host_events(api.stage.wallets["host"].address)) == 1


def test_the_reconciler_carries_out_at_start_what_was_left(shared_stage: Stage) -> None:
    api = open_api(shared_stage)
    run = api.services.runs.prepare_create(
        api.host.id, api.experience, shared_stage.now().replace(year=2101), 1, api.services.pricing.rate().inr_per_eth
    )
    app = create_app(api.services, SECRET, 1, reconcile_seconds=0.05)
    with TestClient(app):
        deadline = time.monotonic() + 60
        while api.services.runs.list_all()[0].blockchain_status == "pending" and time.monotonic() < deadline:
            time.sleep(0.01)
    assert api.services.runs.get(run.subject or api.host.id).blockchain_status == "confirmed"
    assert "reconciler" not in {thread.name for thread in threading.enumerate()}


def _closed(api: Api, path: str) -> Any:
    """The operation, once nothing more can become of it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        operation = answered(api.host.get(path), 200)
        if operation["state"] in ("confirmed", "failed", "rejected"):
            return operation
        time.sleep(0.005)
    raise AssertionError(f"{path} is {operation['state']} after a minute")

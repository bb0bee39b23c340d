"""HTTP requests in the metrics: counted by template, so that no client can make new series."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from app.api.http_metrics import BUCKETS, CLIENT_GONE, UNMATCHED, HttpMetrics, HttpMetricsMiddleware
from app.bootstrap.services import Services
from app.core.security import issue_token
from fastapi.testclient import TestClient
from monitored import SECRET, app_of, samples_of, value_of
from prometheus_client.samples import Sample
from starlette.types import Message, Receive, Scope, Send

REQUESTS, SECONDS = "stakesim_http_requests_total", "stakesim_http_request_duration_seconds"


def http_samples(client: TestClient) -> list[Sample]:
    return [sample for sample in samples_of(client) if sample.name.startswith("stakesim_http_")]


@pytest.mark.slow
def test_requests_are_counted_and_timed_by_route_and_status(client: TestClient, services: Services) -> None:
    token = issue_token(SECRET, uuid4(), "attendee")
    for _ in range(3):
        assert client.get(f"/event-runs/{uuid4()}", headers={"Authorization": f"Bearer {token}"}).status_code == 404
    assert client.get(f"/event-runs/{uuid4()}").status_code == 401
    assert client.put("/event-runs").status_code == 405
    route = "/event-runs/{event_run_id}"
    assert value_of(client, REQUESTS, method="GET", route=route, status="404") == 3
    assert value_of(client, REQUESTS, method="GET", route=route, status="401") == 1
    assert value_of(client, f"{SECONDS}_count", method="GET", route=route) == 4
    buckets = [sample for sample in http_samples(client) if sample.name == f"{SECONDS}_bucket"]
    bounds = {float(sample.labels["le"]) for sample in buckets if sample.labels["route"] == route}
    assert bounds == {*map(float, BUCKETS), float("inf")}


@pytest.mark.slow
@pytest.mark.in_turn
def test_unknown_paths_and_methods_make_no_new_series(client: TestClient) -> None:
    def use(number: int) -> None:
        client.get(f"/nothing/{number}")
        client.get(f"/event-runs/{uuid4()}?page={number}")
        client.request(f"METHOD{number}", "/event-runs")
        client.get(f"/event-runs/{number}%2F..%2F{number}")
        client.post(f"/bookings/{uuid4()}/cancel", content=b"[" * (200 + number))

    use(0)
    samples_of(client)
    first = {(sample.name, *sorted(sample.labels.items())) for sample in http_samples(client)}
    for number in range(1, 200):
        use(number)
    assert {(sample.name, *sorted(sample.labels.items())) for sample in http_samples(client)} == first
    assert value_of(client, REQUESTS, method="GET", route=UNMATCHED) >= 200
    assert value_of(client, REQUESTS, method="other") == 200


@pytest.mark.slow
def test_an_unexpected_error_counts_as_500(services: Services) -> None:
    client = TestClient(app_of(replace(services, runs=None)), raise_server_exceptions=False)  # type: ignore[arg-type]
    token = issue_token(SECRET, uuid4(), "host")
    assert client.get(f"/event-runs/{uuid4()}", headers={"Authorization": f"Bearer {token}"}).status_code == 500
    assert value_of(client, REQUESTS, method="GET", status="500") == 1


@pytest.mark.parametrize("starts", [False, True])
def test_an_error_after_the_app_counts_as_500_even_if_a_response_has_begun(starts: bool) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        if starts:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("nobody foresaw this")

    with pytest.raises(ValueError, match="nobody foresaw"):
        run(broken, metrics := HttpMetrics())
    assert statuses(metrics) == {"500": 1}


def test_a_client_that_goes_away_counts_as_such() -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        """Responds to nobody."""

    run(silent, metrics := HttpMetrics())
    assert statuses(metrics) == {str(CLIENT_GONE): 1}


def test_what_is_no_request_is_passed_on_uncounted() -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    run(app, metrics := HttpMetrics(), kind="lifespan")
    assert (seen, statuses(metrics)) == (["lifespan"], {})


def run(app: Any, metrics: HttpMetrics, kind: str = "http") -> None:
    """Sends one request through the middleware."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        """Drops the response."""

    scope = {"type": kind, "method": "GET", "path": "/"}
    asyncio.run(HttpMetricsMiddleware(app, metrics)(scope, receive, send))


def statuses(metrics: HttpMetrics) -> dict[str, float]:
    return {
        sample.labels["status"]: sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.name == REQUESTS
    }

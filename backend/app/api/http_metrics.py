"""Metrics of HTTP requests: how many, and how long they took, by method, route and status."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import Counter, Histogram, disable_created_metrics
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Upper bounds in seconds: reading takes milliseconds, waiting for a final block up to two minutes."""
UNMATCHED = "unmatched"
"""Label of requests that reached no route: unknown paths, and what was refused before."""
CLIENT_GONE = 499
"""Status of requests without a response, as the client went away; nginx logs the same number."""

disable_created_metrics()  # type: ignore[no-untyped-call]


class HttpMetrics(Collector):
    """Counts the requests of one app. No label has a value that a client chooses, so their number is bounded."""

    def __init__(self) -> None:
        self._requests = Counter(
            "stakesim_http_requests", "HTTP requests", ["method", "route", "status"], registry=None
        )
        self._seconds = Histogram(
            "stakesim_http_request_duration_seconds",
            "Time from a request's head to the end of its response",
            ["method", "route"],
            buckets=BUCKETS,
            registry=None,
        )

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Counts one request.

        Args:
            scope: Its ASGI scope, after the app has handled it.
            status: HTTP status of the response.
            seconds: How long it took.
        """
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = getattr(scope.get("route"), "path_format", UNMATCHED)
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def collect(self) -> Iterable[Metric]:
        """Yields the metrics."""
        yield from self._requests.collect()
        yield from self._seconds.collect()


class HttpMetricsMiddleware:
    """Counts and times each request. To be the outermost middleware."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and counts it after the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at, status = time.perf_counter(), CLIENT_GONE

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note_status)
        except Exception:
            status = 500
            raise
        finally:
            self._metrics.observe(scope, status, time.perf_counter() - started_at)

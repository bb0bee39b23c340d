"""The HTTP API: wiring only. To start it: `uvicorn --factory app.main:from_settings`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import SecretStr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import bookings, event_runs, health, operations, problems
from app.api.middleware import BoundedBodies
from app.bootstrap.checks import connect_ready, read_settings
from app.bootstrap.container import Services
from app.core.logs import log_as_json
from app.services.reconciler import Reconciler

MOST_WAITING = 100
"""Requests that may wait for the chain at once, each in a thread; more wait for one of those to end."""
LONGEST_ROUND_S = 10
"""How long the end of the process waits for the reconciler; what it leaves, the next one finds."""

DESCRIPTION = """
Event runs and bookings with a stake, kept by a contract on Ethereum. The platform's wallet sends all transactions.

**Who may.** Send `Authorization: Bearer <token>`. A host acts on own runs, an attendee on own bookings, the platform on
all.

**Once.** What sends a transaction takes an `Idempotency-Key`: however often the request is repeated with it, there is
one effect, and the same answer. The same key with another request is refused with 409.

**Waiting.** An answer comes when the transaction is final, which takes some blocks. With `Prefer: respond-async` it is
202 with the operation, at once; `GET /operations/{key}` tells what became of it. It is 202, too, when waiting takes too
long.

**Money.** INR are strings with two decimals, wei are strings of digits. Times are RFC 3339, in UTC.

**Problems** are told as RFC 9457 says, in `application/problem+json`.
"""

log = logging.getLogger(__name__)


def from_settings() -> FastAPI:
    """The app as the environment and `.env` say, for uvicorn. Raises `NotReady`, `DatabaseUnavailable`."""
    log_as_json()
    settings = read_settings()
    services = connect_ready(settings)
    return create_app(services, settings.jwt_secret, settings.chain_id, settings.reconcile_seconds)


def create_app(
    services: Services, jwt_secret: SecretStr, chain_id: int, reconcile_seconds: float | None = None
) -> FastAPI:
    """jwt_secret: of the bearer tokens. chain_id: that the node has to be on to be ready. reconcile_seconds: how often
    database and chain are brought together while the app runs; None: somebody else does so.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = MOST_WAITING
        stop, thread = threading.Event(), None
        if reconcile_seconds is not None:
            given = (services.reconciler, reconcile_seconds, stop)
            thread = threading.Thread(target=_reconcile, args=given, name="reconciler", daemon=True)
            thread.start()
        yield
        stop.set()
        if thread is not None:
            await to_thread.run_sync(thread.join, LONGEST_ROUND_S)

    app = FastAPI(title="stakesim", version="1", description=DESCRIPTION, lifespan=lifespan)
    app.state.services, app.state.jwt_secret, app.state.chain_id = services, jwt_secret, chain_id
    for part in (event_runs, bookings, operations, health):
        app.include_router(part.router)
    problems.install(app)
    app.add_middleware(BoundedBodies)
    app.add_middleware(_AccessLog)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _reconcile(reconciler: Reconciler, seconds: float, stop: threading.Event) -> None:
    """Everything at once, and then what may have changed, again and again. What goes wrong in one round may go well in
    the next."""
    round = reconciler.run_full
    while True:
        try:
            round()
            round = reconciler.run_once
        except Exception:
            log.exception("the reconciler could not do its round")
        if stop.wait(seconds):
            return


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The schema as FastAPI makes it, and the one of problems, which its routes refer to."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = schema["components"]["schemas"]
        schemas["Problem"] = problems.SCHEMA
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = schema
    return app.openapi_schema


class _AccessLog:
    """One line for each request. What is in headers and bodies is not logged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            took = round(time.perf_counter() - begun, 4)
            fields = {"method": scope["method"], "path": scope["path"], "status": status, "seconds": took}
            log.info("%s %s %s", scope["method"], scope["path"], status, extra=fields)

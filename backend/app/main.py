"""Builds the ASGI app. Start it with `uvicorn --factory app.main:from_settings`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.types import Lifespan

from app.api import bookings, docs_page, event_runs, health, operations, pause, payments, problems
from app.api.background import ReconcilerThread, stop_waiting_on_signal
from app.api.http_metrics import HttpMetrics, HttpMetricsMiddleware
from app.api.middleware import (
    CrossOriginMiddleware,
    RequestLimitMiddleware,
    RequestMiddleware,
    UnexpectedErrorMiddleware,
)
from app.api.openapi import DESCRIPTION, openapi_document
from app.api.policy import HttpPolicy, http_policy
from app.api.turns import WriteTurnsMiddleware
from app.bootstrap.checks import connect_verified_services, read_settings
from app.bootstrap.payment_checks import describe_payments
from app.bootstrap.services import Services
from app.core.logs import configure_json_logging

log = logging.getLogger(__name__)


def from_settings() -> FastAPI:
    """Builds the app from the settings in the environment and `.env`, as a factory for uvicorn.

    Raises:
        NotReady: A setting, or a fatal check of network, contract or database, failed.
        DatabaseUnavailable: No database answers.
    """
    configure_json_logging()
    settings = read_settings()
    services = connect_verified_services(settings)
    log.log(logging.WARNING if services.payments is None else logging.INFO, "%s", describe_payments(settings))
    return create_app(
        services, settings.jwt_secret, settings.chain_id, settings.reconcile_seconds, http_policy(settings)
    )


def create_app(
    services: Services,
    jwt_secret: SecretStr,
    chain_id: int,
    reconcile_seconds: float | None = None,
    policy: HttpPolicy | None = None,
) -> FastAPI:
    """Builds the app on services that the caller has opened.

    Args:
        services: The use cases.
        jwt_secret: Key that signs the bearer tokens.
        chain_id: Id of the network (EIP-155) that the node must be on for `/ready`.
        reconcile_seconds: Seconds between two rounds of the reconciler; the app runs no reconciler if None.
        policy: Tokens and headers; the default policy if None.
    """
    policy = policy or HttpPolicy()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with stop_waiting_on_signal(services.follower.stop):
            if reconcile_seconds is None:
                yield
            else:
                reconciler = ReconcilerThread(services.reconciler, reconcile_seconds)
                reconciler.start()
                yield
                await to_thread.run_sync(reconciler.stop)
        services.follower.stop()

    app = _app_with_routes(lifespan)
    app.state.services, app.state.jwt_secret, app.state.chain_id = services, jwt_secret, chain_id
    app.state.policy = policy
    app.state.http_metrics = HttpMetrics()
    problems.add_exception_handlers(app)
    app.add_middleware(WriteTurnsMiddleware)
    app.add_middleware(RequestLimitMiddleware)
    app.add_middleware(UnexpectedErrorMiddleware)
    if policy.cors_origins:
        app.add_middleware(CrossOriginMiddleware, origins=policy.cors_origins)
    app.add_middleware(RequestMiddleware, hsts_seconds=policy.hsts_seconds)
    app.add_middleware(HttpMetricsMiddleware, metrics=app.state.http_metrics)
    return app


def api_document() -> dict[str, Any]:
    """Returns the OpenAPI document. It depends on no setting, and needs neither database nor node."""
    return _app_with_routes().openapi()


def _app_with_routes(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    app = FastAPI(
        title="stakesim",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,
        redoc_url=None,
    )
    for module in (event_runs, bookings, payments, operations, pause, health, docs_page):
        app.include_router(module.router)
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]
    return app

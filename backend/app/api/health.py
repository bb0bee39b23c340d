"""Routes for monitoring: liveness, readiness, metrics."""

from __future__ import annotations

import logging

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.api import schemas
from app.api.dependencies import AppServices
from app.api.metrics import metrics_registry
from app.api.problems import problem_response, problem_responses
from app.api.responses import json_response
from app.bootstrap.container import Services
from app.core.errors import DatabaseUnavailable, MigrationsMissing
from app.db.migrations import missing_migrations
from app.services import rpc
from app.services.rpc_errors import NODE_ERRORS

router = APIRouter(tags=["health"])
log = logging.getLogger(__name__)


@router.get("/health", response_model=schemas.Alive, summary="Whether the process is alive")
async def health() -> Response:
    """Responds as long as the process runs; checks nothing."""
    return json_response(200, schemas.Alive())


@router.get(
    "/ready",
    response_model=schemas.Ready,
    summary="Whether database, migrations, node and network are ready",
    responses=problem_responses(503),
)
def ready(request: Request, services: AppServices) -> Response:
    """503 names each check that failed, and what to do."""
    checks = _check_database(services) | _check_node(services, request.app.state.chain_id)
    if all(result == "ok" for result in checks.values()):
        return json_response(200, schemas.Ready(checks=checks))
    failed = "; ".join(f"{name}: {result}" for name, result in checks.items() if result != "ok")
    return problem_response(503, "not_ready", failed, checks=checks)


@router.get(
    "/metrics",
    response_class=Response,
    summary="Metrics for Prometheus",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(services: AppServices) -> Response:
    """Reads database and node; responds also if they do not answer."""
    return Response(generate_latest(metrics_registry(services)), media_type=CONTENT_TYPE_LATEST)


def _check_database(services: Services) -> dict[str, str]:
    try:
        missing = missing_migrations(services.database.engine)
    except DatabaseUnavailable as error:
        return {"database": f"{error.reason}: is it up, and is DATABASE_URL right?"}
    except MigrationsMissing as error:
        return {"database": "ok", "migrations": error.message}
    if not missing:
        return {"database": "ok", "migrations": "ok"}
    remedy = "`stakesim serve` applies them, as does running the files in order"
    return {"database": "ok", "migrations": f"{', '.join(missing)} not applied: {remedy}"}


def _check_node(services: Services, chain_id: int) -> dict[str, str]:
    try:
        chain_id_of_node = rpc.chain_id(services.w3)
    except NODE_ERRORS as error:
        log.warning("the node does not answer: %s", type(error).__name__)
        return {"node": "does not answer: is BLOCKCHAIN_RPC_URL right, and the node up?"}
    if chain_id_of_node != chain_id:
        return {"node": "ok", "chain_id": f"the node is on chain {chain_id_of_node}, CHAIN_ID is {chain_id}"}
    return {"node": "ok", "chain_id": "ok"}

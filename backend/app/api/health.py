"""Is it alive, is it ready, and how is it doing: for whatever watches over the process."""

from __future__ import annotations

import logging

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app.api import schemas
from app.api.dependencies import ServicesOf, shown
from app.api.problems import DATABASE_TROUBLE, documented, problem
from app.bootstrap.container import Services
from app.bootstrap.metrics import registry_of
from app.core.errors import MigrationsMissing
from app.db.session import migration_files
from app.services.rpc_errors import NODE_ERRORS

router = APIRouter(tags=["health"])
log = logging.getLogger(__name__)


@router.get("/health", response_model=schemas.Alive, summary="Whether the process is alive")
async def health() -> Response:
    return shown(200, schemas.Alive())


@router.get(
    "/ready",
    response_model=schemas.Ready,
    summary="Whether it can serve: database, migrations, node, network",
    responses=documented(503),
)
def ready(request: Request, services: ServicesOf) -> Response:
    """With every check that failed, what to do about it."""
    checks = _database(services) | _node(services, request.app.state.chain_id)
    if all(told == "ok" for told in checks.values()):
        return shown(200, schemas.Ready(checks=checks))
    failed = "; ".join(f"{name}: {told}" for name, told in checks.items() if told != "ok")
    return problem(503, "not_ready", failed, checks=checks)


@router.get(
    "/metrics",
    response_class=Response,
    summary="Numbers for Prometheus",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(services: ServicesOf) -> Response:
    return Response(generate_latest(registry_of(services)), media_type=CONTENT_TYPE_LATEST)


def _database(services: Services) -> dict[str, str]:
    try:
        with services.database.begin() as connection:
            applied = set(connection.scalars(text("SELECT name FROM schema_migrations")))
    except DATABASE_TROUBLE:
        return {"database": "does not answer: is it up, and is DATABASE_URL right?"}
    except ProgrammingError:  # there is no such table
        applied = set()
    try:
        missing = sorted({path.stem for path in migration_files()} - applied)
    except MigrationsMissing as error:
        return {"database": "ok", "migrations": error.message}
    told = (
        f"{', '.join(missing)} not applied: `stakesim serve` applies them, as does running the files in order"
        if missing
        else "ok"
    )
    return {"database": "ok", "migrations": told}


def _node(services: Services, chain_id: int) -> dict[str, str]:
    try:
        found = services.w3.eth.chain_id
    except NODE_ERRORS as error:
        log.warning("the node does not answer: %s", type(error).__name__)
        return {"node": "does not answer: is BLOCKCHAIN_RPC_URL right, and the node up?"}
    if found != chain_id:
        return {"node": "ok", "chain_id": f"the node is on chain {found}, CHAIN_ID is {chain_id}"}
    return {"node": "ok", "chain_id": "ok"}

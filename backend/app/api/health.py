"""Routes for monitoring: liveness, readiness, metrics. None of them waits behind other requests."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.api import schemas
from app.api.metrics import metrics_of
from app.api.problems import problem_response, problem_responses
from app.api.readiness import readiness_of
from app.api.responses import json_response

CHECKS = (
    "database",
    "migrations",
    "node",
    "chain_id",
    "head",
    "finality",
    "reconciler",
    "contract",
    "pause",
    "nonces",
    "orphans",
    "wallet",
    "operations",
    "price",
)
"""Names of all checks of `/ready`."""

router = APIRouter(tags=["health"])


@router.get(
    "/health", response_model=schemas.Alive, summary="Whether the process is alive", responses=problem_responses()
)
async def get_health() -> Response:
    """Responds as long as the process runs; checks nothing."""
    return json_response(200, schemas.Alive())


@router.get(
    "/ready",
    response_model=schemas.Ready,
    summary="Whether the service can carry out operations, and what stands still",
    responses=problem_responses("not_ready"),
)
async def get_readiness(request: Request) -> Response:
    """503 names each check because of which the service is not ready, and what to do.

    A check that is not `ok` in a response of 200 needs attention, such as an operation that is held for itself.
    """
    problems = await readiness_of(request).problems()
    checks = dict.fromkeys(CHECKS, "ok")
    for problem in sorted(problems, key=lambda problem: not problem.blocks):
        earlier = checks[problem.check]
        checks[problem.check] = problem.message if earlier == "ok" else f"{earlier}; {problem.message}"
    if not any(problem.blocks for problem in problems):
        return json_response(200, schemas.Ready(checks=checks))
    failed = "; ".join(f"{problem.check}: {problem.message}" for problem in problems if problem.blocks)
    return problem_response("not_ready", failed, checks=checks)


@router.get(
    "/metrics",
    response_class=Response,
    summary="Metrics for Prometheus",
    responses=problem_responses() | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_metrics(request: Request) -> Response:
    """Reads database and node; responds also if they do not answer."""
    return Response(generate_latest(await metrics_of(request)), media_type=CONTENT_TYPE_LATEST)

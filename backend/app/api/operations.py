"""Operations: what became of something that was asked of the chain."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.api import schemas
from app.api.dependencies import CallerOf, ServicesOf, shown
from app.api.problems import documented
from app.core.errors import NotFound
from app.core.security import Forbidden
from app.services import operations

router = APIRouter(tags=["operations"])

Key = Annotated[
    str, Path(pattern="^[A-Za-z0-9._~:-]{1,300}$", description="Of the operation; or the caller's Idempotency-Key.")
]


@router.get(
    "/operations/{key}",
    response_model=schemas.Operation,
    summary="What became of an operation",
    responses=documented(401, 403, 404, 422, 503),
)
def show_operation(key: Key, services: ServicesOf, caller: CallerOf) -> Response:
    """For whoever asked for it, and the platform. A key without a colon is the caller's own Idempotency-Key."""
    key = key if ":" in key else f"{caller.id}:{key}"
    if caller.role != "platform" and not key.startswith(f"{caller.id}:"):
        raise Forbidden("Only who asked for an operation, and the platform, may see it.")
    with services.database.transaction() as connection:
        found = operations.find(connection, key)
    if found is None:
        raise NotFound(f"There is no operation {key}.")
    return shown(200, schemas.Operation.of(found))

"""Route of operations: shows the state of a requested transaction."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.api import schemas
from app.api.dependencies import AppServices, CurrentCaller
from app.api.idempotency import scoped_key
from app.api.problems import problem_responses
from app.api.responses import json_response
from app.core.errors import NotFound
from app.core.security import Forbidden
from app.services import operations

router = APIRouter(tags=["operations"])

KeyInPath = Annotated[
    str, Path(pattern="^[A-Za-z0-9._~:-]{1,300}$", description="Key of the operation, or the caller's Idempotency-Key.")
]


@router.get(
    "/operations/{key}",
    response_model=schemas.Operation,
    summary="Show the state of an operation",
    responses=problem_responses(401, 403, 404, 422, 503),
)
def show_operation(key: KeyInPath, services: AppServices, caller: CurrentCaller) -> Response:
    """The user who requested it and the platform may do this. A key without a colon is the caller's Idempotency-Key."""
    key = key if ":" in key else scoped_key(caller, key)
    if caller.role != "platform" and not key.startswith(scoped_key(caller, "")):
        raise Forbidden("Only the user who requested an operation, and the platform, may see it.")
    with services.database.transaction() as connection:
        operation = operations.find(connection, key)
    if operation is None:
        raise NotFound(f"There is no operation {key}.")
    return json_response(200, schemas.Operation.from_operation(operation))

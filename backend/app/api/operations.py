"""Routes of operations: list and show the state of requested transactions."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from app.api import schemas
from app.api.dependencies import AppServices, CurrentCaller, require_platform
from app.api.idempotency import scoped_key
from app.api.pagination import PageQuery, respond_with_page
from app.api.problem_types import READING
from app.api.problems import problem_responses
from app.api.responses import json_response
from app.core.errors import NotFound
from app.core.security import Forbidden
from app.services import interventions, operations
from app.services.lists import operation_page

router = APIRouter(tags=["operations"])

KeyInPath = Annotated[
    str, Path(pattern="^[A-Za-z0-9._~:-]{1,300}$", description="Key of the operation, or the caller's Idempotency-Key.")
]


class OperationQuery(PageQuery):
    """Which operations to list."""

    state: schemas.OperationState | None = None
    held: bool | None = Field(None, description="true: those that can't proceed at present; false: all others.")


@router.get(
    "/operations",
    response_model=schemas.OperationPage,
    summary="List operations",
    responses=problem_responses(*READING, "invalid_cursor"),
)
def list_operations(
    query: Annotated[OperationQuery, Query()], services: AppServices, caller: CurrentCaller
) -> Response:
    """The platform sees all operations, others those that they requested. Newest first."""
    caller_id = None if caller.role == "platform" else caller.id
    read = partial(operation_page, services.database, caller_id=caller_id, state=query.state, held=query.held)
    return respond_with_page(query, caller, "operations", read, schemas.OperationPage, str)


@router.post(
    "/operations/{key}/approve",
    response_model=schemas.Operation,
    summary="Approve an operation above a limit",
    responses=problem_responses(*READING, "forbidden", "not_found", "nothing_to_approve"),
)
def approve_operation(key: KeyInPath, request: Request, services: AppServices, caller: CurrentCaller) -> Response:
    """The platform may do this. The operation is sent within seconds, whatever the limits; no other one is.

    Repeated, it changes nothing; so it takes no Idempotency-Key.
    """
    require_platform(caller)
    key = request.state.operation = key if ":" in key else scoped_key(caller, key)
    operation = interventions.approve_operation(services.database, services.sender.sealer, key, str(caller.id))
    return json_response(200, schemas.Operation.from_operation(operation))


@router.get(
    "/operations/{key}",
    response_model=schemas.Operation,
    summary="Show the state of an operation",
    responses=problem_responses(*READING, "forbidden", "not_found"),
)
def get_operation(key: KeyInPath, request: Request, services: AppServices, caller: CurrentCaller) -> Response:
    """The user who requested it and the platform may do this. A key without a colon is the caller's Idempotency-Key."""
    key = request.state.operation = key if ":" in key else scoped_key(caller, key)
    if caller.role != "platform" and not key.startswith(scoped_key(caller, "")):
        raise Forbidden("Only the user who requested an operation, and the platform, may see it.")
    with services.database.transaction() as connection:
        operation = operations.find(connection, key)
    if operation is None:
        raise NotFound(f"There is no operation {key}.")
    return json_response(200, schemas.Operation.from_operation(operation))

"""Responses of success: a JSON body, or 202 with an operation that is not final yet."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from pydantic import BaseModel

from app.api import schemas
from app.api.problems import RETRY_AFTER_S
from app.services.operation_types import Operation

ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": schemas.Operation,
        "description": "The operation is stored and will be carried out. Sent where the request has "
        "`Prefer: respond-async`, and where waiting took too long.",
        "headers": {
            "Location": {"description": "URL of the operation.", "schema": {"type": "string"}},
            "Preference-Applied": {"schema": {"type": "string"}},
        },
    }
}
"""Argument `responses` of a route that responds 202."""


def json_response(status: int, body: BaseModel, headers: dict[str, str] | None = None) -> Response:
    """Returns a response with the body as JSON."""
    return Response(body.model_dump_json(), status, headers, "application/json")


def accepted_response(operation: Operation, headers: dict[str, str] | None = None) -> Response:
    """Returns 202 with the operation, its URL, and the seconds after which to read it again."""
    polling = {"Location": f"/operations/{operation.key}", "Retry-After": str(RETRY_AFTER_S)}
    return json_response(202, schemas.Operation.from_operation(operation), polling | (headers or {}))

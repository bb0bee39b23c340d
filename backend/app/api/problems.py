"""Error responses: problem details (RFC 9457)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from app.core.errors import (
    AppError,
    Cancelled,
    ChainUnavailable,
    ContractRejected,
    DatabaseUnavailable,
    Expired,
    InvalidRequest,
    KeyReused,
    NotFound,
    NotOnChain,
    PriceError,
    Superseded,
    TransactionRefused,
    UnexpectedReceipt,
    UnsupportedByContract,
)
from app.core.security import Forbidden, Unauthenticated

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
"""Seconds after which a client should repeat a request that got 503, or read an operation again."""

_STATUS: dict[type[AppError], int] = {
    InvalidRequest: 422,
    NotOnChain: 409,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    KeyReused: 409,
    ContractRejected: 409,
    Superseded: 409,
    TransactionRefused: 409,
    Expired: 409,
    Cancelled: 409,
    UnsupportedByContract: 501,
    UnexpectedReceipt: 502,
    ChainUnavailable: 503,
    DatabaseUnavailable: 503,
    PriceError: 503,
}
"""HTTP status by error class. A subclass has the status of its base class."""
_DESCRIPTIONS = {
    400: "The request can't be parsed, or lacks its Idempotency-Key.",
    401: "There is no valid bearer token.",
    403: "The caller may not do this.",
    404: "There is no such user, experience, event run, booking or operation.",
    408: "The request did not arrive in time.",
    409: "The contract rejected the operation, the object is not on chain, or the Idempotency-Key was used before.",
    413: "The body is too long.",
    422: "The request is not valid.",
    501: "The deployed contract does not have this function.",
    502: "The transaction was mined without the expected events.",
    503: "The database, the node or the price feed does not answer at present.",
}
"""Descriptions for the OpenAPI document, by HTTP status."""

log = logging.getLogger(__name__)


def problem_response(
    status: int, code: str | None, detail: str, headers: Mapping[str, str] | None = None, **extra: Any
) -> Response:
    """Returns a response with problem details.

    Args:
        status: HTTP status.
        code: Kind of the problem, for machines; None to use the status for it.
        detail: What is wrong, in a sentence.
        headers: More headers.
        extra: More members of the problem details.
    """
    phrase = HTTPStatus(status).phrase
    members = {
        "type": f"urn:stakesim:problem:{code}" if code else "about:blank",
        "title": code.replace("_", " ").capitalize() if code else phrase,
        "status": status,
        "detail": detail,
        "code": code or phrase.lower().replace(" ", "_"),
        **extra,
    }
    retry_after = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    return Response(json.dumps(members), status, retry_after | dict(headers or {}), MEDIA_TYPE)


def problem_from_error(error: AppError, operation_key: str | None = None) -> Response:
    """Returns a response with the error as problem details, and the key of the operation that ended with it."""
    status = next((_STATUS[base] for base in type(error).__mro__ if base in _STATUS), 500)
    extra: dict[str, Any] = {"operation": operation_key} if operation_key else {}
    if isinstance(error, ContractRejected):
        extra |= {"error": error.name, "arguments": json_arguments(error.args), "outcome": error.outcome}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return problem_response(status, error.code, error.message, headers, **extra)


def json_arguments(args: Sequence[Any]) -> list[Any]:
    """Converts a contract error's arguments for JSON: numbers become strings, as JSON parsers round a uint256."""
    return [arg if isinstance(arg, bool) else str(arg) for arg in args]


def add_exception_handlers(app: FastAPI) -> None:
    """Adds handlers with which the app responds to every exception with problem details."""

    @app.exception_handler(AppError)
    async def on_app_error(request: Request, error: AppError) -> Response:
        return problem_from_error(error, error.operation if isinstance(error, ChainUnavailable) else None)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(request: Request, error: RequestValidationError) -> Response:
        return _validation_problem(error.errors())

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == 405:  # Starlette lists the methods of the first route with this path only
            headers["Allow"] = ", ".join(sorted(_allowed_methods(app, request)))
        return problem_response(error.status_code, None, str(error.detail), headers)

    @app.exception_handler(DatabaseUnavailable)
    async def on_database_error(request: Request, error: DatabaseUnavailable) -> Response:
        log.error("%s", error.message)
        return problem_from_error(error)

    @app.exception_handler(Exception)
    async def on_unexpected_error(request: Request, error: Exception) -> Response:
        # Starlette raises the error again after this, and uvicorn logs it
        return problem_response(500, None, "An unexpected error occurred; the service's log has it.")


def _validation_problem(errors: Sequence[Any]) -> Response:
    if any(error["type"] == "missing" and error["loc"] == ("header", "Idempotency-Key") for error in errors):
        detail = (
            "Send an Idempotency-Key header, such as a new UUID for each thing that is to be done: repeated with "
            "the same key, it is done once."
        )
        return problem_response(400, "idempotency_key_missing", detail)
    located_errors = [{"where": ".".join(map(str, error["loc"])), "message": error["msg"]} for error in errors]
    detail = "; ".join(f"{error['where']}: {error['message']}" for error in located_errors)
    return problem_response(422, InvalidRequest.code, detail, errors=located_errors)


def _allowed_methods(app: FastAPI, request: Request) -> set[str]:
    """Returns the methods of all routes at the path of the request."""
    return {
        method.upper()
        for path, methods in app.openapi()["paths"].items()
        if compile_path(path)[0].match(request.url.path)
        for method in methods
    }


# ----------------------------------------------------------------------------------------------- documentation

PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "Problem details (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "Stable identifier of the kind of problem."},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong with this request, in a sentence."},
        "code": {"type": "string", "description": "Kind of the problem, for machines."},
        "operation": {"type": "string", "description": "Key of the operation that ended with this problem."},
        "error": {"type": "string", "description": "Name of the contract's error."},
        "arguments": {
            "type": "array",
            "items": {"type": ["string", "boolean"]},
            "description": "Arguments of the contract's error.",
        },
        "outcome": {
            "enum": ["rejected", "reverted"],
            "description": "rejected: no transaction was sent; reverted: it failed on chain, and gas was paid.",
        },
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["where", "message"],
                "properties": {"where": {"type": "string"}, "message": {"type": "string"}},
            },
        },
        "checks": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}

_CONFLICT_EXAMPLE = {
    "type": f"urn:stakesim:problem:{ContractRejected.code}",
    "title": "Contract rejected",
    "status": 409,
    "detail": "bookEventFor was refused by the contract: NotEnoughSeats (requested 3, available 2).",
    "code": ContractRejected.code,
    "operation": "44444444-0000-4000-8000-000000000000:my-key",
    "error": "NotEnoughSeats",
    "arguments": ["3", "2"],
    "outcome": "rejected",
}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the argument `responses` of a route that responds with problem details in these cases."""
    content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        example = {"example": _CONFLICT_EXAMPLE} if status == 409 else {}
        responses[status] = {"description": _DESCRIPTIONS[status], "content": {MEDIA_TYPE: content | example}}
    return responses

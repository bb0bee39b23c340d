"""Whatever goes wrong, as problem details (RFC 9457)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from app.core.errors import (
    AppError,
    ChainUnavailable,
    ContractRejected,
    DatabaseUnavailable,
    InvalidRequest,
    KeyReused,
    NotFound,
    NotOnChain,
    PriceError,
    Superseded,
    UnexpectedReceipt,
    UnsupportedByContract,
)
from app.core.security import Forbidden, Unauthenticated

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
DATABASE_TROUBLE = (OperationalError, InterfaceError, PoolTimeout)
"""What SQLAlchemy raises when the database is gone, or too busy."""

_STATUS: dict[type[AppError], int] = {
    InvalidRequest: 422,
    NotOnChain: 409,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    KeyReused: 409,
    ContractRejected: 409,
    Superseded: 409,
    UnsupportedByContract: 501,
    UnexpectedReceipt: 502,
    ChainUnavailable: 503,
    DatabaseUnavailable: 503,
    PriceError: 503,
}
_TITLES = {
    400: "The request can't be read",
    401: "Who is calling is not known",
    403: "The caller may not do this",
    404: "There is no such thing",
    409: "The request conflicts with what is",
    413: "The body is too large",
    422: "The request is not valid",
    501: "The deployed contract can't do this",
    502: "The chain said something unexpected",
    503: "Something that this needs is out of reach for now",
}
"""By status, for the documentation."""

log = logging.getLogger(__name__)


def problem(
    status: int, code: str | None, detail: str, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    """code: for machines; None for a problem that is told by its HTTP status alone. more: further members."""
    phrase = HTTPStatus(status).phrase
    members = {
        "type": f"urn:stakesim:problem:{code}" if code else "about:blank",
        "title": code.replace("_", " ").capitalize() if code else phrase,
        "status": status,
        "detail": detail,
        "code": code or phrase.lower().replace(" ", "_"),
        **more,
    }
    head = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    return Response(json.dumps(members), status, head | dict(headers or {}), MEDIA_TYPE)


def of(error: AppError, operation: str | None = None) -> Response:
    """operation: the key of that which came to this error."""
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
    more: dict[str, Any] = {"operation": operation} if operation else {}
    if isinstance(error, ContractRejected):
        more |= {"error": error.name, "arguments": plain(error.args), "outcome": error.outcome}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return problem(status, error.code, error.message, headers, **more)


def plain(args: Sequence[Any]) -> list[Any]:
    """A contract error's arguments in JSON: numbers as strings, as a uint256 is none of JSON's."""
    return [arg if isinstance(arg, bool) else str(arg) for arg in args]


def install(app: FastAPI) -> None:
    """Lets the app answer every error with problem details."""

    @app.exception_handler(AppError)
    async def _(request: Request, error: AppError) -> Response:
        operation = error.operation if isinstance(error, ChainUnavailable) else None
        return of(error, operation)

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> Response:
        errors = error.errors()
        if any(e["type"] == "missing" and e["loc"] == ("header", "Idempotency-Key") for e in errors):
            detail = (
                "Send an Idempotency-Key header, such as a new UUID for each thing that is to be done: repeated with "
                "the same key, it is done once."
            )
            return problem(400, "idempotency_key_missing", detail)
        where = [{"where": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in errors]
        told = "; ".join(f"{one['where']}: {one['message']}" for one in where)
        return problem(422, InvalidRequest.code, told, errors=where)

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == 405:  # Starlette names those of one route only
            headers["Allow"] = ", ".join(sorted(_methods(app, request)))
        return problem(error.status_code, None, str(error.detail), headers)

    async def database_gone(request: Request, error: Exception) -> Response:
        log.error("the database does not answer: %s", type(error).__name__)
        return of(DatabaseUnavailable("The database does not answer; try again."))

    for kind in DATABASE_TROUBLE:
        app.add_exception_handler(kind, database_gone)

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> Response:
        # it is raised again after this, and logged then
        return problem(500, None, "Something went wrong that was not foreseen; it is in the log.")


def _methods(app: FastAPI, request: Request) -> set[str]:
    """What may be done at the path of the request."""
    return {
        method.upper()
        for path, methods in app.openapi()["paths"].items()
        if compile_path(path)[0].match(request.url.path)
        for method in methods
    }


# ----------------------------------------------------------------------------------------------- documentation

SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "Problem details (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "Stable name of the kind of problem."},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong this time, in a sentence."},
        "code": {"type": "string", "description": "The kind of problem, for machines."},
        "operation": {"type": "string", "description": "Key of the operation that came to this."},
        "error": {"type": "string", "description": "The contract's own error."},
        "arguments": {"type": "array", "items": {"type": ["string", "boolean"]}, "description": "That error's."},
        "outcome": {
            "enum": ["rejected", "reverted"],
            "description": "rejected: nothing was sent; reverted: it failed on chain, and gas was paid.",
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


_REFUSED = {
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
"""The example of a conflict."""


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=`: these statuses come with problem details. The schema is put in by `app.main`."""
    content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        example = {"example": _REFUSED} if status == 409 else {}
        responses[status] = {"description": _TITLES[status], "content": {MEDIA_TYPE: content | example}}
    return responses

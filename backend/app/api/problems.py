"""Error responses: problem details (RFC 9457)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from app.api.problem_types import CLIENT_ACTIONS, EVERYWHERE, PROBLEM_TYPES, ProblemType, status_phrase
from app.core.errors import AppError, ChainUnavailable, ContractRejected, DatabaseUnavailable, InvalidRequest

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
"""Seconds after which a client should repeat a request that got 503, or read an operation again."""
INTERNAL_ERROR = "An unexpected error occurred; the service's log has it."

_CODES_OF_FRAMEWORK = {400: "bad_request", 404: "unknown_route", 405: "method_not_allowed"}
"""Codes of the errors that FastAPI raises itself, by HTTP status."""

log = logging.getLogger(__name__)


def problem_response(code: str, detail: str, headers: Mapping[str, str] | None = None, **extra: Any) -> Response:
    """Returns a response with problem details.

    Args:
        code: Kind of the problem: a key of `PROBLEM_TYPES`.
        detail: What is wrong, in a sentence.
        headers: More headers.
        extra: More members of the problem details.
    """
    kind = PROBLEM_TYPES[code]
    retry_after = {"Retry-After": str(RETRY_AFTER_S)} if kind.status == 503 else {}
    return Response(
        json.dumps(_members(kind, detail) | extra), kind.status, retry_after | dict(headers or {}), MEDIA_TYPE
    )


def _members(kind: ProblemType, detail: str) -> dict[str, Any]:
    return {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": kind.code,
        "action": kind.action,
    }


def problem_from_error(error: AppError, operation_key: str | None = None) -> Response:
    """Returns a response with the error as problem details, and the key of the operation that ended with it.

    An error that is not in the catalogue is shown as the most special of its base classes that is.
    """
    codes = [base.code for base in type(error).__mro__ if issubclass(base, AppError) and base.code in PROBLEM_TYPES]
    if not codes:
        return problem_response("internal_error", INTERNAL_ERROR)
    extra: dict[str, Any] = {"operation": operation_key} if operation_key else {}
    if isinstance(error, ContractRejected):
        extra |= {"error": error.name, "arguments": json_arguments(error.args), "outcome": error.outcome}
    headers = {"WWW-Authenticate": "Bearer"} if PROBLEM_TYPES[codes[0]].status == 401 else None
    return problem_response(codes[0], error.message, headers, **extra)


def json_arguments(args: Sequence[Any]) -> list[Any]:
    """Converts a contract error's arguments for JSON: numbers become strings, as JSON parsers round a uint256."""
    return [arg if isinstance(arg, bool) else str(arg) for arg in args]


def add_exception_handlers(app: FastAPI) -> None:
    """Adds handlers with which the app responds to errors with problem details."""

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
            headers["Allow"] = ", ".join(sorted(_allowed_methods(app, request))) or headers["Allow"]
        code = _CODES_OF_FRAMEWORK.get(error.status_code, "bad_request")
        return problem_response(code, PROBLEM_TYPES[code].meaning, headers)

    @app.exception_handler(DatabaseUnavailable)
    async def on_database_error(request: Request, error: DatabaseUnavailable) -> Response:
        log.error("%s", error.message)
        return problem_from_error(error)


def _validation_problem(errors: Sequence[Any]) -> Response:
    if any(error["type"] == "missing" and error["loc"] == ("header", "Idempotency-Key") for error in errors):
        detail = (
            "Send an Idempotency-Key header, such as a new UUID for each thing that is to be done: repeated with "
            "the same key, it is done once."
        )
        return problem_response("idempotency_key_missing", detail)
    located_errors = [{"where": ".".join(map(str, error["loc"])), "message": error["msg"]} for error in errors]
    detail = "; ".join(f"{error['where']}: {error['message']}" for error in located_errors)
    return problem_response(InvalidRequest.code, detail, errors=located_errors)


def _allowed_methods(app: FastAPI, request: Request) -> set[str]:
    """Returns the methods of the path of the request. A path without parameters precedes one that has some."""
    paths, path = app.openapi()["paths"], request.url.path
    matching = [path] if path in paths else [each for each in paths if compile_path(each)[0].match(path)]
    return {method.upper() for each in matching for method in paths[each]}


# ----------------------------------------------------------------------------------------------- documentation

PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "Problem details (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "action"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "Stable identifier of the kind of problem."},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong with this request, in a sentence."},
        "code": {"type": "string", "description": "Kind of the problem, for programs: the end of `type`."},
        "action": {
            "type": "string",
            "enum": list(CLIENT_ACTIONS),
            "description": "What to do: " + " ".join(f"`{name}`: {text}" for name, text in CLIENT_ACTIONS.items()),
        },
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

_MORE_MEMBERS: dict[str, dict[str, Any]] = {
    "contract_rejected": {
        "detail": "bookEventFor was refused by the contract: NotEnoughSeats (requested 3, available 2).",
        "operation": "44444444-0000-4000-8000-000000000000:my-key",
        "error": "NotEnoughSeats",
        "arguments": ["3", "2"],
        "outcome": "rejected",
    },
    "invalid_request": {
        "detail": "body.seats: Input should be greater than or equal to 1",
        "errors": [{"where": "body.seats", "message": "Input should be greater than or equal to 1"}],
    },
    "not_ready": {
        "detail": "node: The node does not answer.",
        "checks": {"database": "ok", "node": "The node does not answer."},
    },
}
"""Members of examples, by code, that differ from those of the catalogue."""


def problem_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Returns the argument `responses` of a route that may respond with these codes, and with those of `EVERYWHERE`."""
    kinds = [kind for kind in PROBLEM_TYPES.values() if kind.code in codes or kind.code in EVERYWHERE]
    return {status: _documented(status, kinds) for status in sorted({kind.status for kind in kinds})}


def _documented(status: int, kinds: Sequence[ProblemType]) -> dict[str, Any]:
    """Returns the documentation of the problems with this HTTP status."""
    of_status = [kind for kind in kinds if kind.status == status]
    lines = [f"{status_phrase(status)}:", *(f"- `{kind.code}`: {kind.meaning}" for kind in of_status)]
    content = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "examples": {kind.code: {"$ref": f"#/components/examples/{kind.code}"} for kind in of_status},
    }
    return {
        "description": "\n".join(lines),
        "content": {MEDIA_TYPE: content},
        "x-problem-codes": [kind.code for kind in of_status],
    }


def problem_examples() -> dict[str, dict[str, Any]]:
    """Returns an example of each problem type by code, for the document's `components/examples`."""
    return {
        kind.code: {
            "summary": kind.meaning,
            "value": _members(kind, kind.meaning) | _MORE_MEMBERS.get(kind.code, {}),
        }
        for kind in PROBLEM_TYPES.values()
    }

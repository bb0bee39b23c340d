"""The OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.problem_types import CLIENT_ACTIONS, PROBLEM_TYPES
from app.api.problems import PROBLEM_SCHEMA, problem_examples
from app.api.schemas import EVENT_RUN

DESCRIPTION = """
Event runs and bookings with a stake, kept by a contract on Ethereum. The platform's wallet sends all transactions.
`backend/API.md` in the service's repository says what a client has to do, and `examples/clients` has clients to copy.

**Authentication.** Send `Authorization: Bearer <token>`. A host acts on their own event runs, an attendee on their own
bookings, the platform on all.

**Idempotency.** A request that sends a transaction takes an `Idempotency-Key`. However often you repeat it with the
same key, it has one effect and one response. The same key with another request is refused with 409.

**Waiting.** A response comes when the transaction is final, which takes some blocks. With `Prefer: respond-async` it is
202 with the operation, at once; `GET /operations/{key}` shows its state. It is also 202 if waiting takes too long.

**Lists** come in pages of at most `limit` items. `next` is the `cursor` of the next page; on the last one it is null.

**Amounts.** INR are strings with two decimals, wei are strings of digits. Times are RFC 3339, in UTC.

**Errors** are problem details (RFC 9457), in `application/problem+json`. Their `action` says what to do. For a special
case decide by `code` or `type`, which are stable, and not by `title` or `detail`. `x-problem-types` in this document
lists all of them.
"""

_JSON = "application/json"


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Returns FastAPI's document with `Problem`, the catalogue of its types, and examples. Built once for each app."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document["components"]["schemas"]
        schemas["Problem"] = PROBLEM_SCHEMA
        document["components"]["examples"] = problem_examples()
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        document["x-problem-types"] = [
            {"type": kind.type, "title": kind.title, "client_does": CLIENT_ACTIONS[kind.action], **kind._asdict()}
            for kind in PROBLEM_TYPES.values()
        ]
        for operation in (operation for path in document["paths"].values() for operation in path.values()):
            for part in (operation.get("requestBody", {}), *operation["responses"].values()):
                if _JSON in part.get("content", {}):
                    content = part["content"][_JSON]
                    content["example"] = _example(content["schema"], schemas)
        app.openapi_schema = document
    return app.openapi_schema


def _example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """Returns a value of the schema, made of its members' examples. What may be null and has no example is null."""
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "examples" in schema:
        return schema["examples"][0]
    for choices in (schema.get("oneOf"), schema.get("anyOf")):
        if choices:
            return _example(choices[0], schemas) if _has_example(choices[0]) else _example(choices[-1], schemas)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    if schema["type"] == "object":
        return {name: _example(member, schemas) for name, member in schema.get("properties", {}).items()}
    if schema["type"] == "array":
        return [_example(schema["items"], schemas)]
    if schema.get("format") == "uuid":
        return EVENT_RUN
    return {"integer": 1, "boolean": False, "null": None}.get(schema["type"], "...")


def _has_example(schema: dict[str, Any]) -> bool:
    return "examples" in schema or "$ref" in schema or schema["type"] == "integer" or schema.get("format") == "uuid"

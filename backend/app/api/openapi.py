"""The OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.problems import PROBLEM_SCHEMA

DESCRIPTION = """
Event runs and bookings with a stake, kept by a contract on Ethereum. The platform's wallet sends all transactions.

**Authentication.** Send `Authorization: Bearer <token>`. A host acts on their own event runs, an attendee on their own
bookings, the platform on all.

**Idempotency.** A request that sends a transaction takes an `Idempotency-Key`. However often you repeat it with the
same key, it has one effect and one response. The same key with another request is refused with 409.

**Waiting.** A response comes when the transaction is final, which takes some blocks. With `Prefer: respond-async` it is
202 with the operation, at once; `GET /operations/{key}` shows its state. It is also 202 if waiting takes too long.

**Amounts.** INR are strings with two decimals, wei are strings of digits. Times are RFC 3339, in UTC.

**Errors** are problem details (RFC 9457), in `application/problem+json`.
"""


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Returns FastAPI's document, with `Problem` instead of FastAPI's error schemas. Built once for each app."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document["components"]["schemas"]
        schemas["Problem"] = PROBLEM_SCHEMA
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema

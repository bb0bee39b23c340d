"""Responses: a JSON body, 202 with an operation that is not final yet, or one that is known only later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from anyio import to_thread
from fastapi import Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from app.api import schemas
from app.api.problems import RETRY_AFTER_S
from app.api.turns import give_up_turn
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


class DeferredResponse(Response):
    """Waits for an operation without holding a thread, and then sends the response that it leads to.

    Args:
        waiter: Done when there is something to respond.
        timeout: Seconds after which the response is produced anyway.
        produce: Returns the response; runs in a thread.
    """

    def __init__(self, waiter: Future[Operation], timeout: float, produce: Callable[[], Response]) -> None:
        super().__init__()
        self._waiter, self._timeout, self._produce = waiter, timeout, produce

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Waits, and sends the response."""
        give_up_turn(scope)
        await asyncio.wait([asyncio.wrap_future(self._waiter)], timeout=self._timeout)
        response = await to_thread.run_sync(self._produce)
        await response(scope, receive, send)

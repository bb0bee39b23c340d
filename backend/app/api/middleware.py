"""ASGI middleware: a limit on request bodies, and the access log."""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response

MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10.0
"""Seconds in which the body has to arrive, from the end of the request's head."""
MAX_BRACKETS = 100
"""Maximum number of opening brackets and braces in a body; valid requests have a few. Deeply nested JSON would crash
the process, as `py_ecc`, a dependency of web3, raises Python's recursion limit."""

log = logging.getLogger(__name__)


class BodyLimitMiddleware:
    """Reads the body before the app does.

    Responds 408 if it does not arrive in time, 413 if it is too long, 400 if it has too many brackets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await _read_body(receive)
        except TimeoutError:
            detail = f"The body did not arrive within {BODY_TIMEOUT_S:g} s."
            response = problem_response("request_timeout", detail, {"Connection": "close"})
            await response(scope, receive, send)
            return
        if body is None:
            return
        if len(body) > MAX_BODY_BYTES:
            response = problem_response("too_large", f"The body has more than {MAX_BODY_BYTES} bytes.")
            await response(scope, receive, send)
        elif body.count(b"[") + body.count(b"{") > MAX_BRACKETS:
            response = problem_response("too_deep", f"The body has more than {MAX_BRACKETS} brackets.")
            await response(scope, receive, send)
        else:
            await self._app(scope, _replay(body, receive), send)


async def _read_body(receive: Receive) -> bytes | None:
    """Returns the body, or more than `MAX_BODY_BYTES` of it; None if the client went away."""
    body, more = b"", True
    while more and len(body) <= MAX_BODY_BYTES:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` whose first message is the whole body; the others come from the given one."""
    replayed = False

    async def receive_body_first() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_body_first


class AccessLogMiddleware:
    """Logs one line for each request, without headers and bodies."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and logs it after the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at, status = time.perf_counter(), 500

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note_status)
        finally:
            seconds = round(time.perf_counter() - started_at, 4)
            fields = {"method": scope["method"], "path": scope["path"], "status": status, "seconds": seconds}
            log.info("%s %s %s", scope["method"], scope["path"], status, extra=fields)

"""ASGI middleware: a limit on request bodies, cross-origin requests, the access log, headers of all responses."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Sequence
from typing import Any

from fastapi import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.headers import headers_for
from app.api.problems import INTERNAL_ERROR, problem_response
from app.core.logs import log_context
from app.core.security import Caller

MAX_URL_BYTES = 4 * 1024
MAX_HEADERS = 100
MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10.0
"""Seconds in which the body has to arrive, from the end of the request's head."""
MAX_BRACKETS = 100
"""Maximum number of opening brackets and braces in a body; valid requests have a few. Deeply nested JSON would crash
the process, as `py_ecc`, a dependency of web3, raises Python's recursion limit."""

REQUEST_ID = re.compile(r"[A-Za-z0-9._~-]{1,100}")
"""Pattern of an X-Request-Id that is taken over."""

log = logging.getLogger(__name__)


class RequestLimitMiddleware:
    """Reads the body before the app does.

    Responds 414 if the URL is too long, and 431 if there are too many headers. As to the body, responds 408 if it does
    not arrive in time, 413 if it is too long, 400 if it has too many brackets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_URL_BYTES:
            response = problem_response("uri_too_long", f"The URL has more than {MAX_URL_BYTES} bytes.")
            await response(scope, receive, send)
            return
        if len(scope["headers"]) > MAX_HEADERS:
            response = problem_response("too_many_headers", f"The request has more than {MAX_HEADERS} headers.")
            await response(scope, receive, send)
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


class CrossOriginMiddleware(CORSMiddleware):
    """Lets pages of these origins call the API from a browser, without cookies. Refuses preflights of all others."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST", "PATCH", "DELETE"),
            allow_headers=("Authorization", "Content-Type", "Idempotency-Key", "Prefer", "X-Request-Id"),
            expose_headers=("Allow", "Location", "Preference-Applied", "Retry-After", "X-Request-Id"),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Returns the response to a preflight."""
        response = super().preflight_response(request_headers)
        if response.status_code == 400:
            detail = "Pages of this origin may not send this request; the setting CORS_ORIGINS has those that may."
            return problem_response("origin_not_allowed", detail, {"Vary": "Origin"})
        return response


class UnexpectedErrorMiddleware:
    """Responds to an exception that nobody handled with a problem, and raises it again for the server's log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        has_started = False

        async def send_and_note_start(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_and_note_start)
        except Exception:
            if scope["type"] == "http" and not has_started:
                await problem_response("internal_error", INTERNAL_ERROR)(scope, receive, send)
            raise


class RequestMiddleware:
    """Gives each request an id, logs it in one line without headers and body, and adds headers to its response.

    The id is the request's `X-Request-Id` if that is short and plain, and is a new one otherwise. It is in the response
    and in every log line of the request. The line names the caller as the token does; never the token itself.

    Args:
        app: The ASGI app.
        hsts_seconds: As in `HttpPolicy`.
    """

    def __init__(self, app: ASGIApp, hsts_seconds: int | None) -> None:
        self._app, self._hsts_seconds = app, hsts_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and logs it after the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at, status = time.perf_counter(), 500
        given_id = Headers(scope=scope).get("X-Request-Id", "")
        request_id = given_id if REQUEST_ID.fullmatch(given_id) else uuid.uuid4().hex
        added = {"X-Request-Id": request_id, **headers_for(scope, self._hsts_seconds)}
        scope.setdefault("state", {})

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in added.items():
                    headers.setdefault(name, value)
            await send(message)

        with log_context(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_headers)
            finally:
                seconds = round(time.perf_counter() - started_at, 4)
                fields = {"method": scope["method"], "path": scope["path"], "status": status, "seconds": seconds}
                fields |= {"route": getattr(scope.get("route"), "name", None), **logged_fields(scope["state"])}
                log.info("%s %s %s", scope["method"], scope["path"], status, extra=fields)


def logged_fields(state: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of the access log that the routes left in the request's state."""
    caller: Caller | None = state.get("caller")
    fields: dict[str, Any] = {"caller": str(caller.id), "role": caller.role} if caller else {"caller": "anonymous"}
    return fields | {name: state[name] for name in ("refused", "operation") if name in state}

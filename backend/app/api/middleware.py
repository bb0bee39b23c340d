"""Bodies of requests are bounded before anything reads them."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem

MOST_BYTES = 64 * 1024
MOST_BRACKETS = 100
"""No request has more than a few. Web3 comes with `py_ecc`, which raises Python's recursion limit so far that deeply
nested JSON ends the process."""


class BoundedBodies:
    """Refuses what is too large with 413, and what is nested too deeply to be a request of ours with 400."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, more = b"", True
        while more and len(body) <= MOST_BYTES:
            message = await receive()
            if message["type"] != "http.request":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if len(body) > MOST_BYTES:
            refusal = problem(413, "too_large", f"The body has more than {MOST_BYTES} bytes.")
            await refusal(scope, receive, send)
        elif body.count(b"[") + body.count(b"{") > MOST_BRACKETS:
            refusal = problem(400, "too_deep", f"The body has more than {MOST_BRACKETS} brackets.")
            await refusal(scope, receive, send)
        else:
            await self._app(scope, _giving(body, receive), send)


def _giving(body: bytes, receive: Receive) -> Receive:
    """Gives the whole body at once, and then whatever comes."""
    given = False

    async def first_body() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return first_body

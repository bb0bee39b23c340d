"""Calls an ASGI app in this process, without a socket.

`httpx.AsyncClient` with its `ASGITransport` does the same, and takes as long for a request as the app itself: it parses
a URL, and makes headers and a cookie jar of each.
"""

from __future__ import annotations

import asyncio
import json as json_module
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message


class Response(NamedTuple):
    """A response, with the attributes and methods of `httpx.Response` that are needed here."""

    status_code: int
    content: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """Returns the body as parsed JSON. Raises `ValueError`."""
        return json_module.loads(self.content)


class AsgiClient:
    """Sends requests to an ASGI app, one after another.

    Args:
        app: The app.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes = b"",
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Sends a request, and returns the response once it is complete. Arguments as for `httpx.AsyncClient`.

        Args:
            method: HTTP method.
            path: Path of the URL.
            json: Body to send as JSON; no such body if None.
            content: Body to send as it is.
            params: Parameters of the URL's query.
            headers: Headers.
        """
        sent = {"host": "api", **{name.lower(): value for name, value in (headers or {}).items()}}
        if json is not None:
            content = json_module.dumps(json, ensure_ascii=False, separators=(",", ":")).encode()
            sent["content-type"] = "application/json"
        if content or method != "GET":
            sent["content-length"] = str(len(content))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": urlencode(params or {}).encode(),
            "headers": [(name.encode("ascii"), value.encode("latin-1")) for name, value in sent.items()],
            "client": ("127.0.0.1", 123),
            "server": ("api", 80),
        }
        waiting: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]
        status, body, is_complete = 0, bytearray(), asyncio.Event()

        async def receive() -> Message:
            if waiting:
                return waiting.pop()
            await is_complete.wait()  # a client that has sent its request stays until it has the response
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                is_complete.set()

        await self._app(scope, receive, send)
        return Response(status, bytes(body))

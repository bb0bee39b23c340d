"""A protocol for uvicorn with limits that it lacks: slow clients, idle connections, number of connections and requests.

`stakesim serve` uses it. With uvicorn's command: `--http app.api.http_protocol:LimitedH11Protocol`.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from contextlib import suppress
from typing import Any

import h11
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.api.headers import SECURITY_HEADERS
from app.api.problems import problem_response

HEAD_TIMEOUT_S = 10.0
"""Seconds in which the head of a request has to arrive, from the connection or from its first byte."""
WRITE_TIMEOUT_S = 30.0
"""Seconds in which the client has to read what was sent, from the first byte that does not fit into its buffers."""
KEEP_ALIVE_S = 5
"""Seconds that an idle connection stays open after a response."""
MAX_REQUESTS = 1000
"""Requests of one connection; the response to the last one closes it."""
MAX_HEAD_BYTES = 16 * 1024
MAX_CONNECTIONS = 2000
"""Connections whose requests are processed. Requests of others get 503."""
MAX_REFUSED_CONNECTIONS = 200
"""Connections above `MAX_CONNECTIONS` that get an answer. Others are closed at once."""
SPARE_FILES = 500
"""Open files for all else: database, nodes, logs."""

log = logging.getLogger(__name__)


def raise_file_limit() -> None:
    """Raises this process's limit of open files, so that `MAX_CONNECTIONS` fit, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + MAX_REFUSED_CONNECTIONS + SPARE_FILES
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        with suppress(ValueError, OSError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


class LimitedH11Protocol(H11Protocol):
    """One connection. Its limits are this module's constants."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = h11.Connection(h11.SERVER, MAX_HEAD_BYTES)
        self.timeout_keep_alive = KEEP_ALIVE_S
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._requests = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Starts the time for the first request's head."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that each unread byte counts as a pause
        excess = len(self.connections) - MAX_CONNECTIONS
        if excess > MAX_REFUSED_CONNECTIONS:
            transport.abort()
            return
        if excess > 0:
            self.app = _too_many_connections
        self._start_head_timer()

    def data_received(self, data: bytes) -> None:
        """Bytes of a head don't prolong its time; a complete head ends it."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None:
            self._start_head_timer()
        elif self.conn.their_state is not h11.IDLE:
            self._stop_head_timer()

    def handle_events(self) -> None:
        """Makes the last request of a connection close it."""
        previous = self.cycle
        super().handle_events()
        if self.cycle is not previous:
            self._requests += 1
            if self._requests >= MAX_REQUESTS:
                self.cycle.default_headers = [*self.cycle.default_headers, CLOSE_HEADER]

    def pause_writing(self) -> None:
        """Starts the time in which the client has to read."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Ends the time: the client has read everything."""
        super().resume_writing()
        self._stop_write_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all times."""
        self._stop_head_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Responds with problem details to what is no HTTP request, or has too long a head."""
        detail = f"This is no valid HTTP request, or its head has more than {MAX_HEAD_BYTES} bytes."
        self._respond_and_close(problem_response("bad_request", detail))

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._end_slow_head)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _end_slow_head(self) -> None:
        self._head_timer = None
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return
        if self.conn.trailing_data[0]:
            detail = f"The head of the request did not arrive within {HEAD_TIMEOUT_S:g} s."
            self._respond_and_close(problem_response("request_timeout", detail))
        else:
            self.transport.close()

    def _respond_and_close(self, response: Response) -> None:
        response.headers.update(SECURITY_HEADERS)
        log.info("refused before it was a request: %s", response.status_code, extra={"caller": "anonymous"})
        headers = [*response.raw_headers, CLOSE_HEADER]
        status = h11.Response(status_code=response.status_code, headers=headers)
        for event in (status, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


async def _too_many_connections(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        detail = f"The service has {MAX_CONNECTIONS} connections, and takes no more. Try again later."
        headers = SECURITY_HEADERS | {"Connection": "close"}
        response = problem_response("too_many_connections", detail, headers)
        await response(scope, receive, send)

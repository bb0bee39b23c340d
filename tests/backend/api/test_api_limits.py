"""Slow readers, long-lived connections, and large requests, over a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from api_environment import ApiEnvironment, body_of, problem_of
from app.api import http_protocol
from app.api.http_protocol import LimitedH11Protocol
from app.api.middleware import MAX_HEADERS, MAX_URL_BYTES
from app.api.schemas import MAX_ATTENDED
from http_server import Server, rest_of
from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.slow
GET = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = 12_000_000
"""Bytes of a response that fits into no buffer."""


async def large_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Responds with 12 MB at `/large`, with 50 kB at `/medium`, and with little elsewhere."""
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/large":
        for _ in range(LARGE // 100_000):
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
    await send({"type": "http.response.body", "body": (b"x" * 50_000 if scope["path"] == "/medium" else b"") + b"end"})


class Connections:
    """Counts the server's connections, to wait for their end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ended: list[LimitedH11Protocol] = []
        lost = LimitedH11Protocol.connection_lost

        def note(protocol: LimitedH11Protocol, error: Exception | None) -> None:
            lost(protocol, error)
            self.ended.append(protocol)

        monkeypatch.setattr(LimitedH11Protocol, "connection_lost", note)

    async def _wait(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.ended) < count:
                await asyncio.sleep(0.01)

    def wait_for(self, count: int) -> None:
        asyncio.run(self._wait(count))


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Connections:
    return Connections(monkeypatch)


@pytest.fixture
def large_server() -> Iterator[Server]:
    with Server(large_app) as server:
        yield server


def test_a_client_that_reads_nothing_is_cut_off(
    large_server: Server, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "WRITE_TIMEOUT_S", 0.3)
    with large_server.connected(GET.replace(b"health", b"large")):
        connections.wait_for(1)
    [protocol] = connections.ended
    assert protocol.cycle.disconnected
    assert not protocol.cycle.response_complete


def test_a_client_that_sends_requests_and_reads_no_response_is_cut_off(
    large_server: Server, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each response fits into the buffers: the server must not collect them without end."""
    monkeypatch.setattr(http_protocol, "WRITE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(http_protocol, "MAX_REQUESTS", 10**9)
    with large_server.connected() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        with pytest.raises(OSError, match=r"reset|pipe"):
            connection.sendall(GET.replace(b"health", b"medium") * 1_000_000)
        connections.wait_for(1)


def test_a_slow_reader_gets_everything_in_its_time(large_server: Server, connections: Connections) -> None:
    """The time begins anew whenever the client has read what was sent."""
    with large_server.connected(
        GET.replace(b"health", b"large").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    ) as c:
        answer = rest_of(c)
    assert answer.count(b"x") >= LARGE
    assert b"end" in answer[-20:]


def test_an_unread_last_response_does_not_keep_the_connection(
    large_server: Server, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing waits for what is unsent, and not longer than the client has time to read."""
    monkeypatch.setattr(http_protocol, "WRITE_TIMEOUT_S", 0.3)
    data = GET.replace(b"health", b"large").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with large_server.connected(data):
        connections.wait_for(1)
    [protocol] = connections.ended
    assert protocol.transport.get_write_buffer_limits() == (0, 0)  # type: ignore[attr-defined]  # so for any rest


def test_an_idle_connection_is_closed(
    large_server: Server, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "KEEP_ALIVE_S", 0.2)
    with large_server.connected(GET) as connection:
        assert rest_of(connection).endswith(b"end\r\n0\r\n\r\n")
    connections.wait_for(1)


def test_a_connection_has_a_last_request(large_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its response says so, so that the client opens another one."""
    monkeypatch.setattr(http_protocol, "MAX_REQUESTS", 3)
    with large_server.connected(GET * 5) as connection:
        answers = rest_of(connection).lower().split(b"http/1.1 200")[1:]
    assert ["connection: close" in answer.decode() for answer in answers] == [False, False, True]


def test_a_long_url_and_many_headers_are_refused(api: ApiEnvironment) -> None:
    with Server(api.client.app) as server:

        def status(target: str, headers: int = 0) -> int:
            lines = "".join(f"X-{number}: x\r\n" for number in range(headers))
            data = f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n"
            return int(server.answer_to(data.encode()).split()[1])

        query = "/health?" + "&".join(["a=1"] * 3000)
        assert [status(query[:MAX_URL_BYTES]), status(query)] == [200, 414]
        assert [status("/health/" + "x" * MAX_URL_BYTES), status("/" + "x" * 20)] == [414, 404]
        assert [status("/health", MAX_HEADERS - 2), status("/health", MAX_HEADERS - 1)] == [200, 431]


def test_lists_of_ids_have_a_maximum(api: ApiEnvironment) -> None:
    run = api.open_run()
    document: dict[str, Any] = api.client.get("/openapi.json").json()
    for schema in ("Attendance", "Completed"):
        attended = document["components"]["schemas"][schema]["properties"]["attended_booking_ids"]
        assert attended["maxItems"] == MAX_ATTENDED
    for count, status, code in ((MAX_ATTENDED, 404, "not_found"), (MAX_ATTENDED + 1, 422, "invalid_request")):
        ids = [str(uuid4()) for _ in range(count)]
        confirmed = api.host.post(
            "/bookings/confirm-attendance", {"event_run_id": run["id"], "attended_booking_ids": ids}
        )
        problem_of(confirmed, status, code)
        path = f"/event-runs/{run['id']}/status"
        problem_of(api.host.patch(path, {"status": "completed", "attended_booking_ids": ids}), status, code)
    assert body_of(api.host.get(f"/event-runs/{run['id']}"), 200)["database"]["status"] == "active"

"""Row 44: slow and idle clients, on real sockets: they are closed in time, and everybody else is served."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from app.api import http_protocol, middleware
from app.api.http_protocol import MAX_HEAD_BYTES, raise_file_limit
from app.core.security import issue_token
from app.main import create_app
from fault_environment import FaultEnvironment
from http_server import Server, rest_of
from pydantic import SecretStr

pytestmark = pytest.mark.slow
SECRET = SecretStr("0123456789abcdefghijklmnopqrstuvwxyz-of-these-tests")
HEAD = b"POST /bookings/create HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 50\r\n"
IDLE = 1000


def read_alive(connection: socket.socket) -> None:
    """Reads the answer of `/health`."""
    answer = b""
    while b'"ok"}' not in answer:
        part = connection.recv(65536)
        assert part, "closed"
        answer += part


def problem_in(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["code"]


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short times for slow clients."""
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT_S", 0.3)
    monkeypatch.setattr(middleware, "BODY_TIMEOUT_S", 0.3)


@pytest.fixture
def server(environment: FaultEnvironment) -> Iterator[Server]:
    with Server(create_app(environment.services, SECRET, environment.w3.eth.chain_id)) as server:
        yield server


@pytest.mark.usefixtures("times")
@pytest.mark.parametrize("body", [b"", b'{"seats"'], ids=["no body", "half a body"])
def test_44_a_body_that_does_not_arrive_in_time(server: Server, body: bytes) -> None:
    assert problem_in(server.answer_to(HEAD + b"\r\n" + body)) == (408, "request_timeout")


@pytest.mark.usefixtures("times")
def test_44_dripping_prolongs_nothing(server: Server) -> None:
    """A head, or a body, of which a byte arrives now and then."""
    for first, code in ((HEAD + b"X: ", "request_timeout"), (HEAD + b"\r\n", "request_timeout")):
        with server.connected(first) as connection:
            ended = threading.Event()
            dripping = threading.Thread(target=drip, args=(connection, ended))
            dripping.start()
            answer = rest_of(connection)
            ended.set()
            dripping.join()
        assert problem_in(answer) == (408, code)


def drip(connection: socket.socket, ended: threading.Event) -> None:
    while not ended.wait(0.05):
        try:
            connection.sendall(b"x")
        except OSError:
            return


@pytest.mark.usefixtures("times")
@pytest.mark.parametrize("kept", [b"", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["new", "kept alive"])
def test_44_a_head_that_does_not_arrive_in_time(server: Server, kept: bytes) -> None:
    with server.connected(kept) as connection:
        if kept:
            read_alive(connection)
        connection.sendall(HEAD)
        assert problem_in(rest_of(connection)) == (408, "request_timeout")


@pytest.mark.usefixtures("times")
def test_44_a_connection_without_a_request_is_closed(server: Server) -> None:
    assert server.answer_to(b"") == b""


@pytest.mark.parametrize(
    "data",
    [b"no HTTP\r\n\r\n", HEAD + b"X: " + b"x" * (MAX_HEAD_BYTES + 1)],
    ids=["no request", "long head"],
)
def test_44_what_is_no_request_or_too_long(server: Server, data: bytes) -> None:
    assert problem_in(server.answer_to(data)) == (400, "bad_request")


def test_44_more_connections_than_allowed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some get 503, all others are closed, and the earlier ones go on."""
    monkeypatch.setattr(http_protocol, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(http_protocol, "MAX_REFUSED_CONNECTIONS", 1)
    request = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    with server.connected(request) as first, server.connected(request) as second:
        for connection in (first, second):
            read_alive(connection)
        with server.connected() as third:
            assert server.answer_to(request) == b""
            third.sendall(request)
            assert problem_in(rest_of(third)) == (503, "too_many_connections")
        first.sendall(request)
        read_alive(first)


def test_44_everybody_is_served_beside_idle_sockets(environment: FaultEnvironment, server: Server) -> None:
    """1,000 sockets that send nothing, half a head, or no body; `/ready`, GETs and bookings are answered meanwhile."""
    raise_file_limit()
    run = environment.open_run()
    token = issue_token(SECRET, environment.ids["attendee"], "attendee", timedelta(hours=1))
    headers = {"Authorization": f"Bearer {token}", "Prefer": "respond-async", "Idempotency-Key": str(uuid4())}
    with ExitStack() as stack:
        for number in range(IDLE):
            stack.enter_context(server.connected((b"", HEAD, HEAD + b"\r\n")[number % 3]))
        with httpx.Client(base_url=server.url, headers=headers, timeout=30, trust_env=False) as client:
            assert client.get("/ready").status_code == 200
            assert client.get(f"/event-runs/{run}").status_code == 200
            booking = client.post("/bookings/create", json={"event_run_id": str(run), "seats": 1})
            assert booking.status_code == 202
            assert client.get(booking.headers["Location"]).status_code == 200


@pytest.mark.usefixtures("times")
def test_44_idle_sockets_are_all_closed(server: Server) -> None:
    raise_file_limit()
    with ExitStack() as stack:
        starts = [(b"", HEAD, HEAD + b"\r\n")[number % 3] for number in range(IDLE)]
        connections = [stack.enter_context(server.connected(start)) for start in starts]
        answers = [rest_of(connection) for connection in connections]
    assert {answer[:12] for answer in answers[::3]} == {b""}
    assert {answer[:12] for start, answer in zip(starts, answers, strict=True) if start} == {b"HTTP/1.1 408"}

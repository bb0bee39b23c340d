"""Row 36: one deadline and one size limit for each request; then the next endpoint."""

from __future__ import annotations

import gzip
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from app.services import rpc, rpc_http
from app.services.rpc_errors import NODE_ERRORS
from app.services.rpc_failover import FailoverProvider
from app.services.rpc_http import MAX_NESTING, is_nested_deeper
from hypothesis import given
from hypothesis import strategies as st
from scripted_node import ScriptedNode, running
from web3 import Web3

LIMIT = 100_000
CLIENT_TIMEOUT_S = 0.5
DRIPS_S = 4
"""How long a server drips. A client that waits for it gets an answer, with the wrong chain id."""
WRONG, RIGHT = 666, 11_155_111

Behaviour = Callable[[socket.socket, bytes], None]


def drip(connection: socket.socket, data: bytes) -> None:
    """Sends all but the last byte in small pieces over `DRIPS_S` seconds, each well within the client's time-out."""
    pieces = [data[i : i + 2] for i in range(0, len(data), 2)]
    for piece in pieces:
        connection.sendall(piece)
        time.sleep(DRIPS_S / len(pieces))


def headers(length: int | str, *more: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {length}", *more, "", ""]).encode()


def drips_body(connection: socket.socket, answer: bytes) -> None:
    connection.sendall(headers(len(answer)))
    drip(connection, answer)


def drips_headers(connection: socket.socket, answer: bytes) -> None:
    drip(connection, headers(len(answer), *(f"X-{number}: {'x' * 50}" for number in range(20))))
    connection.sendall(answer)


def drips_one_header(connection: socket.socket, answer: bytes) -> None:
    drip(connection, headers(len(answer), f"X: {'x' * 2000}"))
    connection.sendall(answer)


def continues(connection: socket.socket, answer: bytes) -> None:
    drip(connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
    connection.sendall(headers(len(answer)) + answer)


def drips_chunks(connection: socket.socket, answer: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for byte in answer:
        connection.sendall(b"1\r\n" + bytes([byte]) + b"\r\n")
        time.sleep(DRIPS_S / len(answer))
    connection.sendall(b"0\r\n\r\n")


def never_ends(connection: socket.socket, answer: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + answer[:-1])
    for _ in range(3 * LIMIT // 1000):
        connection.sendall(b" " * 1000)
    connection.sendall(b"}")


def is_huge(connection: socket.socket, answer: bytes) -> None:
    padded = answer[:-1] + b" " * LIMIT + b"}"
    connection.sendall(headers(len(padded)) + padded)


def is_a_bomb(connection: socket.socket, answer: bytes) -> None:
    bomb = gzip.compress(answer[:-1] + b" " * 50_000_000 + b"}")
    assert len(bomb) < LIMIT
    connection.sendall(headers(len(bomb), "Content-Encoding: gzip") + bomb)


def is_deep(connection: socket.socket, answer: bytes) -> None:
    deep = answer[:-1] + b',"x":' + b"[" * 1000 + b"]" * 1000 + b"}"
    connection.sendall(headers(len(deep)) + deep)


def is_very_deep(connection: socket.socket, answer: bytes) -> None:
    deep = b'{"x":' * 15_000
    connection.sendall(headers(len(deep)) + deep)


def promises_more(connection: socket.socket, answer: bytes) -> None:
    connection.sendall(headers(10**15) + answer)


def lies_about_its_length(connection: socket.socket, answer: bytes) -> None:
    connection.sendall(headers("many") + answer[:20])


def has_a_thousand_headers(connection: socket.socket, answer: bytes) -> None:
    connection.sendall(headers(len(answer), *(f"X-{number}: 1" for number in range(1000))) + answer)


def speaks_another_protocol(connection: socket.socket, answer: bytes) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")


BEHAVIOURS = [
    drips_body,
    drips_headers,
    drips_one_header,
    continues,
    drips_chunks,
    never_ends,
    is_huge,
    is_a_bomb,
    is_deep,
    is_very_deep,
    promises_more,
    lies_about_its_length,
    has_a_thousand_headers,
    speaks_another_protocol,
]


@contextmanager
def misbehaving(behaviour: Behaviour) -> Iterator[str]:
    """A server that reads a request and then does something else than answer it as it should."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with self.request.makefile("rb") as file:
                length = 0
                while line := file.readline().strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                request = json.loads(file.read(length))
            answer = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": hex(WRONG)}).encode()
            with suppress(OSError):  # the client has hung up
                behaviour(self.request, answer)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v3/url-secret"
        server.shutdown()


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_http, "MAX_ANSWER_BYTES", LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.__name__)
def test_36_then_the_next_endpoint(behaviour: Behaviour) -> None:
    good = ScriptedNode(chain_id=RIGHT)
    with misbehaving(behaviour) as url, running(good):
        w3 = Web3(FailoverProvider([url, good.url], timeout=CLIENT_TIMEOUT_S), [])
        assert rpc.chain_id(w3) == RIGHT


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.__name__)
def test_36_without_another_endpoint_it_is_a_nodes_error(
    behaviour: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    with misbehaving(behaviour) as url:
        w3 = Web3(FailoverProvider([url], timeout=CLIENT_TIMEOUT_S, give_up_after=0), [])
        with pytest.raises(NODE_ERRORS, match="endpoint 1 of 1") as caught:
            rpc.chain_id(w3)
    assert "url-secret" not in f"{caplog.text} {caught.value!r}"


def test_36_answers_within_the_limits_are_read_on_one_connection() -> None:
    """A body just below the limit, and many answers one after the other."""
    sockets = set[Any]()
    node = ScriptedNode(chain_id=RIGHT, eth_call=lambda _: "0x" + "ab" * ((LIMIT - 100) // 2))
    finish = node.finish_request

    def count(request: Any, address: Any) -> None:
        sockets.add(address)
        finish(request, address)

    node.finish_request = count  # type: ignore[method-assign]
    with running(node):
        w3 = Web3(FailoverProvider([node.url]), [])
        for _ in range(5):
            assert len(rpc.call(w3, "0x" + "c0" * 20, b"")) == (LIMIT - 100) // 2
            assert rpc.chain_id(w3) == RIGHT
    assert len(sockets) == 1


def test_36_cookies_are_not_kept() -> None:
    """A server can't fill the memory with them."""

    def sets_a_cookie(connection: socket.socket, answer: bytes) -> None:
        connection.sendall(headers(len(answer), "Set-Cookie: a=b") + answer)

    with misbehaving(sets_a_cookie) as url:
        session = rpc_http.open_session(url)
        assert rpc_http.post(session, url, b'{"id": 1}', 5).status == 200
    assert list(session.cookies) == []


# ---------------------------------------------------------------------------------------------------- nesting

VALUES = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{}"\\a', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\', max_size=4), inner, max_size=3),
    max_leaves=40,
)


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


@given(value=VALUES, limit=st.integers(1, 6))
def test_36_nesting_is_counted_as_json_has_it(value: Any, limit: int) -> None:
    """Also with brackets and quotes in strings."""
    assert is_nested_deeper(json.dumps(value).encode(), limit) == (depth_of(value) > limit)


@given(
    content=st.binary(max_size=60).map(lambda noise: noise + b"[" * 100) | st.just(b'["' + b'\\"' * 10_000 + b"[" * 99)
)
def test_36_what_is_no_json_is_refused(content: bytes) -> None:
    assert rpc_http.decode(content) is None


def test_36_the_deepest_answer_is_read() -> None:
    assert depth_of(rpc_http.decode(b"[" * MAX_NESTING + b"]" * MAX_NESTING)) == MAX_NESTING
    assert rpc_http.decode(b"[" * (MAX_NESTING + 1) + b"]" * (MAX_NESTING + 1)) is None

"""What `stakesim deploy` and `verify` say of a node that does not do what it should."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from stakesim.evm.errors import EngineError
from stakesim.gate import release
from web3.exceptions import TimeExhausted

Answer = tuple[int, bytes]


@contextmanager
def node(answer: Callable[[dict[str, Any]], Answer]) -> Iterator[tuple[str, list[str]]]:
    """A server with this answer: its URL, and the methods that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body["method"])
            status, content = answer(body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v3/url-secret", asked
    finally:
        server.shutdown()
        server.server_close()


def refusal(message: str) -> Callable[[dict[str, Any]], Answer]:
    error = {"code": -32000, "message": message}
    return lambda body: (200, json.dumps({"jsonrpc": "2.0", "id": body["id"], "error": error}).encode())


def sentence(raised: pytest.ExceptionInfo[Exception]) -> str:
    """What is told: one sentence, without the URL."""
    said = str(raised.value)
    assert "url-secret" not in said
    assert "\n" not in said
    assert said.endswith(".")
    return said


@pytest.mark.parametrize("rpc", ["localhost:8545", "ws://127.0.0.1:8545/url-secret", ""])
def test_only_http_will_do(rpc: str) -> None:
    with pytest.raises(release.ReleaseError, match="give one as http://HOST:PORT") as raised:
        release.connect(rpc)
    sentence(raised)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda body: (401, b"no such project"), "Reaching the node failed: it responded with HTTP status 401."),
        (lambda body: (503, b""), "Reaching the node failed: it responded with HTTP status 503."),
        (lambda body: (200, b"<html>welcome</html>"), "Reaching the node failed: its response is no JSON."),
        (refusal("daily limit reached"), "Reaching the node failed: the node says: daily limit reached."),
    ],
)
def test_a_node_in_node_error_is_said_in_a_sentence_and_asked_once(
    answer: Callable[[dict[str, Any]], Answer], said: str
) -> None:
    with node(answer) as (url, asked):
        with pytest.raises(EngineError) as raised:
            release.connect(url)
        assert sentence(raised) == said
        assert asked == ["eth_chainId"]


def test_a_node_that_is_not_there() -> None:
    with pytest.raises(EngineError, match=r"it can't be reached \(ConnectionError\)") as raised:
        release.connect("http://127.0.0.1:9/v3/url-secret")
    sentence(raised)


def test_a_silent_node_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(EngineError, match="did not respond within") as raised:
            release.connect(f"http://127.0.0.1:{silent.getsockname()[1]}/v3/url-secret")
        sentence(raised)


def test_a_transaction_that_is_not_mined_in_time_may_be_mined_yet() -> None:
    assert "was sent, but not mined within" in str(release._node_error("Deploying the contract", TimeExhausted("0x12")))

"""Errors of `stakesim deploy` and `verify` if the node fails."""

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
from stakesim.gate import node as node_module
from stakesim.gate.errors import ReleaseError
from web3.exceptions import TimeExhausted

Response = tuple[int, bytes]


@contextmanager
def node(response: Callable[[dict[str, Any]], Response]) -> Iterator[tuple[str, list[str]]]:
    """A server with this response. Yields its URL, and the methods of the requests that it gets."""
    methods: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            methods.append(body["method"])
            status, content = response(body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v3/url-secret", methods
    finally:
        server.shutdown()
        server.server_close()


def refusal(message: str) -> Callable[[dict[str, Any]], Response]:
    error = {"code": -32000, "message": message}
    return lambda body: (200, json.dumps({"jsonrpc": "2.0", "id": body["id"], "error": error}).encode())


def sentence(raised: pytest.ExceptionInfo[Exception]) -> str:
    """The message of an error, which must be one sentence without the URL."""
    message = str(raised.value)
    assert "url-secret" not in message
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("rpc", ["localhost:8545", "ws://127.0.0.1:8545/url-secret", ""])
def test_only_http_urls_are_accepted(rpc: str) -> None:
    with pytest.raises(ReleaseError, match="give one as http://HOST:PORT") as raised:
        node_module.connect(rpc)
    sentence(raised)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("response", "message"),
    [
        (lambda body: (401, b"no such project"), "Reaching the node failed: it responded with HTTP status 401."),
        (lambda body: (503, b""), "Reaching the node failed: it responded with HTTP status 503."),
        (lambda body: (200, b"<html>welcome</html>"), "Reaching the node failed: its response is no JSON."),
        (refusal("daily limit reached"), "Reaching the node failed: the node says: daily limit reached."),
    ],
)
def test_a_failing_node_gives_one_sentence_after_one_request(
    response: Callable[[dict[str, Any]], Response], message: str
) -> None:
    with node(response) as (url, methods):
        with pytest.raises(EngineError) as raised:
            node_module.connect(url)
        assert sentence(raised) == message
        assert methods == ["eth_chainId"]


@pytest.mark.parametrize("text", ["0x12", "owner.eth", "0x4e59B44847b379578588920cA78FbF26c0B4956C"])
def test_a_mistyped_address_is_refused(text: str) -> None:
    """The last has another letter in upper case than its checksum says."""
    with pytest.raises(ReleaseError, match="is no address"):
        node_module.checksum_address(text)


def test_an_unreachable_node_is_reported() -> None:
    with pytest.raises(EngineError, match=r"it can't be reached \(ConnectionError\)") as raised:
        node_module.connect("http://127.0.0.1:9/v3/url-secret")
    sentence(raised)


@pytest.mark.slow
def test_a_silent_node_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_module, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(EngineError, match="did not respond within") as raised:
            node_module.connect(f"http://127.0.0.1:{silent.getsockname()[1]}/v3/url-secret")
        sentence(raised)


def test_a_deployment_that_is_not_mined_in_time_may_still_be_mined() -> None:
    assert "was sent, but not mined within" in str(
        node_module.node_error("Deploying the contract", TimeExhausted("0x12"))
    )

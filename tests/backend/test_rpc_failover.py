"""One provider over several URLs, against real HTTP servers that fail as nodes do."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from app.services.rpc_failover import FailoverProvider
from backend_environment import Time
from eth_utils.crypto import keccak
from web3 import Web3
from web3.exceptions import ContractLogicError, Web3RPCError

SEND = "eth_sendRawTransaction"
RAW = "0x02f86d"
RAW_HASH = "0x" + keccak(hexstr=RAW).hex()
DEAD = "http://127.0.0.1:9/v3/url-secret"
CHAIN_ID = {"result": "0xaa36a7"}
BUSY = {"error": {"code": -32005, "message": "project ID request rate exceeded"}}
REVERT = {"error": {"code": 3, "message": "execution reverted: too many requests", "data": "0x08c379a0"}}


class Node(ThreadingHTTPServer):
    """Answers requests in turn with (HTTP status, JSON or bytes, headers), repeats the last, and keeps the bodies."""

    daemon_threads = True

    def __init__(self, *answers: Any) -> None:
        self.answers, self.bodies = list(answers), list[bytes]()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v3/url-secret"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Node

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        request_id = json.loads(self.server.bodies[-1])["id"]
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer == "hang up":
            self.close_connection = True
            return
        if answer == "be silent":
            time.sleep(3)
            return
        status, message, *headers = answer if isinstance(answer, tuple) else (200, answer)
        response = message if isinstance(message, bytes) else {"jsonrpc": "2.0", "id": request_id, **message}
        body = response if isinstance(response, bytes) else json.dumps(response).encode()
        self.send_response(status)
        for name, value in [*headers, ("Content-Length", str(len(body)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Suppresses the server's log."""


Start = Callable[..., Node]


@pytest.fixture
def start() -> Iterator[Start]:
    @contextmanager
    def running(*answers: Any) -> Iterator[Node]:
        with Node(*answers) as node:
            threading.Thread(target=node.serve_forever, args=(0.01,), daemon=True).start()
            yield node
            node.shutdown()

    with ExitStack() as stack:
        yield lambda *answers: stack.enter_context(running(*answers))


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def over(clock: Time) -> Callable[..., FailoverProvider]:
    """Returns a provider for nodes or URLs, with maximum jitter and a simulated clock."""

    def make(*nodes: Node | str, timeout: float = 5) -> FailoverProvider:
        urls = [node if isinstance(node, str) else node.url for node in nodes]
        return FailoverProvider(urls, timeout=timeout, sleep=clock.sleep, clock=lambda: clock.now, jitter=lambda: 1.0)

    return make


@pytest.mark.parametrize(
    "failure",
    [
        "hang up",
        (429, b"slow down"),
        (429, BUSY),
        (500, b""),
        (502, b"<html>bad gateway</html>"),
        (503, {"error": {"code": -32603, "message": "Internal error"}}),
        (200, BUSY),
        (200, {"error": {"code": 429, "message": "Your app has exceeded its compute units per second capacity."}}),
        (200, {"error": {"code": -32007, "message": "50/second request limit reached"}}),
        (200, {"error": {"code": -32002, "message": "request timed out"}}),
        (200, b"<html>log in to the hotel's network</html>"),
        (200, b"\xff"),
        (200, b"[]"),
        (401, b"invalid project id"),
        (301, b"", ("Location", "https://elsewhere.example/")),
    ],
)
def test_fault_03_the_next_endpoint_gets_the_same_bytes(
    start: Start, over: Callable[..., FailoverProvider], clock: Time, failure: Any
) -> None:
    broken, good = start(failure), start({"result": RAW_HASH})
    w3 = Web3(over(broken, good), [])
    assert w3.eth.send_raw_transaction(RAW).to_0x_hex() == RAW_HASH
    assert broken.bodies == good.bodies
    assert json.loads(good.bodies[0])["params"] == [RAW]
    assert clock.slept == []


@pytest.mark.slow
def test_fault_03_a_node_that_is_gone_or_silent(start: Start, over: Callable[..., FailoverProvider]) -> None:
    silent, good = start("be silent"), start(CHAIN_ID)
    assert Web3(over(DEAD, silent, good, timeout=2), []).eth.chain_id == 11_155_111
    assert len(silent.bodies) == len(good.bodies) == 1


@pytest.mark.slow
def test_a_working_endpoint_is_kept(start: Start, over: Callable[..., FailoverProvider], clock: Time) -> None:
    first, second = start((503, b""), CHAIN_ID), start(CHAIN_ID)
    w3 = Web3(over(first, second), [])
    for _ in range(3):
        assert w3.eth.chain_id == 11_155_111
        clock.now += 100
    assert (len(first.bodies), len(second.bodies)) == (1, 3)


def test_a_single_endpoint_is_retried_after_doubling_pauses(
    start: Start, over: Callable[..., FailoverProvider], clock: Time
) -> None:
    node = start((500, b""), "hang up", (429, b""), CHAIN_ID)
    assert Web3(over(node), []).eth.chain_id == 11_155_111
    assert clock.slept == [0.25, 0.5, 1.0]
    assert len(set(node.bodies)) == 1


def test_pauses_are_jittered(start: Start, clock: Time) -> None:
    node = start((500, b""), (500, b""), CHAIN_ID)
    chances = iter([0.0, 0.5])
    provider = FailoverProvider([node.url], sleep=clock.sleep, clock=lambda: clock.now, jitter=lambda: next(chances))
    assert Web3(provider, []).eth.chain_id == 11_155_111
    assert clock.slept == [0.125, 0.375]


@pytest.mark.parametrize(("retry_after", "pause"), [("3", 3), ("86400", 10), ("-1", 0.25), ("²", 0.25), ("soon", 0.25)])
def test_retry_after_is_honoured_within_bounds(
    start: Start, over: Callable[..., FailoverProvider], clock: Time, retry_after: str, pause: float
) -> None:
    node = start((429, b"", ("Retry-After", retry_after.encode().decode("latin-1"))), CHAIN_ID)
    assert Web3(over(node), []).eth.chain_id == 11_155_111
    assert clock.slept == [pause]


LOGS_FILTER = {"address": "0x" + "ab" * 20, "fromBlock": "0x0", "toBlock": "0x0"}


@pytest.mark.parametrize(
    ("method", "params", "judged"),
    [
        ("eth_call", [], REVERT),
        ("eth_call", [], (500, REVERT)),
        ("eth_estimateGas", [], {"error": {"code": -32000, "message": "gas required exceeds allowance (16777216)"}}),
        (SEND, [RAW], {"error": {"code": -32000, "message": "nonce too low: next nonce 7, tx nonce 5"}}),
        (SEND, [RAW], {"error": {"code": -32000, "message": "insufficient funds for gas * price + value"}}),
        (SEND, [RAW], (400, {"error": {"code": -32000, "message": "already known"}})),
        ("eth_getTransactionReceipt", [RAW_HASH], {"result": None}),
    ],
)
def test_a_nodes_verdict_is_not_retried(
    start: Start, over: Callable[..., FailoverProvider], clock: Time, method: Any, params: Any, judged: Any
) -> None:
    node, other = start(judged), start(CHAIN_ID)
    message = judged[1] if isinstance(judged, tuple) else judged
    answer = over(node, other).make_request(method, params)
    assert {**answer, **message} == answer
    assert (len(node.bodies), len(other.bodies), clock.slept) == (1, 0, [])


def test_web3_raises_the_same_errors_as_with_its_own_provider(
    start: Start, over: Callable[..., FailoverProvider]
) -> None:
    with pytest.raises(ContractLogicError, match="too many requests"):
        Web3(over(start(REVERT)), []).eth.call({"to": Web3.to_checksum_address("0x" + "ab" * 20)})
    with pytest.raises(Web3RPCError, match="nonce too low"):
        Web3(over(start({"error": {"code": -32000, "message": "nonce too low"}})), []).eth.send_raw_transaction(RAW)


def test_retries_end_with_the_last_error(start: Start, over: Callable[..., FailoverProvider], clock: Time) -> None:
    nodes = [start((503, b"")), start((429, b""))]
    with pytest.raises(requests.HTTPError, match=r"endpoint [12] of 2 (has too many requests|gave no answer)"):
        over(*nodes).make_request("eth_chainId", [])  # type: ignore[arg-type]
    assert clock.now <= 20
    assert 4 < len(nodes[0].bodies) < 20


def test_permanent_errors_of_all_endpoints_end_retries_at_once(
    start: Start, over: Callable[..., FailoverProvider], clock: Time
) -> None:
    nodes = [start((401, b"invalid project id")), start((404, b"no such path"))]
    with pytest.raises(requests.HTTPError, match="endpoint 2 of 2 gave no answer but HTTP status 404"):
        over(*nodes).make_request("eth_chainId", [])  # type: ignore[arg-type]
    assert clock.slept == []


@pytest.mark.slow
def test_real_time_is_bounded() -> None:
    begun = time.monotonic()
    with pytest.raises(requests.ConnectionError):
        FailoverProvider([DEAD], give_up_after=0.5).make_request("eth_chainId", [])  # type: ignore[arg-type]
    assert time.monotonic() - begun < 5


@pytest.mark.slow
def test_urls_do_not_appear_in_errors_and_logs(
    start: Start, over: Callable[..., FailoverProvider], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        nodes = [DEAD, start((500, b"")), start("hang up"), f"http://127.0.0.1:{mute.getsockname()[1]}/v3/url-secret"]
        provider = over(*nodes, timeout=0.1)
        with pytest.raises(requests.RequestException) as caught:
            Web3(provider).eth.chain_id  # noqa: B018
        Web3(over(start(CHAIN_ID))).eth.chain_id  # noqa: B018
    output = "".join(traceback.format_exception(caught.value))
    texts = f"{caplog.text} {output} {provider!r} {provider} {caught.value.__context__!r} {caught.value.request!r}"
    assert "endpoint 1 of 4 can't be reached (ConnectionError)" in texts
    assert "url-secret" not in texts


@pytest.mark.slow
def test_threads_share_a_provider(start: Start, over: Callable[..., FailoverProvider]) -> None:
    w3 = Web3(over(DEAD, start(CHAIN_ID)), [])
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.append(w3.eth.chain_id)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [11_155_111] * 16

"""An HTTP server that answers JSON-RPC requests as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHAIN_ID = 11_155_111
HEADER = {
    "hash": "0x" + "07" * 32,
    "parentHash": "0x" + "06" * 32,
    "timestamp": "0x64",
    "baseFeePerGas": "0x7",
    "transactions": [],
}
Answer = Callable[[Any], Any]
"""Gets the parameters of a request. Returns a result, or an `HttpError`."""


class HttpError:
    """An error of JSON-RPC with an HTTP status."""

    def __init__(self, message: str, code: int = -32000, status: int = 200, data: Any = None) -> None:
        self.status = status
        self.fields = {"code": code, "message": message} | ({} if data is None else {"data": data})


class ScriptedNode(ThreadingHTTPServer):
    """A node on a chain with a head, and answers by method.

    Attributes:
        chain_id: What it answers to eth_chainId.
        head: What it answers to eth_blockNumber; it has all blocks up to this one.
        answers: Answers to further methods, or instead of these.
        asked: Methods in the order of the requests.
        id_of: Returns the id of the response to a request.
    """

    daemon_threads = True

    def __init__(self, chain_id: int = CHAIN_ID, head: int = 100, **answers: Answer) -> None:
        self.chain_id, self.head, self.answers, self.asked = chain_id, head, answers, list[str]()
        self.id_of: Callable[[Any], Any] = lambda request: request["id"]
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v3/url-secret"

    def result(self, method: str, params: Any) -> Any:
        if method in self.answers:
            return self.answers[method](params)
        if method == "eth_getBlockByNumber":
            number = self.head if params[0] == "latest" else int(params[0], 16)
            return HEADER | {"number": hex(number)} if number <= self.head else None
        return hex(self.chain_id if method == "eth_chainId" else self.head)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body at once, else each answer takes 40 ms
    server: ScriptedNode

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(request["method"])
        result = self.server.result(request["method"], request["params"])
        is_error = isinstance(result, HttpError)
        answer = {"error": result.fields} if is_error else {"result": result}
        body = json.dumps({"jsonrpc": "2.0", "id": self.server.id_of(request), **answer}).encode()
        self.send_response(result.status if is_error else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Suppresses the server's log."""


@contextmanager
def running(*nodes: ThreadingHTTPServer) -> Iterator[None]:
    for node in nodes:
        threading.Thread(target=node.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield
    finally:
        for node in nodes:
            node.shutdown()
            node.server_close()

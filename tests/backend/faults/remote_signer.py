"""A remote signer that speaks web3signer's JSON-RPC, signs with real keys, and can be made to fail in each way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from eth_account.signers.local import LocalAccount
from pydantic import SecretStr

NUMBERS = ("chainId", "value", "nonce", "gas", "maxFeePerGas", "maxPriorityFeePerGas")
Change = Callable[[dict[str, Any]], dict[str, Any]]


class RemoteSigner(ThreadingHTTPServer):
    """The server.

    Attributes:
        accounts: The accounts whose keys it has, by address in lower case.
        asked: The transactions that it was asked to sign.
        change: Changes a transaction before it is signed.
        key: Signs instead of the sender's key.
        answer: The whole body of each answer, instead of a signature; "silence" keeps the connection open.
        status: HTTP status of each answer.
    """

    daemon_threads = True

    def __init__(self, *accounts: LocalAccount) -> None:
        self.accounts = {account.address.lower(): account for account in accounts}
        self.asked: list[dict[str, Any]] = []
        self.change: Change | None = None
        self.key: LocalAccount | None = None
        self.answer: bytes | str | None = None
        self.status = 200
        self.released = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> SecretStr:
        return SecretStr(f"http://someone:signer-password@127.0.0.1:{self.server_port}/")

    def work(self) -> None:
        """Ends all failures."""
        self.change = self.key = self.answer = None
        self.status = 200

    def respond(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["method"] == "eth_accounts":
            return {"result": [account.address for account in self.accounts.values()]}
        [transaction] = request["params"]
        self.asked.append(transaction)
        account = self.accounts.get(transaction["from"].lower())
        if account is None:
            return {"error": {"code": -32000, "message": "signing from account is not available"}}
        fields = {"type": 2, "to": transaction["to"], "data": transaction["data"]}
        fields |= {name: int(transaction[name], 16) for name in NUMBERS}
        if self.change is not None:
            fields = self.change(fields)
        signed = (self.key or account).sign_transaction(fields)
        return {"result": signed.raw_transaction.to_0x_hex()}


class _Handler(BaseHTTPRequestHandler):
    server: RemoteSigner

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.answer == "silence":
            self.server.released.wait(20)
            return
        body = self.server.answer
        if body is None:
            body = json.dumps({"jsonrpc": "2.0", "id": request["id"], **self.server.respond(request)}).encode()
        assert isinstance(body, bytes)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def remote_signer(*accounts: LocalAccount) -> Iterator[RemoteSigner]:
    server = RemoteSigner(*accounts)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()

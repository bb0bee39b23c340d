"""What happens to a request on its way to a node and back: actions and responses that many faults have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import requests
from web3.types import RPCResponse

from stakesim.faults.faulty_provider import (
    BLOCK,
    CALL,
    ESTIMATE,
    HEAD,
    LOGS,
    NONCE,
    RECEIPT,
    SEND,
    Action,
    FaultyProvider,
)

READ = (RECEIPT, NONCE, HEAD, BLOCK, LOGS, ESTIMATE, CALL)
ANY = (SEND, *READ)


def success(result: Any) -> RPCResponse:
    """A JSON-RPC response with a result."""
    return {"jsonrpc": "2.0", "id": 0, "result": result}


def error(code: int, message: str) -> RPCResponse:
    """A JSON-RPC response with an error."""
    return {"jsonrpc": "2.0", "id": 0, "error": {"code": code, "message": message}}


def http_error(status: int, reason: str) -> Callable[[], NoReturn]:
    """Fails as `raise_for_status` does."""

    def fail() -> NoReturn:
        response = requests.Response()
        response.status_code, response.reason = status, reason
        side = "Client" if status < 500 else "Server"
        raise requests.HTTPError(f"{status} {side} Error: {reason}", response=response)

    return fail


def connection_refused() -> NoReturn:
    """Fails as a request to a node that does not run."""
    raise requests.ConnectionError("Failed to establish a new connection: [Errno 111] Connection refused")


def connection_reset() -> NoReturn:
    """Fails as a request whose connection is reset."""
    raise requests.ConnectionError(
        "Connection aborted.", ConnectionResetError(104, "Connection reset by peer")
    ) from None


def read_timeout() -> NoReturn:
    """Fails as a request without an answer in time."""
    raise requests.ReadTimeout("Read timed out. (read timeout=10)")


def request_lost(fail: Callable[[], NoReturn]) -> Action:
    """The request never reaches the node."""

    def action(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse:
        fail()

    return action


def response_lost(fail: Callable[[], NoReturn]) -> Action:
    """The node executes the request, and its response is lost."""

    def action(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse:
        provider.forward(method, params)
        fail()

    return action


def rejected(code: int, *messages: str) -> Action:
    """The node rejects the request with one of these messages."""

    def action(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse:
        return error(code, provider.choose("message", messages))

    return action


def executed_but_rejected(code: int, *messages: str) -> Action:
    """The node executes the request, and responds with one of these errors."""
    reject = rejected(code, *messages)

    def action(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
        provider.forward(method, params)
        return reject(provider, method, params)

    return action


def only_error(response: RPCResponse) -> RPCResponse | None:
    """The response if it is an error. None, so that the fault does not apply, if the node accepts the request."""
    return response if "error" in response else None

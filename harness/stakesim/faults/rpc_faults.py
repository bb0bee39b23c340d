"""Faults of networks and nodes for a `FaultyProvider`.

A fault is real where possible: a lost response belongs to a request that the node executed, "already known" and "nonce
too low" are the node's own errors, and an old block or nonce is the node's response for an older block. Rows are those
of `stakesim.faults.catalogue`.
"""

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
    Fault,
    FaultyProvider,
)
from stakesim.faults.signed_transaction import SignedTransaction

READ = (RECEIPT, NONCE, HEAD, BLOCK, LOGS, ESTIMATE, CALL)
ANY = (SEND, *READ)

REPLACEMENT_BUMP = 30
"""Percent by which a strict node requires both fees of a replacement to be higher."""
ESTIMATE_CUT = 40
"""Percent by which an estimate that is too low is below the node's."""
LAG = range(1, 5)
"""How many blocks a lagging node is behind."""


# --------------------------------------------------------------------------------------------- responses and failures


def _success(result: Any) -> RPCResponse:
    return {"jsonrpc": "2.0", "id": 0, "result": result}


def _error(code: int, message: str) -> RPCResponse:
    return {"jsonrpc": "2.0", "id": 0, "error": {"code": code, "message": message}}


def _http_error(status: int, reason: str) -> Callable[[], NoReturn]:
    """Fails as `raise_for_status` does."""

    def fail() -> NoReturn:
        response = requests.Response()
        response.status_code, response.reason = status, reason
        raise requests.HTTPError(f"{status} Server Error: {reason}", response=response)

    return fail


def _connection_refused() -> NoReturn:
    raise requests.ConnectionError("Failed to establish a new connection: [Errno 111] Connection refused")


def _connection_reset() -> NoReturn:
    raise requests.ConnectionError(
        "Connection aborted.", ConnectionResetError(104, "Connection reset by peer")
    ) from None


def _read_timeout() -> NoReturn:
    raise requests.ReadTimeout("Read timed out. (read timeout=10)")


def _request_lost(fail: Callable[[], NoReturn]) -> Action:
    """The request never reaches the node."""

    def action(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse:
        fail()

    return action


def _response_lost(fail: Callable[[], NoReturn]) -> Action:
    """The node executes the request, and its response is lost."""

    def action(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse:
        provider.forward(method, params)
        fail()

    return action


def _rejected(code: int, *messages: str) -> Action:
    """The node rejects the request with one of these messages."""

    def action(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse:
        return _error(code, messages[int(provider.rng.integers(len(messages)))])

    return action


def _executed_but_rejected(code: int, *messages: str) -> Action:
    """The node executes the request, and responds with one of these errors."""
    reject = _rejected(code, *messages)

    def action(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
        provider.forward(method, params)
        return reject(provider, method, params)

    return action


# ------------------------------------------------------------------------------------------------ sending transactions


def _send_twice(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The node gets the transaction twice, and rejects the second copy."""
    provider.forward(method, params)
    return _only_error(provider.forward(method, params))


def _send_twice_to_geth(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """As `_send_twice`, in geth's words."""
    return _send_twice(provider, method, params) and _error(-32000, "already known")


def _wrongly_already_known(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The node once had the transaction, and dropped it."""
    return _error(-32000, "already known")


def _accept_and_lose(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The node accepts the transaction and forwards it to nobody, so it is never mined."""
    return _success(SignedTransaction.decode(str(params[0])).hash)


def _mine_then_send(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The transaction is mined before a second copy of it arrives."""
    provider.forward(method, params)
    provider.mine()
    return _only_error(provider.forward(method, params))


def _mine_older_attempt(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """An older attempt is mined just before this one arrives."""
    older = provider.older_attempts(SignedTransaction.decode(str(params[0])))
    if not older:
        return None
    provider.forward(method, [older[int(provider.rng.integers(len(older)))].raw])
    provider.mine()
    return _only_error(provider.forward(method, params))


def _require_higher_fees(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The node requires `REPLACEMENT_BUMP` percent more of a replacement."""
    new = SignedTransaction.decode(str(params[0]))
    older = provider.older_attempts(new)
    if not older:
        return None
    required = 100 + REPLACEMENT_BUMP
    if all(100 * new.max_fee >= required * old.max_fee and 100 * new.tip >= required * old.tip for old in older):
        return None
    provider.received.setdefault(new.hash, new)
    return _error(-32000, "replacement transaction underpriced")


def _reject_nonce_gap(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The node keeps no transaction whose nonce is above the next one."""
    new = SignedTransaction.decode(str(params[0]))
    next_nonce = int(provider.forward(NONCE, [new.sender, "pending"])["result"], 16)
    if new.nonce <= next_nonce:
        return None
    provider.received.setdefault(new.hash, new)
    return _error(-32000, f"nonce too high: next nonce {next_nonce}, tx nonce {new.nonce}")


def _only_error(response: RPCResponse) -> RPCResponse | None:
    """The response if it is an error. None, so that the fault does not apply, if the node accepts the request."""
    return response if "error" in response else None


# --------------------------------------------------------------------------------------------------- reading the chain


def _lagging_head(provider: FaultyProvider) -> int:
    """Number of the latest block as a lagging node knows it."""
    return max(provider.head() - int(provider.rng.integers(LAG.start, LAG.stop)), 0)


def _old_nonce(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    if params[1] not in ("latest", "pending"):
        return None
    old = provider.forward(method, [params[0], hex(_lagging_head(provider))])
    return None if old.get("result") == provider.forward(method, params).get("result") else old


def _old_head(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    return _success(hex(_lagging_head(provider)))


def _old_block(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    return provider.forward(method, [hex(_lagging_head(provider)), *params[1:]]) if params[0] == "latest" else None


def _missing_block(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    return _success(None) if params[0] != "latest" else None


def _missing_receipt(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    return _success(None) if provider.forward(method, params).get("result") else None


def _old_receipt(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """A receipt of a block that a reorg removed."""
    old = provider.receipts.get(str(params[0]))
    if old is None:
        return None
    current = provider.forward(method, params).get("result")
    return None if current and current["blockHash"] == old["result"]["blockHash"] else old


def _old_state(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The response for an older block."""
    if list(params[1:2]) not in ([], ["latest"], ["pending"]):
        return None
    old = provider.forward(method, [params[0], hex(_lagging_head(provider))])
    return old if old.get("result", "0x") != "0x" else None  # 0x: the contract did not exist at that block


def _low_estimate(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """An estimate that was right for another state: the transaction will run out of gas."""
    response = provider.forward(method, params)
    if "result" not in response:
        return None
    return _success(hex(int(response["result"], 16) * (100 - ESTIMATE_CUT) // 100))


# ---------------------------------------------------------------------------------------------------------- all faults

NODE_FAILURES = (
    "header not found",
    "missing trie node 5ac7c3 (path )",
    "Internal error",
    "backend is syncing",
    "upstream connect error or disconnect/reset before headers",
    "we can't execute this request",
    "execution aborted (timeout = 5s)",
)
"""Errors of nodes that fail. They say nothing about the request."""

FAULTS: tuple[Fault, ...] = (
    Fault("response lost", 1, [SEND], _response_lost(_connection_reset)),
    Fault("request lost", 2, [SEND], _request_lost(_connection_refused)),
    Fault("read request lost", 2, READ, _request_lost(_connection_refused)),
    Fault("429", 3, ANY, _request_lost(_http_error(429, "Too Many Requests"))),
    Fault("502", 3, ANY, _request_lost(_http_error(502, "Bad Gateway"))),
    Fault("503, executed", 3, ANY, _response_lost(_http_error(503, "Service Unavailable"))),
    Fault("connection reset", 3, ANY, _request_lost(_connection_reset)),
    Fault(
        "rate limit as JSON-RPC error", 3, ANY, _rejected(-32005, "daily request count exceeded, request rate limited")
    ),
    Fault("time-out, sent", 4, [SEND], _response_lost(_read_timeout)),
    Fault("time-out, not sent", 4, [SEND], _request_lost(_read_timeout)),
    Fault("unknown error, sent", 4, [SEND], _executed_but_rejected(-32000, *NODE_FAILURES)),
    Fault(
        "unknown error, not sent",
        4,
        [SEND],
        _rejected(-32603, *NODE_FAILURES, "txpool is full", "transaction rejected"),
    ),
    Fault("already known, the node's error", 5, [SEND], _send_twice),
    Fault("already known, geth's error", 5, [SEND], _send_twice_to_geth),
    Fault("already known, wrongly", 5, [SEND], _wrongly_already_known),
    Fault("nonce too low, mined", 6, [SEND], _mine_then_send),
    Fault("nonce too low, older attempt mined", 7, [SEND], _mine_older_attempt),
    Fault("nonce too low, wrongly", 8, [SEND], _rejected(-32000, "nonce too low: next nonce 4711, tx nonce 0")),
    Fault("nonce too high", 9, [SEND], _reject_nonce_gap),
    Fault("replacement underpriced", 10, [SEND], _require_higher_fees),
    Fault(
        "insufficient funds, wrongly",
        11,
        [SEND],
        _rejected(-32000, "insufficient funds for gas * price + value: balance 0, tx cost 21000, overshot 21000"),
    ),
    Fault("accepted and lost", 12, [SEND], _accept_and_lose),
    Fault("receipt withheld", 13, [RECEIPT], _missing_receipt),
    Fault("estimate fails on the node", 19, [ESTIMATE], _rejected(-32000, *NODE_FAILURES)),
    Fault("estimate too low", 20, [ESTIMATE], _low_estimate),
    Fault("old nonce", 21, [NONCE], _old_nonce),
    Fault("old block number", 22, [HEAD], _old_head),
    Fault("old latest block", 22, [BLOCK], _old_block),
    Fault("block missing", 22, [BLOCK], _missing_block),
    Fault("old receipt", 22, [RECEIPT], _old_receipt),
    Fault("old state", 22, [CALL, ESTIMATE], _old_state),
    Fault("read fails on the node", 22, [RECEIPT, NONCE, HEAD, BLOCK, LOGS, CALL], _rejected(-32603, *NODE_FAILURES)),
)
"""All faults, each with a unique name."""

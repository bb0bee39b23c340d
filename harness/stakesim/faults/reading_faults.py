"""Faults of reading the chain: lagging nodes, nodes with limits, nodes that fail.

An old block or nonce is the node's own response for an older block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from web3.types import RPCResponse

from stakesim.faults.faulty_provider import BLOCK, CALL, ESTIMATE, HEAD, LOGS, NONCE, RECEIPT, Fault, FaultyProvider
from stakesim.faults.node_words import LOG_LIMITS, NO_PENDING_STATE, NODE_FAILURES, QUOTA_EXCEEDED
from stakesim.faults.rpc_responses import (
    ANY,
    READ,
    connection_refused,
    connection_reset,
    error,
    http_error,
    rejected,
    request_lost,
    response_lost,
    success,
)
from stakesim.faults.testbed import service_account

ESTIMATE_CUT = 40
"""Percent by which an estimate that is too low is below the node's."""
LAG = range(1, 5)
"""How many blocks a lagging node is behind."""
TOO_HIGH_BY = range(1, 5)
"""How many nonces a node counts too many."""
LOG_LIMIT = range(1, 4)
"""Number of blocks for which a node with limits returns events."""


def _lagging_head(provider: FaultyProvider) -> int:
    """Number of the latest block as a lagging node knows it."""
    return max(provider.head() - provider.choose("blocks behind", LAG), 0)


def _old_nonce(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    if params[1] not in ("latest", "pending"):
        return None
    old = provider.forward(method, [params[0], hex(_lagging_head(provider))])
    return None if old.get("result") == provider.forward(method, params).get("result") else old


def _old_head(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    return success(hex(_lagging_head(provider)))


def _old_block(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    return provider.forward(method, [hex(_lagging_head(provider)), *params[1:]]) if params[0] == "latest" else None


def _missing_block(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    return success(None) if params[0] != "latest" else None


def _missing_receipt(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    return success(None) if provider.forward(method, params).get("result") else None


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
    return success(hex(int(response["result"], 16) * (100 - ESTIMATE_CUT) // 100))


def _nonce_too_high(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """A transaction count that is higher than the chain's and the mempool's.

    Only of the service's account: nobody can tell that a node lies for good about an account that is new to it.
    """
    if params[0] != service_account().address:
        return None
    response = provider.forward(method, params)
    if "result" not in response:
        return None
    return success(hex(int(response["result"], 16) + provider.choose("too many", TOO_HIGH_BY)))


def _few_logs(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The node returns events of few blocks only."""
    first, last = (int(params[0][end], 16) for end in ("fromBlock", "toBlock"))
    if last - first < provider.choose("blocks", LOG_LIMIT):
        return None
    return error(*provider.choose("message", LOG_LIMITS))


def _lagging_node(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """A node that does not have the latest blocks: its head, events and receipts are as of an old one."""
    head = _lagging_head(provider)
    match method:
        case "eth_blockNumber":
            return success(hex(head))
        case "eth_getLogs":
            old = {**params[0], "toBlock": hex(min(int(params[0]["toBlock"], 16), head))}
            empty = int(old["fromBlock"], 16) > head
            return success([]) if empty else provider.forward(method, [old])
        case "eth_getTransactionReceipt":
            response = provider.forward(method, params)
            mined = response.get("result")
            return success(None) if mined and int(mined["blockNumber"], 16) > head else response
        case "eth_getBlockByNumber" if str(params[0]).startswith("0x") and int(params[0], 16) > head:
            return success(None)
        case "eth_getBlockByNumber" if params[0] == "latest":
            return provider.forward(method, [hex(head), *params[1:]])
        case _:
            return None


def _no_pending_state(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """A node that estimates on the latest block only."""
    return error(*provider.choose("message", NO_PENDING_STATE)) if params[1:2] == ["pending"] else None


READING_FAULTS: tuple[Fault, ...] = (
    Fault("read request lost", 2, READ, request_lost(connection_refused)),
    Fault("429", 3, ANY, request_lost(http_error(429, "Too Many Requests"))),
    Fault("502", 3, ANY, request_lost(http_error(502, "Bad Gateway"))),
    Fault("503, executed", 3, ANY, response_lost(http_error(503, "Service Unavailable"))),
    Fault("connection reset", 3, ANY, request_lost(connection_reset)),
    Fault(
        "rate limit as JSON-RPC error", 3, ANY, rejected(-32005, "daily request count exceeded, request rate limited")
    ),
    Fault("receipt withheld", 13, [RECEIPT], _missing_receipt, may_last=True),
    Fault("estimate fails on the node", 19, [ESTIMATE], rejected(-32000, *NODE_FAILURES)),
    Fault("estimate too low", 20, [ESTIMATE], _low_estimate),
    Fault("old nonce", 21, [NONCE], _old_nonce),
    Fault("old block number", 22, [HEAD], _old_head),
    Fault("old latest block", 22, [BLOCK], _old_block),
    Fault("block missing", 22, [BLOCK], _missing_block),
    Fault("old receipt", 22, [RECEIPT], _old_receipt),
    Fault("old state", 22, [CALL, ESTIMATE], _old_state),
    Fault("read fails on the node", 22, [RECEIPT, NONCE, HEAD, BLOCK, LOGS, CALL], rejected(-32603, *NODE_FAILURES)),
    Fault("nonce count too high", 31, [NONCE], _nonce_too_high, may_last=True),
    Fault("quota exceeded", 35, ANY, rejected(-32000, *QUOTA_EXCEEDED), may_last=True),
    Fault("401", 35, ANY, request_lost(http_error(401, "Unauthorized")), may_last=True),
    Fault("403", 35, ANY, request_lost(http_error(403, "Forbidden")), may_last=True),
    Fault("events of few blocks only", 38, [LOGS], _few_logs, may_last=True),
    Fault("lagging node", 38, [HEAD, BLOCK, RECEIPT, LOGS], _lagging_node, may_last=True),
    Fault("estimates on the latest block only", 40, [ESTIMATE], _no_pending_state, may_last=True),
    Fault("estimate fails for good", 40, [ESTIMATE], rejected(-32000, *NODE_FAILURES), may_last=True),
)
"""All faults of this module."""

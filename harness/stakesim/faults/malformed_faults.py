"""Responses with null, missing or wrong fields, and receipts of other transactions (row 37)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    Fault,
    FaultyProvider,
)
from stakesim.faults.rpc_responses import success

MISSING = "missing"
WRONG_VALUES: tuple[Any, ...] = (None, "", "0x", "latest", "0xzz", -1, 1.5, True, [], {})
"""Values of other types, and text that is no number and no hash."""


def _wrong_field(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """One field of the object, or of its first event, is missing or has a wrong value."""
    response = provider.forward(method, params)
    result = response.get("result")
    entry = result[0] if isinstance(result, list) and result else result
    if not isinstance(entry, dict):
        return None
    field, value = provider.choose("field", USED_FIELDS[method]), provider.choose("value", (MISSING, *WRONG_VALUES))
    if entry.get(field) == value or (method, field, value) == (RECEIPT, "logs", []):
        return None  # an empty list of events is well-formed: only a second look at the chain can tell that it is wrong
    wrong = {name: old for name, old in entry.items() if name != field}
    wrong |= {} if value == MISSING else {field: value}
    return success([wrong, *result[1:]] if isinstance(result, list) else wrong)


def _wrong_result(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The whole result is of another type."""
    values = [value for value in WRONG_VALUES if not _is_possible(method, value)]
    return success(provider.choose("value", values))


def _is_possible(method: str, value: Any) -> bool:
    """Whether a working node may return this value."""
    return (
        (method in (RECEIPT, BLOCK) and value is None)
        or (method == LOGS and value == [])
        or (method == CALL and value == "0x")
    )


def _no_result(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """A response with neither result nor error."""
    return {"jsonrpc": "2.0", "id": 0}


def _receipt_of_another(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The receipt of another transaction that the node has."""
    others = [response for tx_hash, response in provider.receipts.items() if tx_hash != params[0]]
    return others[provider.choose("receipt", range(len(others)))] if others else None


USED_FIELDS = {
    RECEIPT: (
        "transactionHash",
        "blockHash",
        "blockNumber",
        "from",
        "to",
        "status",
        "gasUsed",
        "effectiveGasPrice",
        "logs",
    ),
    BLOCK: ("number", "hash", "baseFeePerGas", "timestamp", "transactions"),
    LOGS: ("address", "topics", "data", "transactionHash", "blockNumber", "logIndex"),
}
"""Fields of responses that a service may use."""

MALFORMED_FAULTS: tuple[Fault, ...] = (
    Fault("wrong field", 37, [RECEIPT, BLOCK, LOGS], _wrong_field),
    Fault("wrong result", 37, [RECEIPT, NONCE, HEAD, BLOCK, LOGS, ESTIMATE, SEND], _wrong_result),
    Fault("neither result nor error", 37, [RECEIPT, NONCE, HEAD, BLOCK, LOGS, ESTIMATE, CALL, SEND], _no_result),
    Fault("receipt of another transaction", 37, [RECEIPT], _receipt_of_another),
)
"""All faults of this module."""

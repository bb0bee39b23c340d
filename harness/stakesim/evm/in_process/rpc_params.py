"""The parameters of JSON-RPC requests, as web3 hands them over: numbers and bytes, or their digits in hex."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias, TypedDict

from eth_utils.address import to_canonical_address
from hexbytes import HexBytes

from stakesim.evm.in_process.evm import StateOverride
from stakesim.evm.in_process.rpc_error import INVALID_PARAMS, RpcError

Number: TypeAlias = int | str
"""A number, or its digits in hex."""
Data: TypeAlias = bytes | str
"""Bytes, or their digits in hex."""
BlockParameter: TypeAlias = int | str | Mapping[str, Data]
"""A block's number, its name, or `{"blockHash": ...}`."""
CallRequest = TypedDict(
    "CallRequest",
    {"from": Data, "to": Data | None, "value": Number, "gas": Number, "data": Data, "input": Data},
    total=False,
)
Overrides: TypeAlias = Mapping[str, Mapping[str, Any]]
"""What a call finds other than it is on chain: `balance`, `nonce`, `code`, and `state` or `stateDiff`, by address."""


@lru_cache(1024)
def address(value: Data) -> bytes:
    """Reads an address. Cached, as addresses recur."""
    return to_canonical_address(value)


def integer(value: Number) -> int:
    """Reads a number."""
    return value if isinstance(value, int) else int(value, 16)


def data(value: Data) -> bytes:
    """Reads bytes."""
    return bytes(HexBytes(value))


def state_overrides(value: Overrides | None) -> dict[bytes, StateOverride]:
    """Reads the state overrides of a call.

    Raises:
        RpcError: An account has both `state` and `stateDiff`.
    """
    return {address(account): _state_override(account, fields) for account, fields in (value or {}).items()}


def _state_override(account: str, fields: Mapping[str, Any]) -> StateOverride:
    if "state" in fields and "stateDiff" in fields:
        raise RpcError(INVALID_PARAMS, f"account {account} has both 'state' and 'stateDiff'")
    slots = fields.get("state", fields.get("stateDiff", {}))
    return StateOverride(
        balance=integer(fields["balance"]) if "balance" in fields else None,
        nonce=integer(fields["nonce"]) if "nonce" in fields else None,
        code=data(fields["code"]) if "code" in fields else None,
        slots={integer(slot): int.from_bytes(data(value)) for slot, value in slots.items()},
        replaces_storage="state" in fields,
    )

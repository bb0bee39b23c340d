"""Accounts that the node signs for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eth_account.messages import encode_defunct, encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_utils.exceptions import ValidationError

from stakesim.evm.abi import checksummed
from stakesim.evm.chain_spec import SUGGESTED_PRIORITY_FEE
from stakesim.evm.in_process import rpc_encoding
from stakesim.evm.in_process.node import Methods
from stakesim.evm.in_process.node_core import NodeCore
from stakesim.evm.in_process.rpc_encoding import JsonObject
from stakesim.evm.in_process.rpc_error import INVALID_INPUT, INVALID_PARAMS, RpcError
from stakesim.evm.in_process.rpc_params import Data, address, data, integer

_NUMBERS = ("gas", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "nonce", "value", "chainId")


def methods(core: NodeCore) -> Methods:
    """Methods about accounts."""
    return {
        "eth_accounts": lambda: list(core.accounts),
        "eth_coinbase": lambda: next(iter(core.accounts)),
        "eth_sendTransaction": lambda request: rpc_encoding.data(core.send(_signed(core, request)).hash),
        "eth_sign": lambda account, message: _sign(core, account, encode_defunct(data(message))),
        "eth_signTransaction": lambda request: _signed_transaction(core, request),
        "eth_signTypedData": lambda account, message: _sign_typed_data(core, account, message),
        "eth_signTypedData_v4": lambda account, message: _sign_typed_data(core, account, message),
    }


def _account(core: NodeCore, account: Data) -> LocalAccount:
    name = checksummed(address(account))
    if name not in core.accounts:
        raise RpcError(INVALID_INPUT, f"unknown account {name}: the node signs for those of eth_accounts")
    return core.accounts[name]


def _sign(core: NodeCore, account: Data, message: Any) -> str:
    return rpc_encoding.data(bytes(_account(core, account).sign_message(message).signature))


def _sign_typed_data(core: NodeCore, account: Data, message: dict[str, Any]) -> str:
    try:
        encoded = encode_typed_data(full_message=message)
    except (ValueError, TypeError, KeyError) as error:
        raise RpcError(INVALID_PARAMS, str(error)) from error
    return _sign(core, account, encoded)


def _signed_transaction(core: NodeCore, request: Mapping[str, Any]) -> JsonObject:
    raw = _signed(core, request)
    return {"raw": rpc_encoding.data(raw), "tx": rpc_encoding.waiting_transaction(core.evm.decode(raw))}


def _signed(core: NodeCore, request: Mapping[str, Any]) -> bytes:
    """Returns the signed transaction of a request. What the request leaves out is filled in."""
    account = _account(core, request.get("from") or b"\0" * 20)
    fields = {name: integer(request[name]) for name in _NUMBERS if request.get(name) is not None}
    fields.setdefault("chainId", core.chain.chain_id)
    fields.setdefault("nonce", core.nonce(account.address, "pending"))
    if "gasPrice" not in fields:
        base_fee = core.chain.pending.base_fee_per_gas
        fields.setdefault("maxPriorityFeePerGas", SUGGESTED_PRIORITY_FEE)
        fields.setdefault("maxFeePerGas", 2 * base_fee + fields["maxPriorityFeePerGas"])
    if "gas" not in fields:
        fields["gas"] = core.estimate(request, "pending")  # type: ignore[arg-type]  # it has more fields than a call
    others: dict[str, Any] = {"data": data(request.get("data") or request.get("input") or b"")}
    others |= {name: request[name] for name in ("accessList", "authorizationList") if request.get(name) is not None}
    if request.get("to"):
        others["to"] = checksummed(address(request["to"]))
    try:
        return bytes(account.sign_transaction({"value": 0} | fields | others).raw_transaction)
    except (TypeError, ValueError, ValidationError) as error:
        raise RpcError(INVALID_PARAMS, f"invalid transaction: {error}") from error

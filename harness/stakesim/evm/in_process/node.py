"""A JSON-RPC node on a chain in this process, as a web3 provider.

web3 formats its results and raises the same exceptions as on a live network. eth-tester's own layers answer in other
shapes with other errors, and take as long for a signed transaction as py-evm takes to execute it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypedDict, cast

from eth_keys.exceptions import BadSignature
from eth_utils.address import to_canonical_address
from eth_utils.exceptions import ValidationError
from hexbytes import HexBytes
from rlp.exceptions import RLPException
from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from stakesim.evm.chain_spec import SUGGESTED_PRIORITY_FEE, TRANSACTION_GAS_CAP
from stakesim.evm.in_process import rpc_encoding
from stakesim.evm.in_process.chain import Block, Chain
from stakesim.evm.in_process.evm import CallResult, Header, Message, Transaction
from stakesim.evm.in_process.gas import floor_gas, intrinsic_gas
from stakesim.evm.in_process.rpc_encoding import JsonObject, JsonValue, LogFilter
from stakesim.evm.in_process.rpc_error import INVALID_INPUT, METHOD_NOT_FOUND, RpcError, raise_if_failed

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

CALLER_SLACK = 100_000
"""Gas that an estimate adds to the gas used, for code that calls other code or reads its remaining gas."""
CALL_STIPEND = 2_300
"""Gas that some writes require to be left (EIP-2200)."""


class InProcessNode(BaseProvider):
    """Answers the requests that web3, a backend and a test send. Other methods get JSON-RPC's "method not found"."""

    def __init__(self, chain: Chain, name: str) -> None:
        super().__init__()
        self._chain, self._evm, self._name = chain, chain.evm, name
        self._lock = threading.Lock()  # a web server sends requests from several threads
        evm, header = self._evm, self._header
        self._methods: Mapping[str, Callable[..., JsonValue]] = {
            "eth_accounts": list,
            "eth_blockNumber": lambda: hex(chain.head.number),
            "eth_call": lambda request, block="latest": rpc_encoding.data(self._call(request, block)),
            "eth_chainId": lambda: hex(chain.chain_id),
            "eth_estimateGas": lambda request, block="latest": hex(self._estimate(request, block)),
            "eth_gasPrice": lambda: hex(chain.pending.base_fee_per_gas + SUGGESTED_PRIORITY_FEE),
            "eth_getBalance": lambda address, block="latest": hex(evm.balance(header(block), _address(address))),
            "eth_getBlockByHash": lambda block_hash, full=False: self._block_json({"blockHash": block_hash}, full),
            "eth_getBlockByNumber": lambda block, full=False: self._block_json(block, full),
            "eth_getCode": lambda address, block="latest": rpc_encoding.data(
                evm.code(header(block), _address(address))
            ),
            "eth_getLogs": self._logs,
            "eth_getStorageAt": lambda address, slot, block="latest": rpc_encoding.word(
                evm.storage(header(block), _address(address), _int(slot))
            ),
            "eth_getTransactionByHash": lambda tx_hash: self._encode_mined(rpc_encoding.transaction, tx_hash),
            "eth_getTransactionCount": lambda address, block="latest": hex(evm.nonce(header(block), _address(address))),
            "eth_getTransactionReceipt": lambda tx_hash: self._encode_mined(rpc_encoding.receipt, tx_hash),
            "eth_maxPriorityFeePerGas": lambda: hex(SUGGESTED_PRIORITY_FEE),
            "eth_sendRawTransaction": self._send_raw,
            "net_version": lambda: str(chain.chain_id),
            "web3_clientVersion": lambda: f"stakesim/{name}",
        }

    def is_connected(self, show_traceback: bool = False) -> bool:
        """Returns True: the chain is in this process."""
        return True

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Answers a JSON-RPC request. web3 calls it."""
        response: dict[str, object] = {"jsonrpc": "2.0", "id": 0}
        try:
            if method not in self._methods:
                raise RpcError(METHOD_NOT_FOUND, f"the {self._name} engine has no method {method}")
            with self._lock:
                response["result"] = self._methods[method](*params)
        except RpcError as error:
            response["error"] = error.error
        return cast(RPCResponse, response)

    # Blocks

    def _block(self, parameter: BlockParameter) -> Block:
        """Returns the block that a JSON-RPC block parameter refers to."""
        blocks = self._chain.blocks
        block: Block | None
        if parameter == "pending":
            block = Block(self._chain.pending)
        elif isinstance(parameter, Mapping):
            block_hash = bytes(HexBytes(parameter["blockHash"]))
            block = next((block for block in reversed(blocks) if block.hash == block_hash), None)
        elif parameter in ("latest", "safe", "finalized"):
            block = self._chain.head
        else:
            number = 0 if parameter == "earliest" else _int(parameter)
            block = blocks[number] if number < len(blocks) else None
        if block is None:
            raise RpcError(INVALID_INPUT, f"block not found: {parameter}")
        return block

    def _block_json(self, parameter: BlockParameter, full_transactions: bool) -> JsonObject | None:
        try:
            return rpc_encoding.block(self._block(parameter), full_transactions=full_transactions)
        except RpcError:
            return None

    def _header(self, parameter: BlockParameter) -> Header:
        return self._block(parameter).header

    def _encode_mined(self, encode: Callable[[Block, int], JsonObject], transaction_hash: Data) -> JsonObject | None:
        hash_bytes = bytes(HexBytes(transaction_hash))
        block = self._chain.block_of(hash_bytes)
        if block is None:
            return None
        return encode(block, next(i for i, tx in enumerate(block.transactions) if tx.hash == hash_bytes))

    def _logs(self, log_filter: LogFilter) -> list[JsonObject]:
        if "blockHash" in log_filter:
            blocks = [self._block({"blockHash": log_filter["blockHash"]})]
        else:
            first = self._block(log_filter.get("fromBlock", "latest")).number
            last = self._block(log_filter.get("toBlock", "latest")).number
            blocks = self._chain.blocks[first : last + 1]
        return [log for block in blocks for log in rpc_encoding.logs(block, log_filter)]

    # Transactions and calls

    def _send_raw(self, raw: Data) -> str:
        try:
            transaction = self._evm.decode(bytes(HexBytes(raw)))
            assert transaction.sender
        except (ValidationError, RLPException) as error:
            raise RpcError(INVALID_INPUT, f"invalid transaction: {error}") from error
        except BadSignature as error:
            raise RpcError(INVALID_INPUT, f"invalid sender: {error}") from error
        # py-evm takes any chain id; a transaction signed before EIP-155 has none
        if transaction.chain_id not in (self._chain.chain_id, None):
            raise RpcError(INVALID_INPUT, f"invalid chain id: have {transaction.chain_id}, want {self._chain.chain_id}")
        if transaction.gas < max(transaction.intrinsic_gas, floor_gas(transaction.data)):
            raise RpcError(INVALID_INPUT, "intrinsic gas too low")
        try:
            self._chain.mine([transaction])
        except ValidationError as error:
            raise RpcError(INVALID_INPUT, self._refusal(transaction) or f"invalid transaction: {error}") from error
        return rpc_encoding.data(transaction.hash)

    def _refusal(self, tx: Transaction) -> str | None:
        """Returns why the EVM refused a transaction, in the words of a real node, as callers match them."""
        pending = self._chain.pending
        nonce = self._evm.nonce(pending, tx.sender)
        if self._chain.block_of(tx.hash):
            return "already known"
        if tx.nonce != nonce:
            return f"nonce too {'low' if tx.nonce < nonce else 'high'}: next nonce {nonce}, tx nonce {tx.nonce}"
        if tx.max_fee_per_gas < pending.base_fee_per_gas:
            return "max fee per gas less than block base fee"
        if self._evm.balance(pending, tx.sender) < tx.gas * tx.max_fee_per_gas + tx.value:
            return "insufficient funds for gas * price + value"
        if tx.gas > pending.gas_limit:
            return "exceeds block gas limit"
        if tx.gas > TRANSACTION_GAS_CAP:
            return f"transaction gas limit too high (cap: {TRANSACTION_GAS_CAP}, tx: {tx.gas})"
        return None

    def _execute(self, request: CallRequest, block: BlockParameter, gas: int) -> CallResult:
        """Executes a call without fees, and discards its effects."""
        header = self._header(block)
        message = Message(
            sender=_address(request.get("from") or b"\0" * 20),
            to=_address(request["to"] or b"") if request.get("to") else b"",
            value=_int(request.get("value", 0)),
            data=bytes(HexBytes(request.get("data") or request.get("input") or b"")),
            gas=gas,
        )
        if gas < intrinsic_gas(message.data, creates=not message.to):
            raise RpcError(INVALID_INPUT, "intrinsic gas too low")
        if message.value and self._evm.balance(header, message.sender) < message.value:
            raise RpcError(INVALID_INPUT, "insufficient funds for gas * price + value")
        result = self._evm.execute(header, message)
        return result._replace(gas_used=max(result.gas_used, floor_gas(message.data)))

    def _gas_cap(self, request: CallRequest) -> int:
        limit: int = self._chain.pending.gas_limit
        return min(_int(request.get("gas", limit)), limit)

    def _call(self, request: CallRequest, block: BlockParameter) -> bytes:
        result = self._execute(request, block, self._gas_cap(request))
        raise_if_failed(result)
        return result.output

    def _estimate(self, request: CallRequest, block: BlockParameter) -> int:
        """Returns a gas limit that suffices, at most `CALLER_SLACK` and a 63rd above the gas used in ordinary cases.

        A run at the cap measures the gas used before refunds.

        1. Code that neither calls nor reads its remaining gas needs that and `CALL_STIPEND`.
        2. Other code is tried with `CALLER_SLACK` and a 63rd more, as a call leaves 1/64 of the gas with the caller.
        3. If that fails, a binary search finds a limit to within 1/64. Each try costs as much time as the transaction
           itself, and unused gas costs nothing.
        """
        cap = min(self._gas_cap(request), TRANSACTION_GAS_CAP)
        result = self._execute(request, block, cap)
        raise_if_failed(result)
        if not result.runs_code:  # a plain transfer
            return result.gas_used

        def suffices(gas: int) -> bool:
            return gas == cap or self._execute(request, block, gas).error is None

        limit = min(result.gas_used + CALL_STIPEND, cap)
        if result.watches_gas is False or (result.watches_gas is None and suffices(limit)):
            return limit
        limit = min((result.gas_used + CALLER_SLACK) * 64 // 63, cap)
        if suffices(limit):
            return limit
        low, high = limit, cap
        while high - low > high // 64:
            middle = (low + high) // 2
            low, high = (low, middle) if suffices(middle) else (middle, high)
        return high


def _address(value: Data) -> bytes:
    return to_canonical_address(value)


def _int(value: Number) -> int:
    return value if isinstance(value, int) else int(value, 16)

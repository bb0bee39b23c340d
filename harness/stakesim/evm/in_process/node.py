"""A JSON-RPC node on a chain in this process, as a web3 provider.

web3 formats its results and raises the same exceptions as on a live network. eth-tester's own layers answer in other
shapes with other errors, and take as long for a signed transaction as py-evm takes to execute it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from stakesim.evm.chain_spec import SUGGESTED_PRIORITY_FEE
from stakesim.evm.in_process import rpc_encoding, rpc_params
from stakesim.evm.in_process.chain import Block
from stakesim.evm.in_process.node_core import NodeCore
from stakesim.evm.in_process.rpc_encoding import JsonObject, JsonValue
from stakesim.evm.in_process.rpc_error import INVALID_PARAMS, METHOD_NOT_FOUND, RpcError
from stakesim.evm.in_process.rpc_params import BlockParameter, Data, address, integer

Methods: TypeAlias = Mapping[str, Callable[..., JsonValue]]
"""JSON-RPC methods by name. They raise `RpcError`."""


class InProcessNode(JSONBaseProvider):
    """Answers the requests that a backend and the library send, and further ones if it is given methods for them.

    Other methods get JSON-RPC's "method not found".
    """

    def __init__(self, core: NodeCore, further_methods: Methods | None = None) -> None:
        super().__init__()
        self._core = core
        chain, evm, header = core.chain, core.evm, core.header
        self._methods: Methods = {
            "eth_accounts": list,
            "eth_blockNumber": lambda: hex(chain.head.number),
            "eth_call": lambda request, block="latest", overrides=None: rpc_encoding.data(
                core.call(request, block, overrides)
            ),
            "eth_chainId": lambda: hex(chain.chain_id),
            "eth_estimateGas": lambda request, block="latest", overrides=None: hex(
                core.estimate(request, block or "latest", overrides)
            ),
            "eth_gasPrice": lambda: hex(chain.pending.base_fee_per_gas + SUGGESTED_PRIORITY_FEE),
            "eth_getBalance": lambda account, block="latest": hex(evm.balance(header(block), address(account))),
            "eth_getBlockByHash": lambda block_hash, full=False: self._block_json({"blockHash": block_hash}, full),
            "eth_getBlockByNumber": lambda block, full=False: self._block_json(block, full),
            "eth_getCode": lambda account, block="latest": rpc_encoding.data(evm.code(header(block), address(account))),
            "eth_getLogs": core.logs,
            "eth_getStorageAt": lambda account, slot, block="latest": rpc_encoding.word(
                evm.storage(header(block), address(account), integer(slot))
            ),
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionCount": lambda account, block="latest": hex(core.nonce(account, block)),
            "eth_getTransactionReceipt": lambda tx_hash: self._encode_mined(rpc_encoding.receipt, tx_hash),
            "eth_maxPriorityFeePerGas": lambda: hex(SUGGESTED_PRIORITY_FEE),
            "eth_sendRawTransaction": lambda raw: rpc_encoding.data(core.send(raw).hash),
            "net_version": lambda: str(chain.chain_id),
            "web3_clientVersion": lambda: f"stakesim/{core.name}",
            **(further_methods or {}),
        }

    def is_connected(self, show_traceback: bool = False) -> bool:
        """Returns True: the chain is in this process."""
        return True

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Answers a JSON-RPC request. web3 calls it."""
        response: dict[str, object] = {"jsonrpc": "2.0", "id": 0}
        try:
            if method not in self._methods:
                raise RpcError(METHOD_NOT_FOUND, f"the {self._core.name} engine has no method {method}")
            with self._core.lock:
                response["result"] = self._methods[method](*params)
        except RpcError as error:
            response["error"] = error.error
        except TypeError as error:
            if _takes(self._methods[method], params):
                raise
            response["error"] = RpcError(INVALID_PARAMS, f"invalid parameters of {method}: {error}").error
        return cast(RPCResponse, response)

    def make_batch_request(self, requests: list[tuple[RPCEndpoint, Any]]) -> list[RPCResponse]:
        """Answers several JSON-RPC requests. web3 calls it."""
        return [self.make_request(method, params) for method, params in requests]

    def _block_json(self, parameter: BlockParameter, full_transactions: bool) -> JsonObject | None:
        try:
            return rpc_encoding.block(self._core.block(parameter), full_transactions=full_transactions)
        except RpcError:
            return None

    def _encode_mined(self, encode: Callable[[Block, int], JsonObject], transaction_hash: Data) -> JsonObject | None:
        hash_bytes = rpc_params.data(transaction_hash)
        block = self._core.chain.block_of(hash_bytes)
        if block is None:
            return None
        return encode(block, next(i for i, tx in enumerate(block.transactions) if tx.hash == hash_bytes))

    def _transaction(self, transaction_hash: Data) -> JsonObject | None:
        waiting = self._core.mempool.find(rpc_params.data(transaction_hash))
        if waiting is not None:
            return rpc_encoding.waiting_transaction(waiting)
        return self._encode_mined(rpc_encoding.transaction, transaction_hash)


def _takes(method: Callable[..., JsonValue], params: Any) -> bool:
    """Whether a method can be called with these parameters."""
    try:
        inspect.signature(method).bind(*params)
    except TypeError:
        return False
    return True

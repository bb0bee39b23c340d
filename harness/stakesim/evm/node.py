"""A JSON-RPC node on a chain in this process, as a web3 provider.

eth-tester's own layers answer in shapes and errors of their own, and take as long for a signed transaction as py-evm
does. This speaks plain JSON-RPC, so web3 formats results and raises exceptions as it does on a live network.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth_utils.address import to_canonical_address
from eth_utils.exceptions import ValidationError
from hexbytes import HexBytes
from rlp.exceptions import RLPException  # type: ignore[import-untyped]
from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from stakesim.evm import rpc_json
from stakesim.evm.chain import Block, Chain, Execution, Message
from stakesim.evm.engine import PRIORITY_FEE
from stakesim.evm.rpc_error import RpcError, raise_if_failed

Json = dict[str, Any]


CALLER_SLACK = 100_000
"""Gas that an estimate gives code that calls or asks for its gas, above what it used."""


class Node(BaseProvider):
    """Answers what web3, a service and a test ask; anything else gets the "no such method" of JSON-RPC."""

    def __init__(self, chain: Chain, name: str) -> None:
        super().__init__()
        self._chain, self._machine, self._name = chain, chain.machine, name
        self._one_at_a_time = threading.Lock()  # a web server asks from several threads
        machine, header = self._machine, self._header
        self._methods: Mapping[str, Callable[..., Any]] = {
            "eth_accounts": list,
            "eth_blockNumber": lambda: hex(chain.head.number),
            "eth_call": lambda tx, at="latest": rpc_json.data(self._call(tx, at)),
            "eth_chainId": lambda: hex(chain.id),
            "eth_estimateGas": lambda tx, at="latest": hex(self._estimate(tx, at)),
            "eth_gasPrice": lambda: hex(chain.pending.base_fee_per_gas + PRIORITY_FEE),
            "eth_getBalance": lambda who, at="latest": hex(machine.balance(header(at), _address(who))),
            "eth_getBlockByHash": lambda hash_, full=False: self._block_json({"blockHash": hash_}, full),
            "eth_getBlockByNumber": lambda at, full=False: self._block_json(at, full),
            "eth_getCode": lambda who, at="latest": rpc_json.data(machine.code(header(at), _address(who))),
            "eth_getLogs": self._logs,
            "eth_getStorageAt": lambda who, slot, at="latest": rpc_json.word(
                machine.storage(header(at), _address(who), _int(slot))
            ),
            "eth_getTransactionByHash": lambda hash_: self._mined(rpc_json.transaction, hash_),
            "eth_getTransactionCount": lambda who, at="latest": hex(machine.nonce(header(at), _address(who))),
            "eth_getTransactionReceipt": lambda hash_: self._mined(rpc_json.receipt, hash_),
            "eth_maxPriorityFeePerGas": lambda: hex(PRIORITY_FEE),
            "eth_sendRawTransaction": self._send_raw,
            "net_version": lambda: str(chain.id),
            "web3_clientVersion": lambda: f"stakesim/{name}",
        }

    def is_connected(self, show_traceback: bool = False) -> bool:
        return True

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        answer: Json = {"jsonrpc": "2.0", "id": 0}
        try:
            if method not in self._methods:
                raise RpcError(-32601, f"the {self._name} engine has no method {method}")
            with self._one_at_a_time:
                answer["result"] = self._methods[method](*params)
        except RpcError as error:
            answer["error"] = error.error
        return cast(RPCResponse, answer)

    # Blocks

    def _block(self, at: Any) -> Block:
        """What a block parameter of JSON-RPC means."""
        blocks = self._chain.blocks
        found: Block | None
        if at == "pending":
            found = Block(self._chain.pending)
        elif isinstance(at, Mapping):
            wanted = bytes(HexBytes(at["blockHash"]))
            found = next((block for block in reversed(blocks) if block.hash == wanted), None)
        elif at in ("latest", "safe", "finalized"):
            found = self._chain.head
        else:
            number = 0 if at == "earliest" else _int(at)
            found = blocks[number] if number < len(blocks) else None
        if found is None:
            raise RpcError(-32000, f"block not found: {at}")
        return found

    def _block_json(self, at: Any, full: bool) -> Json | None:
        try:
            return rpc_json.block(self._block(at), full)
        except RpcError:
            return None

    def _header(self, at: Any) -> Any:
        return self._block(at).header

    def _mined(self, write: Callable[[Block, int], Json], transaction_hash: Any) -> Json | None:
        wanted = bytes(HexBytes(transaction_hash))
        block = self._chain.block_of(wanted)
        if block is None:
            return None
        return write(block, next(i for i, tx in enumerate(block.transactions) if tx.hash == wanted))

    def _logs(self, criteria: Json) -> list[Json]:
        if "blockHash" in criteria:
            blocks = [self._block(criteria)]
        else:
            first = self._block(criteria.get("fromBlock", "latest")).number
            last = self._block(criteria.get("toBlock", "latest")).number
            blocks = self._chain.blocks[first : last + 1]
        return [log for block in blocks for log in rpc_json.logs(block, criteria)]

    # Transactions and calls

    def _send_raw(self, raw: Any) -> str:
        try:
            transaction: Any = PragueTransactionBuilder.decode(bytes(HexBytes(raw)))
        except (ValidationError, RLPException) as error:
            raise RpcError(-32000, f"invalid transaction: {error}") from error
        if transaction.chain_id not in (self._chain.id, None):  # py-evm takes any; None: signed before EIP-155
            raise RpcError(-32000, f"invalid chain id: have {transaction.chain_id}, want {self._chain.id}")
        if transaction.gas < max(transaction.intrinsic_gas, data_floor(transaction.data)):
            raise RpcError(-32000, "intrinsic gas too low")
        try:
            self._chain.mine([transaction])
        except ValidationError as error:
            raise RpcError(-32000, self._refusal(transaction) or f"invalid transaction: {error}") from error
        return rpc_json.data(transaction.hash)

    def _refusal(self, tx: Any) -> str | None:
        """Why the machine did not take the transaction, in the words of a real node, which callers go by."""
        pending = self._chain.pending
        nonce = self._machine.nonce(pending, tx.sender)
        if self._chain.block_of(tx.hash):
            return "already known"
        if tx.nonce != nonce:
            return f"nonce too {'low' if tx.nonce < nonce else 'high'}: next nonce {nonce}, tx nonce {tx.nonce}"
        if tx.max_fee_per_gas < pending.base_fee_per_gas:
            return "max fee per gas less than block base fee"
        if self._machine.balance(pending, tx.sender) < tx.gas * tx.max_fee_per_gas + tx.value:
            return "insufficient funds for gas * price + value"
        if tx.gas > pending.gas_limit:
            return "exceeds block gas limit"
        return None

    def _execute(self, request: Json, at: Any, gas: int) -> Execution:
        """Runs a call, free of fees, and undoes it."""
        header = self._header(at)
        message = Message(
            sender=_address(request.get("from") or b"\0" * 20),
            to=_address(request["to"]) if request.get("to") else b"",
            value=_int(request.get("value", 0)),
            data=bytes(HexBytes(request.get("data") or request.get("input") or b"")),
            gas=gas,
        )
        if gas < _least_gas(message):
            raise RpcError(-32000, "intrinsic gas too low")
        if message.value and self._machine.balance(header, message.sender) < message.value:
            raise RpcError(-32000, "insufficient funds for gas * price + value")
        run = self._machine.execute(header, message)
        return run._replace(gas_used=max(run.gas_used, data_floor(message.data)))

    def _gas_cap(self, request: Json) -> int:
        limit: int = self._chain.pending.gas_limit
        return min(_int(request.get("gas", limit)), limit)

    def _call(self, request: Json, at: Any) -> bytes:
        run = self._execute(request, at, self._gas_cap(request))
        raise_if_failed(run)
        return run.output

    def _estimate(self, request: Json, at: Any) -> int:
        """Gas that is enough, and at most `CALLER_SLACK` and a 63rd more than is used in the two ordinary cases.

        A run at the cap shows what is used before refunds. That and 2,300, which some writes want to see left, do for
        code that neither calls nor asks how much gas there is. Other code, which keeps 1/64 of its gas back from a call
        and may want some left before it, is tried out with more. Only if that fails is there a search. Gas that is not
        used costs nothing, and each run as much as the transaction itself.
        """
        cap = self._gas_cap(request)
        run = self._execute(request, at, cap)
        raise_if_failed(run)
        if not run.runs_code:  # a plain transfer
            return run.gas_used

        def enough(gas: int) -> bool:
            return gas == cap or self._execute(request, at, gas).error is None

        limit = min(run.gas_used + 2_300, cap)
        if run.watches_gas is False or (run.watches_gas is None and enough(limit)):
            return limit
        limit = min((run.gas_used + CALLER_SLACK) * 64 // 63, cap)
        if enough(limit):
            return limit
        low, high = limit, cap
        while high - low > high // 64:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high


def data_floor(data: bytes) -> int:
    """The least gas that a transaction with this data costs (EIP-7623)."""
    return 21_000 + 10 * _tokens(data)


def _least_gas(message: Message) -> int:
    """Intrinsic gas (yellow paper, EIP-2028, EIP-3860), or the floor for its data if that is more."""
    creation = 32_000 + 2 * -(-len(message.data) // 32) if not message.to else 0
    return max(21_000 + creation + 4 * _tokens(message.data), data_floor(message.data))


def _tokens(data: bytes) -> int:
    return 4 * len(data) - 3 * data.count(0)


def _address(value: Any) -> bytes:
    return to_canonical_address(value)


def _int(value: int | str) -> int:
    return value if isinstance(value, int) else int(value, 16)

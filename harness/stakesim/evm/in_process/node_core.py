"""What a JSON-RPC node does with its chain: finds blocks, executes calls, estimates gas, takes transactions."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from eth_account.signers.local import LocalAccount
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException

from stakesim.evm.chain_spec import TRANSACTION_GAS_CAP
from stakesim.evm.in_process import rpc_encoding, rpc_params
from stakesim.evm.in_process.chain import Block, Chain
from stakesim.evm.in_process.evm import NO_OVERRIDES, CallResult, Header, Message, StateOverrides, Transaction
from stakesim.evm.in_process.gas import floor_gas, intrinsic_gas
from stakesim.evm.in_process.mempool import Mempool
from stakesim.evm.in_process.rpc_encoding import JsonObject, LogFilter
from stakesim.evm.in_process.rpc_error import INVALID_INPUT, INVALID_PARAMS, RpcError, raise_if_failed
from stakesim.evm.in_process.rpc_params import BlockParameter, CallRequest, Data, Overrides, address, integer

CALLER_SLACK = 100_000
"""Gas that an estimate adds to the gas used, for code that calls other code or reads its remaining gas."""
CALL_STIPEND = 2_300
"""Gas that some writes require to be left (EIP-2200)."""


class NodeCore:
    """A node without its JSON-RPC methods. All that is wrong with a request is raised as `RpcError`.

    Attributes:
        chain: The chain.
        name: The engine's name, for messages.
        accounts: Accounts that it signs for, by checksummed address.
        mempool: Transactions that wait for a block.
        lock: Held while a request is answered, as a web server sends requests from several threads.
    """

    def __init__(self, chain: Chain, name: str, accounts: Sequence[LocalAccount] = ()) -> None:
        self.chain, self.evm, self.name = chain, chain.evm, name
        self.accounts: Mapping[str, LocalAccount] = {account.address: account for account in accounts}
        self.mempool = Mempool(chain)
        self.lock = threading.Lock()

    # Blocks

    def block(self, parameter: BlockParameter) -> Block:
        """Returns the block that a JSON-RPC block parameter refers to."""
        blocks = self.chain.blocks
        block: Block | None
        if parameter == "pending":
            block = Block(self.chain.pending, None, self.mempool.waiting)
        elif isinstance(parameter, Mapping):
            block_hash = rpc_params.data(parameter["blockHash"])
            block = next((block for block in reversed(blocks) if block.hash == block_hash), None)
        elif parameter in ("latest", "safe", "finalized"):
            block = self.chain.head
        else:
            number = 0 if parameter == "earliest" else integer(parameter)
            block = blocks[number] if number < len(blocks) else None
        if block is None:
            raise RpcError(INVALID_INPUT, f"block not found: {parameter}")
        return block

    def header(self, parameter: BlockParameter) -> Header:
        """Returns the header of the block that a parameter refers to."""
        return self.block(parameter).header

    def nonce(self, account: Data, parameter: BlockParameter = "latest") -> int:
        """Returns the nonce of an account's next transaction; "pending" counts those that wait for a block."""
        sender = address(account)
        if parameter == "pending":
            return self.mempool.next_nonce(sender)
        return self.evm.nonce(self.header(parameter), sender)

    def logs(self, log_filter: LogFilter) -> list[JsonObject]:
        """Returns the logs that match a filter."""
        if "blockHash" in log_filter:
            blocks: Sequence[Block] = [self.block({"blockHash": log_filter["blockHash"]})]
        else:
            first = self.block(log_filter.get("fromBlock", "latest")).number
            last = self.block(log_filter.get("toBlock", "latest")).number
            if first > last:
                raise RpcError(INVALID_PARAMS, f"invalid block range: from {first} to {last}")
            blocks = self.chain.blocks[first : last + 1]
        return [log for block in blocks for log in rpc_encoding.logs(block, log_filter)]

    # Transactions and calls

    def send(self, raw: Data) -> Transaction:
        """Mines a signed transaction, or keeps it in the mempool."""
        try:
            transaction = self.evm.decode(rpc_params.data(raw))
            assert transaction.sender
        except (ValidationError, RLPException) as error:
            raise RpcError(INVALID_INPUT, f"invalid transaction: {error}") from error
        except BadSignature as error:
            raise RpcError(INVALID_INPUT, f"invalid sender: {error}") from error
        # py-evm takes any chain id; a transaction signed before EIP-155 has none
        if transaction.chain_id not in (self.chain.chain_id, None):
            raise RpcError(INVALID_INPUT, f"invalid chain id: have {transaction.chain_id}, want {self.chain.chain_id}")
        if transaction.gas < max(transaction.intrinsic_gas, floor_gas(transaction.data)):
            raise RpcError(INVALID_INPUT, "intrinsic gas too low")
        if not self.mempool.mines_at_once:
            refusal = self._refusal(transaction, waits=True)
            if refusal:
                raise RpcError(INVALID_INPUT, refusal)
            self.mempool.add(transaction)
            return transaction
        try:
            self.chain.mine([transaction])
        except ValidationError as error:
            raise RpcError(INVALID_INPUT, self._refusal(transaction) or f"invalid transaction: {error}") from error
        return transaction

    def _refusal(self, tx: Transaction, *, waits: bool = False) -> str | None:
        """Returns why a transaction is refused, in the words of a real node, as callers match them.

        Args:
            tx: The transaction.
            waits: Whether it may wait for earlier ones of its sender and for a lower base fee.
        """
        pending = self.chain.pending
        nonce = self.evm.nonce(pending, tx.sender)
        if self.chain.block_of(tx.hash) or self.mempool.find(tx.hash):
            return "already known"
        if tx.nonce < nonce or (tx.nonce > nonce and not waits):
            return f"nonce too {'low' if tx.nonce < nonce else 'high'}: next nonce {nonce}, tx nonce {tx.nonce}"
        if tx.max_fee_per_gas < pending.base_fee_per_gas and not waits:
            return "max fee per gas less than block base fee"
        if tx.max_priority_fee_per_gas > tx.max_fee_per_gas:
            return "max priority fee per gas higher than max fee per gas"
        if self.evm.balance(pending, tx.sender) < tx.gas * tx.max_fee_per_gas + tx.value:
            return "insufficient funds for gas * price + value"
        if tx.gas > pending.gas_limit:
            return "exceeds block gas limit"
        if tx.gas > TRANSACTION_GAS_CAP:
            return f"transaction gas limit too high (cap: {TRANSACTION_GAS_CAP}, tx: {tx.gas})"
        return None

    def message(self, request: CallRequest, gas: int) -> Message:
        """Reads the request of a call."""
        return Message(
            sender=address(request.get("from") or b"\0" * 20),
            to=address(request["to"] or b"") if request.get("to") else b"",
            value=integer(request.get("value", 0)),
            data=rpc_params.data(request.get("data") or request.get("input") or b""),
            gas=gas,
        )

    def execute(self, message: Message, header: Header, overrides: StateOverrides = NO_OVERRIDES) -> CallResult:
        """Executes a call without fees, and discards its effects."""
        if message.gas < intrinsic_gas(message.data, creates=not message.to):
            raise RpcError(INVALID_INPUT, "intrinsic gas too low")
        if message.value:
            override = overrides.get(message.sender)
            balance = override.balance if override else None
            if message.value > (self.evm.balance(header, message.sender) if balance is None else balance):
                raise RpcError(INVALID_INPUT, "insufficient funds for gas * price + value")
        result = self.evm.execute(header, message, overrides)
        return result._replace(gas_used=max(result.gas_used, floor_gas(message.data)))

    def gas_cap(self, request: CallRequest) -> int:
        """Returns the gas limit of a call: the one asked for, at most a block's."""
        limit: int = self.chain.pending.gas_limit
        return min(integer(request.get("gas", limit)), limit)

    def call(self, request: CallRequest, block: BlockParameter, overrides: Overrides | None = None) -> bytes:
        """Executes a call, and returns its data."""
        changes = rpc_params.state_overrides(overrides) if overrides else NO_OVERRIDES
        result = self.execute(self.message(request, self.gas_cap(request)), self.header(block), changes)
        raise_if_failed(result)
        return result.output

    def estimate(self, request: CallRequest, block: BlockParameter, overrides: Overrides | None = None) -> int:
        """Returns a gas limit that suffices, at most `CALLER_SLACK` and a 63rd above the gas used in ordinary cases.

        A run at the cap measures the gas used before refunds.

        1. Code that neither calls nor reads its remaining gas needs that and `CALL_STIPEND`.
        2. Other code is tried with `CALLER_SLACK` and a 63rd more, as a call leaves 1/64 of the gas with the caller.
        3. If that fails, a binary search finds a limit to within 1/64. Each try costs as much time as the transaction
           itself, and unused gas costs nothing.
        """
        changes = rpc_params.state_overrides(overrides) if overrides else NO_OVERRIDES
        cap, header = min(self.gas_cap(request), TRANSACTION_GAS_CAP), self.header(block)
        message = self.message(request, cap)
        result = self.execute(message, header, changes)
        raise_if_failed(result)
        if not result.runs_code:  # a plain transfer
            return result.gas_used

        def suffices(gas: int) -> bool:
            return gas == cap or self.execute(message._replace(gas=gas), header, changes).error is None

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

"""The JSON-RPC requests of the services, with web3's provider and middleware, and typed answers.

The methods of `w3.eth` validate and convert every field of a request and its response. That takes about 0.4 ms, more
than a fast node needs for its response. `rpc_answers` converts and checks the fields that the services use.

Each function raises `MalformedAnswer` or `NodeError`, or what the provider raises if it gets no answer: all of them are
in `rpc_errors.NODE_ERRORS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from web3 import Web3
from web3.exceptions import ContractLogicError
from web3.types import RPCEndpoint

from app.services import rpc_answers
from app.services.rpc_errors import Refused
from app.services.rpc_refusals import is_revert, is_trouble, refusal_kind
from app.services.rpc_types import BlockHeader, Log, MalformedAnswer, NodeError, Receipt, Transaction

BlockId = int | str
"""A block number, or a tag such as "latest" or "pending"."""


def chain_id(w3: Web3) -> int:
    """Returns the id of the node's network (EIP-155)."""
    return int(_ask(w3, "eth_chainId"))


def block_number(w3: Web3) -> int:
    """Returns the number of the latest block."""
    return int(_ask(w3, "eth_blockNumber"))


def block_header(w3: Web3, block: BlockId = "latest") -> BlockHeader | None:
    """Returns the header of a block; None if the node has no such block."""
    header: BlockHeader | None = _ask(w3, "eth_getBlockByNumber", _block_param(block), False)
    return header


def latest_header(w3: Web3) -> BlockHeader:
    """Returns the header of the latest block.

    Raises:
        MalformedAnswer: The node has no block.
    """
    header = block_header(w3)
    if header is None:
        raise MalformedAnswer("it has no latest block")
    return header


def block_transactions(w3: Web3, block: int) -> tuple[Transaction, ...]:
    """Returns the transactions of a block.

    Raises:
        MalformedAnswer: The node has no such block.
    """
    transactions: tuple[Transaction, ...] | None = _ask(w3, "eth_getBlockByNumber", _block_param(block), True)
    if transactions is None:
        raise MalformedAnswer(f"it has no block {block}")
    return transactions


def transaction(w3: Web3, tx_hash: str) -> Transaction | None:
    """Returns a transaction, mined or not; None if the node does not know it."""
    found: Transaction | None = _ask(w3, "eth_getTransactionByHash", tx_hash)
    return found


def transaction_count(w3: Web3, account: str, block: BlockId) -> int:
    """Returns the number of nonces that the account had used by the end of a block."""
    return int(_ask(w3, "eth_getTransactionCount", account, _block_param(block)))


def balance(w3: Web3, account: str, block: BlockId = "latest") -> int:
    """Returns the account's balance in wei, as of a block."""
    return int(_ask(w3, "eth_getBalance", account, _block_param(block)))


def code(w3: Web3, account: str) -> bytes:
    """Returns the code at an address, as of the latest block; empty if it has none."""
    return bytes(_ask(w3, "eth_getCode", account, "latest"))


def storage_at(w3: Web3, account: str, slot: str) -> bytes:
    """Returns the 32 bytes in a slot of an account's storage, as of the latest block. The slot is given in hex."""
    return bytes(_ask(w3, "eth_getStorageAt", account, slot, "latest")).rjust(32, b"\0")  # some nodes drop zeros


def logs(w3: Web3, address: str, first_block: int, last_block: int) -> tuple[Log, ...]:
    """Returns the logs of a contract from the first to the last block.

    An empty tuple proves nothing if the node's latest block is before the last one.
    """
    log_filter = {"address": address, "fromBlock": hex(first_block), "toBlock": hex(last_block)}
    found: tuple[Log, ...] = _ask(w3, "eth_getLogs", log_filter)
    return found


def call(
    w3: Web3,
    to: str,
    data: bytes,
    block: BlockId = "latest",
    *,
    sender: str | None = None,
    value: int = 0,
    gas: int | None = None,
) -> bytes:
    """Calls a contract without a transaction, and returns its output.

    Args:
        w3: Connection to the node.
        to: Address of the contract.
        data: Call data.
        block: The block on whose state the call runs.
        sender: Address that the call comes from.
        value: Wei that the call sends.
        gas: Gas limit in units of gas.

    Raises:
        ContractLogicError: The contract reverted. The error has the revert's data.
    """
    return bytes(_execute(w3, "eth_call", to, data, block, sender, value, gas))


_without_pending: WeakSet[Web3] = WeakSet()
"""Connections whose node estimates on the latest block only."""


def estimate_gas(w3: Web3, to: str, data: bytes, block: BlockId, *, sender: str | None = None, value: int = 0) -> int:
    """Returns how many units of gas a transaction takes. Arguments as for `call`.

    A node that has no pending state is asked for the latest block instead, from then on at once.

    Raises:
        ContractLogicError: The contract reverted. The error has the revert's data.
        Refused: The node would not take the transaction, such as for lack of funds.
    """
    if block == "pending" and w3 in _without_pending:
        block = "latest"
    try:
        return _estimate(w3, to, data, block, sender, value)
    except Refused as error:
        if block != "pending" or error.kind is not None:
            raise
        pending_error: NodeError = error
    except NodeError as error:
        if block != "pending":
            raise
        pending_error = error
    estimate = _estimate(w3, to, data, "latest", sender, value)
    if "pending" in pending_error.words.lower():
        _without_pending.add(w3)
    return estimate


def _estimate(w3: Web3, to: str, data: bytes, block: BlockId, sender: str | None, value: int) -> int:
    try:
        return int(_execute(w3, "eth_estimateGas", to, data, block, sender, value))
    except NodeError as error:
        raise _as_refusal(error) from error


def send_raw(w3: Web3, raw_transaction: str) -> None:
    """Sends a signed transaction, given in hex.

    Raises:
        Refused: The node refused the transaction. If `kind` is None, nobody knows why: the words are not in the table.
    """
    try:
        _ask(w3, "eth_sendRawTransaction", raw_transaction)
    except NodeError as error:
        raise _as_refusal(error) from error


def receipt(w3: Web3, tx_hash: str, *, sender: str | None = None, to: str | None = None) -> Receipt | None:
    """Returns the receipt of a transaction; None if the node has none.

    Raises:
        MalformedAnswer: It is that of another sender or receiver than these.
    """
    found: Receipt | None = _ask(w3, "eth_getTransactionReceipt", tx_hash)
    if found is not None and (sender not in (None, found.sender) or to not in (None, found.to)):
        raise MalformedAnswer("the receipt has another sender or receiver than the transaction")
    return found


def _as_refusal(error: NodeError) -> NodeError:
    """Returns a node's error as a refusal of the transaction; the same error if it is only the node's trouble."""
    if is_trouble(error.words):
        return error
    return Refused(refusal_kind(error.words), error.words, error.code)


def _execute(
    w3: Web3,
    method: str,
    to: str,
    data: bytes,
    block: BlockId,
    sender: str | None = None,
    value: int = 0,
    gas: int | None = None,
) -> Any:
    transaction = {"to": to, "data": "0x" + data.hex()}
    transaction |= {"from": sender} if sender else {}
    transaction |= {"value": hex(value)} if value else {}
    transaction |= {"gas": hex(gas)} if gas else {}
    try:
        return _ask(w3, method, transaction, _block_param(block))
    except NodeError as error:
        if is_revert(error.words) or _is_revert_data(error.data):
            raise ContractLogicError(error.words, data=error.data) from error
        raise


def _is_revert_data(data: Any) -> bool:
    """Returns whether an error's data are those of a revert, as far as one can tell without decoding them."""
    return isinstance(data, Mapping) or (isinstance(data, str) and data.removeprefix("Reverted ").startswith("0x"))


def _ask(w3: Web3, method: str, *params: Any) -> Any:
    request = w3.provider.request_func(w3, w3.middleware_onion)
    return rpc_answers.parse(method, params, rpc_answers.result_of(request(RPCEndpoint(method), list(params))))


def _block_param(block: BlockId) -> str:
    return hex(block) if isinstance(block, int) else block

"""Types of what nodes say: headers, receipts, logs, transactions, and the errors that are the node's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from eth_typing import ChecksumAddress
from web3.exceptions import Web3Exception, Web3RPCError


class MalformedAnswer(Web3Exception):
    """A node's answer that is not what the request asked for. The message quotes nothing of it."""


class NodeError(Web3RPCError):
    """A node answered with an error.

    Attributes:
        code: The error's code. It proves nothing: nodes use one code for many errors.
        words: The error's message, printable, without URLs, and cut to `rpc_answers.MAX_WORDS` characters.
        data: The error's data, as the node gave it; None without.
    """

    def __init__(self, words: str, code: int = 0, data: Any = None) -> None:
        super().__init__(words)
        self.words, self.code, self.data = words, code, data


class BlockHeader(NamedTuple):
    """A block without its transactions.

    Attributes:
        number: Number of the block.
        hash: Hash of the block; empty for the tag "pending" if the node has none yet.
        parent_hash: Hash of the block before.
        timestamp: Seconds since 1970.
        base_fee_per_gas: Wei per gas; None on a network, or before a block, without EIP-1559.
        transactions: Hashes of its transactions, in order.
    """

    number: int
    hash: str
    parent_hash: str
    timestamp: int
    base_fee_per_gas: int | None
    transactions: tuple[str, ...] = ()

    @property
    def base_fee(self) -> int:
        """Base fee in wei per gas.

        Raises:
            MalformedAnswer: There is none. The service sends transactions of EIP-1559 only, so it needs one.
        """
        if self.base_fee_per_gas is None:
            raise MalformedAnswer(f"block {self.number} has no base fee, and transactions of EIP-1559 need one")
        return self.base_fee_per_gas


class Log(NamedTuple):
    """A log. `removed` says that a reorganisation dropped its block."""

    address: ChecksumAddress
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: str
    tx_hash: str
    removed: bool = False


class Receipt(NamedTuple):
    """The receipt of a mined transaction.

    Attributes:
        tx_hash: Hash of the transaction.
        block_number: Number of its block.
        block_hash: Hash of its block.
        sender: Address that sent it.
        to: Address that it called; None if it created a contract.
        contract_address: Address of the contract that it created; None if it created none.
        succeeded: Whether it succeeded; otherwise it reverted, or ran out of gas.
        gas_used: Units of gas.
        gas_price: Wei per gas that were paid.
        logs: Its logs, in order.
    """

    tx_hash: str
    block_number: int
    block_hash: str
    sender: ChecksumAddress
    to: ChecksumAddress | None
    contract_address: ChecksumAddress | None
    succeeded: bool
    gas_used: int
    gas_price: int
    logs: tuple[Log, ...] = ()


class Transaction(NamedTuple):
    """A transaction. Block number and hash are None as long as it is not mined.

    Attributes:
        fields: All fields as the node gave them, to rebuild its bytes; only its hash proves that they are right.
    """

    hash: str
    sender: ChecksumAddress
    to: ChecksumAddress | None
    nonce: int
    block_number: int | None
    block_hash: str | None
    fields: Mapping[str, Any]

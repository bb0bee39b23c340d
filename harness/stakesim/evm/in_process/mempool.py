"""Transactions that wait for a block, while blocks are mined only on request."""

from __future__ import annotations

from collections.abc import Iterator

from stakesim.evm.in_process.chain import Chain
from stakesim.evm.in_process.evm import Transaction
from stakesim.evm.in_process.rpc_error import INVALID_INPUT, RpcError

REPLACEMENT_RISE_PERCENT = 10
"""By how much a replacement must raise both fees. It is geth's rule."""


class Mempool:
    """Waiting transactions in the order in which they came.

    Attributes:
        mines_at_once: Whether each transaction is mined when it comes, so that none waits.
        waiting: The transactions.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.mines_at_once = True
        self.waiting: tuple[Transaction, ...] = ()

    def find(self, transaction_hash: bytes) -> Transaction | None:
        """Returns a waiting transaction by its hash."""
        return next((tx for tx in self.waiting if tx.hash == transaction_hash), None)

    def next_nonce(self, sender: bytes) -> int:
        """Returns the first nonce that no transaction of the sender has, neither a mined nor a waiting one."""
        nonce = self._chain.evm.nonce(self._chain.pending, sender)
        taken = {tx.nonce for tx in self.waiting if tx.sender == sender}
        while nonce in taken:
            nonce += 1
        return nonce

    def add(self, transaction: Transaction) -> None:
        """Adds a transaction. One with the same sender and nonce is replaced.

        Raises:
            RpcError: Its fees are not `REPLACEMENT_RISE_PERCENT` higher than those of the one to replace.
        """
        same = (transaction.sender, transaction.nonce)
        old = next((tx for tx in self.waiting if (tx.sender, tx.nonce) == same), None)
        if old is None:
            self.waiting += (transaction,)
        elif _pays_more(transaction, old):
            self.waiting = tuple(transaction if tx is old else tx for tx in self.waiting)
        else:
            raise RpcError(INVALID_INPUT, "replacement transaction underpriced")

    def mine(self) -> None:
        """Mines a block of the waiting transactions that are ready and fit in it. The others go on waiting."""
        ready = tuple(self._ready())
        self._chain.mine(ready)
        self.waiting = tuple(tx for tx in self.waiting if tx not in ready)

    def drop_stale(self) -> None:
        """Drops transactions whose nonce a mined one has."""
        evm, pending = self._chain.evm, self._chain.pending
        self.waiting = tuple(tx for tx in self.waiting if tx.nonce >= evm.nonce(pending, tx.sender))

    def _ready(self) -> Iterator[Transaction]:
        """Yields transactions whose nonce is next, whose fee is high enough, and which sender and block can bear."""
        evm, pending = self._chain.evm, self._chain.pending
        gas_left = pending.gas_limit
        nonces: dict[bytes, int] = {}
        funds: dict[bytes, int] = {}
        for tx in sorted(self.waiting, key=lambda tx: tx.nonce):  # a stable sort: equal nonces in order of arrival
            nonce = nonces.setdefault(tx.sender, evm.nonce(pending, tx.sender))
            most = tx.gas * tx.max_fee_per_gas + tx.value
            if (
                tx.nonce == nonce
                and tx.max_fee_per_gas >= pending.base_fee_per_gas
                and most <= funds.setdefault(tx.sender, evm.balance(pending, tx.sender))
                and tx.gas <= gas_left
            ):
                yield tx
                nonces[tx.sender] += 1
                funds[tx.sender] -= most
                gas_left -= tx.gas


def _pays_more(new: Transaction, old: Transaction) -> bool:
    return all(
        getattr(new, fee) * 100 >= getattr(old, fee) * (100 + REPLACEMENT_RISE_PERCENT)
        for fee in ("max_fee_per_gas", "max_priority_fee_per_gas")
    )

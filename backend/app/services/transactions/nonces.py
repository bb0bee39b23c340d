"""Assigns nonces to operations, and finds the transaction that used a nonce."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from web3 import Web3
from web3.exceptions import Web3RPCError

from app.db.database import Database
from app.services import operations, rpc
from app.services.operation_types import Attempt, Operation
from app.services.rpc_answers import checksummed

SEARCHED_BLOCKS = 128
"""Number of blocks that are searched for a transaction. Nodes that are no archive nodes have the states of as many."""
BACKWARD_STEP = 32
"""Blocks that a binary search goes back if its lower end turns out to be too high."""


class NonceAllocator:
    """Assigns an operation its account's next nonce, and stores the attempt that is signed with it.

    Other processes may send from the same account, so the database decides: a nonce that was assigned there is skipped.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()  # without it, threads that sign at the same time would try the same nonce
        self._next_nonce: dict[str, int] = {}  # first nonce to try, by account

    def sign(self, operation: Operation, transaction_count: int, sign: Callable[[int], Attempt]) -> Operation:
        """Stores the operation's first attempt with the next free nonce.

        Args:
            operation: A prepared operation.
            transaction_count: Number of nonces that the account has used on chain.
            sign: Signs the operation with a nonce.

        Returns:
            The signed operation, or the operation as another worker left it.
        """
        with self._lock, self._database.autocommit() as connection:
            nonce = max(transaction_count, self._next_nonce.get(operation.sender, 0))
            while True:
                signed = operations.sign(connection, operation, sign(nonce))
                if signed is not None:
                    self._next_nonce[operation.sender] = nonce + 1
                    return signed
                current = operations.find(connection, operation.key) or operation
                next_nonce = operations.next_nonce(connection, operation.chain_id, operation.sender)
                if current.state != "prepared" or next_nonce <= nonce:  # another worker changed the operation
                    return current
                nonce = next_nonce


class ForeignTransaction(NamedTuple):
    """A transaction from the operation's sender with the operation's nonce that is none of its attempts."""

    tx_hash: str
    block_number: int


def find_foreign_transaction(w3: Web3, operation: Operation, final_block: int) -> ForeignTransaction | None:
    """Finds the foreign transaction that used the operation's nonce in a final block.

    A missing receipt proves nothing, as a node may lag behind. Instead, this function searches for the block in which
    the sender's transaction count exceeded the nonce, and then reads the transactions of that block.

    Args:
        w3: Connection to the node.
        operation: An operation with a nonce.
        final_block: Number of the latest final block; may be negative on a short chain.

    Returns:
        The transaction; None if the nonce is not used yet, or if an attempt of the operation used it.
    """
    nonce, sender = operation.nonce, checksummed(operation.sender)
    assert nonce is not None

    def is_used(block: int) -> bool:
        """Returns whether the nonce was used by the end of a block; False if the node lacks that block's state."""
        try:
            return rpc.transaction_count(w3, sender, block) > nonce
        except Web3RPCError:
            return False

    if final_block < 0 or not is_used(final_block):
        return None
    signed_at = next(attempt.latest_block for attempt in operation.attempts if attempt.nonce == nonce)
    first = first_block(is_used, signed_at, final_block)
    # If the node has all states, it is in the first block; otherwise the search ended at a later block than that
    for block in range(first, max(first - SEARCHED_BLOCKS, 0), -1):
        for mined in rpc.block_transactions(w3, block):
            if mined.sender == sender and mined.nonce == nonce:
                is_ours = any(attempt.tx_hash == mined.hash for attempt in operation.attempts)
                return None if is_ours else ForeignTransaction(mined.hash, block)
    return None


def first_block(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Binary search: returns the lowest block in (0, high] for which `holds` is true.

    Args:
        holds: A condition that stays true once it is true. It is true for `high`, and false for block 0.
        low: A block for which it is presumably false; a node that lagged may have reported too high a block.
        high: A block for which it is true.
    """
    while low > 0 and (low >= high or holds(low)):
        low = max(low - BACKWARD_STEP, 0)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high

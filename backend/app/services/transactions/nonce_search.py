"""Finds the transaction that used a nonce of an account."""

from __future__ import annotations

from collections.abc import Callable

from web3 import Web3
from web3.exceptions import Web3RPCError

from app.services import rpc
from app.services.operation_types import Operation, UsedNonce
from app.services.rpc_answers import checksummed

SEARCHED_BLOCKS = 128
"""Number of blocks that are searched for a transaction. Nodes that are no archive nodes have the states of as many."""
BACKWARD_STEP = 32
"""Blocks that a binary search goes back if its lower end turns out to be too high."""


def find_foreign_transaction(w3: Web3, operation: Operation, final_block: int) -> UsedNonce | None:
    """Finds the foreign transaction that used the operation's nonce in a final block.

    Args:
        w3: Connection to the node.
        operation: An operation with a nonce.
        final_block: Number of the latest final block; may be negative on a short chain.

    Returns:
        The transaction; None if the nonce is not used yet, or if an attempt of the operation used it.
    """
    nonce = operation.nonce
    assert nonce is not None
    signed_at = next((attempt.latest_block for attempt in operation.attempts if attempt.nonce == nonce), 0)
    found = find_transaction(w3, operation.sender, nonce, signed_at, final_block)
    is_ours = found is not None and any(attempt.tx_hash == found.tx_hash for attempt in operation.attempts)
    return None if is_ours else found


def find_transaction(w3: Web3, account: str, nonce: int, low: int, final_block: int) -> UsedNonce | None:
    """Finds the account's transaction with a nonce, up to a final block.

    A missing receipt proves nothing, as a node may lag behind. Instead, this function searches for the block in which
    the account's transaction count exceeded the nonce, and then reads the transactions of that block.

    Args:
        w3: Connection to the node.
        account: Address of the account.
        nonce: The nonce.
        low: Number of a block after which it was presumably used.
        final_block: Number of the latest final block; may be negative on a short chain.
    """
    sender, unused = checksummed(account), set[int]()

    def is_used(block: int) -> bool:
        """Returns whether the nonce was used by the end of a block; False if the node lacks that block's state."""
        try:
            used = rpc.transaction_count(w3, sender, block) > nonce
        except Web3RPCError:
            return False
        if not used:
            unused.add(block)
        return used

    if final_block < 0 or not is_used(final_block):
        return None
    first = first_block(is_used, low, final_block)
    # It is in the first block, unless the node lacks earlier states: then the search ended at a later block than that
    for block in range(first, max(first - SEARCHED_BLOCKS, 0), -1):
        for mined in rpc.block_transactions(w3, block):
            if mined.sender == sender and mined.nonce == nonce:
                return UsedNonce(mined.hash, block, mined)
        if block - 1 in unused:
            break
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

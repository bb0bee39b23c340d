"""Whether an account can pay for an operation, checked before the operation takes a nonce."""

from __future__ import annotations

from collections.abc import Callable

from web3 import Web3

from app.db.database import Database
from app.services import operations, rpc

BALANCE_AGE_S = 12
"""Seconds after which a balance is read again. What this process signed meanwhile is subtracted from it."""


class Funds:
    """Remembers how many wei of each account are left, so that the balance need not be read for each operation.

    An operation that the account can't pay must not take a nonce: it would stop all those behind it.

    Args:
        w3: Connection to the node.
        database: Where operations are stored.
        clock: Returns seconds; never goes back.
    """

    def __init__(self, w3: Web3, database: Database, clock: Callable[[], float]) -> None:
        self._w3 = w3
        self._database = database
        self._clock = clock
        self._left: dict[str, tuple[int, float]] = {}  # wei, and when the balance was read, by account

    def reserve(self, chain_id: int, account: str, cost_wei: int) -> bool:
        """Returns whether the account can pay so many wei, and then counts them as spent."""
        left, read_at = self._left.get(account, (0, 0.0))
        if left < cost_wei or self._clock() - read_at > BALANCE_AGE_S:
            with self._database.autocommit() as connection:
                on_their_way = operations.unmined_wei(connection, chain_id, account)
            left, read_at = rpc.balance(self._w3, account) - on_their_way, self._clock()
        is_enough = left >= cost_wei
        self._left[account] = (left - cost_wei if is_enough else left, read_at)
        return is_enough

"""Assigns nonces to operations, and finds the transaction that used a nonce."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from psycopg.errors import UniqueViolation
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from web3 import Web3
from web3.exceptions import Web3RPCError

from app.db.database import Database
from app.services import nonce_queries, operations, orphans, rpc
from app.services.operation_types import Attempt, Operation, UsedNonce
from app.services.orphans import HeldForOrphan, Orphan
from app.services.rpc_answers import checksummed
from app.services.rpc_errors import NODE_ERRORS, as_chain_unavailable
from app.services.transactions.limits import ORDERS
from app.services.transactions.spending import AboveLimit, Charge, Entry, Spending

SEARCHED_BLOCKS = 128
"""Number of blocks that are searched for a transaction. Nodes that are no archive nodes have the states of as many."""
MAX_UNKNOWN = 200
"""Maximum number of transactions in no row that are looked up. With more of them the database is too old to go on."""
BACKWARD_STEP = 32
"""Blocks that a binary search goes back if its lower end turns out to be too high."""


log = logging.getLogger(__name__)


class NonceAllocator:
    """Assigns an operation its account's next nonce, and stores the attempt that is signed with it.

    Other processes may send from the same account, so the database decides: a nonce that was assigned there is skipped.
    A node's word alone never makes a nonce be skipped, as that would leave a gap. It needs a proof: the transaction
    with the nonce before, in a final block.

    The platform's account is used by nobody else. So its transactions that no row has are orphans: they are stored
    before a nonce after them is assigned, and while there may be more of them in the mempool, none is assigned.

    Args:
        w3: Connection to the node.
        database: Where operations are stored.
        platform: Address of the platform's account.
        spending: Counts what the platform's account spends.
    """

    def __init__(self, w3: Web3, database: Database, platform: str, spending: Spending) -> None:
        self._w3 = w3
        self._spending = spending
        self._database = database
        self._platform = platform
        self._lock = threading.Lock()  # without it, threads that sign at the same time would try the same nonce
        self._next_nonce: dict[str, int] = {}  # first nonce to try, by account
        self._has_orphans = False  # as `find_unknown` saw it last
        self._unknown: str | None = None

    def sign(
        self,
        operation: Operation,
        final_block: int,
        sign: Callable[[int], Attempt],
        charge: Charge | None = None,
    ) -> Operation:
        """Stores the operation's first attempt with the next free nonce.

        Args:
            operation: A prepared operation.
            final_block: Number of the latest final block: counting in a block that a reorg drops would leave a gap.
            sign: Signs the operation with a nonce.
            charge: What is counted; None if nothing is.

        Returns:
            The signed operation, or the operation as another worker left it; unchanged during a pause.

        Raises:
            AboveLimit: It is above a limit.
            HeldForOrphan: The operation, or the account, has to wait for an orphan.
        """
        chain_id, sender, compared = operation.chain_id, operation.sender, list[str]()
        count = rpc.transaction_count(self._w3, sender, final_block)
        with self._lock, self._database.autocommit() as connection:
            nonce: int | None = self._next_nonce.get(sender)
            used_on_chain = 0
            if nonce is None or count > nonce:
                nonce, used_on_chain = self._start(connection, operation, count, final_block)
            while True:
                entry = self._entry(connection, operation, nonce, charge, final_block)
                spending = self._spending.to_json(operation, entry)
                signed = _try(connection, operation, sign(nonce), used_on_chain, compared, spending)
                if signed is not None:
                    self._next_nonce[sender] = nonce + 1
                    self._spending.signed(signed, entry)
                    return signed
                self._spending.forget_time()  # that may be why nothing was signed
                current = operations.find(connection, operation.key) or operation
                next_nonce = nonce_queries.next_nonce(connection, chain_id, sender)
                if current.state == "prepared" and self._compare_orphans(connection, current, compared):
                    continue
                if current.state != "prepared" or next_nonce is None or next_nonce == nonce:
                    self._next_nonce.pop(sender, None)
                    return operations.find(connection, operation.key) or operation  # as another worker left it
                if next_nonce < nonce:
                    log.error(
                        "the database has lost commits: it assigned nonce %s of %s, and not any more", nonce, sender
                    )
                    self._next_nonce.pop(sender, None)
                    tried = nonce, used_on_chain
                    nonce, used_on_chain = self._start(connection, operation, count, final_block)
                    if (nonce, used_on_chain) == tried:  # a pause, or the time, is why nothing was signed
                        return current
                else:
                    nonce, used_on_chain = next_nonce, 0

    def _entry(
        self, connection: Connection, operation: Operation, nonce: int, charge: Charge | None, final_block: int
    ) -> Entry | None:
        """Returns the operation's entry; before it is refused, looks at what earlier ones really cost."""
        try:
            return self._spending.entry(connection, operation, nonce, charge)
        except AboveLimit:
            self._spending.forget_time()
            self._spending.settle(connection, operation.chain_id, final_block)
        return self._spending.entry(connection, operation, nonce, charge)

    def _start(self, connection: Connection, operation: Operation, count: int, final_block: int) -> tuple[int, int]:
        """Returns the nonce to try first, and the number of nonces that are certainly used on chain.

        Args:
            connection: A connection to the database.
            operation: The operation.
            count: Number of nonces that the node says the account has used by the end of the final block.
            final_block: Number of the latest final block.

        Raises:
            HeldForOrphan: The account has transactions that are in no row, and may have more.
        """
        sender = operation.sender
        # before the assigned nonces are read: what other processes sign and send meanwhile is in no row of before
        pending = rpc.transaction_count(self._w3, sender, "pending") if sender == self._platform else 0
        assigned = nonce_queries.next_nonce(connection, operation.chain_id, sender)
        if assigned is None:  # the count of a final block does not change, so the lower one of two answers is right
            count = min(count, rpc.transaction_count(self._w3, sender, final_block))
            return count, count
        if count <= assigned:
            self._require_no_unknown(sender, assigned, pending)
            return assigned, 0
        if find_transaction(self._w3, sender, count - 1, 0, final_block) is not None:
            if sender == self._platform:
                self._record_unknown(connection, operation.chain_id, assigned, count, final_block)
                self._require_no_unknown(sender, count, pending)
            log.warning("%s has used the nonces %s to %s without this database", sender, assigned, count - 1)
            return count, count
        message = "The node counts %s nonces of %s, and no final block has the one before; %s is next"
        log.error(message, count, sender, assigned)
        return assigned, 0

    # ------------------------------------------------------------------------------------------------- orphans

    def find_unknown(self, chain_id: int, final_block: int) -> str | None:
        """Stores the platform's final transactions that are in no row.

        Args:
            chain_id: Id of the network (EIP-155).
            final_block: Number of the latest final block.

        Returns:
            Why no nonce is assigned at present, in a sentence; None if nothing is in the way.

        Raises:
            ChainUnavailable: The node does not answer.
        """
        try:
            self._unknown = self._find_unknown(chain_id, final_block)
        except NODE_ERRORS as error:
            raise as_chain_unavailable("orphans", error) from error
        with self._database.autocommit() as connection:
            self._has_orphans = bool(orphans.open_orphans(connection, chain_id, self._platform))
        return self._unknown

    def take_over(self, operation: Operation) -> Operation | None:
        """Lets an operation that the contract refuses take over the orphan that has its effect already.

        The contract refuses it because of that effect: a booking is cancelled already, or the last seats are sold.

        Returns:
            The operation; None if there is no such orphan.

        Raises:
            HeldForOrphan: Somebody has to decide, or it is not known yet what the lost transactions did.
        """
        if self._unknown is not None and operation.sender == self._platform:
            raise HeldForOrphan(self._unknown)
        if not self._has_orphans:
            return None
        with self._database.autocommit() as connection:
            found = orphans.open_orphans(connection, operation.chain_id, operation.sender)
        match = orphans.find_match(operation, found)
        if match is None:
            return None
        self._adopt(operation, match)
        with self._database.autocommit() as connection:
            return operations.find(connection, operation.key)

    def examine(self, chain_id: int, tx_hash: str) -> None:
        """Stores a transaction with events of the contract as an orphan, if it is the platform's and in no row.

        Raises:
            ChainUnavailable: The node does not answer.
        """
        try:
            transaction = rpc.transaction(self._w3, tx_hash)
        except NODE_ERRORS as error:
            raise as_chain_unavailable("orphans", error) from error
        if transaction is None or transaction.sender != self._platform or transaction.block_number is None:
            return
        with self._database.autocommit() as connection:
            if not orphans.is_known(connection, chain_id, transaction):
                orphans.record(connection, chain_id, transaction, succeeded=True)
                self._has_orphans = True

    def _find_unknown(self, chain_id: int, final_block: int) -> str | None:
        count = rpc.transaction_count(self._w3, self._platform, final_block)
        pending = rpc.transaction_count(self._w3, self._platform, "pending")
        with self._database.autocommit() as connection:  # after the counts, so that it has all that they count
            assigned = nonce_queries.next_nonce(connection, chain_id, self._platform)
            if assigned is None or max(count, pending) <= assigned:
                return None
            try:
                self._record_unknown(connection, chain_id, assigned, count, final_block)
                self._require_no_unknown(self._platform, max(count, assigned), pending)
            except HeldForOrphan as held:
                with self._lock:
                    self._next_nonce.pop(self._platform, None)
                return held.reason
            nonce_queries.skip_nonces(connection, chain_id, self._platform, count)
        return None

    def _record_unknown(self, connection: Connection, chain_id: int, first: int, count: int, final_block: int) -> None:
        """Stores the platform's transactions with these nonces that are in no row.

        Raises:
            HeldForOrphan: They can't all be found.
        """
        if count - first > MAX_UNKNOWN:
            reason = (
                f"the chain has {count - first} transactions of {self._platform} that are in no row, from nonce {first}"
            )
            raise HeldForOrphan(f"{reason} on: restore the database, or start with an empty one")
        for nonce in range(first, count):
            used = find_transaction(self._w3, self._platform, nonce, 0, final_block)
            receipt = rpc.receipt(self._w3, used.tx_hash) if used else None
            if used is None or used.transaction is None or receipt is None:
                reason = f"the node counts {count} nonces of {self._platform}, no row has nonce {nonce}"
                raise HeldForOrphan(f"{reason}, and the node does not show its transaction")
            if not orphans.is_known(connection, chain_id, used.transaction):
                orphans.record(connection, chain_id, used.transaction, succeeded=receipt.succeeded)

    def _require_no_unknown(self, sender: str, known: int, pending: int) -> None:
        """Raises `HeldForOrphan` if the platform has transactions on their way whose nonces were not given out."""
        if sender == self._platform and pending > known:
            reason = (
                f"{pending - known} transactions of {sender} from nonce {known} on are in no row, and not final yet"
            )
            raise HeldForOrphan(reason)

    def _compare_orphans(self, connection: Connection, operation: Operation, compared: list[str]) -> bool:
        """Compares the account's orphans with an operation that could not be signed, and lets it take over its own one.

        Args:
            connection: A connection to the database.
            operation: A prepared operation.
            compared: Hashes of the orphans that are known to have another effect; gets the new ones.

        Returns:
            Whether there were orphans to compare, so that signing may be tried again.

        Raises:
            HeldForOrphan: Somebody has to decide.
        """
        found = orphans.open_orphans(connection, operation.chain_id, operation.sender)
        new = [orphan for orphan in found if orphan.tx_hash not in compared]
        match = orphans.find_match(operation, new)
        if match is None:
            compared.extend(orphan.tx_hash for orphan in new)
            return bool(new)
        self._adopt(operation, match)
        return False

    def _adopt(self, operation: Operation, orphan: Orphan) -> None:
        transaction = rpc.transaction(self._w3, orphan.tx_hash)
        attempt = transaction and orphans.as_attempt(transaction)
        if not attempt:
            raise HeldForOrphan(f"it is what {orphan.tx_hash} has done, whose bytes the node does not show at present")
        orphans.adopt(self._database, operation, orphan, attempt)


def _try(
    connection: Connection,
    operation: Operation,
    attempt: Attempt,
    used_on_chain: int,
    compared: Sequence[str],
    spending: dict[str, Any] | None,
) -> Operation | None:
    is_exit = operation.kind not in ORDERS
    try:
        return nonce_queries.sign(connection, operation, attempt, used_on_chain, compared, spending, is_exit=is_exit)
    except IntegrityError as error:
        if not isinstance(error.orig, UniqueViolation):
            raise
        log.error("nonce %s is in a row that took it without the table `nonces`", attempt.nonce)
        nonce_queries.skip_nonce(connection, operation.chain_id, operation.sender, attempt.nonce)
        return None


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

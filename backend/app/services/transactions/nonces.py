"""Assigns nonces to operations."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from psycopg.errors import UniqueViolation
from sqlalchemy import Connection
from web3 import Web3

from app.db.database import Database
from app.services import nonce_queries, operations, rpc
from app.services.operation_types import Attempt, Operation
from app.services.transactions.limits import ORDERS, STOPPED_BY_PAUSE
from app.services.transactions.nonce_search import find_transaction
from app.services.transactions.spending import AboveLimit, Charge, Entry, Spending
from app.services.transactions.unknown import UnknownTransactions

log = logging.getLogger(__name__)


class NonceAllocator:
    """Assigns an operation its account's next nonce, and stores the attempt that is signed with it.

    Other processes may send from the same account, so the database decides: a nonce that was assigned there is skipped.
    A node's word alone never makes a nonce be skipped, as that would leave a gap. It needs a proof: the transaction
    with the nonce before, in a final block. The platform's transactions that no row has are stored before a nonce after
    them is assigned; see `UnknownTransactions`.

    The nonces of one account prove that nobody signed meanwhile. Where several accounts send orders, a number of all
    signed orders proves it: each takes the next one, in the statement that takes its nonce.

    Args:
        w3: Connection to the node.
        database: Where operations are stored.
        lanes: Addresses of the accounts that send new operations, the platform's first.
        spending: Counts what these accounts spend.
        unknown: Finds transactions that are in no row.

    Attributes:
        unknown: Finds transactions that are in no row.
    """

    def __init__(
        self, w3: Web3, database: Database, lanes: Sequence[str], spending: Spending, unknown: UnknownTransactions
    ) -> None:
        self._w3 = w3
        self._spending = spending
        self._database = database
        self._lanes = lanes
        self.unknown = unknown
        # without them, threads that sign at the same time would try the same nonce, or the same number of an order
        self._locks = dict[str, threading.Lock]()  # by account
        self._lock_of_orders = threading.Lock()
        self._next_nonce: dict[str, int] = {}  # first nonce to try, by account
        self._orders: int | None = None  # number of signed orders, if this process signed the last one

    def find_unknown(self, chain_id: int, final_block: int) -> str | None:
        """Stores transactions that are in no row, as `UnknownTransactions.find` does, and returns what it returns."""
        reason = self.unknown.find(chain_id, final_block)
        if reason is not None:
            with self._lock_of_orders:
                self._orders = None
            for lane in self._lanes:
                with self._lock_of(lane):
                    self._next_nonce.pop(lane, None)
        return reason

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
        with self._lock_of(sender), self._database.autocommit() as connection:
            nonce: int | None = self._next_nonce.get(sender)
            used_on_chain = 0
            if nonce is None or count > nonce:
                nonce, used_on_chain = self._start(connection, operation, count, final_block)
            is_counted = len(self._lanes) > 1 and operation.kind in ORDERS and sender in self._lanes
            if is_counted:
                self.unknown.check_others(connection, operation, final_block)
            while True:
                entry = self._entry(connection, operation, nonce, charge, final_block)
                attempt = sign(nonce)
                if is_counted:
                    signed = self._store_order(
                        connection, operation, attempt, used_on_chain, compared, charge, final_block
                    )
                else:
                    signed = self._store(connection, operation, attempt, used_on_chain, compared, entry)
                if signed is not None:
                    self._next_nonce[sender] = nonce + 1
                    return signed
                self._spending.forget_time()  # that may be why nothing was signed
                current = operations.find(connection, operation.key) or operation
                next_nonce = nonce_queries.next_nonce(connection, chain_id, sender)
                if current.state == "prepared" and self.unknown.compare(connection, current, compared):
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

    def _lock_of(self, account: str) -> threading.Lock:
        return self._locks.setdefault(account, threading.Lock())

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

    def _store_order(
        self,
        connection: Connection,
        operation: Operation,
        attempt: Attempt,
        used_on_chain: int,
        compared: Sequence[str],
        charge: Charge | None,
        final_block: int,
    ) -> Operation | None:
        """Stores the attempt of an order as the next one of all lanes, as `_store` does.

        If another process signed an order since, what was spent is added up anew. Raises `AboveLimit`.
        """
        chain_id = operation.chain_id
        with self._lock_of_orders:
            while True:
                orders, self._orders = self._orders, None
                if orders is None:
                    orders = nonce_queries.signed_orders(connection, chain_id)  # before the entries of other lanes
                    self._spending.is_current = False
                entry = self._entry(connection, operation, attempt.nonce, charge, final_block)
                signed = self._store(connection, operation, attempt, used_on_chain, compared, entry, orders)
                if signed is not None:
                    self._orders, self._spending.is_current = orders + 1, True
                    return signed
                next_nonce = nonce_queries.next_nonce(connection, chain_id, operation.sender)
                is_next = next_nonce == attempt.nonce or attempt.nonce == used_on_chain > (next_nonce or -1)
                if not is_next or nonce_queries.signed_orders(connection, chain_id) == orders:
                    return None

    def _store(
        self,
        connection: Connection,
        operation: Operation,
        attempt: Attempt,
        used_on_chain: int,
        compared: Sequence[str],
        entry: Entry | None,
        orders: int | None = None,
    ) -> Operation | None:
        """Stores the attempt, as `nonce_queries.sign` does, and counts it."""
        spending, is_exit = self._spending.to_json(operation, entry), operation.kind not in STOPPED_BY_PAUSE
        try:
            signed = nonce_queries.sign(
                *(connection, operation, attempt, used_on_chain, compared, spending),
                is_exit=is_exit,
                orphans_of=self.unknown.senders(operation),
                orders=orders,
            )
        except UniqueViolation:
            log.error("nonce %s is in a row that took it without the table `nonces`", attempt.nonce)
            nonce_queries.skip_nonce(connection, operation.chain_id, operation.sender, attempt.nonce)
            return None
        if signed is not None:
            self._spending.signed(signed, entry)
        return signed

    def _start(self, connection: Connection, operation: Operation, count: int, final_block: int) -> tuple[int, int]:
        """Returns the nonce to try first, and the number of nonces that are certainly used on chain.

        Args:
            connection: A connection to the database.
            operation: The operation.
            count: Number of nonces that the node says the account has used by the end of the final block.
            final_block: Number of the latest final block.

        Raises:
            HeldForOrphan: The platform's accounts have transactions that are in no row, and may have more.
        """
        sender, is_lane = operation.sender, operation.sender in self._lanes
        # before the assigned nonces are read: what other processes sign and send meanwhile is in no row of before
        pending = rpc.transaction_count(self._w3, sender, "pending") if is_lane else 0
        assigned = nonce_queries.next_nonce(connection, operation.chain_id, sender)
        if assigned is None:  # the count of a final block does not change, so the lower one of two answers is right
            count = min(count, rpc.transaction_count(self._w3, sender, final_block))
            return count, count
        if count <= assigned:
            self.unknown.require_none(sender, assigned, pending)
            return assigned, 0
        if find_transaction(self._w3, sender, count - 1, 0, final_block) is not None:
            if is_lane:
                self.unknown.record(connection, operation.chain_id, sender, range(assigned, count), final_block)
                self.unknown.require_none(sender, count, pending)
            log.warning("%s has used the nonces %s to %s without this database", sender, assigned, count - 1)
            return count, count
        message = "The node counts %s nonces of %s, and no final block has the one before; %s is next"
        log.error(message, count, sender, assigned)
        return assigned, 0

"""The platform's transactions that are in no row: finds them, stores them, and compares operations with them.

The platform's accounts are used by nobody else. So their transactions that no row has are orphans. Nobody knows of
which order one of them was, and the order may be repeated in any lane. So an orphan of one lane is compared with the
operations of all, and while one lane may have more of them in the mempool, no lane assigns a nonce.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection
from web3 import Web3

from app.db.database import Database
from app.services import nonce_queries, operations, orphans, rpc
from app.services.operation_types import Operation
from app.services.orphans import HeldForOrphan, Orphan
from app.services.rpc_errors import NODE_ERRORS, as_chain_unavailable
from app.services.transactions.limits import Sealer
from app.services.transactions.nonce_search import find_transaction

MAX_UNKNOWN = 200
"""Maximum number of transactions in no row that are looked up. With more of them the database is too old to go on."""


class UnknownTransactions:
    """Finds transactions of the platform's accounts that are in no row.

    Args:
        w3: Connection to the node.
        database: Where operations and orphans are stored.
        lanes: Addresses of the accounts that send new operations.
        sealer: Seals an operation anew that takes over an orphan of another lane.
    """

    def __init__(self, w3: Web3, database: Database, lanes: Sequence[str], sealer: Sealer) -> None:
        self._w3, self._database, self._lanes, self._sealer = w3, database, lanes, sealer
        self._has_orphans = False  # as `find` saw it last
        self._reason: str | None = None

    def find(self, chain_id: int, final_block: int) -> str | None:
        """Stores the platform's final transactions that are in no row.

        Args:
            chain_id: Id of the network (EIP-155).
            final_block: Number of the latest final block.

        Returns:
            Why no nonce is assigned at present, in a sentence; None if nothing is in the way.

        Raises:
            ChainUnavailable: The node does not answer.
        """
        reasons = list[str]()
        with self._database.autocommit() as connection:
            for lane in self._lanes:
                try:
                    self.check(connection, chain_id, lane, final_block)
                except HeldForOrphan as held:
                    reasons.append(held.reason)
                except NODE_ERRORS as error:
                    raise as_chain_unavailable("orphans", error) from error
            self._has_orphans = bool(orphans.open_orphans(connection, chain_id, self._lanes))
        self._reason = "; ".join(reasons) or None
        return self._reason

    def check(self, connection: Connection, chain_id: int, account: str, final_block: int) -> None:
        """Stores an account's final transactions that are in no row.

        Args:
            connection: A connection to the database, in no transaction.
            chain_id: Id of the network (EIP-155).
            account: Address of one of the platform's accounts.
            final_block: Number of the latest final block.

        Raises:
            HeldForOrphan: They can't all be found, or there may be more of them.
        """
        count = rpc.transaction_count(self._w3, account, final_block)
        pending = rpc.transaction_count(self._w3, account, "pending")
        # after the counts, so that it has all that they count
        assigned = nonce_queries.next_nonce(connection, chain_id, account)
        if assigned is None or max(count, pending) <= assigned:
            return
        self.record(connection, chain_id, account, range(assigned, count), final_block)
        self.require_none(account, max(count, assigned), pending)
        nonce_queries.skip_nonces(connection, chain_id, account, count)

    def check_others(self, connection: Connection, operation: Operation, final_block: int) -> None:
        """Does as `check` for the other lanes, if one of them has sent more than the database has given out.

        Only the nonces of one account exclude each other, so an order must not be signed in one lane while another may
        have sent it already: in a transaction that the database lost.
        """
        for lane in self._lanes if operation.sender in self._lanes else ():
            if lane != operation.sender:
                pending = rpc.transaction_count(self._w3, lane, "pending")
                assigned = nonce_queries.next_nonce(connection, operation.chain_id, lane)  # after it, as in `check`
                if assigned is not None and pending > assigned:
                    self.check(connection, operation.chain_id, lane, final_block)

    def record(
        self, connection: Connection, chain_id: int, account: str, numbers: Sequence[int], final_block: int
    ) -> None:
        """Stores an account's transactions with these nonces that are in no row.

        Raises:
            HeldForOrphan: They can't all be found.
        """
        if len(numbers) > MAX_UNKNOWN:
            reason = (
                f"the chain has {len(numbers)} transactions of {account} that are in no row, from nonce {numbers[0]}"
            )
            raise HeldForOrphan(f"{reason} on: restore the database, or start with an empty one")
        for nonce in numbers:
            used = find_transaction(self._w3, account, nonce, 0, final_block)
            receipt = rpc.receipt(self._w3, used.tx_hash) if used else None
            if used is None or used.transaction is None or receipt is None:
                reason = f"the node counts {numbers[-1] + 1} nonces of {account}, no row has nonce {nonce}"
                raise HeldForOrphan(f"{reason}, and the node does not show its transaction")
            if not orphans.is_known(connection, chain_id, used.transaction):
                orphans.record(connection, chain_id, used.transaction, succeeded=receipt.succeeded)

    def require_none(self, account: str, known: int, pending: int) -> None:
        """Raises `HeldForOrphan` if an account has transactions on their way whose nonces were not given out."""
        if account in self._lanes and pending > known:
            reason = (
                f"{pending - known} transactions of {account} from nonce {known} on are in no row, and not final yet"
            )
            raise HeldForOrphan(reason)

    def examine(self, chain_id: int, tx_hash: str) -> None:
        """Stores a transaction with events of the contract as an orphan, if it is the platform's and in no row.

        Raises:
            ChainUnavailable: The node does not answer.
        """
        try:
            transaction = rpc.transaction(self._w3, tx_hash)
        except NODE_ERRORS as error:
            raise as_chain_unavailable("orphans", error) from error
        if transaction is None or transaction.sender not in self._lanes or transaction.block_number is None:
            return
        with self._database.autocommit() as connection:
            if not orphans.is_known(connection, chain_id, transaction):
                orphans.record(connection, chain_id, transaction, succeeded=True)
                self._has_orphans = True

    # ------------------------------------------------------------------------------------------------- operations

    def senders(self, operation: Operation) -> Sequence[str]:
        """Returns the accounts whose orphans may be what an operation asks for."""
        return self._lanes if operation.sender in self._lanes else (operation.sender,)

    def take_over(self, operation: Operation) -> Operation | None:
        """Lets an operation that the contract refuses take over the orphan that has its effect already.

        The contract refuses it because of that effect: a booking is cancelled already, or the last seats are sold.

        Returns:
            The operation; None if there is no such orphan.

        Raises:
            HeldForOrphan: Somebody has to decide, or it is not known yet what the lost transactions did.
        """
        if self._reason is not None and operation.sender in self._lanes:
            raise HeldForOrphan(self._reason)
        if not self._has_orphans:
            return None
        with self._database.autocommit() as connection:
            found = orphans.open_orphans(connection, operation.chain_id, self.senders(operation))
        match = orphans.find_match(operation, found)
        if match is None:
            return None
        self._adopt(operation, match)
        with self._database.autocommit() as connection:
            return operations.find(connection, operation.key)

    def compare(self, connection: Connection, operation: Operation, compared: list[str]) -> bool:
        """Compares orphans with an operation that could not be signed, and lets it take over its own one.

        Args:
            connection: A connection to the database.
            operation: A prepared operation.
            compared: Hashes of the orphans that are known to have another effect; gets the new ones.

        Returns:
            Whether there were orphans to compare, so that signing may be tried again.

        Raises:
            HeldForOrphan: Somebody has to decide.
        """
        found = orphans.open_orphans(connection, operation.chain_id, self.senders(operation))
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
        in_its_lane = replace(operation, sender=orphan.sender)
        if self._sealer.has_sealed(operation):
            in_its_lane = replace(in_its_lane, seal=self._sealer.seal_of(in_its_lane))
        orphans.adopt(self._database, in_its_lane, orphan, attempt)

"""What becomes of operations before they are signed: they go on, wait, or are rejected."""

from __future__ import annotations

from collections.abc import Callable

from web3 import Web3
from web3.exceptions import ContractLogicError

from app.core.errors import ContractRejected, Expired, Superseded
from app.db.database import Database
from app.services import operations, rpc
from app.services.codec import event_stake_codec
from app.services.contract_watch import PAUSABLE, ContractWatch
from app.services.operation_types import HeldCause, Operation
from app.services.orphans import HeldForOrphan
from app.services.rpc_errors import NODE_ERRORS, as_chain_unavailable, as_contract_rejected, classify
from app.services.rpc_refusals import RefusalKind
from app.services.transactions import states
from app.services.transactions.head import Head
from app.services.transactions.named_ids import NamedIds
from app.services.transactions.nonces import NonceAllocator
from app.services.transactions.policy import TransactionPolicy


class Unsigned:
    """Decides about operations in the state prepared.

    Args:
        w3: Connection to the node.
        database: Where operations are stored.
        head: The latest block.
        nonces: Knows the transactions that are in no row.
        clock: Returns seconds; never goes back.

    Attributes:
        named_ids: Says whether a call may name something else by now.
        contract_watch: Says which operations are held because of the contract; None if nobody looks at it.
    """

    def __init__(
        self, w3: Web3, database: Database, head: Head, nonces: NonceAllocator, clock: Callable[[], float]
    ) -> None:
        self._w3, self._database, self._head, self._nonces, self._clock = w3, database, head, nonces, clock
        self.named_ids = NamedIds(w3, database, clock)
        self.contract_watch: ContractWatch | None = None
        self._failing_since: dict[str, float] = {}  # first estimate in a row that failed, by key

    def estimate(self, operation: Operation, policy: TransactionPolicy) -> int | Operation:
        """Returns the estimated gas, or the operation as it was rejected or held."""
        to, data, value = operation.to_address, operation.data, operation.value_wei
        try:
            gas = rpc.estimate_gas(self._w3, to, data, "pending", sender=operation.sender, value=value)
        except NODE_ERRORS as error:
            if isinstance(error, ContractLogicError):
                rejection = as_contract_rejected(operation.kind, error, event_stake_codec())
                watch = self.contract_watch if rejection is not None else None
                if watch and rejection and (why := watch.reason_after_revert(operation, rejection.name)):
                    return self.hold(operation, HeldCause.CONTRACT, why, policy)
                if rejection is not None:
                    return self._reject(operation, rejection, policy)
            elif classify(error) is RefusalKind.NO_FUNDS:
                return self.hold(operation, HeldCause.NO_FUNDS, states.no_funds(operation), policy)
            return self.hold_after_errors(operation, error, "its gas can't be estimated", policy)
        self._failing_since.pop(operation.key, None)
        return gas

    def hold_after_errors(
        self, operation: Operation, error: Exception, what: str, policy: TransactionPolicy
    ) -> Operation:
        """Holds the operation if a node has failed for `policy.hold_after` seconds; raises its error before that."""
        now = self._clock()
        if now - self._failing_since.setdefault(operation.key, now) <= policy.hold_after:
            raise error
        return self.hold(operation, HeldCause.ESTIMATE, as_chain_unavailable(what, error).message.rstrip("."), policy)

    def _reject(self, operation: Operation, rejection: ContractRejected, policy: TransactionPolicy) -> Operation:
        """Rejects an operation, unless the contract refuses it because a transaction of its own is done already."""
        if policy.looks_before_rejecting:
            final_block = policy.final_block(self._head.number(policy.head_max_age))
            self._nonces.find_unknown(operation.chain_id, max(final_block, 0))
        try:
            taken_over = self._nonces.unknown.take_over(operation)
        except HeldForOrphan as held:
            return self.hold(operation, HeldCause.ORPHAN, held.reason, policy)
        return taken_over or states.reject(self._database, operation, rejection)

    def hold(self, operation: Operation, cause: HeldCause, reason: str, policy: TransactionPolicy) -> Operation:
        """Holds an operation without a nonce, or rejects it if it was held for too long.

        Only orders expire. An exit, such as a cancellation, waits: somebody's money depends on it.
        """
        may_expire = (
            operation.kind in PAUSABLE and not operation.attempts and cause not in (HeldCause.LIMIT, HeldCause.ORPHAN)
        )
        if operation.held_at is None or not may_expire:
            return states.hold(self._database, operation, cause, reason)
        with self._database.autocommit() as connection:
            seconds = operations.held_seconds(connection, operation.key)
        if seconds <= policy.expire_after:
            return states.hold(self._database, operation, cause, reason)
        self._failing_since.pop(operation.key, None)
        message = f"{operation.kind} was given up after {seconds:.0f} seconds, and nothing was sent: {reason}."
        return states.reject(self._database, operation, Expired(message))

    def check_named_ids(self, operation: Operation, policy: TransactionPolicy) -> Operation | None:
        """Returns the operation as it was rejected or held, if its call may name another run or booking; else None."""
        try:
            doubt = self.named_ids.find_doubt(operation, policy)
        except NODE_ERRORS as error:
            return self.hold_after_errors(operation, error, "the block of what it names can't be read", policy)
        if doubt is None:
            return None
        if doubt.is_final:
            message = f"{operation.kind} was not sent, and never will be: {doubt.reason}."
            return states.reject(self._database, operation, Superseded(message))
        return self.hold(operation, HeldCause.REORG, doubt.reason, policy)

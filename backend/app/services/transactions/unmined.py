"""Brings operations into a block that have a nonce and are in none: sends again, raises fees, fills gaps of nonces."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from web3 import Web3

from app.core.errors import AppError, ContractRejected, Superseded
from app.db.database import Database
from app.services import operations, rpc
from app.services.operation_types import FILL_NONCE_GAP, NOT_HELD, HeldCause, NoEffect, Operation
from app.services.rpc_errors import rejection_message
from app.services.rpc_refusals import RefusalKind
from app.services.rpc_types import Receipt
from app.services.transactions import states
from app.services.transactions.accounts import SigningAccount
from app.services.transactions.conclusions import Mined, conclude, of_receipt
from app.services.transactions.gaps import MAX_GAP, find_obstacles, reason_to_wait
from app.services.transactions.limits import Limits
from app.services.transactions.mempool import Mempool, SendRefusal
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.receipts import revert_reason
from app.services.transactions.signer import Signer
from app.services.transactions.signing import find_account

log = logging.getLogger(__name__)
_ANSWERED = frozenset(
    {
        RefusalKind.KNOWN,
        RefusalKind.NONCE_TOO_LOW,
        RefusalKind.NONCE_TOO_HIGH,
        RefusalKind.UNDERPRICED,
        RefusalKind.FEE_TOO_LOW,
    }
)
"""Refusals after which it is known what to do. After others the operation is held."""
_ENDED_BY_ACCEPTANCE = frozenset({HeldCause.NO_FUNDS, HeldCause.REFUSED, HeldCause.LIMIT, HeldCause.REORG})
_ENDED_BY_ORDER = frozenset({HeldCause.NONCE_GAP, HeldCause.EARLIER})
"""Causes that are over when a node accepts the transaction, and when all earlier nonces are used or on their way."""


class Unmined:
    """Follows operations in the states signed and submitted.

    Args:
        w3: Connection to the node.
        database: Where operations are stored.
        mempool: Sends attempts.
        signer: Signs further attempts.
        accounts: The accounts that fill gaps among their own nonces.
    """

    def __init__(
        self, w3: Web3, database: Database, mempool: Mempool, signer: Signer, accounts: Sequence[SigningAccount]
    ) -> None:
        self._w3 = w3
        self._database = database
        self._mempool = mempool
        self._signer = signer
        self._accounts = accounts

    def follow(
        self,
        operation: Operation,
        refusal: SendRefusal | None,
        account: SigningAccount | None,
        policy: TransactionPolicy,
        limits: Limits,
    ) -> Operation | Mined:
        """Sends an operation again that is in no block, raises its fees, or removes what keeps it from being mined.

        Args:
            operation: An operation in the state signed or submitted.
            refusal: Why the node refused it just now; None if it was not sent, or not refused.
            account: The account of its sender; None if its key is not here.
            policy: Fees and waiting times.
            limits: What may be signed.

        Returns:
            The operation, or the receipt of an attempt that turned out to be mined.
        """
        if operation.abandoned_at is not None:
            used = rpc.transaction_count(self._w3, operation.sender, "latest")
            assert operation.nonce is not None
            return self._handle_used_nonce(operation, policy) if used > operation.nonce else operation
        due = self._mempool.due(operation, policy)
        resent = operation.state == "submitted" and due.resend
        if resent:
            if changed := self.check_before_resend(operation, account, policy):
                return changed
            refusal, is_in_mempool = self._mempool.resend(operation)
            if is_in_mempool and operation.held_cause in _ENDED_BY_ACCEPTANCE:
                operation = states.change(self._database, operation, ("submitted",), **NOT_HELD)
        kind = refusal and refusal.kind
        if refusal is not None and kind not in _ANSWERED:
            return self._handle_refusal(operation, refusal, account, policy, limits)
        if kind is RefusalKind.NONCE_TOO_LOW:
            return self._handle_used_nonce(operation, policy)
        if resent or due.bump or kind is RefusalKind.NONCE_TOO_HIGH:
            # The node has the attempt, but no receipt: an earlier nonce may be missing, or this one be used
            looked_at = self._look_at_nonces(operation, policy, resend=kind is RefusalKind.NONCE_TOO_HIGH)
            if isinstance(looked_at, Mined) or looked_at.state != operation.state or _waits(looked_at):
                return looked_at
            operation = looked_at
        if due.bump or kind in (RefusalKind.UNDERPRICED, RefusalKind.FEE_TOO_LOW):
            if account is None:
                return operation
            bumped = self._signer.raise_fees(operation, account, policy, limits, at_once=not due.bump)
            return self._send_new(operation, bumped)
        # Not if the answer was lost: the node may not have the transaction, so it stays signed and is sent again
        if operation.state == "signed" and self._mempool.has_sent(operation):
            operation = states.change(self._database, operation, ("signed",), state="submitted", **NOT_HELD)
        return operation

    def check_before_resend(
        self, operation: Operation, account: SigningAccount | None, policy: TransactionPolicy
    ) -> Operation | None:
        """Returns the operation as it is by now, if its stored bytes must not be sent again; None if they may.

        Another process may have changed it, or its call may name another run or booking than it did: then it is held,
        or gives its nonce up.
        """
        if (changed := states.changed_meanwhile(self._database, operation)) is not None:
            return changed
        doubt = None if operation.given_up else self._signer.unsigned.named_ids.find_doubt(operation, policy)
        if doubt is None:
            return None
        operation = states.hold(self._database, operation, HeldCause.REORG, doubt.reason)
        if doubt.is_final and account is not None and operation.state in ("signed", "submitted"):
            error = Superseded(f"{operation.kind} has no effect, and never will: {doubt.reason}.")
            return self.cancel(operation, account, policy, error)[0]
        return operation

    def give_up_nonce(self, operation: Operation, account: SigningAccount, policy: TransactionPolicy) -> Operation:
        """Stores and sends one more attempt with the same nonce, without effect."""
        return self._send_new(operation, self._signer.give_up_nonce(operation, account, policy))

    def cancel(
        self, operation: Operation, account: SigningAccount, policy: TransactionPolicy, error: AppError
    ) -> tuple[Operation, SendRefusal | None]:
        """Gives the nonce up as `give_up_nonce` does, with this error. Also returns why a node refused the attempt."""
        changed = self._signer.give_up_nonce(operation, account, policy, error)
        is_new = changed.given_up and len(changed.attempts) == len(operation.attempts) + 1
        return changed, self._mempool.send(changed) if is_new else None

    def raise_old_fees(
        self, operation: Operation, account: SigningAccount, policy: TransactionPolicy, limits: Limits
    ) -> Operation:
        """Raises the fees of an operation that this process has not seen before, if its last attempt is old enough.

        What is due is decided by the times of blocks, as nobody knows when another process sent the attempt.
        """
        last = operation.attempts[-1]
        signed = rpc.block_header(self._w3, last.latest_block if last.signed_block is None else last.signed_block)
        latest = rpc.latest_header(self._w3)
        if signed is None or latest.timestamp - signed.timestamp <= policy.bump_after:
            return operation
        return self._send_new(operation, self._signer.raise_fees(operation, account, policy, limits, at_once=False))

    def has_sent(self, operation: Operation) -> bool:
        """Returns whether this process has sent an attempt of the operation, and a node accepted it."""
        return self._mempool.has_sent(operation)

    def start_over(self, proof: NoEffect, reason: str, *, counts_as_retry: bool = True) -> Operation:
        """Starts an operation over with a new nonce, as `states.requeue` does."""
        self._mempool.forget(proof.operation)
        return states.requeue(self._database, proof, reason, counts_as_retry=counts_as_retry)

    def close_reverted(self, operation: Operation, receipt: Receipt, columns: dict[str, object]) -> Operation:
        """Fails an operation that reverted in a final block, or starts it over if it ran out of gas for the first time.

        Args:
            operation: The operation.
            receipt: The receipt of the attempt that reverted.
            columns: The columns of `operations` that the receipt fills in.
        """
        revert, proof = revert_reason(self._w3, operation, receipt), of_receipt(operation, receipt)
        if revert.name == "OutOfGas" and operation.requeued == 0 and not operation.given_up:
            return self.start_over(proof, f"{receipt.tx_hash} ran out of gas")
        message = rejection_message(operation.kind, revert)
        error = ContractRejected(revert.name, revert.args, message, "reverted")
        return states.fail(self._database, proof, error, **columns)

    def return_to_mempool(self, operation: Operation) -> Operation:
        """Sets the operation back from mined to submitted, as its block was dropped from the chain."""
        tx_hash, block_number = operation.tx_hash, operation.block_number
        log.warning("%s is not in block %s any more", tx_hash, block_number, extra=states.log_fields(operation))
        changed = {"state": "submitted", "reorged": True, **states.NO_BLOCK}
        operation = states.change(self._database, operation, ("mined",), **changed)
        self._mempool.forget(operation)
        return operation

    # ------------------------------------------------------------------------------------------------- helpers

    def _send_new(self, operation: Operation, changed: Operation) -> Operation:
        """Sends the attempt that was just added, if there is one."""
        if len(changed.attempts) == len(operation.attempts) + 1 and changed.nonce == operation.nonce:
            self._mempool.send(changed)
        return changed

    def _handle_refusal(
        self,
        operation: Operation,
        refusal: SendRefusal,
        account: SigningAccount | None,
        policy: TransactionPolicy,
        limits: Limits,
    ) -> Operation | Mined:
        """Holds the operation with the node's words, and mends its transaction or gives its nonce up."""
        self._mempool.delay(operation)
        if refusal.kind is RefusalKind.NO_FUNDS:
            return states.hold(self._database, operation, HeldCause.NO_FUNDS, states.no_funds(operation))
        was_held = operation.held_cause == refusal.cause
        said_by_node = refusal.cause is HeldCause.REFUSED
        reason = f"the node refuses its transaction: {refusal.words}" if said_by_node else refusal.words
        operation = states.hold(self._database, operation, refusal.cause, reason)
        if not said_by_node:  # its nonce may be used long since
            used = self._handle_used_nonce(operation, policy)
            if isinstance(used, Mined) or used.state != operation.state:
                return used
        if account is None or operation.state not in ("signed", "submitted"):
            return operation
        if said_by_node and not was_held:
            mended = self._signer.mend(operation, account, policy, limits, refusal.kind)
            return self._send_new(operation, mended)
        with self._database.autocommit() as connection:
            seconds = operations.held_seconds(connection, operation.key)
        return self.give_up_nonce(operation, account, policy) if seconds > policy.replace_after else operation

    def _look_at_nonces(self, operation: Operation, policy: TransactionPolicy, *, resend: bool) -> Operation | Mined:
        """Compares the account's nonces on chain with the operation's: fills a gap, or says what it waits for.

        Args:
            operation: An operation that is in no block.
            policy: Fees and confirmations.
            resend: Whether the operations with earlier nonces are sent again.
        """
        assert operation.nonce is not None
        used = rpc.transaction_count(self._w3, operation.sender, "latest")
        if used > operation.nonce:
            return self._handle_used_nonce(operation, policy)
        waits_for = None
        if used < operation.nonce:
            with self._database.transaction() as connection:
                obstacles = find_obstacles(connection, operation, used)
            waits_for = reason_to_wait(obstacles)
            own = find_account(operation, *self._accounts)
            if own is not None and len(obstacles.missing) <= MAX_GAP:
                for nonce in obstacles.missing:
                    filling = self._signer.fill_gap(own, operation.chain_id, nonce, policy)
                    if filling is not None:
                        self._mempool.send(filling)
            for earlier in obstacles.unmined if resend else ():
                self._mempool.send(earlier)
        if waits_for is not None:
            return states.hold(self._database, operation, *waits_for)
        if operation.held_cause in _ENDED_BY_ORDER:
            operation = states.change(self._database, operation, (operation.state,), **NOT_HELD)
        return operation

    def _handle_used_nonce(self, operation: Operation, policy: TransactionPolicy) -> Operation | Mined:
        """Starts the operation over or fails it, if another transaction used its nonce in a final block.

        The operation starts over with a new nonce, once. It fails the second time, and also if it was mined before in a
        block that was dropped. A transaction that was mined before the operation was signed does not count. What fills
        a gap of nonces, was cancelled or abandoned has nothing to start over.
        """
        final_block = policy.final_block(rpc.block_number(self._w3))
        proof = conclude(self._w3, self._database, operation, final_block)
        if not isinstance(proof, NoEffect):
            return proof
        operation, used = proof.operation, proof.used
        was_mined_before = used.block_number <= operation.attempts[-1].latest_block
        can_start_over = not operation.reorged and (was_mined_before or operation.requeued == 0)
        is_wanted = not operation.given_up and operation.abandoned_at is None and operation.kind != FILL_NONCE_GAP
        if can_start_over and is_wanted and operation.held_cause != HeldCause.LIMIT:
            reason = f"its nonce {operation.nonce} went to {used.tx_hash}"
            return self.start_over(proof, reason, counts_as_retry=not was_mined_before)
        nonce, kind = operation.nonce, operation.kind
        message = f"{kind} had no effect: its nonce {nonce} went to {used.tx_hash}, which is not ours."
        return states.fail(self._database, proof, Superseded(message), **used.block)


def _waits(operation: Operation) -> bool:
    return operation.held_cause in _ENDED_BY_ORDER

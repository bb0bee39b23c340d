"""What an operator may do to an operation: take it up at once, cancel it, or abandon it; and to an orphan: dismiss it.

All of it is safe while services run in other processes: the changes of state are the sender's own, and change nothing
if somebody else changed the operation meanwhile. Nothing here declares that an operation had no effect; the sender does
so, once a final block proves it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import func, insert, update
from web3 import Web3

from app.core.errors import AppError, Cancelled, ChainUnavailable, InterventionRefused, NotFound, NothingToApprove
from app.db.database import Database
from app.db.tables import IS_OPEN_ORPHAN, interventions, orphans
from app.services import operations
from app.services.operation_list import OrphanRow, find_operation, find_orphan
from app.services.operation_types import FILL_NONCE_GAP, NOT_HELD, HeldCause, Operation
from app.services.rpc_errors import NODE_ERRORS, as_chain_unavailable
from app.services.rpc_refusals import RefusalKind
from app.services.steps import describe_steps, take_steps
from app.services.transactions import states
from app.services.transactions.approvals import approve, find_approval
from app.services.transactions.limits import Sealer
from app.services.transactions.mempool import SendRefusal
from app.services.transactions.receipts import find_receipt
from app.services.transactions.sender import TransactionSender
from app.services.transactions.signing import find_account

COMMANDS = ("retry", "cancel", "abandon")
"""Commands for operations."""
TRIES = 5
"""How often a command starts again if another process changed the operation meanwhile."""
UNSENT_CAUSES = (HeldCause.LIMIT, HeldCause.ORPHAN)
"""Causes for which a person has to decide before an operation without a nonce goes on."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What came of a command.

    Attributes:
        sentence: What was done, and what happens next.
        done: Whether it is what the operator wanted.
    """

    sentence: str
    done: bool = True


class Interventions:
    """Commands of one operator.

    Args:
        w3: Connection to the node. Only commands that need it send requests.
        database: The database.
        sender: Signs and sends.
        operator: Name of the operator, for the log.
    """

    def __init__(self, w3: Web3, database: Database, sender: TransactionSender, operator: str) -> None:
        self._w3, self._database, self._sender, self._operator = w3, database, sender, operator

    # ------------------------------------------------------------------------------------------------ what is allowed

    def reason_against(self, command: str, operation: Operation) -> str | None:
        """Returns why a command ("retry", "cancel" or "abandon") does not fit an operation; None if it does."""
        if operation.closed:
            return f"it is {operation.state}, which is final"
        if command == "retry":
            return None
        if operation.state == "mined":
            return f"it is mined in block {operation.block_number}, and counts once that block is final"
        if operation.kind == FILL_NONCE_GAP:
            return "it has no effect anyway, and the operations behind it need its nonce"
        why_not_cancel = self._reason_against_cancelling(operation)
        if command == "cancel":
            return why_not_cancel
        if operation.abandoned_at is not None:
            return "it is abandoned already"
        if why_not_cancel is not None:
            return None
        behind = (
            f", and abandoning it would stop everything behind nonce {operation.nonce}" if operation.attempts else ""
        )
        return f"it can be cancelled{behind}: use `stakesim operations cancel`"

    def _reason_against_cancelling(self, operation: Operation) -> str | None:
        if find_account(operation, *self._sender.accounts) is None:
            return (
                f"its sender {operation.sender} is not the platform's account, so nothing can replace its transaction"
            )
        if operation.state != "prepared":
            return None
        if operation.held_cause in UNSENT_CAUSES:
            return f"it is held, as {operation.held}: abandoning is for that"
        if not self._sender.sealer.has_sealed(operation):
            return (
                "it was not stored by this service, as its seal is missing or of other values: abandoning is for that"
            )
        return None

    def require(self, command: str, key: str) -> Operation:
        """Returns the operation with this key, if the command fits it. Raises `InterventionRefused` if not."""
        operation = find_operation(self._database, key)
        self._require(command, operation)
        return operation

    def _require(self, command: str, operation: Operation) -> None:
        reason = self.reason_against(command, operation)
        if reason is not None:
            raise InterventionRefused(f"{operation.kind} {operation.key} can't be {_DONE[command]}: {reason}.")

    # ------------------------------------------------------------------------------------------------ commands

    def retry(self, key: str) -> Outcome:
        """Takes an operation up at once, whatever back-off is in force: looks, sends, raises fees, or signs.

        An abandoned one is carried on again from now on.

        Raises:
            InterventionRefused: It is closed, or there is no such operation.
            ChainUnavailable: The node does not answer.
        """
        return self._run("retry", key)

    def cancel(self, key: str) -> Outcome:
        """Cancels an operation that is not mined.

        Without a nonce it is rejected. With one, a transaction without effect replaces its own; whichever is mined
        decides.

        Raises:
            InterventionRefused: It can't be cancelled, or there is no such operation.
            ChainUnavailable: It has a nonce, and the node does not answer.
        """
        return self._run("cancel", key)

    def abandon(self, key: str) -> Outcome:
        """Stops carrying on an operation that nobody can cancel.

        Without an attempt it is rejected. With one, it is not sent any more, and is confirmed if it is mined
        nevertheless.

        Raises:
            InterventionRefused: It can be cancelled, it is mined or closed, or there is no such operation.
        """
        return self._run("abandon", key)

    def find(self, key: str) -> Operation:
        """Returns the operation with this key, or the only one whose key begins so. Raises `InterventionRefused`."""
        return find_operation(self._database, key)

    def approve(self, key: str) -> Outcome:
        """Approves an operation that a limit of amounts holds. Raises as `approve_operation` does."""
        operation = approve_operation(self._database, self._sender.sealer, key, self._operator)
        return Outcome(f"{operation.kind} {operation.key} is approved: the service sends it from its next round on.")

    def _run(self, command: str, key: str) -> Outcome:
        operation = find_operation(self._database, key)
        with recorded(self._database, self._operator, command, operation.key) as record:
            outcome = self.intervene(command, operation)
            record(outcome.sentence)
            return outcome

    def intervene(self, command: str, operation: Operation) -> Outcome:
        """Runs a command without recording it. Raises as the command's method does."""
        act = {"retry": self._retry, "cancel": self._cancel, "abandon": self._abandon}[command]
        for _ in range(TRIES):
            self._require(command, operation)
            try:
                outcome = act(operation)
            except NODE_ERRORS as error:
                raise as_chain_unavailable(operation.kind, error, operation.key) from error
            if outcome is not None:
                return outcome
            operation = states.reload(self._database, operation)
        raise ChainUnavailable(f"{operation.kind} {operation.key} keeps changing: try again.", operation.key)

    # ------------------------------------------------------------------------------------------------ retry

    def _retry(self, operation: Operation) -> Outcome | None:
        if operation.abandoned_at is not None:
            resumed = self._set_abandoned(operation, None)
            if resumed is None:
                return None
            operation = resumed
        if operation.state == "prepared":
            self._look_around(operation)
        after = [operation, *take_steps(self._sender, operation)][-1]
        account, is_raised = find_account(after, *self._sender.accounts), False
        if after.state in ("signed", "submitted") and len(after.attempts) == len(operation.attempts) and account:
            raised = self._sender.unmined.raise_old_fees(after, account, self._sender.policy, self._sender.limits)
            is_raised, after = len(raised.attempts) > len(after.attempts), raised
        sent = [after.attempts[-1].tx_hash] if is_raised or self._sender.unmined.has_sent(after) else []
        sentence = describe_steps(operation, after, sent, self._sender.policy.confirmations)
        is_moving = after.held is None and after.state not in ("prepared", "failed", "rejected")
        return Outcome(f"{operation.kind} {operation.key}: {sentence}.", done=is_moving)

    def _look_around(self, operation: Operation) -> None:
        """Looks at what a reconciler's round looks at before an operation is signed."""
        sender = self._sender
        if sender.contract_watch is not None:
            sender.contract_watch.look()
        head = sender.head.number(sender.policy.head_max_age)
        sender.nonces.find_unknown(operation.chain_id, max(sender.policy.final_block(head), 0))

    # ------------------------------------------------------------------------------------------------ cancel

    def _cancel(self, operation: Operation) -> Outcome | None:
        name = f"{operation.kind} {operation.key}"
        if operation.state == "prepared":
            return self._reject(operation, "cancelled")
        if operation.given_up:
            last = operation.attempts[-1]
            return Outcome(f"{name} is being cancelled already: {last.tx_hash} is to use nonce {last.nonce}.")
        if find_receipt(self._w3, operation) is not None:
            return self._mined_first(operation)
        error = Cancelled(
            f"{operation.kind} was cancelled by an operator: a transaction without effect used its nonce."
        )
        account = find_account(operation, *self._sender.accounts)
        assert account is not None
        after, refusal = self._sender.unmined.cancel(operation, account, self._sender.policy, error)
        if not after.given_up:
            if (after.state, len(after.attempts)) != (operation.state, len(operation.attempts)):
                return None
            raise InterventionRefused(f"{name} can't be cancelled now: the base fee is above MAX_FEE_GWEI. Try later.")
        if refusal is not None and refusal.kind is RefusalKind.NONCE_TOO_LOW:
            return self._mined_first(after)
        return Outcome(f"{name}: {_describe_replacement(after, refusal)}")

    def _reject(self, operation: Operation, done: str) -> Outcome | None:
        """Closes an operation without a nonce; None if somebody else changed it meanwhile."""
        error = Cancelled(f"{operation.kind} was {done} by an operator; nothing was sent.")
        if states.reject(self._database, operation, error).state != "rejected":
            return None
        return Outcome(f"{operation.kind} {operation.key} is {done}: nothing was sent, and nothing will be.")

    def _mined_first(self, operation: Operation) -> Outcome:
        """Says that the operation's own transaction was mined, after the sender has seen that."""
        after = self._sender.step(operation)
        name = f"{operation.kind} {operation.key}"
        if after.tx_hash is None:
            sentence = f"{name} is not cancelled: its nonce is used, and the next rounds find out by what."
        elif after.state == "failed":
            return Outcome(f"{name} had no effect: {after.error and after.error['message']}")
        else:
            sentence = f"{name} is not cancelled: {after.tx_hash} was mined first, in block {after.block_number}."
        return Outcome(sentence, done=False)

    # ------------------------------------------------------------------------------------------------ abandon

    def _abandon(self, operation: Operation) -> Outcome | None:
        name = f"{operation.kind} {operation.key}"
        if operation.state == "prepared":
            return self._reject(operation, "abandoned")
        if self._set_abandoned(operation, func.clock_timestamp()) is None:
            return None
        return Outcome(
            f"{name} is abandoned: it is not sent any more. It is confirmed if it is mined nevertheless, and fails "
            f"once another transaction of {operation.sender} has used nonce {operation.nonce} in a final block."
        )

    def _set_abandoned(self, operation: Operation, at: object) -> Operation | None:
        """Returns the operation as changed; None if somebody else changed it meanwhile."""
        after = states.change(self._database, operation, (operation.state,), abandoned_at=at, **NOT_HELD)
        is_changed = (after.abandoned_at is None) is (at is None) and after.state == operation.state
        return after if is_changed else None


_DONE = {"retry": "taken up", "cancel": "cancelled", "abandon": "abandoned"}


def _describe_replacement(operation: Operation, refusal: SendRefusal | None) -> str:
    last = operation.attempts[-1]
    fees = f"{last.max_fee_per_gas} and {last.priority_fee_per_gas} wei per gas"
    replacement = f"{last.tx_hash} without effect, with nonce {last.nonce} and fees of {fees}"
    if refusal is None or refusal.kind is RefusalKind.KNOWN:
        return f"{replacement}, was sent. If the transaction that it replaces is mined first, that one counts."
    return f"{replacement}, is stored, and the node refuses it at present: {refusal.words}. The service sends it again."


def approve_operation(database: Database, sealer: Sealer, key: str, operator: str) -> Operation:
    """Approves an operation that a limit of amounts holds, so that the next round sends it. Repeated: changes nothing.

    Args:
        database: The database; no node is needed.
        sealer: Seals the approval.
        key: Key of the operation.
        operator: Name of the person, for the approval and the log.

    Raises:
        NothingToApprove: No such limit holds it, or this service did not store it.
    """
    with database.autocommit() as connection:
        operation = operations.find(connection, key)
    if operation is None:
        raise NotFound(f"There is no operation {key}.")
    with recorded(database, operator, "approve", operation.key) as record, database.transaction() as connection:
        operation = operations.lock(connection, operation.key)
        name = f"{operation.kind} {operation.key}"
        approval = find_approval(connection, operation, sealer)
        is_held = operation.state == "prepared" and operation.held_cause == HeldCause.ABOVE_LIMIT
        if approval is None or is_held:
            if not is_held:
                raise NothingToApprove(f"{name} can't be approved: no limit holds it.")
            if not sealer.has_sealed(operation):
                raise NothingToApprove(f"{name} can't be approved: this service did not store it.")
            approval = approve(connection, operation, operator, sealer)
        record(f"{name}, of {operation.value_wei} wei, is approved by {approval.approved_by}")
        return operation


def dismiss_orphan(database: Database, tx_hash: str, operator: str) -> Outcome:
    """Decides that no order is to have the effect of an orphan, so that orders like it are sent.

    Args:
        database: The database; no node and no key are needed.
        tx_hash: Hash of the orphan, or its beginning.
        operator: Name of the operator, for the log.

    Raises:
        InterventionRefused: It is decided already, or there is no such orphan.
    """
    orphan = find_orphan(database, tx_hash)
    with recorded(database, operator, "dismiss", orphan.tx_hash) as record:
        open_one = update(orphans).where(orphans.c.tx_hash == orphan.tx_hash, IS_OPEN_ORPHAN)
        with database.autocommit() as connection:
            changed = connection.execute(open_one.values(dismissed=True)).rowcount
        if not changed:
            orphan = find_orphan(database, orphan.tx_hash)
            raise InterventionRefused(f"There is nothing to dismiss: {orphan.tx_hash} {_why_closed(orphan)}.")
        outcome = Outcome(f"{orphan.tx_hash} is dismissed: orders with its effect are sent from the next round on.")
        record(outcome.sentence)
        return outcome


def _why_closed(orphan: OrphanRow) -> str:
    if orphan.operation_key is not None:
        return f"is the transaction of the operation {orphan.operation_key}"
    return "is dismissed already" if orphan.dismissed else "is not the effect of an order"


@contextmanager
def recorded(database: Database, operator: str, command: str, target: str) -> Iterator[Callable[[str], None]]:
    """Stores and logs that an operator runs a command, and its outcome.

    Yields:
        A function that gets the outcome. If it is not called, the outcome is the error that was raised.
    """
    with database.autocommit() as connection:
        values = {"operator": operator, "command": command, "target": target}
        number = connection.execute(insert(interventions).values(values).returning(interventions.c.id)).scalar_one()
    outcome: list[str] = []
    try:
        yield outcome.append
    except AppError as error:
        outcome.append(error.message)
        raise
    finally:
        if outcome:
            log.warning("operator %s: %s: %s", operator, command, outcome[0], extra={"operation": target})
            with database.autocommit() as connection:
                stored = update(interventions).where(interventions.c.id == number)
                connection.execute(stored.values(outcome=outcome[0]))

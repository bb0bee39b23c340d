"""Carries operations out: estimates gas, assigns the nonce, signs, stores, sends, confirms. Nothing else signs.

A transaction is stored before it is sent. Every retry sends the same bytes, and a transaction with raised fees has the
same nonce. An operation gets a new nonce only after its old one was used in a final block without any effect of the
operation. `finish` and `step` continue from the state in the database, whichever process reached it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from sqlalchemy.exc import InterfaceError, OperationalError
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound

from app.core.errors import ChainUnavailable, ContractRejected, Superseded, UnexpectedReceipt
from app.db.database import Database
from app.services import operations, projections, rpc
from app.services.codec import Call, event_stake_codec
from app.services.contract_watch import ContractWatch
from app.services.operation_types import (
    NOT_HELD,
    SENT_STATES,
    Attempt,
    Draft,
    Effect,
    HeldCause,
    NewRow,
    Operation,
)
from app.services.rpc_answers import Receipt, checksummed
from app.services.rpc_errors import (
    NODE_ERRORS,
    as_chain_unavailable,
    as_contract_rejected,
    classify,
    rejection_message,
)
from app.services.rpc_refusals import RefusalKind
from app.services.transactions import receipts, states
from app.services.transactions.fees import Fees, gas_limit, initial_fees, raised_fees
from app.services.transactions.head import Head
from app.services.transactions.mempool import Mempool
from app.services.transactions.nonces import NonceAllocator, find_foreign_transaction
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.signing import find_account, sign_attempt
from app.services.transactions.states import NO_BLOCK, log_fields

PAUSE_GROWTH = 1.2
"""Factor between two pauses of `finish`."""
ERROR_PAUSE_FACTORS = (5, 15)
"""After an error of the node the pause is longer, by a random factor between these."""

log = logging.getLogger(__name__)


class _Step(NamedTuple):
    """An operation after one step, and the final receipt if the step read it."""

    operation: Operation
    receipt: Receipt | None = None


class TransactionSender:
    """Signs and sends operations with the platform's key, or with the account that is passed to a method.

    Args:
        w3: Connection to the node.
        platform: The account that sends operations if no other signer is given.
        database: Where operations are stored.
        policy: Fees, confirmations and waiting times; the default policy if left out.
        clock: Returns seconds; never goes back.
        sleep: Waits for so many seconds.
        uniform: Returns a random number between its two arguments.
    """

    _sign_attempt = staticmethod(sign_attempt)  # an attribute, so that tests of the fault campaign can break it

    def __init__(
        self,
        w3: Web3,
        platform: LocalAccount,
        database: Database,
        policy: TransactionPolicy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._w3 = w3
        self._platform = platform
        self._database = database
        self.policy = policy or TransactionPolicy()
        self._clock, self._sleep, self._uniform = clock, sleep, uniform
        self._mempool = Mempool(w3, clock)
        self.head = Head(w3, clock)
        self._nonces = NonceAllocator(database)
        self.contract_watch: ContractWatch | None = None  # set where a reconciler looks at the contract
        self._in_progress: dict[str, threading.Event] = {}  # operations in `finish`, by key; set when it returns

    @property
    def address(self) -> ChecksumAddress:
        """Address of the platform's account."""
        return self._platform.address

    @cached_property
    def chain_id(self) -> int:
        """Id of the network (EIP-155), read once. Raises `ChainUnavailable`."""
        try:
            return rpc.chain_id(self._w3)
        except NODE_ERRORS as error:
            raise as_chain_unavailable("chain id", error) from error

    # ------------------------------------------------------------------------------------------------- public methods

    def draft(self, call: Call, signer: LocalAccount | None, subject: uuid.UUID | NewRow | None = None) -> Draft:
        """Returns a call as an operation to be stored.

        Args:
            call: The contract call.
            signer: The account that sends it; the platform if None.
            subject: The row that it is about, as `Draft.subject`.
        """
        return Draft(call, self.chain_id, signer.address if signer else self.address, subject)

    def send(self, call: Call, signer: LocalAccount | None = None) -> Receipt:
        """Stores a call as an operation that is about no row, and finishes it. Raises as `finish` does."""
        with self._database.autocommit() as connection:
            operation = operations.create(connection, str(uuid.uuid4()), "", self.draft(call, signer))
        return self.finish(operation, signer)

    def finish(self, operation: Operation, signer: LocalAccount | None = None) -> Receipt:
        """Carries an operation out from its present state, and waits until it is final.

        Returns:
            The receipt of the transaction that succeeded.

        Raises:
            ContractRejected: With outcome "rejected", the estimate failed: nothing was sent, and no nonce was taken.
                With outcome "reverted", the transaction was mined and failed, and the signer paid for its gas.
            Superseded: Another transaction used the nonce; the operation has no effect.
            UnexpectedReceipt: The transaction succeeded without the event that it must have.
            OutOfFunds: The signer cannot pay. The operation continues once the account is funded.
            ChainUnavailable: It is held, not final within `policy.give_up_after`, or the database is unavailable. The
                reconciler continues the operation.
        """
        finished = self._in_progress[operation.key] = threading.Event()
        try:
            return self._finish(operation, signer)
        finally:
            finished.set()
            self._in_progress.pop(operation.key, None)

    def step(self, operation: Operation) -> Operation:
        """Reads the chain once, and changes the operation accordingly. Signs with the platform's key only.

        Raises:
            ChainUnavailable: The node does not answer.
        """
        try:
            return self._step(operation, None).operation
        except NODE_ERRORS as error:
            raise as_chain_unavailable(operation.kind, error, operation.key) from error

    def advance(self, operation: Operation) -> Operation:
        """Steps the operation as long as its state changes, and returns it as far as it got.

        Where a block can't be final at once, that ends with the step after which a block is awaited. The node's trouble
        is logged. Signs with the platform's key only.
        """
        while not operation.closed:
            try:
                stepped = self.step(operation)
            except ChainUnavailable as error:
                log.warning("%s", error, extra=log_fields(operation))
                return operation
            if stepped.state == operation.state:
                return stepped
            operation = stepped
            if operation.state in ("submitted", "mined") and self.policy.confirmations > 1:
                return operation
        return operation

    def check_success(self, operation: Operation) -> None:
        """Raises the stored error of a closed operation that did not succeed, without its receipt."""
        if operation.error is not None:
            raise states.error_from_json(operation.error)

    def receipt(self, operation: Operation) -> Receipt:
        """Returns the receipt of a closed operation that succeeded. Raises `ChainUnavailable`."""
        return receipts.receipt_or_error(self._w3, operation, None)

    # ------------------------------------------------------------------------------------------------- waiting

    def _finish(self, operation: Operation, signer: LocalAccount | None) -> Receipt:
        deadline, pause = self._clock() + self.policy.give_up_after, self.policy.min_pause
        while True:
            state_before, receipt, node_error = operation.state, None, None
            try:
                operation, receipt = self._step(operation, signer)
            except ChainUnavailable as error:
                node_error = error
            except NODE_ERRORS as error:
                node_error = as_chain_unavailable(operation.kind, error)
            except (OperationalError, InterfaceError) as error:
                message = f"{operation.kind}: the database is unavailable; the operation continues once it is back."
                raise ChainUnavailable(message, operation.key) from error
            if operation.closed:
                return receipts.receipt_or_error(self._w3, operation, receipt)
            if operation.held and operation.state == "prepared" and node_error is None:
                raise states.error_of_held(operation)
            if self._clock() > deadline:
                last_error = node_error or as_chain_unavailable(operation.kind, TransactionNotFound(""))
                last_error.operation = operation.key
                raise last_error
            if node_error is None and operation.state != state_before:
                continue
            self._sleep(pause * (self._uniform(*ERROR_PAUSE_FACTORS) if node_error else 1))
            pause = min(pause * PAUSE_GROWTH, self.policy.max_pause)

    # ------------------------------------------------------------------------------------------------- steps by state

    def _step(self, operation: Operation, signer: LocalAccount | None) -> _Step:
        if operation.closed:
            return _Step(operation)
        if operation.state == "prepared":
            step = _Step(self._sign(operation, signer))
        else:
            step = self._follow(operation, signer)
        if step.operation.closed:
            self._mempool.forget(operation)
        return step

    def _sign(self, operation: Operation, signer: LocalAccount | None) -> Operation:
        """Signs the operation (prepared -> signed), so that it may be sent, or rejects or holds it."""
        account = find_account(operation, signer, self._platform)
        if account is None:
            message = f"{operation.kind} was never sent, and the key of {operation.sender} is not here."
            return states.reject(self._database, operation, Superseded(message))
        if self.contract_watch and (reason := self.contract_watch.reason_to_hold(operation)):
            return states.hold(self._database, operation, HeldCause.CONTRACT, reason)
        to, data, value = operation.to_address, operation.data, operation.value_wei
        try:
            estimate = rpc.estimate_gas(self._w3, to, data, "pending", sender=account.address, value=value)
        except ContractLogicError as error:
            rejection = as_contract_rejected(operation.kind, error, event_stake_codec())
            if rejection is None:
                raise
            if self.contract_watch and (reason := self.contract_watch.reason_after_revert(operation, rejection.name)):
                return states.hold(self._database, operation, HeldCause.CONTRACT, reason)
            return states.reject(self._database, operation, rejection)
        except NODE_ERRORS as error:
            if classify(error) is not RefusalKind.NO_FUNDS:
                raise
            return states.hold_without_funds(self._database, operation)
        header = self.head.latest(self.policy.head_max_age)
        fees = initial_fees(header.base_fee, self.policy)
        if fees is None:
            cap = self.policy.max_fee_per_gas
            reason = f"the base fee of {header.base_fee} wei per gas is above the cap of {cap}"
            return states.hold(self._database, operation, HeldCause.BASE_FEE, reason)
        # Nonces are counted in a final block: counting those of a block that a reorg drops would leave a gap
        final_block = max(self.policy.final_block(header.number), 0)
        count = rpc.transaction_count(self._w3, account.address, final_block)
        gas = gas_limit(estimate, retried=operation.requeued > 0)

        def sign(nonce: int) -> Attempt:
            return self._sign_attempt(operation, account, nonce, gas, fees, header.number)

        return self._nonces.sign(operation, count, sign)

    def _follow(self, operation: Operation, signer: LocalAccount | None) -> _Step:
        """Updates an operation with a nonce (signed, submitted, mined) to the state that the chain shows."""
        refusal: RefusalKind | None = None
        if operation.state == "signed" and self._mempool.due(operation, self.policy).resend:
            refusal = self._mempool.send(operation)
        is_new_to_node = operation.state == "signed" and refusal is None and self._mempool.has_sent(operation)
        if is_new_to_node and self.policy.confirmations > 1:  # it can't be in a final block yet
            return _Step(self._follow_unmined(operation, refusal, signer))
        receipt = self._mempool.receipt(operation)
        if receipt is not None:
            return self._handle_receipt(operation, receipt)
        if operation.state == "mined":
            operation = self._handle_reorg(operation)
        if operation.state not in ("signed", "submitted"):
            return _Step(operation)
        return _Step(self._follow_unmined(operation, refusal, signer))

    def _follow_unmined(
        self, operation: Operation, refusal: RefusalKind | None, signer: LocalAccount | None
    ) -> Operation:
        """Sends an operation again that is in no block, raises its fees, or removes what keeps it from being mined."""
        due = self._mempool.due(operation, self.policy)
        resent = operation.state == "submitted" and due.resend
        if resent:
            refusal, is_in_mempool = self._mempool.resend(operation)
            if operation.held and is_in_mempool:
                operation = states.change(self._database, operation, ("submitted",), **NOT_HELD)
        if refusal is RefusalKind.NONCE_TOO_HIGH:
            self._fill_nonce_gap(operation)
        elif refusal is RefusalKind.NO_FUNDS:
            return states.hold_without_funds(self._database, operation)
        elif due.bump or refusal in (RefusalKind.UNDERPRICED, RefusalKind.FEE_TOO_LOW):
            return self._bump_fees(operation, signer)
        elif refusal is RefusalKind.NONCE_TOO_LOW or (resent and refusal is RefusalKind.KNOWN):
            # KNOWN: the node still has the attempt, but no receipt. Another transaction may have used the nonce
            return self._handle_foreign_nonce(operation)
        # Not if the answer was lost: the node may not have the transaction, so it stays signed and is sent again
        if operation.state == "signed" and self._mempool.has_sent(operation):
            operation = states.change(self._database, operation, ("signed",), state="submitted", **NOT_HELD)
        return operation

    # ------------------------------------------------------------------------------------------------- mined

    def _handle_receipt(self, operation: Operation, receipt: Receipt) -> _Step:
        """Sets the operation to mined, or closes it if its block is final."""
        if receipts.is_final(self._w3, receipt, self.policy, self.head):
            return _Step(self._close(operation, receipt), receipt)
        block = receipts.block_columns(receipt)
        if operation.state != "mined" or operation.block_hash != block["block_hash"]:
            operation = states.change(self._database, operation, SENT_STATES, state="mined", **NOT_HELD, **block)
        return _Step(operation)

    def _handle_reorg(self, operation: Operation) -> Operation:
        """Sets the operation back from mined to submitted, as its block was dropped from the chain."""
        tx_hash, block_number = operation.tx_hash, operation.block_number
        log.warning("%s is not in block %s any more", tx_hash, block_number, extra=log_fields(operation))
        operation = states.change(self._database, operation, ("mined",), state="submitted", reorged=True, **NO_BLOCK)
        self._mempool.forget(operation)
        return operation

    def _close(self, operation: Operation, receipt: Receipt) -> Operation:
        """Closes the operation (-> confirmed or failed) and updates rows, after all operations with lower nonces."""
        gas_columns = {"gas_used": receipt.gas_used, "gas_price_wei": receipt.gas_price}
        columns = receipts.block_columns(receipt) | gas_columns | NOT_HELD
        tx_hash: str = columns["tx_hash"]
        if not receipt.succeeded:
            return self._close_reverted(operation, receipt, columns)
        events = event_stake_codec().events(receipt.logs, checksummed(operation.to_address))
        effects: Sequence[Effect] = ()
        columns["error"] = None
        try:
            effects = projections.effects_of_success(operation, events, tx_hash, receipt.block_number)
        except UnexpectedReceipt as error:
            log.error("%s", error, extra=log_fields(operation))
            columns["error"] = states.error_to_json(error)
        with self._database.autocommit() as connection:
            closed = operations.close(
                connection, operation, SENT_STATES, effects, in_order=True, state="confirmed", **columns
            )
            earlier = [] if closed else operations.open_with_lower_nonce(connection, operation)
        if earlier:
            return self._close(operation, receipt) if self._close_all(earlier) else operation
        if closed is None:
            return states.reload(self._database, operation)
        log.info("%s: %s in block %s", operation.kind, tx_hash, receipt.block_number, extra=log_fields(operation))
        return closed

    def _close_reverted(self, operation: Operation, receipt: Receipt, columns: dict[str, object]) -> Operation:
        """Fails the operation, or starts it over if it ran out of gas for the first time."""
        revert = receipts.revert_reason(self._w3, operation, receipt)
        if revert.name == "OutOfGas" and operation.requeued == 0:
            return self._requeue(operation, f"{columns['tx_hash']} ran out of gas")
        message = rejection_message(operation.kind, revert)
        error = ContractRejected(revert.name, revert.args, message, "reverted")
        return states.fail(self._database, operation, error, **columns)

    def _close_all(self, earlier: Sequence[Operation]) -> bool:
        """Returns whether all are closed. Waits up to `policy.max_pause` for each that another thread finishes."""
        for operation in earlier:
            finished = self._in_progress.get(operation.key)
            if finished is None:
                if not self.step(operation).closed:
                    return False
            elif not finished.wait(self.policy.max_pause):
                return False
        return True

    # ------------------------------------------------------------------------------------------------- not mined

    def _bump_fees(self, operation: Operation, signer: LocalAccount | None) -> Operation:
        """Stores and sends one more attempt with the same nonce and both fees raised, up to the cap."""
        account = find_account(operation, signer, self._platform)
        if account is None or (self.contract_watch and self.contract_watch.code_changed):
            return operation
        base_fee = rpc.latest_header(self._w3).base_fee
        with self._database.transaction() as connection:
            current = operations.lock(connection, operation.key)
            if current.state not in ("signed", "submitted") or len(current.attempts) != len(operation.attempts):
                return current
            last = current.attempts[-1]
            fees = raised_fees(Fees(last.max_fee_per_gas, last.priority_fee_per_gas), base_fee, self.policy)
            if fees is None:
                reason = f"fees can't be raised above the cap of {self.policy.max_fee_per_gas} wei per gas"
                held = states.held_columns(HeldCause.FEES_AT_CAP, reason)
                return operations.change(connection, current, (current.state,), **held) or current
            attempt = self._sign_attempt(current, account, last.nonce, last.gas_limit, fees, last.latest_block)
            attempts = [*current.attempts, attempt]
            bumped = operations.change(connection, current, (current.state,), attempts=attempts)
        assert bumped is not None
        log.warning("%s: fees raised to %s and %s wei per gas", bumped.kind, *fees, extra=log_fields(bumped))
        self._mempool.send(bumped)
        return bumped

    def _fill_nonce_gap(self, operation: Operation) -> None:
        """Sends the operations with lower nonces again: the node mines them first."""
        with self._database.transaction() as connection:
            earlier_operations = operations.open_with_lower_nonce(connection, operation)
        for earlier in earlier_operations:
            self._mempool.send(earlier)

    def _handle_foreign_nonce(self, operation: Operation) -> Operation:
        """Starts the operation over or fails it, if another transaction used its nonce in a final block.

        The operation starts over with a new nonce, once. It fails the second time, and also if it was mined before in a
        block that was dropped. A transaction that was mined before the operation was signed does not count.
        """
        final_block = self.policy.final_block(rpc.block_number(self._w3))
        foreign = find_foreign_transaction(self._w3, operation, final_block)
        if foreign is None:
            return operation
        current = states.reload(self._database, operation)
        if len(current.attempts) != len(operation.attempts):  # it may be one of the attempts that this copy lacks
            return current
        nonce, was_mined_before = operation.nonce, foreign.block_number <= operation.attempts[-1].latest_block
        if not operation.reorged and (was_mined_before or operation.requeued == 0):
            reason = f"its nonce {nonce} went to {foreign.tx_hash}"
            return self._requeue(operation, reason, counts_as_retry=not was_mined_before)
        message = f"{operation.kind} had no effect: its nonce {nonce} went to {foreign.tx_hash}, which is not ours."
        return states.fail(self._database, operation, Superseded(message))

    def _requeue(self, operation: Operation, reason: str, *, counts_as_retry: bool = True) -> Operation:
        self._mempool.forget(operation)
        return states.requeue(self._database, operation, reason, counts_as_retry=counts_as_retry)

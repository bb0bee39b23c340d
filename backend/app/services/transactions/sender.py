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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple

from eth_typing import ChecksumAddress
from psycopg.errors import UniqueViolation
from web3 import Web3
from web3.exceptions import TransactionNotFound

from app.core.errors import ChainUnavailable, DatabaseUnavailable, Superseded, UnexpectedReceipt
from app.db.database import Database
from app.services import operations, projections, rpc
from app.services.codec import Call, event_stake_codec
from app.services.contract_watch import ContractWatch
from app.services.operation_types import NOT_HELD, SENT_STATES, Draft, Effect, HeldCause, NewRow, Operation
from app.services.rpc_answers import checksummed
from app.services.rpc_errors import NODE_ERRORS, as_chain_unavailable
from app.services.rpc_types import Receipt
from app.services.transactions import receipts, states
from app.services.transactions.accounts import SigningAccount, derived_sealer
from app.services.transactions.conclusions import Mined, of_receipt
from app.services.transactions.head import Head
from app.services.transactions.lanes import Lanes
from app.services.transactions.limits import Limits, Sealer
from app.services.transactions.mempool import Mempool, SendRefusal
from app.services.transactions.nonces import NonceAllocator
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.receipts import find_attempt
from app.services.transactions.signer import Signer
from app.services.transactions.signing import find_account, sign_attempt
from app.services.transactions.states import log_fields
from app.services.transactions.unmined import Unmined

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
    """Signs and sends operations with the platform's keys, or with the account that is passed to a method.

    Args:
        w3: Connection to the node.
        platform: The account that sends operations if no other signer is given.
        database: Where operations are stored.
        policy: Fees, confirmations and waiting times; the default policy if left out.
        clock: Returns seconds; never goes back.
        sleep: Waits for so many seconds.
        uniform: Returns a random number between its two arguments.
        operators: Further accounts that send operations, each a lane of its own; the contract's operators.
        previous: Accounts before a rotation of keys, which sign what is left of their operations.
        sealer: Seals operations; with the key that is derived from the platform's if None.

    Attributes:
        unmined: Brings operations into a block, or cancels them, that are in none.
        lanes: Chooses the account that sends a new operation.
        operators, previous: As the arguments.
    """

    _sign_attempt = staticmethod(sign_attempt)  # an attribute, so that tests of the fault campaign can break it

    def __init__(
        self,
        w3: Web3,
        platform: SigningAccount,
        database: Database,
        policy: TransactionPolicy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
        operators: Sequence[SigningAccount] = (),
        previous: Sequence[SigningAccount] = (),
        sealer: Sealer | None = None,
    ) -> None:
        self._w3, self._database = w3, database
        self.policy, self._contracts = policy or TransactionPolicy(), frozenset[str]()
        self._clock, self._sleep, self._uniform = clock, sleep, uniform
        self._mempool, self.head = Mempool(w3, clock), Head(w3, clock)
        self.operators, self.previous = tuple(operators), tuple(previous)
        self.accounts, self.sealer = (platform, *operators, *previous), sealer or derived_sealer(platform)
        self.lanes = Lanes(database, [account.address for account in (platform, *operators)], clock)
        parts = (w3, database, self.sealer, lambda *fields: self._sign_attempt(*fields), self.head, clock)
        self._signer = Signer(*parts, self.lanes.addresses, previous)
        self.unmined = Unmined(w3, database, self._mempool, self._signer, self.accounts)
        self._in_progress: dict[str, threading.Event] = {}  # operations that a thread carries out, by key

    @property
    def nonces(self) -> NonceAllocator:
        """Assigns nonces, and finds transactions of the platform that are in no row."""
        return self._signer.nonces

    @property
    def address(self) -> ChecksumAddress:
        """Address of the platform's account."""
        return self.accounts[0].address

    @cached_property
    def chain_id(self) -> int:
        """Id of the network (EIP-155), read once. Raises `ChainUnavailable`."""
        try:
            return rpc.chain_id(self._w3)
        except NODE_ERRORS as error:
            raise as_chain_unavailable("chain id", error) from error

    @property
    def contract_watch(self) -> ContractWatch | None:
        """Says which operations are held because of the contract; set where a reconciler looks at the contract."""
        return self._signer.unsigned.contract_watch

    @contract_watch.setter
    def contract_watch(self, watch: ContractWatch) -> None:
        self._signer.unsigned.contract_watch = watch
        self.lanes.may_act = watch.may_act

    @property
    def limits(self) -> Limits:
        """What this process signs."""
        return Limits(self.chain_id, self._contracts, self.policy.functions, self.policy.amounts)

    # ------------------------------------------------------------------------------------------------- public methods

    def allow(self, contract: str) -> None:
        """Lets the sender sign calls of this contract; it signs none of others."""
        self._contracts |= {contract}

    def draft(
        self,
        call: Call,
        signer: SigningAccount | None,
        subject: uuid.UUID | NewRow | None = None,
        *,
        person: uuid.UUID | None = None,
    ) -> Draft:
        """Returns a call as an operation to be stored.

        Args:
            call: The contract call.
            signer: The account that sends it; one of the platform's, as `lanes` chooses, if None.
            subject: The row that it is about, as `Draft.subject`.
            person: Id of the user for whom it sends wei; None if it is about nobody.
        """
        sender = signer.address if signer else self.lanes.choose(self.chain_id, call.name)
        return Draft(call, self.chain_id, sender, subject, self.sealer.seal, str(person) if person else None)

    def send(self, call: Call, signer: SigningAccount | None = None) -> Receipt:
        """Stores a call as an operation that is about no row, and finishes it. Raises as `finish` does."""
        with self._database.autocommit() as connection:
            operation = operations.create(connection, str(uuid.uuid4()), "", self.draft(call, signer))
        return self.finish(operation, signer)

    def finish(self, operation: Operation, signer: SigningAccount | None = None) -> Receipt:
        """Carries an operation out from its present state, and waits until it is final.

        Returns:
            The receipt of the transaction that succeeded.

        Raises:
            ContractRejected: With outcome "rejected", the estimate failed: nothing was sent, and no nonce was taken.
                With outcome "reverted", the transaction was mined and failed, and the signer paid for its gas.
            Superseded: Another transaction used the nonce, or a reorganisation took what the call names.
            UnexpectedReceipt: The transaction succeeded without the event that it must have.
            OutOfFunds: The signer cannot pay. The operation continues once the account is funded.
            ChainUnavailable: It is held, not final within `policy.give_up_after`, or the database is unavailable. The
                reconciler continues the operation.
        """
        with self._marked_in_progress(operation):
            return self._finish(operation, signer)

    def step(self, operation: Operation) -> Operation:
        """Reads the chain once, and changes the operation accordingly. Signs with the platform's keys only.

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
        is logged. Signs with the platform's keys only.
        """
        with self._marked_in_progress(operation):
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

    @contextmanager
    def _marked_in_progress(self, operation: Operation) -> Iterator[None]:
        """Lets other threads wait for this one, instead of stepping the same operation."""
        finished = self._in_progress[operation.key] = threading.Event()
        try:
            yield
        finally:
            finished.set()
            self._in_progress.pop(operation.key, None)

    def _finish(self, operation: Operation, signer: SigningAccount | None) -> Receipt:
        deadline, pause = self._clock() + self.policy.give_up_after, self.policy.min_pause
        while True:
            state_before, receipt, node_error = operation.state, None, None
            try:
                operation, receipt = self._step(operation, signer)
            except ChainUnavailable as error:
                node_error = error
            except NODE_ERRORS as error:
                node_error = as_chain_unavailable(operation.kind, error)
            except DatabaseUnavailable as error:
                message = f"{operation.kind}: the database is unavailable; the operation continues once it is back."
                raise ChainUnavailable(message, operation.key) from error
            if operation.closed:
                return receipts.receipt_or_error(self._w3, operation, receipt)
            is_late = self._clock() > deadline
            if operation.held and node_error is None and (operation.state == "prepared" or is_late):
                raise states.error_of_held(operation)
            if is_late:
                last_error = node_error or as_chain_unavailable(operation.kind, TransactionNotFound(""))
                last_error.operation = operation.key
                raise last_error
            if node_error is None and operation.state != state_before:
                continue
            self._sleep(pause * (self._uniform(*ERROR_PAUSE_FACTORS) if node_error else 1))
            pause = min(pause * PAUSE_GROWTH, self.policy.max_pause)

    # ------------------------------------------------------------------------------------------------- steps by state

    def _step(self, operation: Operation, signer: SigningAccount | None) -> _Step:
        if operation.closed:
            return _Step(operation)
        if operation.state == "prepared":
            step = _Step(self._sign(operation, signer))
        else:
            step = self._follow(operation, signer)
        if step.operation.closed:
            self._mempool.forget(operation)
        if step.operation.held_cause != operation.held_cause:
            self.lanes.forget()
        return step

    def _sign(self, operation: Operation, signer: SigningAccount | None) -> Operation:
        """Signs the operation (prepared -> signed), so that it may be sent, or rejects or holds it."""
        account = find_account(operation, signer, *self.accounts)
        if account is None:
            message = f"{operation.kind} was never sent, and the key of {operation.sender} is not here."
            return states.reject(self._database, operation, Superseded(message))
        signed = self._signer.sign_first(operation, account, self.policy, self.limits)
        if signed.state == "signed" and len(signed.attempts) > len(operation.attempts):
            self._mempool.trust(signed)
        return signed

    def _follow(self, operation: Operation, signer: SigningAccount | None) -> _Step:
        """Updates an operation with a nonce (signed, submitted, mined) to the state that the chain shows."""
        refusal: SendRefusal | None = None
        if operation.state == "signed" and self._mempool.due(operation, self.policy).resend:
            if not self._mempool.is_new(operation):
                account = find_account(operation, signer, *self.accounts)
                if changed := self.unmined.check_before_resend(operation, account, self.policy):
                    return _Step(changed)
            refusal = self._mempool.send(operation)
        is_new_to_node = operation.state == "signed" and refusal is None and self._mempool.has_sent(operation)
        if is_new_to_node and self.policy.confirmations > 1:  # it can't be in a final block yet
            return self._follow_unmined(operation, refusal, signer, None)
        latest_block = self.head.number(self.policy.head_max_age) if self.policy.confirmations > 1 else None
        receipt = self._mempool.receipt(operation)
        if receipt is not None:
            return self._handle_receipt(operation, receipt, latest_block)
        if operation.state == "mined":
            operation = self.unmined.return_to_mempool(operation)
        if operation.state not in ("signed", "submitted"):
            return _Step(operation)
        return self._follow_unmined(operation, refusal, signer, latest_block)

    def _follow_unmined(
        self, operation: Operation, refusal: SendRefusal | None, signer: SigningAccount | None, latest_block: int | None
    ) -> _Step:
        account = find_account(operation, signer, *self.accounts)
        outcome = self.unmined.follow(operation, refusal, account, self.policy, self.limits)
        if isinstance(outcome, Mined):
            return self._handle_receipt(outcome.operation, outcome.receipt, latest_block)
        return _Step(outcome)

    # ------------------------------------------------------------------------------------------------- mined

    def _handle_receipt(self, operation: Operation, receipt: Receipt, latest_block: int | None) -> _Step:
        """Sets the operation to mined, or closes it if its block is final. For `latest_block` see `is_final`."""
        if find_attempt(operation, receipt).nonce != operation.nonce:
            return _Step(self._handle_earlier_effect(operation, receipt, latest_block))
        if receipts.is_final(self._w3, receipt, self.policy, latest_block):
            return _Step(self._close(operation, receipt), receipt)
        block = receipts.block_columns(receipt)
        if operation.state != "mined" or operation.block_hash != block["block_hash"]:
            operation = states.change(self._database, operation, SENT_STATES, state="mined", **NOT_HELD, **block)
        return _Step(operation)

    def _handle_earlier_effect(self, operation: Operation, receipt: Receipt, latest_block: int | None) -> Operation:
        """Prevents a second effect: a transaction without effect uses the nonce that the operation has by now."""
        tx_hash, last = receipt.tx_hash, operation.attempts[-1]
        reason = (
            f"{tx_hash} is mined with a nonce that it had given up, and nonce {operation.nonce} must have no effect"
        )
        operation = states.hold(self._database, operation, HeldCause.REORG, reason)
        if not last.no_effect:
            account = find_account(operation, *self.accounts)
            if account is None or operation.state not in ("signed", "submitted"):
                return operation
            return self.unmined.give_up_nonce(operation, account, self.policy)
        used = receipts.read_receipt(self._w3, operation, last)
        if used is None:
            self._mempool.send(operation)
        elif all(receipts.is_final(self._w3, each, self.policy, latest_block) for each in (receipt, used)):
            return self._close(operation, receipt)
        return operation

    def _close(self, operation: Operation, receipt: Receipt) -> Operation:
        """Closes the operation (-> confirmed or failed) and updates rows, after all operations with lower nonces."""
        gas_columns = {"gas_used": receipt.gas_used, "gas_price_wei": receipt.gas_price}
        columns = receipts.block_columns(receipt) | gas_columns | NOT_HELD
        tx_hash: str = columns["tx_hash"]
        if not receipt.succeeded:
            return self.unmined.close_reverted(operation, receipt, columns)
        if find_attempt(operation, receipt).no_effect:
            error = states.error_of_given_up(operation)
            return states.fail(self._database, of_receipt(operation, receipt), error, **columns)
        events = event_stake_codec().events(receipt.logs, checksummed(operation.to_address))
        effects: Sequence[Effect] = ()
        columns |= {"state": "confirmed", "error": None}
        try:
            effects = projections.effects_of_success(operation, events, tx_hash, receipt.block_number)
        except UnexpectedReceipt as error:
            log.error("%s", error, extra=log_fields(operation))
            columns["error"] = states.error_to_json(error)
        try:
            with self._database.autocommit() as connection:
                closed = operations.close(connection, operation, SENT_STATES, effects, in_order=True, **columns)
                earlier = [] if closed else operations.open_with_lower_nonce(connection, operation)
        except UniqueViolation:  # that row's own operation is reopened by the next round of a reconciler
            message = f"{operation.kind}: its id on chain is another row's, as a reorganisation is not followed yet."
            raise ChainUnavailable(message, operation.key) from None
        if earlier:
            return self._close(operation, receipt) if self._close_all(earlier) else operation
        if closed is None:
            return states.reload(self._database, operation)
        log.info("%s: %s in block %s", operation.kind, tx_hash, receipt.block_number, extra=log_fields(operation))
        return closed

    def _close_all(self, earlier: Sequence[Operation]) -> bool:
        """Returns whether all are closed. Waits up to `policy.max_pause` for each that another thread finishes."""
        for operation in earlier:
            finished = self._in_progress.get(operation.key)
            if finished is None:
                current = states.reload(self._database, operation)  # another thread may have closed it just now
                if not current.closed and not self.step(current).closed:
                    return False
            elif not finished.wait(self.policy.max_pause):
                return False
        return True

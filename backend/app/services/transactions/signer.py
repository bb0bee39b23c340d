"""Signs operations: the first attempt, and further ones with the same nonce. Nothing else signs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from web3 import Web3

from app.core.errors import AppError, TransactionRefused
from app.db.database import Database
from app.services import operations, rpc
from app.services.codec import Call
from app.services.operation_types import FILL_NONCE_GAP, Attempt, Draft, HeldCause, Operation
from app.services.orphans import HeldForOrphan
from app.services.pause import current_pause, lock_against_pause
from app.services.payments.seals import reason_unpaid
from app.services.rpc_answers import checksummed
from app.services.rpc_refusals import RefusalKind
from app.services.transactions import limits, states
from app.services.transactions.accounts import SignerError, SigningAccount
from app.services.transactions.approvals import find_approval
from app.services.transactions.fees import Fees, gas_limit, initial_fees, raised_fees
from app.services.transactions.funds import Funds
from app.services.transactions.head import Head
from app.services.transactions.limits import ORDERS, STOPPED_BY_PAUSE
from app.services.transactions.nonces import NonceAllocator
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.seats import reason_against_seats
from app.services.transactions.signing import Content, find_mismatch
from app.services.transactions.spending import AboveLimit, Charge, Spending
from app.services.transactions.states import log_fields
from app.services.transactions.unknown import UnknownTransactions
from app.services.transactions.unsigned import Unsigned

TRANSFER_GAS = 21_000
"""Gas of a transaction that sends no data to an account without code."""

_Made = Attempt | tuple[HeldCause, str] | None
"""An attempt; or why the operation is held; or None if there is nothing to do."""

log = logging.getLogger(__name__)


class Signer:
    """Signs attempts and stores them, before anybody may send them.

    Args:
        w3: Connection to the node.
        database: Where operations are stored.
        sealer: Tells the services' operations from others.
        sign: Signs an attempt, as `signing.sign_attempt` does.
        head: The latest block.
        clock: Returns seconds; never goes back.
        lanes: Addresses of the accounts that send new operations, the platform's first.
        previous: The platform's accounts before a rotation of keys.

    Attributes:
        nonces: Assigns the nonces.
        unsigned: Decides about operations before they are signed.
    """

    def __init__(
        self,
        w3: Web3,
        database: Database,
        sealer: limits.Sealer,
        sign: Callable[..., Attempt],
        head: Head,
        clock: Callable[[], float],
        lanes: Sequence[str],
        previous: Sequence[SigningAccount] = (),
    ) -> None:
        self._w3 = w3
        self._database = database
        self._sealer = sealer
        self._sign = sign
        self._head = head
        self._lanes = lanes
        self._accounts = (*lanes, *(account.address for account in previous))
        self._spending = Spending(w3, sealer, self._accounts)
        unknown = UnknownTransactions(w3, database, lanes, sealer)
        self.nonces = NonceAllocator(w3, database, lanes, self._spending, unknown)
        self._funds = Funds(w3, database, clock)
        self.unsigned = Unsigned(w3, database, head, self.nonces, clock)

    def sign_first(
        self, operation: Operation, account: SigningAccount, policy: TransactionPolicy, allowed: limits.Limits
    ) -> Operation:
        """Signs a prepared operation (-> signed), so that it may be sent; or rejects or holds it.

        All that can be known is looked at before it takes a nonce: limits, what it names, estimate, fees, funds.
        """
        if reason := self._find_fault(operation, allowed):
            return self.unsigned.hold(operation, HeldCause.LIMIT, reason, policy)
        if self.unsigned.contract_watch and (reason := self.unsigned.contract_watch.reason_to_hold(operation)):
            return self.unsigned.hold(operation, HeldCause.CONTRACT, reason, policy)
        if reason := self._find_unpaid(operation, policy):
            return self.unsigned.hold(operation, HeldCause.UNPAID, reason, policy)
        if changed := self.unsigned.check_named_ids(operation, policy):
            return changed
        try:
            signed = self._sign_within_limits(operation, account, policy, allowed.amounts)
        except AboveLimit as above:
            return self.unsigned.hold(operation, HeldCause.ABOVE_LIMIT, above.reason, policy)
        if signed.state == "prepared" and signed.kind in STOPPED_BY_PAUSE:
            with self._database.autocommit() as connection:
                pause = current_pause(connection)
            return self.unsigned.hold(signed, HeldCause.PAUSED, str(pause), policy) if pause else signed
        return signed

    def _find_unpaid(self, operation: Operation, policy: TransactionPolicy) -> str | None:
        """Returns why an order of the platform is not paid for; None if it is, or need not be."""
        if not policy.needs_payments or operation.kind not in ORDERS or operation.sender not in self._accounts:
            return None
        if operation.value_wei == 0:
            return None
        with self._database.autocommit() as connection:
            return reason_unpaid(connection, operation, self._sealer)

    def _sign_within_limits(
        self, operation: Operation, account: SigningAccount, policy: TransactionPolicy, amounts: limits.Amounts | None
    ) -> Operation:
        """Signs an operation that is within the limits, or that a person approved; or rejects or holds it.

        Raises:
            AboveLimit: It is an order above a limit of amounts, and not approved.
        """
        if amounts is None:
            return self._sign_charged(operation, account, policy, None)
        try:
            self._require_within(operation, amounts)
            return self._sign_charged(operation, account, policy, Charge(amounts))
        except AboveLimit:
            with self._database.autocommit() as connection:
                approval = find_approval(connection, operation, self._sealer)
            if approval is None:
                raise
        return self._sign_charged(operation, account, policy, Charge(amounts, approved_at=approval.microseconds))

    def _sign_charged(
        self, operation: Operation, account: SigningAccount, policy: TransactionPolicy, charge: Charge | None
    ) -> Operation:
        """Signs an operation once it is known what it costs; or rejects or holds it. Raises `AboveLimit`."""
        estimate = self.unsigned.estimate(operation, policy)
        if isinstance(estimate, Operation):
            return estimate
        header = self._head.latest(policy.head_max_age)
        fees = initial_fees(header.base_fee, policy)
        if fees is None:
            cap = policy.max_fee_per_gas
            reason = f"the base fee of {header.base_fee} wei per gas is above the cap of {cap}"
            return self.unsigned.hold(operation, HeldCause.BASE_FEE, reason, policy)
        gas = gas_limit(estimate, retried=operation.requeued > 0)
        cost_wei = operation.value_wei + gas * fees.max_fee_per_gas
        if not self._funds.reserve(operation.chain_id, account.address, cost_wei):
            return self.unsigned.hold(operation, HeldCause.NO_FUNDS, states.no_funds(operation), policy)

        def sign(nonce: int) -> Attempt:
            return self._sign(operation, account, nonce, gas, fees, header.number)

        if charge and charge.approved_at is None and operation.kind in ORDERS:  # fees may be raised so far
            charge = charge._replace(wei=operation.value_wei + gas * policy.max_fee_per_gas)
        final_block = max(policy.final_block(header.number), 0)
        try:
            return self.nonces.sign(operation, final_block, sign, charge)
        except HeldForOrphan as held:
            return self.unsigned.hold(operation, HeldCause.ORPHAN, held.reason, policy)
        except SignerError as error:
            return self.unsigned.hold(operation, HeldCause.SIGNER, error.words, policy)

    def _require_within(self, operation: Operation, amounts: limits.Amounts) -> None:
        """Raises `AboveLimit` if an order can't be within the limits, before anything is asked about it."""
        if operation.kind not in ORDERS or operation.sender not in self._accounts:
            return
        if operation.sender not in self._lanes:
            raise AboveLimit(f"{operation.sender} was the platform's account before, and signs only what is approved")
        most = min(amounts.operation_wei, amounts.person_day_wei, amounts.day_wei)
        if operation.value_wei > most:
            raise AboveLimit(f"it sends {operation.value_wei} wei, and the lowest limit is {most} wei")
        if amounts.person_run_seats is None:
            return
        with self._database.autocommit() as connection:
            reason = reason_against_seats(connection, operation, amounts)
        if reason is not None:
            raise AboveLimit(reason)

    def raise_fees(
        self,
        operation: Operation,
        account: SigningAccount,
        policy: TransactionPolicy,
        allowed: limits.Limits,
        *,
        at_once: bool,
    ) -> Operation:
        """Stores one more attempt with the same nonce and both fees raised, up to the cap.

        Args:
            operation: An operation in no block.
            account: The account of its sender.
            policy: The fees.
            allowed: What may be signed.
            at_once: Whether fees are raised though no blocks were mined, as the node asks for it.
        """
        header = rpc.latest_header(self._w3)

        def make(last: Attempt) -> Attempt | tuple[HeldCause, str] | None:
            signed_block = last.latest_block if last.signed_block is None else last.signed_block
            blocks = header.number - signed_block
            if not at_once and blocks < policy.bump_blocks:
                if blocks > 0:
                    return None
                return (
                    HeldCause.NO_BLOCKS,
                    f"no block has been mined since block {signed_block}, in which it was signed",
                )
            fees = raised_fees(Fees(last.max_fee_per_gas, last.priority_fee_per_gas), header.base_fee, policy)
            if fees is None:
                reason = f"fees can't be raised above the cap of {policy.max_fee_per_gas} wei per gas"
                return HeldCause.FEES_AT_CAP, reason
            more = (last.nonce, last.gas_limit, fees, last.latest_block, header.number, last.no_effect)
            return self._sign(operation, account, *more)

        bumped = self._add_attempt(operation, make, allowed)
        if len(bumped.attempts) == len(operation.attempts) + 1:
            last = bumped.attempts[-1]
            message = "%s: fees raised to %s and %s wei per gas"
            log.warning(message, bumped.kind, last.max_fee_per_gas, last.priority_fee_per_gas, extra=log_fields(bumped))
        return bumped

    def mend(
        self,
        operation: Operation,
        account: SigningAccount,
        policy: TransactionPolicy,
        allowed: limits.Limits,
        kind: RefusalKind | None,
    ) -> Operation:
        """Stores one more attempt with the same nonce, if other fees or another gas limit mend what a node refuses."""
        if (
            kind is None
            or kind.name not in ("FEE_CAP", "INTRINSIC_GAS", "GAS_LIMIT")
            or operation.attempts[-1].no_effect
        ):
            return operation
        header = rpc.latest_header(self._w3)
        estimate = self.unsigned.estimate(operation, policy) if kind.name != "FEE_CAP" else 0
        if isinstance(estimate, Operation):
            return operation

        def make(last: Attempt) -> Attempt | None:
            fees, gas = Fees(last.max_fee_per_gas, last.priority_fee_per_gas), last.gas_limit
            if kind.name == "FEE_CAP":
                fees = Fees(header.base_fee * 9 // 8 + fees.priority_fee_per_gas, fees.priority_fee_per_gas)
                is_better = fees.max_fee_per_gas < last.max_fee_per_gas
            else:
                gas = gas_limit(estimate, retried=False)
                is_better = gas > last.gas_limit if kind.name == "INTRINSIC_GAS" else gas < last.gas_limit
            known = {(each.gas_limit, each.max_fee_per_gas) for each in operation.attempts}
            if not is_better or (gas, fees.max_fee_per_gas) in known:
                return None
            return self._sign(operation, account, last.nonce, gas, fees, last.latest_block, header.number)

        return self._add_attempt(operation, make, allowed)

    def give_up_nonce(
        self, operation: Operation, account: SigningAccount, policy: TransactionPolicy, error: AppError | None = None
    ) -> Operation:
        """Stores one more attempt with the same nonce, without effect, so that the operations behind it go on.

        Whichever attempt is mined, the others never are. If it is this one, the operation fails.

        Args:
            operation: An operation in no block.
            account: The account of its sender.
            policy: The fees.
            error: The error with which it fails then; that its transaction was refused, if None.
        """
        header = rpc.latest_header(self._w3)

        def make(last: Attempt) -> Attempt | None:
            fees = Fees(last.max_fee_per_gas, last.priority_fee_per_gas)
            new_fees = raised_fees(fees, header.base_fee, policy) or initial_fees(header.base_fee, policy)
            if new_fees is None or last.no_effect:
                return None
            nonce = operation.nonce
            return self._sign(operation, account, nonce, TRANSFER_GAS, new_fees, last.latest_block, header.number, True)

        message = f"{operation.kind} had no effect: {operation.held}. A transaction without effect used its nonce."
        error = error or TransactionRefused(message)
        given_up = self._add_attempt(operation, make, None, error=states.error_to_json(error))
        if given_up.given_up:
            log.error("%s gives up its transaction: %s", operation.kind, error.message, extra=log_fields(operation))
        return given_up

    def fill_gap(
        self, account: SigningAccount, chain_id: int, nonce: int, policy: TransactionPolicy
    ) -> Operation | None:
        """Stores an operation that only uses a nonce.

        Returns:
            The operation; None if another worker stored it, if fees are above the cap, or if there is no signature.
        """
        header = rpc.latest_header(self._w3)
        fees = initial_fees(header.base_fee, policy)
        if fees is None:
            return None
        key = f"{FILL_NONCE_GAP}:{chain_id}:{account.address}:{nonce}"
        draft = Draft(Call(checksummed(account.address), FILL_NONCE_GAP, b""), chain_id, account.address)
        filling = Content(chain_id, account.address, account.address, 0, b"")
        try:
            attempt = self._sign(filling, account, nonce, TRANSFER_GAS, fees, header.number)
        except SignerError as error:
            log.warning("nonce %s of %s can't be filled: %s", nonce, account.address, error.words)
            return None
        with self._database.autocommit() as connection:
            operation = operations.create_signed(connection, key, draft, attempt)
        if operation is not None:
            message = "nonce %s of %s is in no transaction: it is filled"
            log.error(message, nonce, account.address, extra=log_fields(operation))
        return operation

    # ------------------------------------------------------------------------------------------------- helpers

    def _find_fault(self, operation: Operation, allowed: limits.Limits) -> str | None:
        """Returns why the operation must not be signed; None if it may.

        An operation without a seal, from before there were any, is known by an attempt that is signed already.
        """
        if reason := limits.check(operation, allowed):
            return reason
        if self._sealer.has_sealed(operation) or any(not find_mismatch(operation, each) for each in operation.attempts):
            return None
        return "it was not stored by this service, as its seal is missing or of other values"

    def _add_attempt(
        self,
        operation: Operation,
        make: Callable[[Attempt], _Made],
        allowed: limits.Limits | None,
        **values: object,
    ) -> Operation:
        """Stores one more attempt, with the row locked.

        Args:
            operation: The operation as the caller saw it.
            make: Returns the attempt that follows the last one; or why the operation is held; or None.
            allowed: What may be signed; None if the attempt is without effect.
            values: Values of the operation's columns, if there is an attempt.

        Returns:
            The operation with the attempt; or as it is held, or as another worker left it.
        """
        with self._database.transaction() as connection:
            if allowed is not None and operation.kind in STOPPED_BY_PAUSE and lock_against_pause(connection):
                return operation
            current = operations.lock(connection, operation.key)
            if current.state not in ("signed", "submitted") or len(current.attempts) != len(operation.attempts):
                return current
            if current.abandoned_at is not None:
                return current
            if allowed is not None and self.unsigned.contract_watch and self.unsigned.contract_watch.code_changed:
                return current
            fault = self._find_fault(current, allowed) if allowed is not None else None
            made = (HeldCause.LIMIT, fault) if fault else _make(make, current.attempts[-1])
            if made is None:
                return current
            if isinstance(made, Attempt) and not self._spending.covers(
                current, made, allowed.amounts if allowed else None
            ):
                made = (HeldCause.FEES_AT_CAP, "another attempt would cost more than was counted for it")
            if isinstance(made, Attempt):
                attempts = [*current.attempts, made]
                changed = operations.change(connection, current, (current.state,), attempts=attempts, **values)
                assert changed is not None
                return changed
        return states.hold(self._database, current, *made)


def _make(make: Callable[[Attempt], _Made], last: Attempt) -> _Made:
    try:
        return make(last)
    except SignerError as error:
        return HeldCause.SIGNER, error.words

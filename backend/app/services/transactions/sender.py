"""Carries operations out: estimate, nonce, fees, sign, store, send, confirm. The only place that signs.

A transaction is stored before it is sent, every retry sends the same bytes, and every fee bump has the same nonce. An
operation gets a new nonce only after its old one is seen to be used up, in a block that is final, with no effect of
the operation. Whatever process it is, `finish` and `step` go on where the database says the operation is.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from pydantic import SecretStr
from sqlalchemy.exc import InterfaceError, OperationalError
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception, Web3RPCError
from web3.types import TxReceipt

from app.core.errors import AppError, ChainUnavailable, ContractRejected, OutOfFunds, Superseded, UnexpectedReceipt
from app.db.database import Database
from app.services import operations, projections, rpc
from app.services.codec import Call, Revert, checksummed, event_stake
from app.services.operations import SENT, Draft, NewRow, Operation
from app.services.rpc import Head
from app.services.rpc_errors import TROUBLE, Answer, decode_revert, meaning, refusal, rejected, unavailable

GWEI = 10**9
TRANSACTION_GAS_CAP = 16_777_216
"""EIP-7825: no transaction may have more gas than this."""
GAS_MARGIN = 40_000
"""Gas beyond a fifth of the estimate. A booking that is mined after others may begin two storage slots that it did not
when it was estimated, 34,200 gas. What is not used is not paid."""
SEARCHED = 128
"""Blocks looked through for a transaction: as many as nodes that are no archive have states of."""
LEAST_BUMP = 10
"""Percent by which nodes want both fees raised before they replace a transaction."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Policy:
    """Fees are wei per gas, times are seconds.

    confirmations: blocks, its own among them, after which a transaction is final. max_fee_per_gas: never more.
    bump_percent: what fees are raised by, at least 10. bump_after: without a receipt. resend_after: without a receipt.
    patience: how long `finish` waits. first_pause, longest_pause: between two looks at the chain.
    """

    confirmations: int = 1
    max_fee_per_gas: int = 200 * GWEI
    priority_fee: int = GWEI
    bump_percent: int = 12
    bump_after: float = 60
    resend_after: float = 15
    patience: float = 120
    first_pause: float = 0.001
    longest_pause: float = 1

    def __post_init__(self) -> None:
        if self.bump_percent < LEAST_BUMP or self.confirmations < 1 or self.priority_fee > self.max_fee_per_gas:
            raise ValueError(
                "A policy needs bumps of at least 10 percent, a confirmation, and a tip below the fee cap."
            )


class _Seen(NamedTuple):
    """An operation after a look at the chain, and the receipt where one was found."""

    operation: Operation
    receipt: TxReceipt | None = None


class _Timer(NamedTuple):
    """When this process sent an attempt: for the first time, and last."""

    hash: str
    first: float
    last: float


class TransactionSender:
    """Signs with the platform's key, or with the account handed to it, through the `w3` it is given."""

    def __init__(
        self, w3: Web3, platform: LocalAccount | SecretStr, database: Database, policy: Policy | None = None
    ) -> None:
        self._w3 = w3
        self._platform = platform if isinstance(platform, LocalAccount) else account_of(platform)
        self._database = database
        self.policy = policy or Policy()
        self._sent: dict[str, _Timer] = {}
        self._signing = threading.Lock()  # a nonce is taken with the signature, so threads would sign in vain
        self._next: dict[str, int] = {}  # nonce to try, by sender: what other processes took is found out by trying
        self._at_work: dict[str, threading.Event] = {}  # keys that threads of this process carry out, until they end

    @property
    def address(self) -> ChecksumAddress:
        """The platform's."""
        return self._platform.address

    @cached_property
    def chain_id(self) -> int:
        """Of the network, asked once. Raises `ChainUnavailable`."""
        try:
            return rpc.chain_id(self._w3)
        except TROUBLE as error:
            raise unavailable("chain id", error) from error

    # ------------------------------------------------------------------------------------------ what is asked of it

    def draft(self, call: Call, signer: LocalAccount | None, subject: uuid.UUID | NewRow | None = None) -> Draft:
        """What is to be written down before it is sent."""
        return Draft(call, self.chain_id, signer.address if signer else self.address, subject)

    def send(self, call: Call, signer: LocalAccount | None = None) -> TxReceipt:
        """Prepares an operation that is about no row of ours, and finishes it."""
        with self._database.autocommit() as connection:
            operation = operations.prepare(connection, str(uuid.uuid4()), "", self.draft(call, signer))
        return self.finish(operation, signer)

    def finish(self, operation: Operation, signer: LocalAccount | None = None) -> TxReceipt:
        """Carries the operation out, from wherever it is, and returns the receipt of its success once that is final.

        Raises `ContractRejected`, outcome "rejected": the estimate failed, nothing was sent and no nonce taken; outcome
        "reverted": it was mined and failed, and the signer paid for the gas. `Superseded`: another transaction took
        the nonce, there is no effect. `OutOfFunds`, or `ChainUnavailable` when patience is over: it is not decided
        yet, and goes on by itself.
        """
        ended = self._at_work[operation.key] = threading.Event()
        try:
            return self._finish(operation, signer)
        finally:
            ended.set()
            self._at_work.pop(operation.key, None)

    def _finish(self, operation: Operation, signer: LocalAccount | None) -> TxReceipt:
        deadline, pause = time.monotonic() + self.policy.patience, self.policy.first_pause
        while True:
            before, receipt, trouble = operation, None, None
            try:
                operation, receipt = self._advance(operation, signer)
            except ChainUnavailable as error:
                trouble = error
            except TROUBLE as error:
                trouble = unavailable(operation.kind, error)
            except (OperationalError, InterfaceError) as error:
                said = f"{operation.kind}: the database is gone; it goes on when that is back."
                raise ChainUnavailable(said, operation.key) from error
            if operation.closed:
                return self._outcome(operation, receipt)
            if operation.held and operation.state == "prepared" and trouble is None:
                kind = OutOfFunds if meaning(Exception(operation.held)) is Answer.NO_FUNDS else ChainUnavailable
                raise kind(f"{operation.kind} is held: {operation.held}.", operation.key)
            if time.monotonic() > deadline:
                given_up = trouble or unavailable(operation.kind, TransactionNotFound(""))
                given_up.operation = operation.key
                raise given_up
            if trouble is None and operation.state != before.state:
                continue
            time.sleep(pause * (random.uniform(5, 15) if trouble else 1))
            pause = min(pause * 1.2, self.policy.longest_pause)

    def step(self, operation: Operation) -> Operation:
        """One look at the chain and what follows from it, by this process, with the platform's key or none.

        Raises `ChainUnavailable`.
        """
        try:
            return self._advance(operation, None).operation
        except TROUBLE as error:
            raise unavailable(operation.kind, error, operation.key) from error

    # ------------------------------------------------------------------------------------------------- the states

    def _advance(self, operation: Operation, signer: LocalAccount | None) -> _Seen:
        if operation.closed:
            return _Seen(operation)
        if operation.state == "prepared":
            return _Seen(self._sign(operation, signer))
        return self._follow(operation, signer)

    def _sign(self, operation: Operation, signer: LocalAccount | None) -> Operation:
        """prepared -> signed: the transaction is stored, and from now on may be sent; or -> rejected."""
        account = self._account(operation, signer)
        if account is None:
            said = f"{operation.kind} was never sent, and the key of {operation.sender} is not here."
            return self._refuse(operation, ("prepared",), "rejected", Superseded(said))
        to, data, value = operation.to_address, operation.data, operation.value_wei
        try:
            estimate = rpc.estimate_gas(self._w3, to, data, "pending", sender=account.address, value=value)
        except ContractLogicError as error:
            refused = rejected(operation.kind, error, event_stake())
            if refused is None:
                raise
            return self._refuse(operation, ("prepared",), "rejected", refused)
        except TROUBLE as error:
            if meaning(error) is not Answer.NO_FUNDS:
                raise
            return self._hold(operation, _no_funds(operation))
        margin = (estimate // 5 if operation.requeued == 0 else estimate) + GAS_MARGIN
        gas = min(estimate + margin, TRANSACTION_GAS_CAP)
        head = self._head()
        tip, cap = self.policy.priority_fee, self.policy.max_fee_per_gas
        if head.base_fee + tip > cap:
            return self._hold(operation, f"the base fee of {head.base_fee} wei is above the cap of {cap}")
        fees = {"max_fee": min(2 * head.base_fee + tip, cap), "tip": tip}
        final = max(head.number - self.policy.confirmations + 1, 0)
        count = rpc.transaction_count(self._w3, account.address, final)  # a block that goes would leave a gap
        with self._signing, self._database.autocommit() as connection:
            nonce = max(count, self._next.get(account.address, 0))
            while True:
                attempt = self._attempt(operation, account, nonce, gas, fees, head.number)
                signed = operations.sign(connection, operation, attempt)
                if signed is not None:
                    self._next[account.address] = nonce + 1
                    return signed
                current = operations.find(connection, operation.key) or operation
                given = operations.next_nonce(connection, operation.chain_id, operation.sender)
                if current.state != "prepared" or given <= nonce:  # another worker was faster with it
                    return current
                nonce = given

    def _follow(self, operation: Operation, signer: LocalAccount | None) -> _Seen:
        """signed, submitted, mined -> wherever the chain says it is."""
        answer: Answer | None = None
        if operation.state == "signed" and self._due(operation)[1]:
            answer = self._broadcast(operation)
        receipt = self._receipt(operation)
        if receipt is not None:
            return self._mined(operation, receipt)
        if operation.state == "mined":
            log.warning(
                "%s is not in block %s any more", operation.tx_hash, operation.block_number, extra=_of(operation)
            )
            gone = {"tx_hash": None, "block_number": None, "block_hash": None}
            operation = self._change(operation, ("mined",), state="submitted", reorged=True, **gone)
            self._sent.pop(operation.key, None)
        if operation.state not in ("signed", "submitted"):
            return _Seen(operation)
        bump_is_due, resend_is_due = self._due(operation)
        again = operation.state == "submitted" and resend_is_due
        if again:
            before, answer = self._sent.get(operation.key), self._broadcast(operation)
            if operation.held and self._sent.get(operation.key) != before:
                operation = self._change(operation, ("submitted",), held=None)
        if answer is Answer.NONCE_TOO_HIGH:
            self._fill_gap(operation)
        elif answer is Answer.NO_FUNDS:
            return _Seen(self._hold(operation, _no_funds(operation)))
        elif bump_is_due or answer in (Answer.UNDERPRICED, Answer.FEE_TOO_LOW):
            return _Seen(self._bump(operation, signer))
        elif answer is Answer.NONCE_TOO_LOW or (again and answer is Answer.KNOWN):
            return _Seen(self._usurped(operation))
        if operation.state == "signed" and operation.key in self._sent:
            operation = self._change(operation, ("signed",), state="submitted", held=None)
        return _Seen(operation)

    def _mined(self, operation: Operation, receipt: TxReceipt) -> _Seen:
        """-> mined, or closed where the block is deep enough and the chain still has it."""
        if self.policy.confirmations > 1:
            depth = rpc.block_number(self._w3) - receipt["blockNumber"] + 1
            final = depth >= self.policy.confirmations and self._on_chain(receipt)
            if not final:
                where = _where(receipt)
                if operation.state != "mined" or operation.block_hash != where["block_hash"]:
                    operation = self._change(operation, SENT, state="mined", held=None, **where)
                return _Seen(operation)
        return _Seen(self._close(operation, receipt), receipt)

    def _close(self, operation: Operation, receipt: TxReceipt) -> Operation:
        """-> confirmed or failed, and what that means for the rows, in one transaction. In the order of nonces."""
        where, tx_hash = _where(receipt), receipt["transactionHash"].to_0x_hex()
        paid = {"gas_used": receipt["gasUsed"], "gas_price_wei": receipt["effectiveGasPrice"]}
        if receipt["status"] != 1:
            revert = self._why(operation, receipt)
            if revert.name == "OutOfGas" and operation.requeued == 0:
                return self._requeue(operation, f"{tx_hash} ran out of gas")
            refused = ContractRejected(revert.name, revert.args, refusal(operation.kind, revert), "reverted")
            return self._refuse(operation, SENT, "failed", refused, **where, **paid, held=None)
        address = checksummed(operation.to_address)
        events = event_stake().events(receipt["logs"], address)
        try:
            done, told = projections.confirmed(operation, events, tx_hash, receipt["blockNumber"]), None
        except UnexpectedReceipt as error:
            log.error("%s", error, extra=_of(operation))
            done, told = [], _stored(error)
        given = {**where, **paid, "held": None, "error": told}
        with self._database.autocommit() as connection:
            closed = operations.close(connection, operation, SENT, done, in_order=True, state="confirmed", **given)
            earlier = [] if closed else operations.open_before(connection, operation)
        if earlier:  # what was mined before has to be closed before
            return operation if self._step_all(earlier) else self._close(operation, receipt)
        if closed is None:
            return self._reload(operation)
        self._sent.pop(operation.key, None)
        log.info("%s: %s in block %s", operation.kind, tx_hash, receipt["blockNumber"], extra=_of(operation))
        return closed

    def _refuse(
        self, operation: Operation, states: Sequence[str], state: str, error: AppError, **values: Any
    ) -> Operation:
        """-> rejected or failed: there is no effect and will be none."""
        done = projections.refused(operation, error.message, values.get("tx_hash"))
        with self._database.autocommit() as connection:
            closed = operations.close(connection, operation, states, done, state=state, error=_stored(error), **values)
        if closed is None:
            return self._reload(operation)
        self._sent.pop(operation.key, None)
        log.info("%s", error.message, extra=_of(operation))
        return closed

    def _requeue(self, operation: Operation, why: str, times: int = 1) -> Operation:
        """-> prepared, with a new nonce to come: the old one is used up for good, and had no effect."""
        log.warning("%s begins anew: %s", operation.kind, why, extra=_of(operation))
        gone = {"tx_hash": None, "block_number": None, "block_hash": None}
        self._sent.pop(operation.key, None)
        return self._change(
            operation, SENT, state="prepared", nonce=None, requeued=operation.requeued + times, held=None, **gone
        )

    def _hold(self, operation: Operation, why: str) -> Operation:
        """Where it is, until somebody does something about it, or the fees fall."""
        if operation.held == why:
            return operation
        log.error("%s is held: %s", operation.kind, why, extra=_of(operation))
        return self._change(operation, (operation.state,), held=why)

    def _change(self, operation: Operation, states: Sequence[str], **values: Any) -> Operation:
        with self._database.autocommit() as connection:
            changed = operations.change(connection, operation, states, **values)
        return changed or self._reload(operation)

    def _reload(self, operation: Operation) -> Operation:
        """As another worker left it."""
        with self._database.autocommit() as connection:
            found = operations.find(connection, operation.key)
        assert found is not None
        return found

    # ------------------------------------------------------------------------------------------------- the mempool

    def _broadcast(self, operation: Operation) -> Answer | None:
        """Sends the stored bytes of the last attempt. None: the node took them, or its answer is unknown or lost."""
        try:
            rpc.send_raw(self._w3, operation.attempts[-1]["raw"])
            answer = None
        except TROUBLE as error:
            answer = meaning(error)
            if answer is None:
                log.warning("%s", unavailable(operation.kind, error), extra=_of(operation))
                return None
        if answer in (None, Answer.KNOWN):
            tx_hash, now = operation.attempts[-1]["hash"], time.monotonic()
            timer = self._sent.get(operation.key)
            self._sent[operation.key] = _Timer(tx_hash, timer.first if timer and timer.hash == tx_hash else now, now)
        else:
            log.info("%s: the node says %s", operation.kind, answer.name, extra=_of(operation))
        return answer

    def _due(self, operation: Operation) -> tuple[bool, bool]:
        """Whether the last attempt has waited long enough for its fees to be raised, and to be sent again."""
        timer = self._sent.get(operation.key)
        if timer is None or timer.hash != operation.attempts[-1]["hash"]:
            return False, True
        now = time.monotonic()
        return now - timer.first > self.policy.bump_after, now - timer.last > self.policy.resend_after

    def _bump(self, operation: Operation, signer: LocalAccount | None) -> Operation:
        """One more attempt with the same nonce and both fees raised, up to the cap."""
        account = self._account(operation, signer)
        if account is None:
            return operation
        base_fee = self._head().base_fee
        with self._database.transaction() as connection:
            current = operations.locked(connection, operation.key)
            if current.state not in ("signed", "submitted") or len(current.attempts) != len(operation.attempts):
                return current
            last = current.attempts[-1]
            fees = raised_fees(last, base_fee, self.policy)
            if fees is None:
                why = f"fees can't be raised above the cap of {self.policy.max_fee_per_gas} wei per gas"
                return operations.change(connection, current, (current.state,), held=why) or current
            again = self._attempt(current, account, last["nonce"], last["gas"], fees, last["block"])
            bumped = operations.change(connection, current, (current.state,), attempts=[*current.attempts, again])
        assert bumped is not None
        log.warning("%s: fees raised to %s", bumped.kind, fees, extra=_of(bumped))
        self._broadcast(bumped)
        return bumped

    def _fill_gap(self, operation: Operation) -> None:
        """Sends again what has to be mined before."""
        with self._database.transaction() as connection:
            before = operations.open_before(connection, operation)
        for earlier in before:
            self._broadcast(earlier)

    def _step_all(self, earlier: Sequence[Operation]) -> bool:
        """Whether one of them stays open. Those that other threads are at work on are waited for, a little."""
        for one in earlier:
            other = self._at_work.get(one.key)
            if other is None:
                if not self.step(one).closed:
                    return True
            elif not other.wait(self.policy.longest_pause):
                return True
        return False

    # -------------------------------------------------------------------------------------------------- the chain

    def _receipt(self, operation: Operation) -> TxReceipt | None:
        """Of whichever attempt with the present nonce was mined, the latest looked for first."""
        for attempt in reversed(operation.attempts):
            if attempt["nonce"] != operation.nonce:
                break
            if (found := rpc.receipt(self._w3, attempt["hash"])) is not None:
                return found
        return None

    def _on_chain(self, receipt: TxReceipt) -> bool:
        there = rpc.head(self._w3, receipt["blockNumber"])
        return there is not None and there.hash == receipt["blockHash"].to_0x_hex()

    def _head(self) -> Head:
        """The latest block. Raises `TROUBLE`."""
        head = rpc.head(self._w3)
        if head is None:
            raise Web3Exception("it has no latest block")
        return head

    def _usurped(self, operation: Operation) -> Operation:
        """Where another transaction is seen to have the nonce, in a final block: once more with a new one, unless the
        operation was mined before, or this is the second time. It counts for no time if it was there before us.
        """
        foreign, block = self._usurper(operation)
        if foreign is None:
            return operation
        current = self._reload(operation)
        if len(current.attempts) != len(operation.attempts):  # it may be one of those that were not known here
            return current
        there_before = block <= operation.attempts[-1]["block"]
        if not operation.reorged and (there_before or operation.requeued == 0):
            return self._requeue(operation, f"its nonce {operation.nonce} went to {foreign}", 0 if there_before else 1)
        said = f"{operation.kind} had no effect: its nonce {operation.nonce} went to {foreign}, which is not ours."
        return self._refuse(operation, SENT, "failed", Superseded(said))

    def _usurper(self, operation: Operation) -> tuple[str | None, int]:
        """The transaction with the operation's nonce in a final block, and that block; None where there is none, or it
        is ours.

        That no receipt is found proves nothing, as a node may lag; so the block is looked for, by halves.
        """
        nonce, sender = operation.nonce, checksummed(operation.sender)
        assert nonce is not None

        def used(block: int) -> bool:
            """False, too, where the node no longer has that block's state."""
            try:
                return rpc.transaction_count(self._w3, sender, block) > nonce
            except Web3RPCError:
                return False

        high = rpc.block_number(self._w3) - self.policy.confirmations + 1
        low = next(a["block"] for a in operation.attempts if a["nonce"] == nonce)
        if high < 0 or not used(high):
            return None, high
        high = first_block(used, low, high)
        for block in range(high, max(high - SEARCHED, 0), -1):  # the very first, where the node has all states
            transactions: Any = self._w3.eth.get_block(block, full_transactions=True)["transactions"]
            for mined in transactions:
                if mined["from"] == sender and mined["nonce"] == nonce:
                    found: str = mined["hash"].to_0x_hex()
                    return None if found in [attempt["hash"] for attempt in operation.attempts] else found, block
        return None, high

    def _why(self, operation: Operation, receipt: TxReceipt) -> Revert:
        """Why a mined transaction failed: the same call at the end of its block, where the time is right."""
        tx_hash = receipt["transactionHash"].to_0x_hex()
        gas = next(attempt["gas"] for attempt in operation.attempts if attempt["hash"] == tx_hash)
        to, data, at = operation.to_address, operation.data, receipt["blockNumber"]
        try:
            rpc.call(self._w3, to, data, at, sender=receipt["from"], value=operation.value_wei, gas=gas)
        except ContractLogicError as error:
            if revert := decode_revert(error, event_stake()):
                return revert
        except TROUBLE:
            log.warning("The node does not tell why %s failed", tx_hash, extra=_of(operation))
        if receipt["gasUsed"] >= gas:
            return Revert("OutOfGas", (receipt["gasUsed"],), f"out of gas after {receipt['gasUsed']}")
        return Revert("Unknown", ("0x",), "the reason can't be found any more")

    # ----------------------------------------------------------------------------------------------------- signing

    def _account(self, operation: Operation, signer: LocalAccount | None) -> LocalAccount | None:
        """The account that the operation is sent from, if its key is at hand."""
        return next((a for a in (signer, self._platform) if a and a.address == operation.sender), None)

    def _attempt(
        self, operation: Operation, account: LocalAccount, nonce: int, gas: int, fees: dict[str, int], block: int
    ) -> dict[str, Any]:
        """A signed transaction as it is stored. block: the latest when its nonce was taken."""
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": operation.chain_id,
            "to": operation.to_address,
            "value": operation.value_wei,
            "data": operation.data,
            "nonce": nonce,
            "gas": gas,
            "maxFeePerGas": fees["max_fee"],
            "maxPriorityFeePerGas": fees["tip"],
        }
        signed = account.sign_transaction(fields)
        raw, tx_hash = signed.raw_transaction.to_0x_hex(), signed.hash.to_0x_hex()
        return {"hash": tx_hash, "raw": raw, "nonce": nonce, "gas": gas, **fees, "block": block}

    def _outcome(self, operation: Operation, receipt: TxReceipt | None) -> TxReceipt:
        """What a closed operation came to: the receipt of its success, or its error raised again."""
        if receipt is None and operation.tx_hash:
            try:
                receipt = rpc.receipt(self._w3, operation.tx_hash)
            except TROUBLE as error:
                raise unavailable(operation.kind, error, operation.key) from error
        if operation.error is not None:
            raise _raised_again(operation.error, receipt)
        if receipt is None:
            raise ChainUnavailable(f"{operation.kind}: done, but the node does not show it at present.", operation.key)
        return receipt


def first_block(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Where something begins to hold that holds at `high`, and not at 0, looked for by halves.

    low: where it does not hold yet, as far as is known; a node that lagged may have told too high a block.
    """
    while low > 0 and (low >= high or holds(low)):
        low = max(low - 32, 0)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def raised_fees(last: dict[str, Any], base_fee: int, policy: Policy) -> dict[str, int] | None:
    """Fees in wei per gas that nodes take in place of the last attempt's; None where the cap does not allow them.

    Nodes want both raised by at least `LEAST_BUMP` percent.
    """
    tip = _plus(last["tip"], policy.bump_percent)
    max_fee = min(max(_plus(last["max_fee"], policy.bump_percent), 2 * base_fee + tip), policy.max_fee_per_gas)
    if max_fee < _plus(last["max_fee"], LEAST_BUMP) or tip > max_fee:
        return None
    return {"max_fee": max_fee, "tip": tip}


def account_of(key: SecretStr) -> LocalAccount:
    """The account of a private key of 32 bytes in hex. Raises `ValueError`, which does not show the key.

    The length is looked at here: `eth_account` takes a key that lost a digit for another account's.
    """
    text = key.get_secret_value()
    if re.fullmatch("(0x)?[0-9a-fA-F]{64}", text):
        with suppress(ValueError):
            account: LocalAccount = Account.from_key(text)
            return account
    raise ValueError("The private key is not 32 bytes in hex, or out of the curve's range.")


def _no_funds(operation: Operation) -> str:
    return f"insufficient funds of {operation.sender} for gas and value"


def _where(receipt: TxReceipt) -> dict[str, Any]:
    return {
        "tx_hash": receipt["transactionHash"].to_0x_hex(),
        "block_number": receipt["blockNumber"],
        "block_hash": receipt["blockHash"].to_0x_hex(),
    }


def _plus(fee: int, percent: int) -> int:
    """Rounded up."""
    return -(-fee * (100 + percent) // 100)


def _of(operation: Operation) -> dict[str, str]:
    """What a log line has beside its message."""
    return {"operation": operation.key, "state": operation.state}


def _stored(error: AppError) -> dict[str, Any]:
    """An error as JSON."""
    stored: dict[str, Any] = {"code": error.code, "message": error.message}
    if isinstance(error, ContractRejected):
        stored |= {"name": error.name, "args": list(error.args), "outcome": error.outcome}
    return stored


def _raised_again(stored: dict[str, Any], receipt: TxReceipt | None) -> AppError:
    if stored["code"] == ContractRejected.code:
        return ContractRejected(stored["name"], stored["args"], stored["message"], stored["outcome"], receipt)
    kinds: dict[str, Callable[[str], AppError]] = {kind.code: kind for kind in (Superseded, UnexpectedReceipt)}
    return kinds[stored["code"]](stored["message"])

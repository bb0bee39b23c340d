"""Sends attempts to the node's mempool, and reads their receipts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from web3 import Web3

from app.services import rpc
from app.services.operation_types import HeldCause, Operation
from app.services.rpc_errors import NODE_ERRORS, Refused, as_chain_unavailable
from app.services.rpc_refusals import RefusalKind
from app.services.rpc_types import Receipt
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.receipts import find_receipt
from app.services.transactions.signing import find_mismatch
from app.services.transactions.states import log_fields

log = logging.getLogger(__name__)


class _SendTimes(NamedTuple):
    """When this process first and last sent an attempt, in seconds of the clock."""

    tx_hash: str
    first: float
    last: float


class SendRefusal(NamedTuple):
    """A node's refusal of a transaction, or this process's own.

    Attributes:
        kind: What it means; None if that is unknown.
        words: The node's words, or why this process does not send it.
        cause: Why the operation is held, if it is held for this.
    """

    kind: RefusalKind | None
    words: str
    cause: HeldCause = HeldCause.REFUSED


class Due(NamedTuple):
    """Whether the last attempt has waited long enough for higher fees, and for being sent again."""

    bump: bool
    resend: bool


class Mempool:
    """Sends attempts to a node, and remembers when this process sent them.

    Args:
        w3: Connection to the node.
        clock: Returns seconds; never goes back.
    """

    def __init__(self, w3: Web3, clock: Callable[[], float]) -> None:
        self._w3 = w3
        self._clock = clock
        self._send_times: dict[str, _SendTimes] = {}
        self._refused_at: dict[str, float] = {}  # when an operation was last held for a refusal, by key
        self._verified: set[str] = set()  # bytes that were compared with their operation
        self._new: set[str] = set()  # hashes of transactions that were signed here, and not sent yet

    def has_sent(self, operation: Operation) -> bool:
        """Returns whether this process has sent an attempt of the operation."""
        return operation.key in self._send_times

    def forget(self, operation: Operation) -> None:
        """Forgets when the operation's attempts were sent."""
        self._send_times.pop(operation.key, None)
        self._refused_at.pop(operation.key, None)
        self._verified.difference_update(attempt.raw_transaction for attempt in operation.attempts)

    def trust(self, operation: Operation) -> None:
        """Notes that this process has just signed the last attempt, so that it need not be compared."""
        self._verified.add(operation.attempts[-1].raw_transaction)
        self._new.add(operation.attempts[-1].tx_hash)

    def is_new(self, operation: Operation) -> bool:
        """Returns whether this process has just signed the last attempt, and nobody can have seen it yet."""
        return operation.attempts[-1].tx_hash in self._new

    def delay(self, operation: Operation) -> None:
        """Notes that the operation is held, so that it is sent again only after a while."""
        self._refused_at[operation.key] = self._clock()

    def send(self, operation: Operation) -> SendRefusal | None:
        """Sends the stored bytes of the operation's last attempt, if they are signed for just this operation.

        Returns:
            Why the node refused it; None if the node accepted it, or if its answer is lost or unknown. Also None for an
            abandoned operation, which is not sent.
        """
        if operation.abandoned_at is not None:
            return None
        attempt = operation.attempts[-1]
        self._new.discard(attempt.tx_hash)
        if attempt.raw_transaction not in self._verified:
            if (mismatch := find_mismatch(operation, attempt)) is not None:
                return SendRefusal(None, f"its stored bytes are not sent, as {mismatch}", HeldCause.LIMIT)
            self._verified.add(attempt.raw_transaction)
        refusal = None
        try:
            rpc.send_raw(self._w3, attempt.raw_transaction)
        except Refused as error:
            refusal = SendRefusal(error.kind, error.words)
        except NODE_ERRORS as error:
            log.warning("%s", as_chain_unavailable(operation.kind, error), extra=log_fields(operation))
            return None
        if refusal is None or refusal.kind is RefusalKind.KNOWN:
            now, times = self._clock(), self._send_times.get(operation.key)
            first = times.first if times and times.tx_hash == attempt.tx_hash else now
            self._send_times[operation.key] = _SendTimes(attempt.tx_hash, first, now)
        else:
            log.info(
                "%s: the node says %s",
                operation.kind,
                refusal.kind.name if refusal.kind else refusal.words,
                extra=log_fields(operation),
            )
        return refusal

    def resend(self, operation: Operation) -> tuple[SendRefusal | None, bool]:
        """Sends the last attempt again. Returns the node's refusal, and whether the node has the attempt."""
        earlier_times = self._send_times.get(operation.key)
        refusal = self.send(operation)
        return refusal, self._send_times.get(operation.key) != earlier_times

    def due(self, operation: Operation, policy: TransactionPolicy) -> Due:
        """Returns what is due for the last attempt. If this process has not sent it, sending it is due."""
        times, refused_at = self._send_times.get(operation.key), self._refused_at.get(operation.key)
        if refused_at is not None and self._clock() - refused_at <= policy.resend_after:
            return Due(bump=False, resend=False)
        if times is None or times.tx_hash != operation.attempts[-1].tx_hash:
            return Due(bump=False, resend=True)
        now = self._clock()
        return Due(now - times.first > policy.bump_after, now - times.last > policy.resend_after)

    def receipt(self, operation: Operation) -> Receipt | None:
        """Returns the receipt of the attempt that was mined, as `receipts.find_receipt` does."""
        return find_receipt(self._w3, operation)

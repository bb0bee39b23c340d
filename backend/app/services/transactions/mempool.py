"""Sends attempts to the node's mempool, and reads their receipts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from web3 import Web3

from app.services import rpc
from app.services.operation_types import Operation
from app.services.rpc_answers import Receipt
from app.services.rpc_errors import NODE_ERRORS, as_chain_unavailable, classify
from app.services.rpc_refusals import RefusalKind
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.states import log_fields

log = logging.getLogger(__name__)


class _SendTimes(NamedTuple):
    """When this process first and last sent an attempt, in seconds of the clock."""

    tx_hash: str
    first: float
    last: float


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

    def has_sent(self, operation: Operation) -> bool:
        """Returns whether this process has sent an attempt of the operation."""
        return operation.key in self._send_times

    def forget(self, operation: Operation) -> None:
        """Forgets when the operation's attempts were sent."""
        self._send_times.pop(operation.key, None)

    def send(self, operation: Operation) -> RefusalKind | None:
        """Sends the stored bytes of the operation's last attempt.

        Returns:
            Why the node refused it; None if the node accepted it, or if its answer is lost or unknown.
        """
        attempt = operation.attempts[-1]
        refusal = None
        try:
            rpc.send_raw(self._w3, attempt.raw_transaction)
        except NODE_ERRORS as error:
            refusal = classify(error)
            if refusal is None:
                log.warning("%s", as_chain_unavailable(operation.kind, error), extra=log_fields(operation))
                return None
        if refusal in (None, RefusalKind.KNOWN):
            now, times = self._clock(), self._send_times.get(operation.key)
            first = times.first if times and times.tx_hash == attempt.tx_hash else now
            self._send_times[operation.key] = _SendTimes(attempt.tx_hash, first, now)
        else:
            log.info("%s: the node says %s", operation.kind, refusal.name, extra=log_fields(operation))
        return refusal

    def resend(self, operation: Operation) -> tuple[RefusalKind | None, bool]:
        """Sends the last attempt again. Returns the node's refusal, and whether the node has the attempt."""
        earlier_times = self._send_times.get(operation.key)
        refusal = self.send(operation)
        return refusal, self._send_times.get(operation.key) != earlier_times

    def due(self, operation: Operation, policy: TransactionPolicy) -> Due:
        """Returns what is due for the last attempt. If this process has not sent it, sending it is due."""
        times = self._send_times.get(operation.key)
        if times is None or times.tx_hash != operation.attempts[-1].tx_hash:
            return Due(bump=False, resend=True)
        now = self._clock()
        return Due(now - times.first > policy.bump_after, now - times.last > policy.resend_after)

    def receipt(self, operation: Operation) -> Receipt | None:
        """Returns the receipt of the attempt that was mined; None if none was.

        Tries all attempts with the operation's present nonce, newest first.
        """
        for attempt in reversed(operation.attempts):
            if attempt.nonce != operation.nonce:
                break
            sender, to = operation.sender, operation.to_address
            if (receipt := rpc.receipt(self._w3, attempt.tx_hash, sender=sender, to=to)) is not None:
                return receipt
        return None

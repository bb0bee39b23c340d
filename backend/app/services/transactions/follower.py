"""Follows sent operations until they are final, for any number of callers, with one thread and one look at each block.

A caller that waits holds no thread: it gets a future. `TransactionSender.step` makes each transition; this module only
decides when an operation is worth a step: when a new block has one of its transactions, when its block is deep enough,
when a reorganisation may have dropped it, or when it is due to be sent again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from web3 import Web3

from app.core import logs
from app.db.database import DATABASE_ERRORS
from app.services import rpc
from app.services.operation_types import Operation
from app.services.rpc_errors import NODE_ERRORS
from app.services.rpc_types import BlockHeader
from app.services.transactions.sender import TransactionSender

SENDING_THREADS = 4
"""Threads that send operations for clients that do not wait."""
STEPPING_THREADS = 4
"""Threads that step the operations that a block has news about, however many there are."""
MAX_MISSED_BLOCKS = 32
"""If more blocks were missed, all operations are looked at, instead of each block."""
MIN_POLL_S, MAX_POLL_S = 0.05, 2.0
"""Bounds of the seconds between two reads of the head while a block is due."""

MINED_PAUSE_S = 60.0
"""Seconds after which a mined operation is stepped without news from the chain."""

log = logging.getLogger(__name__)


@dataclass
class _Followed:
    """An operation that is followed.

    Attributes:
        operation: The operation after its last step.
        look_at: Time of the clock at which it is stepped without news from the chain.
        is_new: Whether it was not stepped yet. Its block may be one that was looked at already.
        waiters: Futures of those who wait for it.
    """

    operation: Operation
    look_at: float
    is_new: bool = True
    waiters: list[Future[Operation]] = field(default_factory=list)


class Follower:
    """Steps operations when the chain has news about them. Its threads start with the first operation.

    Args:
        w3: Connection to the node.
        sender: Makes the transitions.
        clock: Returns seconds; never goes back.
        starts_thread: Whether a thread calls `look`; if not, the caller does.
    """

    def __init__(
        self, w3: Web3, sender: TransactionSender, clock: Callable[[], float], *, starts_thread: bool = True
    ) -> None:
        self._w3, self._sender, self._clock, self._starts_thread = w3, sender, clock, starts_thread
        self._changed = threading.Condition()
        self._followed: dict[str, _Followed] = {}
        self._seen: BlockHeader | None = None
        self._thread: threading.Thread | None = None
        self._senders: ThreadPoolExecutor | None = None
        self._steppers: ThreadPoolExecutor | None = None
        self._stopping = False

    # ------------------------------------------------------------------------------------------------ public methods

    def follow(self, operation: Operation) -> Future[Operation]:
        """Follows an operation that was sent.

        Returns:
            A future of the operation as it is when it is closed, when it is held before it has a nonce, or when the
            follower stops.
        """
        waiter: Future[Operation] = Future()
        with self._changed:
            if self._stopping or _is_settled(operation):
                waiter.set_result(operation)
                return waiter
            followed = self._followed.setdefault(operation.key, _Followed(operation, self._look_at(operation)))
            followed.waiters.append(waiter)
            if self._thread is None and self._starts_thread:
                self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
                self._thread.start()
            self._changed.notify()
        return waiter

    def look(self) -> float:
        """Reads the head once, and steps the operations that it has news about, in the order of their nonces.

        Returns:
            Seconds to the next look.
        """
        pause = MAX_POLL_S
        try:
            self._look()
            pause = self._seconds_to_next()
        except NODE_ERRORS as error:
            log.warning("the head can't be read: %s", type(error).__name__)
        except Exception:
            log.exception("unexpected error of the follower")
        with self._changed:
            next_look = min((followed.look_at for followed in self._followed.values()), default=float("inf"))
        return max(min(pause, next_look - self._clock()), MIN_POLL_S)

    def _seconds_to_next(self) -> float:
        """Returns how many seconds to wait for the next block that may have news about an operation.

        An operation in a block has none until that block is final. If it is dropped before that, the last look sees it.
        """
        with self._changed:
            operations = [followed.operation for followed in self._followed.values()]
        blocks = 1
        if self._seen is not None and all(operation.state == "mined" for operation in operations):
            final_block = self._sender.policy.final_block(self._seen.number)
            blocks = min((o.block_number - final_block for o in operations if o.block_number is not None), default=1)
        return self._sender.head.seconds_to_next(MIN_POLL_S, MAX_POLL_S, max(blocks, 1))

    def send_and_follow(self, operation: Operation) -> None:
        """Sends an operation in another thread, and follows it. If the process ends first, the reconciler does so."""
        with self._changed:
            if self._stopping:
                return
            if self._senders is None:
                self._senders = ThreadPoolExecutor(SENDING_THREADS, "send-operation")
            self._senders.submit(self._send, operation)

    def is_following(self, key: str) -> bool:
        """Returns whether this process follows the operation with this key."""
        return key in self._followed

    def stop(self) -> None:
        """Stops following, and gives each waiter its operation as it is. Can be called in a signal handler's thread."""
        with self._changed:
            self._stopping = True
            followed = list(self._followed.values())
            self._changed.notify()
        for pool in (self._senders, self._steppers):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)
        for operation in followed:
            self._release(operation)

    # ------------------------------------------------------------------------------------------------ threads

    def _send(self, operation: Operation) -> None:
        with logs.log_context(operation=operation.key):
            try:
                self.follow(self._sender.advance(operation))
            except DATABASE_ERRORS as error:
                log.warning("the reconciler sends the operation: the database says %s", type(error).__name__)
            except Exception:
                log.exception("unexpected error in the background")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._followed or self._stopping)
                if self._stopping:
                    return
            pause = self.look()
            until = self._clock() + pause
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._has_new(), timeout=pause)
            pause = min(until - self._clock(), self._seconds_to_next())  # a new operation may have news sooner
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, timeout=max(pause, 0))

    def _has_new(self) -> bool:
        return any(followed.is_new for followed in self._followed.values())

    def _look(self) -> None:
        header, now = self._sender.head.latest(), self._clock()
        with self._changed:
            followed_operations = list(self._followed.values())
        # New operations are stepped anyway, and mined ones when they are final, so blocks without others don't matter
        awaits_block = any(not f.is_new and f.operation.state != "mined" for f in followed_operations)
        mined_hashes = self._hashes_since_last_look(header) if awaits_block else frozenset[str]()
        due = [followed for followed in followed_operations if self._is_due(followed, header, mined_hashes, now)]
        due.sort(key=lambda followed: (followed.operation.nonce is None, followed.operation.nonce))
        with self._changed:
            if self._stopping:
                return
            if self._steppers is None:
                self._steppers = ThreadPoolExecutor(STEPPING_THREADS, "step-operation")
            steps = [self._steppers.submit(self._step, followed) for followed in due]
        wait(steps)
        self._seen = header

    def _hashes_since_last_look(self, header: BlockHeader) -> frozenset[str] | None:
        """Returns the transactions of all blocks since the last look; None if some are unknown."""
        seen, hashes = self._seen, set[str]()
        if seen is None or not 0 <= header.number - seen.number <= MAX_MISSED_BLOCKS:
            return None
        block: BlockHeader | None = header
        while block is not None and block.number > seen.number:
            hashes.update(block.transactions)
            if block.number == seen.number + 1:
                return frozenset(hashes) if block.parent_hash == seen.hash else None
            parent = rpc.block_header(self._w3, block.number - 1)
            block = parent if parent is not None and parent.hash == block.parent_hash else None
        return frozenset(hashes) if block is not None and block.hash == seen.hash else None

    def _is_due(self, followed: _Followed, header: BlockHeader, mined: frozenset[str] | None, now: float) -> bool:
        operation = followed.operation
        if mined is None or followed.look_at <= now or (followed.is_new and header != self._seen):
            return True
        if operation.state == "mined":
            assert operation.block_number is not None
            return self._sender.policy.final_block(header.number) >= operation.block_number
        return any(attempt.tx_hash in mined for attempt in operation.attempts)

    def _step(self, followed: _Followed) -> None:
        key = followed.operation.key
        with logs.log_context(operation=key):
            try:
                followed.operation = self._sender.advance(followed.operation)
            except DATABASE_ERRORS as error:
                log.warning("%s: the database says %s", followed.operation.kind, type(error).__name__)
            except Exception:  # one operation's trouble must not stop the others
                log.exception("unexpected error of one operation")
        followed.is_new, followed.look_at = False, self._look_at(followed.operation)
        if _is_settled(followed.operation):
            self._release(followed)

    def _look_at(self, operation: Operation) -> float:
        """Returns when the operation is stepped even if no new block has one of its transactions."""
        if operation.state == "mined":
            return self._clock() + MINED_PAUSE_S
        unsent = operation.state in ("prepared", "signed")
        return self._clock() + (MAX_POLL_S if unsent else self._sender.policy.resend_after)

    def _release(self, followed: _Followed) -> None:
        """Stops following an operation, and gives its waiters the operation."""
        with self._changed:
            self._followed.pop(followed.operation.key, None)
            waiters, followed.waiters = followed.waiters, []
        for waiter in waiters:
            if not waiter.cancelled():
                waiter.set_result(followed.operation)


def _is_settled(operation: Operation) -> bool:
    """Returns whether waiting is over: the operation is closed, abandoned, or held before it has a nonce."""
    is_held = operation.state == "prepared" and operation.held is not None
    return operation.closed or is_held or operation.abandoned_at is not None

"""Chooses the account that sends a new operation: a lane.

One account is one queue, as its transactions are mined in the order of their nonces. With several accounts, one that
stands still stops nobody else. An operation keeps its lane with all its attempts and retries.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Connection, and_, bindparam, func, or_, select

from app.db.database import Database
from app.db.tables import in_states, operations
from app.services.operation_types import CLOSED_STATES, HeldCause

OPERATORS_FUNCTIONS = frozenset(
    {"createEventRunFor", "bookEventFor", "completeEvent", "cancelEvent", "cancelBooking", "expireEvent"}
)
"""Functions that every operator of the contract may call, with the same effect."""
LANE_CAUSES = (
    HeldCause.NO_FUNDS,
    HeldCause.FEES_AT_CAP,
    HeldCause.REFUSED,
    HeldCause.NONCE_GAP,
    HeldCause.EARLIER,
    HeldCause.SIGNER,
)
"""Causes that hold the operations behind one as well, or those that the same account is given next."""
MAX_AGE_S = 1.0
"""Seconds for which the queues are used again. What this process added meanwhile is counted."""

_c = operations.c
_IS_ABANDONED = _c.abandoned_at.is_not(None)
_QUEUES = (
    select(
        _c.sender,
        func.count().filter(~_IS_ABANDONED),
        func.bool_or(or_(_c.held_cause.in_(LANE_CAUSES), and_(_IS_ABANDONED, _c.nonce.is_not(None)))),
    )
    .where(
        ~in_states(CLOSED_STATES),
        _c.chain_id == bindparam("of_chain", type_=BigInteger),
        _c.sender == func.any(bindparam("of_senders")),
    )
    .group_by(_c.sender)
)


@dataclass
class Queue:
    """What waits in a lane.

    Attributes:
        waiting: Number of operations that are open, without those that were abandoned.
        is_held: Whether one of them holds those behind it.
    """

    waiting: int = 0
    is_held: bool = False


def read_queues(connection: Connection, chain_id: int, lanes: Sequence[str]) -> dict[str, Queue]:
    """Returns the queue of each lane."""
    queues = {lane: Queue() for lane in lanes}
    for sender, waiting, is_held in connection.execute(_QUEUES, {"of_chain": chain_id, "of_senders": list(lanes)}):
        queues[sender] = Queue(waiting, bool(is_held))
    return queues


class Lanes:
    """Chooses the lane of new operations.

    Args:
        database: Where operations are stored.
        addresses: Addresses of the accounts, the platform's first.
        clock: Returns seconds; never goes back.

    Attributes:
        addresses: Addresses of the accounts, the platform's first.
        may_act: Returns whether the contract lets an account act for the platform.
    """

    def __init__(self, database: Database, addresses: Sequence[str], clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock
        self.addresses = addresses
        self.may_act: Callable[[str], bool] = lambda address: True
        self._lock = threading.Lock()
        self._queues: dict[str, Queue] = {}
        self._read_at = float("-inf")

    @property
    def are_several(self) -> bool:
        """Whether there is a choice."""
        return len(self.addresses) > 1

    def choose(self, chain_id: int, function: str) -> str:
        """Returns the account that sends a new call of a function.

        It is the one with the fewest operations waiting among those that may act and are not held; if all are held,
        among all that may act. What only the owner may call, or is about the sender itself, is the platform's.
        """
        if not self.are_several or function not in OPERATORS_FUNCTIONS:
            return self.addresses[0]
        with self._lock:
            if self._clock() - self._read_at > MAX_AGE_S:
                with self._database.autocommit() as connection:
                    self._queues = read_queues(connection, chain_id, self.addresses)
                self._read_at = self._clock()
            acting = [lane for lane in self.addresses if self.may_act(lane)] or self.addresses
            free = [lane for lane in acting if not self._queues[lane].is_held] or acting
            chosen = min(free, key=lambda lane: self._queues[lane].waiting)
            self._queues[chosen].waiting += 1
            return chosen

    def forget(self) -> None:
        """Lets the queues be read again, as one of them is held since, or not any more."""
        self._read_at = float("-inf")

"""The latest block, as all threads of a process share it: one request a block, instead of several an operation."""

from __future__ import annotations

import threading
from collections.abc import Callable

from web3 import Web3

from app.services import rpc
from app.services.rpc import BlockHeader

POLLS_PER_BLOCK = 12
"""While the next block is due, the head is read this often in the time between two blocks."""
DUE_AFTER = 0.9
"""Part of the time between two blocks during which no next block is expected."""
MAX_BLOCK_SECONDS = 60.0
"""Upper bound of the time between two blocks; a chain that stood still says nothing about its usual pace."""


class Head:
    """Reads the latest block's header, and remembers it.

    Args:
        w3: Connection to the node.
        clock: Returns seconds; never goes back.
    """

    def __init__(self, w3: Web3, clock: Callable[[], float]) -> None:
        self._w3, self._clock = w3, clock
        self._lock = threading.Lock()
        self._header: BlockHeader | None = None
        self._read_at = self._changed_at = float("-inf")
        self._block_seconds = 0.0

    def latest(self, max_age: float = 0.0) -> BlockHeader:
        """Returns the header of the latest block. Threads that ask at the same time share one request.

        Args:
            max_age: Seconds; a header that was read within them is returned without a request.

        Raises:
            Web3Exception, RequestException, OSError: The node does not answer.
        """
        asked_at = self._clock()
        with self._lock:
            if self._header is not None and max_age > 0 and self._read_at >= asked_at - max_age:
                return self._header
            header = rpc.latest_header(self._w3)
            now, last = self._clock(), self._header
            if last is None or header.hash != last.hash:
                if last is not None and header.number > last.number:
                    seconds = (header.timestamp - last.timestamp) / (header.number - last.number)
                    self._block_seconds = min(max(seconds, 0.0), MAX_BLOCK_SECONDS)
                self._changed_at = now
            self._header, self._read_at = header, now
            return header

    def seconds_to_next(self, min_seconds: float, max_seconds: float) -> float:
        """Returns how many seconds to wait before the head is read again.

        Until the next block is due, that is the whole time to it; from then on, a fraction of the time between blocks.

        Args:
            min_seconds: Lower bound.
            max_seconds: Upper bound of that fraction.
        """
        with self._lock:
            due_in = self._changed_at + DUE_AFTER * self._block_seconds - self._clock()
            poll = min(max(self._block_seconds / POLLS_PER_BLOCK, min_seconds), max_seconds)
        return max(due_in, poll)

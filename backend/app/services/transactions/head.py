"""The latest block, as all threads of a process share it: one request a block, instead of several an operation."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from statistics import median

from web3 import Web3

from app.services import rpc
from app.services.rpc_types import BlockHeader

DUE_AFTER = 0.95
"""Part of the time between two blocks during which no next block is expected."""
POLLS_PER_BLOCK = 12
"""While the next block is due, the head is read this often in the time between two blocks."""
BACK_OFF = 6
"""While no block comes, the head is read after a further sixth of the time since the last one."""
MAX_BLOCK_S = 15.0
"""Maximum seconds for which no next block is expected; blocks that take longer are asked for more often than needed."""
OBSERVED_HEADS = 8
"""Number of heads whose times give the time between two blocks."""


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
        self._observed: deque[BlockHeader] = deque(maxlen=OBSERVED_HEADS)

    def latest(self, max_age: float = 0.0) -> BlockHeader:
        """Returns the header of the latest block. Threads that ask at the same time share one request.

        Args:
            max_age: Seconds; a header that was read within them is returned without a request.

        Raises:
            Web3Exception, RequestException, OSError: The node does not answer.
        """
        asked_at = self._clock()
        with self._lock:
            if self._header is not None and self._is_fresh(asked_at, max_age):
                return self._header
            header = rpc.latest_header(self._w3)
            self._read_at = self._clock()
            if self._header is None or header.hash != self._header.hash:
                self._changed_at = self._read_at
                self._observed.append(header)
            self._header = header
            return header

    def number(self, max_age: float = 0.0) -> int:
        """Returns the number of the latest block. Arguments and errors as for `latest`."""
        asked_at = self._clock()
        with self._lock:
            if self._header is not None and self._is_fresh(asked_at, max_age):
                return self._header.number
        return rpc.block_number(self._w3)

    def seconds_to_next(self, min_seconds: float, max_seconds: float, blocks: int = 1) -> float:
        """Returns how many seconds to wait before the head is read again.

        Until the next block is due, that is the whole time to it; from then on, a fraction of the time between blocks,
        which grows while no block comes. The head must have been read before.

        Args:
            min_seconds: Lower bound.
            max_seconds: Upper bound of that fraction.
            blocks: Number of blocks after the last one that was read with which the caller has something to do.
        """
        with self._lock:
            block_seconds, since_last = self._block_seconds(), self._clock() - self._changed_at
        poll = max(block_seconds / POLLS_PER_BLOCK, since_last / BACK_OFF)
        due_after = (blocks - 1 + DUE_AFTER) * block_seconds
        return max(due_after - since_last, min(max(poll, min_seconds), max_seconds))

    def _is_fresh(self, asked_at: float, max_age: float) -> bool:
        return max_age > 0 and self._read_at >= asked_at - max_age

    def _block_seconds(self) -> float:
        """Returns the usual time between two blocks; 0 if it is not known.

        It is the median, so that one long pause, after which the network goes on as before, does not count.
        """
        times = [
            (later.timestamp - earlier.timestamp) / (later.number - earlier.number)
            for earlier, later in pairwise(self._observed)
            if later.number > earlier.number
        ]
        return min(max(median(times), 0.0), MAX_BLOCK_S) if times else 0.0

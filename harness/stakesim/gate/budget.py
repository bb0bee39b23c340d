"""The time of a gate, shared by its parts."""

from __future__ import annotations

import time
from collections.abc import Mapping


class Budget:
    """Time that parts share one after another: what one does not use is left for those after it.

    Attributes:
        ends: When all of it is up, in seconds of `time.monotonic`.
    """

    def __init__(self, seconds: float, usual: Mapping[str, float]) -> None:
        """Starts the time.

        Args:
            seconds: For all parts.
            usual: About what each part takes, in the order in which they run. They share the time in this proportion.
        """
        self.ends, self._usual, self._waiting = time.monotonic() + seconds, usual, dict(usual)

    def __contains__(self, part: str) -> bool:
        """Whether a part has a share."""
        return part in self._usual

    def begin(self, part: str, at_least: float = 0.0) -> float:
        """Begins a part.

        Args:
            part: Its name.
            at_least: Share of the time left that it may take if its own is smaller.

        Returns:
            When its time is up, in seconds of `time.monotonic`.
        """
        now, needed = time.monotonic(), sum(self._waiting.values())
        share = self._waiting.pop(part, 0.0) / needed if needed else 0.0
        return now + max(0.0, self.ends - now) * max(share, at_least)

    @property
    def is_up(self) -> bool:
        """Whether no time is left for any part."""
        return time.monotonic() >= self.ends

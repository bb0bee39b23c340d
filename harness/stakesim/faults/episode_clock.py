"""The clock of a service during an episode: it goes on with requests, blocks and waiting, not with real time."""

from __future__ import annotations

REQUEST_S = 0.25
"""Seconds that a request takes."""
BLOCK_S = 12.0
"""Seconds between two blocks."""


class EpisodeClock:
    """Seconds since the episode began. Hand it to the service as its clock, and `sleep` as what waits."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def __call__(self) -> float:
        """Returns the seconds."""
        return self._seconds

    def sleep(self, seconds: float) -> None:
        """Advances the clock, and returns at once."""
        self._seconds += seconds

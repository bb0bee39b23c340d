"""How the full path scales: with the length of a campaign, the bookings of a run, the chain's height, and processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from stakesim.bench.full_path import Point, TimePerBooking, by_attendees, by_height, by_length, profile
from stakesim.campaign.campaign import run

ENGINE = "revm"
"""On the fastest engine the chain hides least."""
PROFILES = ["calm", "flaky", "hostile", "volatile"]


@dataclass(frozen=True)
class Growth:
    """Figures of the full path.

    Attributes:
        profile: Time of a booking, by part.
        attendees: Time of a transaction, by bookings of one run.
        height: Time of a transaction, by blocks of the chain before.
        length: Time of a transaction, by transactions in the same environment before.
        seconds: Wall-clock time of one campaign, by number of processes.
    """

    profile: Mapping[str, TimePerBooking]
    attendees: list[Point]
    height: list[Point]
    length: list[Point]
    seconds: Mapping[int, float]


def measure_growth(scale: float, progress: Callable[[str], None]) -> Growth:
    """Measures all figures.

    Args:
        scale: Multiple of the usual number of transactions.
        progress: Called with the name of each figure before it is measured.
    """
    progress("profile")
    time_by_part = profile(ENGINE, max(2, round(40 * scale)))
    progress("attendees")
    attendees = by_attendees(ENGINE, [1, 5, 20, 50, 100, 200] if scale >= 1 else [1, 5])
    progress("height")
    height = by_height(ENGINE, [0, 1_000, 10_000] if scale >= 1 else [0, 100])
    progress("length")
    length = by_length(ENGINE, max(200, round(10_000 * scale)), max(100, round(1_000 * scale)))
    progress("processes")
    runs = max(2, round(100 * scale))
    seconds = {
        jobs: median(run(PROFILES, engine=ENGINE, runs=runs, seed=0, jobs=jobs).seconds for _ in range(2))
        for jobs in (1, 2)
    }
    return Growth(time_by_part, attendees, height, length, seconds)

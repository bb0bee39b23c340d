"""The gate's profiles: how much each tries, and in what time. Light to import, as commands name the profiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ProfileName = Literal["pr", "nightly", "release"]


@dataclass(frozen=True)
class Effort:
    """How much a profile of the gate tries.

    Attributes:
        minutes: Time for the whole gate, which the parts share. What does not fit in is left out, and said so.
        runs: Random scenarios of each profile of the generator.
        walks: Random walks with the hostile profile.
        steps: Actions in each walk.
        examples: Action sequences that the stateful search tries.
        moves: Actions in each example.
        calls: Calls of the contract, of every kind, that a guided search compares with the rules.
        mutants: Mutants that are drawn; None: all of them, and the project's tests count for coverage.
        faults: Size of the fault campaign. 0: neither fault campaign nor static analysis.
    """

    minutes: float
    runs: int
    walks: int
    steps: int
    examples: int
    moves: int
    calls: int
    mutants: int | None
    faults: int

    @property
    def whole(self) -> bool:
        """Whether it tries all mutants and runs all tests."""
        return self.mutants is None

    @property
    def left_out(self) -> tuple[str, ...]:
        """Parts that are no part of the profile."""
        return () if self.faults else LONG_PARTS

    @property
    def usual_seconds(self) -> dict[str, float]:
        """About what each part takes on one core, in the order of the parts. They share the time in this proportion."""
        return {
            "interface": 1,
            "scripted": 20,
            REGRESSIONS: 10,
            "random": 0.9 * self.runs,
            "hostile": 0.01 * self.walks * self.steps,
            "stateful": 0.01 * self.examples * self.moves,
            "calls": self.calls / 3_000,
            "gas": 2,
            "coverage": 180 if self.whole else 50,
            "slither": 60,
            "proofs": 900,
            "mutants": 40 + 0.7 * (2_000 if self.mutants is None else self.mutants),
            "faults": 10 * self.faults,
        }


EFFORTS: dict[ProfileName, Effort] = {
    "pr": Effort(5, runs=40, walks=150, steps=30, examples=40, moves=40, calls=60_000, mutants=80, faults=0),
    "nightly": Effort(
        180, runs=500, walks=2_000, steps=50, examples=500, moves=50, calls=5_000_000, mutants=None, faults=100
    ),
    "release": Effort(
        300, runs=500, walks=3_000, steps=50, examples=500, moves=50, calls=10_000_000, mutants=None, faults=200
    ),
}
"""By profile, the smallest first."""
REGRESSIONS = "regressions"
"""A part that a project without earlier failures can't have."""
LONG_PARTS = ("slither", "proofs", "faults")
"""Parts that take too long for the profile `pr`."""
WHOLE = ("scripted", REGRESSIONS, "coverage", "slither")
"""Parts that are short, or say something only when all of it ran: they may take the time of those after them, ..."""
MOST_OF_WHOLE = 0.5
"""... but no more than this share of what is left, so that those begin."""
PARTS = tuple(EFFORTS["release"].usual_seconds)
"""Names of the parts, in the order in which they run."""

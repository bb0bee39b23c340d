"""Which tests a mutant gets, in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from mutants.making import PythonMutant
from mutants.reach import Reach

_START_S = 0.1
"""Seconds that each test costs beside those that it takes, so that the fastest are not preferred too much."""
_NEAR = 10
"""How much more a kill in the same function counts than one in the same file."""


class Order:
    """Those that killed what is near first, then the fastest of each file, and so on.

    Attributes:
        reach: What tests reach.
    """

    def __init__(self, reach: Reach, tests_for: float, kills: Iterable[tuple[PythonMutant, str]]) -> None:
        """Takes what tests reach, the seconds that a mutant gets, and mutants with the tests that killed them."""
        self.reach, self._tests_for = reach, tests_for
        self._killers: dict[str, str] = {}
        self._kills: Counter[tuple[str, str]] = Counter()
        for mutant, test in kills:
            self._killers[mutant.key] = test
            self._count(mutant, test)

    def of(self, mutant: PythonMutant, tests: list[str]) -> list[str]:
        """The tests that a mutant gets, of those that reach it."""
        near, file = _places(mutant)

        def gain(test: str) -> float:
            kills = _NEAR * self._kills[near, test] + self._kills[file, test]
            return kills / (_START_S + self.reach.seconds[test])

        tests = sorted(self.reach.in_turn(tests), key=lambda test: (test != self._killers.get(mutant.key), -gain(test)))
        return self.reach.within(tests, self._tests_for)

    def is_killed(self, mutant: PythonMutant) -> bool:
        """Whether it was killed before, perhaps with other code or tests."""
        return mutant.key in self._killers

    def note(self, mutant: PythonMutant, outcome: Mapping[str, Any]) -> None:
        """Takes what became of a mutant."""
        if test := outcome.get("test"):
            self._count(mutant, test)

    def _count(self, mutant: PythonMutant, test: str) -> None:
        for place in _places(mutant):
            self._kills[place, test] += 1


def _places(mutant: PythonMutant) -> tuple[str, str]:
    """The function that a mutant is in, or what the module defines by its statement; and its file."""
    return f"{mutant.file}: {mutant.mutant.function} {sorted(mutant.names)}", mutant.file

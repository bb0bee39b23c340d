"""Which tests a mutant gets, in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from mutants.making import PythonMutant
from mutants.reach import Reach

_START_S = 0.05
"""Seconds that each test costs beside those that it takes."""
_PRIOR = 0.1
"""Share of a file's mutants that a test kills of which nothing is known, if it is the fastest one of its own file."""
_WEIGHT = 2
"""Number of mutants of a function that say as much about the next one as those of the whole file."""


class Order:
    """The tests that kill most in the time that they take come first, by what is known of mutants that are near.

    Attributes:
        reach: What tests reach.
    """

    def __init__(self, reach: Reach, tests_for: float, kills: Iterable[tuple[PythonMutant, str]]) -> None:
        """Takes what tests reach, the seconds that a mutant gets, and mutants with the tests that killed them."""
        self.reach, self._tests_for = reach, tests_for
        self._killers: dict[str, str] = {}
        self._kills: Counter[tuple[str, str]] = Counter()
        self._tries: Counter[tuple[str, str]] = Counter()
        killed: Counter[str] = Counter()
        for mutant, test in kills:
            self._killers[mutant.key] = test
            self._count(mutant, test)
            killed.update(_places(mutant))
        for place, test in self._kills:
            self._tries[place, test] = killed[place]  # at most: which tests were tried is not stored

    def of(self, mutant: PythonMutant, tests: list[str]) -> list[str]:
        """The tests that a mutant gets, of those that reach it."""
        near, file = _places(mutant)
        turns = self.reach.turns(tests)

        def gain(test: str) -> float:
            in_file = (self._kills[file, test] + _PRIOR / turns[test]) / (self._tries[file, test] + 1)
            chance = (self._kills[near, test] + _WEIGHT * in_file) / (self._tries[near, test] + _WEIGHT)
            return chance / (_START_S + self.reach.seconds[test])

        tests = sorted(tests, key=lambda test: (test != self._killers.get(mutant.key), -gain(test)))
        return self.reach.within(tests, self._tests_for)

    def is_killed(self, mutant: PythonMutant) -> bool:
        """Whether it was killed before, perhaps with other code or tests."""
        return mutant.key in self._killers

    def note(self, mutant: PythonMutant, tests: list[str], outcome: Mapping[str, Any]) -> None:
        """Takes what became of a mutant that got these tests."""
        killer = outcome.get("test")
        tried = tests[: tests.index(killer) + 1] if killer in tests else tests
        for place in _places(mutant):
            self._tries.update((place, test) for test in tried)
        if killer:
            self._count(mutant, killer)

    def _count(self, mutant: PythonMutant, test: str) -> None:
        for place in _places(mutant):
            self._kills[place, test] += 1


def _places(mutant: PythonMutant) -> tuple[str, str]:
    """The function that a mutant is in, or what the module defines by its statement; and its file."""
    return f"{mutant.file}: {mutant.mutant.function} {sorted(mutant.names)}", mutant.file

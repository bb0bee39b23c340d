"""What stands still and why, as the reconciler's rounds saw it.

The reconciler writes; `/ready` and `/metrics` read, from other threads. Reading never waits for node, database or a
round, so a round that hangs shows as the age of the last good one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


class HealthProblem(NamedTuple):
    """Something that an operator has to know.

    Attributes:
        check: Name of the check that found it.
        message: What is wrong, in a sentence.
        blocks: Whether the service is not ready because of it.
    """

    check: str
    message: str
    blocks: bool


@dataclass(frozen=True)
class HealthLimits:
    """When the service is not ready.

    Attributes:
        round_age: Maximum seconds since the end of the reconciler's last good round.
        cursor_lag: Maximum number of final blocks whose events are not in the rows yet.
        head_age: Maximum seconds without a new block; 0 for a chain that mines on demand only.
        wallet_low: Balance of the platform's wallet in wei below which it needs ether. The service stays ready.
    """

    round_age: float = 60
    cursor_lag: int = 300
    head_age: float = 180
    wallet_low: int = 0


class Health:
    """Records rounds of the reconciler, the chain's head, and what the rounds found.

    Args:
        limits: When the service is not ready.
        clock: Returns seconds; never goes back.
    """

    def __init__(self, limits: HealthLimits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or HealthLimits()
        self._clock = clock
        self._lock = threading.Lock()
        self._good_round_at: float | None = None
        self._failure: str | None = None
        self._problems: tuple[str, ...] = ()
        self._head: int | None = None
        self._head_changed_at = 0.0
        self._findings: dict[str, HealthProblem] = {}
        self.cursor_lag = 0
        self.reopened = self.reorganisations = 0

    # ------------------------------------------------------------------------------------------------ written by rounds

    def started(self) -> None:
        """Records that rounds are due from now on: from here, their age counts."""
        self._good_round_at = self._clock()

    def head_seen(self, number: int) -> None:
        """Records the number of the latest block. A lower one than before, after a reorganisation, is news as well."""
        with self._lock:
            if number != self._head:
                self._head, self._head_changed_at = number, self._clock()

    def round_ended(self, problems: Iterable[str], failure: str | None) -> list[str]:
        """Records a round.

        Args:
            problems: A sentence for each thing that the round could not do.
            failure: Why the round did not reach its end; None for a good round.

        Returns:
            The problems and the failure that are new since the last round, to be logged once.
        """
        problems = tuple(dict.fromkeys(problems))
        with self._lock:
            known = {*self._problems, self._failure}
            self._problems, self._failure = problems, failure
            if failure is None and self._good_round_at is not None:
                self._good_round_at = self._clock()
        return [problem for problem in (failure, *problems) if problem and problem not in known]

    def reorganised(self, reopened: int) -> None:
        """Records a reorganisation deeper than the confirmations, and how many operations it reopened."""
        self.reorganisations += 1
        self.reopened += reopened

    def found(self, check: str, message: str | None, *, blocks: bool = True) -> bool:
        """Records the result of a check.

        Args:
            check: Name of the check.
            message: What is wrong, in a sentence; None if nothing is.
            blocks: Whether the service is not ready because of it.

        Returns:
            Whether it is a problem that is new since the last result, to be logged once.
        """
        with self._lock:
            known = self._findings.pop(check, None)
            if message is None:
                return False
            self._findings[check] = HealthProblem(check, message, blocks)
        return known is None or known.message != message

    # ------------------------------------------------------------------------------------------------ read by requests

    @property
    def round_age(self) -> float | None:
        """Seconds since the end of the last good round, or since the start; None if no rounds are due."""
        return None if self._good_round_at is None else self._clock() - self._good_round_at

    @property
    def round_problems(self) -> int:
        """Number of things that the last round could not do."""
        return len(self._problems) + (self._failure is not None)

    @property
    def head_age(self) -> float | None:
        """Seconds since a new block was seen; None if no block was."""
        return None if self._head is None else self._clock() - self._head_changed_at

    def has_found(self, check: str) -> bool:
        """Returns whether the last result of a check was a problem."""
        return check in self._findings

    def problems(self) -> list[HealthProblem]:
        """Returns all present problems."""
        with self._lock:
            return [*self._round_problems(), *self._head_problems(), *self._findings.values()]

    def _round_problems(self) -> Iterator[HealthProblem]:
        age, limits = self.round_age, self.limits
        if age is not None and age > limits.round_age:
            reason = self._failure or "the round does not end"
            message = f"the last good round ended {age:.0f} s ago: {reason.rstrip('.')}"
            yield HealthProblem("reconciler", message, True)
        elif self.cursor_lag > limits.cursor_lag:
            message = f"the rows are {self.cursor_lag} blocks behind the chain: an operation in such a block is open"
            yield HealthProblem("reconciler", message, True)
        elif self._problems or self._failure:
            first = (self._failure or self._problems[0]).rstrip(".")
            yield HealthProblem("reconciler", f"{self.round_problems} not done in the last round: {first}", False)

    def _head_problems(self) -> Iterator[HealthProblem]:
        age, limit = self.head_age, self.limits.head_age
        if age is not None and limit and age > limit:
            yield HealthProblem("head", f"no block came after block {self._head}, for {age:.0f} s", True)

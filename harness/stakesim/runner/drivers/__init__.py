"""How an action is carried out: on the contract alone, or by a backend.

A driver is the only part of a run that knows the system under test.
"""

from __future__ import annotations

from typing import Protocol

from stakesim.backend import Rows
from stakesim.model.reference import ExpectedOutcome, State
from stakesim.runner.step import ActualOutcome
from stakesim.scenario.actions import Action

CONTRACT = "contract"
"""Name of the driver that needs no backend."""


class Driver(Protocol):
    """Carries out a scenario's actions, one after another."""

    def perform(self, action: Action, expected: ExpectedOutcome, model: State) -> ActualOutcome:
        """Carries out one action and says what came of it.

        Args:
            expected: What the model says must happen; taken from it are only who signs, and what a direct sender sends.
            model: The state before, for the ids on chain.
        """
        ...

    def rows(self) -> Rows | None:
        """What the backend's database holds; None where there is none."""
        ...

    def asks_backend(self, action: Action) -> bool:
        """Whether it is a use case of a backend, which then sends what is to be sent."""
        ...

    def lacks(self, action: Action) -> bool:
        """Whether the system under test has no such use case, so that the action is not played."""
        ...

"""Drivers: each carries out actions in its own way, on the contract alone or through a backend.

A driver is the only part of a run that knows the system under test.
"""

from __future__ import annotations

from typing import Protocol

from stakesim.backend import Rows
from stakesim.model.state import ExpectedOutcome, State
from stakesim.runner.step import ActualOutcome
from stakesim.scenario.actions import Action

CONTRACT = "contract"
"""Name of the driver that needs no backend."""


class Driver(Protocol):
    """Carries out a scenario's actions, one after another.

    Attributes:
        takes_payments: Whether people pay INR for what the platform sends.
    """

    takes_payments: bool

    def perform(self, action: Action, expected: ExpectedOutcome, model: State) -> ActualOutcome:
        """Carries out one action.

        Args:
            action: The action.
            expected: Outcome in the model. A driver reads from it only whether the action is skipped, who acts and
                signs, the price in wei, and the wei that a direct sender sends.
            model: The model before the action, for ids on chain.
        """
        ...

    def rows(self) -> Rows | None:
        """Reads the backend's database; None without a database."""
        ...

    def uses_backend(self, action: Action) -> bool:
        """Whether the action is a use case of the backend, which then sends the transaction."""
        ...

    def is_unsupported(self, action: Action) -> bool:
        """Whether the system under test has no such use case. Such an action is left out."""
        ...

"""Counts of what scenarios reached, which know the names of what is counted."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from stakesim.scenario.actions import Action
from stakesim.scenario.base_action import ErrorName
from stakesim.schema.errors import suggestion

COUNTED_EVENTS = {
    "runs": "EventRunCreated",
    "bookings": "BookingCreated",
    "attended": "BookingCompleted",
    "no-shows": "BookingNoShow",
    "bookings cancelled": "BookingCancelled",
    "runs completed": "EventCompleted",
    "runs cancelled": "EventCancelled",
    "runs expired": "EventExpired",
    "payouts deferred": "PaymentDeferred",
}
"""The contract's event that is counted under a name."""
NOT_SUPPORTED = "not supported: "
"""Begins the names of what contract or backend do not support."""
NAMES = (
    *COUNTED_EVENTS,
    *("payments captured", "payments expired", "payments refunded", "payments disputed"),
    *("ok", "skipped", "rejected", "reverted", "rejected or reverted", "price swing"),
    *(f"action {kind.model_fields['do'].default}" for kind in get_args(Action)),
    *(f"error {name}" for name in get_args(ErrorName)),
)
"""What is counted; errors of other contracts and backends, and what is not supported, come on top."""


class Reached(Counter[str]):
    """How often each action, outcome, status and error occurred. What did not occur is 0, as in any Counter."""

    def __missing__(self, name: str) -> int:
        """Returns 0 for a name of something that is counted.

        Raises:
            KeyError: Nothing is counted under that name, which is misspelt.
        """
        if name in NAMES or name.startswith(NOT_SUPPORTED):
            return 0
        raise KeyError(f"nothing is counted as {name!r}; {suggestion(name, NAMES)}")

"""What must hold after every step of every scenario: INV-01 to INV-23.

An invariant only looks: it sends no transaction and moves no time. Each is a function of one `Step` that yields a
`Violation` for everything that it finds wrong. All invariants are evaluated after each step, and all violations are
reported together. The statements are those of INVARIANTS.md, word for word.
"""

from __future__ import annotations

from stakesim.runner.invariants import (
    actions,
    agreement,
    event_replay,
    lifecycle,
    paid_for,
    payments,
    quotes,
    settlement,
    views,
)
from stakesim.runner.invariants.registry import REGISTERED, Invariant, Violation
from stakesim.runner.step import Step

__all__ = ["INVARIANTS", "Invariant", "Violation", "violations"]

_MODULES = (payments, settlement, lifecycle, actions, agreement, quotes, event_replay, paid_for, views)
"""Importing them registers their invariants."""
INVARIANTS: dict[str, Invariant] = dict(sorted(REGISTERED.items()))
"""All invariants by id, in the order of their ids."""


def violations(step: Step) -> list[tuple[Invariant, Violation]]:
    """Evaluates all invariants on one step."""
    return [(inv, violation) for inv in INVARIANTS.values() for violation in inv.check(step)]

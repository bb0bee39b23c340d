"""The registry of invariants: each function marked with `invariant` is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stakesim.runner.causes import Cause
from stakesim.runner.step import Step
from stakesim.units import BPS


@dataclass(frozen=True)
class Violation:
    """Something that an invariant finds wrong.

    Attributes:
        message: What is wrong.
        expected: The right amount in wei, where it is about an amount.
        actual: The amount found in wei, where it is about an amount.
        party: Whose amount it is.
        cause: What kind of difference it is, for the diagnosis; None for the kinds that no diagnosis asks for.
        about: What it is about, where the invariant is about several things: a view, an event, a way out.
    """

    message: str
    expected: int | None = None
    actual: int | None = None
    party: str | None = None
    cause: Cause | None = None
    about: str = ""


Check = Callable[[Step], Iterator[Violation]]


@dataclass(frozen=True)
class Invariant:
    """What must hold, as INVARIANTS.md states it, and the function that checks it."""

    id: str
    title: str
    statement: str
    check: Check


REGISTERED: dict[str, Invariant] = {}
"""Invariants by id, in the order in which their modules were imported."""


def invariant(invariant_id: str, title: str, statement: str) -> Callable[[Check], Check]:
    """Registers the decorated function as the check of an invariant."""

    def register(check: Check) -> Check:
        REGISTERED[invariant_id] = Invariant(invariant_id, title, statement, check)
        return check

    return register


def stake_of(wei: int, step: Step) -> int:
    """Stake in wei on a price or payment in wei: floor(wei x stake share), by the terms of the contract."""
    return wei * step.model.terms.stake_bps // BPS


def action_name(step: Step) -> str:
    """The step's action in words: `create run`."""
    return step.action.do.replace("_", " ")

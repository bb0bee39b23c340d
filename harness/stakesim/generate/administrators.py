"""The agents that change who acts for the platform, or stop what is new, for a while.

The backend has no part in these actions. Whoever acts for the platform meanwhile goes past it, with their own key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from stakesim.generate.draws import draw_between, pick
from stakesim.scenario.actions import (
    PLATFORM,
    Action,
    Book,
    CancelBooking,
    CancelRun,
    Complete,
    Expire,
    WithdrawFees,
)
from stakesim.scenario.administration import AcceptOwnership, Pause, SetOperator, TransferOwnership, Unpause
from stakesim.units import DAY, HOUR

if TYPE_CHECKING:
    from numpy.random import Generator

    from stakesim.generate.agents import RunPlan

DEPUTY = "deputy"
"""An actor with a key of their own, who is operator or owner for a while."""


def administration_actions(rng: Generator, plans: Sequence[RunPlan]) -> Iterator[Action]:
    """A pause, an operator, and a handover of the ownership, each at most once, in the course of any of the runs."""
    drawn = [agent for agent in (_pause, _deputise, _hand_over) if rng.random() < plans[0].profile.administration]
    for agent in drawn:
        yield from agent(rng, pick(rng, plans))
    for plan in plans if drawn else ():  # whose own closing may have failed
        yield Expire(at=plan.deadline + 3 * DAY, run=plan.run, by=DEPUTY, direct=True)


def _pause(rng: Generator, plan: RunPlan) -> Iterator[Action]:
    """The owner pauses new runs and bookings, and ends the pause before the start."""
    begin, end = _while_open(rng, plan)
    yield Pause(at=begin)
    yield Unpause(at=end)


def _deputise(rng: Generator, plan: RunPlan) -> Iterator[Action]:
    """An operator does what one may, tries what one may not, is dismissed, and tries what one may."""
    begin, end = _while_open(rng, plan)
    earliest, latest = begin + 1, end - 1
    if rng.random() < 0.5:  # long enough to complete the run, and soon, before its host does
        earliest, latest, end = plan.start, plan.start + HOUR - 1, plan.start + 2 * DAY
    yield SetOperator(at=begin, operator=DEPUTY)
    yield _as_platform(rng, plan, draw_between(rng, earliest, latest), f"{plan.run}-operator")
    yield pick(rng, _AS_OWNER).model_copy(update={"at": draw_between(rng, begin + 1, end - 1)})
    yield SetOperator(at=end, operator=DEPUTY, allowed=False)
    yield _as_platform(rng, plan, end + draw_between(rng, 1, DAY), f"{plan.run}-dismissed")


def _hand_over(rng: Generator, plan: RunPlan) -> Iterator[Action]:
    """The ownership passes to the deputy, and back. Meanwhile the platform's own account acts for nobody."""
    begin, end = _while_open(rng, plan)
    yield TransferOwnership(at=begin, to=DEPUTY)
    yield AcceptOwnership(at=begin + 1, by=DEPUTY)
    yield _as_platform(rng, plan, draw_between(rng, begin + 2, end - 1), f"{plan.run}-owner")
    yield TransferOwnership(at=end, by=DEPUTY, to=PLATFORM)
    yield AcceptOwnership(at=end + 1)


def _while_open(rng: Generator, plan: RunPlan) -> tuple[int, int]:
    """Two times between the run's creation and its start, one in each half."""
    middle = (plan.created + plan.start) // 2
    return draw_between(rng, plan.created + 60, middle), draw_between(rng, middle + 60, plan.start - 60)


def _as_platform(rng: Generator, plan: RunPlan, at: int, label: str) -> Action:
    """What the deputy may do for others while they act for the platform.

    Args:
        rng: The source of randomness.
        plan: Of the run that it is about.
        at: When it is done, in seconds from the scenario's start.
        label: Of the booking, if it makes one.
    """
    candidates: list[Action] = [
        Complete(at=at, run=plan.run, attended=plan.attending, by=DEPUTY, direct=True)
        if at >= plan.start
        else CancelRun(at=at, run=plan.run, by=DEPUTY, direct=True),
    ]
    if plan.attendees:
        attendee = pick(rng, plan.attendees)
        candidates += [
            CancelBooking(at=at, booking=attendee.booking, by=DEPUTY, direct=True),
            Book(at=at, booking=label, run=plan.run, by=attendee.name, seats=1, direct=True, paid_by=DEPUTY),
        ]
    return pick(rng, candidates)


_AS_OWNER: tuple[Action, ...] = (
    WithdrawFees(by=DEPUTY, direct=True),
    Pause(by=DEPUTY),
    SetOperator(by=DEPUTY, operator=DEPUTY),
    TransferOwnership(by=DEPUTY, to=DEPUTY),
    AcceptOwnership(by=DEPUTY),
)
"""What only the owner may do."""

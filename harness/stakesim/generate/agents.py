"""The agents of a random scenario: hosts, attendees, the platform, and hostile outsiders.

Each agent is a function of a random generator and a plan, and returns its intended actions with their times. An agent
sees neither the chain nor any outcome; the reference model decides how an action ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stakesim.generate import hostile_actions as hostile
from stakesim.generate.draws import draw_between, pick
from stakesim.generate.hostile_actions import HostileKind, price_faults
from stakesim.generate.profiles import Profile
from stakesim.model.rules import MAX_SEATS
from stakesim.scenario.actions import (
    PLATFORM,
    Action,
    Book,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    SetPrice,
    Withdraw,
    WithdrawFees,
)
from stakesim.units import DAY, HOUR

if TYPE_CHECKING:
    from decimal import Decimal

    from numpy.random import Generator

OUTSIDER = "outsider"
"""An actor with a key of their own who hosts no run and books no seat."""


@dataclass(frozen=True)
class RunPlan:
    """What is decided about a run before the scenario begins. Times are seconds from the scenario's start.

    Attributes:
        profile: The profile that the plan is drawn from.
        run: The run's label.
        host: The host's name.
        created: When the host creates the run.
        start: When the event starts.
        seats: Seats of the run.
        price_inr: Price of a seat in INR.
        rate: The market's rate at the scenario's start, in INR per ETH.
        attendees: The plans of everybody who tries to book.
        creditors: Names of the receivers that refuse ether, who may end up with a credit.
        other_bookings: Labels of the bookings of other runs.
    """

    profile: Profile
    run: str
    host: str
    created: int
    start: int
    seats: int
    price_inr: Decimal
    rate: Decimal
    attendees: Sequence[AttendeePlan] = ()
    creditors: Sequence[str] = ()
    other_bookings: Sequence[str] = ()

    @property
    def cutoff(self) -> int:
        """The last second at which a booking can be cancelled."""
        return self.start - self.profile.terms.cancellation_cutoff

    @property
    def deadline(self) -> int:
        """The first second at which the run can expire, and can't be completed any more."""
        return self.start + self.profile.terms.completion_grace

    @property
    def attending(self) -> tuple[str, ...]:
        """Labels of the bookings whose attendees intend to attend."""
        return tuple(plan.booking for plan in self.attendees if plan.intends_to_attend)


@dataclass(frozen=True)
class AttendeePlan:
    """What an attendee intends to do. Times are seconds from the scenario's start.

    Attributes:
        name: The attendee's name.
        booking: The label of their booking.
        books_at: When they book.
        seats: How many seats they book.
        cancels_at: When they cancel the booking; None if they do not.
        intends_to_attend: Whether they turn up. An attendee who neither cancels nor attends is a no-show.
    """

    name: str
    booking: str
    books_at: int
    seats: int
    cancels_at: int | None
    intends_to_attend: bool


def plan_attendee(rng: Generator, plan: RunPlan, name: str, booking: str) -> AttendeePlan:
    """Draws what an attendee of the run intends to do."""
    profile = plan.profile
    books_at = draw_between(rng, plan.created + 60, plan.start - 60)
    cancels_at = None
    if rng.random() < profile.attendee_cancels:
        if rng.random() < profile.cancels_late:
            cancels_at = draw_between(rng, plan.cutoff + 1, plan.start + HOUR)
        else:
            books_at = draw_between(rng, plan.created + 60, max(plan.cutoff - HOUR, plan.created + 60))
            cancels_at = draw_between(rng, books_at + 1, max(plan.cutoff, books_at + 1))
    intends_to_attend = cancels_at is None and rng.random() >= profile.no_show
    seats = draw_between(rng, *profile.seats_wanted)
    return AttendeePlan(name, booking, books_at, seats, cancels_at, intends_to_attend)


# Agents


def attendee_actions(attendee: AttendeePlan, plan: RunPlan) -> Iterator[Action]:
    """An attendee books, and may cancel."""
    yield Book(at=attendee.books_at, booking=attendee.booking, run=plan.run, by=attendee.name, seats=attendee.seats)
    if attendee.cancels_at is not None:
        yield CancelBooking(at=max(attendee.cancels_at, attendee.books_at + 1), booking=attendee.booking)


def host_actions(rng: Generator, plan: RunPlan) -> Iterator[Action]:
    """The host opens the run and later completes it, cancels it, or forgets it, so that it expires."""
    yield CreateRun(
        at=plan.created, run=plan.run, by=plan.host, price_inr=plan.price_inr, seats=plan.seats, starts=plan.start
    )
    ending = rng.random()
    if ending < plan.profile.host_cancels:
        yield CancelRun(at=draw_between(rng, plan.created + HOUR, plan.start - 1), run=plan.run)
    elif ending < plan.profile.host_cancels + plan.profile.never_completed:
        yield Expire(at=plan.deadline + draw_between(rng, 0, 2 * DAY), run=plan.run)
    else:
        latest = min(DAY, plan.profile.terms.completion_grace // 2)
        yield Complete(at=plan.start + draw_between(rng, 0, latest), run=plan.run, attended=plan.attending)


def credit_actions(rng: Generator, plan: RunPlan) -> Iterator[Action]:
    """Receivers that refuse ether withdraw their credit, first to themselves, then to somebody who takes it."""
    at = plan.deadline + 3 * DAY
    for creditor in plan.creditors:
        yield Withdraw(at=at + draw_between(rng, 0, HOUR), by=creditor)
        yield Withdraw(at=at + draw_between(rng, 2 * HOUR, DAY), by=creditor, to=OUTSIDER)


def fee_actions(rng: Generator, plan: RunPlan) -> Iterator[Action]:
    """The platform may withdraw its fees, also while other runs are open."""
    if rng.random() < 0.5:
        yield WithdrawFees(at=draw_between(rng, plan.start, plan.deadline + DAY))


def bad_price_actions(rng: Generator, plan: RunPlan) -> Iterator[Action]:
    """The price feed may become faulty 30 seconds before somebody books, and is repaired 10 minutes after."""
    if not plan.attendees or rng.random() >= plan.profile.bad_feed:
        return
    at = pick(rng, plan.attendees).books_at
    faults = [*price_faults(str(plan.rate)).values()]
    yield hostile.bad_price(pick(rng, faults), at - 30)
    yield SetPrice(at=at + 600, inr_per_eth=str(plan.rate))


# Hostile agents: each draws one action of its kind


def _wrong_caller(rng: Generator, plan: RunPlan) -> Action:
    at = draw_between(rng, plan.created + 60, plan.deadline - 1)
    direct = bool(rng.random() < 0.5)
    choice = int(rng.integers(3))
    if choice == 0 and plan.attendees:
        return hostile.cancel_booking(pick(rng, plan.attendees).booking, OUTSIDER, direct=direct, at=at)
    if choice == 1:
        return hostile.complete_run(plan.run, OUTSIDER, (), direct=direct, at=at)
    return hostile.cancel_run(plan.run, OUTSIDER, direct=direct, at=at)


def _wrong_value(rng: Generator, plan: RunPlan) -> Action:
    at = draw_between(rng, plan.created + 60, plan.start - 1)
    value_off = int(rng.choice([-1, 1, 10**15]))
    label = f"{plan.run}-cheap"
    if rng.random() < 0.3:
        return hostile.wrong_value_for_run(
            label, OUTSIDER, value_off, price_inr=plan.price_inr, seats=plan.seats, starts=plan.start, at=at
        )
    return hostile.wrong_value_for_booking(label, plan.run, OUTSIDER, value_off, at=at)


def _wrong_list(rng: Generator, plan: RunPlan) -> Action:
    """Reports a cancelled booking or one of another run as attended, or one booking twice."""
    at = plan.start + draw_between(rng, 0, HOUR)
    booking = pick(rng, plan.attendees).booking if plan.attendees else None
    wrong_bookings = [*plan.other_bookings, *(a.booking for a in plan.attendees if a.cancels_at is not None)]
    if wrong_bookings and rng.random() < 0.7:
        return hostile.wrong_list(plan.run, (pick(rng, wrong_bookings),), at=at)
    return hostile.wrong_list(plan.run, (booking, booking) if booking else (), at=at)


def _on_the_edge(rng: Generator, plan: RunPlan) -> Action:
    offset = draw_between(rng, -1, 1)
    candidates: list[Action] = [
        Book(at=plan.start + offset, booking=f"{plan.run}-late", run=plan.run, by=OUTSIDER, seats=1),
        CancelRun(at=plan.start + offset, run=plan.run, by=plan.host),
        Complete(at=plan.start + offset, run=plan.run, attended=plan.attending),
        Expire(at=plan.deadline + offset, run=plan.run, by=OUTSIDER),
    ]
    absent = [attendee for attendee in plan.attendees if not attendee.intends_to_attend]
    if absent:
        candidates.append(CancelBooking(at=max(plan.cutoff + offset, 0), booking=absent[0].booking))
    return pick(rng, candidates)


def _twice(rng: Generator, plan: RunPlan) -> Action:
    candidates: list[Action] = [
        Complete(at=plan.start + 2 * DAY, run=plan.run, by=PLATFORM, attended=()),
        CancelRun(at=plan.deadline + 3 * DAY, run=plan.run, by=PLATFORM),
        Expire(at=plan.deadline + 3 * DAY, run=plan.run),
    ]
    candidates += [
        CancelBooking(at=attendee.cancels_at + HOUR, booking=attendee.booking)
        for attendee in plan.attendees
        if attendee.cancels_at is not None
    ]
    return pick(rng, candidates)


def _grab_fees(rng: Generator, plan: RunPlan) -> Action:
    at = draw_between(rng, plan.start, plan.deadline)
    return hostile.grab_fees(OUTSIDER, direct=bool(rng.random() < 0.5), at=at)


def _grab_credit(rng: Generator, plan: RunPlan) -> Action:
    return hostile.grab_credit(OUTSIDER, at=draw_between(rng, plan.created + 60, plan.deadline))


def _force_ether(rng: Generator, plan: RunPlan) -> Action:
    at = draw_between(rng, plan.created, plan.deadline)
    return hostile.force_ether(OUTSIDER, draw_between(rng, 1, 10**17), at=at)


def _impossible_run(rng: Generator, plan: RunPlan) -> Action:
    at = draw_between(rng, plan.created + 60, plan.deadline)
    faults = hostile.run_faults(at)
    return hostile.impossible_run(f"{plan.run}-impossible", OUTSIDER, pick(rng, faults), at=at)


def _impossible_booking(rng: Generator, plan: RunPlan) -> Action:
    at = draw_between(rng, plan.created + 60, plan.deadline)
    seats = (0, MAX_SEATS + 1)[int(rng.integers(2))]
    return hostile.impossible_booking(f"{plan.run}-impossible", plan.run, OUTSIDER, seats, at=at)


HOSTILE_AGENTS: Mapping[HostileKind, Callable[[Generator, RunPlan], Action]] = {
    "wrong_caller": _wrong_caller,
    "wrong_value": _wrong_value,
    "wrong_list": _wrong_list,
    "on_the_edge": _on_the_edge,
    "twice": _twice,
    "grab_fees": _grab_fees,
    "grab_credit": _grab_credit,
    "force_ether": _force_ether,
    "impossible_run": _impossible_run,
    "impossible_booking": _impossible_booking,
}


def hostile_agent_actions(rng: Generator, plan: RunPlan) -> Iterator[Action]:
    """Hostile actions, on average as many as the profile's `mischief`; each kind at most once for a run."""
    kinds = plan.profile.kinds
    count = min(int(rng.poisson(plan.profile.mischief)), len(kinds))
    for index in sorted(rng.choice(len(kinds), size=count, replace=False)) if count else ():
        yield HOSTILE_AGENTS[kinds[int(index)]](rng, plan)

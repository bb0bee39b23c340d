"""Who takes part in a random scenario. Each agent is a function of its chance and what it sees, and returns intents:
actions with the time at which it would take them. It sees no chain and no outcome; what comes of an intent is for the
model to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stakesim.generate.profiles import HostileKind, Profile
from stakesim.scenario.actions import (
    PLATFORM,
    Action,
    Book,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    ForceEther,
    SetPrice,
    Withdraw,
    WithdrawFees,
)

if TYPE_CHECKING:
    from decimal import Decimal

    from numpy.random import Generator

HOUR, DAY = 3_600, 86_400
OUTSIDER = "outsider"
"""Hosts nothing, books nothing, has a key of its own."""


@dataclass(frozen=True)
class View:
    """What everybody can see of a run: times in seconds from the scenario's start."""

    profile: Profile
    run: str
    host: str
    created: int
    start: int
    seats: int
    price_inr: Decimal
    rate: Decimal
    visits: Sequence[Visit] = ()
    creditors: Sequence[str] = ()
    elsewhere: Sequence[str] = ()
    """Bookings of other runs."""

    @property
    def cutoff(self) -> int:
        """The last second to cancel a booking."""
        return self.start - self.profile.terms.cancellation_cutoff

    @property
    def deadline(self) -> int:
        """The first second at which the run can't be completed any more, but can expire."""
        return self.start + self.profile.terms.completion_grace


@dataclass(frozen=True)
class Visit:
    """What an attendee is up to. cancels: when they mean to cancel; who neither cancels nor comes is a no-show."""

    attendee: str
    booking: str
    books: int
    seats: int
    cancels: int | None
    comes: bool


def between(rng: Generator, ends: tuple[int, int]) -> int:
    return int(rng.integers(ends[0], ends[1], endpoint=True))


def plan_visit(rng: Generator, view: View, attendee: str, booking: str) -> Visit:
    """An attendee's mind, made up beforehand."""
    profile = view.profile
    books = between(rng, (view.created + 60, view.start - 60))
    cancels = None
    if rng.random() < profile.attendee_cancels:
        if rng.random() < profile.cancels_late:
            cancels = between(rng, (view.cutoff + 1, view.start + HOUR))
        else:
            books = between(rng, (view.created + 60, max(view.cutoff - HOUR, view.created + 60)))
            cancels = between(rng, (books + 1, max(view.cutoff, books + 1)))
    comes = cancels is None and rng.random() >= profile.no_show
    return Visit(attendee, booking, books, between(rng, profile.seats_wanted), cancels, comes)


def attend(visit: Visit, view: View) -> Iterator[Action]:
    yield Book(at=visit.books, booking=visit.booking, run=view.run, by=visit.attendee, seats=visit.seats)
    if visit.cancels is not None:
        yield CancelBooking(at=max(visit.cancels, visit.books + 1), booking=visit.booking)


def host(rng: Generator, view: View) -> Iterator[Action]:
    """Opens the run and in the end completes it, calls it off, or forgets it, so that somebody lets it expire."""
    yield CreateRun(
        at=view.created, run=view.run, by=view.host, price_inr=view.price_inr, seats=view.seats, starts=view.start
    )
    fate = rng.random()
    if fate < view.profile.host_cancels:
        yield CancelRun(at=between(rng, (view.created + HOUR, view.start - 1)), run=view.run)
    elif fate < view.profile.host_cancels + view.profile.never_completed:
        yield Expire(at=view.deadline + between(rng, (0, 2 * DAY)), run=view.run)
    else:
        attended = tuple(visit.booking for visit in view.visits if visit.comes)
        within = view.profile.terms.completion_grace
        yield Complete(at=view.start + between(rng, (0, min(DAY, within // 2))), run=view.run, attended=attended)


def collect_credits(rng: Generator, view: View) -> Iterator[Action]:
    """Receivers that took no push ask for their credit, first to themselves, then to somebody who can take it."""
    at = view.deadline + 3 * DAY
    for creditor in view.creditors:
        yield Withdraw(at=at + between(rng, (0, HOUR)), by=creditor)
        yield Withdraw(at=at + between(rng, (2 * HOUR, DAY)), by=creditor, to=OUTSIDER)


def collect_fees(rng: Generator, view: View) -> Iterator[Action]:
    """The platform takes out what it earned, at times while other runs are open."""
    if rng.random() < 0.5:
        yield WithdrawFees(at=between(rng, (view.start, view.deadline + DAY)))


def bad_feed(rng: Generator, view: View) -> Iterator[Action]:
    """The feed says nonsense just before somebody books, and comes to its senses soon after."""
    if not view.visits or rng.random() >= view.profile.bad_feed:
        return
    at = view.visits[int(rng.integers(len(view.visits)))].books
    sane = str(view.rate)
    nonsense = [("0", 0), ("-1", 0), ("NaN", 0), ("Infinity", 0), (sane, 2 * HOUR), (str(view.rate * 10), 0)]
    rate, age = nonsense[int(rng.integers(len(nonsense)))]
    yield SetPrice(at=at - 30, inr_per_eth=rate, age=age)
    yield SetPrice(at=at + 600, inr_per_eth=sane)


# Mischief: each kind is one hostile action


def _wrong_caller(rng: Generator, view: View) -> Action:
    """An outsider meddles with a run or a booking, now and then as if the service were not there."""
    at = between(rng, (view.created + 60, view.deadline - 1))
    direct = bool(rng.random() < 0.5)
    choice = int(rng.integers(3))
    if choice == 0 and view.visits:
        return CancelBooking(at=at, booking=_somebody(rng, view).booking, by=OUTSIDER, direct=direct)
    if choice == 1:
        return Complete(at=at, run=view.run, by=OUTSIDER, attended=(), direct=direct)
    return CancelRun(at=at, run=view.run, by=OUTSIDER, direct=direct)


def _wrong_value(rng: Generator, view: View) -> Action:
    """A run or a booking for a little too much or too little."""
    at = between(rng, (view.created + 60, view.start - 1))
    off = int(rng.choice([-1, 1, 10**15]))
    if rng.random() < 0.3:
        return CreateRun(
            at=at,
            run=f"{view.run}-cheap",
            by=OUTSIDER,
            price_inr=view.price_inr,
            seats=view.seats,
            starts=view.start,
            value_off=off,
            direct=True,
        )
    return Book(at=at, booking=f"{view.run}-cheap", run=view.run, by=OUTSIDER, seats=1, value_off=off, direct=True)


def _wrong_list(rng: Generator, view: View) -> Action:
    """The host ticks somebody off twice, or somebody who booked another run, or who cancelled."""
    at = view.start + between(rng, (0, HOUR))
    booking = _somebody(rng, view).booking if view.visits else None
    wrong = [*view.elsewhere, *(visit.booking for visit in view.visits if visit.cancels is not None)]
    if wrong and rng.random() < 0.7:
        return Complete(at=at, run=view.run, attended=(wrong[int(rng.integers(len(wrong)))],))
    return Complete(at=at, run=view.run, attended=(booking, booking) if booking else ())


def _on_the_edge(rng: Generator, view: View) -> Action:
    """Something that is possible until, or from, a certain second: one second before it, at it, or one after."""
    off = between(rng, (-1, 1))
    booking = f"{view.run}-late"
    edges: list[Action] = [
        Book(at=view.start + off, booking=booking, run=view.run, by=OUTSIDER, seats=1),
        CancelRun(at=view.start + off, run=view.run, by=view.host),
        Complete(at=view.start + off, run=view.run, attended=tuple(v.booking for v in view.visits if v.comes)),
        Expire(at=view.deadline + off, run=view.run, by=OUTSIDER),
    ]
    absent = [visit for visit in view.visits if not visit.comes]
    if absent:
        edges.append(CancelBooking(at=max(view.cutoff + off, 0), booking=absent[0].booking))
    return edges[int(rng.integers(len(edges)))]


def _twice(rng: Generator, view: View) -> Action:
    """What is final is asked for again."""
    again: list[Action] = [
        Complete(at=view.start + 2 * DAY, run=view.run, by=PLATFORM, attended=()),
        CancelRun(at=view.deadline + 3 * DAY, run=view.run, by=PLATFORM),
        Expire(at=view.deadline + 3 * DAY, run=view.run),
    ]
    again += [CancelBooking(at=v.cancels + HOUR, booking=v.booking) for v in view.visits if v.cancels is not None]
    return again[int(rng.integers(len(again)))]


def _grab_fees(rng: Generator, view: View) -> Action:
    at = between(rng, (view.start, view.deadline))
    return WithdrawFees(at=at, by=OUTSIDER, direct=bool(rng.random() < 0.5))


def _grab_credit(rng: Generator, view: View) -> Action:
    return Withdraw(at=between(rng, (view.created + 60, view.deadline)), by=OUTSIDER)


def _force_ether(rng: Generator, view: View) -> Action:
    return ForceEther(at=between(rng, (view.created, view.deadline)), by=OUTSIDER, wei=between(rng, (1, 10**17)))


def _somebody(rng: Generator, view: View) -> Visit:
    return view.visits[int(rng.integers(len(view.visits)))]


MISCHIEF: Mapping[HostileKind, Callable[[Generator, View], Action]] = {
    "wrong_caller": _wrong_caller,
    "wrong_value": _wrong_value,
    "wrong_list": _wrong_list,
    "on_the_edge": _on_the_edge,
    "twice": _twice,
    "grab_fees": _grab_fees,
    "grab_credit": _grab_credit,
    "force_ether": _force_ether,
}


def mischief(rng: Generator, view: View) -> Iterator[Action]:
    """So many hostile actions as the profile has on average, each kind at most once a run."""
    kinds = view.profile.kinds
    count = min(int(rng.poisson(view.profile.mischief)), len(kinds))
    for index in sorted(rng.choice(len(kinds), size=count, replace=False)) if count else ():
        yield MISCHIEF[kinds[int(index)]](rng, view)

"""INV-10 to INV-13: terms, status and seats of runs and bookings, and that every run can be closed."""

from __future__ import annotations

from collections.abc import Iterator

from stakesim.model.state import BookingStatus, RunStatus
from stakesim.runner.invariants.registry import Violation, invariant
from stakesim.runner.step import Step

_RUN_TERMS = ("host", "experience", "price", "max_seats", "host_stake", "start", "created_at")
_FROM_OPEN = frozenset(RunStatus) - {RunStatus.CREATED}
_RUN_TRANSITIONS = {RunStatus.ACTIVE: _FROM_OPEN, RunStatus.FULL: _FROM_OPEN}
"""Allowed next statuses of a run by status; a status that is not here is final."""


@invariant("INV-10", "terms frozen", "the terms of a run never change")
def _terms_frozen(s: Step) -> Iterator[Violation]:
    if s.after.terms != s.initial.terms:
        yield Violation(f"the contract's terms were {s.initial.terms} and are {s.after.terms}")
    for run_id, before in s.before.runs.items():
        after = s.after.runs.get(run_id)
        if after is None or after is before:
            continue
        for name in _RUN_TERMS:
            old, new = getattr(before, name), getattr(after, name)
            if new != old:
                yield Violation(f"run {run_id}: {name} was {old} and is {new}")


@invariant(
    "INV-11",
    "liveness",
    "every open run can still be closed, and every credit withdrawn, whatever receivers do (checked at the end on a "
    "snapshot)",
)
def _liveness(s: Step) -> Iterator[Violation]:
    for blocked in s.blocked_exits:
        yield Violation(blocked.message, blocked.locked, blocked.obtained, blocked.party, blocked.cause, blocked.way)


@invariant("INV-12", "transitions", "final is final: only the allowed status transitions happen")
def _transitions(s: Step) -> Iterator[Violation]:
    for run_id, run in s.after.runs.items():
        old = s.before.runs[run_id].status if run_id in s.before.runs else RunStatus.ACTIVE
        if run.status != old and run.status not in _RUN_TRANSITIONS.get(RunStatus(old), ()):
            yield Violation(f"run {run_id} went from {RunStatus(old).name} to {RunStatus(run.status).name}")
        if run.stake_withdrawn == run.open and not (run.open is False and s.model.pays_by_credit):
            status = RunStatus(run.status).name
            yield Violation(f"run {run_id} is {status}, hostStakeWithdrawn {run.stake_withdrawn}")
    for booking_id, booking in s.after.bookings.items():
        old = s.before.bookings[booking_id].status if booking_id in s.before.bookings else BookingStatus.ACTIVE
        if booking.status != old and old != BookingStatus.ACTIVE:
            new = BookingStatus(booking.status).name
            yield Violation(f"booking {booking_id} went from {BookingStatus(old).name} to {new}")
        if booking.run_id in s.after.runs and booking.active and not s.after.runs[booking.run_id].open:
            yield Violation(f"booking {booking_id} is still active, its run is final")


@invariant(
    "INV-13",
    "seats",
    "0 <= booked <= max; booked = sum over active bookings; Full exactly when equal",
)
def _seats(s: Step) -> Iterator[Violation]:
    for run_id, run in s.after.runs.items():
        if not 0 <= run.seats_booked <= run.max_seats:
            yield Violation(f"run {run_id}: {run.seats_booked} of {run.max_seats} seats are booked")
        if not run.open:
            continue
        active = sum(booking.seats for booking in s.after.active_bookings_of(run_id))
        if run.seats_booked != active:
            yield Violation(f"run {run_id}: {run.seats_booked} seats booked, active bookings hold {active}")
        if (run.status == RunStatus.FULL) != (run.seats_booked == run.max_seats):
            status = RunStatus(run.status).name
            yield Violation(f"run {run_id} is {status} with {run.seats_booked} of {run.max_seats} seats booked")

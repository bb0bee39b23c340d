"""INV-19: a replay of the contract's events gives the contract's state."""

from __future__ import annotations

from collections.abc import Iterator

from stakesim.runner.invariants.registry import Violation, invariant
from stakesim.runner.step import Step
from stakesim.scenario.actions import PLATFORM


@invariant("INV-19", "replay", "replaying the contract's events from zero gives the contract's state")
def _replay(s: Step) -> Iterator[Violation]:
    for event in s.replay.impossible:
        args = ", ".join(f"{name} {value}" for name, value in event.args.items())
        yield Violation(f"the event {event.name} is about something that does not exist or was closed already: {args}")
    for amount in s.replay.wrong_amounts:
        yield Violation(amount.name, amount.due, amount.logged)
    yield from _runs_agree(s)
    yield from _bookings_agree(s)
    if s.after.terms:
        yield from _credits_agree(s)


def _runs_agree(s: Step) -> Iterator[Violation]:
    replayed, views = s.replay.runs, s.after.runs
    for run_id in replayed.keys() | views.keys():
        run, view = replayed.get(run_id), views.get(run_id)
        by_events = (run.host, run.price, run.max_seats, run.host_stake, run.status) if run else None
        in_contract = (view.host, view.price, view.max_seats, view.host_stake, view.status) if view else None
        if by_events != in_contract:
            yield Violation(f"run {run_id}: the events say {by_events}, the contract {in_contract}")
        elif view and view.open and (seats := s.replay.seats_booked(run_id)) != view.seats_booked:
            yield Violation(f"run {run_id}: {seats} seats by the events, {view.seats_booked} in the contract")


def _bookings_agree(s: Step) -> Iterator[Violation]:
    replayed, views = s.replay.bookings, s.after.bookings
    for booking_id in replayed.keys() | views.keys():
        booking, view = replayed.get(booking_id), views.get(booking_id)
        by_events = tuple(booking) if booking else None
        in_contract = view[1:7] if view else None
        if by_events != in_contract:
            yield Violation(f"booking {booking_id}: the events say {by_events}, the contract {in_contract}")


def _credits_agree(s: Step) -> Iterator[Violation]:
    platform_balance = s.replay.platform_balance
    if platform_balance != s.after.platform_balance:
        yield Violation("the platform's balance by the events", platform_balance, s.after.platform_balance, PLATFORM)
    for party, credit in s.after.credits.items():
        by_events = s.replay.credits.get(party, 0)
        if by_events != credit:
            yield Violation(f"{party}'s credit by the events", by_events, credit, party)

"""INV-19: a replay of the contract's events gives the contract's state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from stakesim.model.state import readable
from stakesim.runner.event_replay import ReplayedBooking, ReplayedRun
from stakesim.runner.invariants.registry import Violation, invariant
from stakesim.runner.observe import Roles
from stakesim.runner.step import Step
from stakesim.scenario.actions import PLATFORM


@invariant(
    "INV-19",
    "replay",
    "replaying the contract's events from zero gives the contract's whole state (who, when, how much, roles, terms, "
    "pause), and every amount in an event is the amount that moved",
)
def _replay(s: Step) -> Iterator[Violation]:
    for event in s.replay.impossible:
        args = ", ".join(f"{name} {value}" for name, value in event.args.items())
        message = f"the event {event.name} is about something that does not exist or was closed already: {args}"
        yield Violation(message, about=event.name)
    for amount in s.replay.wrong_amounts:
        yield Violation(amount.name, amount.due, amount.logged, about=amount.name)
    yield from _wrong_events(s)
    yield from _runs_agree(s)
    yield from _bookings_agree(s)
    if s.after.terms:
        yield from _credits_agree(s)
    yield from _roles_agree(s)


def _wrong_events(s: Step) -> Iterator[Violation]:
    """Compares what a step logged with what the rules say, in whatever order."""
    if not (s.ok and s.model.full_interface):
        return
    due = Counter([(name, *map(readable, values)) for name, *values in s.expected.events])
    events = (event for transaction in s.transactions for event in transaction.events)
    logged = Counter([(event.name, *event.args.values()) for event in events])
    for (name, *values), times in (due - logged).items():
        yield Violation(f"the event {name} {values} must be logged, and is not{_times(times)}")
    for (name, *values), times in (logged - due).items():
        yield Violation(f"the event {name} {values} is logged, and must not be{_times(times)}")


def _times(count: int) -> str:
    return f" ({count} times)" if count > 1 else ""


def _runs_agree(s: Step) -> Iterator[Violation]:
    replayed, views = s.replay.runs, s.after.runs
    for run_id in replayed.keys() | views.keys():
        run, view = replayed.get(run_id), views.get(run_id)
        if run is not None and view is not None and s.after.terms is None:  # no event says the start
            run = run._replace(start=view.start)
        in_contract = view and ReplayedRun(
            view.host,
            view.experience,
            view.price,
            view.max_seats,
            view.host_stake,
            view.created_at,
            view.start,
            view.seats_booked,
            view.status,
        )
        if run != in_contract:
            yield Violation(f"run {run_id}: the events say {run}, the contract {in_contract}", about="run")


def _bookings_agree(s: Step) -> Iterator[Violation]:
    replayed, views = s.replay.bookings, s.after.bookings
    for booking_id in replayed.keys() | views.keys():
        booking, view = replayed.get(booking_id), views.get(booking_id)
        in_contract = view and ReplayedBooking(
            view.run_id, view.user, view.seats, view.payment, view.stake, view.booked_at, view.status
        )
        if booking != in_contract:
            message = f"booking {booking_id}: the events say {booking}, the contract {in_contract}"
            yield Violation(message, about="booking")


def _credits_agree(s: Step) -> Iterator[Violation]:
    platform_balance = s.replay.platform_balance
    if platform_balance != s.after.platform_balance:
        wei = (platform_balance, s.after.platform_balance)
        yield Violation("the platform's balance by the events", *wei, PLATFORM, about="platformBalance")
    for party, credit in s.after.credits.items():
        by_events = s.replay.credits.get(party, 0)
        if by_events != credit:
            yield Violation(f"{party}'s credit by the events", by_events, credit, party, about="credits")


def _roles_agree(s: Step) -> Iterator[Violation]:
    """Compares what the contract says of itself, where it does, with its events since its deployment."""
    replay, roles, terms = s.replay, s.after.roles, s.after.terms
    operators = frozenset(replay.operators) & s.after.wallets.keys()
    by_events = Roles(replay.owner or "", replay.pending_owner, operators, replay.paused)
    if roles is not None and roles != by_events:
        yield Violation(f"the events say {by_events}, the contract {roles}", about="roles")
    if terms is not None and replay.terms != tuple(terms):
        yield Violation(f"the events say the terms {replay.terms}, the contract {tuple(terms)}", about="terms")

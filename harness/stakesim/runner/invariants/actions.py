"""INV-14, INV-15, INV-17 and INV-20: what one action may do, and what it may cost."""

from __future__ import annotations

from collections.abc import Iterator

from stakesim.backend import Rows
from stakesim.runner.causes import Cause
from stakesim.runner.invariants.registry import Violation, action_name, invariant
from stakesim.runner.step import Step
from stakesim.scenario.actions import Book, CreateRun, SetPrice, Wait

_AUTHORITY_ERRORS = ("NotAuthorized", "OwnableUnauthorizedAccount")
_CREATED_BY = {"EventRunCreated": CreateRun, "BookingCreated": Book}
"""The action that causes an event of this name; so does a call, also one that a receiver makes while it is paid."""


@invariant("INV-14", "authority", "who may not do a thing can't, and the attempt changes nothing")
def _authority(s: Step) -> Iterator[Violation]:
    if s.expected.error not in _AUTHORITY_ERRORS:
        return
    forbidden = f"{s.expected.actor} may not {action_name(s)}"
    if s.ok:
        yield Violation(f"{forbidden}, and could")
    for change in s.changes():
        yield Violation(f"{forbidden}, and the attempt changed {change}")


@invariant("INV-15", "atomicity", "a rejected or reverted action changes nothing but the sender's gas")
def _atomicity(s: Step) -> Iterator[Violation]:
    if not s.ok:
        for change in s.changes():
            yield Violation(f"{action_name(s)} was {s.actual.status}, and changed {change}")


@invariant(
    "INV-17",
    "exactly once",
    "one operation has at most one effect on chain, however often it is retried",
)
def _exactly_once(s: Step) -> Iterator[Violation]:
    yield from _too_many_transactions(s)
    yield from _too_many_effects(s)
    yield from _wrong_booking_lists(s)
    yield from _shared_ids(s.rows or Rows())


def _too_many_transactions(s: Step) -> Iterator[Violation]:
    sends_nothing = isinstance(s.action, SetPrice | Wait) or s.actual.status in ("rejected", "skipped")
    most = 0 if sends_nothing else 1
    if len(s.transactions) > most:
        count = len(s.transactions)
        yield Violation(f"{action_name(s)} ({s.actual.status}) sent {count} transactions, not {most}")


def _too_many_effects(s: Step) -> Iterator[Violation]:
    for event, kind in _CREATED_BY.items():
        count = len(s.events(event))
        expected = sum(each[0] == event for each in s.expected.events)
        if count > max(expected, isinstance(s.action, kind)):
            yield Violation(f"{action_name(s)} had the effect {event} {count} times")


def _wrong_booking_lists(s: Step) -> Iterator[Violation]:
    """Compares `getEventBookings` of each run that was read with the bookings of that run."""
    for run_id, listed in s.after.booking_lists.items():
        booked = tuple(booking.id for booking in s.after.bookings_of(run_id))
        if listed != booked:
            yield Violation(f"run {run_id} lists the bookings {list(listed)}, made were {list(booked)}")


def _shared_ids(rows: Rows) -> Iterator[Violation]:
    for column in ([row.onchain_run_id for row in rows.runs], [row.onchain_booking_id for row in rows.bookings]):
        ids = [onchain_id for onchain_id in column if onchain_id is not None]
        if len(ids) != len(set(ids)):
            message = f"two rows of the database claim one id on chain: {sorted(ids)}"
            yield Violation(message, cause=Cause.DATABASE_DIFFERS)


@invariant("INV-20", "gas", "no action exceeds its committed gas budget")
def _gas(s: Step) -> Iterator[Violation]:
    budget = s.gas_budget
    for transaction in s.transactions:
        if budget is not None and transaction.ok and transaction.gas_used > budget:
            yield Violation(f"{action_name(s)} used {transaction.gas_used} gas, its budget is {budget}")

"""INV-05 to INV-09: who gets how many wei when a booking is cancelled, or a run is completed, cancelled or expired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stakesim.model.calls import attended_booking_ids
from stakesim.model.state import BookingStatus, RunStatus
from stakesim.runner.invariants.registry import Violation, invariant, stake_of
from stakesim.runner.observe import BookingView, RunView
from stakesim.runner.step import Step
from stakesim.scenario.actions import (
    PLATFORM,
    Book,
    CallFunction,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    ForceEther,
    Withdraw,
    WithdrawFees,
)
from stakesim.units import BPS


@dataclass(frozen=True)
class _Settlement:
    """What one step must pay, computed from the contract's state before it.

    Attributes:
        due: Wei by host and attendee.
        platform: Wei that the platform earns.
    """

    due: Mapping[str, int]
    platform: int = 0


_NOTHING = _Settlement({})


def _settlement(s: Step) -> _Settlement:
    if not s.ok:
        return _NOTHING
    if isinstance(s.action, CancelBooking):
        return _booking_refund(s, s.action)
    if not isinstance(s.action, Complete | CancelRun | Expire):
        return _NOTHING
    model_run = s.run(s.action.run)
    run = s.before.runs.get(model_run.id) if model_run else None
    if run is None or not run.open:
        return _NOTHING
    settle, host_stake = _SETTLEMENTS[type(s.action)], stake_of(run.price * run.max_seats, s)
    return settle(s, run, s.before.active_bookings_of(run.id), host_stake)


def _booking_refund(s: Step, action: CancelBooking) -> _Settlement:
    model_booking = s.booking(action.booking)
    booking = s.before.bookings.get(model_booking.id) if model_booking else None
    if booking is None or not booking.active:
        return _NOTHING
    return _Settlement({booking.user: booking.payment + booking.stake})


def _cancelled(s: Step, run: RunView, active: Sequence[BookingView], host_stake: int) -> _Settlement:
    """Everybody is refunded."""
    due = Counter[str]()
    for booking in active:
        due[booking.user] += booking.payment + booking.stake
    due[run.host] += host_stake
    return _Settlement(due)


def _expired(s: Step, run: RunView, active: Sequence[BookingView], host_stake: int) -> _Settlement:
    """Attendees are refunded and share the host's stake by seats, rounded down; the platform gets the remainder.

    Without an active booking, the host gets the stake back.
    """
    if not active:
        return _Settlement({run.host: host_stake})
    due, platform = Counter[str](), host_stake
    seats = sum(booking.seats for booking in active)
    for booking in active:
        compensation = host_stake * booking.seats // seats
        platform -= compensation
        due[booking.user] += booking.payment + booking.stake + compensation
    return _Settlement(due, platform)


def _completed(s: Step, run: RunView, active: Sequence[BookingView], host_stake: int) -> _Settlement:
    """Attendees who attended get their stake back; no-shows get nothing.

    The host gets the revenue less the fee, a share of the forfeited stakes and the own stake. The platform gets the
    rest.
    """
    assert isinstance(s.action, Complete)
    terms, attended = s.model.terms, set(attended_booking_ids(s.model_before, s.action))
    revenue = sum(booking.payment for booking in active)
    forfeits = sum(booking.stake for booking in active if booking.id not in attended)
    fee = revenue * terms.fee_bps // BPS
    to_host = forfeits * terms.forfeit_to_host_bps // BPS
    due = Counter[str]()
    for booking in active:
        due[booking.user] += booking.stake if booking.id in attended else 0
    due[run.host] += revenue - fee + to_host + host_stake
    return _Settlement(due, platform=fee + forfeits - to_host)


_SETTLEMENTS: Mapping[type[Any], Callable[[Step, RunView, Sequence[BookingView], int], _Settlement]] = {
    Complete: _completed,
    CancelRun: _cancelled,
    Expire: _expired,
}
"""Computes the settlement of a run from the step, the run, its active bookings and the host's stake in wei."""
_JUDGED_ELSEWHERE = CreateRun | Book | Withdraw | WithdrawFees | ForceEther
"""Actions that move money without a settlement: INV-03, INV-04 and the model (INV-16) judge them."""


def _wrong_payouts(s: Step, roles: Mapping[str, str]) -> Iterator[Violation]:
    """Parties that got another amount than due in this step.

    Args:
        s: The step.
        roles: The parties to check, and the role of each for the message.
    """
    is_call = isinstance(s.action, CallFunction) and s.expected.events
    if s.ok and (isinstance(s.action, _JUDGED_ELSEWHERE) or is_call):
        return
    settlement = _settlement(s)
    for party, role in roles.items():
        due = settlement.due.get(party, 0)
        if party in s.after.wallets and s.gain(party) != due:
            yield Violation(f"{party} ({role}) got the wrong amount", due, s.gain(party), party)


def _attendees(s: Step, status: BookingStatus) -> set[str]:
    return {booking.user for booking in s.after.bookings.values() if booking.status == status}


def _hosts(s: Step, status: RunStatus) -> set[str]:
    return {run.host for run in s.after.runs.values() if run.status == status}


def _platform_earnings(s: Step) -> int:
    return s.after.platform_balance - s.before.platform_balance


@invariant(
    "INV-05",
    "fee",
    "on completion the platform earns floor(5% of ticket revenue) + its share of forfeits, and the host gets all "
    "the rest",
)
def _fee(s: Step) -> Iterator[Violation]:
    if not (s.ok and isinstance(s.action, Complete) and s.after.terms):
        return
    due, earned = _settlement(s).platform, _platform_earnings(s)
    if earned != due:
        yield Violation("the platform earned the wrong amount", due, earned, PLATFORM)
    for event in s.events("EventCompleted"):
        run = s.after.runs[event.args["event_run_id"]]
        revenue = sum(booking.payment for booking in s.before.active_bookings_of(run.id))
        no_shows = [b for b in s.after.bookings_of(run.id) if b.status == BookingStatus.NO_SHOW]
        host_payout = revenue + sum(booking.stake for booking in no_shows) - due
        if event.args["host_payout"] != host_payout:
            yield Violation("the host's payout is not all the rest", host_payout, event.args["host_payout"])


@invariant("INV-06", "attendee", "who attended gets exactly the stake, once")
def _attendee(s: Step) -> Iterator[Violation]:
    yield from _wrong_payouts(s, dict.fromkeys(_attendees(s, BookingStatus.COMPLETED), "attended"))


@invariant("INV-07", "no-show", "who did not attend gets nothing")
def _no_show(s: Step) -> Iterator[Violation]:
    yield from _wrong_payouts(s, dict.fromkeys(_attendees(s, BookingStatus.NO_SHOW), "no-show"))


@invariant("INV-08", "host", "the host gets revenue - fee + own stake, once")
def _host(s: Step) -> Iterator[Violation]:
    yield from _wrong_payouts(s, dict.fromkeys(_hosts(s, RunStatus.COMPLETED), "host"))


@invariant("INV-09", "cancellation", "everybody gets back exactly what they paid in; the platform earns nothing")
def _cancellation(s: Step) -> Iterator[Violation]:
    roles = dict.fromkeys(_attendees(s, BookingStatus.CANCELLED), "refunded")
    roles |= dict.fromkeys(_hosts(s, RunStatus.CANCELLED), "host")
    yield from _wrong_payouts(s, roles)
    if s.ok and isinstance(s.action, CancelRun | CancelBooking) and _platform_earnings(s):
        yield Violation("the platform earned on a cancellation", 0, _platform_earnings(s), PLATFORM)

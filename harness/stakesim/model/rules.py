"""The rules, one function for each action that goes to the contract.

Each checks in the contract's one order (may the caller, is the status right, is it the time, are the
arguments right, is the value exact), raises `Refused` at the first that fails, and otherwise returns what
changes: the state after it, and the payouts made. That the run or booking exists has been seen to before.
"""

from collections.abc import Iterable
from dataclasses import replace

from stakesim.model.state import (
    Booking,
    BookingStatus,
    Call,
    Party,
    Payout,
    RefusedError,
    RuleResult,
    Run,
    RunStatus,
    State,
    party_of,
)
from stakesim.model.transfers import added, leave, pay_in, push, takes_ether
from stakesim.scenario.actions import PLATFORM, Book, CreateRun

BPS = 10_000
MAX_SEATS = 200
"""Seats of the largest run, as the contract has it."""
MAX_PRICE = 2**128 - 1
MAX_START = 2**40 - 1


def stake_of(state: State, value: int) -> int:
    """floor(value x stake share), for a host's event value and an attendee's payment alike."""
    return value * state.terms.stake_bps // BPS


def create_run(state: State, action: CreateRun, call: Call) -> RuleResult:
    """A run is opened with 0 < price < 2^128, 1 to MAX_SEATS seats, a start in the future, and the exact
    stake."""
    price, start = call.price or 0, state.epoch + action.starts
    if not price > 0 or (state.full_interface and price > MAX_PRICE):
        raise RefusedError("InvalidPrice", price)
    if not action.seats >= 1 or (state.full_interface and action.seats > MAX_SEATS):
        raise RefusedError("InvalidSeats", action.seats)
    if not state.now < start or (state.full_interface and start > MAX_START):
        raise RefusedError("InvalidStart", start)
    _exact(call)
    run = Run(
        id=len(state.runs) + 1,
        label=action.run,
        actor=call.actor,
        host=party_of(state, call.actor),
        price=price,
        max_seats=action.seats,
        host_stake=call.due,
        start=start,
        created_at=state.now,
        direct=action.direct,
    )
    return _with_run(pay_in(state, call), run), ()


def book(state: State, action: Book, call: Call) -> RuleResult:
    """Seats are booked while the run is active and now < start, for the exact payment and stake."""
    run = state.runs[action.run]
    if run.status != RunStatus.ACTIVE:
        raise RefusedError("EventNotOpen", run.id, run.status)
    if state.now >= run.start:
        raise RefusedError("TooLate", run.start)
    if action.seats == 0:
        raise RefusedError("InvalidSeats", action.seats)
    if action.seats > run.max_seats - run.seats_booked:
        raise RefusedError("NotEnoughSeats", action.seats, run.max_seats - run.seats_booked)
    _exact(call)
    payment = run.price * action.seats
    booking = Booking(
        id=len(state.bookings) + 1,
        label=action.booking,
        run=run.label,
        actor=call.actor,
        attendee=party_of(state, call.actor),
        seats=action.seats,
        payment=payment,
        stake=call.due - payment,
        booked_at=state.now,
        direct=action.direct,
    )
    state = _with_bookings(pay_in(state, call), [booking])
    return _with_run(state, _seated(run, run.seats_booked + action.seats)), ()


def cancel_booking(state: State, booking: Booking, call: Call) -> RuleResult:
    """The attendee, or the platform for them, is refunded while now + cutoff <= start, and the seats are free
    again."""
    run = state.runs[booking.run]
    _authorized(call.sender, booking.attendee)
    if not booking.active:
        raise RefusedError("BookingNotActive", booking.id, booking.status)
    if state.now + state.terms.cancellation_cutoff > run.start:
        raise RefusedError("TooLate", run.start - state.terms.cancellation_cutoff)
    state = _with_bookings(state, [replace(booking, status=BookingStatus.CANCELLED)])
    state = _with_run(state, _seated(run, run.seats_booked - booking.seats))
    return push(state, [Payout(booking.attendee, booking.paid, "refund")])


def cancel_run(state: State, run: Run, call: Call) -> RuleResult:
    """The host before the start, the platform until the run is final: everybody is refunded, the stake
    returns."""
    _authorized(call.sender, run.host)
    _open(run)
    if call.sender != PLATFORM and state.now >= run.start:
        raise RefusedError("TooLate", run.start)
    refunds = [Payout(b.attendee, b.paid, "refund") for b in state.active_bookings_of(run)]
    stake = Payout(run.host, run.host_stake, "host stake returned")
    return push(_close(state, run, RunStatus.CANCELLED), [*refunds, stake])


def complete(state: State, run: Run, attended: Iterable[str], call: Call) -> RuleResult:
    """Host or platform, while start <= now < start + grace. Who came gets the stake; the host the revenue
    less the fee, a share of the forfeited stakes, and the own stake; the platform the fee and the rest of the
    forfeits."""
    _authorized(call.sender, run.host)
    _open(run)
    if state.now < run.start:
        raise RefusedError("TooEarly", run.start)
    if state.full_interface and state.now >= run.start + state.terms.completion_grace:
        raise RefusedError("TooLate", run.start + state.terms.completion_grace)
    present = _ticked_off(state, run, attended)

    bookings = state.active_bookings_of(run)
    revenue = sum(b.payment for b in bookings)
    forfeits = sum(b.stake for b in bookings if b.label not in present)
    fee = revenue * state.terms.fee_bps // BPS
    forfeits_to_host = forfeits * state.terms.forfeit_to_host_bps // BPS

    stakes = [Payout(b.attendee, b.stake, "stake returned") for b in bookings if b.label in present]
    to_host = Payout(run.host, revenue - fee + forfeits_to_host + run.host_stake, "host payout")
    state = replace(state, platform_balance=state.platform_balance + fee + forfeits - forfeits_to_host)
    return push(_close(state, run, RunStatus.COMPLETED, present), [*stakes, to_host])


def _ticked_off(state: State, run: Run, attended: Iterable[str]) -> frozenset[str]:
    """Those who came: active bookings of this run, each listed once."""
    present: set[str] = set()
    for booking in (state.bookings[label] for label in attended if label in state.bookings):
        if booking.run != run.label:
            raise RefusedError("BookingNotOfRun", booking.id, run.id)
        if booking.label in present:
            raise RefusedError("BookingNotActive", booking.id, BookingStatus.COMPLETED)
        if not booking.active:
            raise RefusedError("BookingNotActive", booking.id, booking.status)
        present.add(booking.label)
    return frozenset(present)


def expire(state: State, run: Run) -> RuleResult:
    """Anyone, once now >= start + grace: everybody is refunded and shares the host's stake by seats, the
    remainder goes to the platform. Nobody booked: the host gets the stake back."""
    _open(run)
    if state.now < run.start + state.terms.completion_grace:
        raise RefusedError("TooEarly", run.start + state.terms.completion_grace)
    bookings = state.active_bookings_of(run)
    state = _close(state, run, RunStatus.EXPIRED)
    if not bookings:
        return push(state, [Payout(run.host, run.host_stake, "host stake returned")])
    seats = sum(b.seats for b in bookings)
    shares = [run.host_stake * b.seats // seats for b in bookings]
    remainder = run.host_stake - sum(shares)
    state = replace(state, platform_balance=state.platform_balance + remainder)
    refunds = zip(bookings, shares, strict=True)
    return push(state, [Payout(b.attendee, b.paid + share, "refund and compensation") for b, share in refunds])


def withdraw(state: State, to: str | None, call: Call) -> RuleResult:
    """The sender's credit, to the sender or another receiver; unlike a push, a refused one fails."""
    credit = state.credits.get(call.sender, 0)
    receiver = call.sender if to is None else party_of(state, to)
    if credit == 0:
        raise RefusedError("NothingToWithdraw")
    if not takes_ether(state, receiver):
        raise RefusedError("TransferFailed", receiver, credit)
    state = replace(state, credits=added(state.credits, call.sender, -credit))
    return leave(state, receiver, credit), (Payout(receiver, credit, "credit withdrawn"),)


def withdraw_fees(state: State, call: Call) -> RuleResult:
    """The platform takes out what it earned, and nothing else."""
    if call.sender != PLATFORM:
        raise RefusedError("OwnableUnauthorizedAccount", call.sender)
    earned = state.platform_balance
    if earned == 0 and state.full_interface:
        raise RefusedError("NothingToWithdraw")
    state = replace(state, platform_balance=0, received=added(state.received, PLATFORM, earned))
    return leave(state, PLATFORM, earned), (Payout(PLATFORM, earned, "platform fees"),)


def force_ether(state: State, wei: int, call: Call) -> RuleResult:
    """Ether that nobody is owed; it changes no other number."""
    return replace(
        state,
        contract_balance=state.contract_balance + wei,
        forced=state.forced + wei,
        wallet_flow=added(state.wallet_flow, call.sender, -wei),
    ), ()


# Checks that several rules share


def _authorized(sender: Party, party: Party) -> None:
    if sender not in (party, PLATFORM):
        raise RefusedError("NotAuthorized", sender)


def _open(run: Run) -> None:
    if not run.open:
        raise RefusedError("EventNotOpen", run.id, run.status)


def _exact(call: Call) -> None:
    if call.value != call.due:
        raise RefusedError("WrongValue", call.value, call.due)


# Changes that several rules share


def _seated(run: Run, seats: int) -> Run:
    """Full exactly when every seat is booked."""
    status = RunStatus.FULL if seats == run.max_seats else RunStatus.ACTIVE
    return replace(run, seats_booked=seats, status=status)


def _close(state: State, run: Run, status: RunStatus, attended: frozenset[str] | None = None) -> State:
    """Make the run and its active bookings final. came: labels, where it was completed; None: all are
    refunded."""

    def fate(booking: Booking) -> BookingStatus:
        if attended is None:
            return BookingStatus.CANCELLED
        return BookingStatus.COMPLETED if booking.label in attended else BookingStatus.NO_SHOW

    closed = [replace(b, status=fate(b)) for b in state.active_bookings_of(run)]
    return _with_run(_with_bookings(state, closed), replace(run, status=status))


def _with_run(state: State, run: Run) -> State:
    return replace(state, runs={**state.runs, run.label: run})


def _with_bookings(state: State, bookings: Iterable[Booking]) -> State:
    return replace(state, bookings={**state.bookings, **{b.label: b for b in bookings}})

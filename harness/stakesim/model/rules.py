"""The rules of the business: one function for each action that is sent to the contract.

Each function checks in the order in which the contract does: the caller's authority, the status, the time, the
arguments, and that the value is exact. It raises `RefusedError` for the first check that fails; otherwise it returns
the state after the action and the payouts. The caller has checked that the run or booking exists.

Every division rounds down once, and the remainder has an owner: the host keeps what the fee's division leaves, the
platform what the divisions of forfeits and of an expired run's stake leave.
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
    liabilities,
    party_of,
)
from stakesim.model.transfers import add, pay_in, pay_out, push, takes_ether
from stakesim.scenario.actions import Book, CreateRun
from stakesim.scenario.administration import (
    AcceptOwnership,
    Administration,
    Pause,
    SetOperator,
    TransferOwnership,
    Unpause,
)
from stakesim.units import BPS

MAX_SEATS = 200
"""Seats of the largest run that the contract takes."""
MAX_PRICE = 2**128 - 1
"""The highest price of a seat in wei that the contract takes."""
MAX_START = 2**40 - 1
"""The latest start, in seconds since 1970, that the contract takes."""
MAX_HELD = 2**96 - 1
"""Wei that the contract holds at most in escrow and credits together."""


def stake_of(state: State, value: int) -> int:
    """The stake in wei: floor(value x stake_bps / 10,000).

    Args:
        state: The state, which has the terms.
        value: For a host the value of the event (price x seats), for an attendee the payment, in wei.
    """
    return value * state.terms.stake_bps // BPS


def create_run(state: State, action: CreateRun, call: Call) -> RuleResult:
    """A host opens a run.

    Nothing is paused, and only the platform pays for somebody else. The price is above 0 and below 2^128 wei, the run
    has 1 to MAX_SEATS seats, the start is in the future, and the host's stake is paid in exactly. A contract without
    the full interface has limits of its own.
    """
    host = party_of(state, call.actor)
    _require_open_to(state, call, host)
    price, start = call.price or 0, state.epoch + action.starts
    if price <= 0 or (state.full_interface and price > MAX_PRICE):
        raise RefusedError("InvalidPrice", price)
    if action.seats < 1 or (state.full_interface and action.seats > MAX_SEATS):
        raise RefusedError("InvalidSeats", action.seats)
    if start <= state.now or (state.full_interface and start > MAX_START):
        raise RefusedError("InvalidStart", start)
    _require_exact_value(state, call)
    run = Run(
        id=len(state.runs) + 1,
        label=action.run,
        actor=call.actor,
        host=host,
        price=price,
        max_seats=action.seats,
        host_stake=call.due,
        start=start,
        created_at=state.now,
        direct=action.direct,
    )
    return _with_run(pay_in(state, call), run), ()


def book(state: State, action: Book, call: Call) -> RuleResult:
    """An attendee books seats.

    Nothing is paused, and only the platform pays for somebody else. The run is active, it has not started, enough seats
    are free, and payment and stake are paid in exactly. A run whose last seat is booked becomes full.
    """
    attendee = party_of(state, call.actor)
    _require_open_to(state, call, attendee)
    run = state.runs[action.run]
    if run.status != RunStatus.ACTIVE:
        raise RefusedError("EventNotOpen", run.id, run.status)
    if state.now >= run.start:
        raise RefusedError("TooLate", run.start)
    if action.seats == 0:
        raise RefusedError("InvalidSeats", action.seats)
    if action.seats > run.max_seats - run.seats_booked:
        raise RefusedError("NotEnoughSeats", action.seats, run.max_seats - run.seats_booked)
    _require_exact_value(state, call)
    payment = run.price * action.seats
    booking = Booking(
        id=len(state.bookings) + 1,
        label=action.booking,
        run=run.label,
        actor=call.actor,
        attendee=attendee,
        seats=action.seats,
        payment=payment,
        stake=call.due - payment,
        booked_at=state.now,
        direct=action.direct,
    )
    state = _with_bookings(pay_in(state, call), [booking])
    return _with_run(state, _with_seats_booked(run, run.seats_booked + action.seats)), ()


def cancel_booking(state: State, booking: Booking, call: Call) -> RuleResult:
    """The attendee, or the platform for them, cancels a booking.

    It is active, and now + cancellation cutoff <= start. Payment and stake are refunded, and the seats are free again,
    so that a full run becomes active.
    """
    run = state.runs[booking.run]
    _require_authority(state, call.sender, booking.attendee)
    if not booking.active:
        raise RefusedError("BookingNotActive", booking.id, booking.status)
    if state.now + state.terms.cancellation_cutoff > run.start:
        raise RefusedError("TooLate", run.start - state.terms.cancellation_cutoff)
    state = _with_bookings(state, [replace(booking, status=BookingStatus.CANCELLED)])
    state = _with_run(state, _with_seats_booked(run, run.seats_booked - booking.seats))
    return push(state, [Payout(booking.attendee, booking.paid, "refund")])


def cancel_run(state: State, run: Run, call: Call) -> RuleResult:
    """The host cancels a run before its start, or the platform while now < start + completion grace.

    From then on the run can only expire. On a contract on which runs do not expire, the platform's time has no end.
    Every active booking is refunded its payment and stake, and the host's stake returns. The platform earns nothing.
    """
    _require_authority(state, call.sender, run.host)
    _require_open(run)
    if not state.acts_for_platform(call.sender):
        _require_before(state, run.start)
    elif state.full_interface:
        _require_before(state, run.start + state.terms.completion_grace)
    refunds = [Payout(booking.attendee, booking.paid, "refund") for booking in state.active_bookings_of(run)]
    host_stake = Payout(run.host, run.host_stake, "host stake returned")
    return push(_finalize(state, run, RunStatus.CANCELLED), [*refunds, host_stake])


def complete(state: State, run: Run, attended: Iterable[Booking], call: Call) -> RuleResult:
    """The host or the platform completes a run, while start <= now < start + completion grace.

    On a contract on which runs do not expire, the time has no end.

    - An attendee who attended gets the stake back; a no-show gets nothing.
    - The revenue is the payments of all active bookings, those of no-shows included.
    - The platform's fee is floor(revenue x fee_bps / 10,000); the host gets all other revenue.
    - Of the no-shows' stakes the host gets floor(forfeits x forfeit_to_host_bps / 10,000), the platform the rest.
    - The host's stake returns.

    Args:
        state: The state before the action.
        run: The run.
        attended: The bookings on the attendance list; all other active bookings are no-shows.
        call: Who sends the transaction.
    """
    _require_authority(state, call.sender, run.host)
    _require_open(run)
    if state.now < run.start:
        raise RefusedError("TooEarly", run.start)
    if state.full_interface:
        _require_before(state, run.start + state.terms.completion_grace)
    attendance = _checked_attendance(run, attended)

    bookings = state.active_bookings_of(run)
    revenue = sum(booking.payment for booking in bookings)
    forfeits = sum(booking.stake for booking in bookings if booking.label not in attendance)
    fee = revenue * state.terms.fee_bps // BPS
    forfeits_to_host = forfeits * state.terms.forfeit_to_host_bps // BPS

    stakes = [Payout(b.attendee, b.stake, "stake returned") for b in bookings if b.label in attendance]
    host_payout = Payout(run.host, revenue - fee + forfeits_to_host + run.host_stake, "host payout")
    state = replace(state, platform_balance=state.platform_balance + fee + forfeits - forfeits_to_host)
    return push(_finalize(state, run, RunStatus.COMPLETED, attendance), [*stakes, host_payout])


def _checked_attendance(run: Run, attended: Iterable[Booking]) -> frozenset[str]:
    """Labels of the bookings on the attendance list, which holds active bookings of this run only, each once.

    A booking that is listed twice is refused with the status that its first mention gave it: completed.
    """
    attendance: set[str] = set()
    for booking in attended:
        if booking.run != run.label:
            raise RefusedError("BookingNotOfRun", booking.id, run.id)
        if booking.label in attendance:
            raise RefusedError("BookingNotActive", booking.id, BookingStatus.COMPLETED)
        if not booking.active:
            raise RefusedError("BookingNotActive", booking.id, booking.status)
        attendance.add(booking.label)
    return frozenset(attendance)


def expire(state: State, run: Run) -> RuleResult:
    """Anybody lets a run expire that is still open at start + completion grace.

    Every active booking is refunded its payment and stake, and gets floor(host stake x its seats / all active seats);
    the remainder of the host's stake goes to the platform. Without active bookings the host's stake returns.
    """
    _require_open(run)
    if state.now < run.start + state.terms.completion_grace:
        raise RefusedError("TooEarly", run.start + state.terms.completion_grace)
    bookings = state.active_bookings_of(run)
    state = _finalize(state, run, RunStatus.EXPIRED)
    if not bookings:
        return push(state, [Payout(run.host, run.host_stake, "host stake returned")])
    active_seats = sum(booking.seats for booking in bookings)
    compensations = [run.host_stake * booking.seats // active_seats for booking in bookings]
    remainder = run.host_stake - sum(compensations)
    state = replace(state, platform_balance=state.platform_balance + remainder)
    return push(
        state,
        [
            Payout(booking.attendee, booking.paid + compensation, "refund and compensation")
            for booking, compensation in zip(bookings, compensations, strict=True)
        ],
    )


def withdraw(state: State, to: str | None, call: Call) -> RuleResult:
    """The sender withdraws their credit, to themselves or to another receiver.

    Unlike a push, a withdrawal fails if the receiver refuses the ether.

    Args:
        state: The state before the action.
        to: The receiving actor; None: the sender.
        call: Who sends the transaction.
    """
    credit = state.credits.get(call.sender, 0)
    receiver = call.sender if to is None else party_of(state, to)
    if credit == 0:
        raise RefusedError("NothingToWithdraw")
    if not takes_ether(state, receiver):
        raise RefusedError("TransferFailed", receiver, credit)
    state = replace(state, credits=add(state.credits, call.sender, -credit))
    return pay_out(state, receiver, credit), (Payout(receiver, credit, "credit withdrawn"),)


def withdraw_fees(state: State, call: Call) -> RuleResult:
    """The owner withdraws what the platform earned, and nothing else. An operator can't."""
    _require_owner(state, call)
    earned, owner = state.platform_balance, state.owner
    if earned == 0 and state.full_interface:
        raise RefusedError("NothingToWithdraw")
    if not takes_ether(state, owner):
        raise RefusedError("TransferFailed", owner, earned)
    state = replace(state, platform_balance=0, received=add(state.received, owner, earned))
    return pay_out(state, owner, earned), (Payout(owner, earned, "platform fees"),)


def administer(state: State, action: Administration, call: Call) -> State:
    """The owner says who acts for the platform, pauses, or offers the ownership; whom it was offered to accepts it."""
    if isinstance(action, AcceptOwnership):
        if call.sender != state.pending_owner:
            raise RefusedError("OwnableUnauthorizedAccount", call.sender)
        return replace(state, owner=call.sender, pending_owner=None)
    _require_owner(state, call)
    match action:
        case SetOperator():
            operator = {party_of(state, action.operator)}
            operators = state.operators | operator if action.allowed else state.operators - operator
            return replace(state, operators=operators)
        case TransferOwnership():
            return replace(state, pending_owner=party_of(state, action.to))
        case Pause() | Unpause():
            pauses = isinstance(action, Pause)
            if state.paused == pauses:
                raise RefusedError("EnforcedPause" if pauses else "ExpectedPause")
            return replace(state, paused=pauses)


def force_ether(state: State, wei: int, call: Call) -> RuleResult:
    """Forced ether belongs to nobody, and changes no other amount."""
    return replace(
        state,
        contract_balance=state.contract_balance + wei,
        forced_wei=state.forced_wei + wei,
        wallet_flow=add(state.wallet_flow, call.sender, -wei),
    ), ()


# Checks that several rules share


def _require_owner(state: State, call: Call) -> None:
    if call.sender != state.owner:
        raise RefusedError("OwnableUnauthorizedAccount", call.sender)


def _require_authority(state: State, sender: Party, party: Party) -> None:
    """A host or attendee acts for themselves, and the platform for everybody."""
    if sender != party and not state.acts_for_platform(sender):
        raise RefusedError("NotAuthorized", sender)


def _require_open_to(state: State, call: Call, party: Party) -> None:
    """Runs and bookings are not paused, and the sender may pay for this party."""
    if call.sender != party and not state.acts_for_platform(call.sender):
        raise RefusedError("OwnableUnauthorizedAccount", call.sender)
    if state.paused:
        raise RefusedError("EnforcedPause")


def _require_before(state: State, deadline: int) -> None:
    if state.now >= deadline:
        raise RefusedError("TooLate", deadline)


def _require_open(run: Run) -> None:
    """A final run stays final."""
    if not run.open:
        raise RefusedError("EventNotOpen", run.id, run.status)


def _require_exact_value(state: State, call: Call) -> None:
    """What is due can be held, and exactly that is sent along."""
    if state.full_interface and liabilities(state) - state.platform_balance + call.due > MAX_HELD:
        raise RefusedError("AmountTooLarge", call.due)
    if call.value != call.due:
        raise RefusedError("WrongValue", call.value, call.due)


# Changes that several rules share


def _with_seats_booked(run: Run, seats: int) -> Run:
    """A run is full exactly when all its seats are booked."""
    status = RunStatus.FULL if seats == run.max_seats else RunStatus.ACTIVE
    return replace(run, seats_booked=seats, status=status)


def _finalize(state: State, run: Run, status: RunStatus, attendance: frozenset[str] | None = None) -> State:
    """Makes a run and its active bookings final.

    `attendance` has the labels of the attended bookings of a completed run; None means that all bookings are refunded.
    """

    def final_status(booking: Booking) -> BookingStatus:
        if attendance is None:
            return BookingStatus.CANCELLED
        return BookingStatus.COMPLETED if booking.label in attendance else BookingStatus.NO_SHOW

    final = [replace(booking, status=final_status(booking)) for booking in state.active_bookings_of(run)]
    return _with_run(_with_bookings(state, final), replace(run, status=status))


def _with_run(state: State, run: Run) -> State:
    return replace(state, runs={**state.runs, run.label: run})


def _with_bookings(state: State, bookings: Iterable[Booking]) -> State:
    return replace(state, bookings={**state.bookings, **{booking.label: booking for booking in bookings}})

"""The rules of the business: what each call of the contract must do.

`execute` carries out one call. The rule of each function checks in the order in which the contract does: the pause,
whether the run or booking exists, the caller's authority, the status, the time, the arguments, and that the value is
exact. It raises `RefusedError` for the first check that fails, before it changes anything. Then it changes the state in
place, and notes payouts and events.

Every division rounds down once, and the remainder has an owner: the host keeps what the fee's division leaves, the
platform what the divisions of forfeits and of an expired run's stake leave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

from stakesim.model.state import MAX_SEATS as MAX_SEATS
from stakesim.model.state import (
    Booking,
    BookingStatus,
    ContractCall,
    Effects,
    Party,
    RefusedError,
    Run,
    RunStatus,
    State,
)
from stakesim.model.transfers import Cashier, Reentries, add, pay_in, takes_ether
from stakesim.units import BPS

MAX_PRICE = 2**128 - 1
"""The highest price of a seat in wei that the contract takes."""
MAX_START = 2**40 - 1
"""The latest start, in seconds since 1970, that the contract takes."""
MAX_HELD = 2**96 - 1
"""Wei that the contract holds at most in escrow and credits together."""
MAX_ID = 2**32 - 1
"""The last id of a run or booking."""
RECEIVE, FALLBACK = "receive", "fallback"
CALLS_OF_NOTHING: Mapping[str, bytes] = {RECEIVE: b"", FALLBACK: b"\xff" * 4}
"""Call data that names no function, as if it was the call of one: plain ether has none, a mistaken call some."""
NOBODY = "zero address"
"""The party at address zero."""
CONTRACT = "the contract"
"""The contract as a party."""
_OVERFLOW = RefusedError("Panic", 0x11)


@dataclass(slots=True)
class _Execution:
    """One call while it is carried out."""

    state: State
    call: ContractCall
    cashier: Cashier
    effects: Effects

    def log(self, name: str, *args: Any) -> None:
        self.effects.events.append((name, *args))


def execute(state: State, call: ContractCall, reentries: Reentries | None = None) -> Effects:
    """Carries out one call of the contract.

    Args:
        state: The state; it is changed only if the call succeeds.
        call: The call.
        reentries: Which calls of receivers that reenter succeeded on chain; None: none did.

    Returns:
        What the call did.

    Raises:
        RefusedError: The call must fail.
        KeyError: The interface has no such function.
    """
    effects = Effects()
    _execute(state, call, effects, reentries)
    return effects


def _execute(state: State, call: ContractCall, effects: Effects, reentries: Reentries | None) -> None:
    def reenter(state: State, nested: ContractCall, outer: Effects) -> None:
        """A receiver's call that succeeded: no function that pays may be entered again."""
        what = f"{nested.sender} called {nested.function} while it was paid"
        if nested.function in PAYING and state.full_interface:
            outer.wrong_reentries.append(f"{what}, which must fail")
        inner = Effects()
        try:
            _execute(state, nested, inner, reentries)
        except RefusedError as refused:
            outer.wrong_reentries.append(f"{what}, which must fail with {refused.error}")
        outer.payouts += inner.payouts
        outer.events += inner.events
        outer.wrong_reentries += inner.wrong_reentries

    if call.value and call.function not in _PAYABLE:
        raise RefusedError("NotPayable")
    _RULES[call.function](_Execution(state, call, Cashier(state, effects, reenter, reentries), effects), *call.args)


# Money in


def _create_run(x: _Execution, experience: str, price: int, seats: int, start: int) -> None:
    _open_run(x, x.call.sender, experience, price, seats, start)


def _create_run_for(x: _Execution, host: Party, experience: str, price: int, seats: int, start: int) -> None:
    _require_platform(x)
    _open_run(x, host, experience, price, seats, start)


def _open_run(x: _Execution, host: Party, experience: str, price: int, seats: int, start: int) -> None:
    """A host opens a run.

    Nothing is paused, and only the platform pays for somebody else. The experience has an id, the price is above 0 and
    below 2^128 wei, the run has 1 to `max_seats` seats, the start is in the future, and the host's stake is paid in
    exactly. A contract without the full interface has limits of its own.
    """
    state = x.state
    _require_not_paused(state)
    _require_receiver(host)
    if not experience and "no experience" not in state.liberties:
        raise RefusedError("InvalidExperience")
    if price <= 0 or (state.full_interface and price > MAX_PRICE):
        raise RefusedError("InvalidPrice", price)
    if not 1 <= seats <= state.max_seats:
        raise RefusedError("InvalidSeats", seats)
    if start <= state.now or (state.full_interface and start > MAX_START):
        raise RefusedError("InvalidStart", start)
    stake = stake_of(state, price * seats)
    _require_exact_value(x, stake)
    if state.last_run_id >= MAX_ID and state.full_interface:
        raise _OVERFLOW
    run_id = state.last_run_id = state.last_run_id + 1
    label = x.call.label or str(run_id)
    state.run_labels[run_id] = label
    state.runs[label] = Run(
        id=run_id,
        label=label,
        actor=x.call.actor or host,
        host=host,
        experience=experience,
        price=price,
        max_seats=seats,
        host_stake=stake,
        start=start,
        created_at=state.now,
        direct=x.call.direct,
    )
    _take_into_escrow(x, stake)
    x.log("EventRunCreated", run_id, host, experience, price, seats, stake)
    x.log("EventRunScheduled", run_id, start)
    x.effects.returned = run_id


def _book(x: _Execution, run_id: int, seats: int) -> None:
    _require_not_paused(x.state)
    _make_booking(x, x.call.sender, _existing_run(x.state, run_id), seats)


def _book_for(x: _Execution, attendee: Party, run_id: int, seats: int) -> None:
    _require_platform(x)
    _require_not_paused(x.state)
    run = _existing_run(x.state, run_id)
    _require_receiver(attendee)
    _make_booking(x, attendee, run, seats)


def _make_booking(x: _Execution, attendee: Party, run: Run, seats: int) -> None:
    """An attendee books seats.

    Nothing is paused, and only the platform pays for somebody else. The run is active, it has not started, enough seats
    are free, and payment and stake are paid in exactly. A run whose last seat is booked becomes full.
    """
    state = x.state
    if run.status != RunStatus.ACTIVE:
        raise RefusedError("EventNotOpen", run.id, run.status)
    if state.now >= run.start:
        raise RefusedError("TooLate", run.start)
    if seats == 0:
        raise RefusedError("InvalidSeats", seats)
    if seats > run.max_seats - run.seats_booked:
        raise RefusedError("NotEnoughSeats", seats, run.max_seats - run.seats_booked)
    payment = run.price * seats
    stake = stake_of(state, payment)
    _require_exact_value(x, payment + stake)
    if state.last_booking_id >= MAX_ID and state.full_interface:
        raise _OVERFLOW
    booking_id = state.last_booking_id = state.last_booking_id + 1
    label = x.call.label or str(booking_id)
    state.booking_labels[booking_id] = label
    state.bookings[label] = Booking(
        id=booking_id,
        label=label,
        run=run.label,
        actor=x.call.actor or attendee,
        attendee=attendee,
        seats=seats,
        payment=payment,
        stake=stake,
        booked_at=state.now,
        direct=x.call.direct,
    )
    state.bookings_by_run[run.label] = (*state.bookings_by_run.get(run.label, ()), label)
    _set_seats_booked(state, run, run.seats_booked + seats)
    _take_into_escrow(x, payment + stake)
    x.log("BookingCreated", booking_id, run.id, attendee, seats, payment, stake)
    x.effects.returned = booking_id


# Money out


def _cancel_booking(x: _Execution, booking_id: int) -> None:
    """The attendee, or the platform for them, cancels a booking.

    It is active, and now + cancellation cutoff <= start. Payment and stake are refunded, and the seats are free again,
    so that a full run becomes active.
    """
    state = x.state
    label = state.booking_labels.get(booking_id)
    if label is None:
        raise RefusedError("UnknownBooking", booking_id)
    booking = state.bookings[label]
    run = state.runs[booking.run]
    _require_authority(x, booking.attendee)
    if not booking.active:
        raise RefusedError("BookingNotActive", booking.id, booking.status)
    if state.now + state.terms.cancellation_cutoff > run.start:
        raise RefusedError("TooLate", run.start - state.terms.cancellation_cutoff)
    _set_booking_status(state, booking, BookingStatus.CANCELLED)
    _set_seats_booked(state, run, run.seats_booked - booking.seats)
    state.escrow -= booking.paid
    x.log("BookingCancelled", booking.id, booking.attendee, booking.paid)
    x.cashier.push(booking.attendee, booking.paid, "refund")


def _cancel_run(x: _Execution, run_id: int) -> None:
    """The host cancels a run before its start, or the platform while now < start + completion grace.

    From then on the run can only expire. On a contract on which runs do not expire, the platform's time has no end.
    Every active booking is refunded its payment and stake, and the host's stake returns. The platform earns nothing.
    """
    state = x.state
    run = _open_run_of(x, run_id)
    if not state.acts_for_platform(x.call.sender):
        _require_before(state, run.start)
    elif state.full_interface:
        _require_before(state, run.start + state.terms.completion_grace)
    refunded = _close(state, run, RunStatus.CANCELLED)
    x.log("EventCancelled", run.id, sum(booking.paid for booking in refunded))
    for booking in refunded:
        x.cashier.push(booking.attendee, booking.paid, "refund")
    x.cashier.push(run.host, run.host_stake, "host stake returned")


def _complete(x: _Execution, run_id: int, attended: Sequence[int]) -> None:
    """The host or the platform completes a run, while start <= now < start + completion grace.

    On a contract on which runs do not expire, the time has no end. All active bookings that are not on the attendance
    list are no-shows.

    - An attendee who attended gets the stake back; a no-show gets nothing.
    - The revenue is the payments of all active bookings, those of no-shows included.
    - The platform's fee is floor(revenue x fee_bps / 10,000); the host gets all other revenue.
    - Of the no-shows' stakes the host gets floor(forfeits x forfeit_to_host_bps / 10,000), the platform the rest.
    - The host's stake returns.
    """
    state = x.state
    run = _open_run_of(x, run_id)
    if state.now < run.start:
        raise RefusedError("TooEarly", run.start)
    if state.full_interface:
        _require_before(state, run.start + state.terms.completion_grace)
    attendance = _checked_attendance(state, run, attended)

    bookings = _close(state, run, RunStatus.COMPLETED, attendance)
    revenue = sum(booking.payment for booking in bookings)
    forfeits = sum(booking.stake for booking in bookings if booking.id not in attendance)
    fee = revenue * state.terms.fee_bps // BPS
    forfeits_to_host = forfeits * state.terms.forfeit_to_host_bps // BPS
    host_payout = revenue - fee + forfeits_to_host
    state.platform_balance += fee + forfeits - forfeits_to_host
    for booking in bookings:
        event = "BookingCompleted" if booking.id in attendance else "BookingNoShow"
        x.log(event, booking.id, booking.attendee, booking.stake)
    x.log("EventCompleted", run.id, host_payout, run.host_stake)
    for booking in bookings:
        if booking.id in attendance:
            x.cashier.push(booking.attendee, booking.stake, "stake returned")
    x.cashier.push(run.host, host_payout + run.host_stake, "host payout")


def _checked_attendance(state: State, run: Run, attended: Sequence[int]) -> set[int]:
    """Ids on the attendance list, which holds active bookings of this run only, each once.

    A booking that is listed twice is refused with the status that its first mention gave it: completed.
    """
    attendance: set[int] = set()
    for booking_id in attended:
        label = state.booking_labels.get(booking_id)
        booking = None if label is None else state.bookings[label]
        if booking is None or booking.run != run.label:
            raise RefusedError("BookingNotOfRun", booking_id, run.id)
        if booking_id in attendance:
            raise RefusedError("BookingNotActive", booking_id, BookingStatus.COMPLETED)
        if not booking.active:
            raise RefusedError("BookingNotActive", booking_id, booking.status)
        attendance.add(booking_id)
    return attendance


def _expire(x: _Execution, run_id: int) -> None:
    """Anybody lets a run expire that is still open at start + completion grace.

    Every active booking is refunded its payment and stake, and gets floor(host stake x its seats / all active seats);
    the remainder of the host's stake goes to the platform. Without active bookings the host's stake returns.
    """
    state = x.state
    run = _existing_run(state, run_id)
    _require_open(run)
    opens = run.start + state.terms.completion_grace
    if state.now < opens:
        raise RefusedError("TooEarly", opens)
    refunded = _close(state, run, RunStatus.EXPIRED)
    seats = sum(booking.seats for booking in refunded)
    compensations = [run.host_stake * booking.seats // seats for booking in refunded]
    compensation = sum(compensations)
    to_platform = run.host_stake - compensation if refunded else 0
    state.platform_balance += to_platform
    x.log("EventExpired", run.id, sum(booking.paid for booking in refunded), compensation, to_platform)
    for booking, share in zip(refunded, compensations, strict=True):
        x.cashier.push(booking.attendee, booking.paid + share, "refund and compensation")
    if not refunded:
        x.cashier.push(run.host, run.host_stake, "host stake returned")


def _withdraw(x: _Execution) -> None:
    _withdraw_to(x, x.call.sender)


def _withdraw_to(x: _Execution, receiver: Party) -> None:
    """The sender withdraws their credit, to themselves or to another receiver.

    Unlike a push, a withdrawal fails if the receiver refuses the ether.
    """
    state, sender = x.state, x.call.sender
    _require_receiver(receiver)
    credit = state.credits.get(sender, 0)
    if credit == 0:
        raise RefusedError("NothingToWithdraw")
    if not takes_ether(state, receiver):
        raise RefusedError("TransferFailed", receiver, credit)
    add(state.credits, sender, -credit)
    x.log("CreditWithdrawn", sender, receiver, credit)
    x.cashier.send(receiver, credit, "credit withdrawn")


def _withdraw_fees(x: _Execution) -> None:
    """The owner withdraws what the platform earned, and nothing else. An operator can't."""
    state = x.state
    _require_owner(x)
    earned, owner = state.platform_balance, state.owner
    if earned == 0 and state.full_interface:
        raise RefusedError("NothingToWithdraw")
    if not takes_ether(state, owner) and not state.fees_by_credit:
        raise RefusedError("TransferFailed", owner, earned)
    state.platform_balance = 0
    x.log("PlatformFeesWithdrawn", owner, earned)
    if state.fees_by_credit:
        x.cashier.push(owner, earned, "platform fees")
        return
    add(state.received, owner, earned)
    x.cashier.send(owner, earned, "platform fees")


# Administration


def _set_operator(x: _Execution, account: Party, allowed: bool) -> None:
    """The owner lets an account act for the platform, or no longer."""
    _require_owner(x)
    state = x.state
    state.operators = state.operators | {account} if allowed else state.operators - {account}
    x.log("OperatorSet", account, allowed)


def _pause(x: _Execution) -> None:
    _require_owner(x)
    _require_not_paused(x.state)
    x.state.paused = True
    x.log("Paused", x.call.sender)


def _unpause(x: _Execution) -> None:
    _require_owner(x)
    if not x.state.paused:
        raise RefusedError("ExpectedPause")
    x.state.paused = False
    x.log("Unpaused", x.call.sender)


def _transfer_ownership(x: _Execution, to: Party) -> None:
    """The owner offers the ownership; to nobody: takes an offer back."""
    _require_owner(x)
    x.state.pending_owner = None if to == NOBODY else to
    x.log("OwnershipTransferStarted", x.state.owner, to)


def _accept_ownership(x: _Execution) -> None:
    """Whom the ownership was offered to takes it."""
    state, sender = x.state, x.call.sender
    if sender != state.pending_owner:
        raise RefusedError("OwnableUnauthorizedAccount", sender)
    x.log("OwnershipTransferred", state.owner, sender)
    state.owner, state.pending_owner = sender, None


def _renounce_ownership(x: _Execution) -> None:
    """Without an owner nobody could withdraw the fees, so the ownership can't be given up."""
    _require_owner(x)
    raise RefusedError("OwnershipRequired")


def _fallback(x: _Execution) -> None:
    """There is no fallback."""
    raise RefusedError("NoSuchFunction")


def _receive(x: _Execution) -> None:
    """There is no `receive`: ether that no function asks for is refused."""
    if "ether" not in x.state.liberties:
        raise RefusedError("NoSuchFunction")
    force_ether(x.state, x.call.sender, x.call.value)


_RULES: Mapping[str, Callable[..., None]] = {
    "createEventRun": _create_run,
    "createEventRunFor": _create_run_for,
    "bookEvent": _book,
    "bookEventFor": _book_for,
    "completeEvent": _complete,
    "cancelEvent": _cancel_run,
    "cancelBooking": _cancel_booking,
    "expireEvent": _expire,
    "withdraw": _withdraw,
    "withdrawTo": _withdraw_to,
    "withdrawPlatformFees": _withdraw_fees,
    "setOperator": _set_operator,
    "pause": _pause,
    "unpause": _unpause,
    "transferOwnership": _transfer_ownership,
    "acceptOwnership": _accept_ownership,
    "renounceOwnership": _renounce_ownership,
    RECEIVE: _receive,
    FALLBACK: _fallback,
}
ARGUMENTS: Mapping[str, int] = {name: len(signature(rule).parameters) - 1 for name, rule in _RULES.items()}
"""All functions of `EventStake` that change something, and calls of nothing, with their numbers of arguments."""
_PAYABLE = ("createEventRun", "createEventRunFor", "bookEvent", "bookEventFor", *CALLS_OF_NOTHING)
PAYING = frozenset(
    {
        "completeEvent",
        "cancelEvent",
        "cancelBooking",
        "expireEvent",
        "withdraw",
        "withdrawTo",
        "withdrawPlatformFees",
    }
)
"""Functions that pay, and so are guarded against re-entrance."""


def force_ether(state: State, sender: Party, wei: int) -> None:
    """Forced ether belongs to nobody, and changes no other amount."""
    state.contract_balance += wei
    state.forced_wei += wei
    add(state.wallet_flow, sender, -wei)


def stake_of(state: State, value: int) -> int:
    """The stake in wei: floor(value x stake_bps / 10,000).

    Args:
        state: The state, which has the terms.
        value: For a host the value of the event (price x seats), for an attendee the payment, in wei.
    """
    return value * state.terms.stake_bps // BPS


# Checks that several rules share


def _existing_run(state: State, run_id: int) -> Run:
    label = state.run_labels.get(run_id)
    if label is None:
        raise RefusedError("UnknownEventRun", run_id)
    return state.runs[label]


def _open_run_of(x: _Execution, run_id: int) -> Run:
    """A run that exists and is not final, of a sender who may close it."""
    run = _existing_run(x.state, run_id)
    _require_authority(x, run.host)
    _require_open(run)
    return run


def _require_owner(x: _Execution) -> None:
    if x.call.sender != x.state.owner:
        raise RefusedError("OwnableUnauthorizedAccount", x.call.sender)


def _require_platform(x: _Execution) -> None:
    if not x.state.acts_for_platform(x.call.sender):
        raise RefusedError("OwnableUnauthorizedAccount", x.call.sender)


def _require_authority(x: _Execution, party: Party) -> None:
    """A host or attendee acts for themselves, and the platform for everybody."""
    if x.call.sender != party and not x.state.acts_for_platform(x.call.sender):
        raise RefusedError("NotAuthorized", x.call.sender)


def _require_not_paused(state: State) -> None:
    if state.paused:
        raise RefusedError("EnforcedPause")


def _require_receiver(party: Party) -> None:
    """Somebody can be paid at the address."""
    if party in (NOBODY, CONTRACT):
        raise RefusedError("InvalidReceiver", party)


def _require_before(state: State, deadline: int) -> None:
    if state.now >= deadline:
        raise RefusedError("TooLate", deadline)


def _require_open(run: Run) -> None:
    """A final run stays final."""
    if not run.open:
        raise RefusedError("EventNotOpen", run.id, run.status)


def _require_exact_value(x: _Execution, due: int) -> None:
    """What is due can be held, and exactly that is sent along."""
    state = x.state
    if state.full_interface and state.escrow + sum(state.credits.values()) + due > MAX_HELD:
        raise RefusedError("AmountTooLarge", due)
    if x.call.value != due and not (x.call.value > due and "excess" in state.liberties):
        raise RefusedError("WrongValue", x.call.value, due)


# Changes that several rules share


def _take_into_escrow(x: _Execution, wei: int) -> None:
    x.state.escrow += wei
    pay_in(x.state, x.call.sender, wei)
    if x.call.value > wei:
        force_ether(x.state, x.call.sender, x.call.value - wei)


def _set_seats_booked(state: State, run: Run, seats: int) -> None:
    """A run is full exactly when all its seats are booked."""
    status = RunStatus.FULL if seats == run.max_seats else RunStatus.ACTIVE
    state.runs[run.label] = replace(run, seats_booked=seats, status=status)


def _set_booking_status(state: State, booking: Booking, status: BookingStatus) -> None:
    state.bookings[booking.label] = replace(booking, status=status)


def _close(state: State, run: Run, status: RunStatus, attendance: set[int] | None = None) -> list[Booking]:
    """Makes a run and its active bookings final, and takes what they hold out of escrow.

    Args:
        state: The state.
        run: The run.
        status: Its final status.
        attendance: Ids of the attended bookings of a completed run; None: all bookings are refunded.

    Returns:
        The bookings that were active.
    """
    bookings = state.active_bookings_of(run)
    for booking in bookings:
        if attendance is None:
            final = BookingStatus.CANCELLED
        else:
            final = BookingStatus.COMPLETED if booking.id in attendance else BookingStatus.NO_SHOW
        _set_booking_status(state, booking, final)
    state.runs[run.label] = replace(run, status=status)
    state.escrow -= run.host_stake + sum(booking.paid for booking in bookings)
    return bookings

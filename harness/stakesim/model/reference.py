"""The reference model: what must happen, for every action, to the wei.

A pure state machine on integers, written from the rules of the system and from the order of checks in
`IEventStake.sol`, not from the Solidity. It knows no web3, no files, no clock. This module says who sends
what and that a refused action changes nothing; `rules.py` has one function for each action, `rates.py` the
price check, `money.py` how wei move, `state.py` what there is to know.

Where the rules are silent:
- A push of 0 wei is not made, so it can't be deferred either.
- A booking listed twice in `complete` fails with the status it got by the first mention, Completed.
- A final run keeps its number of booked seats.
- The rate a quote accepted counts as the last accepted one even if the contract then refuses the action.
- A direct `create_run` converts at the feed's rate unchecked; at one that can't be converted the price is 0
  wei.
"""

from dataclasses import replace
from decimal import Decimal

from stakesim.model import rules
from stakesim.model.rates import PRICE_MAX_AGE, PRICE_MAX_JUMP, accept_rate, current_rate, inr_to_wei, set_price
from stakesim.model.rules import MAX_SEATS
from stakesim.model.state import (
    Booking,
    BookingStatus,
    Call,
    ExpectedOutcome,
    Party,
    Payout,
    RefusedError,
    RuleResult,
    Run,
    RunStatus,
    State,
    escrow,
    initial_state,
    liabilities,
    party_of,
)
from stakesim.scenario.actions import (
    PLATFORM,
    Action,
    Book,
    CallFunction,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    ForceEther,
    SetPrice,
    Wait,
    Withdraw,
    WithdrawFees,
)

__all__ = [
    "MAX_SEATS",
    "PRICE_MAX_AGE",
    "PRICE_MAX_JUMP",
    "Booking",
    "BookingStatus",
    "ExpectedOutcome",
    "Party",
    "Payout",
    "Run",
    "RunStatus",
    "State",
    "apply",
    "attended_booking_ids",
    "escrow",
    "initial_state",
    "inr_to_wei",
    "liabilities",
    "party_of",
    "current_rate",
]


def apply(state: State, action: Action, at: int, market: Decimal) -> tuple[State, ExpectedOutcome]:
    """Carry out one action at the block time `at` (seconds since 1970, not before the last one).

    market: INR for one ETH that the scenario's price path gives at that time.
    """
    if at < state.now:
        raise ValueError(f"time can't go back from {state.now} to {at}")
    state = replace(state, now=at)
    if isinstance(action, Wait):
        return state, ExpectedOutcome("ok")
    if isinstance(action, SetPrice):
        return set_price(state, action), ExpectedOutcome("ok")
    if not _names_what_exists(state, action):
        return state, ExpectedOutcome("skipped", action.by)
    call = _call(state, action, market)
    outcome = ExpectedOutcome(
        "ok", call.actor, call.sender, value=call.value, price=call.price, optional=_optional(state, action, call)
    )
    try:
        if isinstance(action, CreateRun | Book) and not action.direct:
            state = accept_rate(state, market)
        settled, payouts = _carry_out(state, action, call)
    except RefusedError as no:
        return state, replace(outcome, status="rejected", error=no.error, args=no.arguments)
    return settled, replace(outcome, paid_in=call.due, payouts=payouts)


def _carry_out(state: State, action: Action, call: Call) -> RuleResult:
    match action:
        case CreateRun():
            return rules.create_run(state, action, call)
        case Book():
            return rules.book(state, action, call)
        case CancelBooking():
            return rules.cancel_booking(state, state.bookings[action.booking], call)
        case CancelRun():
            return rules.cancel_run(state, state.runs[action.run], call)
        case Complete():
            return rules.complete(state, state.runs[action.run], _came(state, action), call)
        case Expire():
            return rules.expire(state, state.runs[action.run])
        case Withdraw():
            return rules.withdraw(state, action.to, call)
        case WithdrawFees():
            return rules.withdraw_fees(state, call)
        case ForceEther():
            return rules.force_ether(state, action.wei, call)
        case CallFunction():
            return state, ()
        case _:
            raise TypeError(f"no rule for {action!r}")


# Who sends what


def _names_what_exists(state: State, action: Action) -> bool:
    """To whoever is asked: the service knows nothing of what was made past it."""
    known: Run | Booking | None
    if isinstance(action, CancelBooking):
        known = state.bookings.get(action.booking)
    elif isinstance(action, Book | CancelRun | Complete | Expire):
        known = state.runs.get(action.run)
    else:
        return True
    return known is not None and (action.direct or not known.direct)


def _optional(state: State, action: Action, call: Call) -> bool:
    """What another contract than `EventStake` may do or refuse: functions of its own, runs larger than that one takes,
    the withdrawal of nothing, and a cancellation that is the host's alone, or comes after the start."""
    if isinstance(action, CallFunction):
        return True
    if isinstance(action, WithdrawFees):
        return not state.full_interface and state.platform_balance == 0
    if isinstance(action, CreateRun) and not state.full_interface:
        large = (call.price or 0) > rules.MAX_PRICE or action.seats > MAX_SEATS
        return large or state.epoch + action.starts > rules.MAX_START
    if isinstance(action, CancelRun) and not state.full_interface:
        run = state.runs[action.run]
        return call.sender == PLATFORM and (run.host != PLATFORM or state.now >= run.start)
    return False


def _call(state: State, action: Action, market: Decimal) -> Call:
    actor = _actor(state, action)
    sender = _sender(state, action, actor)
    match action:
        case CreateRun():
            price = inr_to_wei(action.price_inr, current_rate(state, market)[0])
            due = rules.stake_of(state, price * action.seats)
            return Call(actor, sender, _value(due, action.value_off), due, price)
        case Book():
            payment = state.runs[action.run].price * action.seats
            due = payment + rules.stake_of(state, payment)
            return Call(actor, sender, _value(due, action.value_off), due)
        case ForceEther():
            return Call(actor, sender, action.wei)
        case _:
            return Call(actor, sender)


def _actor(state: State, action: Action) -> str:
    """Who takes the action; where the file leaves it out, the one whose run or booking it is."""
    match action:
        case CancelBooking(by=None):
            return state.bookings[action.booking].actor
        case CancelRun(by=None) | Complete(by=None):
            return state.runs[action.run].actor
        case Wait() | SetPrice():
            return PLATFORM
        case _:
            assert action.by is not None
            return action.by


def _sender(state: State, action: Action, actor: str) -> Party:
    """The address that sends the transaction and pays for it: one's own for who pays for themselves, or goes
    past the service, forces ether, or withdraws a credit (it belongs to the sender); otherwise the platform's."""
    own = isinstance(action, Withdraw | ForceEther | CallFunction) or getattr(action, "direct", False)
    if own or actor == PLATFORM or state.actors[actor].pays == "self":
        return party_of(state, actor)
    return PLATFORM


def _value(due: int, off: int) -> int:
    """What a direct sender sends; never right when `off` is not zero, never negative."""
    return due + off if due + off >= 0 else due - off


def attended_booking_ids(state: State, action: Complete) -> tuple[int, ...]:
    """The ids that `complete` sends, in the order given. A booking that was never made has none and is left
    out, as is one that the service does not know."""
    return tuple(state.bookings[label].id for label in _came(state, action))


def _came(state: State, action: Complete) -> list[str]:
    made = (state.bookings[label] for label in action.attended if label in state.bookings)
    return [booking.label for booking in made if action.direct or not booking.direct]

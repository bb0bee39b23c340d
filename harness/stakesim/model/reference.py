"""The reference model: whether an action must succeed, the error it must fail with, and who gets how many wei.

It is a pure state machine on integers, written from the rules of the business and from the order of checks that
`IEventStake.sol` states, not from the Solidity code. This module decides who sends what, and that a refused action
changes nothing. `rules.py` has one function for each action, `rates.py` the price check, `payments.py` what people
pay in INR, `transfers.py` how wei move, and `state.py` the data.

Decisions where the rules leave a choice:

- A push of 0 wei is not made, so it can't become a credit either.
- A booking that is listed twice in `complete` is refused with the status that its first mention gave it: completed.
- A final run keeps its number of booked seats.
- The rate that a quote accepted is the last accepted rate, even if the contract then refuses the action.
- What somebody pays in INR is checked before the contract is asked, so its errors come before the contract's.
- A direct `create_run` converts its price at the feed's rate without a check. At a rate that can't be converted, the
  price is 0 wei.
"""

from dataclasses import replace
from decimal import Decimal

from stakesim.model import payments, rules
from stakesim.model.calls import contract_call_of
from stakesim.model.deployed_interface import may_refuse
from stakesim.model.rates import accept_rate, current_rate, inr_to_wei, set_price
from stakesim.model.state import (
    Booking,
    Call,
    ContractCall,
    Effects,
    ExpectedOutcome,
    Party,
    ReceiverScript,
    RefusedError,
    Run,
    State,
    party_of,
)
from stakesim.model.transfers import Reentries
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
    ScriptReceiver,
    SetIds,
    SetPrice,
    Wait,
    Withdraw,
)
from stakesim.scenario.administration import (
    Administration,
)


def apply(
    state: State,
    action: Action,
    at: int,
    market: Decimal,
    refusal: RefusedError | None = None,
    reentries: Reentries | None = None,
) -> tuple[State, ExpectedOutcome]:
    """Carries out one action.

    Args:
        state: The state before the action.
        action: The action.
        at: Time of the action's block, in seconds since 1970; not before the last action.
        market: The market's rate at that time, in INR per ETH.
        refusal: The error of a contract that refuses an optional action; None: the rules decide.
        reentries: Which calls of receivers that reenter succeeded on chain; None: none did.

    Returns:
        The state after the action, and the outcome that it must have.

    Raises:
        ValueError: The time is before the last action.
    """
    if at < state.now:
        raise ValueError(f"time can't go back from {state.now} to {at}")
    state = state.copy()
    state.now = at
    if isinstance(action, Wait):
        return state, ExpectedOutcome("ok")
    if isinstance(action, SetPrice):
        return set_price(state, action), ExpectedOutcome("ok")
    if isinstance(action, SetIds):
        _set_ids(state, action)
        return state, ExpectedOutcome("ok")
    if isinstance(action, ScriptReceiver):
        state.receivers[action.by] = _script(action)
        return state, ExpectedOutcome("ok", action.by, action.by)
    if not _target_exists(state, action):
        return state, ExpectedOutcome("skipped", action.by)
    call = _call(state, action, market)
    optional = _is_optional(state, action, call)
    outcome = ExpectedOutcome("ok", call.actor, call.sender, value=call.value, price=call.price, optional=optional)
    try:
        if isinstance(action, CreateRun | Book) and not action.direct:
            state = accept_rate(state, market)
            if payments.is_paid_in_inr(state, action, call):
                state = payments.pay(state, action, call, current_rate(state, market).rate)
                payments.require_paid(action)
        if refusal is not None:
            raise refusal
        effects = _carry_out(state, action, call, reentries)
    except RefusedError as refused:
        return state, replace(outcome, status="rejected", error=refused.error, args=refused.arguments)
    return _with_payments(state, action), replace(
        outcome,
        paid_in=call.due,
        payouts=tuple(effects.payouts),
        events=tuple(effects.events),
        wrong_reentries=tuple(effects.wrong_reentries),
    )


def _with_payments(state: State, action: Action) -> State:
    """The state with what a successful action means for the payments in INR."""
    if isinstance(action, CreateRun | Book):
        return state if action.direct else payments.use(state, action)
    if isinstance(action, CancelBooking | CancelRun | Complete | Expire | CallFunction):
        return payments.give_back(state)
    return state


def _carry_out(state: State, action: Action, call: Call, reentries: Reentries | None) -> Effects:
    """Changes the state as the action does if it succeeds."""
    if isinstance(action, ForceEther):
        rules.force_ether(state, call.sender, action.wei)
        return Effects()
    contract_call = contract_call_of(state, action, call)
    return Effects() if contract_call is None else rules.execute(state, contract_call, reentries)


def _set_ids(state: State, action: SetIds) -> None:
    if action.runs is not None:
        state.last_run_id = action.runs
    if action.bookings is not None:
        state.last_booking_id = action.bookings


def _script(action: ScriptReceiver) -> ReceiverScript:
    if action.calls is None:
        look = None if action.looks_at is None else (action.looks_at.function, action.looks_at.args)
        return ReceiverScript(action.how, look=look)
    call = ContractCall(action.by, action.calls.function, action.calls.args, action.calls.value)
    return ReceiverScript(action.how, call)


# Who sends what


def _target_exists(state: State, action: Action) -> bool:
    """Whether the action's run or booking was made; sent through the backend, whether the backend knows it."""
    target: Run | Booking | None
    if isinstance(action, CancelBooking):
        target = state.bookings.get(action.booking)
    elif isinstance(action, Book | CancelRun | Complete | Expire):
        target = state.runs.get(action.run)
    else:
        return True
    return target is not None and (action.direct or not target.direct)


def _is_optional(state: State, action: Action, call: Call) -> bool:
    """Whether a contract other than `EventStake` may refuse what the rules allow.

    That is any call of a function of its own, any call with little gas, and what `may_refuse` says.
    """
    if state.full_interface and not isinstance(action, CallFunction):
        return False
    if isinstance(action, ForceEther):
        return False
    contract_call = contract_call_of(state, action, call)
    if isinstance(action, CallFunction) and (action.gas is not None or contract_call is None):
        return True
    return contract_call is not None and may_refuse(state, contract_call)


def _call(state: State, action: Action, market: Decimal) -> Call:
    actor = _actor(state, action)
    sender = _sender(state, action, actor)
    match action:
        case CreateRun():
            price = inr_to_wei(action.price_inr, current_rate(state, market).rate)
            due = rules.stake_of(state, price * action.seats)
            return Call(actor, sender, _value(due, action.value_off), due, price)
        case Book():
            payment = state.runs[action.run].price * action.seats
            due = payment + rules.stake_of(state, payment)
            return Call(actor, sender, _value(due, action.value_off), due)
        case ForceEther():
            return Call(actor, sender, action.wei)
        case CallFunction():
            return Call(actor, sender, action.value)
        case _:
            return Call(actor, sender)


def _actor(state: State, action: Action) -> str:
    """Who takes the action: by default the attendee of a booking, and the host of a run."""
    match action:
        case CancelBooking(by=None):
            return state.bookings[action.booking].actor
        case CancelRun(by=None) | Complete(by=None):
            return state.runs[action.run].actor
        case Wait() | SetPrice() | SetIds():
            return PLATFORM
        case _:
            assert action.by is not None
            return action.by


def _sender(state: State, action: Action, actor: str) -> Party:
    """The address that sends the transaction and pays for it.

    It is the actor's own if they pay for themselves, bypass the backend, administer the contract, force ether, call
    another function, or withdraw a credit, which belongs to the sender. Otherwise it is the platform's.
    """
    if payer := getattr(action, "paid_by", None):
        return party_of(state, payer)
    alone = Withdraw | ForceEther | CallFunction | Administration
    sends_alone = isinstance(action, alone) or getattr(action, "direct", False)
    if sends_alone or actor == PLATFORM or state.actors[actor].pays == "self":
        return party_of(state, actor)
    return PLATFORM


def _value(due: int, value_off: int) -> int:
    """The wei that are sent: due + value_off or, where that is negative, due - value_off, which is wrong as well."""
    return due + value_off if due + value_off >= 0 else due - value_off

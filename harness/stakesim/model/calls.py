"""The call of the contract that an action of a scenario is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stakesim.model.deployed_interface import DEPLOYED
from stakesim.model.rules import ARGUMENTS, CALLS_OF_NOTHING
from stakesim.model.state import EXPERIENCE_ID, Booking, Call, ContractCall, State, party_of
from stakesim.scenario.actions import (
    Action,
    Book,
    CallFunction,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    Withdraw,
    WithdrawFees,
)
from stakesim.scenario.administration import AcceptOwnership, Pause, SetOperator, TransferOwnership, Unpause


def contract_call_of(state: State, action: Action, call: Call) -> ContractCall | None:
    """Returns the call that carries an action out.

    Where somebody else signs for a host or attendee, it is the one that names whom it is for.

    Args:
        state: The state before the action.
        action: An action that is sent to the contract.
        call: Who takes and sends it, and what is sent along.

    Returns:
        None for a call of a function that only the contract at hand has, or that takes other arguments. If the contract
        has only the deployed interface, that is each other function, and calls of nothing, as it may take plain ether.
    """
    function, args = _function_of(state, action, call)
    if ARGUMENTS.get(function) != len(args):
        return None
    own = isinstance(action, CallFunction) and function not in DEPLOYED
    if not state.full_interface and (own or function in CALLS_OF_NOTHING):
        return None
    label, direct = None, True
    if isinstance(action, CreateRun | Book):
        label, direct = action.run if isinstance(action, CreateRun) else action.booking, action.direct
        party = party_of(state, call.actor)
        if party != call.sender:
            function, args = f"{function}For", (party, *args)
    return ContractCall(call.sender, function, args, call.value, label, call.actor, direct)


def _function_of(state: State, action: Action, call: Call) -> tuple[str, tuple[Any, ...]]:
    """Function and arguments of an action whose sender takes it for themselves."""
    match action:
        case CreateRun():
            return "createEventRun", (EXPERIENCE_ID, call.price, action.seats, state.epoch + action.starts)
        case Withdraw(to=None):
            return "withdraw", ()
        case CallFunction():
            return action.function, action.args
        case _:
            function, arguments = _FUNCTIONS[type(action)]
            return function, arguments(state, action)


_FUNCTIONS: Mapping[type[Any], tuple[str, Callable[[State, Any], tuple[Any, ...]]]] = {
    Book: ("bookEvent", lambda state, action: (state.runs[action.run].id, action.seats)),
    CancelBooking: ("cancelBooking", lambda state, action: (state.bookings[action.booking].id,)),
    CancelRun: ("cancelEvent", lambda state, action: (state.runs[action.run].id,)),
    Complete: (
        "completeEvent",
        lambda state, action: (state.runs[action.run].id, attended_booking_ids(state, action)),
    ),
    Expire: ("expireEvent", lambda state, action: (state.runs[action.run].id,)),
    Withdraw: ("withdrawTo", lambda state, action: (party_of(state, action.to),)),
    WithdrawFees: ("withdrawPlatformFees", lambda state, action: ()),
    SetOperator: ("setOperator", lambda state, action: (party_of(state, action.operator), action.allowed)),
    TransferOwnership: ("transferOwnership", lambda state, action: (party_of(state, action.to),)),
    AcceptOwnership: ("acceptOwnership", lambda state, action: ()),
    Pause: ("pause", lambda state, action: ()),
    Unpause: ("unpause", lambda state, action: ()),
}


def attended_booking_ids(state: State, action: Complete) -> tuple[int, ...]:
    """The contract's ids of the attended bookings, as `complete` sends them."""
    return tuple(booking.id for booking in _attendance_list(state, action))


def _attendance_list(state: State, action: Complete) -> list[Booking]:
    """The attended bookings in the action's order, without those that were never made.

    Sent through the backend, the list is also without those that the backend does not know.
    """
    bookings = (state.bookings[label] for label in action.attended if label in state.bookings)
    return [booking for booking in bookings if action.direct or not booking.direct]

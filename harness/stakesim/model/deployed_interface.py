"""A contract that has only the interface deployed on Sepolia: what of it is judged, and what it may refuse."""

from stakesim.model.rules import MAX_HELD, MAX_PRICE, MAX_SEATS, MAX_START, RECEIVE, stake_of
from stakesim.model.state import ContractCall, State

DEPLOYED = ("createEventRun", "bookEvent", "completeEvent", "cancelEvent", "withdrawPlatformFees", RECEIVE)
"""Those of the interface that is deployed on Sepolia, and `RECEIVE`."""


def may_refuse(state: State, call: ContractCall) -> bool:
    """Whether a contract that has only the deployed interface may refuse a call that the rules allow.

    - A run with a price, seats or a start above `EventStake`'s limits, or without an experience id.
    - A payment that is larger than what `EventStake` can hold, or than what is due.
    - The owner's cancellation of a run that somebody else hosts or that has started.
    - The withdrawal of no fees.
    """
    if state.full_interface:
        return False
    held = state.escrow + sum(state.credits.values()) + call.value
    match call.function, call.args:
        case "createEventRun", (experience, price, seats, start):
            is_large = price > MAX_PRICE or seats > MAX_SEATS or start > MAX_START or held > MAX_HELD
            return not experience or is_large or call.value > stake_of(state, price * seats)
        case "bookEvent", (run_id, seats):
            label = state.run_labels.get(run_id)
            payment = 0 if label is None else state.runs[label].price * seats
            return held > MAX_HELD or call.value > payment + stake_of(state, payment)
        case "cancelEvent", (run_id,):
            label = state.run_labels.get(run_id)
            run = None if label is None else state.runs[label]
            return (
                run is not None and call.sender == state.owner and (run.host != call.sender or state.now >= run.start)
            )
        case "withdrawPlatformFees", _:
            return state.platform_balance == 0
    return False

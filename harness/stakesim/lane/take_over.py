"""What the model takes over from the chain, of a contract that has only the interface deployed on Sepolia.

No event of such a contract tells that a payout was deferred, its own functions may pay credits, and it may be entered
again while it pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from stakesim.lane.arena import Arena, Executed
from stakesim.lane.moves import FUNDS, PARTIES, PUPPETS
from stakesim.model.rules import execute
from stakesim.model.state import ContractCall, Effects, RefusedError, State
from stakesim.model.transfers import add, pay_out

_SUMMED = 4_096
"""Sums of payouts that are looked at."""


def pays_a_puppet(state: State, call: ContractCall) -> bool:
    """Whether a contract is paid, if only 0 wei: `transfer` gives it so little gas that it may have to refuse."""
    label = state.run_labels.get(call.args[0]) if call.args else None
    if label is None:
        return False
    run = state.runs[label]
    return run.host in PUPPETS or any(each.attendee in PUPPETS for each in state.bookings_of(run))


def take_over_deferrals(state: State, arena: Arena, effects: Effects) -> None:
    """Takes over that contracts had too little gas to take what was pushed, so that it was deferred.

    A contract that has only the deployed interface does not tell of it. People are not judged so leniently.
    """
    may_be_deferred = [each for each in effects.payouts if each.reason not in state.liberties]
    pushed = {name: [each.wei for each in may_be_deferred if each.to == name] for name in PUPPETS}
    if not any(pushed.values()):
        return
    balances, _ = arena.read(())
    for name, amounts in pushed.items():
        missing = FUNDS + state.wallet_flow.get(name, 0) - balances[PARTIES.index(name)]
        if missing > 0 and _is_sum(missing, amounts):
            add(state.credits, name, missing)
            pay_out(state, name, -missing)


def take_over_own_function(state: State, arena: Arena, creditor: str, done: Executed) -> None:
    """Takes over what a function of the contract's own may do.

    It may pay its caller's credit, or a part of it, to anybody; a receiver may call the contract meanwhile.
    """
    for name, succeeded in arena.reentries(done.logs).items():
        nested = state.receivers[name].call if name in state.receivers else None
        if nested is None:
            continue
        for _ in filter(None, succeeded):
            with suppress(RefusedError):  # then the state is another one, which is seen
                take_over_deferrals(state, arena, execute(state, nested))
    if creditor not in state.credits:
        return
    balances, _ = arena.read(())
    paid = state.contract_balance - balances[-1]
    if not 0 < paid <= state.credits[creditor]:
        return
    add(state.credits, creditor, -paid)
    for party, wei in zip(PARTIES, balances, strict=False):
        if wei - FUNDS - state.wallet_flow.get(party, 0) == paid:
            pay_out(state, party, paid)
            return
    state.contract_balance, state.paid_out = state.contract_balance - paid, state.paid_out + paid  # to a stranger


def _is_sum(wei: int, amounts: Sequence[int]) -> bool:
    """Whether it is the sum of some of the amounts; of too many different ones, whether it could be."""
    sums = {0}
    for amount in amounts:
        sums |= {each + amount for each in sums}
        if len(sums) > _SUMMED:
            return wei <= sum(amounts)
    return wei in sums

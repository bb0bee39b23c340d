"""How wei move: into the contract, out of it, and into a credit if the receiver refuses them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from stakesim.model.state import Call, Party, Payout, RuleResult, State
from stakesim.scenario.actions import PLATFORM


def pay_in(state: State, call: Call) -> State:
    """The sender pays the call's value into the contract."""
    return replace(
        state,
        contract_balance=state.contract_balance + call.value,
        paid_in=add(state.paid_in, call.sender, call.value),
        wallet_flow=add(state.wallet_flow, call.sender, -call.value),
    )


def pay_out(state: State, receiver: Party, wei: int) -> State:
    """Wei leave the contract and arrive in the receiver's wallet."""
    return replace(
        state,
        contract_balance=state.contract_balance - wei,
        paid_out=state.paid_out + wei,
        wallet_flow=add(state.wallet_flow, receiver, wei),
    )


def push(state: State, payouts: Iterable[Payout]) -> RuleResult:
    """Sends each payout to its receiver.

    If a receiver refuses the ether, the amount becomes a credit, and all other payouts are made as usual. A payout of
    0 wei is not made, so it can't become a credit either.
    """
    final_payouts = []
    for payout in payouts:
        if payout.wei == 0:
            continue
        payout = replace(payout, deferred=not takes_ether(state, payout.to))
        final_payouts.append(payout)
        state = replace(state, received=add(state.received, payout.to, payout.wei))
        if payout.deferred:
            state = replace(state, credits=add(state.credits, payout.to, payout.wei))
        else:
            state = pay_out(state, payout.to, payout.wei)
    return state, tuple(final_payouts)


def takes_ether(state: State, party: Party) -> bool:
    """Whether ether can be sent to the party's address."""
    return party == PLATFORM or state.actors[party].takes_ether


def add(amounts: Mapping[Party, int], party: Party, wei: int) -> dict[Party, int]:
    """Adds wei to a party's amount. Parties whose amount is 0 are left out of the mapping."""
    changed = {**amounts, party: amounts.get(party, 0) + wei}
    return {name: amount for name, amount in changed.items() if amount}

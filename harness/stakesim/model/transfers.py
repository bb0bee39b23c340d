"""How wei move: into the contract, out of it, and into a credit where the receiver does not take them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from stakesim.model.state import Call, Party, Payout, RuleResult, State
from stakesim.scenario.actions import PLATFORM


def pay_in(state: State, call: Call) -> State:
    return replace(
        state,
        contract_balance=state.contract_balance + call.value,
        paid_in=added(state.paid_in, call.sender, call.value),
        wallet_flow=added(state.wallet_flow, call.sender, -call.value),
    )


def push(state: State, payouts: Iterable[Payout]) -> RuleResult:
    """Send each payout; one that its receiver does not take becomes a credit, and stops nobody else's."""
    made = []
    for payout in (p for p in payouts if p.wei):
        payout = replace(payout, deferred=not takes_ether(state, payout.to))
        made.append(payout)
        state = replace(state, received=added(state.received, payout.to, payout.wei))
        if payout.deferred:
            state = replace(state, credits=added(state.credits, payout.to, payout.wei))
        else:
            state = leave(state, payout.to, payout.wei)
    return state, tuple(made)


def takes_ether(state: State, party: Party) -> bool:
    return party == PLATFORM or state.actors[party].takes_ether


def leave(state: State, to: Party, wei: int) -> State:
    return replace(
        state,
        contract_balance=state.contract_balance - wei,
        paid_out=state.paid_out + wei,
        wallet_flow=added(state.wallet_flow, to, wei),
    )


def added(amounts: Mapping[Party, int], party: Party, wei: int) -> dict[Party, int]:
    """Amounts by party with `wei` more for one; who has nothing is not listed."""
    changed = {**amounts, party: amounts.get(party, 0) + wei}
    return {who: amount for who, amount in changed.items() if amount}

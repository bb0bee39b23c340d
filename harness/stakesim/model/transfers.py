"""How wei move: into the contract, out of it, and into a credit if the receiver refuses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from stakesim.model.state import ContractCall, Effects, Party, Payout, Reason, State
from stakesim.scenario.actions import PLATFORM

Reentries: TypeAlias = Mapping[Party, Iterator[bool]]
"""Whether the calls that receivers made while they were paid succeeded, by receiver, in their order."""
Reenter: TypeAlias = Callable[[State, ContractCall, Effects], None]
"""Judges a call that a receiver made successfully while it was paid, and carries it out."""


def pay_in(state: State, sender: Party, wei: int) -> None:
    """The sender pays wei into the contract."""
    state.contract_balance += wei
    add(state.paid_in, sender, wei)
    add(state.wallet_flow, sender, -wei)


def pay_out(state: State, receiver: Party, wei: int) -> None:
    """Wei leave the contract and arrive in the receiver's wallet."""
    state.contract_balance -= wei
    state.paid_out += wei
    add(state.wallet_flow, receiver, wei)


class Cashier:
    """Pays what one call of the contract pays."""

    def __init__(self, state: State, effects: Effects, reenter: Reenter, reentries: Reentries) -> None:
        """Pays out of a state.

        Args:
            state: What is changed.
            effects: Where payouts and events are noted.
            reenter: Carries out what a receiver called meanwhile.
            reentries: Which of the receivers' calls succeeded.
        """
        self._state, self._effects, self._reenter, self._reentries = state, effects, reenter, reentries

    def push(self, to: Party, wei: int, reason: Reason) -> None:
        """Sends wei to a receiver; if it refuses them, they become its credit. 0 wei are not sent."""
        if wei == 0:
            return
        state = self._state
        add(state.received, to, wei)
        deferred = state.pays_by_credit or not takes_ether(state, to)
        if deferred:
            add(state.credits, to, wei)
            self._effects.events.append(("PaymentDeferred", to, wei))
        else:
            pay_out(state, to, wei)
        self._effects.payouts.append(Payout(to, wei, reason, deferred))
        if not deferred:
            self._let_reenter(to)

    def send(self, to: Party, wei: int, reason: Reason) -> None:
        """Sends wei to a receiver that takes them."""
        pay_out(self._state, to, wei)
        self._effects.payouts.append(Payout(to, wei, reason))
        self._let_reenter(to)

    def _let_reenter(self, receiver: Party) -> None:
        """Carries out the receiver's call if it succeeded.

        Whether it does is seen on chain: it may lack the gas.
        """
        script = self._state.receivers.get(receiver)
        if script is None or script.call is None or script.how != "accepts":
            return
        if next(self._reentries.get(receiver, iter(())), False):
            self._reenter(self._state, script.call, self._effects)


def takes_ether(state: State, party: Party) -> bool:
    """Whether ether can be sent to the party's address."""
    if party in state.receivers:
        return state.receivers[party].how == "accepts"
    actor = state.actors.get(party)
    return party == PLATFORM or actor is None or actor.takes_ether


def add(amounts: dict[Party, int], party: Party, wei: int) -> None:
    """Adds wei to a party's amount. Parties whose amount is 0 are left out of the mapping."""
    amount = amounts.get(party, 0) + wei
    if amount:
        amounts[party] = amount
    else:
        amounts.pop(party, None)

"""How wei move: into the contract, out of it, and into a credit if the receiver refuses them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import permutations, product
from typing import TypeAlias

from stakesim.model.state import ContractCall, Effects, Party, Payout, Reason, RefusedError, State
from stakesim.scenario.actions import PLATFORM

Reentries: TypeAlias = Mapping[Party, Iterator[bool | None]]
"""Whether the calls that receivers made while they were paid succeeded, by receiver, in their order.

None: the receiver ran out of gas on the way, so that the payout was deferred. A receiver that is not here was not paid,
or called in vain.
"""
_ORDERED = 5
"""Calls of receivers whose order is tried out."""
Reenter: TypeAlias = Callable[[State, ContractCall, Effects], None]
"""Judges a call that a receiver made successfully while it was paid, and carries it out."""


def orders(reentries: Mapping[Party, Iterable[bool | None]]) -> Iterator[dict[str, tuple[bool | None, ...]]]:
    """Whether receivers' calls succeeded: in the order that is told, then in others, unless they are many.

    A call is told when it ends, so one that was made within another comes before it.
    """
    told = {name: tuple(each) for name, each in reentries.items()}
    yield told
    if 1 < sum(map(len, told.values())) <= _ORDERED:
        for order in product(*(sorted(set(permutations(each)), key=str) for each in told.values())):
            yield dict(zip(told, order, strict=True))


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

    def __init__(self, state: State, effects: Effects, reenter: Reenter, reentries: Reentries | None) -> None:
        """Pays out of a state.

        Args:
            state: What is changed.
            effects: Where payouts and events are noted.
            reenter: Carries out what a receiver called meanwhile.
            reentries: Which of the receivers' calls succeeded; None: none did.
        """
        self._state, self._effects, self._reenter, self._reentries = state, effects, reenter, reentries

    def push(self, to: Party, wei: int, reason: Reason) -> None:
        """Sends wei to a receiver; if it refuses them, they become its credit.

        0 wei are not sent. A contract that has only the deployed interface may send them, and so call the receiver.

        Raises:
            RefusedError: It refuses them, and the contract makes no credit of what is paid for this reason.
        """
        state = self._state
        if wei == 0:
            if not state.full_interface and self._reentry(to):
                self._carry_out_call_of(to)
            return
        if reason in state.liberties:
            if not takes_ether(state, to):
                raise RefusedError("TransferFailed", to, wei)
            add(state.received, to, wei)
            self.send(to, wei, reason)
            return
        add(state.received, to, wei)
        reentry = None if state.pays_by_credit else self._reentry(to)
        deferred = not takes_ether(state, to, pushed=True) or reentry is None
        if deferred:
            add(state.credits, to, wei)
            self._effects.events.append(("PaymentDeferred", to, wei))
        else:
            pay_out(state, to, wei)
        self._effects.payouts.append(Payout(to, wei, reason, deferred))
        if reentry:
            self._carry_out_call_of(to)

    def send(self, to: Party, wei: int, reason: Reason) -> None:
        """Sends wei to a receiver that takes them."""
        pay_out(self._state, to, wei)
        self._effects.payouts.append(Payout(to, wei, reason))
        if self._reentry(to):
            self._carry_out_call_of(to)

    def _reentry(self, receiver: Party) -> bool | None:
        """Whether a call that the receiver makes while it is paid succeeded; None if it ran out of gas.

        That is seen on chain, as it depends on the gas.
        """
        script = self._state.receivers.get(receiver)
        if self._reentries is None or script is None or script.call is None or script.how not in _ACCEPTING:
            return False
        return next(self._reentries.get(receiver, iter(())), False)

    def _carry_out_call_of(self, receiver: Party) -> None:
        call = self._state.receivers[receiver].call
        assert call is not None
        self._reenter(self._state, call, self._effects)


_ACCEPTING = ("accepts", "spends_little", "spends_much", "needs_stipend")


def takes_ether(state: State, party: Party, *, pushed: bool = False) -> bool:
    """Whether ether can be sent to the party's address.

    Args:
        state: The state.
        party: The receiver.
        pushed: With the gas of a push, which is for a smart wallet but not for more; else with all gas.
    """
    if party in state.receivers:
        how = state.receivers[party].how
        return how in _ACCEPTING and not (pushed and how == "spends_much")
    actor = state.actors.get(party)
    return party == PLATFORM or actor is None or actor.takes_ether


def add(amounts: dict[Party, int], party: Party, wei: int) -> None:
    """Adds wei to a party's amount. Parties whose amount is 0 are left out of the mapping."""
    amount = amounts.get(party, 0) + wei
    if amount:
        amounts[party] = amount
    else:
        amounts.pop(party, None)

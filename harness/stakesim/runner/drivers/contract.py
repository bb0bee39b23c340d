"""The contract alone: each action is a transaction of whoever the rules say signs, without a backend.

What a careful client does is done here too: costs are asked from the contract, and what an estimate would refuse is not
sent. So a scenario has the ledger that it has through a backend.
"""

from __future__ import annotations

from typing import Any

from stakesim.evm.client import TRANSACTION_GAS
from stakesim.evm.errors import CallReverted
from stakesim.model.reference import ExpectedOutcome, State, party_of
from stakesim.runner.drivers.onchain import ContractCall, OnChain
from stakesim.runner.step import ActualOutcome
from stakesim.scenario.actions import PLATFORM, Action, Book, CreateRun, ForceEther, SetPrice, Wait


class ContractDriver:
    """See `stakesim.runner.drivers.Driver`."""

    def __init__(self, onchain: OnChain) -> None:
        self._onchain = onchain

    def perform(self, action: Action, expected: ExpectedOutcome, model: State) -> ActualOutcome:
        if expected.status == "skipped":
            return ActualOutcome("skipped")
        if isinstance(action, SetPrice | Wait):
            return ActualOutcome("ok")
        if isinstance(action, ForceEther):
            self._onchain.force_ether(action)
            return ActualOutcome("ok")
        if self._onchain.goes_direct(action):
            return self._onchain.send(action, expected, model)
        if expected.error == "PriceError":  # a price check is the backend's; the contract has no part in it
            return ActualOutcome("rejected", "PriceError")
        return self._attempt(action, expected, model)

    def rows(self) -> None:
        return None

    def lacks(self, action: Action) -> bool:
        return False

    def asks_backend(self, action: Action) -> bool:
        return False

    def _attempt(self, action: Action, expected: ExpectedOutcome, model: State) -> ActualOutcome:
        """As a client does that estimates first."""
        onchain = self._onchain
        signer = expected.signer or PLATFORM
        account = onchain.parties.accounts[signer]
        try:
            call = self._priced(onchain.call_of(action, expected, model))
            call = self._entered(call, action, expected, model)
            data = onchain.data(call)
            onchain.chain.call(
                onchain.address,
                data,
                sender=account.address,
                value=call.value,
                gas=TRANSACTION_GAS,
                block="pending",
            )
        except CallReverted as reverted:
            return onchain.failure("rejected", reverted)
        receipt = onchain.chain.transact(account, onchain.address, data, call.value)
        if receipt.ok:
            return ActualOutcome("ok")
        return ActualOutcome("reverted", "Unknown", (), "the call succeeded, and the same transaction reverted")

    def _priced(self, call: ContractCall) -> ContractCall:
        """With the wei that the contract says it costs."""
        if call.function == "createEventRun":
            _, price, seats, _ = call.args
            return call._replace(value=self._onchain.view("calculateRequiredStake", price, seats)[0])
        if call.function == "bookEvent":
            return call._replace(value=self._onchain.view("calculateBookingCost", *call.args)[2])
        return call

    def _entered(self, call: ContractCall, action: Any, expected: ExpectedOutcome, model: State) -> ContractCall:
        """Where the platform pays in for a host or attendee, it names whose account is entered."""
        if not isinstance(action, CreateRun | Book):
            return call
        party = party_of(model, expected.actor or PLATFORM)
        if party == expected.signer:
            return call
        return ContractCall(f"{call.function}For", (self._onchain.parties.addresses[party], *call.args), call.value)

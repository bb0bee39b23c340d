"""The contract alone: each action is a transaction of whoever the rules say signs, without a backend.

As a careful client does, the driver asks the contract for costs, and does not send what an estimate refuses. So a
scenario has the same ledger as through a backend.
"""

from __future__ import annotations

from stakesim.evm.client import TRANSACTION_GAS
from stakesim.evm.errors import CallReverted
from stakesim.model.state import ExpectedOutcome, State
from stakesim.runner.drivers.onchain import ContractCall, OnChain
from stakesim.runner.step import ActualOutcome
from stakesim.scenario.actions import PLATFORM, Action

_BACKENDS_ERRORS = ("PriceError", "PaymentTooSmall", "NotPaid", "PaymentUnusable")
"""Errors of checks that only backends make."""


class ContractDriver:
    """Drives the contract alone; see `stakesim.runner.drivers.Driver`."""

    takes_payments = True  # in the model, so that a scenario has the same ledger as through a backend

    def __init__(self, onchain: OnChain) -> None:
        """Sends actions through `onchain`."""
        self._onchain = onchain

    def perform(self, action: Action, expected: ExpectedOutcome, model: State) -> ActualOutcome:
        """See `Driver.perform`."""
        outcome = self._onchain.perform_without_backend(action, expected, model)
        if outcome is not None:
            return outcome
        if expected.error in _BACKENDS_ERRORS:
            return ActualOutcome("rejected", expected.error)
        return self._call_then_send(action, expected, model)

    def rows(self) -> None:
        """There is no database."""
        return

    def is_unsupported(self, action: Action) -> bool:
        """The contract is sent every action."""
        return False

    def uses_backend(self, action: Action) -> bool:
        """There is no backend."""
        return False

    def _call_then_send(self, action: Action, expected: ExpectedOutcome, model: State) -> ActualOutcome:
        """Sends the transaction only if a call of it succeeds, as a client that estimates gas does."""
        onchain = self._onchain
        account = onchain.parties.accounts[expected.signer or PLATFORM]
        try:
            call = self._with_cost(onchain.call_of(action, expected, model))
            data = onchain.call_data(call)
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

    def _with_cost(self, call: ContractCall) -> ContractCall:
        """The call with the wei that the contract says it costs."""
        match call:
            case ContractCall("createEventRun" | "createEventRunFor", (*_, price, seats, _)):
                (host_stake,) = self._onchain.view("calculateRequiredStake", price, seats)
                return call._replace(value=host_stake)
            case ContractCall("bookEvent" | "bookEventFor", (*_, run_id, seats)):
                _, _, total = self._onchain.view("calculateBookingCost", run_id, seats)
                return call._replace(value=total)
        return call

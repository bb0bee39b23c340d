"""Actions as transactions of the contract, signed by the actors themselves: past the backend, or without one."""

from __future__ import annotations

from typing import Any, NamedTuple

from stakesim.evm.abi import ContractAbi
from stakesim.evm.client import TRANSACTION_GAS, ChainClient
from stakesim.evm.compiler import Artifact
from stakesim.evm.deployment import deploy, init_code
from stakesim.evm.errors import AbiError, CallReverted, MistakenCall
from stakesim.evm.required_abi import stake_abi
from stakesim.model.reference import ExpectedOutcome, State, attended_booking_ids
from stakesim.runner.parties import EXPERIENCE_ID, Parties
from stakesim.runner.step import ActualOutcome
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
    Withdraw,
    WithdrawFees,
)


class ContractCall(NamedTuple):
    """A call of the stake contract. value: wei."""

    function: str
    args: tuple[Any, ...]
    value: int = 0


class OnChain:
    """Sends a scenario's actions to the contract of one session."""

    def __init__(
        self,
        chain: ChainClient,
        parties: Parties,
        address: str,
        abi: ContractAbi,
        controlled: ContractAbi,
        ether_forcer: Artifact,
    ) -> None:
        """abi: of the contract at `address`. controlled: of `ControlledAccount`, which hostile contracts are."""
        self.chain, self.parties, self.address = chain, parties, address
        self._abi, self._controlled, self._ether_forcer = abi, controlled, ether_forcer
        self._names = parties.names()

    def force_ether(self, action: ForceEther) -> None:
        """Into the contract, which can't refuse it."""
        sender = self.parties.accounts[action.by]
        code = init_code(self._ether_forcer, (self.address,))
        deploy(self.chain, sender, code, name=self._ether_forcer.name, value=action.wei)

    def send(self, action: Action, expected: ExpectedOutcome, model: State) -> ActualOutcome:
        """Sends the action with the actor's own key and enough gas, so that a failing one is mined and reverts."""
        name = expected.actor or PLATFORM
        return self.transact(name, self.call_of(action, expected, model)._replace(value=expected.value))

    def transact(self, actor: str, call: ContractCall) -> ActualOutcome:
        """Sends a call, by a hostile contract at its controller's command where the actor is one."""
        sender, to, value = self.parties.accounts[actor], self.address, call.value
        data = self.data(call)
        if self.parties.is_contract(actor):
            data = self._controlled.encode("execute", self.address, value, data)
            to, value = self.parties.addresses[actor], 0
        receipt = self.chain.transact(sender, to, data, value)
        if receipt.ok:
            return ActualOutcome("ok")
        try:
            self.chain.call(
                to, data, sender=sender.address, value=value, gas=TRANSACTION_GAS, block=receipt.block_number
            )
        except CallReverted as reverted:
            return self.failure("reverted", reverted)
        return ActualOutcome("reverted", "Unknown", (), "the node does not say why")

    def data(self, call: ContractCall) -> bytes:
        """Call data. A function of the interface is encoded as that has it, whatever else of its name there is."""
        abi = stake_abi() if call.function in stake_abi() else self._abi
        try:
            return abi.encode(call.function, *call.args)
        except AbiError as error:
            raise MistakenCall(str(error)) from error

    def failure(self, status: str, reverted: CallReverted) -> ActualOutcome:
        """An outcome with the contract's reason, accounts called by their party."""
        text = str(reverted)
        if not reverted.data and "revert" not in text.lower():
            return ActualOutcome(status, "Unknown", (), text)
        reason = self._abi.revert_reason(reverted.data)
        if reason.name == "Unknown":
            reason = stake_abi().revert_reason(reverted.data)
        return ActualOutcome(status, reason.name, self.named(reason.args), reason.text)

    def named(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """An error's arguments, accounts called by their party."""
        return tuple(self._names.get(arg, arg) if isinstance(arg, str) else arg for arg in args)

    def view(self, function: str, *args: Any) -> tuple[Any, ...]:
        """What a view returns. Raises `CallReverted`, `AbiError`."""
        return stake_abi().decode(function, self.chain.call(self.address, stake_abi().encode(function, *args)))

    def call_of(self, action: Action, expected: ExpectedOutcome, model: State) -> ContractCall:
        """The function and arguments that carry the action out."""
        match action:
            case CreateRun():
                start = model.epoch + action.starts
                return ContractCall("createEventRun", (EXPERIENCE_ID, expected.price, action.seats, start))
            case Book():
                return ContractCall("bookEvent", (model.runs[action.run].id, action.seats))
            case CancelBooking():
                return ContractCall("cancelBooking", (model.bookings[action.booking].id,))
            case CancelRun():
                return ContractCall("cancelEvent", (model.runs[action.run].id,))
            case Complete():
                return ContractCall("completeEvent", (model.runs[action.run].id, attended_booking_ids(model, action)))
            case Expire():
                return ContractCall("expireEvent", (model.runs[action.run].id,))
            case Withdraw(to=None):
                return ContractCall("withdraw", ())
            case Withdraw(to=str(to)):
                return ContractCall("withdrawTo", (self.parties.addresses[to],))
            case WithdrawFees():
                return ContractCall("withdrawPlatformFees", ())
            case CallFunction():
                addresses = self.parties.addresses
                args = tuple(addresses.get(arg, arg) if isinstance(arg, str) else arg for arg in action.args)
                return ContractCall(action.function, args)
            case _:
                raise TypeError(f"{action!r} is no call of the contract")

    def goes_direct(self, action: Any) -> bool:
        """Whether the actor sends it themselves: the file says so, or nobody else could sign for it."""
        return (
            isinstance(action, CallFunction)
            or action.direct
            or (isinstance(action, Withdraw) and self.parties.is_contract(action.by))
        )

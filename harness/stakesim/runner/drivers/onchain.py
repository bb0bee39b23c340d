"""Actions as transactions to the contract, signed by the actors themselves: past the backend, or without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from stakesim.evm.abi import ContractAbi
from stakesim.evm.client import TRANSACTION_GAS, ChainClient
from stakesim.evm.compiler import Artifact
from stakesim.evm.deployment import deploy, init_code
from stakesim.evm.errors import AbiError, CallReverted, MistakenCall
from stakesim.evm.required_abi import stake_abi
from stakesim.model.calls import attended_booking_ids
from stakesim.model.state import EXPERIENCE_ID, ExpectedOutcome, State, party_of
from stakesim.runner.parties import Parties
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
    SetPrice,
    Wait,
    Withdraw,
    WithdrawFees,
)
from stakesim.scenario.administration import (
    AcceptOwnership,
    Administration,
    Pause,
    SetOperator,
    TransferOwnership,
    Unpause,
)


class ContractCall(NamedTuple):
    """A call of the stake contract.

    Attributes:
        function: Its name.
        args: Its arguments.
        value: Wei that are sent with it.
    """

    function: str
    args: tuple[Any, ...]
    value: int = 0


class OnChain:
    """Sends a scenario's actions to its contract.

    Attributes:
        chain: The chain that the contract is on.
        parties: The scenario's actors as accounts.
        address: Of the contract.
    """

    def __init__(
        self,
        chain: ChainClient,
        parties: Parties,
        address: str,
        abi: ContractAbi,
        controlled_account_abi: ContractAbi,
        ether_forcer: Artifact,
    ) -> None:
        """Sends actions to one contract.

        Args:
            chain: The chain that the contract is on.
            parties: The scenario's actors as accounts.
            address: Of the contract.
            abi: Of the contract.
            controlled_account_abi: Of `ControlledAccount`, which hostile contracts are.
            ether_forcer: Forces ether into a contract when it is deployed.
        """
        self.chain, self.parties, self.address = chain, parties, address
        self._abi, self._controlled_account_abi, self._ether_forcer = abi, controlled_account_abi, ether_forcer
        self._names = parties.names()

    def perform_without_backend(self, action: Action, expected: ExpectedOutcome, model: State) -> ActualOutcome | None:
        """Carries out an action in which no backend has a part: time, the price feed, forced ether, direct calls.

        Returns:
            None for any other action; then nothing was done.
        """
        if expected.status == "skipped":
            return ActualOutcome("skipped")
        if isinstance(action, SetPrice | Wait):
            return ActualOutcome("ok")
        if isinstance(action, ForceEther):
            self._force_ether(action)
            return ActualOutcome("ok")
        return self.send(action, expected, model) if self.goes_direct(action) else None

    def goes_direct(self, action: Action) -> bool:
        """Whether the actor sends it themselves: the scenario says so, or nobody else could sign for it."""
        return (
            isinstance(action, CallFunction | Administration)
            or getattr(action, "direct", False)
            or (isinstance(action, Withdraw) and self.parties.is_contract(action.by))
        )

    def send(self, action: Action, expected: ExpectedOutcome, model: State) -> ActualOutcome:
        """Sends the action with the actor's own key and enough gas, so that a failing one is mined and reverts."""
        name = getattr(action, "paid_by", None) or expected.actor or PLATFORM
        return self._transact(name, self.call_of(action, expected, model)._replace(value=expected.value))

    def call_of(self, action: Action, expected: ExpectedOutcome, model: State) -> ContractCall:
        """The call that carries the action out, without its value.

        Where somebody else signs for a host or attendee, the call is the one that names whom it is for.
        """
        call = self._own_call_of(action, expected, model)
        if not isinstance(action, CreateRun | Book):
            return call
        party = party_of(model, expected.actor or PLATFORM)
        if party == expected.signer:
            return call
        return ContractCall(f"{call.function}For", (self.parties.addresses[party], *call.args))

    def _own_call_of(self, action: Action, expected: ExpectedOutcome, model: State) -> ContractCall:
        if isinstance(action, CreateRun):
            start = model.epoch + action.starts
            return ContractCall("createEventRun", (EXPERIENCE_ID, expected.price, action.seats, start))
        if isinstance(action, Withdraw):
            if action.to is None:
                return ContractCall("withdraw", ())
            return ContractCall("withdrawTo", (self.parties.addresses[action.to],))
        if isinstance(action, CallFunction):
            addresses = self.parties.addresses
            args = (addresses.get(arg, arg) if isinstance(arg, str) else arg for arg in action.args)
            return ContractCall(action.function, tuple(args))
        if isinstance(action, SetOperator):
            return ContractCall(
                "setOperator", (self.parties.addresses[party_of(model, action.operator)], action.allowed)
            )
        if isinstance(action, TransferOwnership):
            return ContractCall("transferOwnership", (self.parties.addresses[party_of(model, action.to)],))
        function, arguments = _CALLS[type(action)]
        return ContractCall(function, arguments(action, model))

    def call_data(self, call: ContractCall) -> bytes:
        """Encodes a call. A function of the interface is encoded as the interface has it, whatever overloads exist.

        Raises:
            MistakenCall: The contract has no such function, or it takes other arguments.
        """
        abi = stake_abi() if call.function in stake_abi() else self._abi
        try:
            return abi.encode(call.function, *call.args)
        except AbiError as error:
            raise MistakenCall(str(error)) from error

    def view(self, function: str, *args: Any) -> tuple[Any, ...]:
        """Calls a view and decodes what it returns.

        Raises:
            CallReverted: The view reverts.
            AbiError: It returns something else than the ABI says.
        """
        return stake_abi().decode(function, self.chain.call(self.address, stake_abi().encode(function, *args)))

    def failure(self, status: str, reverted: CallReverted) -> ActualOutcome:
        """An outcome with the contract's reason to revert."""
        text = str(reverted)
        if not reverted.data and "revert" not in text.lower():
            return ActualOutcome(status, "Unknown", (), text)
        reason = self._abi.revert_reason(reverted.data)
        if reason.name == "Unknown":
            reason = stake_abi().revert_reason(reverted.data)
        return ActualOutcome(status, reason.name, self.with_party_names(reason.args), reason.text)

    def with_party_names(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """An error's arguments, with accounts called by their party."""
        return tuple(self._names.get(arg, arg) if isinstance(arg, str) else arg for arg in args)

    def _force_ether(self, action: ForceEther) -> None:
        """Forces ether into the contract, which can't refuse it."""
        sender = self.parties.accounts[action.by]
        code = init_code(self._ether_forcer, (self.address,))
        deploy(self.chain, sender, code, name=self._ether_forcer.name, value=action.wei)

    def _transact(self, actor: str, call: ContractCall) -> ActualOutcome:
        """Sends a call; for a hostile contract, its controller makes the contract send it."""
        sender, to, value = self.parties.accounts[actor], self.address, call.value
        data = self.call_data(call)
        if self.parties.is_contract(actor):
            data = self._controlled_account_abi.encode("execute", self.address, value, data)
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


_CALLS: Mapping[type[Any], tuple[str, Callable[[Any, State], tuple[Any, ...]]]] = {
    Book: ("bookEvent", lambda action, model: (model.runs[action.run].id, action.seats)),
    CancelBooking: ("cancelBooking", lambda action, model: (model.bookings[action.booking].id,)),
    CancelRun: ("cancelEvent", lambda action, model: (model.runs[action.run].id,)),
    Complete: ("completeEvent", lambda action, model: (model.runs[action.run].id, attended_booking_ids(model, action))),
    Expire: ("expireEvent", lambda action, model: (model.runs[action.run].id,)),
    WithdrawFees: ("withdrawPlatformFees", lambda action, model: ()),
    Pause: ("pause", lambda action, model: ()),
    Unpause: ("unpause", lambda action, model: ()),
    AcceptOwnership: ("acceptOwnership", lambda action, model: ()),
}
"""Function and arguments of actions whose call follows from action and model alone."""

"""Actions as transactions to the contract, signed by the actors themselves: past the backend, or without one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

from stakesim.evm.abi import ContractAbi
from stakesim.evm.client import TRANSACTION_GAS, ChainClient
from stakesim.evm.compiler import Artifact
from stakesim.evm.deployment import deploy, init_code
from stakesim.evm.errors import AbiError, CallReverted, MistakenCall
from stakesim.evm.required_abi import stake_abi
from stakesim.model.calls import contract_call_of
from stakesim.model.rules import CALLS_OF_NOTHING, CONTRACT, NOBODY
from stakesim.model.state import Call, ExpectedOutcome, State
from stakesim.model.views import ZERO_ADDRESS
from stakesim.runner.parties import Parties
from stakesim.runner.step import ActualOutcome
from stakesim.scenario.actions import (
    PLATFORM,
    Action,
    CallFunction,
    ForceEther,
    ReceiverMode,
    ScriptReceiver,
    SetIds,
    SetPrice,
    Wait,
    Withdraw,
)
from stakesim.scenario.administration import Administration

_LEAST_GAS = 21_000
"""No transaction takes less."""


class ReceiverAbis(NamedTuple):
    """ABIs of contracts that receive ether: `ControlledAccount`, and the scripted one."""

    controlled: ContractAbi
    scripted: ContractAbi


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
        receiver_abis: ReceiverAbis,
        ether_forcer: Artifact,
        set_ids: Callable[[SetIds], None],
    ) -> None:
        """Sends actions to one contract.

        Args:
            chain: The chain that the contract is on.
            parties: The scenario's actors as accounts.
            address: Of the contract.
            abi: Of the contract.
            receiver_abis: Of contracts that receive ether.
            ether_forcer: Forces ether into a contract when it is deployed.
            set_ids: Sets the contract's counters.
        """
        self.chain, self.parties, self.address = chain, parties, address
        self._abi, self._receiver_abis, self._ether_forcer = abi, receiver_abis, ether_forcer
        self._addresses = {**parties.addresses, NOBODY: ZERO_ADDRESS, CONTRACT: address}
        self._names = {address: name for name, address in self._addresses.items()}
        self._set_ids = set_ids

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
        if isinstance(action, SetIds):
            self._set_ids(action)
            return ActualOutcome("ok")
        if isinstance(action, ScriptReceiver):
            self._script(action)
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
        call = self.call_of(action, expected, model)._replace(value=expected.value)
        if isinstance(action, CallFunction):
            return self._transact(name, call, action.signed_by, action.gas)
        return self._transact(name, call)

    def call_of(self, action: Action, expected: ExpectedOutcome, model: State) -> ContractCall:
        """The call that carries the action out, without its value.

        Where somebody else signs for a host or attendee, the call is the one that names whom it is for.
        """
        signer = expected.signer or PLATFORM
        call = contract_call_of(model, action, Call(expected.actor or PLATFORM, signer, price=expected.price))
        if call is not None:
            return self._with_addresses(call.function, call.args)
        assert isinstance(action, CallFunction)
        return self._with_addresses(action.function, action.args)

    def _with_addresses(self, function: str, args: tuple[Any, ...], value: int = 0) -> ContractCall:
        """A call with addresses for parties."""
        types = () if function in CALLS_OF_NOTHING else self._abi_of(function).input_types(function)
        if len(types) != len(args):
            return ContractCall(function, args, value)
        return ContractCall(
            function,
            tuple(
                self._addresses.get(arg, arg) if kind == "address" else arg
                for arg, kind in zip(args, types, strict=True)
            ),
            value,
        )

    def _abi_of(self, function: str) -> ContractAbi:
        """A function of the interface is encoded as the interface has it, whatever overloads exist."""
        return stake_abi() if function in stake_abi() else self._abi

    def call_data(self, call: ContractCall) -> bytes:
        """Encodes a call.

        Raises:
            MistakenCall: The contract has no such function, or it takes other arguments.
        """
        if call.function in CALLS_OF_NOTHING:
            return CALLS_OF_NOTHING[call.function]
        try:
            return self._abi_of(call.function).encode(call.function, *call.args)
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

    def _script(self, action: ScriptReceiver) -> None:
        """Tells a scripted receiver what to do with ether."""
        calls, looks_at, data, view, value = action.calls, action.looks_at, b"", b"", 0
        if calls is not None:
            data, value = self.call_data(self._with_addresses(calls.function, calls.args)), calls.value
        if looks_at is not None:
            view = self.call_data(self._with_addresses(looks_at.function, looks_at.args))
        how = get_args(ReceiverMode).index(action.how)
        script = self._receiver_abis.scripted.encode("script", how, value, data, view)
        self.chain.transact(self.parties.accounts[action.by], self.parties.addresses[action.by], script)

    def _transact(
        self, actor: str, call: ContractCall, signed_by: str | None = None, gas: int | Literal["least"] | None = None
    ) -> ActualOutcome:
        """Sends a call; for a hostile contract, its controller makes the contract send it, or who else is named."""
        sender, to, value = self.parties.accounts[actor], self.address, call.value
        data = self.call_data(call)
        if self.parties.is_contract(actor):
            sender = self.parties.accounts[signed_by or actor]
            if self.parties.actors[actor].receiver == "scripted":
                data = self._receiver_abis.scripted.encode("act", self.address, value, data)
            else:
                data = self._receiver_abis.controlled.encode("execute", self.address, value, data)
            to, value = self.parties.addresses[actor], 0
        if gas == "least":
            gas = self._least_gas(sender.address, to, data, value)
        receipt = self.chain.transact(sender, to, data, value, gas or TRANSACTION_GAS)
        if receipt.ok:
            return ActualOutcome("ok")
        try:
            self.chain.call(
                to,
                data,
                sender=sender.address,
                value=value,
                gas=gas or TRANSACTION_GAS,
                block=receipt.block_number,
            )
        except CallReverted as reverted:
            return self.failure("reverted", reverted)
        return ActualOutcome("reverted", "Unknown", (), "the node does not say why")

    def _least_gas(self, sender: str, to: str, data: bytes, value: int) -> int:
        """The least gas with which a call succeeds; that of a transaction if it fails with that."""

        def succeeds(gas: int) -> bool:
            try:
                self.chain.call(to, data, sender=sender, value=value, gas=gas, block="pending")
            except CallReverted:
                return False
            return True

        return bisect_left(range(TRANSACTION_GAS), True, lo=_LEAST_GAS + 1, key=succeeds)

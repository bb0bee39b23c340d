"""Watches what can change about the contract while the service runs: its code, owner, pause, and percentages.

A round of the reconciler looks; whoever signs asks `reason_to_hold`, which reads memory only. Nothing is held before
the first look, as nobody would let the operation go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.crypto import keccak
from web3 import Web3
from web3.exceptions import ContractLogicError

from app.services import rpc
from app.services.operation_types import CREATIONS, Operation
from app.services.rpc_answers import checksummed
from app.services.rpc_errors import NODE_ERRORS, as_chain_unavailable

IMPLEMENTATION_SLOT = "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"
"""Storage slot in which a proxy has the address of its implementation (EIP-1967)."""
PAUSABLE = CREATIONS
"""Functions that a pause stops. Everything else is an exit, which goes on."""
FOR_OWNER = ("createEventRunFor", "bookEventFor", "withdrawPlatformFees")
"""Functions that only the contract's owner may call."""
CHANGEABLE = ("code", "owner", "percentages")
"""Parts of `ContractState` that are compared with the start; a pause ends by itself."""
ACCESS_REVERTS = ("EnforcedPause", "OwnableUnauthorizedAccount", "NotAuthorized")
"""Names of reverts after which the contract is looked at again, as they may be the first sign of a change."""


class ContractState(NamedTuple):
    """What the contract's owner, or whoever controls its code, can change.

    Attributes:
        code: Hash of its code, and of its implementation's if it is a proxy.
        owner: Address of its owner; None if it does not say.
        paused: Whether new runs and bookings are stopped.
        percentages: Stake and platform fee in percent; None where they can't be changed.
    """

    code: str
    owner: str | None
    paused: bool
    percentages: tuple[int | None, int | None]


class ContractWatch:
    """Compares the contract with what it was when the service started.

    Args:
        w3: Connection to the node.
        address: Address of the contract.
        platform: Address of the platform's account.
    """

    def __init__(self, w3: Web3, address: str, platform: str) -> None:
        self._w3, self._address, self._platform = w3, address, platform
        self._first: ContractState | None = None
        self._last: ContractState | None = None

    def look(self) -> str | None:
        """Reads the contract as of the latest block.

        Returns:
            What is wrong with it, in a sentence; None if nothing is.

        Raises:
            ChainUnavailable: The node does not answer. What was seen last stays in force.
        """
        try:
            self._last = self._read()
        except NODE_ERRORS as error:
            raise as_chain_unavailable("contract", error) from error
        self._first = self._first or self._last
        return "; ".join(self._changes()) or None

    @property
    def paused(self) -> bool:
        """Whether new runs and bookings are stopped, as of the last look."""
        return self._last is not None and self._last.paused

    def changed(self) -> dict[str, bool]:
        """Returns whether code, owner and percentages are others than at the start, as of the last look."""
        first, last = self._first, self._last
        known = first is not None and last is not None
        return {part: known and getattr(first, part) != getattr(last, part) for part in CHANGEABLE}

    @property
    def code_changed(self) -> bool:
        """Whether the contract has other code than at the start, so that nothing at all may be signed."""
        return self._last is not None and self._first is not None and self._last.code != self._first.code

    def reason_to_hold(self, operation: Operation) -> str | None:
        """Returns why the operation can't succeed at present, as of the last look; None if it may."""
        if self._last is None or operation.to_address != self._address:
            return None
        is_owners = operation.kind in FOR_OWNER and operation.sender == self._platform
        if self.code_changed or operation.kind in PAUSABLE or is_owners:
            return "; ".join(self._changes(pausable=operation.kind in PAUSABLE, owners=is_owners)) or None
        return None

    def reason_after_revert(self, operation: Operation, revert_name: str) -> str | None:
        """Returns why an operation that was just reverted is held; None if the revert is about the operation itself.

        Raises:
            ChainUnavailable: The node does not answer.
        """
        if self._last is None or operation.to_address != self._address or revert_name not in ACCESS_REVERTS:
            return None
        self.look()
        owners = operation.sender == self._platform
        return "; ".join(self._changes(pausable=operation.kind in PAUSABLE, owners=owners)) or None

    def _changes(self, *, pausable: bool = True, owners: bool = True) -> Iterator[str]:
        """Yields what differs from the start, if it concerns any function, pausable ones, or those for the owner."""
        first, last = self._first, self._last
        assert first is not None
        assert last is not None
        if last.code != first.code:
            yield f"the code of the contract {self._address} changed while the service runs: nothing is signed"
        if last.paused and pausable:
            yield "the contract is paused: new runs and bookings wait until its owner unpauses it"
        if last.percentages != first.percentages and pausable:
            before, now = (" and ".join(map(str, state.percentages)) for state in (first, last))
            yield f"stake and fee were {before} percent and are {now}: restart the service to accept that"
        if last.owner != first.owner and owners:
            yield f"the contract's owner was {first.owner} and is {last.owner}: the platform may not act for others"

    def _read(self) -> ContractState:
        code = rpc.code(self._w3, self._address)
        implementation = rpc.storage_at(self._w3, self._address, IMPLEMENTATION_SLOT)
        if any(implementation):
            code += rpc.code(self._w3, checksummed("0x" + implementation[-20:].hex()))
        owner, paused = self._view("owner()"), self._view("paused()")
        percentages = (self._view("stakePercentage()"), self._view("platformFeePercentage()"))
        return ContractState(
            keccak(code).hex(), None if owner is None else checksummed(f"0x{owner:040x}"), bool(paused), percentages
        )

    def _view(self, signature: str) -> int | None:
        """Returns the one number or address that a view returns; None if the contract lacks it."""
        selector = function_signature_to_4byte_selector(signature)
        try:
            output = rpc.call(self._w3, self._address, selector)
        except ContractLogicError:
            return None
        return int.from_bytes(output) if len(output) == 32 else None

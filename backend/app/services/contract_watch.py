"""Watches what can change about the contract while the service runs: code, owner, operator, pause, and percentages.

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
FOR_PLATFORM = ("createEventRunFor", "bookEventFor")
"""Functions that only the contract's owner and its operators may call."""
FOR_OWNER = ("withdrawPlatformFees",)
"""Functions that only the contract's owner may call."""
ACCESS_REVERTS = ("EnforcedPause", "OwnableUnauthorizedAccount", "NotAuthorized")
"""Names of reverts after which the contract is looked at again, as they may be the first sign of a change."""


class ContractState(NamedTuple):
    """What the contract's owner, or whoever controls its code, can change.

    Attributes:
        code: Hash of its code, and of its implementation's if it is a proxy.
        owner: Address of its owner; None if it does not say.
        is_operator: Whether the platform's account is one of its operators.
        paused: Whether new runs and bookings are stopped.
        percentages: Stake and platform fee in percent; None where they can't be changed.
    """

    code: str
    owner: str | None
    is_operator: bool
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
        """Returns by part whether it is another than at the start, as of the last look. A pause ends by itself."""
        first, last = self._first, self._last
        if first is None or last is None:
            return dict.fromkeys(("code", "platform_role", "percentages"), False)
        return {
            "code": first.code != last.code,
            "platform_role": self._acts(first) and not self._acts(last),
            "percentages": first.percentages != last.percentages,
        }

    @property
    def code_changed(self) -> bool:
        """Whether the contract has other code than at the start, so that nothing at all may be signed."""
        return self._last is not None and self._first is not None and self._last.code != self._first.code

    def reason_to_hold(self, operation: Operation) -> str | None:
        """Returns why the operation can't succeed at present, as of the last look; None if it may."""
        if self._last is None or operation.to_address != self._address:
            return None
        is_ours, kind = operation.sender == self._platform, operation.kind
        changes = self._changes(
            pausable=kind in PAUSABLE, acting=is_ours and kind in FOR_PLATFORM, owning=is_ours and kind in FOR_OWNER
        )
        return "; ".join(changes) or None

    def reason_after_revert(self, operation: Operation, revert_name: str) -> str | None:
        """Returns why an operation that was just reverted is held; None if the revert is about the operation itself.

        Raises:
            ChainUnavailable: The node does not answer.
        """
        if self._last is None or operation.to_address != self._address or revert_name not in ACCESS_REVERTS:
            return None
        self.look()
        is_ours, kind = operation.sender == self._platform, operation.kind
        changes = self._changes(pausable=kind in PAUSABLE, acting=is_ours, owning=is_ours and kind in FOR_OWNER)
        return "; ".join(changes) or None

    def _changes(self, *, pausable: bool = True, acting: bool = True, owning: bool = False) -> Iterator[str]:
        """Yields what differs from the start.

        Args:
            pausable: Whether to say what concerns functions that a pause stops.
            acting: Whether to say that the platform acts for others no longer.
            owning: Whether to say that the platform is the owner no longer.
        """
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
        if acting and self._acts(first) and not self._acts(last):
            yield (
                f"the platform's account {self._platform} is neither owner nor operator of the contract any more "
                f"(its owner is {last.owner}): the platform may not act for others"
            )
        elif owning and first.owner == self._platform != last.owner:
            yield f"the contract's owner was {first.owner} and is {last.owner}, who alone may do this"

    def _acts(self, state: ContractState) -> bool:
        """Whether the platform's account may act for others."""
        return state.is_operator or state.owner == self._platform

    def _read(self) -> ContractState:
        code = rpc.code(self._w3, self._address)
        implementation = rpc.storage_at(self._w3, self._address, IMPLEMENTATION_SLOT)
        if any(implementation):
            code += rpc.code(self._w3, checksummed("0x" + implementation[-20:].hex()))
        owner, paused = self._view("owner()"), self._view("paused()")
        is_operator = self._view("isOperator(address)", bytes.fromhex(self._platform[2:].zfill(64)))
        percentages = (self._view("stakePercentage()"), self._view("platformFeePercentage()"))
        return ContractState(
            code=keccak(code).hex(),
            owner=None if owner is None else checksummed(f"0x{owner:040x}"),
            is_operator=bool(is_operator),
            paused=bool(paused),
            percentages=percentages,
        )

    def _view(self, signature: str, arguments: bytes = b"") -> int | None:
        """Returns the one number or address that a view returns; None if the contract lacks it."""
        selector = function_signature_to_4byte_selector(signature) + arguments
        try:
            output = rpc.call(self._w3, self._address, selector)
        except ContractLogicError:
            return None
        return int.from_bytes(output) if len(output) == 32 else None

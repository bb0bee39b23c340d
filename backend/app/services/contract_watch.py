"""Watches what can change about the contract while the service runs: code, owner, operator, pause, and percentages.

A round of the reconciler looks; whoever signs asks `reason_to_hold`, which reads memory only. Nothing is held before
the first look, as nobody would let the operation go on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from eth_hash.auto import keccak
from eth_utils.abi import function_signature_to_4byte_selector
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
        operators: Those of the platform's accounts that are its operators.
        paused: Whether new runs and bookings are stopped.
        percentages: Stake and platform fee in percent; None where they can't be changed.
    """

    code: str
    owner: str | None
    operators: frozenset[str]
    paused: bool
    percentages: tuple[int | None, int | None]


class ContractWatch:
    """Compares the contract with what it was when the service started.

    Args:
        w3: Connection to the node.
        address: Address of the contract.
        accounts: Addresses of the accounts that send the platform's operations.
    """

    def __init__(self, w3: Web3, address: str, *accounts: str) -> None:
        self._w3, self._address, self._accounts = w3, address, accounts
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
        return "; ".join(self._changes(acting=self._accounts)) or None

    @property
    def lost_lanes(self) -> str | None:
        """Which accounts may not act for others any more while others may, in a sentence, as of the last look."""
        lost = self._lost()
        return (
            f"{self._describe(lost)}: no new operation is sent from there"
            if 0 < len(lost) < len(self._accounts)
            else None
        )

    def may_act(self, account: str) -> bool:
        """Returns whether an account may act for others, as of the last look; whether it is the platform's before."""
        return account in self._accounts if self._last is None else _acts(self._last, account)

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
            "platform_role": bool(self._lost()),
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
        kind, ours = operation.kind, [each for each in self._accounts if each == operation.sender]
        acting, owning = kind in FOR_PLATFORM, kind in FOR_OWNER
        changes = self._changes(pausable=kind in PAUSABLE, acting=ours if acting else (), owning=ours if owning else ())
        return "; ".join(changes) or None

    def reason_after_revert(self, operation: Operation, revert_name: str) -> str | None:
        """Returns why an operation that was just reverted is held; None if the revert is about the operation itself.

        Raises:
            ChainUnavailable: The node does not answer.
        """
        if self._last is None or operation.to_address != self._address or revert_name not in ACCESS_REVERTS:
            return None
        self.look()
        kind, ours = operation.kind, [each for each in self._accounts if each == operation.sender]
        changes = self._changes(pausable=kind in PAUSABLE, acting=ours, owning=ours if kind in FOR_OWNER else ())
        return "; ".join(changes) or None

    def _changes(
        self, *, pausable: bool = True, acting: Collection[str], owning: Collection[str] = ()
    ) -> Iterator[str]:
        """Yields what differs from the start.

        Args:
            pausable: Whether to say what concerns functions that a pause stops.
            acting: Accounts of which to say that none of them acts for others any more.
            owning: Accounts of which to say that they are the owner no longer.
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
        lost = [account for account in self._lost() if account in acting]
        if lost and not any(_acts(last, account) for account in acting):
            yield f"{self._describe(lost)}: the platform may not act for others"
        elif first.owner in owning and first.owner != last.owner:
            yield f"the contract's owner was {first.owner} and is {last.owner}, who alone may do this"

    def _lost(self) -> list[str]:
        """Returns the accounts that acted for others at the start, and may not any more."""
        first, last = self._first, self._last
        if first is None or last is None:
            return []
        return [account for account in self._accounts if _acts(first, account) and not _acts(last, account)]

    def _describe(self, lost: Collection[str]) -> str:
        are = f"account {', '.join(lost)} is" if len(lost) == 1 else f"accounts {', '.join(lost)} are"
        owner = self._last and self._last.owner
        return f"the platform's {are} neither owner nor operator of the contract any more (its owner is {owner})"

    def _read(self) -> ContractState:
        code = rpc.code(self._w3, self._address)
        implementation = rpc.storage_at(self._w3, self._address, IMPLEMENTATION_SLOT)
        if any(implementation):
            code += rpc.code(self._w3, checksummed("0x" + implementation[-20:].hex()))
        owner, paused = self._view("owner()"), self._view("paused()")
        operators = [each for each in self._accounts if self._view("isOperator(address)", _argument(each))]
        percentages = (self._view("stakePercentage()"), self._view("platformFeePercentage()"))
        return ContractState(
            code=keccak(code).hex(),
            owner=None if owner is None else checksummed(f"0x{owner:040x}"),
            operators=frozenset(operators),
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


def _acts(state: ContractState, account: str) -> bool:
    """Returns whether an account may act for others."""
    return account in state.operators or account == state.owner


def _argument(address: str) -> bytes:
    return bytes.fromhex(address[2:].zfill(64))

"""The `Evm` protocol: what executes the transactions of a chain in this process, and keeps its states.

`py_evm.PyEvm` and `revm.Revm` implement it. Addresses are 20 bytes, amounts are in wei, fees in wei per gas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias

import rlp
from eth_hash.auto import keccak

Header: TypeAlias = Any
"""A block header: py-evm's, or a `revm.Header` with the same attributes. py-evm's own types only have the attributes of
the first fork."""
Transaction: TypeAlias = Any
"""A signed transaction as py-evm decodes it or as `raw_transaction` does, or an `UnsignedTransaction`. py-evm's
own types have the same gap."""


class RpcLog(NamedTuple):
    """A log as JSON-RPC writes it: all fields in hex, the address checksummed."""

    address: str
    topics: Sequence[str]
    data: str


class Receipt(NamedTuple):
    """The result of a mined transaction.

    Attributes:
        ok: Whether it succeeded.
        gas_used: Gas used by this transaction alone, after refunds.
        logs: Logs in the order in which they were emitted.
    """

    ok: bool
    gas_used: int
    logs: Sequence[RpcLog]


class Message(NamedTuple):
    """A call to execute without mining. An empty `to` creates a contract with `data` as its init code."""

    sender: bytes
    to: bytes
    value: int
    data: bytes
    gas: int
    access_list: Sequence[tuple[bytes, Sequence[int]]] = ()


class StateOverride(NamedTuple):
    """What to change of an account.

    Attributes:
        balance: In wei; None to keep it, as with the next two.
        nonce: Nonce.
        code: Code of a contract.
        slots: Storage slots with their words.
        replaces_storage: Whether all other slots become 0.
    """

    balance: int | None = None
    nonce: int | None = None
    code: bytes | None = None
    slots: Mapping[int, int] = MappingProxyType({})
    replaces_storage: bool = False


StateOverrides: TypeAlias = Mapping[bytes, StateOverride]
"""Changes of accounts by their addresses."""
NO_OVERRIDES: StateOverrides = MappingProxyType({})


class UnsignedTransaction(NamedTuple):
    """A transaction that needs no signature, with the attributes of py-evm's dynamic-fee transactions.

    An empty `to` creates a contract.
    """

    sender: bytes
    nonce: int
    to: bytes
    value: int
    data: bytes
    gas: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int
    type_id: int = 2
    access_list: Sequence[tuple[bytes, Sequence[int]]] = ()

    @property
    def hash(self) -> bytes:
        """An identifier. It is no hash of a real chain, as those cover the signature."""
        return keccak(repr(self).encode())


class CallResult(NamedTuple):
    """The result of a `Message`.

    Attributes:
        output: Return data, or the data of a revert.
        gas_used: Gas used before refunds.
        error: None for success, "Revert", or the EVM's name for another failure.
        runs_code: Whether there was any code to run.
        watches_gas: Whether the result may depend on how much gas the code had; None if unknown.
    """

    output: bytes
    gas_used: int
    error: str | None
    runs_code: bool
    watches_gas: bool | None


Accesses: TypeAlias = dict[bytes, set[int]]
"""Storage slots by the address of their contract."""


class Evm(Protocol):
    """Executes transactions and keeps every state of one chain.

    Attributes:
        genesis: Header of the first block.
    """

    genesis: Header

    def decode(self, raw: bytes) -> Transaction:
        """Decodes a signed transaction. Raises what `raw_transaction.decode` raises."""
        ...

    def header_after(self, parent: Header) -> Header:
        """Returns the header of an empty block after `parent`, one second later."""
        ...

    def mine(self, pending: Header, transactions: Sequence[Transaction]) -> tuple[Header, Sequence[Receipt]]:
        """Executes transactions in a block that starts from `pending`.

        Returns:
            The block's final header, and one receipt a transaction.

        Raises:
            eth_utils.ValidationError: A transaction is invalid. The state is unchanged.
        """
        ...

    def execute(self, header: Header, message: Message, overrides: StateOverrides = NO_OVERRIDES) -> CallResult:
        """Executes a call on the state of `header` with overrides, charges no fees, and discards its effects."""
        ...

    def accesses(self, header: Header, message: Message, overrides: StateOverrides = NO_OVERRIDES) -> Accesses:
        """Executes a call as `execute` does.

        Returns:
            The accounts that it looked at, each with the slots that it read or wrote.
        """
        ...

    def balance(self, header: Header, address: bytes) -> int:
        """Returns an account's balance in wei."""
        ...

    def nonce(self, header: Header, address: bytes) -> int:
        """Returns the nonce of an account's next transaction."""
        ...

    def code(self, header: Header, address: bytes) -> bytes:
        """Returns a contract's code; empty for other accounts."""
        ...

    def storage(self, header: Header, address: bytes, slot: int) -> int:
        """Returns the word in a storage slot."""
        ...

    def with_overrides(self, header: Header, overrides: StateOverrides) -> bytes:
        """Creates a state that differs from the state of `header` by overrides.

        Returns:
            The root of the new state.
        """
        ...

    def forget_after(self, header: Header) -> None:
        """Drops all states newer than that of `header`."""
        ...


def contract_address(sender: bytes, nonce: int) -> bytes:
    """Returns the address of the contract that the sender's transaction with this nonce creates."""
    return keccak(rlp.encode([sender, nonce]))[12:]

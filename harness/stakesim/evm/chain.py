"""A chain that mines one block a transaction and can be rewound, whichever machine executes.

Blocks and receipts are kept in lists, so a look-up costs the same at any height. The machine keeps the states, and
finds them by the header's `state_root`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeAlias

import rlp  # type: ignore[import-untyped]
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

Header: TypeAlias = Any
"""py-evm's, or a `revm.Header`: the same names, of which py-evm's types know but those of the first fork."""
Transaction: TypeAlias = Any
"""py-evm's signed transactions, likewise."""


class Log(NamedTuple):
    """As JSON-RPC writes it, in hex."""

    address: str
    topics: Sequence[str]
    data: str


class Receipt(NamedTuple):
    """gas_used: by this transaction alone."""

    ok: bool
    gas_used: int
    logs: Sequence[Log]


class Message(NamedTuple):
    """A call, or, with `to` empty, a creation, that is tried out. Addresses are 20 bytes, value is wei."""

    sender: bytes
    to: bytes
    value: int
    data: bytes
    gas: int


class UnsignedTransaction(NamedTuple):
    """A transaction whose sender is taken as given, with the attributes of py-evm's dynamic-fee transactions.

    Addresses are 20 bytes; `to` is empty for a creation. value: wei. Fees: wei per gas.
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
    access_list: Sequence[Any] = ()

    @property
    def hash(self) -> bytes:
        """A name of its own: without a signature it has no hash of a real chain."""
        return keccak(repr(self).encode())

    @property
    def created_address(self) -> str:
        """Checksummed address of the contract that it creates."""
        return to_checksum_address(keccak(rlp.encode([self.sender, self.nonce]))[12:])


class Execution(NamedTuple):
    """What a message came to.

    error: "Revert", or the name of another failure. gas_used: before refunds. runs_code: whether there was any.
    watches_gas: whether what the code did may depend on how much gas it had; None: not known.
    """

    output: bytes
    gas_used: int
    error: str | None
    runs_code: bool
    watches_gas: bool | None


class Machine(Protocol):
    """An EVM, and all states of one chain. A block is its header; addresses are 20 bytes."""

    genesis: Header

    def header_after(self, parent: Header) -> Header:
        """The next block's before anything is in it, one second later."""
        ...

    def mine(self, pending: Header, transactions: Sequence[Transaction]) -> tuple[Header, Sequence[Receipt]]:
        """The header with these in it. Where one is invalid: eth_utils' `ValidationError`, and nothing is changed."""
        ...

    def execute(self, header: Header, message: Message) -> Execution:
        """Free of fees, and leaves no trace."""
        ...

    def balance(self, header: Header, address: bytes) -> int: ...

    def nonce(self, header: Header, address: bytes) -> int: ...

    def code(self, header: Header, address: bytes) -> bytes: ...

    def storage(self, header: Header, address: bytes, slot: int) -> int: ...

    def with_balance(self, header: Header, address: bytes, wei: int) -> bytes:
        """The root of a new state, in which the account has this balance and all else is as in the header's."""
        ...

    def forget_after(self, header: Header) -> None:
        """No state but those up to this header's is asked for any more."""
        ...


@dataclass(frozen=True)
class Block:
    """A block with what was in it. The pending one has neither hash nor transactions."""

    header: Header
    hash: bytes | None = None
    transactions: Sequence[Transaction] = ()
    receipts: Sequence[Receipt] = ()

    @property
    def number(self) -> int:
        return int(self.header.block_number)


@dataclass(frozen=True)
class Point:
    """Where the chain stood: its last block, and the header of the next."""

    head: Block
    pending: Header


class Chain:
    """`blocks` by number, and `pending`: the header that the next block starts from, its time included."""

    def __init__(self, machine: Machine, id: int) -> None:
        self.machine, self.id = machine, id
        self.blocks = [Block(machine.genesis, machine.genesis.hash)]
        self.pending: Header = machine.header_after(machine.genesis)
        self._number_of: dict[bytes, int] = {}  # of the block, by transaction hash

    @property
    def head(self) -> Block:
        return self.blocks[-1]

    def block_of(self, transaction_hash: bytes) -> Block | None:
        number = self._number_of.get(transaction_hash)
        return None if number is None else self.blocks[number]

    def mine(self, transactions: Sequence[Transaction]) -> None:
        """Mines one block of these. If one is not valid: eth_utils' `ValidationError`, and no block."""
        header, receipts = self.machine.mine(self.pending, transactions)
        self.blocks.append(Block(header, header.hash, transactions, receipts))
        self._number_of.update((transaction.hash, header.block_number) for transaction in transactions)
        self.pending = self.machine.header_after(header)

    def point(self) -> Point:
        return Point(self.head, self.pending)

    def rewind(self, point: Point) -> bool:
        """Back to a point in this chain's past; False if the chain did not come by it."""
        number = point.head.number
        if number >= len(self.blocks) or self.blocks[number].hash != point.head.hash:
            return False
        for block in self.blocks[number + 1 :]:
            for transaction in block.transactions:
                del self._number_of[transaction.hash]
        self.blocks[number:] = [point.head]
        self.pending = point.pending
        self.machine.forget_after(point.head.header)
        return True

    def set_time(self, timestamp: int) -> None:
        """Of the next block, in seconds."""
        self.pending = self.pending.copy(timestamp=timestamp)

    def set_balance(self, address: bytes, wei: int) -> None:
        """In the state that later calls and blocks start from. The last block keeps the hash it was mined with."""
        root = self.machine.with_balance(self.head.header, address, wei)
        self.blocks[-1] = replace(self.head, header=self.head.header.copy(state_root=root))
        self.pending = self.pending.copy(state_root=root)

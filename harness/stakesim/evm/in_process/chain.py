"""A chain that mines each transaction in a block of its own, and can return to an earlier block.

Blocks and receipts are in lists, so a look-up takes the same time at any height. The EVM keeps the states and finds
them by the header's `state_root`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from eth_utils.exceptions import ValidationError

from stakesim.evm.chain_spec import TRANSACTION_GAS_CAP
from stakesim.evm.in_process.evm import Evm, Header, Receipt, StateOverrides, Transaction


@dataclass(frozen=True)
class Block:
    """A block with its transactions and their receipts. The pending block has no hash and no transactions."""

    header: Header
    hash: bytes | None = None
    transactions: Sequence[Transaction] = ()
    receipts: Sequence[Receipt] = ()

    @property
    def number(self) -> int:
        """The block number."""
        return int(self.header.block_number)


@dataclass(frozen=True)
class ChainSnapshot:
    """A position of the chain: its last block, and the header of the next one."""

    head: Block
    pending: Header


class Chain:
    """The blocks that one EVM has mined.

    Attributes:
        evm: Executes the transactions.
        chain_id: The EIP-155 chain id.
        blocks: All blocks by number.
        pending: Header that the next block starts from, with its timestamp.
    """

    def __init__(self, evm: Evm, chain_id: int) -> None:
        self.evm, self.chain_id = evm, chain_id
        self.blocks = [Block(evm.genesis, evm.genesis.hash)]
        self.pending: Header = evm.header_after(evm.genesis)
        self._block_numbers: dict[bytes, int] = {}  # by transaction hash

    @property
    def head(self) -> Block:
        """The latest block."""
        return self.blocks[-1]

    def block_of(self, transaction_hash: bytes) -> Block | None:
        """Returns the block of a transaction; None if no block has it."""
        number = self._block_numbers.get(transaction_hash)
        return None if number is None else self.blocks[number]

    def mine(self, transactions: Sequence[Transaction]) -> None:
        """Mines one block of these transactions.

        Raises:
            eth_utils.ValidationError: A transaction is invalid, or has more gas than `TRANSACTION_GAS_CAP`. No block is
                mined.
        """
        if any(transaction.gas > TRANSACTION_GAS_CAP for transaction in transactions):
            raise ValidationError(f"a transaction's gas limit is above {TRANSACTION_GAS_CAP}")
        header, receipts = self.evm.mine(self.pending, transactions)
        self.blocks.append(Block(header, header.hash, transactions, receipts))
        self._block_numbers.update((transaction.hash, header.block_number) for transaction in transactions)
        self.pending = self.evm.header_after(header)

    def snapshot(self) -> ChainSnapshot:
        """Returns the current position."""
        return ChainSnapshot(self.head, self.pending)

    def revert(self, snapshot: ChainSnapshot) -> bool:
        """Returns to an earlier position; returns False if it is not on this chain."""
        number = snapshot.head.number
        if number >= len(self.blocks) or self.blocks[number].hash != snapshot.head.hash:
            return False
        for block in self.blocks[number + 1 :]:
            for transaction in block.transactions:
                del self._block_numbers[transaction.hash]
        self.blocks[number:] = [snapshot.head]
        self.pending = snapshot.pending
        self.evm.forget_after(snapshot.head.header)
        return True

    def set_time(self, timestamp: int) -> None:
        """Sets the timestamp of the next block, in seconds since 1970."""
        self.pending = self.pending.copy(timestamp=timestamp)

    def set_state(self, overrides: StateOverrides) -> None:
        """Changes accounts in the state that later calls and blocks start from. The last block keeps its hash."""
        root = self.evm.with_overrides(self.head.header, overrides)
        self.blocks[-1] = replace(self.head, header=self.head.header.copy(state_root=root))
        self.pending = self.pending.copy(state_root=root)

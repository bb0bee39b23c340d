"""A py-evm chain that mines one block a transaction, and can be rewound.

Blocks and receipts are kept in lists, so a look-up costs the same at any height. py-evm's database keeps the states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from eth.abc import (
    BlockHeaderAPI,
    MiningChainAPI,
    OpcodeAPI,
    ReceiptAPI,
    SignedTransactionAPI,
    StateAPI,
    VirtualMachineAPI,
)
from eth.constants import GAS_BASE
from eth.vm import mnemonics, opcode_values
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.logic import flow
from eth.vm.opcode import as_opcode
from eth_typing import Address, BlockNumber, Hash32


@dataclass(frozen=True)
class Block:
    """A block with what was in it. The pending one has neither hash nor transactions."""

    header: Any  # a `BlockHeaderAPI`, which does not know the fields of later forks
    hash: Hash32 | None = None
    transactions: Sequence[Any] = ()  # `SignedTransactionAPI`, likewise
    receipts: Sequence[ReceiptAPI] = ()

    @property
    def number(self) -> int:
        return int(self.header.block_number)


@dataclass(frozen=True)
class Point:
    """Where the chain stood: its last block, and the header of the next."""

    head: Block
    pending: Any


def _gas(computation: Any) -> None:
    computation.asked_for_gas = True
    flow.gas(computation)


class Watched(PragueComputation):
    """Notes whether the code asked how much gas is left, on which what it does may then depend."""

    opcodes: dict[int, OpcodeAPI] = {  # noqa: RUF012 - declared so by py-evm
        **PragueComputation.opcodes,
        opcode_values.GAS: as_opcode(logic_fn=_gas, mnemonic=mnemonics.GAS, gas_cost=GAS_BASE),
    }
    asked_for_gas = False


class Chain:
    """`blocks` by number, and `pending`: the header that the next block starts from, its time included."""

    def __init__(self, chain: MiningChainAPI) -> None:
        self._chain = chain
        genesis = chain.get_canonical_block_header_by_number(BlockNumber(0))
        self.id: int = chain.chain_id
        self.blocks = [Block(genesis, genesis.hash)]
        self.pending: Any = self._header_after(genesis)
        self._number_of: dict[bytes, int] = {}  # of the block, by transaction hash
        self._states: dict[tuple[Hash32, int, Hash32], StateAPI] = {}

    @property
    def head(self) -> Block:
        return self.blocks[-1]

    def vm(self, header: BlockHeaderAPI) -> VirtualMachineAPI:
        """py-evm at this header: a fresh one, so what is done to its state is seen by nobody else until persisted."""
        return self._chain.get_vm(header)

    def state(self, header: BlockHeaderAPI) -> StateAPI:
        """The state to read and to run calls on, free of fees: leave it as it was (`snapshot`, `revert`).

        It is kept for the next call, as py-evm reads an account from its trie only once a state.
        """
        key = (header.parent_hash, header.timestamp, header.state_root)
        if key not in self._states:
            if len(self._states) == 8:
                self._states.clear()
            state: Any = self.vm(header.copy(base_fee_per_gas=0, gas_used=0)).state
            state.computation_class = Watched
            self._states[key] = state
        return self._states[key]

    def block_of(self, transaction_hash: bytes) -> Block | None:
        number = self._number_of.get(transaction_hash)
        return None if number is None else self.blocks[number]

    def mine(self, transactions: Sequence[SignedTransactionAPI]) -> None:
        """Mines one block of these. If one is not valid: eth_utils' `ValidationError`, and no block."""
        vm = self.vm(self.pending)
        header, receipts, _ = vm.apply_all_transactions(transactions, self.pending)
        draft = vm.set_block_transactions_and_withdrawals(vm.get_block(), header, transactions, receipts)
        header = vm.finalize_block(draft).block.header
        self._chain.chaindb.persist_header(header)  # the BLOCKHASH opcode reads it there
        self.blocks.append(Block(header, header.hash, transactions, receipts))
        self._number_of.update((transaction.hash, header.block_number) for transaction in transactions)
        self.pending = self._header_after(header)

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
        return True

    def set_balance(self, address: Address, wei: int) -> None:
        """In the state that later calls and blocks start from. The last block keeps the hash it was mined with."""
        state: StateAPI = self.vm(self.pending).state
        state.set_balance(address, wei)
        state.persist()
        root = state.state_root
        self.blocks[-1] = replace(self.head, header=self.head.header.copy(state_root=root))
        self.pending = self.pending.copy(state_root=root)

    def _header_after(self, parent: BlockHeaderAPI) -> BlockHeaderAPI:
        # one second later, where py-evm would read the wall clock
        return self._chain.create_header_from_parent(parent, timestamp=parent.timestamp + 1)

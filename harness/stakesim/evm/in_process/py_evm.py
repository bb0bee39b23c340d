"""py-evm as the EVM of a chain, on the database that eth-tester sets up. It has the rules of Prague."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from eth.abc import LogAPI, MiningChainAPI, OpcodeAPI, ReceiptAPI, SignedTransactionAPI, StateAPI
from eth.constants import GAS_BASE
from eth.exceptions import Revert
from eth.vm import mnemonics, opcode_values
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.logic import flow
from eth.vm.opcode import as_opcode
from eth.vm.spoof import SpoofTransaction
from eth_tester.backends.pyevm.main import PyEVMBackend, get_default_genesis_params
from eth_typing import Address, BlockNumber, Hash32
from eth_utils.exceptions import ValidationError

from stakesim.evm.abi import checksummed
from stakesim.evm.in_process import raw_transaction
from stakesim.evm.in_process.evm import (
    NO_OVERRIDES,
    Accesses,
    CallResult,
    Header,
    Message,
    Receipt,
    RpcLog,
    StateOverrides,
    Transaction,
    UnsignedTransaction,
)
from stakesim.evm.in_process.rpc_encoding import data, word

_CACHED_STATES = 8


def _gas_opcode(computation: Any) -> None:
    computation.reads_gas = True
    flow.gas(computation)


class GasWatchingComputation(PragueComputation):
    """Records whether the code reads its remaining gas, as its result may then depend on it."""

    opcodes: dict[int, OpcodeAPI] = {  # noqa: RUF012 - declared so by py-evm
        **PragueComputation.opcodes,
        opcode_values.GAS: as_opcode(logic_fn=_gas_opcode, mnemonic=mnemonics.GAS, gas_cost=GAS_BASE),
    }
    reads_gas = False


class PyEvm:
    """An `Evm` whose headers are those of a real chain."""

    def __init__(
        self,
        balances: Mapping[bytes, int],
        timestamp: int,
        gas_limit: int,
        computation: type[GasWatchingComputation] = GasWatchingComputation,
    ) -> None:
        """Creates the genesis block.

        Args:
            balances: Wei by address.
            timestamp: Of the genesis block, in seconds since 1970.
            gas_limit: Of every block.
            computation: Class that runs the code.
        """
        self._computation = computation
        state = {address: {"balance": wei, "nonce": 0, "code": b"", "storage": {}} for address, wei in balances.items()}
        genesis = get_default_genesis_params({"timestamp": timestamp, "gas_limit": gas_limit})
        self._chain = cast(MiningChainAPI, PyEVMBackend(genesis, state).chain)
        self.chain_id: int = self._chain.chain_id
        self.genesis: Header = self._chain.get_canonical_block_header_by_number(BlockNumber(0))
        self._builder = self._vm(self.genesis).get_transaction_builder()
        self._states: dict[tuple[Hash32, int, Hash32], StateAPI] = {}

    def decode(self, raw: bytes) -> Transaction:
        """See `Evm.decode`."""
        return raw_transaction.decode_any(raw)

    def header_after(self, parent: Header) -> Header:
        """See `Evm.header_after`."""
        # one second later, where py-evm would read the wall clock
        return self._chain.create_header_from_parent(parent, timestamp=parent.timestamp + 1)

    def mine(self, pending: Header, transactions: Sequence[Transaction]) -> tuple[Header, Sequence[Receipt]]:
        """See `Evm.mine`."""
        for tx in transactions:  # a node requires funds for the highest fee, py-evm only for the fee that is paid
            if self.balance(pending, tx.sender) < tx.gas * tx.max_fee_per_gas + tx.value:
                raise ValidationError("the sender lacks the funds")
        vm = self._vm(pending)
        vm.state.computation_class = self._computation
        # the transaction root covers signed transactions only
        signed = [tx for tx in transactions if not isinstance(tx, UnsignedTransaction)]
        executable = [self._executable(tx) if isinstance(tx, UnsignedTransaction) else tx for tx in transactions]
        header, receipts, _ = vm.apply_all_transactions(executable, pending)
        draft = vm.set_block_transactions_and_withdrawals(vm.get_block(), header, signed, receipts)
        header = vm.finalize_block(draft).block.header
        self._chain.chaindb.persist_header(header)  # the BLOCKHASH opcode reads it there
        cumulative_gas = [0, *(receipt.gas_used for receipt in receipts)]
        return header, [
            _receipt(receipt, used_before) for receipt, used_before in zip(receipts, cumulative_gas, strict=False)
        ]

    def _executable(self, tx: UnsignedTransaction) -> Transaction:
        """Returns a py-evm transaction with a dummy signature, and the sender given instead of recovered."""
        transaction = self._builder.new_dynamic_fee_transaction(
            self.chain_id,
            tx.nonce,
            tx.max_priority_fee_per_gas,
            tx.max_fee_per_gas,
            tx.gas,
            Address(tx.to),
            tx.value,
            tx.data,
            (),
            y_parity=0,
            r=1,
            s=1,
        )
        return _WithSender(transaction, Address(tx.sender))

    def execute(self, header: Header, message: Message, overrides: StateOverrides = NO_OVERRIDES) -> CallResult:
        """See `Evm.execute`."""
        return self._execute(self._state(header), message, overrides)

    def accesses(self, header: Header, message: Message, overrides: StateOverrides = NO_OVERRIDES) -> Accesses:
        """See `Evm.accesses`."""
        state: Any = self._new_state(header)
        found: Accesses = {}
        mark_address, mark_slot = state.mark_address_warm, state.mark_storage_warm

        def note_address(address: Address) -> None:
            found.setdefault(bytes(address), set())
            mark_address(address)

        def note_slot(address: Address, slot: int) -> None:
            found.setdefault(bytes(address), set()).add(slot)
            mark_slot(address, slot)

        state.mark_address_warm, state.mark_storage_warm = note_address, note_slot
        self._execute(state, message, overrides)
        return found

    def _execute(self, state: StateAPI, message: Message, overrides: StateOverrides) -> CallResult:
        """Executes a call on a state without fees, and undoes its changes."""
        before = state.snapshot()
        try:
            _override(state, overrides)
            unsigned = self._builder.new_unsigned_dynamic_fee_transaction(
                chain_id=self.chain_id,
                nonce=state.get_nonce(Address(message.sender)),
                max_priority_fee_per_gas=0,
                max_fee_per_gas=0,
                gas=message.gas,
                to=message.to,
                value=message.value,
                data=message.data,
                access_list=message.access_list,
            )
            transaction = cast(SignedTransactionAPI, SpoofTransaction(unsigned, from_=message.sender))
            run: Any = state.apply_transaction(transaction)
        finally:
            state.revert(before)
        error = None if not run.is_error else "Revert" if isinstance(run.error, Revert) else type(run.error).__name__
        watches_gas = bool(run.children) or run.reads_gas
        return CallResult(run.output, message.gas - run.get_gas_remaining(), error, bool(run.msg.code), watches_gas)

    def balance(self, header: Header, address: bytes) -> int:
        """See `Evm.balance`."""
        return self._state(header).get_balance(Address(address))

    def nonce(self, header: Header, address: bytes) -> int:
        """See `Evm.nonce`."""
        return self._state(header).get_nonce(Address(address))

    def code(self, header: Header, address: bytes) -> bytes:
        """See `Evm.code`."""
        return self._state(header).get_code(Address(address))

    def storage(self, header: Header, address: bytes, slot: int) -> int:
        """See `Evm.storage`."""
        return self._state(header).get_storage(Address(address), slot)

    def with_overrides(self, header: Header, overrides: StateOverrides) -> bytes:
        """See `Evm.with_overrides`."""
        state: StateAPI = self._vm(header).state
        _override(state, overrides)
        state.persist()
        return state.state_root

    def forget_after(self, header: Header) -> None:
        """Does nothing: py-evm's database keeps every state."""

    def _vm(self, header: Header) -> Any:
        """Returns a new virtual machine at this header. Changes to its state stay in it until they are persisted."""
        return self._chain.get_vm(header)

    def _state(self, header: Header) -> StateAPI:
        """Returns a state without fees, for reading and for calls. The caller must undo its changes.

        States are cached, as py-evm reads each account from its trie once per state object.
        """
        key = (header.parent_hash, header.timestamp, header.state_root)
        if key not in self._states:
            if len(self._states) == _CACHED_STATES:
                self._states.clear()
            self._states[key] = self._new_state(header)
        return self._states[key]

    def _new_state(self, header: Header) -> StateAPI:
        state: Any = self._vm(header.copy(base_fee_per_gas=0, gas_used=0)).state
        state.computation_class = self._computation
        return cast(StateAPI, state)


class _WithSender:
    """A transaction with a given sender. py-evm's `SpoofTransaction` does not take signed transactions."""

    def __init__(self, transaction: SignedTransactionAPI, sender: Address) -> None:
        self._transaction, self.sender = transaction, sender

    def get_sender(self) -> Address:
        return self.sender

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)


def _override(state: StateAPI, overrides: StateOverrides) -> None:
    for account, override in overrides.items():
        address = Address(account)
        if override.balance is not None:
            state.set_balance(address, override.balance)
        if override.nonce is not None:
            state.set_nonce(address, override.nonce)
        if override.code is not None:
            state.set_code(address, override.code)
        if override.replaces_storage:
            state.delete_storage(address)
        for slot, value in override.slots.items():
            state.set_storage(address, slot, value)


def _receipt(receipt: ReceiptAPI, used_before: int) -> Receipt:
    ok = receipt.state_root == b"\x01"
    return Receipt(ok, receipt.gas_used - used_before, [_log(log) for log in receipt.logs])


def _log(log: LogAPI) -> RpcLog:
    return RpcLog(checksummed(log.address), [word(topic) for topic in log.topics], data(log.data))

"""revm as the EVM of a chain, through pyrevm: two orders of magnitude faster than py-evm.

pyrevm only executes. For each transaction this module takes a checkpoint of pyrevm's state, runs the transaction,
reads the changes out of pyrevm's journal, reverts to the checkpoint, and writes the changes into pyrevm's database.
So nothing that a transaction warmed, wrote or left in transient storage reaches the next one, and pyrevm's memory
does not grow. It also keeps all accounts and slots, with each block's changes, to return to the state of any block.

Limits of pyrevm 0.3.7, which has the rules of Cancun:

- Of Prague, this module adds the floor for the gas of data (EIP-7623). It refuses transactions that set code (EIP-7702)
  or carry blobs.
- BASEFEE is 0. GASPRICE is 0 in a constructor, or if the sender has less than twice the fee. BLOCKHASH is no hash of
  this chain.
- In a call whose sender is a contract, that contract has no code. A call that creates a contract returns nothing.
- Block hashes and state roots are identifiers made here, not those of a real chain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from eth_hash.auto import keccak
from eth_utils.exceptions import ValidationError
from pyrevm import EVM, AccountInfo, BlockEnv, CfgEnv, Env, TxEnv

from stakesim.evm.abi import checksummed
from stakesim.evm.chain_spec import CHAIN_ID, INITIAL_BASE_FEE
from stakesim.evm.in_process import raw_transaction
from stakesim.evm.in_process.evm import (
    NO_OVERRIDES,
    Accesses,
    CallResult,
    Message,
    Receipt,
    RpcLog,
    StateOverrides,
    Transaction,
)
from stakesim.evm.in_process.gas import floor_gas, next_base_fee
from stakesim.evm.in_process.pyrevm_text import parse_failure, read_accesses, read_journal
from stakesim.evm.in_process.rpc_encoding import data

_ZERO = bytes(32)
_COINBASE = "0x" + "00" * 20

Slot: TypeAlias = tuple[str, int]
"""A storage slot: the contract's address in hex, and the slot's number."""


class Header(NamedTuple):
    """A block header with the attributes of py-evm's. `state_root` identifies a state of `Revm`."""

    block_number: int
    parent_hash: bytes
    state_root: bytes
    timestamp: int
    base_fee_per_gas: int
    gas_limit: int
    gas_used: int = 0
    transaction_root: bytes = _ZERO
    receipt_root: bytes = _ZERO
    uncles_hash: bytes = _ZERO
    mix_hash: bytes = _ZERO
    coinbase: bytes = bytes(20)
    nonce: bytes = bytes(8)
    difficulty: int = 0
    extra_data: bytes = b""

    def copy(self, **changes: Any) -> Header:
        """Returns a header with some attributes changed."""
        return self._replace(**changes)

    @property
    def hash(self) -> bytes:
        """An identifier that is the same in every run, as it depends only on the block."""
        return _identifier(self.parent_hash, self.state_root, self.transaction_root, self.timestamp, self.gas_used)


class AccountState(NamedTuple):
    """An account. `code_hash` is empty if it has no code; `Revm` keeps codes by hash."""

    nonce: int = 0
    balance: int = 0
    code_hash: bytes = b""


class StateChange(NamedTuple):
    """How a state differs from the one before it.

    Attributes:
        accounts: Accounts before and after, by address in hex.
        slots: Storage slots before and after.
    """

    accounts: dict[str, tuple[AccountState, AccountState]]
    slots: dict[Slot, tuple[int, int]]


class _RunResult(NamedTuple):
    """The result of one run in pyrevm.

    Attributes:
        output: Return data, or the data of a revert.
        error: As in `CallResult`.
        gas_used: Gas used after refunds.
        refund: Gas refunded.
        logs: Logs of a successful run.
        accounts: Changed accounts as they are afterwards.
        slots: Changed slots as they are afterwards.
        frames: Number of calls and creations, the run itself included.
        journal: pyrevm's journal after the run, if it succeeded and the changes were read.
    """

    output: bytes
    error: str | None
    gas_used: int
    refund: int
    logs: Sequence[RpcLog]
    accounts: dict[str, AccountState]
    slots: dict[Slot, int]
    frames: int
    journal: str


class Revm:
    """An `Evm`."""

    def __init__(self, balances: Mapping[bytes, int], timestamp: int, gas_limit: int) -> None:
        """Creates the genesis block.

        Args:
            balances: Wei by address.
            timestamp: Of the genesis block, in seconds since 1970.
            gas_limit: Of every block.
        """
        self._gas_limit = gas_limit
        self._start_pyrevm()
        self._accounts: dict[str, AccountState] = {}  # of the current state, as are the slots
        self._slots: dict[Slot, int] = {}
        self._codes: dict[bytes, bytes] = {b"": b""}  # by hash
        self._analysed: dict[bytes, AccountInfo] = {}  # accounts whose code was analysed, by its hash
        self._states: list[tuple[bytes, StateChange]] = []  # roots in order, with the change from the state before
        self._state_indexes: dict[bytes, int] = {}  # positions in `_states`, by root
        self._current = -1  # position of the state that pyrevm has
        genesis = {_hex(address): (AccountState(), AccountState(balance=wei)) for address, wei in balances.items()}
        self._append_state(_ZERO, StateChange(genesis, {}))
        self.genesis = Header(0, _ZERO, _ZERO, timestamp, INITIAL_BASE_FEE, gas_limit)

    def _start_pyrevm(self) -> None:
        self._evm = EVM(Env(cfg=CfgEnv(chain_id=CHAIN_ID)), gas_limit=self._gas_limit, spec_id="CANCUN")
        self._known_codes: set[bytes] = set()  # hashes of the codes that pyrevm has
        self._block: Header | None = None  # the block that pyrevm is set to

    def decode(self, raw: bytes) -> Transaction:
        """See `Evm.decode`."""
        tx = raw_transaction.decode(raw)
        if (getattr(tx, "type_id", None) or 0) > 2:
            raise ValidationError("the revm engine takes no transactions with blobs, and none that set code")
        return tx

    def header_after(self, parent: Header) -> Header:
        """See `Evm.header_after`."""
        return Header(
            block_number=parent.block_number + 1,
            parent_hash=parent.hash,
            state_root=parent.state_root,
            timestamp=parent.timestamp + 1,
            base_fee_per_gas=next_base_fee(parent.base_fee_per_gas, parent.gas_used, parent.gas_limit),
            gas_limit=parent.gas_limit,
        )

    def mine(self, pending: Header, transactions: Sequence[Transaction]) -> tuple[Header, Sequence[Receipt]]:
        """See `Evm.mine`."""
        self._switch_to(pending)
        receipts: list[Receipt] = []
        for tx in transactions:
            receipts.append(self._execute_transaction(pending, tx, sum(receipt.gas_used for receipt in receipts)))
            pending = pending._replace(state_root=self._states[-1][0])
        gas_used = sum(receipt.gas_used for receipt in receipts)
        root = _identifier(*(tx.hash for tx in transactions)) if transactions else _ZERO
        return pending._replace(gas_used=gas_used, transaction_root=root), receipts

    def execute(self, header: Header, message: Message, overrides: StateOverrides = NO_OVERRIDES) -> CallResult:
        """See `Evm.execute`."""
        result, code = self._execute(header, message, overrides, read_changes=False)
        watches_gas = True if result.frames > 1 else None
        return CallResult(result.output, result.gas_used + result.refund, result.error, bool(code), watches_gas)

    def accesses(self, header: Header, message: Message, overrides: StateOverrides = NO_OVERRIDES) -> Accesses:
        """See `Evm.accesses`. A run that fails has none."""
        result, _ = self._execute(header, message, overrides, read_changes=True)
        return read_accesses(result.journal) if result.journal else {}

    def _execute(
        self, header: Header, message: Message, overrides: StateOverrides, *, read_changes: bool
    ) -> tuple[_RunResult, bytes]:
        """Executes a call. Returns its result, and the code that ran."""
        self._switch_to(header)
        change = self._change_by(overrides) if overrides else None
        if change:
            self._write_change(change, _AFTER)
        sender = self._account(header, message.sender)
        if sender.code_hash:  # pyrevm refuses a sender with code (EIP-3607); nodes allow it in a call
            self._write_account(_hex(message.sender), sender._replace(code_hash=b""))
        try:
            code = self.code(header, message.to) if message.to else message.data
            access_list = message.access_list
            run = self._run(header, message, gas_price=0, access_list=access_list, read_changes=read_changes)
        finally:
            if sender.code_hash:
                self._write_account(_hex(message.sender), sender)
            if change:
                self._write_change(change, _BEFORE)
        return run, code

    def balance(self, header: Header, address: bytes) -> int:
        """See `Evm.balance`."""
        return self._account(header, address).balance

    def nonce(self, header: Header, address: bytes) -> int:
        """See `Evm.nonce`."""
        return self._account(header, address).nonce

    def code(self, header: Header, address: bytes) -> bytes:
        """See `Evm.code`."""
        return self._codes[self._account(header, address).code_hash]

    def storage(self, header: Header, address: bytes, slot: int) -> int:
        """See `Evm.storage`."""
        self._switch_to(header)
        return self._slots.get((_hex(address), slot), 0)

    def with_overrides(self, header: Header, overrides: StateOverrides) -> bytes:
        """See `Evm.with_overrides`."""
        self._switch_to(header)
        change = self._change_by(overrides)
        root = _identifier(header.state_root, repr(change).encode())
        self._append_state(root, change)
        return root

    def forget_after(self, header: Header) -> None:
        """See `Evm.forget_after`."""
        self._switch_to(header)
        for root, _ in self._states[self._current + 1 :]:
            del self._state_indexes[root]
        del self._states[self._current + 1 :]

    # Execution

    def _execute_transaction(self, header: Header, tx: Transaction, used_before: int) -> Receipt:
        """Executes a transaction, and appends the state after it. Raises `ValidationError` if it is invalid."""
        sender = _hex(tx.sender)
        payer = self._accounts.get(sender, AccountState())
        price = min(tx.max_fee_per_gas, tx.max_priority_fee_per_gas + header.base_fee_per_gas)
        if (
            tx.nonce != payer.nonce
            or tx.max_fee_per_gas < header.base_fee_per_gas
            or tx.max_priority_fee_per_gas > tx.max_fee_per_gas
            or payer.balance < tx.gas * tx.max_fee_per_gas + tx.value
            or tx.gas > header.gas_limit - used_before
        ):
            raise ValidationError("nonce, fees, funds or gas are not right")
        paid = payer._replace(nonce=payer.nonce + 1, balance=payer.balance - tx.gas * price)
        # pyrevm itself increments the nonce for a creation
        self._write_account(sender, paid if tx.to else paid._replace(nonce=payer.nonce))
        message = Message(tx.sender, tx.to, tx.value, tx.data, tx.gas)
        # pyrevm requires the fee in the balance again, although it has been deducted
        gas_price = price if paid.balance >= tx.gas * price + tx.value else 0
        access_list = getattr(tx, "access_list", ())
        try:
            result = self._run(header, message, gas_price=gas_price, access_list=access_list, read_changes=True)
        finally:
            self._write_account(sender, payer)
        gas_used = max(result.gas_used, floor_gas(tx.data))
        accounts = {sender: paid, **result.accounts}
        _add_balance(accounts, self._accounts, sender, (tx.gas - gas_used) * price)
        _add_balance(accounts, self._accounts, _COINBASE, gas_used * (price - header.base_fee_per_gas))
        change = StateChange(
            {address: (self._accounts.get(address, AccountState()), after) for address, after in accounts.items()},
            {slot: (self._slots.get(slot, 0), after) for slot, after in result.slots.items()},
        )
        self._append_state(_identifier(header.state_root, tx.hash, header.block_number, header.timestamp), change)
        return Receipt(result.error is None, gas_used, result.logs)

    def _run(
        self,
        header: Header,
        message: Message,
        *,
        gas_price: int,
        access_list: Sequence[tuple[bytes, Sequence[int]]],
        read_changes: bool,
    ) -> _RunResult:
        """Runs a message on pyrevm's current state, and restores that state.

        Args:
            header: The block.
            message: The message.
            gas_price: What GASPRICE returns, in wei per gas.
            access_list: Addresses and slots to warm.
            read_changes: Whether the result needs changed accounts, slots and logs.
        """
        evm, sender = self._evm, _hex(message.sender)
        if header is not self._block:
            number, time, random = header.block_number, header.timestamp, header.mix_hash
            evm.set_block_env(BlockEnv(number, _COINBASE, time, prevrandao=random))
            self._block = header
        hex_access_list = [(_hex(address), list(slots)) for address, slots in access_list]
        if hex_access_list:
            evm.set_tx_env(TxEnv(access_list=hex_access_list))
        accounts: dict[str, AccountState] = {}
        slots: dict[Slot, int] = {}
        checkpoint, output, error, journal = evm.snapshot(), b"", None, ""
        journal_length = evm.journal_len
        try:
            if message.to:
                to = _hex(message.to)
                output = evm.message_call(sender, to, message.data, message.value, message.gas, gas_price=gas_price)
            else:
                evm.deploy(sender, message.data, message.value, message.gas)
            if read_changes:
                journal = evm.journal_str
                accounts, slots = self._changes_in(journal)
        except RuntimeError as failure:
            error, output = parse_failure(failure)
        finally:
            result: Any = evm.result
            frames = evm.journal_len - journal_length
            evm.revert(checkpoint)
            if hex_access_list:  # what it lists stays warm, in spite of the checkpoint
                self._restart_pyrevm()
        logs = [_log(log) for log in result.logs] if read_changes and error is None else []
        gas_used, refund = result.gas_used, result.gas_refunded
        return _RunResult(output, error, gas_used, refund, logs, accounts, slots, frames, journal)

    def _changes_in(self, journal: str) -> tuple[dict[str, AccountState], dict[Slot, int]]:
        """Returns the accounts and slots that differ between pyrevm's journal and the current state.

        Args:
            journal: The journal as `read_journal` takes it.
        """
        accounts: dict[str, AccountState] = {}
        slots: dict[Slot, int] = {}
        for account in read_journal(journal):
            address = account.address
            if "SelfDestructed" in account.status:  # by EIP-6780 only an account that this transaction created
                accounts[address] = AccountState()
                continue
            before = self._accounts.get(address, AccountState())
            code_hash = before.code_hash
            if "Created" in account.status:
                code = (self._evm.get_code(address) or b"")[: account.code_length]
                code_hash = keccak(code) if code else b""
                self._codes[code_hash] = code
                self._analysed[code_hash] = self._evm.journal_state[checksummed(address)]
            after = AccountState(account.nonce, account.balance, code_hash)
            if after != before:
                accounts[address] = after
            slots.update(((address, slot), value) for slot, value in account.slots.items())
        return accounts, slots

    # States

    def _change_by(self, overrides: StateOverrides) -> StateChange:
        """Returns the change that overrides make to the current state."""
        change = StateChange({}, {})
        for account, override in overrides.items():
            address = _hex(account)
            before = self._accounts.get(address, AccountState())
            after = before._replace(
                balance=before.balance if override.balance is None else override.balance,
                nonce=before.nonce if override.nonce is None else override.nonce,
                code_hash=before.code_hash if override.code is None else self._keep_code(override.code),
            )
            change.accounts[address] = before, after
            replaced = [key for holder, key in self._slots if holder == address] if override.replaces_storage else ()
            for key, value in (dict.fromkeys(replaced, 0) | dict(override.slots)).items():
                change.slots[address, key] = self._slots.get((address, key), 0), value
        return change

    def _keep_code(self, code: bytes) -> bytes:
        """Keeps a code, and returns its hash."""
        code_hash = keccak(code) if code else b""
        if code_hash not in self._codes:
            self._codes[code_hash] = code
            self._analysed[code_hash] = AccountInfo(code=code)
        return code_hash

    def _account(self, header: Header, address: bytes) -> AccountState:
        self._switch_to(header)
        return self._accounts.get(_hex(address), AccountState())

    def _append_state(self, root: bytes, change: StateChange) -> None:
        """Appends a state after the current one, which must be the last, and makes it the current one."""
        self._state_indexes[root] = len(self._states)
        self._states.append((root, change))
        self._switch_to_index(self._state_indexes[root])

    def _switch_to(self, header: Header) -> None:
        """Makes the state of a header the current one."""
        self._switch_to_index(self._state_indexes[header.state_root])

    def _switch_to_index(self, index: int) -> None:
        while self._current < index:
            self._current += 1
            self._write_change(self._states[self._current][1], _AFTER)
        while self._current > index:
            self._write_change(self._states[self._current][1], _BEFORE)
            self._current -= 1

    def _write_change(self, change: StateChange, side: int) -> None:
        """Writes one side of a change, `_BEFORE` or `_AFTER`, into pyrevm and into the accounts and slots here."""
        for address, account in change.accounts.items():
            self._accounts[address] = account[side]
            self._write_account(address, account[side])
        for (address, key), value in change.slots.items():
            self._slots[address, key] = value[side]
            checkpoint = self._evm.snapshot()  # without it the account would stay in the journal, and warm
            self._evm.insert_account_storage(address, key, value[side])
            self._evm.revert(checkpoint)

    def _restart_pyrevm(self) -> None:
        """Starts a new pyrevm with the current state."""
        self._start_pyrevm()
        current_state = StateChange(
            {address: (account, account) for address, account in self._accounts.items()},
            {slot: (value, value) for slot, value in self._slots.items()},
        )
        self._write_change(current_state, _AFTER)

    def _write_account(self, address: str, account: AccountState) -> None:
        nonce, balance, code_hash = account
        if code_hash and code_hash not in self._known_codes:
            # pyrevm keeps codes by hash; one that is given as bytes would be analysed again by each call
            self._evm.insert_account_info(address, self._analysed[code_hash])
            self._known_codes.add(code_hash)
        known: dict[str, bytes] = {"code_hash": code_hash} if code_hash else {}
        info: Any = AccountInfo(nonce=nonce, balance=balance, **known)  # type: ignore[call-arg]  # the stub lacks it
        self._evm.insert_account_info(address, info)


_BEFORE, _AFTER = 0, 1
"""Sides of a pair in a `StateChange`."""


def _add_balance(changed: dict[str, AccountState], before: Mapping[str, AccountState], address: str, wei: int) -> None:
    """Adds wei to an account among the changed ones, or makes it one of them."""
    account = changed.get(address) or before.get(address, AccountState())
    if wei or address in changed:
        changed[address] = account._replace(balance=account.balance + wei)


def _log(log: Any) -> RpcLog:
    return RpcLog(checksummed(bytes.fromhex(log.address[2:])), log.topics, data(bytes(log.data[1])))


def _hex(address: bytes) -> str:
    return "0x" + address.hex()


def _identifier(*parts: bytes | int) -> bytes:
    return keccak(b"".join(part if isinstance(part, bytes) else part.to_bytes(32, "big") for part in parts))

"""revm as the machine of a chain, by pyrevm: two orders of magnitude faster than py-evm.

pyrevm only executes. A transaction is run on top of a checkpoint, what it changed is read out of pyrevm's journal, and
the checkpoint is taken back; then the changes are entered into pyrevm's database. So nothing that one transaction
warmed, wrote or left in transient storage is there for the next, and its memory does not grow. Accounts and slots are
kept here, too, with what every block changed, which takes the state to any block and back.

Limits of pyrevm 0.3.7, which has the rules of Cancun: of Prague, the floor for the gas of data (EIP-7623) is added
here; transactions that set code (EIP-7702) or carry blobs are refused. BASEFEE gives 0, and so does GASPRICE in a
constructor or where the sender has less than twice the fee; BLOCKHASH gives no hash of this chain. In a call from a
contract, that contract has no code.
Block hashes and state roots are names made here, not those of a real chain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eth.vm.forks.london.headers import calculate_expected_base_fee_per_gas
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError
from pyrevm import EVM, AccountInfo, BlockEnv, CfgEnv, Env, TxEnv

from stakesim.evm.abi import checksummed
from stakesim.evm.chain_spec import CHAIN_ID, INITIAL_BASE_FEE
from stakesim.evm.in_process.evm import CallResult, Message, Receipt, RpcLog, Transaction
from stakesim.evm.in_process.gas import floor_gas
from stakesim.evm.in_process.rpc_encoding import data

_ZERO = bytes(32)
_COINBASE = "0x" + "00" * 20


class Header(NamedTuple):
    """With the names of py-evm's. state_root: the name of a state."""

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
        return self._replace(**changes)

    @property
    def hash(self) -> bytes:
        """By what it is made of, as the same block has the same hash in every run."""
        return _name(self.parent_hash, self.state_root, self.transaction_root, self.timestamp, self.gas_used)


class Account(NamedTuple):
    """code_hash: empty where there is no code, which is kept by its hash."""

    nonce: int = 0
    balance: int = 0
    code_hash: bytes = b""


class Change(NamedTuple):
    """What one state has otherwise than the one before it: accounts and slots, before and after, by address in hex."""

    accounts: dict[str, tuple[Account, Account]]
    slots: dict[tuple[str, int], tuple[int, int]]


class _Run(NamedTuple):
    """gas_used: after refunds. accounts, slots: as they are afterwards, where something changed. frames: calls and
    creations, itself among them."""

    output: bytes
    error: str | None
    gas_used: int
    refund: int
    logs: Sequence[RpcLog]
    accounts: dict[str, Account]
    slots: dict[tuple[str, int], int]
    frames: int


class Revm:
    """A `Machine`."""

    def __init__(self, balances: Mapping[bytes, int], timestamp: int, gas_limit: int) -> None:
        self._gas_limit = gas_limit  # of every block
        self._start()
        self._accounts: dict[str, Account] = {}
        self._slots: dict[tuple[str, int], int] = {}
        self._codes: dict[bytes, bytes] = {b"": b""}
        self._states: list[
            tuple[bytes, Change]
        ] = []  # as they followed on one another; the name, and what is new in it
        self._index: dict[bytes, int] = {}  # of a state, by its name
        self._at = -1  # the state that pyrevm has
        born = {_hex(who): (Account(), Account(balance=wei)) for who, wei in balances.items()}
        self._enter(_ZERO, Change(born, {}))
        self.genesis = Header(0, _ZERO, _ZERO, timestamp, INITIAL_BASE_FEE, gas_limit)

    def _start(self) -> None:
        self._evm = EVM(Env(cfg=CfgEnv(chain_id=CHAIN_ID)), gas_limit=self._gas_limit, spec_id="CANCUN")
        self._entered: set[bytes] = set()  # hashes of codes that it has
        self._block: Header | None = None  # that it was told

    def header_after(self, parent: Header) -> Header:
        return Header(
            block_number=parent.block_number + 1,
            parent_hash=parent.hash,
            state_root=parent.state_root,
            timestamp=parent.timestamp + 1,
            base_fee_per_gas=calculate_expected_base_fee_per_gas(parent),  # type: ignore[arg-type]  # has the names
            gas_limit=parent.gas_limit,
        )

    def mine(self, pending: Header, transactions: Sequence[Transaction]) -> tuple[Header, Sequence[Receipt]]:
        self._go_to(pending)
        receipts: list[Receipt] = []
        for tx in transactions:
            receipts.append(self._apply(pending, tx, sum(receipt.gas_used for receipt in receipts)))
            pending = pending._replace(state_root=self._states[-1][0])
        used = sum(receipt.gas_used for receipt in receipts)
        root = _name(*(tx.hash for tx in transactions)) if transactions else _ZERO
        return pending._replace(gas_used=used, transaction_root=root), receipts

    def execute(self, header: Header, message: Message) -> CallResult:
        self._go_to(header)
        sender = self._account(header, message.sender)
        if sender.code_hash:  # pyrevm takes nothing from a contract (EIP-3607), nodes run calls from one
            self._put(_hex(message.sender), sender._replace(code_hash=b""))
        try:
            run = self._run(header, message, 0, (), keep=False)
        finally:
            if sender.code_hash:
                self._put(_hex(message.sender), sender)
        code = self.code(header, message.to) if message.to else message.data
        watches = True if run.frames > 1 else None
        return CallResult(run.output, run.gas_used + run.refund, run.error, bool(code), watches)

    def balance(self, header: Header, address: bytes) -> int:
        return self._account(header, address).balance

    def nonce(self, header: Header, address: bytes) -> int:
        return self._account(header, address).nonce

    def code(self, header: Header, address: bytes) -> bytes:
        return self._codes[self._account(header, address).code_hash]

    def storage(self, header: Header, address: bytes, slot: int) -> int:
        self._go_to(header)
        return self._slots.get((_hex(address), slot), 0)

    def with_balance(self, header: Header, address: bytes, wei: int) -> bytes:
        self._go_to(header)
        account = self._account(header, address)
        name = _name(header.state_root, address, wei)
        self._enter(name, Change({_hex(address): (account, account._replace(balance=wei))}, {}))
        return name

    def forget_after(self, header: Header) -> None:
        self._go_to(header)
        for name, _ in self._states[self._at + 1 :]:
            del self._index[name]
        del self._states[self._at + 1 :]

    # ------------------------------------------------------------------------------------------------- executing

    def _apply(self, header: Header, tx: Transaction, used_before: int) -> Receipt:
        sender = _hex(tx.sender)
        payer = self._accounts.get(sender, Account())
        price = min(tx.max_fee_per_gas, tx.max_priority_fee_per_gas + header.base_fee_per_gas)
        if (getattr(tx, "type_id", None) or 0) > 2:
            raise ValidationError("the revm engine takes no transactions with blobs, and none that set code")
        if (
            tx.nonce != payer.nonce
            or tx.max_fee_per_gas < header.base_fee_per_gas
            or tx.max_priority_fee_per_gas > tx.max_fee_per_gas
            or payer.balance < tx.gas * tx.max_fee_per_gas + tx.value
            or tx.gas > header.gas_limit - used_before
        ):
            raise ValidationError("nonce, fees, funds or gas are not right")
        paid = payer._replace(nonce=payer.nonce + 1, balance=payer.balance - tx.gas * price)
        self._put(sender, paid._replace(nonce=payer.nonce) if not tx.to else paid)  # revm counts a creation itself
        message = Message(tx.sender, tx.to, tx.value, tx.data, tx.gas)
        told = price if paid.balance >= tx.gas * price + tx.value else 0  # pyrevm wants the fee to be there once more
        try:
            run = self._run(header, message, told, getattr(tx, "access_list", ()), keep=True)
        finally:
            self._put(sender, payer)
        used = max(run.gas_used, floor_gas(tx.data))
        accounts = {sender: paid, **run.accounts}
        _earn(accounts, self._accounts, sender, (tx.gas - used) * price)
        _earn(accounts, self._accounts, _COINBASE, used * (price - header.base_fee_per_gas))
        change = Change(
            {who: (self._accounts.get(who, Account()), now) for who, now in accounts.items()},
            {slot: (self._slots.get(slot, 0), now) for slot, now in run.slots.items()},
        )
        self._enter(_name(header.state_root, tx.hash, header.block_number, header.timestamp), change)
        return Receipt(run.error is None, used, run.logs)

    def _run(self, header: Header, message: Message, price: int, access_list: Any, keep: bool) -> _Run:
        """On top of the state that pyrevm has, which is left as it was. price: wei per gas that the code is told. keep:
        whether what changes is wanted."""
        evm, sender = self._evm, _hex(message.sender)
        if header is not self._block:
            number, time, random = header.block_number, header.timestamp, header.mix_hash
            evm.set_block_env(BlockEnv(number, _COINBASE, time, prevrandao=random))
            self._block = header
        listed = [(_hex(address), list(slots)) for address, slots in access_list]
        if listed:
            evm.set_tx_env(TxEnv(access_list=listed))
        accounts: dict[str, Account] = {}
        slots: dict[tuple[str, int], int] = {}
        point, output, error = evm.snapshot(), b"", None
        before = evm.journal_len
        try:
            if message.to:
                to = _hex(message.to)
                output = evm.message_call(sender, to, message.data, message.value, message.gas, gas_price=price)
            else:
                evm.deploy(sender, message.data, message.value, message.gas)
            if keep:
                accounts, slots = self._changed(evm.journal_str)
        except RuntimeError as failure:
            error, output = _told(failure)
        finally:
            result: Any = evm.result
            frames = evm.journal_len - before
            evm.revert(point)
            if listed:  # what it lists stays loaded, checkpoint or not
                self._start_anew()
        logs = [_log(log) for log in result.logs] if keep and error is None else []
        return _Run(output, error, result.gas_used, result.gas_refunded, logs, accounts, slots, frames)

    def _changed(self, journal: str) -> tuple[dict[str, Account], dict[tuple[str, int], int]]:
        """What is otherwise in the journal than before."""
        accounts: dict[str, Account] = {}
        slots: dict[tuple[str, int], int] = {}
        end = journal.index("}, transient_storage: ")
        at = journal.find(_ACCOUNT)
        while 0 <= at < end:
            address = journal[at - 42 : at]
            found = _INFO.match(journal, at)
            stored = journal.index(_STORAGE, at)
            flags = journal.index(_STATUS, stored)
            status = journal[flags + len(_STATUS) : journal.index(")", flags)]
            at = journal.find(_ACCOUNT, flags)
            assert found is not None
            if "SelfDestructed" in status:  # by EIP-6780 only where it was created in this transaction
                accounts[address] = Account()
                continue
            before = self._accounts.get(address, Account())
            code_hash = before.code_hash
            if "Created" in status:
                code = self._evm.get_code(address) or b""
                length = _LENGTH.search(journal, found.end(), stored)
                code = code[: int(length[1])] if length else code
                code_hash = keccak(code) if code else b""
                self._codes[code_hash] = code
            now = Account(int(found["nonce"]), int(found["balance"]), code_hash)
            if now != before:
                accounts[address] = now
            for slot in _SLOT.finditer(journal, stored, flags):
                if slot["was"] != slot["now"]:
                    slots[address, int(slot["key"])] = int(slot["now"])
        return accounts, slots

    # ---------------------------------------------------------------------------------------------------- states

    def _account(self, header: Header, address: bytes) -> Account:
        self._go_to(header)
        return self._accounts.get(_hex(address), Account())

    def _enter(self, name: bytes, change: Change) -> None:
        """A new state, after the one that pyrevm has, which must be the last."""
        self._index[name] = len(self._states)
        self._states.append((name, change))
        self._go(self._index[name])

    def _go_to(self, header: Header) -> None:
        self._go(self._index[header.state_root])

    def _go(self, index: int) -> None:
        """Takes pyrevm, and the accounts and slots here, to that state."""
        while self._at < index:
            self._at += 1
            self._write(self._states[self._at][1], 1)
        while self._at > index:
            self._write(self._states[self._at][1], 0)
            self._at -= 1

    def _write(self, change: Change, side: int) -> None:
        for address, account in change.accounts.items():
            self._accounts[address] = account[side]
            self._put(address, account[side])
        for (address, key), value in change.slots.items():
            self._slots[address, key] = value[side]
            point = self._evm.snapshot()  # else the account would stay in the journal, and warm
            self._evm.insert_account_storage(address, key, value[side])
            self._evm.revert(point)

    def _start_anew(self) -> None:
        self._start()
        now = Change(
            {a: (account, account) for a, account in self._accounts.items()},
            {s: (v, v) for s, v in self._slots.items()},
        )
        self._write(now, 1)

    def _put(self, address: str, account: Account) -> None:
        nonce, balance, code_hash = account
        given: dict[str, Any] = {}
        if code_hash:  # pyrevm, too, keeps code by its hash, once it has seen it
            new = code_hash not in self._entered
            given = {"code": self._codes[code_hash]} if new else {"code_hash": code_hash}
            self._entered.add(code_hash)
        info: Any = AccountInfo(nonce=nonce, balance=balance, **given)  # type: ignore[call-arg]  # there is a balance
        self._evm.insert_account_info(address, info)


_ACCOUNT = ": Account { info: AccountInfo { "
_STORAGE = " }, storage: {"
_STATUS = "}, status: AccountStatus("
_INFO = re.compile(_ACCOUNT + r"balance: (?P<balance>\d+), nonce: (?P<nonce>\d+), ")
_LENGTH = re.compile(r"Analysed \{ len: (\d+)")
_SLOT = re.compile(
    r"(?P<key>\d+): StorageSlot \{ previous_or_original_value: (?P<was>\d+), present_value: (?P<now>\d+) \}"
)
_FAILURE = re.compile(r"(?:Revert \{ gas_used: \d+, output: 0x(?P<output>[0-9a-f]*)|Halt \{ reason: (?P<halt>\w+))")


def _told(failure: RuntimeError) -> tuple[str, bytes]:
    """The error, and what a revert said, out of pyrevm's words for it."""
    found = _FAILURE.match(str(failure))
    if found is None:
        raise ValidationError(str(failure)) from failure
    return found["halt"] or "Revert", bytes.fromhex(found["output"] or "")


def _earn(accounts: dict[str, Account], before: Mapping[str, Account], who: str, wei: int) -> None:
    account = accounts.get(who) or before.get(who, Account())
    if wei or who in accounts:
        accounts[who] = account._replace(balance=account.balance + wei)


def _log(log: Any) -> RpcLog:
    return RpcLog(checksummed(bytes.fromhex(log.address[2:])), log.topics, data(bytes(log.data[1])))


def _hex(address: bytes) -> str:
    return "0x" + address.hex()


def _name(*parts: bytes | int) -> bytes:
    return keccak(b"".join(part if isinstance(part, bytes) else part.to_bytes(32, "big") for part in parts))

"""A stake contract and the parties of the lane on a bare revm: no blocks, no signatures, no fees.

One transaction after another is executed on the same journal; its transient storage is reset after each. What one
touched is warm for the next, which takes less gas than on a chain. Where gas decides what happens, `settle` comes
first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, get_args

from eth_utils.crypto import keccak
from pyrevm import EVM, AccountInfo, BlockEnv, CfgEnv, Env

from stakesim.evm.abi import checksummed
from stakesim.evm.batch_reader import ViewAnswer, decode, encode_calls, encode_head
from stakesim.evm.chain_spec import CHAIN_ID, TRANSACTION_GAS_CAP
from stakesim.evm.compiler import Artifact, compile_contracts
from stakesim.evm.deployment import constructor_types, init_code
from stakesim.evm.errors import EngineError
from stakesim.evm.in_process.pyrevm_text import parse_failure, read_journal
from stakesim.evm.required_abi import standard_last
from stakesim.lane.codec import LaneCodec
from stakesim.lane.moves import CONTROLLERS, FUNDS, PUPPETS, SIGNERS, deployer_of
from stakesim.model.rules import CONTRACT, NOBODY
from stakesim.scenario.actions import ReceiverMode, Terms
from stakesim.scenario.base_action import PLATFORM

GAS = TRANSACTION_GAS_CAP
"""Gas of a transaction that has enough: the most that EIP-7825 allows."""
_TRANSACTION_GAS = 21_000
_MOST_UNUSED = 300_000
"""Gas that a contract may demand beyond what it uses."""
_FIRST_BLOCK = 1_438_269_973
"""Time from which on each second has a number of a block, which is none of another time."""
_BLOCK_GAS = 2**40
"""Gas for deployments."""
_VIEW_GAS = 2**26
"""Gas for all views together: twenty times what those of the largest run take, so one that never ends is found."""
_ZERO = "0x" + "00" * 20
_HOW = {how: number for number, how in enumerate(get_args(ReceiverMode))}
_WORD = 32
_ADDRESSES = {
    **{name: 0xA0_0000 + number for number, name in enumerate(("platform", "operator", "host", "guest"))},
    "stranger": 0xA0_0001 + 2**128,
    "friend": 0xA0_0002 + 2**128,
}
"""Addresses of `SIGNERS`. Who keeps 128 bits of them takes the stranger for the operator, the friend for the host."""
_LOOK_SLOT = 2
"""Slot of `ScriptedReceiver` that says what it looks at."""
_NO_ACCOUNT = (0, 0, keccak(b""))


class Executed(NamedTuple):
    """What a transaction did.

    Attributes:
        ok: Whether it succeeded.
        output: Return data, or the data of a revert.
        logs: (address, topics, data) of each log.
        gas: Gas used.
        halt: Why the EVM stopped it, if it did not revert.
    """

    ok: bool
    output: bytes
    logs: list[tuple[str, list[str], bytes]]
    gas: int
    halt: str = ""


class Seen(NamedTuple):
    """What a puppet saw while it was paid.

    Attributes:
        puppet: The puppet.
        view: Hash of what the view returned that it looked at.
        platform_balance: What the view of this name returned, in wei.
        liabilities: What `totalLiabilities` returned, in wei.
    """

    puppet: str
    view: bytes
    platform_balance: int
    liabilities: int


class Arena:
    """The contract, the parties, and what is known of the contract's storage.

    Attributes:
        addresses: By party; `NOBODY` and `CONTRACT` among them.
        codec: Encodes for the contract.
    """

    def __init__(self, contract: Artifact, terms: Terms, time: int) -> None:
        """Deploys everything.

        Args:
            contract: The stake contract.
            terms: The terms that it is deployed with, if it takes them.
            time: Seconds since 1970.

        Raises:
            EngineError: The contract can't be deployed with these terms.
        """
        self._artifacts = compile_contracts()
        self._evm = EVM(Env(cfg=CfgEnv(chain_id=CHAIN_ID)), gas_limit=_BLOCK_GAS, spec_id="CANCUN")
        self._empty_journal = self._evm.snapshot()
        self._settled: dict[str | tuple[str, int], Any] = {}  # all accounts by address, all slots by address and number
        self._at_restart: dict[str | tuple[str, int], Any] = {}  # what `restart` has to write back
        self._controllers = {name: _hex(address) for name, address in CONTROLLERS.items()}
        self._addresses = {name: _hex(_ADDRESSES[name]) for name in SIGNERS}
        for address in (*self._addresses.values(), *self._controllers.values()):
            self._write(address, (0, FUNDS, keccak(b"")))
        self.set_time(time)
        owner = self._addresses[PLATFORM]
        args = (owner, terms.as_struct())[: len(constructor_types(contract))]
        self.stake = self._deploy(contract, self._addresses[deployer_of(contract)], *args)
        for name in PUPPETS:
            self._addresses[name] = self._deploy(
                self._artifacts["ScriptedReceiver"], self._controllers[name], self.stake
            )
            self._evm.set_balance(self._addresses[name], FUNDS)
        self._batch_reader = self._deploy(self._artifacts["BatchReader"], owner)
        self._addresses[NOBODY], self._addresses[CONTRACT] = _ZERO, self.stake
        self.addresses = {name: int(address, 16) for name, address in self._addresses.items()}
        self.codec = LaneCodec(standard_last(contract.abi), self.addresses)
        self._puppet_codec = LaneCodec(self._artifacts["ScriptedReceiver"].abi, self.addresses)
        self._deferred = "0x" + keccak(text="PaymentDeferred(address,uint256)").hex()
        self._saw = "0x" + keccak(text="Saw(bytes32,uint256,uint256)").hex()
        self._puppets = {self._addresses[name]: name for name in PUPPETS}
        self._everybody = [self._addresses[name] for name in (*SIGNERS, *PUPPETS, CONTRACT)]
        self._reader_head = encode_head(self.stake, self._everybody)
        self._counters: dict[str, tuple[int, int] | None] = {}

    # Execution

    def set_time(self, time: int) -> None:
        """Sets the time of the transactions to come, in seconds since 1970. Those of one second are in one block."""
        self._evm.set_block_env(BlockEnv(time - _FIRST_BLOCK, _ZERO, time))

    def call(self, party: str, data: bytes, value: int, gas: int | None, origin: str | None = None) -> Executed:
        """Sends a transaction to the stake contract; for a puppet, somebody makes it call.

        Args:
            party: Who calls.
            data: Call data.
            value: Wei sent along.
            gas: Gas of the transaction; None: enough.
            origin: Who makes a puppet call; None: its controller.
        """
        if party not in self._controllers:
            return self._execute(self._addresses[party], self.stake, data, value, gas or GAS)
        act = self._puppet_codec.call("act", (CONTRACT, value, data))
        sender = self._addresses[origin] if origin else self._controllers[party]
        done = self._execute(sender, self._addresses[party], act, 0, gas or GAS)
        if not done.ok:
            return done
        length = int.from_bytes(done.output[_WORD : 2 * _WORD], "big")
        return done._replace(output=done.output[2 * _WORD : 2 * _WORD + length])

    def least_gas(self, party: str, data: bytes, value: int, origin: str | None) -> int | None:
        """The least gas with which a transaction succeeds; None if it fails with all gas.

        The arguments are those of `call`. Nothing is changed.
        """
        low, high = _TRANSACTION_GAS, GAS
        while high - low > 1:
            gas = (low + high) // 2 if high < GAS else GAS - 1
            mark = self._evm.snapshot()
            done = self.call(party, data, value, gas, origin)
            self._evm.revert(mark)
            if done.ok:
                high = gas if high < GAS else min(gas, done.gas + _MOST_UNUSED)
            elif high == GAS:
                return None
            else:
                low = gas
        return high

    def script(self, puppet: str, how: str, data: bytes, value: int) -> None:
        """Tells a puppet what to do with ether.

        Args:
            puppet: The puppet.
            how: A `ReceiverScript.how`.
            data: Call data of what it calls first; empty: nothing.
            value: Wei that it sends along.
        """
        call = self._puppet_codec.call("script", (_HOW[how], value, data, b""))
        done = self._execute(self._controllers[puppet], self._addresses[puppet], call, 0, GAS)
        if not done.ok:
            raise EngineError(f"{puppet} could not be told what to do: {done.halt or done.output.hex()}")

    def look(self, puppet: str, call: bytes) -> None:
        """Tells a puppet what to look at while it is paid, as its `script` would in a transaction.

        Args:
            puppet: The puppet.
            call: Call data of a view with one argument, of at most 224 bits; empty: nothing.
        """
        look = int.from_bytes(call[:4]) << 224 | int.from_bytes(call[4:])
        key = self._addresses[puppet], _LOOK_SLOT
        if look != self._evm.storage(*key):  # which loads it: it is then written into the journal, not the database
            self._evm.insert_account_storage(*key, look)

    def force_ether(self, party: str, wei: int) -> None:
        """Forces ether into the contract."""
        code = init_code(self._artifacts["EtherForcer"], (self.stake,))
        self._evm.deploy(self._addresses[party], code, wei, GAS)
        self._evm.reset_transient_storage()

    def settle(self) -> None:
        """Makes all accounts and slots cold, as they are at the beginning of a transaction on a chain.

        What the journal of revm says is written into its database, and the journal emptied.
        """
        evm = self._evm
        accounts = list(read_journal(evm.journal_str))
        with_code = evm.journal_state if any("Created" in each.status for each in accounts) else {}
        evm.revert(self._empty_journal)
        for account in accounts:
            if "SelfDestructed" in account.status:
                self._write(account.address, _NO_ACCOUNT)
                continue
            code_hash = self._settled.get(account.address, _NO_ACCOUNT)[2]
            if "Created" in account.status:
                created = with_code[checksummed(account.address)]
                evm.insert_account_info(account.address, created)  # its code was analysed, which takes long
                code_hash = created.code_hash
            self._write(account.address, (account.nonce, account.balance, code_hash))
            for slot, value in account.slots.items():
                self._write((account.address, slot), value)
        self._empty_journal = evm.snapshot()

    def begin(self) -> None:
        """Makes the present state the one that `restart` returns to."""
        self.settle()
        self._at_restart.clear()

    def restart(self) -> None:
        """Returns to the state of the last `begin`."""
        self._evm.revert(self._empty_journal)
        for key, value in self._at_restart.items():
            self._write(key, value)
        self._at_restart.clear()
        self._empty_journal = self._evm.snapshot()

    def _write(self, key: str | tuple[str, int], value: Any) -> None:
        """Writes an account (nonce, wei, hash of its code) or a slot into revm's database."""
        before = self._settled.get(key, _NO_ACCOUNT if isinstance(key, str) else 0)
        if value == before:
            return
        self._at_restart.setdefault(key, before)
        self._settled[key] = value
        if isinstance(key, str):
            nonce, wei, code_hash = value
            info: Any = AccountInfo(nonce=nonce, balance=wei, code_hash=code_hash)  # type: ignore[call-arg]
            self._evm.insert_account_info(key, info)
        else:
            mark = self._evm.snapshot()  # without it the slot would stay in the journal, and warm
            self._evm.insert_account_storage(*key, value)
            self._evm.revert(mark)

    def _execute(self, sender: str, to: str, data: bytes, value: int, gas: int) -> Executed:
        evm = self._evm
        try:
            output = evm.message_call(sender, to, data, value, gas)
        except RuntimeError as failure:
            if "CallGasCostMoreThanGasLimit" in str(failure):
                return Executed(False, b"", [], 0, "OutOfGas")
            error, output = parse_failure(failure)
            evm.reset_transient_storage()
            result: Any = evm.result
            return Executed(False, output, [], int(result.gas_used), "" if error == "Revert" else error)
        result = evm.result
        logs = [(log.address.lower(), log.topics, log.data[1]) for log in result.logs]
        evm.reset_transient_storage()
        return Executed(True, bytes(output), logs, int(result.gas_used))

    # What can be read

    def reentries(self, logs: Sequence[tuple[str, list[str], bytes]]) -> dict[str, Iterator[bool | None]]:
        """Whether calls that puppets made while they were paid succeeded, by puppet, in order; see `Reentries`."""
        done: dict[str, list[bool | None]] = {}
        for address, topics, data in logs:
            if address in self._puppets and topics[0] != self._saw:
                done.setdefault(self._puppets[address], []).append(bool(int.from_bytes(data, "big")))
            elif topics[:1] == [self._deferred]:
                receiver = self._puppets.get("0x" + topics[1][-40:])
                if receiver is not None:
                    done.setdefault(receiver, []).append(None)
        return {name: iter(each) for name, each in done.items()}

    def seen(self, logs: Sequence[tuple[str, list[str], bytes]]) -> Iterator[Seen]:
        """What puppets saw while they were paid, in order."""
        for address, topics, data in logs:
            if address in self._puppets and topics[0] == self._saw:
                view, balance, liabilities = (data[at : at + _WORD] for at in range(0, len(data), _WORD))
                yield Seen(self._puppets[address], view, int.from_bytes(balance), int.from_bytes(liabilities))

    def is_deferred(self, logs: Sequence[tuple[str, list[str], bytes]]) -> bool:
        """Whether somebody was not paid, and has a credit for it."""
        return any(address == self.stake and topics[:1] == [self._deferred] for address, topics, _ in logs)

    def read(self, calls: Sequence[bytes]) -> tuple[list[int], list[ViewAnswer]]:
        """Calls views of the contract.

        Args:
            calls: Their call data.

        Returns:
            Wei of the signers, the puppets and the contract; and the answer to each call.

        Raises:
            EngineError: They use up all gas.
        """
        return decode(self.read_encoded(calls), len(self._everybody))

    def read_encoded(self, calls: Sequence[bytes]) -> bytes:
        """What `read` returns, as `BatchReader` encodes it: each wei as a word, then each answer.

        Args:
            calls: The call data of the views.

        Raises:
            EngineError: They use up all gas.
        """
        data = self._reader_head + encode_calls(calls)
        mark = self._evm.snapshot()
        try:
            return bytes(self._evm.message_call(self._addresses[PLATFORM], self._batch_reader, data, 0, _VIEW_GAS))
        except RuntimeError as failure:
            raise EngineError(f"the views of the contract end with {parse_failure(failure)[0]}") from None
        finally:
            self._evm.revert(mark)

    def slot(self, number: int) -> int:
        """A slot of the contract's storage."""
        return self._evm.storage(self.stake, number)

    def slots(self, numbers: Iterable[int]) -> list[int]:
        """Slots of the contract's storage."""
        storage, stake = self._evm.storage, self.stake
        return [storage(stake, number) for number in numbers]

    def written_slots(self) -> dict[int, int]:
        """Slots of the contract that were written since it was deployed, with their values."""
        for account in read_journal(self._evm.journal_str):
            if account.address.lower() == self.stake:
                return account.slots
        return {}

    def set_counter(self, place: tuple[int, int], value: int) -> None:
        """Sets a counter of 32 bits in the contract's storage.

        Args:
            place: Its slot, and its lowest bit there.
            value: Its new value.
        """
        slot, bit = place
        kept = self.slot(slot) & ~(0xFFFF_FFFF << bit)
        self._evm.insert_account_storage(self.stake, slot, kept | value << bit)

    def _deploy(self, artifact: Artifact, by: str, *args: Any) -> str:
        try:
            address = self._evm.deploy(by, init_code(artifact, args), 0, _BLOCK_GAS)
        except RuntimeError as failure:
            raise EngineError(f"{artifact.name} can't be deployed: {parse_failure(failure)[0]}") from failure
        self._evm.reset_transient_storage()
        return address.lower()


def _hex(address: int) -> str:
    return f"0x{address:040x}"

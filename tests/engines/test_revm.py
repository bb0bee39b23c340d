"""The same random transactions on revm and py-evm: everything observable of the two chains is equal.

What pyrevm lacks of Prague is refused, or documented in `harness/stakesim/evm/in_process/revm.py`.
"""

import random
import resource
import sys
from contextlib import closing

import pytest
from eth_abi import encode
from eth_account import Account
from eth_utils import keccak, to_checksum_address
from stakesim.evm.compiler import CONTRACTS, compile_contracts
from stakesim.evm.contract_file import load_contract
from stakesim.evm.engines import open_engine
from stakesim.evm.errors import EngineError
from web3.exceptions import Web3RPCError

pytest.importorskip("pyrevm", reason="the engine revm is an extra: pip install -e '.[revm]'")

PROGRAMS = {"quick": 6, "ci": 30, "deep": 5_000}
LONG = {"quick": 600, "ci": 4_000, "deep": 100_000}
FEES = {"maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9, "chainId": 131_277_322_940_537, "type": 2}


class Pair:
    """The same on both engines, and compared after each transaction."""

    def __init__(self):
        self.engines = [open_engine("py-evm"), open_engine("revm")]
        self.accounts = self.engines[0].accounts
        self.contracts = []

    def send(self, sender=0, **fields):
        """Raises `AssertionError` where anything of the receipts or of the accounts differs. Returns one receipt."""
        results = [self._sent(engine, self.accounts[sender], fields) for engine in self.engines]
        assert results[0] == results[1]
        receipt, _ = results[0]
        if isinstance(receipt, dict) and receipt["contractAddress"] and receipt["status"]:
            self.contracts.append(receipt["contractAddress"])
        assert self._state(self.engines[0]) == self._state(self.engines[1])
        return receipt

    def _sent(self, engine, account, fields):
        w3 = engine.w3
        nonce = w3.eth.get_transaction_count(account.address)
        signed = account.sign_transaction({**FEES, "nonce": nonce, "gas": 1_000_000, "value": 0, **fields})
        try:
            sent = w3.eth.send_raw_transaction(signed.raw_transaction)
        except Web3RPCError as error:
            return str(error), None
        receipt = dict(w3.eth.get_transaction_receipt(sent))
        del receipt["blockHash"]
        logs = [(log["address"], log["topics"], log["data"], log["logIndex"]) for log in receipt.pop("logs")]
        return receipt, logs

    def _state(self, engine):
        w3, watched = engine.w3, [account.address for account in self.accounts[:4]]
        zero = "0x" + "00" * 20
        accounts = [(w3.eth.get_balance(a), w3.eth.get_transaction_count(a)) for a in [*watched, zero]]
        contracts = [
            (w3.eth.get_balance(a), w3.eth.get_transaction_count(a), w3.eth.get_code(a), slots)
            for a in self.contracts[-6:]
            for slots in [[w3.eth.get_storage_at(a, slot) for slot in range(4)]]
        ]
        head = w3.eth.get_block("latest")
        return accounts, contracts, head["gasUsed"], head["baseFeePerGas"], head["timestamp"], head["logsBloom"]

    def each(self, ask):
        """What both answer, which is the same."""
        answers = [ask(engine) for engine in self.engines]
        assert answers[0] == answers[1]
        return answers[0]


@pytest.fixture
def pair():
    return Pair()


# The opcodes of random programs. Not BASEFEE and BLOCKHASH, which pyrevm can't be told, nor those that ask for blobs.
STACK = bytes([*range(0x01, 0x0C), *range(0x10, 0x1E), 0x50, *range(0x80, 0x84), *range(0x90, 0x93)])
SURROUNDINGS = bytes([*range(0x30, 0x3B), 0x3D, 0x3F, 0x41, 0x42, 0x43, 0x45, 0x46, 0x47, 0x58, 0x59, 0x5A])
STATE = [
    "6003165460ff5500",  # a slot by what is on the stack
    "600154600101600155",  # counts
    "6000600155",  # clears
    "60015c60010160015d",  # counts in transient storage
    "60015c600255",  # writes down what was there of it
    "5f5f5f5f60015af150",  # calls a precompile
    "5f5f5f5f5f305af1600355",  # calls itself, with all gas
    "5f5f5f5f335af450",  # delegates to the caller
    "60205f5f5f60025f335af150",  # sends wei to the caller
    "5f3560205f205f525f5160015560205fa0",  # hashes, writes, logs
    "600160025fa2",  # logs with topics
    "6001600260035fa3",
    "6d600154600101600155600160025f52600e6012f05000",
    "69602a5f5260206000f35f52600a6016f0503d600255",  # creates a contract that fails or not
    "6a600a5f5260015ff35f52600b6015f0600355",
    "33ff",  # destroys itself for the caller
    "5f5ffd",
    "60205ffd",
    "60205ff3",
    "fe",
]


def program(rng):
    """Code that mostly makes sense, and ends one way or another."""
    parts = []
    for _ in range(rng.randint(1, 12)):
        kind = rng.random()
        if kind < 0.45:
            parts.append(bytes.fromhex(rng.choice(STATE)))
        elif kind < 0.6:
            parts.append(bytes([rng.choice(SURROUNDINGS)]) + bytes.fromhex("600155"))
        elif kind < 0.8:
            parts.append(bytes([0x60, rng.randrange(256)]))
        else:
            parts.append(bytes([rng.choice(STACK)]))
    return b"".join(parts)


def creation(code):
    """What deploys this code."""
    return bytes.fromhex(f"61{len(code):04x}80600a5f395ff3") + code


@pytest.mark.slow
def test_random_programs_and_snapshots(pair, profile, campaign_seed):
    """Creations, calls with and without wei, failures of all kinds, access lists, times, rewinding."""
    for number in range(PROGRAMS[profile]):
        rng = random.Random(f"{campaign_seed} {number}")  # other programs for each commit
        value = rng.choice([0, 0, 5])
        pair.send(data=creation(program(rng)), value=value)
        snapshots = [engine.snapshot() for engine in pair.engines] if rng.random() < 0.3 else None
        for _ in range(rng.randint(1, 3)):
            if rng.random() < 0.3:
                at = pair.engines[0].now() + rng.randint(1, 100_000)
                for engine in pair.engines:
                    engine.set_next_timestamp(at)
            target = rng.choice([*pair.contracts[-4:], pair.accounts[1].address])
            # with much data and a refund, py-evm 0.12.1b1 goes below the floor of EIP-7623
            size = rng.choice([0, 4, 33]) if target in pair.contracts else 2_000
            fields = {"to": target, "data": rng.randbytes(size), "value": rng.choice([0, 0, 3])}
            fields["gas"] = rng.choice([21_000, 60_000, 200_000, 1_000_000])
            if rng.random() < 0.2:
                fields["accessList"] = [{"address": target, "storageKeys": ["0x" + f"{n:064x}" for n in range(2)]}]
            pair.send(sender=rng.randrange(3), **fields)
        if snapshots:
            for engine, snapshot in zip(pair.engines, snapshots, strict=True):
                engine.revert(snapshot)
            assert pair._state(pair.engines[0]) == pair._state(pair.engines[1])


def test_calls_and_estimates_agree(pair):
    probe = load_contract(CONTRACTS / "test" / "Probe.sol")
    address = pair.send(data=bytes.fromhex(probe.bytecode[2:]), gas=3_000_000)["contractAddress"]

    def answers(engine):
        contract = engine.w3.eth.contract(address, abi=probe.abi)
        results = []
        for function in (contract.functions.time(), contract.functions.note(3, "x" * 500), contract.functions.fill(7)):
            results.append(function.call({"from": pair.accounts[1].address}, block_identifier="pending"))
            results.append(function.estimate_gas({"from": pair.accounts[1].address}, block_identifier="pending"))
        return results

    pair.each(answers)


def test_call_may_have_a_contract_as_sender(pair):
    """As when somebody asks whether a contract could withdraw; no transaction could."""
    caller, target = (
        pair.send(data=creation(bytes.fromhex(code)))["contractAddress"] for code in ("00", "335f5260205ff3")
    )
    answer = pair.each(lambda engine: engine.w3.eth.call({"from": caller, "to": target}))
    assert answer.hex()[24:] == caller[2:].lower()
    assert pair.each(lambda engine: engine.w3.eth.get_code(caller)) == b"\0"


@pytest.mark.slow
def test_transaction_leaves_nothing_warm_for_the_next(pair):
    """Warm addresses and slots, original values, transient storage: the second call costs what its own start costs."""
    code = bytes.fromhex("60015c60010160015d60015c600255" + "600154600101600155" + "6000600355")
    address = pair.send(data=creation(code))["contractAddress"]
    used = [pair.send(to=address)["gasUsed"] for _ in range(3)]
    assert used[1] == used[2] < used[0]
    storage = pair.each(lambda engine: [engine.w3.eth.get_storage_at(address, slot).hex() for slot in (1, 2)])
    assert [int(word, 16) for word in storage] == [3, 1]


@pytest.mark.slow
def test_sender_with_exactly_the_required_balance(pair):
    """Fee and value to the wei: once it is mined, a wei less and nobody takes it."""
    code, price = bytes.fromhex("60015460010160015500"), 3 * 10**9
    address = pair.send(data=creation(code))["contractAddress"]
    fields = {"to": address, "value": 7, "gas": 60_000, "maxFeePerGas": price}
    for missing in (0, 1):
        for engine in pair.engines:
            engine.set_balance(pair.accounts[3].address, 60_000 * price + 7 - missing)
        result = pair.send(sender=3, **fields)
        assert result["status"] == 1 if not missing else "insufficient funds" in result
    assert pair.send(to=address)["gasUsed"] == pair.send(to=address)["gasUsed"]


@pytest.mark.slow
def test_access_list_warms_nothing_for_the_next_transaction(pair):
    code = bytes.fromhex("60015460010160015500")
    address = pair.send(data=creation(code))["contractAddress"]
    listed = [{"address": address, "storageKeys": ["0x" + f"{1:064x}"]}]
    used = [pair.send(to=address, **more)["gasUsed"] for more in ({}, {"accessList": listed}, {}, {})]
    assert used[2] == used[3] != used[1]
    assert pair.each(lambda engine: int.from_bytes(engine.w3.eth.get_storage_at(address, 1), "big")) == 4


@pytest.mark.slow
def test_forced_ether_and_past_balances_agree(pair):
    forcer = compile_contracts()["EtherForcer"]
    target = to_checksum_address("0x" + "ab" * 20)
    for wei in (7, 8):
        pair.send(data=bytes.fromhex(forcer.bytecode[2:]) + encode(["address"], [target]), value=wei)
    pair.send(to=pair.accounts[1].address, value=1)
    balances = pair.each(lambda engine: [engine.w3.eth.get_balance(target, block) for block in range(4)])
    assert balances == [0, 7, 15, 15]
    pair.send(to=pair.accounts[1].address, value=1)


@pytest.mark.slow
def test_revert_undoes_set_balance(pair):
    code = bytes.fromhex("47600155")
    address = pair.send(data=creation(code), value=5)["contractAddress"]
    before = [engine.snapshot() for engine in pair.engines]
    for wei in (11, 12):
        for engine in pair.engines:
            engine.set_balance(address, wei)
        pair.send(to=address)
        after = [engine.snapshot() for engine in pair.engines]
        for engine, snapshot in zip(pair.engines, before, strict=True):
            engine.revert(snapshot)
        assert pair.each(lambda engine: engine.w3.eth.get_balance(address)) == 5
        for engine, snapshot in zip(pair.engines, after, strict=True):
            with pytest.raises(EngineError, match="take a new one"):
                engine.revert(snapshot)


def test_transactions_that_set_code_are_refused():
    with closing(open_engine("revm")) as engine:
        account = engine.accounts[0]
        chain = engine.w3.eth.chain_id
        authority = {"chainId": chain, "address": "0x" + "11" * 20, "nonce": 1}
        signed = account.sign_transaction(
            {
                **{key: value for key, value in FEES.items() if key != "type"},
                "to": account.address,
                "nonce": 0,
                "gas": 100_000,
                "value": 0,
                "data": b"",
                "authorizationList": [Account.sign_authorization(authority, account.key)],
            }
        )
        with pytest.raises(Web3RPCError, match="none that set code"):
            engine.w3.eth.send_raw_transaction(signed.raw_transaction)
        assert engine.w3.eth.get_transaction_count(account.address) == 0


@pytest.mark.slow
def test_memory_does_not_grow(profile):
    """Of a campaign: some transactions and calls, and back. Linux gives the most that was ever used, in KiB."""
    with closing(open_engine("revm")) as engine:
        probe, account, w3 = load_contract(CONTRACTS / "test" / "Probe.sol"), engine.accounts[0], engine.w3
        fields = {**FEES, "gas": 3_000_000, "value": 0}
        created = account.sign_transaction({**fields, "nonce": 0, "data": probe.bytecode})
        w3.eth.send_raw_transaction(created.raw_transaction)
        address = w3.eth.get_transaction_receipt(created.hash)["contractAddress"]
        fill = keccak(text="fill(uint256)")[:4] + encode(["uint256"], [3])
        raw = [
            account.sign_transaction({**fields, "nonce": nonce, "to": address, "data": fill}).raw_transaction
            for nonce in range(1, 21)
        ]
        start = engine.snapshot()

        def play(rounds):
            for _ in range(rounds):
                for transaction in raw:
                    w3.eth.send_raw_transaction(transaction)
                    w3.eth.call({"to": address, "data": fill}, "pending")
                engine.revert(start)

        play(20)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        play(LONG[profile] // len(raw))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 8_000 * (1024 if sys.platform == "darwin" else 1)

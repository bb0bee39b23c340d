"""The faulty provider: what it does to requests, and what it notes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import count

import numpy as np
import pytest
import requests
from stakesim.evm.anvil import AnvilEngine
from stakesim.evm.lean_web3 import lean_web3
from stakesim.faults.rpc_faults import BY_NAME, FAULTS, FaultyProvider, decode_raw
from web3.exceptions import TransactionNotFound, Web3RPCError

GWEI = 10**9
_ACCOUNTS = count(1)
BACK = (requests.RequestException, Web3RPCError)


@pytest.fixture(scope="module")
def anvil() -> Iterator[AnvilEngine]:
    engine = AnvilEngine()
    engine.w3.provider.make_request("evm_setAutomine", [False])
    for _ in range(10):
        engine.mine()
    yield engine
    engine.close()


class Line:
    """A faulty line to the anvil, and an account of its own."""

    def __init__(self, anvil: AnvilEngine, account: int) -> None:
        self.anvil, self.account, self.to = anvil, anvil.accounts[account], anvil.accounts[0].address
        self.faulty = FaultyProvider(anvil.w3.provider, FAULTS, np.random.default_rng(1))
        self.eth = lean_web3(self.faulty).eth
        self.truth = anvil.w3.eth
        self.nonce = self.truth.get_transaction_count(self.account.address)

    def signed(self, nonce: int = 0, fee: int = 3 * GWEI):
        return self.account.sign_transaction(
            {
                "type": 2,
                "chainId": self.truth.chain_id,
                "nonce": self.nonce + nonce,
                "to": self.to,
                "value": 1,
                "gas": 21_000,
                "maxFeePerGas": fee,
                "maxPriorityFeePerGas": fee,
            }
        )

    def send(self, name: str | None = None, **of: int):
        """Sends a transaction that meets this fault."""
        if name:
            self.faulty.force(name)
        return self.eth.send_raw_transaction(self.signed(**of).raw_transaction)

    def mined(self, **of: int) -> bool:
        self.anvil.mine()
        try:
            return self.truth.get_transaction_receipt(self.signed(**of).hash)["status"] == 1
        except TransactionNotFound:
            return False


@pytest.fixture
def line(anvil: AnvilEngine) -> Line:
    line = Line(anvil, next(_ACCOUNTS))
    anvil.w3.provider.make_request("anvil_dropAllTransactions", [])
    return line


def test_a_line_without_faults_changes_nothing(line: Line) -> None:
    tx_hash = line.send()
    assert list(line.faulty.arrivals) == [tx_hash.to_0x_hex()]
    assert line.mined()
    assert line.faulty.counts.total() == 0


@pytest.mark.parametrize("name", ["response lost", "time-out, sent", "unknown error, sent", "503 though done"])
def test_the_node_took_it_and_nobody_heard(line: Line, name: str) -> None:
    with pytest.raises(BACK):
        line.send(name)
    assert line.mined()
    assert len(line.faulty.arrivals) == 1


@pytest.mark.parametrize(
    "name", ["request lost", "time-out, not sent", "unknown error, not sent", "429", "502", "connection reset"]
)
def test_the_node_never_saw_it(line: Line, name: str) -> None:
    with pytest.raises(BACK):
        line.send(name)
    assert not line.mined()
    assert not line.faulty.arrivals


@pytest.mark.parametrize("name", ["taken and lost", "already known, wrongly"])
def test_the_node_says_yes_and_has_it_not(line: Line, name: str) -> None:
    with suppress(Web3RPCError):
        line.send(name)
    assert not line.mined()


def test_already_known_is_what_the_node_says(line: Line) -> None:
    with pytest.raises(Web3RPCError, match="already imported"):
        line.send("already known, node's words")
    assert line.mined()


def test_nonce_too_low_as_our_own_is_mined(line: Line) -> None:
    with pytest.raises(Web3RPCError, match="nonce too low"):
        line.send("nonce too low, mined")
    assert line.truth.get_transaction_receipt(line.signed().hash)


def test_nonce_too_low_as_an_older_attempt_is_mined(line: Line) -> None:
    line.send()
    with pytest.raises(Web3RPCError, match="nonce too low"):
        line.send("nonce too low, older attempt mined", fee=4 * GWEI)
    assert line.truth.get_transaction_receipt(line.signed().hash)


def test_a_fussy_node_wants_replacements_to_pay_more(line: Line) -> None:
    line.send()
    with pytest.raises(Web3RPCError, match="underpriced"):
        line.send("replacement underpriced", fee=3 * GWEI * 112 // 100)
    line.send("replacement underpriced", fee=6 * GWEI)
    assert line.faulty.counts["replacement underpriced"] == 1


def test_a_node_that_keeps_no_gaps(line: Line) -> None:
    with pytest.raises(Web3RPCError, match="nonce too high"):
        line.send("nonce too high", nonce=2)


def test_a_lagging_node(line: Line) -> None:
    line.send()
    assert line.mined()
    head = line.truth.block_number
    line.faulty.force("old block number")
    assert line.eth.block_number < head
    line.faulty.force("old latest block")
    assert line.eth.get_block("latest")["number"] < head
    line.faulty.force("old nonce")
    assert line.eth.get_transaction_count(line.account.address) == line.nonce
    line.faulty.force("receipt withheld")
    with pytest.raises(TransactionNotFound):
        line.eth.get_transaction_receipt(line.signed().hash)
    assert line.eth.get_transaction_receipt(line.signed().hash)


def test_a_receipt_of_a_block_that_is_gone(line: Line) -> None:
    line.send()
    assert line.mined()
    was = line.eth.get_transaction_receipt(line.signed().hash)
    line.anvil.w3.provider.make_request("anvil_reorg", [1, []])
    line.faulty.force("old receipt")
    assert line.eth.get_transaction_receipt(line.signed().hash) == was
    with pytest.raises(TransactionNotFound):
        line.eth.get_transaction_receipt(line.signed().hash)


def test_a_fault_that_cannot_happen_now_waits(line: Line) -> None:
    line.faulty.force("nonce too low, older attempt mined")
    line.send()
    assert line.faulty.counts.total() == 0


@pytest.mark.slow
def test_the_same_seed_injects_the_same_faults(anvil: AnvilEngine) -> None:
    def played() -> list[tuple[int, str]]:
        faulty = FaultyProvider(anvil.w3.provider, FAULTS, np.random.default_rng(5), rate=0.5)
        for _ in range(60):
            try:
                faulty.make_request("eth_blockNumber", [])
            except requests.RequestException:
                continue
        return [(one.call, one.fault.name) for one in faulty.injected]

    assert played() == played()
    assert len(played()) > 10


def test_quiet(line: Line) -> None:
    line.faulty.rate = 1
    line.faulty.force("429")
    line.faulty.quiet()
    assert line.eth.block_number == line.truth.block_number


def test_hooks_come_before_and_after_each_request(line: Line) -> None:
    seen: list[str] = []
    line.faulty.before = lambda method, params: seen.append(f"before {method}")
    line.faulty.after = lambda method, params: seen.append(f"after {method}")
    line.faulty.force("502")
    with pytest.raises(requests.HTTPError) as raised:
        line.eth.block_number  # noqa: B018
    assert raised.value.response.status_code == 502
    assert seen == ["before eth_blockNumber", "after eth_blockNumber"]


@pytest.mark.parametrize(
    "fees",
    [
        {"gasPrice": 7},
        {"gasPrice": 7, "accessList": []},
        {"type": 2, "maxFeePerGas": 9, "maxPriorityFeePerGas": 7},
    ],
)
def test_transactions_of_all_types_are_read(anvil: AnvilEngine, fees: dict) -> None:
    """A service may send legacy transactions, too."""
    fields = {"chainId": 1, "nonce": 5, "to": anvil.accounts[0].address, "value": 0, "gas": 30_000, "data": b"\x01\x02"}
    raw = anvil.accounts[1].sign_transaction(fields | fees).raw_transaction.to_0x_hex()
    assert decode_raw(raw) == (5, fees.get("maxFeePerGas", 7), 7, b"\x01\x02")


def test_every_fault_has_a_name_of_its_own_and_a_row() -> None:
    assert len(BY_NAME) == len(FAULTS)
    assert all(1 <= fault.row <= 29 and fault.methods for fault in FAULTS)

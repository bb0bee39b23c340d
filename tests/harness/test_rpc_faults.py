"""The faulty provider: what it does to requests, and what it records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import count

import numpy as np
import pytest
import requests
from stakesim.evm.anvil import AnvilEngine
from stakesim.evm.lean_web3 import lean_web3
from stakesim.faults.catalogue import ROWS
from stakesim.faults.events import RandomEvents, ScriptedEvents, Swarm
from stakesim.faults.faulty_provider import FaultyProvider
from stakesim.faults.rpc_faults import FAULTS
from stakesim.faults.signed_transaction import SignedTransaction
from stakesim.faults.testbed import service_account
from web3.exceptions import TransactionNotFound, Web3RPCError

GWEI = 10**9
_ACCOUNTS = count(1)
ERRORS = (requests.RequestException, Web3RPCError)


@pytest.fixture(scope="module")
def anvil() -> Iterator[AnvilEngine]:
    engine = AnvilEngine()
    engine.w3.provider.make_request("evm_setAutomine", [False])
    for _ in range(10):
        engine.mine()
    yield engine
    engine.close()


class Connection:
    """A faulty connection to the anvil, with its own account."""

    def __init__(self, anvil: AnvilEngine, account: int) -> None:
        self.anvil, self.account, self.to = anvil, anvil.accounts[account], anvil.accounts[0].address
        self.events = RandomEvents(np.random.default_rng(1))
        self.faulty = FaultyProvider(anvil.w3.provider, FAULTS, self.events)
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
        """Sends a transaction, to which this fault happens."""
        if name:
            self.events.force(name)
        return self.eth.send_raw_transaction(self.signed(**of).raw_transaction)

    def mined(self, **of: int) -> bool:
        self.anvil.mine()
        try:
            return self.truth.get_transaction_receipt(self.signed(**of).hash)["status"] == 1
        except TransactionNotFound:
            return False


@pytest.fixture
def connection(anvil: AnvilEngine) -> Connection:
    connection = Connection(anvil, next(_ACCOUNTS))
    anvil.w3.provider.make_request("anvil_dropAllTransactions", [])
    return connection


@pytest.mark.slow
def test_a_connection_without_faults_changes_nothing(connection: Connection) -> None:
    tx_hash = connection.send()
    assert list(connection.faulty.received) == [tx_hash.to_0x_hex()]
    assert connection.mined()
    assert connection.faulty.counts.total() == 0


@pytest.mark.parametrize("name", ["response lost", "time-out, sent", "unknown error, sent", "503, executed"])
def test_the_node_executes_the_request_and_the_response_is_lost(connection: Connection, name: str) -> None:
    with pytest.raises(ERRORS):
        connection.send(name)
    assert connection.mined()
    assert len(connection.faulty.received) == 1


@pytest.mark.parametrize(
    "name", ["request lost", "time-out, not sent", "unknown error, not sent", "429", "502", "connection reset"]
)
def test_the_request_never_reaches_the_node(connection: Connection, name: str) -> None:
    with pytest.raises(ERRORS):
        connection.send(name)
    assert not connection.mined()
    assert not connection.faulty.received


@pytest.mark.parametrize("name", ["accepted and lost", "already known, wrongly"])
def test_the_node_accepts_a_transaction_and_does_not_have_it(connection: Connection, name: str) -> None:
    with suppress(Web3RPCError):
        connection.send(name)
    assert not connection.mined()


def test_already_known_is_the_nodes_own_error(connection: Connection) -> None:
    with pytest.raises(Web3RPCError, match="already imported"):
        connection.send("already known, the node's error")
    assert connection.mined()


def test_nonce_too_low_because_the_transaction_is_mined(connection: Connection) -> None:
    with pytest.raises(Web3RPCError, match="nonce too low"):
        connection.send("nonce too low, mined")
    assert connection.truth.get_transaction_receipt(connection.signed().hash)


def test_nonce_too_low_because_an_older_attempt_is_mined(connection: Connection) -> None:
    connection.send()
    with pytest.raises(Web3RPCError, match="nonce too low"):
        connection.send("nonce too low, older attempt mined", fee=4 * GWEI)
    assert connection.truth.get_transaction_receipt(connection.signed().hash)


def test_a_strict_node_requires_higher_fees_of_replacements(connection: Connection) -> None:
    connection.send()
    with pytest.raises(Web3RPCError, match="underpriced"):
        connection.send("replacement underpriced", fee=3 * GWEI * 112 // 100)
    connection.send("replacement underpriced", fee=6 * GWEI)
    assert connection.faulty.counts["replacement underpriced"] == 1


def test_a_node_that_rejects_nonce_gaps(connection: Connection) -> None:
    with pytest.raises(Web3RPCError, match="nonce too high"):
        connection.send("nonce too high", nonce=2)


def test_a_lagging_node(connection: Connection) -> None:
    connection.send()
    assert connection.mined()
    head = connection.truth.block_number
    connection.events.force("old block number")
    assert connection.eth.block_number < head
    connection.events.force("old latest block")
    assert connection.eth.get_block("latest")["number"] < head
    connection.events.force("old nonce")
    assert connection.eth.get_transaction_count(connection.account.address) == connection.nonce
    connection.events.force("receipt withheld")
    with pytest.raises(TransactionNotFound):
        connection.eth.get_transaction_receipt(connection.signed().hash)
    assert connection.eth.get_transaction_receipt(connection.signed().hash)


def test_a_receipt_of_a_removed_block(connection: Connection) -> None:
    connection.send()
    assert connection.mined()
    receipt = connection.eth.get_transaction_receipt(connection.signed().hash)
    connection.anvil.w3.provider.make_request("anvil_reorg", [1, []])
    connection.events.force("old receipt")
    assert connection.eth.get_transaction_receipt(connection.signed().hash) == receipt
    with pytest.raises(TransactionNotFound):
        connection.eth.get_transaction_receipt(connection.signed().hash)


def test_a_forced_fault_waits_until_it_applies(connection: Connection) -> None:
    connection.events.force("nonce too low, older attempt mined")
    connection.send()
    assert connection.faulty.counts.total() == 0


def test_a_fault_that_lasts_goes_on_until_it_is_stopped(connection: Connection) -> None:
    """Lasting and other choices are recorded, so that a script gives the same answers."""
    events = RandomEvents(np.random.default_rng(1), Swarm(lasting=frozenset(["nonce count too high"])))
    account = service_account().address
    nonce = connection.anvil.w3.eth.get_transaction_count(account)
    faulty = FaultyProvider(connection.anvil.w3.provider, FAULTS, events)
    events.force("nonce count too high")
    counts = [lean_web3(faulty).eth.get_transaction_count(account) for _ in range(3)]
    assert len(set(counts)) == 1
    assert counts[0] > nonce
    assert faulty.counts == {"nonce count too high": 1}
    scripted = FaultyProvider(connection.anvil.w3.provider, FAULTS, ScriptedEvents(events.steps))
    again = [lean_web3(scripted).eth.get_transaction_count(account) for _ in range(3)]
    assert again == counts
    assert scripted.events.steps == events.steps
    faulty.stop()
    assert lean_web3(faulty).eth.get_transaction_count(account) == nonce


def test_a_lagging_node_has_neither_events_nor_receipts_of_blocks_that_it_lacks(connection: Connection) -> None:
    connection.send()
    assert connection.mined()
    head = connection.truth.block_number
    connection.events.force("lagging node")
    assert connection.eth.get_logs({"fromBlock": head, "toBlock": head}) == []
    connection.events.force("lagging node")
    with pytest.raises(TransactionNotFound):
        connection.eth.get_transaction_receipt(connection.signed().hash)


@pytest.mark.parametrize("name", ["wrong field", "wrong result", "neither result nor error"])
def test_a_malformed_answer_is_no_receipt(connection: Connection, name: str) -> None:
    connection.send()
    assert connection.mined()
    tx_hash = connection.signed().hash.to_0x_hex()

    def receipt() -> object:
        return connection.faulty.make_request("eth_getTransactionReceipt", [tx_hash]).get("result", "no result")

    good = receipt()
    connection.events.force(name)
    assert receipt() != good
    assert receipt() == good


@pytest.mark.slow
def test_the_same_seed_injects_the_same_faults(anvil: AnvilEngine) -> None:
    def injected_faults() -> list[tuple[int, str]]:
        events = RandomEvents(np.random.default_rng(5), Swarm(rpc=0.5))
        faulty = FaultyProvider(anvil.w3.provider, FAULTS, events)
        for _ in range(60):
            try:
                faulty.make_request("eth_blockNumber", [])
            except requests.RequestException:
                continue
        return [(injected.request, injected.fault.name) for injected in faulty.injected]

    assert injected_faults() == injected_faults()
    assert len(injected_faults()) > 10


def test_after_stop_no_fault_is_injected(connection: Connection) -> None:
    connection.events.force("429")
    connection.faulty.stop()
    assert connection.eth.block_number == connection.truth.block_number


def test_hooks_are_called_before_and_after_each_request(connection: Connection) -> None:
    calls: list[str] = []
    connection.faulty.before = lambda method, params: calls.append(f"before {method}")
    connection.faulty.after = lambda method, params: calls.append(f"after {method}")
    connection.events.force("502")
    with pytest.raises(requests.HTTPError) as raised:
        connection.eth.block_number  # noqa: B018
    assert raised.value.response.status_code == 502
    assert calls == ["before eth_blockNumber", "after eth_blockNumber"]


@pytest.mark.parametrize(
    "fees",
    [
        {"gasPrice": 7},
        {"gasPrice": 7, "accessList": []},
        {"type": 2, "maxFeePerGas": 9, "maxPriorityFeePerGas": 7},
    ],
)
def test_transactions_of_all_types_are_decoded(anvil: AnvilEngine, fees: dict) -> None:
    """A service may send legacy transactions."""
    fields = {"chainId": 1, "nonce": 5, "to": anvil.accounts[0].address, "value": 0, "gas": 30_000, "data": b"\x01\x02"}
    raw = anvil.accounts[1].sign_transaction(fields | fees).raw_transaction.to_0x_hex()
    decoded = SignedTransaction.decode(raw)
    assert decoded.sender == anvil.accounts[1].address
    assert (decoded.nonce, decoded.max_fee, decoded.tip) == (5, fees.get("maxFeePerGas", 7), 7)
    assert decoded.data == b"\x01\x02"


def test_every_fault_has_a_unique_name_and_a_row() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.row in ROWS and fault.methods for fault in FAULTS)

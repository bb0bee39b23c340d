"""Faults of sending and mining: rows 1 to 14 of the catalogue of faults, in its order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest
import requests
from app.core.errors import ChainUnavailable, OutOfFunds, Superseded
from app.core.units import WEI_PER_GWEI as GWEI
from app.services.rpc_failover import FailoverProvider
from backend_environment import Time
from eth_account import Account
from fault_environment import (
    SEND,
    FaultEnvironment,
    Forward,
    after_the_request,
    first,
    http,
    node_error,
    raising,
    refusal,
    result,
)

pytestmark = pytest.mark.slow

LOST = requests.ConnectionError("the connection is dead")
HOUR = 3600


class Proxy(ThreadingHTTPServer):
    """An HTTP server before a node, which fails requests that send a transaction, and passes others on.

    `does` has the failures in turn; after them, requests succeed. A number is the status of a response without a body.
    "hang up" closes the connection, "be silent" keeps it open; with "late" after it, the node gets the request before.
    `noted` has the bodies of the requests that send, in order.
    """

    daemon_threads = True

    def __init__(self, node: str, *does: int | str) -> None:
        self.node, self.does, self.noted, self.over = node, list(does), list[bytes](), threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body at once, else each answer takes 40 ms
    server: Proxy

    def do_POST(self) -> None:
        proxy, body = self.server, self.rfile.read(int(self.headers["Content-Length"]))
        does: int | str = 200
        if SEND.encode() in body:
            proxy.noted.append(body)
            does = proxy.does.pop(0) if proxy.does else 200
        answer = b""
        if does == 200 or str(does).endswith("late"):
            answer = requests.post(proxy.node, body, headers={"Content-Type": "application/json"}, timeout=5).content
        if isinstance(does, str):
            self.close_connection = True
            if does.startswith("be silent"):
                proxy.over.wait()
            return
        self.send_response(does)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Suppresses the server's log."""


@contextmanager
def proxies(environment: FaultEnvironment, *each_does: tuple[int | str, ...]) -> Iterator[list[Proxy]]:
    url = str(http(environment.engine).endpoint_uri)
    servers = [Proxy(url, *does) for does in each_does]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield servers
    finally:
        for server in servers:
            server.over.set()
            server.shutdown()
            server.server_close()


# ------------------------------------------------------------------------------------------- 1, 2: the connection


@pytest.mark.parametrize("mined", [False, True], ids=["in the mempool", "mined at once"])
def test_01_response_lost_after_the_node_took_the_transaction(environment: FaultEnvironment, mined: bool) -> None:
    environment.rpc("evm_setAutomine", mined)
    operation = environment.step(environment.prepare_run())
    environment.connection.fault = first(1, after_the_request(raising(LOST), environment if mined else None))
    operation = environment.step(operation)
    assert operation.state == ("mined" if mined else "signed")
    environment.rpc("evm_setAutomine", False)
    operation = environment.settle(operation)
    assert operation.state == "confirmed"
    assert len(operation.attempts) == len(set(environment.connection.sent)) == 1
    assert (len(environment.connection.sent) == 1) == mined
    environment.check(runs=1)


def test_02_request_lost_before_the_node(environment: FaultEnvironment) -> None:
    operation = environment.step(environment.prepare_run())
    environment.connection.fault = first(3, raising(LOST))
    for _ in range(3):
        operation = environment.step(operation)
        environment.mine()
        assert (operation.state, environment.pool()) == ("signed", 0)
    assert environment.step(operation).state == "submitted"
    assert (len(environment.connection.sent), len(set(environment.connection.sent))) == (4, 1)
    assert environment.settle(operation).state == "confirmed"
    environment.check(runs=1)


# --------------------------------------------------------------------------------------------- 3, 4: the endpoints


def test_03_too_many_requests_broken_servers_and_connections_reset(environment: FaultEnvironment) -> None:
    """The first server rests after its failure, and the second gets the request; then both fail, and rest."""
    slept = list[float]()
    with proxies(environment, (429, 503, "hang up"), ("hang up late", 502)) as servers:
        provider = FailoverProvider(
            [server.url for server in servers], timeout=2, sleep=slept.append, jitter=lambda: 0.5
        )
        worker = environment.worker(provider)
        operation = worker.follow(worker.prepare_run())
        assert operation.state == "submitted"
        bodies = [body for server in servers for body in server.noted]
        assert all(worker.connection.sent[0].encode() in body for body in bodies)
        assert len(bodies) >= 5
        operation = worker.settle(operation)
    assert slept
    assert min(slept) > 0
    assert (operation.state, len(operation.attempts)) == ("confirmed", 1)
    worker.check(runs=1)


@pytest.mark.parametrize("taken", [True, False], ids=["the node took it", "the node did not"])
def test_04_time_out_on_send(environment: FaultEnvironment, caplog: pytest.LogCaptureFixture, taken: bool) -> None:
    """The client gets `ChainUnavailable` with the operation's key; the operation never fails."""
    with proxies(environment, ("be silent late" if taken else "be silent",)) as [server]:
        worker = environment.worker(FailoverProvider([server.url], timeout=2, give_up_after=0), give_up_after=0)
        operation = worker.step(environment.prepare_run())
        with pytest.raises(ChainUnavailable) as caught:
            worker.services.sender.finish(operation)
        assert caught.value.operation == operation.key
    assert f"{SEND}: endpoint 1 of 1 did not answer in time" in caplog.text
    operation = environment.find(operation)
    assert (operation.state, environment.status(operation)) == ("signed", "pending")
    operation = environment.settle(operation)
    assert (operation.state, len({*worker.connection.sent, *environment.connection.sent})) == ("confirmed", 1)
    environment.check(runs=1)


# ------------------------------------------------------------------------------------------- 5 to 9: refusals of nodes


@pytest.mark.parametrize(
    "words", [None, "already known", "AlreadyKnown", "Known transaction", "already in the mempool"]
)
def test_05_already_known(environment: FaultEnvironment, words: str | None) -> None:
    """Another process sent the transaction before; with the messages of anvil and of other nodes."""
    operation = environment.step(environment.prepare_run())
    if words is None:
        environment.rpc(SEND, operation.attempts[0].raw_transaction)
    else:
        environment.connection.fault = first(1, after_the_request(node_error(words)))
    operation = environment.step(operation)
    assert operation.state == "submitted"
    assert environment.settle(operation).state == "confirmed"
    assert len(set(environment.connection.sent)) == 1
    environment.check(runs=1)


def test_06_nonce_too_low_and_our_hash_is_mined(environment: FaultEnvironment) -> None:
    operation = environment.step(environment.prepare_run())
    environment.rpc(SEND, operation.attempts[0].raw_transaction)
    environment.mine()
    responses = list[Any]()

    def record(method: str, params: Any, forward: Callable[[], Any]) -> Any:
        responses.append(forward())
        return responses[-1]

    environment.connection.fault = first(1, record)
    operation = environment.step(operation)
    assert "nonce too low" in responses[0]["error"]["message"]
    assert (operation.state, operation.tx_hash) == ("mined", operation.attempts[0].tx_hash)
    operation = environment.settle(operation)
    assert (operation.state, operation.requeued, len(operation.attempts)) == ("confirmed", 0, 1)
    environment.check(runs=1)


def test_07_nonce_too_low_and_an_older_attempt_was_mined(environment: FaultEnvironment) -> None:
    """The node does not return the receipts at first; the block that used the nonce has one of the attempts."""
    worker = environment.worker(bump_after=0)
    operation = worker.follow(worker.prepare_run())
    while len(operation.attempts) < 3:
        operation = worker.step(operation)
    environment.rpc("anvil_dropTransaction", operation.attempts[-1].tx_hash)
    environment.rpc(SEND, operation.attempts[0].raw_transaction)
    environment.mine(3)
    environment.connection.fault = first(6, lambda *_: result(None), "eth_getTransactionReceipt")
    for _ in range(2):
        operation = environment.step(operation)
        assert (operation.state, operation.requeued, len(operation.attempts)) == ("signed", 0, 3)
    operation = environment.settle(operation)
    assert (operation.state, operation.tx_hash) == ("confirmed", operation.attempts[0].tx_hash)
    environment.check(runs=1)


def test_08_nonce_used_by_a_foreign_transaction(environment: FaultEnvironment) -> None:
    """The second foreign transaction fails the operation, as somebody else uses the platform's key."""
    operation = environment.step(environment.prepare_run())
    lost, other = operation.nonce, environment.follow(environment.prepare_run(seats=5))
    environment.send_foreign(operation.nonce or 0)
    environment.mine(2)
    requests = list[tuple[str, Any]]()
    environment.connection.fault = lambda method, params, forward: requests.append((method, params)) or forward()
    for _ in range(3):
        operation = environment.step(operation)
        assert (operation.state, operation.nonce) == ("signed", lost), "final before its depth"
    assert not [params for method, params in requests if method == "eth_getBlockByNumber" and params[1]], (
        "the node sends blocks though nothing is final"
    )
    environment.connection.fault = None
    environment.mine()
    operation = environment.step(operation)
    assert (operation.state, operation.nonce, operation.requeued) == ("prepared", None, 1)
    operation = environment.settle(operation)
    assert (operation.state, operation.nonce) == ("confirmed", (other.nonce or 0) + 1)
    assert environment.find(other).state == "confirmed"

    operation = environment.step(environment.prepare_run())
    for _ in range(2):
        environment.send_foreign(operation.nonce or 0)
        environment.mine(3)
        operation = environment.step(environment.step(operation))
    assert operation.state == "failed"
    with pytest.raises(Superseded, match="no effect"):
        environment.services.sender.finish(operation)
    environment.check(runs=2)
    assert environment.services.sender._mempool._send_times == {}, "of what is over nothing is kept"


def test_08_a_new_nonce_clears_the_reason_for_holding(environment: FaultEnvironment) -> None:
    operation = environment.follow(environment.prepare_run())
    environment.rpc("anvil_dropAllTransactions")
    environment.send_foreign(operation.nonce or 0)
    environment.connection.fault = first(1, node_error("insufficient funds"))
    operation = environment.step(operation)
    assert operation.held is not None
    environment.mine(3)
    operation = environment.step(operation)
    assert (operation.state, operation.held) == ("prepared", None)
    operation = environment.step(operation)
    environment.connection.fault = first(1, raising(LOST))
    assert environment.step(operation).state == "signed", "nobody knows whether the node took it"
    assert environment.settle(operation).state == "confirmed"
    environment.check(runs=1)


def test_08_a_node_that_has_the_states_of_recent_blocks_only(environment: FaultEnvironment) -> None:
    """The transaction is found in an earlier block, as the node keeps all blocks."""
    operation = environment.step(environment.prepare_run())
    environment.send_foreign(operation.nonce or 0)
    environment.mine(40)
    oldest = environment.w3.eth.block_number - 10

    def prune(method: str, params: Any, forward: Forward) -> Any:
        is_pruned = method == "eth_getTransactionCount" and int(params[1], 16) < oldest
        return refusal("missing trie node") if is_pruned else forward()

    environment.connection.fault = prune
    operation = environment.step(operation)
    assert (operation.state, operation.requeued) == ("prepared", 1)
    environment.connection.fault = None
    assert environment.settle(operation).state == "confirmed"
    environment.check(runs=1)


@pytest.mark.parametrize("count", [1, 2])
def test_08_foreign_transactions_from_before_do_not_count(environment: FaultEnvironment, count: int) -> None:
    """Their blocks are not final when the nonce is assigned, so that several assigned nonces turn out to be used."""
    for _ in range(count):
        environment.send_foreign(environment.count())
        environment.mine()
    operation = environment.settle(environment.prepare_run())
    assert (operation.state, operation.requeued, len(operation.attempts)) == ("confirmed", 0, count + 1)
    environment.check(runs=1)


def test_09_nonce_too_high_a_gap(environment: FaultEnvironment) -> None:
    """The transaction with the missing nonce was signed by a process that has ended."""
    earlier = environment.step(environment.prepare_run())
    environment.connection.fault = first(1, node_error("nonce too high"))
    operation = environment.follow(environment.prepare_run(seats=5))
    assert operation.state == "signed"
    assert environment.connection.sent == [operation.attempts[0].raw_transaction, earlier.attempts[0].raw_transaction]
    operation = environment.settle(operation)
    operation, earlier = environment.find(operation), environment.find(earlier)
    assert (operation.state, earlier.state) == ("confirmed", "confirmed")
    assert earlier.updated_at < operation.updated_at, "what is earlier on chain is closed first"
    assert operation.nonce == (earlier.nonce or 0) + 1
    environment.check(runs=2)


def test_09_a_gap_that_the_node_does_not_report(environment: FaultEnvironment) -> None:
    """Most nodes accept the transaction and keep it back; the reconciler sends the missing one."""
    environment.step(environment.prepare_run())
    operation = environment.follow(environment.prepare_run(seats=5))
    environment.mine(2)
    assert (environment.step(operation).state, environment.pool()) == ("submitted", 1)
    worker = environment.worker()
    for _ in range(4):
        report = worker.services.reconciler.run_full()
        assert report.problems == []
        environment.mine()
    assert report.pending == []
    environment.check(runs=2)


# ------------------------------------------------------------------------------------------------- 10 to 14: money


def test_10_replacement_underpriced(environment: FaultEnvironment) -> None:
    """A foreign transaction in the mempool has the nonce and higher fees; fees are raised until it is replaced."""
    operation = environment.step(environment.prepare_run())
    environment.send_foreign(operation.nonce or 0, fee=5 * GWEI, tip=2 * GWEI)
    while operation.state == "signed":
        operation = environment.step(operation)
    operation = environment.settle(operation)
    assert operation.state == "confirmed"
    assert len(operation.attempts) > 3
    for before, after in pairwise(operation.attempts):
        assert after.nonce == before.nonce
        assert after.max_fee_per_gas * 10 >= before.max_fee_per_gas * 11
        assert after.priority_fee_per_gas * 10 >= before.priority_fee_per_gas * 11
    environment.check(runs=1)


def test_10_fees_are_raised_by_one_worker_at_a_time(environment: FaultEnvironment) -> None:
    """A worker with an old copy returns the operation as the other one left it."""
    worker, other = environment.worker(bump_after=0), environment.worker(bump_after=0)
    operation = worker.step(worker.prepare_run())
    raised = worker.step(operation)
    assert [attempt.latest_block for attempt in raised.attempts] == [operation.attempts[0].latest_block] * 2
    assert other.step(operation) == raised
    assert worker.settle(raised).state == "confirmed"
    worker.check(runs=1)


def test_10_fees_are_raised_with_the_key_of_whoever_signed(environment: FaultEnvironment) -> None:
    """The platform's key cannot sign for the host."""
    host = environment.engine.accounts[1]
    worker = environment.worker(bump_after=0, give_up_after=0)
    operation = worker.prepare_run(signer=host)
    for attempts in (1, 2):
        with pytest.raises(ChainUnavailable):
            worker.services.sender.finish(worker.find(operation), host)
        assert len(worker.find(operation).attempts) == attempts
    operation = worker.step(worker.find(operation))
    assert {Account.recover_transaction(attempt.raw_transaction) for attempt in operation.attempts} == {host.address}
    assert len(operation.attempts) == 2
    assert worker.settle(operation).state == "confirmed"


def test_10_replacement_underpriced_at_the_cap(environment: FaultEnvironment) -> None:
    worker = environment.worker(max_fee_per_gas=4 * GWEI)
    operation = worker.step(worker.prepare_run())
    foreign = environment.send_foreign(operation.nonce or 0, fee=50 * GWEI, tip=20 * GWEI)
    for _ in range(10):
        operation = worker.step(operation)
    assert operation.state == "signed"
    assert "can't be raised above the cap" in (operation.held or "")
    environment.rpc("anvil_dropTransaction", foreign)
    operation = worker.settle(operation)
    assert (operation.state, operation.held) == ("confirmed", None)
    worker.check(runs=1)


def test_11_insufficient_funds(environment: FaultEnvironment, caplog: pytest.LogCaptureFixture) -> None:
    """The funds are spent between estimate and sending: the operation keeps its nonce and bytes."""
    operation = environment.step(environment.prepare_run())
    nonce = operation.nonce
    environment.engine.set_balance(environment.platform.address, 10**6)
    for _ in range(3):
        operation = environment.step(operation)
        assert (operation.state, operation.nonce) == ("signed", nonce)
        assert "insufficient funds" in (operation.held or "")
    alerts = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage() for record in alerts] == [f"{operation.kind} is held: {operation.held}"]
    environment.engine.set_balance(environment.platform.address, 10**20)
    operation = environment.settle(operation)
    assert (operation.state, operation.nonce, operation.held) == ("confirmed", nonce, None)
    assert len(operation.attempts) == len(set(environment.connection.sent)) == 1
    environment.check(runs=1)


def test_11_insufficient_funds_when_sending_again(environment: FaultEnvironment) -> None:
    """The operation is held only until the account is funded."""
    operation = environment.follow(environment.prepare_run())
    assert operation.state == "submitted"
    environment.rpc("anvil_dropAllTransactions")
    environment.engine.set_balance(environment.platform.address, 10**6)
    operation = environment.step(operation)
    assert "insufficient funds" in (operation.held or "")
    environment.engine.set_balance(environment.platform.address, 10**20)
    operation = environment.step(operation)
    assert (operation.state, operation.held) == ("submitted", None)
    assert environment.settle(operation).state == "confirmed"
    environment.check(runs=1)


def test_11_insufficient_funds_before_a_nonce_is_taken(environment: FaultEnvironment) -> None:
    environment.engine.set_balance(environment.platform.address, 10**6)
    operation = environment.prepare_run()
    with pytest.raises(OutOfFunds) as caught:
        environment.services.sender.finish(operation)
    assert caught.value.operation == operation.key
    operation = environment.find(operation)
    assert (operation.state, operation.nonce, environment.connection.sent) == ("prepared", None, [])
    environment.engine.set_balance(environment.platform.address, 10**20)
    assert environment.settle(operation).state == "confirmed"
    environment.check(runs=1)


def test_12_dropped_from_the_mempool(environment: FaultEnvironment) -> None:
    operation = environment.follow(environment.prepare_run())
    for _ in range(3):
        environment.rpc("anvil_dropTransaction", operation.attempts[0].tx_hash)
        environment.mine()
        assert environment.pool() == 0
        operation = environment.step(operation)
        assert (operation.state, environment.pool()) == ("submitted", 1)
    operation = environment.settle(operation)
    assert (operation.state, len(operation.attempts), len(set(environment.connection.sent))) == ("confirmed", 1, 1)
    environment.check(runs=1)


def test_13_no_receipt_for_hours(environment: FaultEnvironment) -> None:
    """Fees are raised each hour up to the cap; whichever attempt is mined counts."""
    clock = Time()
    worker = environment.worker(clock=lambda: clock.now, bump_after=HOUR, max_fee_per_gas=9 * GWEI)
    operation = worker.follow(worker.prepare_run())
    for hour in range(1, 18):
        assert len(operation.attempts) <= hour
        assert (operation.state, worker.status(operation)) == ("submitted", "pending")
        clock.now += HOUR + 1
        operation = worker.follow(operation)
    fees = [(attempt.max_fee_per_gas, attempt.priority_fee_per_gas) for attempt in operation.attempts]
    assert 4 < len(fees) < 20
    assert all(b[i] * 10 >= a[i] * 11 for a, b in pairwise(fees) for i in (0, 1))
    assert fees[-1][0] <= 9 * GWEI < fees[-1][0] * 1.2
    assert "can't be raised above the cap" in (operation.held or "")
    assert environment.pool() == 1
    operation = worker.settle(operation)
    assert (operation.state, operation.tx_hash) == ("confirmed", operation.attempts[-1].tx_hash)
    worker.check(runs=1)


def test_14_base_fee_above_the_cap(environment: FaultEnvironment) -> None:
    environment.mine_at(300 * GWEI)
    operation = environment.follow(environment.prepare_run())
    assert (operation.state, operation.nonce, environment.connection.sent) == ("prepared", None, [])
    assert "base fee of 300000000000 wei per gas is above the cap" in (operation.held or "")
    with pytest.raises(ChainUnavailable, match="above the cap") as caught:
        environment.services.sender.finish(operation)
    assert (caught.value.operation, type(caught.value)) == (operation.key, ChainUnavailable)
    environment.mine_at(GWEI)
    operation = environment.settle(operation)
    assert (operation.state, operation.held) == ("confirmed", None)
    environment.check(runs=1)


def test_14_base_fee_goes_above_the_cap_after_signing(environment: FaultEnvironment) -> None:
    """The node refuses the transaction; fees stay below the cap, until the base fee falls."""
    worker = environment.worker(max_fee_per_gas=9 * GWEI)
    operation = worker.step(worker.prepare_run())
    environment.mine_at(500 * GWEI)
    for _ in range(20):
        operation = worker.step(operation)
        assert operation.state == "signed"
    assert "can't be raised above the cap" in (operation.held or "")
    environment.mine_at(GWEI)
    operation = worker.settle(operation)
    assert (operation.state, operation.held) == ("confirmed", None)
    worker.check(runs=1)

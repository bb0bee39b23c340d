"""Faults on the way into a block: rows 1 to 14 of the table of faults, in its order."""

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
from eth_account import Account
from scene import (
    SEND,
    Ask,
    Scene,
    after_asking,
    first,
    http,
    raising,
    refusal,
    result,
    saying,
)
from stage import Time

pytestmark = pytest.mark.slow

LOST = requests.ConnectionError("the line is dead")
HOUR = 3600


class Proxy(ThreadingHTTPServer):
    """A node's HTTP server, for what is asked of it does in turn what `does` says, and then answers as it should.

    A status: it says no more than that. "hang up", "be silent": no answer, and the node did not hear of it; the same
    "late": the node did. Sending is disturbed, and nothing else. noted: the raw transactions as they came.
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
        """Nothing on the terminal."""


@contextmanager
def proxies(scene: Scene, *each_does: tuple[int | str, ...]) -> Iterator[list[Proxy]]:
    url = str(http(scene.engine).endpoint_uri)
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


# -------------------------------------------------------------------------------------------------- 1, 2: the line


@pytest.mark.parametrize("mined", [False, True], ids=["in the mempool", "mined at once"])
def test_01_response_lost_after_the_node_took_the_transaction(scene: Scene, mined: bool) -> None:
    scene.rpc("evm_setAutomine", mined)
    operation = scene.step(scene.prepare_run())
    scene.line.fault = first(1, after_asking(raising(LOST)))
    operation = scene.step(operation)
    assert operation.state == ("mined" if mined else "signed")
    scene.rpc("evm_setAutomine", False)
    operation = scene.settle(operation)
    assert operation.state == "confirmed"
    assert len(operation.attempts) == len(set(scene.line.sent)) == 1
    assert (len(scene.line.sent) == 1) == mined
    scene.check(runs=1)


def test_02_request_lost_before_the_node(scene: Scene) -> None:
    operation = scene.step(scene.prepare_run())
    scene.line.fault = first(3, raising(LOST))
    for _ in range(3):
        operation = scene.step(operation)
        scene.mine()
        assert (operation.state, scene.pool()) == ("signed", 0)
    assert scene.step(operation).state == "submitted"
    assert (len(scene.line.sent), len(set(scene.line.sent))) == (4, 1)
    assert scene.settle(operation).state == "confirmed"
    scene.check(runs=1)


# --------------------------------------------------------------------------------------------- 3, 4: the endpoints


def test_03_too_many_requests_broken_servers_and_connections_reset(scene: Scene) -> None:
    """Over HTTP servers that do so: the first is left to rest, the second is asked; then both fail, and time passes."""
    slept = list[float]()
    with proxies(scene, (429, 503, "hang up"), ("hang up late", 502)) as servers:
        line = FailoverProvider([server.url for server in servers], timeout=2, sleep=slept.append, jitter=lambda: 0.5)
        worker = scene.worker(line)
        operation = worker.follow(worker.prepare_run())
        assert operation.state == "submitted"
        noted = [body for server in servers for body in server.noted]
        assert all(worker.line.sent[0].encode() in body for body in noted)
        assert len(noted) >= 5
        operation = worker.settle(operation)
    assert slept
    assert min(slept) > 0
    assert (operation.state, len(operation.attempts)) == ("confirmed", 1)
    worker.check(runs=1)


@pytest.mark.parametrize("taken", [True, False], ids=["the node took it", "the node did not"])
def test_04_time_out_on_send(scene: Scene, caplog: pytest.LogCaptureFixture, taken: bool) -> None:
    """Whoever waits is told that it is not known, and of the operation; it is never failed."""
    with proxies(scene, ("be silent late" if taken else "be silent",)) as [server]:
        worker = scene.worker(FailoverProvider([server.url], timeout=2, give_up_after=0), give_up_after=0)
        operation = worker.step(scene.prepare_run())
        with pytest.raises(ChainUnavailable) as caught:
            worker.services.sender.finish(operation)
        assert caught.value.operation == operation.key
    assert f"{SEND}: endpoint 1 of 1 did not answer in time" in caplog.text
    operation = scene.find(operation)
    assert (operation.state, scene.status(operation)) == ("signed", "pending")
    operation = scene.settle(operation)
    assert (operation.state, len({*worker.line.sent, *scene.line.sent})) == ("confirmed", 1)
    scene.check(runs=1)


# ------------------------------------------------------------------------------------------- 5 to 9: what nodes say


@pytest.mark.parametrize(
    "words", [None, "already known", "AlreadyKnown", "Known transaction", "already in the mempool"]
)
def test_05_already_known(scene: Scene, words: str | None) -> None:
    """In anvil's own words, as somebody has brought it there; and in those of other nodes."""
    operation = scene.step(scene.prepare_run())
    if words is None:
        scene.rpc(SEND, operation.attempts[0].raw_transaction)
    else:
        scene.line.fault = first(1, after_asking(saying(words)))
    operation = scene.step(operation)
    assert operation.state == "submitted"
    assert scene.settle(operation).state == "confirmed"
    assert len(set(scene.line.sent)) == 1
    scene.check(runs=1)


def test_06_nonce_too_low_and_our_hash_is_mined(scene: Scene) -> None:
    operation = scene.step(scene.prepare_run())
    scene.rpc(SEND, operation.attempts[0].raw_transaction)
    scene.mine()
    said = list[Any]()

    def listen(method: str, params: Any, ask: Callable[[], Any]) -> Any:
        said.append(ask())
        return said[-1]

    scene.line.fault = first(1, listen)
    operation = scene.step(operation)
    assert "nonce too low" in said[0]["error"]["message"]
    assert (operation.state, operation.tx_hash) == ("mined", operation.attempts[0].tx_hash)
    operation = scene.settle(operation)
    assert (operation.state, operation.requeued, len(operation.attempts)) == ("confirmed", 0, 1)
    scene.check(runs=1)


def test_07_nonce_too_low_and_an_older_attempt_was_mined(scene: Scene) -> None:
    """A node that has not seen the receipts yet says so first; the block that took the nonce holds one of ours."""
    worker = scene.worker(bump_after=0)
    operation = worker.follow(worker.prepare_run())
    while len(operation.attempts) < 3:
        operation = worker.step(operation)
    scene.rpc("anvil_dropTransaction", operation.attempts[-1].tx_hash)
    scene.rpc(SEND, operation.attempts[0].raw_transaction)
    scene.mine(3)
    scene.line.fault = first(6, lambda *_: result(None), "eth_getTransactionReceipt")
    for _ in range(2):
        operation = scene.step(operation)
        assert (operation.state, operation.requeued, len(operation.attempts)) == ("signed", 0, 3)
    operation = scene.settle(operation)
    assert (operation.state, operation.tx_hash) == ("confirmed", operation.attempts[0].tx_hash)
    scene.check(runs=1)


def test_08_nonce_used_by_a_foreign_transaction(scene: Scene) -> None:
    """The second time it is closed: somebody else uses this key, and that has to stop first."""
    operation = scene.step(scene.prepare_run())
    lost, other = operation.nonce, scene.follow(scene.prepare_run(seats=5))
    scene.send_foreign(operation.nonce or 0)
    scene.mine(2)
    asked = list[tuple[str, Any]]()
    scene.line.fault = lambda method, params, ask: asked.append((method, params)) or ask()
    for _ in range(3):
        operation = scene.step(operation)
        assert (operation.state, operation.nonce) == ("signed", lost), "final before its depth"
    assert not [params for method, params in asked if method == "eth_getBlockByNumber" and params[1]], "needless looks"
    scene.line.fault = None
    scene.mine()
    operation = scene.step(operation)
    assert (operation.state, operation.nonce, operation.requeued) == ("prepared", None, 1)
    operation = scene.settle(operation)
    assert (operation.state, operation.nonce) == ("confirmed", (other.nonce or 0) + 1)
    assert scene.find(other).state == "confirmed"

    operation = scene.step(scene.prepare_run())
    for _ in range(2):
        scene.send_foreign(operation.nonce or 0)
        scene.mine(3)
        operation = scene.step(scene.step(operation))
    assert operation.state == "failed"
    with pytest.raises(Superseded, match="no effect"):
        scene.services.sender.finish(operation)
    scene.check(runs=2)
    assert scene.services.sender._mempool._send_times == {}, "of what is over nothing is kept"


def test_08_what_it_was_held_for_and_sent_as_is_of_the_lost_nonce(scene: Scene) -> None:
    operation = scene.follow(scene.prepare_run())
    scene.rpc("anvil_dropAllTransactions")
    scene.send_foreign(operation.nonce or 0)
    scene.line.fault = first(1, saying("insufficient funds"))
    operation = scene.step(operation)
    assert operation.held is not None
    scene.mine(3)
    operation = scene.step(operation)
    assert (operation.state, operation.held) == ("prepared", None)
    operation = scene.step(operation)
    scene.line.fault = first(1, raising(LOST))
    assert scene.step(operation).state == "signed", "nobody knows whether the node took it"
    assert scene.settle(operation).state == "confirmed"
    scene.check(runs=1)


def test_08_a_node_that_keeps_the_states_of_some_blocks_only(scene: Scene) -> None:
    """The transaction is found further back, as blocks are kept."""
    operation = scene.step(scene.prepare_run())
    scene.send_foreign(operation.nonce or 0)
    scene.mine(40)
    oldest = scene.w3.eth.block_number - 10

    def prune(method: str, params: Any, ask: Ask) -> Any:
        old = method == "eth_getTransactionCount" and int(params[1], 16) < oldest
        return refusal("missing trie node") if old else ask()

    scene.line.fault = prune
    operation = scene.step(operation)
    assert (operation.state, operation.requeued) == ("prepared", 1)
    scene.line.fault = None
    assert scene.settle(operation).state == "confirmed"
    scene.check(runs=1)


@pytest.mark.parametrize("count", [1, 2])
def test_08_foreign_transactions_that_were_there_before_are_gone_past(scene: Scene, count: int) -> None:
    """Their blocks are not final when the nonce is taken: one after the other turns out to be used up."""
    for _ in range(count):
        scene.send_foreign(scene.count())
        scene.mine()
    operation = scene.settle(scene.prepare_run())
    assert (operation.state, operation.requeued, len(operation.attempts)) == ("confirmed", 0, count + 1)
    scene.check(runs=1)


def test_09_nonce_too_high_a_gap(scene: Scene) -> None:
    """What was to fill it was signed by a process that is no more."""
    earlier = scene.step(scene.prepare_run())
    scene.line.fault = first(1, saying("nonce too high"))
    operation = scene.follow(scene.prepare_run(seats=5))
    assert operation.state == "signed"
    assert scene.line.sent == [operation.attempts[0].raw_transaction, earlier.attempts[0].raw_transaction]
    operation = scene.settle(operation)
    operation, earlier = scene.find(operation), scene.find(earlier)
    assert (operation.state, earlier.state) == ("confirmed", "confirmed")
    assert earlier.updated_at < operation.updated_at, "what is earlier on chain is closed first"
    assert operation.nonce == (earlier.nonce or 0) + 1
    scene.check(runs=2)


def test_09_a_gap_that_the_node_keeps_quiet_about(scene: Scene) -> None:
    """Most nodes take it, and wait: then the reconciler sends what is missing."""
    scene.step(scene.prepare_run())
    operation = scene.follow(scene.prepare_run(seats=5))
    scene.mine(2)
    assert (scene.step(operation).state, scene.pool()) == ("submitted", 1)
    worker = scene.worker()
    for _ in range(4):
        report = worker.services.reconciler.run_full()
        assert report.problems == []
        scene.mine()
    assert report.pending == []
    scene.check(runs=2)


# ------------------------------------------------------------------------------------------------- 10 to 14: money


def test_10_replacement_underpriced(scene: Scene) -> None:
    """Somebody's transaction has the nonce in the mempool, for more: ours is raised until it takes its place."""
    operation = scene.step(scene.prepare_run())
    scene.send_foreign(operation.nonce or 0, fee=5 * GWEI, tip=2 * GWEI)
    while operation.state == "signed":
        operation = scene.step(operation)
    operation = scene.settle(operation)
    assert operation.state == "confirmed"
    assert len(operation.attempts) > 3
    for before, after in pairwise(operation.attempts):
        assert after.nonce == before.nonce
        assert after.max_fee_per_gas * 10 >= before.max_fee_per_gas * 11
        assert after.priority_fee_per_gas * 10 >= before.priority_fee_per_gas * 11
    scene.check(runs=1)


def test_10_fees_are_raised_by_one_worker_at_a_time(scene: Scene) -> None:
    """Another that sees the first attempt only takes over what was done meanwhile."""
    worker, other = scene.worker(bump_after=0), scene.worker(bump_after=0)
    operation = worker.step(worker.prepare_run())
    raised = worker.step(operation)
    assert [attempt.latest_block for attempt in raised.attempts] == [operation.attempts[0].latest_block] * 2
    assert other.step(operation) == raised
    assert worker.settle(raised).state == "confirmed"
    worker.check(runs=1)


def test_10_fees_are_raised_with_the_key_of_whoever_signed(scene: Scene) -> None:
    """The platform's is of no use then."""
    host = scene.engine.accounts[1]
    worker = scene.worker(bump_after=0, give_up_after=0)
    operation = worker.prepare_run(signer=host)
    for attempts in (1, 2):
        with pytest.raises(ChainUnavailable):
            worker.services.sender.finish(worker.find(operation), host)
        assert len(worker.find(operation).attempts) == attempts
    operation = worker.step(worker.find(operation))
    assert {Account.recover_transaction(attempt.raw_transaction) for attempt in operation.attempts} == {host.address}
    assert len(operation.attempts) == 2
    assert worker.settle(operation).state == "confirmed"


def test_10_replacement_underpriced_at_the_cap(scene: Scene) -> None:
    worker = scene.worker(max_fee_per_gas=4 * GWEI)
    operation = worker.step(worker.prepare_run())
    foreign = scene.send_foreign(operation.nonce or 0, fee=50 * GWEI, tip=20 * GWEI)
    for _ in range(10):
        operation = worker.step(operation)
    assert operation.state == "signed"
    assert "can't be raised above the cap" in (operation.held or "")
    scene.rpc("anvil_dropTransaction", foreign)
    operation = worker.settle(operation)
    assert (operation.state, operation.held) == ("confirmed", None)
    worker.check(runs=1)


def test_11_insufficient_funds(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Between estimate and sending: the nonce is kept, and so are the bytes."""
    operation = scene.step(scene.prepare_run())
    nonce = operation.nonce
    scene.engine.set_balance(scene.platform.address, 10**6)
    for _ in range(3):
        operation = scene.step(operation)
        assert (operation.state, operation.nonce) == ("signed", nonce)
        assert "insufficient funds" in (operation.held or "")
    alerts = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage() for record in alerts] == [f"{operation.kind} is held: {operation.held}"]
    scene.engine.set_balance(scene.platform.address, 10**20)
    operation = scene.settle(operation)
    assert (operation.state, operation.nonce, operation.held) == ("confirmed", nonce, None)
    assert len(operation.attempts) == len(set(scene.line.sent)) == 1
    scene.check(runs=1)


def test_11_insufficient_funds_for_what_the_node_forgot(scene: Scene) -> None:
    """It is held only for as long as that is so."""
    operation = scene.follow(scene.prepare_run())
    assert operation.state == "submitted"
    scene.rpc("anvil_dropAllTransactions")
    scene.engine.set_balance(scene.platform.address, 10**6)
    operation = scene.step(operation)
    assert "insufficient funds" in (operation.held or "")
    scene.engine.set_balance(scene.platform.address, 10**20)
    operation = scene.step(operation)
    assert (operation.state, operation.held) == ("submitted", None)
    assert scene.settle(operation).state == "confirmed"
    scene.check(runs=1)


def test_11_insufficient_funds_before_a_nonce_is_taken(scene: Scene) -> None:
    scene.engine.set_balance(scene.platform.address, 10**6)
    operation = scene.prepare_run()
    with pytest.raises(OutOfFunds) as caught:
        scene.services.sender.finish(operation)
    assert caught.value.operation == operation.key
    operation = scene.find(operation)
    assert (operation.state, operation.nonce, scene.line.sent) == ("prepared", None, [])
    scene.engine.set_balance(scene.platform.address, 10**20)
    assert scene.settle(operation).state == "confirmed"
    scene.check(runs=1)


def test_12_dropped_from_the_mempool(scene: Scene) -> None:
    operation = scene.follow(scene.prepare_run())
    for _ in range(3):
        scene.rpc("anvil_dropTransaction", operation.attempts[0].tx_hash)
        scene.mine()
        assert scene.pool() == 0
        operation = scene.step(operation)
        assert (operation.state, scene.pool()) == ("submitted", 1)
    operation = scene.settle(operation)
    assert (operation.state, len(operation.attempts), len(set(scene.line.sent))) == ("confirmed", 1, 1)
    scene.check(runs=1)


def test_13_no_receipt_for_hours(scene: Scene) -> None:
    """Each hour fees are raised, up to the cap; then it is left as it is. Whichever is mined is the one."""
    clock = Time()
    worker = scene.worker(clock=lambda: clock.now, bump_after=HOUR, max_fee_per_gas=9 * GWEI)
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
    assert scene.pool() == 1
    operation = worker.settle(operation)
    assert (operation.state, operation.tx_hash) == ("confirmed", operation.attempts[-1].tx_hash)
    worker.check(runs=1)


def test_14_base_fee_above_the_cap(scene: Scene) -> None:
    scene.mine_at(300 * GWEI)
    operation = scene.follow(scene.prepare_run())
    assert (operation.state, operation.nonce, scene.line.sent) == ("prepared", None, [])
    assert "base fee of 300000000000 wei per gas is above the cap" in (operation.held or "")
    with pytest.raises(ChainUnavailable, match="above the cap") as caught:
        scene.services.sender.finish(operation)
    assert (caught.value.operation, type(caught.value)) == (operation.key, ChainUnavailable)
    scene.mine_at(GWEI)
    operation = scene.settle(operation)
    assert (operation.state, operation.held) == ("confirmed", None)
    scene.check(runs=1)


def test_14_base_fee_goes_above_the_cap_after_signing(scene: Scene) -> None:
    """The node does not take it any more; nothing is offered beyond the cap, and it goes on when fees fall."""
    worker = scene.worker(max_fee_per_gas=9 * GWEI)
    operation = worker.step(worker.prepare_run())
    scene.mine_at(500 * GWEI)
    for _ in range(20):
        operation = worker.step(operation)
        assert operation.state == "signed"
    assert "can't be raised above the cap" in (operation.held or "")
    scene.mine_at(GWEI)
    operation = worker.settle(operation)
    assert (operation.state, operation.held) == ("confirmed", None)
    worker.check(runs=1)

"""Waiting for blocks: no thread and few RPC calls for each operation. The clock is simulated, the node is an anvil."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
from app.services.operation_types import Operation
from app.services.transactions.follower import Follower
from app.services.transactions.head import OBSERVED_HEADS
from app.services.transactions.sender import TransactionSender
from fault_environment import FaultEnvironment, Forward

pytestmark = pytest.mark.slow

MAX_CALLS = 15
"""RPC calls of one booking that waits alone for three blocks of 12 s."""


class Network:
    """Blocks at a fixed pace, by a clock that only the follower's pauses move on."""

    def __init__(self, environment: FaultEnvironment, block_seconds: int) -> None:
        self.seconds, self.calls = 0.0, Counter[str]()
        self._environment, self._block_seconds = environment, block_seconds
        self.worker = environment.worker(clock=lambda: self.seconds, resend_after=15, head_max_age=2, max_pause=1)
        self.sender: TransactionSender = self.worker.services.sender
        self.follower = Follower(self.worker.services.w3, self.sender, lambda: self.seconds, starts_thread=False)
        self.worker.connection.fault = self._count

    def _count(self, method: str, params: Any, forward: Forward) -> Any:
        self.calls[method] += 1
        return forward()

    def observe_pace(self) -> None:
        for _ in range(OBSERVED_HEADS):
            self.mine()
            self.sender.head.latest()

    def send(self, operation: Operation) -> Future[Operation]:
        return self.follower.follow(self.sender.advance(operation))

    def mine(self) -> None:
        self._environment.rpc("evm_setNextBlockTimestamp", self._environment.engine.now() + self._block_seconds)
        self._environment.mine()

    def wait(self, *waiters: Future[Operation], for_seconds: float = 600) -> None:
        """Looks until all are done."""
        end = self.seconds + for_seconds
        while not all(waiter.done() for waiter in waiters) and self.seconds < end:
            self.let_pass(self.follower.look())

    def let_pass(self, seconds: float) -> None:
        due = self.seconds + seconds
        for _ in range(int(due // self._block_seconds) - int(self.seconds // self._block_seconds)):
            self.mine()
        self.seconds = due


@pytest.fixture
def network(environment: FaultEnvironment) -> Iterator[Network]:
    network = Network(environment, 12)
    yield network
    network.follower.stop()


def test_a_booking_of_three_blocks_takes_few_calls(environment: FaultEnvironment, network: Network) -> None:
    """Whenever it comes between two blocks."""
    run = environment.open_run(seats=13)
    network.wait(network.send(network.worker.prepare_booking(run)))  # reads what is read once
    network.observe_pace()
    for _ in range(12):
        network.let_pass(1)
        network.calls.clear()
        waiter = network.send(network.worker.prepare_booking(run))
        network.wait(waiter)
        assert waiter.result(0).state == "confirmed"
        assert network.calls.total() <= MAX_CALLS, network.calls


def test_operations_share_one_look_at_each_block(environment: FaultEnvironment, network: Network) -> None:
    """Nothing is asked about an operation while no block has news about it."""
    count, threads = 20, threading.active_count()
    network.observe_pace()
    waiters = [network.send(environment.prepare_run()) for _ in range(count)]
    assert threading.active_count() <= threads  # some of earlier tests may end meanwhile
    network.wait(*waiters)
    assert {waiter.result(0).state for waiter in waiters} == {"confirmed"}
    receipts = network.calls["eth_getTransactionReceipt"]
    assert receipts <= 4 * count, network.calls
    assert network.calls["eth_blockNumber"] + network.calls["eth_getBlockByNumber"] <= 3 * count + 40, network.calls
    environment.check(runs=count)


def test_nothing_is_asked_but_the_head_while_no_block_comes(environment: FaultEnvironment, network: Network) -> None:
    operation = network.sender.advance(environment.prepare_run())
    waiter = network.follower.follow(operation)
    network.follower.look()
    network.calls.clear()
    network.seconds += 13
    for _ in range(5):
        network.seconds += min(network.follower.look(), 0.1)
    assert set(network.calls) == {"eth_getBlockByNumber"}
    network.wait(waiter)
    assert waiter.result(0).state == "confirmed"


@pytest.mark.parametrize("known_pace", [True, False], ids=["the pace is known", "just started"])
def test_a_long_pause_of_the_network_does_not_slow_the_next_bookings(
    environment: FaultEnvironment, network: Network, known_pace: bool
) -> None:
    """Two days without a block, then a block every 12 seconds again."""
    run = environment.open_run()
    if known_pace:
        network.observe_pace()
    else:
        network.sender.head.latest()
    environment.rpc("evm_setNextBlockTimestamp", environment.engine.now() + 2 * 86_400)
    environment.mine()
    network.sender.head.latest()
    environment.feed.rate = replace(environment.feed.rate, as_of=environment.now())
    booking, started_at = network.send(network.worker.prepare_booking(run)), network.seconds
    network.wait(booking)
    assert booking.result(0).state == "confirmed"
    assert network.seconds - started_at <= 5 * 12


def test_a_dropped_transaction_is_sent_again(environment: FaultEnvironment, network: Network) -> None:
    waiter = network.send(environment.prepare_run())
    environment.rpc("anvil_dropAllTransactions")
    network.wait(waiter)
    assert waiter.result(0).state == "confirmed"
    environment.check(runs=1)


def test_a_reorg_is_noticed_by_the_parent_hash(environment: FaultEnvironment, network: Network) -> None:
    """The operation's block is replaced by one without it, at the same height."""
    waiter = network.send(environment.prepare_run())
    network.follower.look()
    network.mine()
    network.follower.look()
    [followed] = network.follower._followed.values()
    assert followed.operation.state == "mined"
    environment.reorg(1)
    network.wait(waiter)
    assert waiter.result(0).state == "confirmed"
    environment.check(runs=1)


def test_one_operation_s_trouble_does_not_stop_the_others(environment: FaultEnvironment, network: Network) -> None:
    first, second = network.send(environment.prepare_run()), network.send(environment.prepare_run())
    step = network.sender.step

    def fail_once(operation: Operation) -> Operation:
        network.sender.step = step  # type: ignore[method-assign]
        raise ZeroDivisionError

    network.sender.step = fail_once  # type: ignore[method-assign]
    network.wait(first, second)
    assert (first.result(0).state, second.result(0).state) == ("confirmed", "confirmed")
    environment.check(runs=2)


def test_stopping_answers_all_who_wait(environment: FaultEnvironment, network: Network) -> None:
    waiter = network.send(environment.prepare_run())
    network.follower.stop()
    assert waiter.result(0).state == "submitted"
    assert network.follower.follow(waiter.result()).done()

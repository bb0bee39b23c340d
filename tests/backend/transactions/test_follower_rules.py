"""When the follower steps an operation, and when it looks again: no node, no database, a clock that stands still."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from app.core.errors import DatabaseUnavailable
from app.services.rpc_types import BlockHeader, MalformedAnswer
from app.services.transactions import follower as module
from app.services.transactions.follower import (
    MAX_MISSED_BLOCKS,
    MAX_POLL_S,
    MIN_POLL_S,
    MINED_PAUSE_S,
    Follower,
    _Followed,
)
from app.services.transactions.policy import TransactionPolicy

POLICY = TransactionPolicy(confirmations=3, resend_after=15)
TO_NEXT = 1.25
"""Seconds to the next block, as the head says."""


def block(number: int, *transactions: str, branch: str = "", parent: str = "") -> BlockHeader:
    return BlockHeader(number, f"0x{number}{branch}", f"0x{number - 1}{parent}", number, 7, transactions)


def operation(state: str = "submitted", key: str = "k", **values: Any) -> Any:
    row = {"key": key, "kind": "f", "state": state, "nonce": 1, "attempts": [SimpleNamespace(tx_hash="0xa")]}
    row |= {"held": None, "abandoned_at": None, "block_number": 9 if state == "mined" else None}
    return SimpleNamespace(**row | values, closed=state in ("confirmed", "failed", "rejected"))


class World:
    """A follower on blocks and with transitions that a test sets. It is its own node, head and sender."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now, self.policy, self.head = 100.0, POLICY, self
        self.blocks, self.read = {10: block(10)}, list[int]()
        self.stepped, self.asked_blocks = list[str](), list[int]()
        self.after: dict[str, Callable[[], Any]] = {}
        patch.setattr(module.rpc, "block_header", self._block)
        myself: Any = self
        self.follower = Follower(myself, myself, lambda: self.now, starts_thread=False)

    def _block(self, w3: Any, number: int) -> BlockHeader | None:
        assert w3 is self
        self.read.append(number)
        return self.blocks.get(number)

    def latest(self) -> BlockHeader:
        return self.blocks[max(self.blocks)]

    def seconds_to_next(self, least: float, most: float, blocks: int = 1) -> float:
        assert (least, most) == (MIN_POLL_S, MAX_POLL_S)
        self.asked_blocks.append(blocks)
        return TO_NEXT

    def advance(self, operation: Any) -> Any:
        self.stepped.append(operation.key)
        return self.after.pop(operation.key, lambda: operation)()

    def follow(self, *operations: Any) -> list[Future[Any]]:
        return [self.follower.follow(each) for each in operations]

    def look(self) -> tuple[float, list[str]]:
        """Returns the seconds to the next look, and what was stepped."""
        self.stepped.clear()
        self.read.clear()
        return self.follower.look(), self.stepped


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(monkeypatch)
    yield world
    world.follower.stop()


# ------------------------------------------------------------------------------------------------- who is followed


@pytest.mark.parametrize(
    ("given", "is_settled"),
    [
        (operation("confirmed"), True),
        (operation("rejected"), True),
        (operation("submitted", abandoned_at="then"), True),
        (operation("prepared", held="why"), True),
        (operation("prepared"), False),
        (operation("submitted", held="why"), False),
        (operation("mined"), False),
    ],
)
def test_who_has_nothing_to_wait_for_is_answered_at_once(world: World, given: Any, is_settled: bool) -> None:
    [waiter] = world.follow(given)
    assert (waiter.done(), world.follower.is_following("k")) == (is_settled, not is_settled)
    if is_settled:
        assert waiter.result() is given


def test_all_who_wait_get_the_operation_once_it_is_settled(world: World) -> None:
    waiters = world.follow(operation(), operation(), operation())
    waiters[1].cancel()
    final = operation("confirmed")
    world.after["k"] = lambda: final
    assert world.look() == (TO_NEXT, ["k"])
    assert [waiter.result(0) for waiter in (waiters[0], waiters[2])] == [final, final]
    assert not world.follower.is_following("k")
    world.blocks[11] = block(11, "0xa")
    assert world.look()[1] == []


def test_stopping_answers_all_and_takes_nothing_more(world: World) -> None:
    first, second = world.follow(operation(), operation(key="l"))
    world.follower.stop()
    assert (first.result(0).key, second.result(0).key) == ("k", "l")
    assert world.follow(operation())[0].done()
    world.follower._followed["k"] = _Followed(operation(), 0)
    assert world.look()[1] == []
    world.follower.send_and_follow(operation("prepared"))
    assert world.follower._senders is None


# --------------------------------------------------------------------------------------------- when it is stepped


@pytest.mark.parametrize(
    ("state", "seconds"), [("prepared", MAX_POLL_S), ("signed", MAX_POLL_S), ("submitted", 15), ("mined", 60)]
)
def test_an_operation_is_stepped_without_news_after_a_while(world: World, state: str, seconds: float) -> None:
    assert (MAX_POLL_S, MINED_PAUSE_S) == (2, 60)
    world.follow(operation(state, block_number=10 if state == "mined" else None))
    assert world.look()[1] == ["k"]
    assert world.look()[1] == []
    world.now += seconds - 1
    assert world.look() == (1, [])
    world.now += 0.5
    assert world.look() == (0.5, [])
    world.now += 0.49
    assert world.look() == (MIN_POLL_S, [])
    world.now += 0.01
    assert world.look() == (TO_NEXT, ["k"])
    assert world.follower._followed["k"].look_at == world.now + seconds


def test_a_new_operation_is_stepped_once_for_the_head_that_is_new_to_it(world: World) -> None:
    world.follow(operation())
    assert world.look()[1] == ["k"]
    world.follow(operation(key="l"))
    assert world.look()[1] == [], "its attempt was sent a moment ago, and no block came since"
    world.blocks[11] = block(11)
    assert world.look()[1] == ["l"]
    assert world.read == [], "the header is known"
    world.blocks[12] = block(12)
    assert world.look()[1] == []


def test_a_transaction_of_an_attempt_in_any_block_since_is_news(world: World) -> None:
    attempts = [SimpleNamespace(tx_hash=tx_hash) for tx_hash in ("0xa", "0xb")]
    world.follow(operation(attempts=attempts))
    world.look()
    world.blocks |= {11: block(11, "0xz"), 12: block(12, "0xb"), 13: block(13)}
    assert world.look()[1] == ["k"]
    assert world.read == [12, 11]
    world.blocks |= {14: block(14, "0xz"), 15: block(15)}
    assert world.look()[1] == []
    assert world.read == [14]
    assert world.look()[1] == []
    assert world.read == []


@pytest.mark.parametrize(
    "blocks",
    [
        {11: block(11, parent="b")},  # another block 10
        {10: block(10, branch="b")},
        {11: block(11, branch="b"), 12: block(12)},  # the parent is of another branch by now
        {12: block(12)},  # the node does not show the parent
        {11: block(11, parent="b"), 12: block(12)},
        {11 + MAX_MISSED_BLOCKS: block(11 + MAX_MISSED_BLOCKS)},
    ],
)
def test_after_a_reorganisation_all_are_stepped(world: World, blocks: dict[int, BlockHeader]) -> None:
    world.follow(operation(), operation(key="l"), operation("mined", key="m", block_number=1000))
    world.look()
    world.blocks = blocks
    assert sorted(world.look()[1]) == ["k", "l", "m"]
    assert world.look()[1] == []


def test_a_head_that_goes_back_is_a_reorganisation(world: World) -> None:
    world.follow(operation())
    world.look()
    world.blocks = {9: block(9)}
    assert world.look()[1] == ["k"]


def test_so_many_missed_blocks_are_read_one_by_one(world: World) -> None:
    world.follow(operation())
    world.look()
    world.blocks |= {number: block(number) for number in range(11, 11 + MAX_MISSED_BLOCKS)}
    assert world.look()[1] == []
    assert world.read == list(range(9 + MAX_MISSED_BLOCKS, 10, -1))


def test_a_mined_operation_is_stepped_when_its_block_is_final_and_blocks_are_not_read_for_it(world: World) -> None:
    world.follow(operation("mined", block_number=11))
    world.look()
    world.blocks |= {12: block(12, "0xa", parent="b")}
    assert world.look()[1] == []
    world.blocks |= {13: block(13)}
    assert world.look()[1] == ["k"]
    assert world.read == []


def test_operations_are_stepped_in_the_order_of_their_nonces(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEPPING_THREADS", 1)
    world.follow(*(operation(key=str(nonce), nonce=nonce) for nonce in (None, 3, 1, 2)))
    assert world.look()[1] == ["1", "2", "3", "None"]


# ------------------------------------------------------------------------------------------------- trouble and pauses


def test_one_look_after_trouble_with_the_head(world: World) -> None:
    world.follow(operation())
    blocks, world.blocks = world.blocks, {}  # max() of nothing
    assert world.look() == (MAX_POLL_S, [])
    world.latest = lambda: (_ for _ in ()).throw(MalformedAnswer("what?"))  # type: ignore[method-assign]
    assert world.look() == (MAX_POLL_S, [])
    del world.latest  # type: ignore[method-assign]
    world.blocks = blocks
    assert world.look() == (TO_NEXT, ["k"])


@pytest.mark.parametrize("error", [ZeroDivisionError(), DatabaseUnavailable("it is away")])
def test_trouble_with_one_operation_is_tried_again_later(world: World, error: Exception) -> None:
    def fail() -> Any:
        raise error

    [waiter] = world.follow(operation())
    world.after["k"] = fail
    assert world.look()[1] == ["k"]
    assert not waiter.done()
    assert world.look()[1] == []
    world.now += 15
    world.after["k"] = lambda: operation("failed")
    assert world.look()[1] == ["k"]
    assert waiter.result(0).state == "failed"


@pytest.mark.parametrize(
    ("operations", "blocks"),
    [
        ([], 1),
        ([operation()], 1),
        ([operation("mined", block_number=10)], 2),  # 8 is final
        ([operation("mined", block_number=9)], 1),
        ([operation("mined", block_number=7)], 1),  # final long since
        ([operation("mined", key="l", block_number=11), operation("mined", block_number=12)], 3),
        ([operation("mined", block_number=12), operation(key="l")], 1),
        ([operation("mined", block_number=None)], 1),
    ],
)
def test_the_next_block_that_may_have_news(world: World, operations: list[Any], blocks: int) -> None:
    world.follower._followed = {each.key: _Followed(each, 1000, is_new=False) for each in operations}
    assert world.follower._seconds_to_next() == TO_NEXT
    world.follower._seen = block(10)
    assert world.follower._seconds_to_next() == TO_NEXT
    assert world.asked_blocks == [1, blocks]


# ------------------------------------------------------------------------------------------------------- threads


def test_a_thread_looks_once_there_is_an_operation(world: World) -> None:
    myself: Any = world
    world.seconds_to_next = lambda *_: 0.0  # type: ignore[method-assign]
    world.follower = Follower(myself, myself, lambda: world.now)
    assert world.follower._thread is None
    world.after["k"] = lambda: operation("confirmed")
    [waiter] = world.follow(operation())
    thread = world.follower._thread
    assert thread is not None
    assert (thread.daemon, waiter.result(60).state) == (True, "confirmed")
    world.after["l"] = lambda: operation("failed", key="l")
    world.blocks = {11: block(11)}
    assert world.follow(operation(key="l"))[0].result(60).state == "failed"
    assert world.follower._thread is thread
    world.follower.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_what_is_sent_in_the_background_is_followed_then(world: World) -> None:
    done = threading.Event()
    follow, world.follower.follow = world.follower.follow, lambda each: [follow(each), done.set()][0]  # type: ignore
    for key, state in (("k", "submitted"), ("l", "submitted")):
        world.after[key] = lambda key=key, state=state: operation(state, key=key)  # type: ignore[misc]
        world.follower.send_and_follow(operation("prepared", key=key))
        assert done.wait(60)
        done.clear()
    assert [world.follower.is_following(key) for key in "kl"] == [True, True]
    assert sorted(world.stepped) == ["k", "l"]


@pytest.mark.parametrize("error", [ZeroDivisionError(), DatabaseUnavailable("it is away")])
def test_trouble_in_the_background_is_logged_and_left_to_the_reconciler(
    world: World, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Any:
        raise error

    world.after["k"] = fail
    world.follower.send_and_follow(operation("prepared"))
    assert world.follower._senders is not None
    world.follower._senders.shutdown(wait=True)
    assert not world.follower.is_following("k")
    assert len(caplog.records) == 1

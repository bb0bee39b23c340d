"""The follower's threads: how long the one that looks waits, what it reads, what is logged, and how all end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from app.core import logs
from app.services.transactions.follower import MAX_MISSED_BLOCKS, SENDING_THREADS, Follower
from test_follower_rules import TO_NEXT, World, block, operation


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(monkeypatch)
    yield world
    world.follower.stop()


class Waits:
    """Stands in for a condition: notes for how long somebody waits, and does meanwhile what the test says."""

    def __init__(self, *meanwhile: Callable[[], Any]) -> None:
        self.meanwhile, self.seconds, self.is_over = list(meanwhile), list[float | None](), list[tuple[bool, bool]]()
        self.notified = 0

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def notify(self) -> None:
        self.notified += 1

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> None:
        self.seconds.append(timeout)
        before = bool(predicate())
        self.meanwhile.pop(0)()
        self.is_over.append((before, bool(predicate())))


@pytest.mark.parametrize(
    ("passed", "to_next", "rest"), [(0.5, TO_NEXT, TO_NEXT - 0.5), (0.5, 0.2, 0.2), (TO_NEXT, 5, 0), (9, 5, 0)]
)
def test_between_two_looks_it_waits_for_the_next_block_or_a_new_operation(
    world: World, passed: float, to_next: float, rest: float
) -> None:
    def follow() -> None:
        world.follow(operation())

    def add_another() -> None:
        assert world.stepped == ["k"]
        world.now += passed
        world.follow(operation(key="l"))
        world.seconds_to_next = lambda *_: to_next  # type: ignore[method-assign]

    def stop() -> None:
        world.follower._stopping = True

    waits: Any = Waits(follow, add_another, stop, lambda: None)
    world.follower._changed = waits
    world.follower._run()
    assert waits.seconds == [None, TO_NEXT, rest, None]
    assert waits.is_over == [(False, True)] * 3 + [(True, True)]
    assert waits.notified == 2, "each new operation wakes it"
    world.follower.stop()
    assert waits.notified == 3


def test_the_next_look_is_when_the_first_operation_is_due(world: World) -> None:
    world.follow(operation("mined", key="m", block_number=1000), operation())
    assert world.look()[0] == TO_NEXT
    world.now += 14
    world.seconds_to_next = lambda *_: 5.0  # type: ignore[method-assign]
    assert world.look()[0] == 1


def test_where_too_many_blocks_were_missed_none_is_read(world: World) -> None:
    world.follow(operation())
    world.look()
    world.blocks |= {number: block(number) for number in range(11, 12 + MAX_MISSED_BLOCKS)}
    assert world.look()[1] == ["k"]
    assert world.read == []


def test_every_line_about_a_step_has_its_operation(world: World) -> None:
    seen = list[Any]()
    for key in "kl":
        world.after[key] = lambda: [seen.append(logs._FIELDS.get()), operation("confirmed")][1]
    world.follow(operation())
    world.look()
    world.follower.send_and_follow(operation("prepared", key="l"))
    assert world.follower._senders is not None
    world.follower._senders.shutdown(wait=True)
    assert seen == [{"operation": "k"}, {"operation": "l"}]


def test_stopping_waits_for_nobody_and_begins_nothing(world: World) -> None:
    release, begun = threading.Event(), threading.Semaphore(0)

    def block_until_released() -> Any:
        begun.release()
        assert release.wait(60)
        return operation("confirmed")

    keys = [str(number) for number in range(3 * SENDING_THREADS)]
    for key in keys:
        world.after[key] = block_until_released
        world.follower.send_and_follow(operation("prepared", key=key))
    for _ in range(SENDING_THREADS):
        assert begun.acquire(timeout=60)
    late = threading.Timer(20, release.set)
    late.start()
    world.follower.stop()
    assert not release.is_set()
    late.cancel()
    release.set()
    world.follower._senders.shutdown(wait=True)  # type: ignore[union-attr]
    assert len(world.stepped) == SENDING_THREADS
    with pytest.raises(RuntimeError, match="shutdown"):
        world.follower._senders.submit(print)  # type: ignore[union-attr]


def test_stopping_ends_the_threads_that_step(world: World) -> None:
    world.follow(operation())
    world.look()
    steppers = world.follower._steppers
    assert steppers is not None
    assert steppers._max_workers == 4, "however many operations there are"
    world.blocks[11] = block(11)
    world.look()
    assert world.follower._steppers is steppers
    world.follower.stop()
    with pytest.raises(RuntimeError, match="shutdown"):
        steppers.submit(print)


def test_the_thread_ends_when_nothing_is_followed_any_more(world: World) -> None:
    myself: Any = world
    world.follower = Follower(myself, myself, lambda: world.now)
    world.after["k"] = lambda: operation("confirmed")
    assert world.follow(operation())[0].result(60).state == "confirmed"
    thread = world.follower._thread
    assert thread is not None
    assert thread.name == "follower"
    world.follower.stop()
    thread.join(60)
    assert not thread.is_alive()

"""Which account sends a new operation, by what waits in each lane; and what lies before an operation in its lane."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from app.db.database import Database
from app.db.tables import OPERATION_STATES, operations
from app.services.operation_types import CLOSED_STATES, FILL_NONCE_GAP, HeldCause
from app.services.transactions import gaps, lanes
from app.services.transactions.gaps import MAX_GAP, Obstacles, find_obstacles, reason_to_wait
from app.services.transactions.lanes import LANE_CAUSES, Lanes, Queue, read_queues
from sqlalchemy import func, insert

CHAIN, A, B, C = 5, "0x" + "aa" * 20, "0x" + "bb" * 20, "0x" + "cc" * 20


def store(database: Database, key: str, **values: Any) -> None:
    row = {
        "key": key,
        "request": "",
        "kind": "f",
        "chain_id": CHAIN,
        "sender": A,
        "to_address": C,
        "data": b"",
        "value_wei": 0,
        "state": "prepared",
    }
    with database.autocommit() as connection:
        connection.execute(insert(operations).values(**row | values))


def queues(database: Database, *senders: str) -> dict[str, Queue]:
    with database.autocommit() as connection:
        return read_queues(connection, CHAIN, senders)


@pytest.mark.parametrize("state", OPERATION_STATES)
def test_open_operations_of_the_network_and_account_wait(database: Database, state: str) -> None:
    columns = {"nonce": 1} if state not in ("prepared", "rejected") else {}
    columns |= {"tx_hash": "0x1", "block_number": 1, "block_hash": "0x2"} if state in ("mined", "confirmed") else {}
    store(database, "one", state=state, **columns)
    store(database, "other network", chain_id=CHAIN + 1)
    store(database, "other account", sender=C)
    store(database, "two of b", sender=B)
    store(database, "three of b", sender=B)
    assert queues(database, A, B) == {A: Queue(int(state not in CLOSED_STATES)), B: Queue(2)}


@pytest.mark.parametrize("cause", list(HeldCause))
def test_what_holds_those_behind_it_holds_its_lane(database: Database, cause: HeldCause) -> None:
    store(database, "held", held="why", held_cause=cause, held_at=func.now())
    store(database, "free")
    expected = {"no_funds", "fees_at_cap", "refused", "nonce_gap", "earlier", "signer"}
    assert set(LANE_CAUSES) == expected
    assert queues(database, A) == {A: Queue(2, cause in expected)}


@pytest.mark.parametrize(("nonce", "is_held"), [(None, False), (3, True)])
def test_an_abandoned_operation_holds_its_lane_if_it_has_a_nonce(
    database: Database, nonce: int | None, is_held: bool
) -> None:
    state = "prepared" if nonce is None else "submitted"
    store(database, "abandoned", abandoned_at=func.now(), nonce=nonce, state=state)
    store(database, "one")
    assert queues(database, A) == {A: Queue(1, is_held)}
    store(database, "other network", abandoned_at=func.now(), chain_id=CHAIN + 1)
    assert queues(database, A) == {A: Queue(1, is_held)}


# ------------------------------------------------------------------------------------------------------ the choice


class Choice:
    """Lanes whose queues a test sets, with a clock."""

    def __init__(self, patch: pytest.MonkeyPatch, *addresses: str) -> None:
        self.queues, self.now, self.reads = dict[str, Queue](), 50.0, 0
        patch.setattr(lanes, "read_queues", self._read)
        database: Any = SimpleNamespace(autocommit=lambda: nullcontext(self))
        self.lanes = Lanes(database, addresses, lambda: self.now)

    def _read(self, connection: Any, chain_id: int, addresses: Any) -> dict[str, Queue]:
        assert (connection, chain_id, addresses) == (self, CHAIN, self.lanes.addresses)
        self.reads += 1
        return {lane: Queue(queue.waiting, queue.is_held) for lane, queue in self.queues.items()}

    def choose(self, function: str = "bookEventFor") -> str:
        return self.lanes.choose(CHAIN, function)


@pytest.mark.parametrize(
    ("queues", "may_act", "chosen"),
    [
        ({A: Queue(2), B: Queue(1), C: Queue(2)}, "abc", B),
        ({A: Queue(2), B: Queue(2), C: Queue(2)}, "abc", A),
        ({A: Queue(2), B: Queue(1, True), C: Queue(3)}, "abc", A),
        ({A: Queue(2, True), B: Queue(1, True), C: Queue(3, True)}, "abc", B),
        ({A: Queue(0), B: Queue(1), C: Queue(2)}, "bc", B),
        ({A: Queue(0), B: Queue(1, True), C: Queue(2)}, "bc", C),
        ({A: Queue(1), B: Queue(1, True), C: Queue(2)}, "b", B),
        ({A: Queue(1), B: Queue(0), C: Queue(2)}, "", B),  # none may act: the contract will say so
    ],
)
def test_the_shortest_queue_that_moves_is_chosen(
    monkeypatch: pytest.MonkeyPatch, queues: dict[str, Queue], may_act: str, chosen: str
) -> None:
    choice = Choice(monkeypatch, A, B, C)
    choice.queues = queues
    choice.lanes.may_act = lambda lane: lane[2] in may_act
    assert choice.choose() == chosen
    assert choice.choose("withdrawPlatformFees") == A, "only the platform is the owner"


def test_queues_are_read_once_in_a_while_and_counted_on_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = Choice(monkeypatch, A, B)
    choice.queues = {A: Queue(1), B: Queue(2)}
    assert [choice.choose() for _ in range(4)] == [A, A, B, A]
    choice.now += 1
    assert choice.choose() == B
    assert choice.reads == 1
    choice.now += 0.1
    assert choice.choose() == A
    assert choice.reads == 2
    choice.lanes.forget()
    choice.queues = {A: Queue(1, True), B: Queue(2)}
    assert [choice.choose(), choice.reads] == [B, 3]


def test_one_lane_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = Choice(monkeypatch, A)
    assert [choice.lanes.are_several, choice.choose(), choice.reads] == [False, A, 0]
    assert Choice(monkeypatch, A, B).lanes.are_several


# ------------------------------------------------------------------------------------------- what lies before a nonce


def found(patch: pytest.MonkeyPatch, states: dict[int, str], left: set[int], used: int, nonce: int) -> Any:
    """Returns the obstacles before a nonce, where operations with these nonces are in these states."""
    asked = SimpleNamespace(chain_id=CHAIN, sender=A, nonce=nonce)
    earlier = [SimpleNamespace(nonce=n, state=state, closed=state in CLOSED_STATES) for n, state in states.items()]
    patch.setattr(gaps.nonce_queries, "with_nonces", lambda *asks: earlier if asks == (None, asked, used) else [])
    patch.setattr(gaps.nonce_queries, "left_nonces", lambda *asks: left if asks == (None, CHAIN, A) else set())
    connection, operation = None, asked
    obstacles = find_obstacles(connection, operation, used)  # type: ignore[arg-type]
    return [each.nonce for each in obstacles.unmined], obstacles.missing, obstacles.lost


@pytest.mark.parametrize(
    ("states", "left", "expected"),
    [
        ({3: "signed", 4: "submitted"}, set(), ([3, 4], [], [])),
        ({3: "signed", 4: "mined"}, {3, 4}, ([3], [], [])),  # it is on its way to be seen as dropped
        ({4: "submitted"}, {1}, ([4], [3], [])),
        ({}, {4}, ([], [3], [4])),
        ({}, {4, 3, 9}, ([], [], [3, 4])),
        ({3: "confirmed", 4: "failed"}, set(), ([], [], [3, 4])),
        ({3: "confirmed"}, {4}, ([], [], [4])),
    ],
)
def test_what_lies_before_a_nonce(
    monkeypatch: pytest.MonkeyPatch, states: dict[int, str], left: set[int], expected: Any
) -> None:
    assert found(monkeypatch, states, left, used=3, nonce=5) == expected


def waiting(nonce: int, **values: Any) -> Any:
    row = {"kind": "f", "nonce": nonce, "held": None, "held_cause": None, "abandoned_at": None}
    return SimpleNamespace(**row | values)


HELD = {"held": "why", "held_cause": HeldCause.SIGNER}


@pytest.mark.parametrize(
    ("obstacles", "cause", "words"),
    [
        (Obstacles([], range(2, 2 + MAX_GAP), []), "nonce_gap", "nonce 2 is in no transaction; it is being filled"),
        (Obstacles([], range(2, 3 + MAX_GAP), []), "nonce_gap", "65 earlier nonces from 2 on are in no transaction"),
        (Obstacles([waiting(1), waiting(2, kind=FILL_NONCE_GAP)], [], []), "nonce_gap", "nonce 2 is being filled"),
        (Obstacles([waiting(1, **HELD), waiting(2, abandoned_at="then")], [], []), "earlier", "nonce 2 was abandoned"),
        (Obstacles([waiting(1), waiting(2, **HELD)], [], [0]), "earlier", "f with the earlier nonce 2 is held: why"),
    ],
)
def test_the_first_reason_to_wait_is_said(obstacles: Obstacles, cause: str, words: str) -> None:
    assert MAX_GAP == 64
    reason = reason_to_wait(obstacles)
    assert reason is not None
    assert reason[0] == cause
    assert words in reason[1]

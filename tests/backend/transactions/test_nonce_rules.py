"""Which nonce an operation gets, by what chain, database and other processes say: stand-ins that keep the rules."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from app.services.operation_types import Attempt, Operation
from app.services.transactions import nonces as module
from app.services.transactions.nonces import NonceAllocator
from app.services.transactions.spending import AboveLimit
from psycopg.errors import UniqueViolation

A, B, STRANGER, CHAIN, FINAL = "0xa", "0xb", "0xc", 5, 18
CONNECTION: Any = SimpleNamespace()
CHARGE: Any = SimpleNamespace()


class World:
    """A chain, a database with the rules of `nonce_queries.sign`, and what a process counts and compares."""

    def __init__(self, patch: pytest.MonkeyPatch, *lanes: str) -> None:
        self.log, self.signed_with = list[str](), list[int]()
        self.final: dict[str, list[int]] = {}  # answers in order, the last one for ever
        self.pending: dict[str, int] = {}
        self.next: dict[str, int] = {}
        self.orders, self.reads_of_orders = 0, 0
        self.state, self.stored, self.is_paused = "prepared", True, False
        self.in_rows, self.orphans = set[int](), list[str]()
        self.above, self.reason, self.found = 0, None, True
        self.meanwhile: list[Any] = []  # what other processes do before each of the next statements that sign
        database: Any = SimpleNamespace(autocommit=lambda: nullcontext(CONNECTION))
        self.spending = SimpleNamespace(
            is_current=False,
            forget_time=lambda: self.log.append("forget time"),
            entry=self._entry,
            settle=self._settle,
            to_json=lambda operation, entry: entry,
            signed=lambda operation, entry: self.log.append(f"count {operation.nonce} {entry}"),
        )
        unknown = SimpleNamespace(
            find=lambda chain, final: self.reason if (chain, final) == (CHAIN, FINAL) else "asked for another",
            check_others=self._check_others,
            compare=self._compare,
            senders=lambda operation: (operation.sender, "others"),
            require_none=lambda account, known, pending: self.log.append(f"none of {account} from {known} {pending}"),
            record=self._record,
        )
        patch.setattr(module.rpc, "transaction_count", self._count)
        patch.setattr(module, "find_transaction", self._find_transaction)
        patch.setattr(module.operations, "find", self._find)
        for name in ("next_nonce", "signed_orders", "sign", "skip_nonce"):
            patch.setattr(module.nonce_queries, name, getattr(self, "_" + name))
        w3: Any = self
        self.allocator = NonceAllocator(w3, database, lanes, self.spending, unknown)  # type: ignore[arg-type]

    def sign(self, sender: str = A, kind: str = "cancelEvent", charge: Any = None) -> Operation:
        def sign(nonce: int) -> Attempt:
            return Attempt("0x1", "0x", nonce, 1, 1, 1, 1)

        return self.allocator.sign(operation(sender, kind), FINAL, sign, charge)

    # the chain
    def _count(self, w3: Any, sender: str, block: Any) -> int:
        assert w3 is self
        if block == "pending":
            return self.pending.get(sender, 0)
        assert block == FINAL
        answers = self.final.setdefault(sender, [0])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _find_transaction(self, w3: Any, sender: str, nonce: int, low: int, final_block: int) -> Any:
        assert (w3, low, final_block) == (self, 0, FINAL)
        self.log.append(f"look for {nonce}")
        return SimpleNamespace() if self.found else None

    # the database
    def _find(self, connection: Any, key: str) -> Operation | None:
        assert (connection, key) == (CONNECTION, "k")
        return replace(operation(), state=self.state, held="stored") if self.stored else None

    def _next_nonce(self, connection: Any, chain_id: int, sender: str) -> int | None:
        assert (connection, chain_id) == (CONNECTION, CHAIN)
        return self.next.get(sender)

    def _signed_orders(self, connection: Any, chain_id: int) -> int:
        assert (connection, chain_id) == (CONNECTION, CHAIN)
        self.reads_of_orders += 1
        return self.orders

    def _skip_nonce(self, connection: Any, chain_id: int, sender: str, nonce: int) -> None:
        assert (connection, chain_id) == (CONNECTION, CHAIN)
        self.next[sender] = nonce + 1

    def _sign(self, connection: Any, given: Operation, attempt: Attempt, used: int, compared: Any, spending: Any,
              *, is_exit: bool, orphans_of: Any, orders: int | None) -> Operation | None:  # fmt: skip
        assert (connection, orphans_of) == (CONNECTION, (given.sender, "others"))
        self.signed_with.append(attempt.nonce)
        if self.meanwhile and (action := self.meanwhile.pop(0)):
            action()
        nonce, following = attempt.nonce, self.next.get(given.sender)
        follows = nonce in (used, following) if following is None or nonce > following else nonce == following
        is_free = is_exit or not self.is_paused
        if self.state != "prepared" or not is_free or not follows or not set(self.orphans) <= set(compared):
            return None
        if orders not in (None, self.orders):
            return None
        if nonce in self.in_rows:
            raise UniqueViolation
        self.next[given.sender] = nonce + 1
        self.orders += orders is not None
        return replace(given, state="signed", nonce=nonce, attempts=[attempt])

    # what the process knows
    def _entry(self, connection: Any, given: Operation, nonce: int, charge: Any) -> str | None:
        assert (connection, charge) == (CONNECTION, self.charge)
        if self.above:
            self.above -= 1
            raise AboveLimit("too much")
        return f"entry {nonce}"

    charge: Any = None

    def _settle(self, connection: Any, chain_id: int, final_block: int) -> None:
        assert (connection, chain_id, final_block) == (CONNECTION, CHAIN, FINAL)
        self.log.append("settle")

    def _check_others(self, connection: Any, given: Operation, final_block: int) -> None:
        assert (connection, final_block) == (CONNECTION, FINAL)
        self.log.append("check others")

    def _compare(self, connection: Any, current: Operation, compared: list[str]) -> bool:
        assert (connection, current.held) == (CONNECTION, "stored" if self.stored else None)
        new = [orphan for orphan in self.orphans if orphan not in compared]
        compared.extend(new)
        return bool(new)

    def _record(self, connection: Any, chain_id: int, account: str, numbers: Any, final_block: int) -> None:
        assert (connection, chain_id, final_block) == (CONNECTION, CHAIN, FINAL)
        self.log.append(f"record {account} {list(numbers)}")


def operation(sender: str = A, kind: str = "cancelEvent") -> Operation:
    columns: dict[str, Any] = dict.fromkeys(Operation.__dataclass_fields__)
    columns |= {"key": "k", "kind": kind, "chain_id": CHAIN, "sender": sender, "state": "prepared", "attempts": []}
    return Operation(**columns)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> World:
    """One lane."""
    return World(monkeypatch, A)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> World:
    """Two lanes, which know their nonces."""
    world = World(monkeypatch, A, B)
    world.next = {A: 4, B: 8}
    return world


# ------------------------------------------------------------------------------------------------- the first nonce


@pytest.mark.parametrize(
    ("counts", "assigned", "pending", "nonce", "log"),
    [
        ([5], None, 9, 5, []),  # an account that the database does not know yet
        ([5, 4], None, 9, 4, []),  # of two answers of nodes the lower one is right
        ([4, 5], None, 9, 4, []),
        ([5], 7, 7, 7, ["none of 0xa from 7 7"]),
        ([7], 7, 8, 7, ["none of 0xa from 7 8"]),
        ([0], 0, 0, 0, ["none of 0xa from 0 0"]),
        ([9], 7, 10, 9, ["look for 8", "record 0xa [7, 8]", "none of 0xa from 9 10"]),
        ([8], 7, 8, 8, ["look for 7", "record 0xa [7]", "none of 0xa from 8 8"]),
    ],
)
def test_the_first_nonce_is_the_one_that_leaves_no_gap(
    alone: World, counts: list[int], assigned: int | None, pending: int, nonce: int, log: list[str]
) -> None:
    alone.final[A], alone.pending[A] = counts, pending
    if assigned is not None:
        alone.next[A] = assigned
    signed = alone.sign()
    assert (signed.state, signed.nonce, alone.next[A]) == ("signed", nonce, nonce + 1)
    assert alone.log == [*log, f"count {nonce} entry {nonce}"]


def test_a_count_that_no_transaction_proves_skips_nothing(alone: World, caplog: pytest.LogCaptureFixture) -> None:
    alone.final[A], alone.next[A], alone.found = [9], 7, False
    assert alone.sign().nonce == 7
    assert alone.log == ["look for 8", "count 7 entry 7"]
    assert "The node counts 9 nonces of 0xa" in caplog.text


@pytest.mark.parametrize("count", [7, 9])
def test_the_transactions_of_others_are_not_ours_to_record(alone: World, count: int) -> None:
    alone.final[STRANGER], alone.next[STRANGER], alone.pending[STRANGER] = [count], 7, 30
    assert alone.sign(STRANGER).nonce == count
    looked = ["look for 8"] if count == 9 else ["none of 0xc from 7 0"]
    assert alone.log == [*looked, f"count {count} entry {count}"]


# ------------------------------------------------------------------------------------------------- the next ones


def test_a_process_goes_on_from_its_last_nonce(alone: World) -> None:
    alone.final[A] = [5]
    assert [alone.sign().nonce for _ in range(3)] == [5, 6, 7]
    alone.log.clear()
    alone.final[A] = [8]
    assert alone.sign().nonce == 8, "as many as the chain has used"
    assert alone.log == ["count 8 entry 8"]
    alone.log.clear()
    alone.final[A] = [12]
    assert alone.sign().nonce == 12
    assert alone.log[:2] == ["look for 11", "record 0xa [9, 10, 11]"]


def test_another_process_has_taken_the_nonce(alone: World) -> None:
    alone.final[A] = [5]
    alone.sign()
    alone.next[A] = 9
    alone.log.clear()
    assert alone.sign().nonce == 9
    assert alone.signed_with == [5, 6, 9]
    assert alone.log == ["forget time", "count 9 entry 9"]


def test_a_nonce_that_a_row_has_without_the_table_is_skipped(alone: World, caplog: pytest.LogCaptureFixture) -> None:
    alone.next[A], alone.in_rows = 5, {5, 6}
    assert alone.sign().nonce == 7
    assert alone.next[A] == 8
    assert caplog.text.count("is in a row that took it") == 2


@pytest.mark.parametrize(
    ("known", "state"),
    [({"state": "rejected"}, "rejected"), ({"state": "signed"}, "signed"), ({"is_paused": True}, "prepared")],
)
def test_what_cannot_be_signed_is_as_it_is_stored(alone: World, known: dict[str, Any], state: str) -> None:
    alone.next[A] = 5
    alone.sign()
    vars(alone).update(known)
    given = alone.sign(kind="bookEventFor")
    assert (given.state, given.held, alone.signed_with) == (state, "stored", [5, 6])
    alone.state, alone.is_paused, alone.next[A] = "prepared", False, 8
    alone.signed_with.clear()
    assert alone.sign().nonce == 8
    assert alone.signed_with == [8], "what was known of the nonces is read again"


def test_a_pause_stops_orders_only(alone: World) -> None:
    alone.next[A], alone.is_paused = 5, True
    assert [alone.sign(kind=kind).nonce for kind in ("bookEventFor", "withdrawPlatformFees")] == [None, None]
    assert alone.sign(kind="cancelEvent").nonce == 5
    alone.stored = False
    assert alone.sign(kind="bookEventFor").held is None, "as the caller saw it, where no row has it"


def test_an_account_without_nonces_is_not_signed_for_in_a_pause(alone: World) -> None:
    alone.is_paused = True
    assert (alone.sign(kind="bookEventFor").nonce, alone.signed_with) == (None, [0])


def test_orphans_are_compared_before_a_nonce_is_taken(alone: World) -> None:
    alone.next[A], alone.orphans = 5, ["0x1", "0x2"]
    assert alone.sign().nonce == 5
    assert alone.signed_with == [5, 5]
    alone.state, alone.orphans = "rejected", ["0x3"]
    assert (alone.sign().state, alone.signed_with) == ("rejected", [5, 5, 6]), "nothing is compared for it"


@pytest.mark.parametrize(
    ("following", "nonce"), [(3, 3), (5, 5), (None, 5)], ids=["lost commits", "lost one commit", "an empty database"]
)
def test_a_database_that_lost_commits_is_believed(
    alone: World, following: int | None, nonce: int, caplog: pytest.LogCaptureFixture
) -> None:
    alone.next[A], alone.final[A] = 5, [3]
    alone.sign()
    del alone.next[A]
    if following is not None:
        alone.next[A] = following
    alone.final[A] = [5 if following is None else 3]
    signed = alone.sign()
    if following is None:  # nothing says which nonce is next: the next step asks the chain
        assert (signed.nonce, alone.sign().nonce) == (None, 5)
    else:
        assert (signed.nonce, alone.sign().nonce) == (nonce, nonce + 1)
        assert "the database has lost commits: it assigned nonce 6 of 0xa" in caplog.text


def test_lost_commits_during_a_pause_end(alone: World) -> None:
    alone.next[A], alone.final[A], alone.found = 7, [3], True
    alone.sign()
    alone.next[A], alone.is_paused = 5, True
    given = alone.sign(kind="bookEventFor")
    assert (given.nonce, given.held, alone.signed_with) == (None, "stored", [7, 8, 5])
    alone.is_paused = False
    assert alone.sign(kind="bookEventFor").nonce == 5


def test_a_nonce_that_the_chain_used_and_the_database_did_not_give_out_ends_in_a_pause(alone: World) -> None:
    alone.next[A], alone.final[A], alone.is_paused = 5, [8], True
    given = alone.sign(kind="bookEventFor")
    assert (given.nonce, given.held, alone.signed_with) == (None, "stored", [8])


def test_unknown_transactions_make_it_forget(two: World) -> None:
    for sender in (A, B):
        two.sign(sender, "bookEventFor")
    two.next, two.orders = {A: 9, B: 20}, 7
    assert two.allocator.find_unknown(CHAIN, FINAL) is None
    two.reason = "the database lost something"
    assert two.allocator.find_unknown(CHAIN, FINAL) == two.reason
    two.signed_with.clear()
    assert [two.sign(sender, "bookEventFor").nonce for sender in (A, B)] == [9, 20]
    assert two.signed_with == [9, 20]
    assert two.reads_of_orders == 2


# ------------------------------------------------------------------------------------------------- limits, and lanes


def test_what_earlier_orders_really_cost_is_looked_at_before_one_is_refused(alone: World) -> None:
    alone.next[A], alone.charge, alone.above = 5, CHARGE, 1
    assert alone.sign(charge=CHARGE).nonce == 5
    assert alone.log[1:] == ["forget time", "settle", "count 5 entry 5"]
    alone.above = 2
    with pytest.raises(AboveLimit):
        alone.sign(charge=CHARGE)
    assert alone.signed_with == [5]


@pytest.mark.parametrize(
    ("lanes", "sender", "kind", "is_counted"),
    [
        ((A,), A, "bookEventFor", False),
        ((A, B), A, "bookEventFor", True),
        ((A, B), A, "cancelEvent", False),
        ((A, B), STRANGER, "bookEventFor", False),
    ],
)
def test_the_orders_of_several_lanes_are_numbered(
    monkeypatch: pytest.MonkeyPatch, lanes: tuple[str, ...], sender: str, kind: str, is_counted: bool
) -> None:
    world = World(monkeypatch, *lanes)
    world.next[sender] = 4
    assert world.sign(sender, kind).nonce == 4
    assert (world.orders, "check others" in world.log, world.spending.is_current) == (int(is_counted),) * 3
    assert world.sign(sender, kind).nonce == 5
    assert (world.orders, world.reads_of_orders) == (2 * is_counted, is_counted)


def test_an_order_of_another_process_makes_the_sum_anew(two: World) -> None:
    two.orders = 3
    assert two.sign(A, "bookEventFor").nonce == 4
    two.orders += 1  # another process signed one in the other lane
    two.next[B] += 1
    seen = list[bool]()
    two.meanwhile = [lambda: seen.append(two.spending.is_current) or None for _ in range(2)]  # type: ignore[func-returns-value]
    assert two.sign(A, "bookEventFor").nonce == 5
    assert (seen, two.signed_with, two.reads_of_orders, two.orders) == ([True, False], [4, 5, 5], 3, 6)
    assert two.spending.is_current
    assert two.sign(B, "bookEventFor").nonce == 9
    assert two.reads_of_orders == 3


def test_an_order_that_another_process_signed_in_the_same_lane(two: World) -> None:
    two.sign(A, "bookEventFor")
    two.next[A], two.orders = 6, 2
    assert two.sign(A, "bookEventFor").nonce == 6
    assert two.signed_with == [4, 5, 6]


@pytest.mark.parametrize("assigned", [None, 4])
def test_a_nonce_that_is_proved_on_chain_is_tried_again_with_another_number(two: World, assigned: int | None) -> None:
    two.final[A] = [6]
    two.next.pop(A)
    if assigned is not None:
        two.next[A] = assigned

    def another() -> None:
        two.orders += 1

    two.meanwhile = [another]
    assert two.sign(A, "bookEventFor").nonce == 6
    assert two.signed_with == [6, 6]


def test_an_order_in_a_pause_is_tried_once(two: World) -> None:
    two.is_paused = True
    given = two.sign(A, "bookEventFor")
    assert (given.nonce, two.signed_with, two.spending.is_current) == (None, [4], False)

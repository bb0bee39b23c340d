"""Transactions of the platform that are in no row, and the operations that they may be: with stand-ins."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from app.core.errors import ChainUnavailable
from app.services.operation_types import Attempt, Operation, UsedNonce
from app.services.orphans import HeldForOrphan, Orphan
from app.services.rpc_types import Transaction
from app.services.transactions import unknown as module
from app.services.transactions.unknown import MAX_UNKNOWN, UnknownTransactions

A, B, STRANGER, CONTRACT, CHAIN, FINAL = "0xa", "0xb", "0xd", "0xc", 5, 18
CONNECTION: Any = SimpleNamespace()
DATABASE: Any = SimpleNamespace(autocommit=lambda: nullcontext(CONNECTION))
OLD = Attempt("0xold", "0x", 4, 1, 1, 1, 10)


def transaction(tx_hash: str, sender: str = A, nonce: int = 4, block: int | None = 15, **values: Any) -> Transaction:
    fields = {"value": "0x7", "input": "0x64"} | values.pop("fields", {})
    to = values.pop("to", CONTRACT)
    return Transaction(tx_hash, sender, to, nonce, block, "0xf", fields)  # type: ignore[arg-type]


def operation(state: str = "submitted", **values: Any) -> Operation:
    columns: dict[str, Any] = dict.fromkeys(Operation.__dataclass_fields__)
    columns |= {"key": "k", "kind": "f", "chain_id": CHAIN, "sender": A, "to_address": CONTRACT, "data": b"d"}
    return Operation(**columns | {"value_wei": 7, "state": state, "nonce": 4, "attempts": [OLD]} | values)


class World:
    """Two lanes on a chain and a database whose answers a test sets."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.log = list[str]()
        self.final, self.pending, self.next = {A: 4, B: 8}, {A: 4, B: 8}, {A: 4, B: 8}
        self.found = True
        self.receipt: Any = SimpleNamespace(succeeded=False)
        self.known, self.open = set[str](), list[Any]()
        self.shown: Any = None
        self.match: Any = None
        self.attempt: Any = OLD
        self.error: Exception | None = None
        rpc = {"transaction_count": self._count, "receipt": lambda w3, tx_hash: self.receipt}
        for name, answer in (rpc | {"transaction": self._transaction}).items():
            patch.setattr(module.rpc, name, answer)
        patch.setattr(module, "find_transaction", self._find_transaction)
        patch.setattr(module.nonce_queries, "next_nonce", self._next_nonce)
        patch.setattr(module.nonce_queries, "skip_nonces", self._skip)
        patch.setattr(module.operations, "find", lambda connection, key: f"the row of {key}")
        for name in ("is_known", "record", "open_orphans", "find_match", "adopt"):
            patch.setattr(module.orphans, name, getattr(self, "_" + name))
        patch.setattr(module.orphans, "as_attempt", lambda each: self.attempt)
        self.is_sealed = True
        sealer: Any = SimpleNamespace(
            has_sealed=lambda each: self.is_sealed, seal_of=lambda each: f"seal of {each.sender}"
        )
        w3: Any = self
        self.unknown = UnknownTransactions(w3, DATABASE, [A, B], sealer)

    def _count(self, w3: Any, account: str, block: Any) -> int:
        assert (w3, block in ("pending", FINAL)) == (self, True)
        if self.error:
            raise self.error
        return (self.pending if block == "pending" else self.final)[account]

    def _transaction(self, w3: Any, tx_hash: str) -> Any:
        assert (w3, tx_hash) == (self, "0xseen")
        if self.error:
            raise self.error
        return self.shown

    def _find_transaction(self, w3: Any, account: str, nonce: int, low: int, final: int) -> Any:
        assert (w3, low, final) == (self, 0, FINAL)
        found = transaction(f"0x{account[-1]}{nonce}", account, nonce)
        return UsedNonce(found.hash, 15, found) if self.found is True or nonce in (self.found or ()) else None

    def _next_nonce(self, connection: Any, chain_id: int, account: str) -> int | None:
        assert (connection, chain_id) == (CONNECTION, CHAIN)
        return self.next.get(account)

    def _skip(self, connection: Any, chain_id: int, account: str, count: int) -> None:
        assert (connection, chain_id) == (CONNECTION, CHAIN)
        self.log.append(f"skip {account} to {count}")

    def _is_known(self, connection: Any, chain_id: int, each: Transaction) -> bool:
        assert (connection, chain_id) == (CONNECTION, CHAIN)
        return each.hash in self.known

    def _record(self, connection: Any, chain_id: int, each: Transaction, *, succeeded: bool) -> None:
        assert (connection, chain_id) == (CONNECTION, CHAIN)
        self.log.append(f"record {each.hash}{' succeeded' if succeeded else ''}")

    def _open_orphans(self, connection: Any, chain_id: int, senders: Any) -> list[Any]:
        assert (connection, chain_id) == (CONNECTION, CHAIN)
        self.asked = tuple(senders)
        return self.open

    def _find_match(self, each: Operation, candidates: Any) -> Any:
        self.candidates = [orphan.tx_hash for orphan in candidates]
        return self.match

    def _adopt(self, database: Any, each: Operation, orphan: Any, attempt: Any) -> None:
        assert (database, orphan, attempt) == (DATABASE, self.match, self.attempt)
        self.log.append(f"adopt as {each.sender} {each.seal}")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


# ---------------------------------------------------------------------------------------------------- what is in no row


@pytest.mark.parametrize(
    ("known", "log", "reason"),
    [
        ({}, [], None),
        ({"next": {B: 8}, "final": {A: 9, B: 8}}, [], None),  # an account that was never used here
        ({"next": {A: 5, B: 8}}, [], None),
        ({"final": {A: 6, B: 8}}, ["record 0xa4", "record 0xa5", "skip 0xa to 6"], None),
        ({"final": {A: 6, B: 8}, "known": {"0xa4"}}, ["record 0xa5", "skip 0xa to 6"], None),
        (
            {"final": {A: 6, B: 8}, "receipt": SimpleNamespace(succeeded=True)},
            ["record 0xa4 succeeded", "record 0xa5 succeeded", "skip 0xa to 6"],
            None,
        ),
        ({"pending": {A: 6, B: 8}}, [], "2 transactions of 0xa from nonce 4 on are in no row, and not final yet"),
        (
            {"final": {A: 5, B: 8}, "pending": {A: 7, B: 8}},
            ["record 0xa4"],
            "2 transactions of 0xa from nonce 5 on are in no row, and not final yet",
        ),
        ({"final": {A: 5, B: 8}, "pending": {A: 5, B: 8}}, ["record 0xa4", "skip 0xa to 5"], None),
        (
            {"final": {A: 6, B: 8}, "found": {4}},
            ["record 0xa4"],
            "the node counts 6 nonces of 0xa, no row has nonce 5, and the node does not show its transaction",
        ),
        (
            {"final": {A: 5, B: 8}, "receipt": None},
            [],
            "the node counts 5 nonces of 0xa, no row has nonce 4, and the node does not show its transaction",
        ),
        (
            {"final": {A: 5 + MAX_UNKNOWN, B: 9}},
            ["record 0xb8", "skip 0xb to 9"],
            "the chain has 201 transactions of 0xa that are in no row, from nonce 4 on: "
            "restore the database, or start with an empty one",
        ),
        (
            {"pending": {A: 5, B: 9}},
            [],
            "1 transactions of 0xa from nonce 4 on are in no row, and not final yet; "
            "1 transactions of 0xb from nonce 8 on are in no row, and not final yet",
        ),
    ],
)
def test_the_platforms_transactions_that_are_in_no_row_are_stored(
    world: World, known: dict[str, Any], log: list[str], reason: str | None
) -> None:
    vars(world).update(known)
    assert world.unknown.find(CHAIN, FINAL) == reason
    assert world.log == log
    assert world.asked == (A, B)


def test_so_many_are_looked_up(world: World) -> None:
    world.final[A] = 4 + MAX_UNKNOWN
    assert world.unknown.find(CHAIN, FINAL) is None
    assert len(world.log) == 201


def test_a_node_that_does_not_answer_proves_nothing(world: World) -> None:
    world.error = OSError()
    with pytest.raises(ChainUnavailable, match="orphans: "):
        world.unknown.find(CHAIN, FINAL)
    with pytest.raises(ChainUnavailable, match="orphans: "):
        world.unknown.examine(CHAIN, "0xseen")


@pytest.mark.parametrize(
    ("sender", "pending", "assigned", "log"),
    [
        (A, 8, 8, []),
        (A, 10, 8, ["record 0xb8", "record 0xb9", "skip 0xb to 10"]),
        (A, 10, None, []),
        (A, 7, 8, []),
        (STRANGER, 10, 8, []),
        (B, 10, 8, []),
    ],
)
def test_an_order_looks_at_the_other_lanes(
    world: World, sender: str, pending: int, assigned: int | None, log: list[str]
) -> None:
    world.pending[B] = world.final[B] = pending
    world.next = {A: 4} | ({} if assigned is None else {B: assigned})
    world.unknown.check_others(CONNECTION, operation(sender=sender), FINAL)
    assert world.log == log


def test_more_in_the_mempool_than_in_rows_stops_a_lane(world: World) -> None:
    world.unknown.require_none(A, 4, 4)
    world.unknown.require_none(STRANGER, 4, 9)
    with pytest.raises(HeldForOrphan, match="1 transactions of 0xa from nonce 4 on"):
        world.unknown.require_none(A, 4, 5)


@pytest.mark.parametrize(
    ("shown", "is_recorded"),
    [
        (None, False),
        (transaction("0xseen"), True),
        (transaction("0xseen", STRANGER), False),
        (transaction("0xseen", block=None), False),
        (transaction("0xold"), False),
    ],
)
def test_a_transaction_with_events_is_an_orphan_if_it_is_ours_and_in_no_row(
    world: World, shown: Any, is_recorded: bool
) -> None:
    world.shown, world.known = shown, {"0xold"}
    world.unknown.examine(CHAIN, "0xseen")
    assert world.log == (["record 0xseen succeeded"] if is_recorded else [])
    assert world.unknown.take_over(operation("prepared")) is None
    assert hasattr(world, "asked") == is_recorded, "where there are no orphans, none is looked for"


# ---------------------------------------------------------------------------------------------- operations and orphans


def orphan(tx_hash: str, sender: str = B) -> Orphan:
    return Orphan(tx_hash, sender, 4, "", b"d", 7)


def with_orphans(world: World, *open_orphans: Orphan) -> None:
    world.open = list(open_orphans)
    world.unknown.find(CHAIN, FINAL)
    world.log.clear()


@pytest.mark.parametrize(("sender", "asked"), [(A, (A, B)), (B, (A, B)), (STRANGER, (STRANGER,))])
def test_an_operation_takes_over_the_orphan_that_is_its_own(world: World, sender: str, asked: tuple[str, ...]) -> None:
    with_orphans(world, orphan("0xseen"))
    given = operation("prepared", sender=sender, seal="its seal")
    assert world.unknown.take_over(given) is None
    assert (world.asked, world.candidates, world.log) == (asked, ["0xseen"], [])
    world.match, world.shown = orphan("0xseen"), transaction("0xseen")
    assert world.unknown.take_over(given) == "the row of k"
    world.is_sealed = False
    world.unknown.take_over(given)
    assert world.log == [f"adopt as {B} seal of {B}", f"adopt as {B} its seal"]


@pytest.mark.parametrize("missing", ["shown", "attempt"])
def test_an_orphan_whose_bytes_are_not_shown_is_not_taken_over(world: World, missing: str) -> None:
    with_orphans(world, orphan("0xseen"))
    world.match, world.shown = orphan("0xseen"), transaction("0xseen")
    setattr(world, missing, None)
    with pytest.raises(HeldForOrphan, match="it is what 0xseen has done, whose bytes"):
        world.unknown.take_over(operation("prepared"))
    assert world.log == []


def test_while_transactions_are_unknown_no_lane_takes_over(world: World) -> None:
    world.pending[A] = 5
    world.unknown.find(CHAIN, FINAL)
    with pytest.raises(HeldForOrphan, match="1 transactions of 0xa"):
        world.unknown.take_over(operation("prepared"))
    assert world.unknown.take_over(operation("prepared", sender=STRANGER)) is None


def test_each_orphan_is_compared_once(world: World) -> None:
    compared = ["0x1"]
    world.open = [orphan("0x1"), orphan("0x2")]
    assert world.unknown.compare(CONNECTION, operation("prepared"), compared)
    assert (compared, world.candidates, world.asked) == (["0x1", "0x2"], ["0x2"], (A, B))
    assert not world.unknown.compare(CONNECTION, operation("prepared"), compared)
    world.open.append(orphan("0xseen"))
    world.match, world.shown = orphan("0xseen"), transaction("0xseen")
    assert not world.unknown.compare(CONNECTION, operation("prepared"), compared)
    assert (compared, len(world.log)) == (["0x1", "0x2"], 1)

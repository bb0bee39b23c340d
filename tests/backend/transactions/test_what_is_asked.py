"""What is looked up of nodes and passed to the database, beside what follows from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from app.db.database import Database
from app.db.tables import event_run_bookings, event_runs, orphans
from app.services.codec import event_stake_codec
from app.services.operation_types import NoEffect, UsedNonce
from app.services.orphans import HeldForOrphan
from app.services.transactions import nonces as nonces_module
from app.services.transactions import states
from app.services.transactions import unknown as unknown_module
from sqlalchemy import Connection, insert, select
from test_named_id_rules import CONTRACT, NAMING, NUMBER, POLICY, chain_of
from test_named_id_rules import World as Named
from test_nonce_rules import A
from test_nonce_rules import World as Nonces
from test_operations import signed
from test_spending_of_a_day import ACCOUNT, CHAIN, LANE, Process
from test_unknown_rules import CONNECTION, FINAL, operation
from test_unknown_rules import World as Unknown


def test_only_the_orphans_of_the_nonce_are_looked_up(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(connection, monkeypatch)
    row = {"chain_id": CHAIN, "sender": ACCOUNT, "nonce": 0, "block_number": 5, "data": b"", "value_wei": 20}
    for other in ({"chain_id": CHAIN + 1}, {"sender": LANE}, {"nonce": 5}, {}):
        values = row | other | {"tx_hash": f"0x{other}", "succeeded": True, "dismissed": False}
        connection.execute(insert(orphans).values(values))
    process.mine("0x{}", 0)
    process.store(1, 10)
    process.counted(2)
    process.spending.settle(connection, CHAIN, 5)
    assert process.reads == ["0x{}"]
    assert process.counted(2) == 50 + 10


def test_an_order_asks_for_one_number_of_each_other_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    world, asked = Unknown(monkeypatch), list[Any]()
    count = unknown_module.rpc.transaction_count

    def note(w3: Any, account: str, block: Any) -> int:
        asked.append((account, block))
        return count(w3, account, block)

    monkeypatch.setattr(unknown_module.rpc, "transaction_count", note)
    world.unknown.check_others(CONNECTION, operation(sender="0xa"), FINAL)
    assert asked == [("0xb", "pending")]


@pytest.mark.parametrize(
    ("counts", "assigned", "found", "passed"),
    [
        ([5], None, True, (5, 5)),
        ([5], 7, True, (7, 0)),
        ([1], 1, True, (1, 0)),
        ([9], 7, True, (9, 9)),
        ([9], 7, False, (7, 0)),
        ([9], 1, False, (1, 0)),
    ],
)
def test_what_the_chain_proves_goes_into_the_statement(
    monkeypatch: pytest.MonkeyPatch, counts: list[int], assigned: int | None, found: bool, passed: tuple[int, int]
) -> None:
    world, given = Nonces(monkeypatch, A), list[Any]()
    sign = nonces_module.nonce_queries.sign

    def note(connection: Any, each: Any, attempt: Any, used_on_chain: int, *rest: Any, **options: Any) -> Any:
        given.append((attempt.nonce, used_on_chain))
        return sign(connection, each, attempt, used_on_chain, *rest, **options)

    monkeypatch.setattr(nonces_module.nonce_queries, "sign", note)
    world.final[A], world.found = counts, found
    world.next = {} if assigned is None else {A: assigned}
    world.sign()
    world.sign()
    assert given == [passed, (passed[0] + 1, 0)]
    world.final[A] = [0]
    world.next[A] += 3
    given.clear()
    world.sign()
    assert given == [(passed[0] + 2, 0), (passed[0] + 5, 0)]


@pytest.mark.parametrize("kind", NAMING)
def test_other_runs_and_bookings_do_not_matter(monkeypatch: pytest.MonkeyPatch, database: Database, kind: str) -> None:
    world = Named(monkeypatch, database)
    run, booking = uuid4(), uuid4()
    with database.autocommit() as connection:
        row = dict(connection.execute(select(event_runs)).mappings().one())
        connection.execute(insert(event_runs).values(row | {"id": run, "blockchain_event_run_id": 99}))
        row = dict(connection.execute(select(event_run_bookings)).mappings().one())
        row |= {"id": booking, "event_run_id": run, "blockchain_booking_id": 99}
        connection.execute(insert(event_run_bookings).values(row))
    world.create("other run", run, 50, "0xdropped")
    world.create("other booking", booking, 51, "0xdropped", "bookEventFor")
    assert world.doubt(kind) is None
    assert world.read == chain_of(kind)


def test_entries_from_the_nonce_on_say_nothing_about_those_before(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(connection, monkeypatch)
    process.store(0, 10)
    process.store(5, 7, since=5)
    assert process.counted(1) == 10


def test_after_lost_commits_the_old_nonce_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Nonces(monkeypatch, A)
    world.next[A] = 7
    world.sign()
    world.next[A] = 5
    unknown: Any = world.allocator.unknown
    require_none = unknown.require_none

    def hold(*asks: Any) -> None:
        unknown.require_none = require_none
        raise HeldForOrphan("an orphan")

    unknown.require_none = hold
    with pytest.raises(HeldForOrphan):
        world.sign()
    world.signed_with.clear()
    assert world.sign().nonce == 5
    assert world.signed_with == [5]


def test_only_unknown_transactions_make_it_forget_the_nonces(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Nonces(monkeypatch, A, "0xb")
    world.next = {A: 4, "0xb": 8}
    world.sign(A, "bookEventFor")
    for reason, reads in ((None, 1), ("the database lost something", 2)):
        world.reason = reason
        world.log.clear()
        assert world.allocator.find_unknown(5, FINAL) == reason
        world.sign(A, "bookEventFor")
        assert (world.reads_of_orders, "none of 0xa" in " ".join(world.log)) == (reads, reason is not None)


def test_a_booking_that_moved_before_the_list_was_made_is_in_it(
    monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    world = Named(monkeypatch, database)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    data = event_stake_codec().call(CONTRACT, "completeEvent", NUMBER, []).data  # type: ignore[arg-type]
    asked: Any = SimpleNamespace(kind="completeEvent", subject=world.run, created_at=at, data=data)
    for later_us, is_right in ((0, True), (1, False)):
        world.change("booking", reorged=True, updated_at=at + timedelta(microseconds=later_us))
        assert (world.named_ids.find_doubt(asked, POLICY) is None) == is_right


def test_without_a_cursor_no_block_is_final(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    world = Named(monkeypatch, database)
    world.change("run", block_number=1)
    assert world.doubt("cancelEvent") is not None
    assert world.read == [1]


@pytest.mark.parametrize(("state", "is_final"), [("prepared", False), ("rejected", True)])
def test_what_a_call_names_may_have_no_nonce(
    monkeypatch: pytest.MonkeyPatch, database: Database, state: str, is_final: bool
) -> None:
    world = Named(monkeypatch, database)
    world.change("run", state=state, nonce=None, attempts=[], tx_hash=None, block_number=None, block_hash=None)
    doubt = world.doubt("cancelEvent")
    assert doubt is not None
    assert doubt[1] == is_final


def test_starting_over_counts_if_nothing_else_is_said(database: Database) -> None:
    proof = NoEffect(signed(database, "k", 4), UsedNonce("0x9", 7))
    assert states.requeue(database, proof, "why").requeued == 1

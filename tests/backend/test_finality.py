"""How far the chain was followed, and which rows a deep reorganisation sets back: row by row, at every edge."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from app.core.errors import ChainUnavailable
from app.db.database import Database
from app.db.tables import chain_cursors, event_run_bookings, event_runs, experiences, operations, users
from app.services import finality as finality_module
from app.services.finality import COMPARE_AGAIN_AFTER, Cursor, Finality, FinalizedBlockChanged
from app.services.operation_types import NOT_HELD
from app.services.rpc_types import BlockHeader
from fixed_clock import NOW
from sqlalchemy import Connection, Table, insert, select, update

CONTRACT, OTHER = "0x" + "c0" * 20, "0x" + "d0" * 20
HEAD = 30


@dataclass
class Chain:
    """A chain of 30 blocks; those from `changed` on are others than before, and the node may know what is finalized."""

    changed: int = 99
    finalized: int | None = None
    address: str = CONTRACT
    asked: list[int | str] = field(default_factory=list)

    @property
    def sender(self) -> Any:
        return self

    chain_id = 1

    def block_header(self, block: int | str) -> BlockHeader:
        self.asked.append(block)
        if block == "finalized":
            block = -1 if self.finalized is None else self.finalized
        assert isinstance(block, int)
        if not 0 <= block <= HEAD:
            raise ChainUnavailable("the node has no such block")
        return header(block, "new" if block >= self.changed else "old")


def header(number: int, chain: str = "old") -> BlockHeader:
    return BlockHeader(number, f"{chain} {number}", "", 0, None, ())


def finality_of(database: Database, chain: Chain, depth: int | None = None) -> Finality:
    return Finality(database, chain, depth)  # type: ignore[arg-type]


def store(database: Database, number: int, block_hash: str | None, finalized: int = 3, **values: Any) -> None:
    row: dict[str, Any] = {"chain_id": 1, "contract": CONTRACT, "block_number": number, "block_hash": block_hash}
    row |= {"finalized_block": finalized, "finalized_hash": None}
    with database.transaction() as connection:
        connection.execute(insert(chain_cursors).values(row | values))


def cursors(database: Database) -> list[Any]:
    with database.autocommit() as connection:
        return [*connection.execute(select(chain_cursors).order_by(chain_cursors.c.chain_id, chain_cursors.c.contract))]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, (5, "old 5")),
        ((4, "old 4"), (5, "old 5")),
        ((5, "new 5"), (5, "new 5")),
        ((5, None), (5, "old 5")),  # of a version that stored no hashes
        ((6, None), (6, None)),
        ((6, "old 6"), (6, "old 6")),
    ],
)
def test_a_cursor_moves_forward_only(database: Database, before: Any, after: Any) -> None:
    store(database, 1, "other", contract=OTHER)
    store(database, 1, "other", chain_id=2)
    others = cursors(database)
    if before is not None:
        store(database, *before)
    finality = finality_of(database, Chain())
    with database.transaction() as connection:
        finality.move_cursor(connection, header(5))
    cursor = finality.cursor()
    assert cursor is not None
    assert cursor[:2] == after
    assert [row for row in cursors(database) if (row.chain_id, row.contract) != (1, CONTRACT)] == others


@pytest.mark.parametrize(
    ("finalized", "stored"),
    [(2, (3, None)), (3, (3, None)), (4, (4, "old 4")), (10, (10, "old 10")), (11, (3, None)), (None, (3, None))],
)
def test_a_finalized_block_is_noted_once_the_chain_was_followed_to_it(
    database: Database, finalized: int | None, stored: Any
) -> None:
    chain = Chain(finalized=finalized)
    finality = finality_of(database, chain)
    finality.note_finalized(HEAD)
    assert finality.cursor() is None
    store(database, 1, "other", contract=OTHER)
    store(database, 10, "old 10")
    finality.note_finalized(HEAD)
    assert finality.cursor() == Cursor(10, "old 10", *stored)
    assert cursors(database)[1].finalized_block == 3


@pytest.mark.parametrize("meanwhile", [5, 6])
def test_a_finalized_block_that_another_process_noted_meanwhile_stays(
    database: Database, monkeypatch: pytest.MonkeyPatch, meanwhile: int
) -> None:
    store(database, 10, "old 10", meanwhile, finalized_hash="of the other")
    finality = finality_of(database, Chain(finalized=5))
    with monkeypatch.context() as patch:
        patch.setattr(finality, "cursor", lambda: Cursor(10, "old 10", 3, None))
        finality.note_finalized(HEAD)
    assert finality.cursor() == Cursor(10, "old 10", meanwhile, "of the other")


@pytest.mark.parametrize(
    ("finalized", "depth", "head", "block"),
    [
        (7, None, 30, 7),
        (7, 5, 30, 25),  # the settings say how deep is final
        (None, None, 96, None),
        (None, None, 97, 1),
        (None, 5, 5, None),
        (None, 5, 6, 1),
    ],
)
def test_which_block_is_final(
    database: Database, finalized: int | None, depth: int | None, head: int, block: int | None
) -> None:
    finality = finality_of(database, Chain(finalized=finalized), depth)
    found = finality._finalized_header(head)
    assert (found and found.number) == block
    start = block or 0
    assert finality._start(head) == Cursor(start, f"old {start}", start, None)


# ---------------------------------------------------------------------------------- what a reorganisation undoes


def add_one(connection: Connection, table: Table, **values: Any) -> UUID:
    return UUID(str(connection.execute(insert(table).values(values).returning(table.c.id)).scalar_one()))


def add_rows(connection: Connection) -> tuple[UUID, UUID]:
    """A run and a booking of it, as their creations were confirmed in block 9, and the run refreshed as of it."""
    user = add_one(connection, users, name="somebody")
    experience = add_one(connection, experiences, host_id=user, title="Pottery")
    on_chain = {"blockchain_tx_hash": "0x1", "blockchain_status": "confirmed", "blockchain_error": "none"}
    terms = {"experience_id": experience, "host_id": user, "starts_at": NOW, "max_seats": 4, "price_inr": 10}
    blocks = {"blockchain_block": 9, "refreshed_block": 9, "refresh_due": True, "seats_booked": 4, "status": "full"}
    number = experience.int % 10**9
    run = add_one(connection, event_runs, **terms, **blocks, **on_chain, blockchain_event_run_id=number)
    booked = {"event_run_id": run, "user_id": user, "seats": 1, "total_inr": 10, "status": "cancelled"}
    return run, add_one(connection, event_run_bookings, **booked, **on_chain, blockchain_booking_id=number)


def add_operation(connection: Connection, key: str, **values: Any) -> None:
    row: dict[str, Any] = {"key": key, "request": "", "kind": "cancelEvent", "subject": None, "chain_id": 1}
    row |= {"sender": CONTRACT, "to_address": CONTRACT, "data": b"", "value_wei": 0, "state": "confirmed"}
    row |= {"tx_hash": "0x", "block_number": 9, "block_hash": "old 9", "gas_used": 5, "gas_price_wei": 6}
    row |= {"held": "no ether", "held_cause": "no_funds", "held_at": NOW, "created_at": NOW, "updated_at": NOW}
    connection.execute(insert(operations).values(row | {"nonce": uuid4().int % 10**9} | values))


def contents(database: Database, table: Table) -> dict[Any, dict[str, Any]]:
    with database.autocommit() as connection:
        return {row[0]: row._asdict() for row in connection.execute(select(table))}


CANCELLED: dict[str, Any] = {"code": "cancelled", "message": "by an operator"}
REOPENED: dict[str, dict[str, Any]] = {
    "confirmed": {},
    "failed": {"state": "failed", "error": {"code": "reverted"}},
    "cancelled": {"state": "failed", "error": CANCELLED},
    "first of the other chain": {"block_number": 6, "block_hash": "old 6"},
    "in the last block that was followed": {"block_number": 10, "block_hash": "old 10"},
    "after the last block that was followed": {"block_number": 12, "block_hash": "old 12"},
}
UNTOUCHED: dict[str, dict[str, Any]] = {
    "mined": {"state": "mined"},
    "submitted": {"state": "submitted"},
    "rejected": {"state": "rejected", "nonce": None, "tx_hash": None, "block_number": None, "block_hash": None},
    "without a block": {"state": "failed", "tx_hash": None, "block_number": None, "block_hash": None},
    "without a hash": {"block_hash": None},  # of a version that stored none
    "of another network": {"chain_id": 2},
    "finalized": {"block_number": 3, "block_hash": "of before"},
    "before the reorganisation": {"block_number": 5, "block_hash": "old 5"},
    "after the reorganisation": {"block_number": 8, "block_hash": "new 8"},
    "last block": {"block_number": 10, "block_hash": "new 10"},
}


def test_exactly_the_operations_whose_blocks_are_gone_are_reopened(database: Database) -> None:
    with database.transaction() as connection:
        for key, values in {**REOPENED, **UNTOUCHED}.items():
            add_operation(connection, key, **values)
    before = contents(database, operations)
    store(database, 1, "other", contract=OTHER)
    store(database, 10, "old 10")
    chain = Chain(changed=6)
    finality = finality_of(database, chain)
    assert sorted(finality.undo_reorganised(HEAD) or []) == sorted(REOPENED)
    of_cursor, of_operations = [10, 3, 3], [5, 6, 8, 9, 10, 10, 12]  # of each block's hash, how many ever have it
    assert sorted(chain.asked, key=int) == sorted(of_cursor + of_operations)
    after = contents(database, operations)
    for key, row in before.items():
        expected = row
        if key in REOPENED:
            none = ("tx_hash", "block_number", "block_hash", "gas_used", "gas_price_wei")
            expected = row | dict.fromkeys(none) | NOT_HELD | {"state": "submitted", "reorged": True}
            expected |= {"error": CANCELLED if key == "cancelled" else None, "updated_at": after[key]["updated_at"]}
            assert after[key]["updated_at"] > datetime(2026, 1, 1, tzinfo=UTC)
            assert after[key]["updated_at"] != NOW
        assert after[key] == expected, key
    assert finality.cursor() == Cursor(3, "old 3", 3, None)
    assert cursors(database)[1].block_number == 1
    assert finality.undo_reorganised(HEAD) is None


@pytest.mark.parametrize("is_gone", [False, True])
def test_what_is_after_the_cursor_is_compared_each_time(database: Database, is_gone: bool) -> None:
    """Its block may be dropped before a round has followed the chain up to it; for the others, the cursor's stands."""
    with database.transaction() as connection:
        for number in (9, 10, 11):
            add_operation(connection, f"in block {number}", block_number=number, block_hash=f"old {number}")
        add_operation(connection, "open", state="mined", block_number=13, block_hash="its own trouble")
        add_operation(connection, "elsewhere", chain_id=2, block_number=14, block_hash="of another chain")
        add_operation(connection, "final", block_number=3, block_hash="not compared")
    store(database, 10, "old 10")
    chain = Chain()
    finality = finality_of(database, chain)
    assert finality.undo_reorganised(HEAD) is None
    assert chain.asked == [10, 9, 10, 11]
    chain.changed, chain.asked = 11 if is_gone else 12, []
    assert finality.undo_reorganised(HEAD) == (["in block 11"] if is_gone else None)
    assert chain.asked[:2] == [10, 11]
    assert finality.cursor() == Cursor(10, "old 10", 3, None)


@pytest.mark.parametrize("starts_anew", [False, True])
def test_what_was_closed_while_the_chain_was_another_one_is_reopened(database: Database, starts_anew: bool) -> None:
    """The chain is as before in the next round, so that the cursor's block tells nothing of it."""
    with database.transaction() as connection:
        run, _ = add_rows(connection)
        add_operation(connection, "before", block_number=8, block_hash="old 8")
    store(database, 10, "old 10")
    finality = finality_of(database, Chain())
    assert finality.undo_reorganised(HEAD) is None
    with database.transaction() as connection:
        add_operation(connection, "meanwhile", kind="createEventRunFor", subject=run, block_hash="new 9")
        add_operation(connection, "and later", block_number=10, block_hash="new 10")
    if starts_anew:
        finality = finality_of(database, Chain())
    assert sorted(finality.undo_reorganised(HEAD) or []) == ["and later", "meanwhile"]
    assert contents(database, event_runs)[run]["blockchain_status"] == "pending"
    assert finality.cursor() == Cursor(8, "old 8", 3, None)
    assert finality.undo_reorganised(HEAD) is None


@pytest.mark.parametrize("moved_to", [10, 12])
@pytest.mark.parametrize("other_follows", [False, True])
def test_what_another_process_followed_is_compared_again(
    database: Database, other_follows: bool, moved_to: int
) -> None:
    """It ends after that, as in a rolling deploy, and the node shows the old chain for a moment."""
    with database.transaction() as connection:
        add_operation(connection, "booking")
    store(database, 10, "old 10")
    chain = Chain()
    mine, other = finality_of(database, chain), finality_of(database, chain)
    assert mine.undo_reorganised(HEAD) is None
    chain.changed = 6
    follower = other if other_follows else mine
    assert follower.undo_reorganised(HEAD) == ["booking"]
    with database.transaction() as connection:
        follower.move_cursor(connection, chain.block_header(moved_to))
        closed = {"state": "confirmed", "block_number": 9, "block_hash": "old 9", "tx_hash": "0x"}
        connection.execute(update(operations).values(closed))
    assert mine.undo_reorganised(HEAD) == ["booking"]


def test_a_block_that_a_round_followed_is_compared_once_more_in_its_chain(database: Database) -> None:
    """The first time it was beyond what was followed; the cursor may have moved in another chain than was compared."""
    with database.transaction() as connection:
        add_operation(connection, "booking", block_number=12, block_hash="old 12")
    store(database, 10, "old 10")
    chain = Chain()
    finality = finality_of(database, chain)
    assert finality.undo_reorganised(HEAD) is None
    chain.changed = 11
    with database.transaction() as connection:
        finality.move_cursor(connection, chain.block_header(15))
    assert finality.undo_reorganised(HEAD) == ["booking"]


def test_what_was_compared_in_another_chain_for_a_moment_is_found_later(database: Database) -> None:
    with database.transaction() as connection:
        add_operation(connection, "booking")
    store(database, 10, "new 10")
    chain = Chain(changed=6)
    finality = finality_of(database, chain)
    with_cursor, asked = chain.block_header, chain.asked

    def other_node(block: int | str) -> BlockHeader:
        return header(9) if block == 9 else with_cursor(block)

    chain.block_header = other_node  # type: ignore[method-assign]
    assert finality.undo_reorganised(HEAD) is None
    del chain.block_header  # type: ignore[method-assign]
    asked.clear()
    rounds = [finality.undo_reorganised(HEAD) for _ in range(COMPARE_AGAIN_AFTER - 1)]
    assert rounds == [None] * (COMPARE_AGAIN_AFTER - 2) + [["booking"]]
    assert asked.count(9) == 1


@pytest.mark.parametrize("hash_of_finalized", ["old 3", None, "of another chain"])
def test_nothing_is_undone_on_another_chain(database: Database, hash_of_finalized: str | None) -> None:
    store(database, 10, "old 10", finalized_hash=hash_of_finalized)
    finality = finality_of(database, Chain(changed=6))
    if hash_of_finalized != "of another chain":
        assert finality.undo_reorganised(HEAD) == []
        return
    with pytest.raises(FinalizedBlockChanged, match=r"^block 3 was final and is another one now"):
        finality.undo_reorganised(HEAD)
    assert finality.cursor() == Cursor(10, "old 10", 3, hash_of_finalized)


@pytest.mark.parametrize("row", [None, (10, None)])
def test_a_chain_that_was_not_followed_is_compared_from_the_finalized_block(database: Database, row: Any) -> None:
    if row is not None:
        store(database, *row)
    with database.transaction() as connection:
        add_operation(connection, "final", block_number=7, block_hash="not compared")
        add_operation(connection, "later", block_number=8, block_hash="new 8")
    finality = finality_of(database, Chain(finalized=7))
    assert finality.undo_reorganised(HEAD) == ["later"]
    assert finality.undo_reorganised(HEAD) is None


def test_a_cursor_that_another_process_moved_meanwhile_stays(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(database, 12, "new 12")
    finality = finality_of(database, Chain(changed=6))
    with monkeypatch.context() as patch:
        patch.setattr(finality, "cursor", lambda: Cursor(10, "old 10", 3, None))
        assert finality.undo_reorganised(HEAD) == []
    assert finality.cursor() == Cursor(12, "new 12", 3, None)


def test_only_rows_that_a_reopened_operation_creates_are_pending_again(database: Database) -> None:
    with database.transaction() as connection:
        (run, booking), (other_run, other_booking) = add_rows(connection), add_rows(connection)
        add_operation(connection, "run", kind="createEventRunFor", subject=run)
        add_operation(connection, "booking", kind="bookEvent", subject=booking)
        add_operation(connection, "cancelled run", kind="cancelEvent", subject=other_run)
        add_operation(connection, "cancelled booking", kind="cancelBooking", subject=other_booking)
        add_operation(connection, "kept", kind="bookEvent", subject=other_booking, block_hash="kept")
    runs, bookings = contents(database, event_runs), contents(database, event_run_bookings)
    with database.transaction() as connection:
        keys = finality_module._reopen(connection, 1, ["old 9"])
    assert sorted(keys) == ["booking", "cancelled booking", "cancelled run", "run"]
    pending = {"blockchain_status": "pending", "blockchain_tx_hash": None, "blockchain_error": None, "status": "active"}
    bookings[booking] |= pending | {"blockchain_booking_id": None}
    runs[run] |= pending | {"blockchain_event_run_id": None, "seats_booked": 0}
    runs[run] |= {"blockchain_block": 0, "refreshed_block": 0, "refresh_due": False}
    assert (contents(database, event_runs), contents(database, event_run_bookings)) == (runs, bookings)


@pytest.mark.parametrize(
    ("values", "after"),
    [
        ({"blockchain_block": 8, "refreshed_block": 8}, None),
        ({"blockchain_block": 9, "refreshed_block": 7}, {"blockchain_block": 8, "refreshed_block": 7}),
        ({"blockchain_block": 7, "refreshed_block": 9}, {"blockchain_block": 7, "refreshed_block": 8}),
        ({"blockchain_block": 9, "refreshed_block": 9, "blockchain_event_run_id": None}, None),
    ],
)
def test_runs_with_values_of_later_blocks_are_read_again(
    database: Database, values: dict[str, Any], after: dict[str, Any] | None
) -> None:
    with database.transaction() as connection:
        run, _ = add_rows(connection)
        connection.execute(event_runs.update().values({"refresh_due": False} | values))
    runs = contents(database, event_runs)
    with database.transaction() as connection:
        finality_module._read_runs_again(connection, 8)
    runs[run] |= {} if after is None else after | {"refresh_due": True}
    assert contents(database, event_runs) == runs

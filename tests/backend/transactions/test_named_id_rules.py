"""Whether the numbers in a call still mean its rows: rows of creations, the reconciler's cursor, blocks of a chain."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from app.db.database import Database
from app.db.tables import chain_cursors, event_run_bookings, event_runs, experiences, operations, users
from app.services.codec import event_stake_codec
from app.services.operation_types import Attempt, Operation
from app.services.transactions import named_ids as module
from app.services.transactions.named_ids import NamedIds, _deciding_blocks
from app.services.transactions.policy import TransactionPolicy
from sqlalchemy import delete, func, insert, select, update

CHAIN, CONTRACT, SENDER = 5, "0x" + "cc" * 20, "0x" + "aa" * 20
POLICY = TransactionPolicy(confirmations=3, head_max_age=2)
NUMBER, BLOCK = 7, 100
CALLS: dict[str, tuple[Any, ...]] = {
    "bookEvent": (NUMBER, 2),
    "bookEventFor": (SENDER, NUMBER, 2),
    "cancelEvent": (NUMBER,),
    "expireEvent": (NUMBER,),
    "completeEvent": (NUMBER, []),
}


class World:
    """A run and a booking of it, with the operations that created them, both confirmed in blocks of the chain."""

    def __init__(self, patch: pytest.MonkeyPatch, database: Database) -> None:
        self.database, self.now, self.read = database, 50.0, list[int]()
        self.hashes = {BLOCK: "0xb", BLOCK + 1: "0xb1", BLOCK + 9: "0xcursor"}
        patch.setattr(module.rpc, "block_header", self._header)
        w3: Any = self
        self.named_ids = NamedIds(w3, database, lambda: self.now)
        self.run, self.booking = uuid4(), uuid4()
        with database.autocommit() as connection:
            user = connection.execute(insert(users).values(name="u").returning(users.c.id)).scalar_one()
            title = {"host_id": user, "title": "t"}
            experience = connection.execute(insert(experiences).returning(experiences.c.id), title).scalar_one()
            row = {"id": self.run, "experience_id": experience, "host_id": user, "starts_at": func.now()}
            row |= {"max_seats": 9, "seats_booked": 0, "price_inr": 1, "status": "active"}
            on_chain = {"blockchain_status": "confirmed", "blockchain_event_run_id": NUMBER}
            connection.execute(insert(event_runs).values(**row, **on_chain))
            row = {"id": self.booking, "event_run_id": self.run, "user_id": user, "seats": 1, "total_inr": 1}
            row |= {"status": "active", "blockchain_status": "confirmed", "blockchain_booking_id": NUMBER}
            connection.execute(insert(event_run_bookings).values(**row))
        self.create("run", self.run, BLOCK, "0xb")
        self.create("booking", self.booking, BLOCK + 1, "0xb1", "bookEventFor")

    def create(self, key: str, subject: UUID, block: int, block_hash: str, kind: str = "createEventRunFor") -> None:
        attempt = Attempt("0x1", "0x", block, 1, 1, 1, 1).to_json()
        row = {"key": key, "request": "", "kind": kind, "chain_id": CHAIN, "sender": SENDER, "to_address": CONTRACT}
        row |= {"data": b"", "value_wei": 0, "state": "confirmed", "nonce": block, "attempts": [attempt]}
        row |= {"tx_hash": f"0x{block}", "block_number": block, "block_hash": block_hash}
        with self.database.autocommit() as connection:
            connection.execute(insert(operations).values(**row, subject=subject))

    def change(self, key: str, **values: Any) -> None:
        with self.database.autocommit() as connection:
            connection.execute(update(operations).where(operations.c.key == key).values(**values))

    def renumber(self, number: int) -> None:
        with self.database.autocommit() as connection:
            connection.execute(update(event_runs).values(blockchain_event_run_id=number))
            connection.execute(update(event_run_bookings).values(blockchain_booking_id=number))

    def follow_to(self, block: int, finalized: int, chain: int = CHAIN) -> None:
        """Sets the reconciler's cursor."""
        with self.database.autocommit() as connection:
            connection.execute(delete(chain_cursors))
            row = {"chain_id": chain, "contract": CONTRACT, "block_number": block, "block_hash": "0xcursor"}
            connection.execute(insert(chain_cursors).values(**row, finalized_block=finalized))

    def doubt(self, kind: str, subject: UUID | None = None, **policy: Any) -> tuple[str, bool] | None:
        is_booking = kind == "cancelBooking"
        data = event_stake_codec().call(CONTRACT, kind, *CALLS.get(kind, (NUMBER,))).data  # type: ignore[arg-type]
        asked = self.booking if kind in ("cancelBooking", "bookEvent", "bookEventFor") else self.run
        with self.database.autocommit() as connection:
            now = connection.execute(select(func.clock_timestamp())).scalar_one()
        columns: dict[str, Any] = dict.fromkeys(Operation.__dataclass_fields__)
        columns |= {"kind": kind, "data": data, "subject": subject or asked, "created_at": now - timedelta(seconds=60)}
        assert is_booking == (asked is self.booking and "book" not in kind)
        self.read.clear()
        found = self.named_ids.find_doubt(Operation(**columns), TransactionPolicy(**vars(POLICY) | policy))
        return found and (found.reason, found.is_final)

    def _header(self, w3: Any, number: int) -> Any:
        assert w3 is self
        self.read.append(number)
        return SimpleNamespace(hash=self.hashes[number]) if number in self.hashes else None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, database: Database) -> World:
    return World(monkeypatch, database)


NAMING = ("bookEvent", "bookEventFor", "cancelEvent", "expireEvent", "completeEvent", "cancelBooking")


def creation_of(kind: str) -> tuple[str, int]:
    """Returns the operation that created what a call names, and its block."""
    return ("booking", BLOCK + 1) if kind == "cancelBooking" else ("run", BLOCK)


def chain_of(kind: str) -> list[int]:
    """Returns the blocks that must be in the chain."""
    return [BLOCK, BLOCK + 1] if kind == "completeEvent" else [creation_of(kind)[1]]


@pytest.mark.parametrize("kind", NAMING)
def test_a_call_is_right_while_the_blocks_of_what_it_names_are_in_the_chain(world: World, kind: str) -> None:
    assert world.doubt(kind) is None
    assert world.read == chain_of(kind)
    block = creation_of(kind)[1]
    reason = f"block {block}, which stands for what it names, is not in the chain any more"
    world.now += 2
    for block_hash in ("0xother", None):
        world.hashes[block] = block_hash  # type: ignore[assignment]
        if block_hash is None:
            del world.hashes[block]
        assert world.doubt(kind) == (reason, False)
    world.now += 1000
    assert world.doubt(kind, confirmations=1) is None, "each block is final at once"
    assert world.read == []


@pytest.mark.parametrize("kind", NAMING)
@pytest.mark.parametrize("state", ["signed", "submitted", "mined", "failed"])
def test_a_call_waits_for_what_it_names_and_ends_with_it(world: World, kind: str, state: str) -> None:
    world.change(creation_of(kind)[0], state=state)
    dropped = ("a reorganisation dropped the creation of what it names, which is sent again", False)
    gone = ("what it names is not on chain any more", True)
    assert world.doubt(kind) == (gone if state == "failed" else dropped)


@pytest.mark.parametrize("kind", NAMING)
def test_a_call_that_names_another_number_is_wrong_for_good(world: World, kind: str) -> None:
    world.renumber(NUMBER + 1)
    assert world.doubt(kind) == ("a reorganisation gave what it names another number on chain", True)


def test_what_names_nothing_is_never_in_doubt(world: World) -> None:
    world.renumber(NUMBER + 1)
    for kind in ("withdrawPlatformFees", "createEventRunFor"):
        operation: Any = SimpleNamespace(kind=kind, subject=world.run)
        assert world.named_ids.find_doubt(operation, POLICY) is None
    operation = SimpleNamespace(kind="cancelEvent", subject=None)
    assert world.named_ids.find_doubt(operation, POLICY) is None
    assert world.doubt("cancelEvent", uuid4()) is None, "no row created it here"


@pytest.mark.parametrize(
    ("values", "is_moved"),
    [
        ({"reorged": True, "updated_at": func.now()}, True),
        ({"reorged": True, "updated_at": func.now() - timedelta(hours=1)}, False),
        ({"reorged": False, "updated_at": func.now()}, False),
        ({"state": "mined", "updated_at": func.now() - timedelta(hours=1)}, False),
        ({"state": "failed", "updated_at": func.now() - timedelta(hours=1)}, False),
    ],
)
def test_bookings_that_moved_make_the_list_of_those_who_attended_wrong(
    world: World, values: dict[str, Any], is_moved: bool
) -> None:
    world.change("booking", **values)
    moved = ("a reorganisation gave what it names another number on chain", True)
    assert world.doubt("completeEvent") == (moved if is_moved else None)
    assert world.doubt("cancelEvent") is None


def test_only_creations_are_looked_at(world: World) -> None:
    world.create("cancel", world.run, BLOCK + 2, "0xz", "cancelEvent")
    assert world.doubt("completeEvent") is None
    assert world.read == [BLOCK, BLOCK + 1]


def test_a_block_that_was_just_seen_is_not_read_again(world: World) -> None:
    assert world.doubt("cancelEvent") is None
    assert world.read == [BLOCK]
    world.now += 1.9
    assert world.doubt("cancelEvent") is None
    assert world.read == []
    assert world.doubt("cancelBooking") is None
    assert world.read == [BLOCK + 1], "another block"
    assert world.doubt("cancelEvent") is None
    world.now += 2
    world.hashes[BLOCK] = "0xother"
    assert world.doubt("cancelEvent") is not None
    world.hashes[BLOCK] = "0xb"
    assert world.doubt("cancelEvent") is None


@pytest.mark.parametrize(
    ("cursor", "finalized", "blocks"),
    [
        (BLOCK + 9, 0, [BLOCK + 9]),
        (BLOCK + 9, BLOCK - 1, [BLOCK + 9]),
        (BLOCK + 9, BLOCK, [BLOCK + 9]),  # the run's block is final, the booking's is not
        (BLOCK + 9, BLOCK + 1, []),
    ],
)
def test_the_reconcilers_cursor_stands_for_all_blocks_before_it(
    world: World, cursor: int, finalized: int, blocks: list[int]
) -> None:
    world.follow_to(cursor, finalized)
    assert world.doubt("completeEvent") is None
    assert world.read == blocks
    world.follow_to(cursor, finalized, chain=CHAIN + 1)
    world.now += 10
    assert world.doubt("completeEvent") is None
    assert world.read == [BLOCK, BLOCK + 1], "the cursor of another network"


def creation(**values: Any) -> Any:
    row = {"block_number": 10, "block_hash": "0xa", "finalized_block": 5, "cursor_block": None, "cursor_hash": None}
    return SimpleNamespace(**row | values)


@pytest.mark.parametrize(
    ("values", "blocks"),
    [
        ({}, [(10, "0xa")]),
        ({"block_hash": None}, []),
        ({"finalized_block": 9}, [(10, "0xa")]),
        ({"finalized_block": 10}, []),
        ({"cursor_block": 10, "cursor_hash": "0xc"}, [(10, "0xc")]),
        ({"cursor_block": 9, "cursor_hash": "0xc"}, [(10, "0xa")]),
        ({"cursor_block": 11, "cursor_hash": None}, [(10, "0xa")]),
    ],
)
def test_the_block_that_decides(values: dict[str, Any], blocks: list[Any]) -> None:
    assert _deciding_blocks([creation(**values)]) == blocks
    other = creation(block_number=12, block_hash="0xd")
    assert _deciding_blocks([other, creation(**values), other]) == [*blocks, (12, "0xd")]
    skipped: Callable[..., Any] = creation
    assert _deciding_blocks([skipped(block_hash=None), other]) == [(12, "0xd")]

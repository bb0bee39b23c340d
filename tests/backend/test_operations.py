"""The table `operations`: nonces, open operations, and changes that happen once."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from app.core.errors import NotPaid, Paused
from app.db.database import Database
from app.db.tables import OPERATION_STATES, event_run_bookings, pauses, payments, users
from app.db.tables import operations as table
from app.services import nonce_queries, operations
from app.services.codec import Call
from app.services.operation_types import SENT_STATES, Attempt, Draft, NewRow, Operation, Use
from app.services.rpc_answers import checksummed
from fixed_clock import NOW
from psycopg.errors import NotNullViolation, UniqueViolation
from sqlalchemy import Connection, bindparam, func, insert, select, update

HERE, THERE = 1, 11_155_111
ALICE, BOB = "0x" + "a1" * 20, "0x" + "b0" * 20
CONTRACT = checksummed("0x" + "c0" * 20)
MINED = {"tx_hash": "0xab", "block_number": 7}


def attempt(nonce: int) -> Attempt:
    return Attempt("0xab", "0xcd", nonce, gas_limit=21_000, max_fee_per_gas=2, priority_fee_per_gas=1, latest_block=7)


def prepared(database: Database, key: str, chain_id: int = HERE, sender: str = ALICE) -> Operation:
    call = Call(CONTRACT, "f", b"\1\2", 3)
    with database.autocommit() as connection:
        return operations.create(connection, key, "asked", Draft(call, chain_id, sender))


def signed(database: Database, key: str, nonce: int, chain_id: int = HERE, sender: str = ALICE) -> Operation:
    operation = prepared(database, key, chain_id, sender)
    with database.autocommit() as connection:
        signed_operation = nonce_queries.sign(connection, operation, attempt(nonce), used_on_chain=nonce)
    assert signed_operation is not None
    return signed_operation


def find(database: Database, key: str) -> Operation | None:
    with database.autocommit() as connection:
        return operations.find(connection, key)


def next_nonce(database: Database, chain_id: int = HERE, sender: str = ALICE) -> int:
    with database.autocommit() as connection:
        return nonce_queries.next_nonce(connection, chain_id, sender) or 0


def before(database: Database, operation: Operation) -> list[str]:
    with database.autocommit() as connection:
        return [earlier.key for earlier in operations.open_with_lower_nonce(connection, operation)]


def close(database: Database, operation: Operation, **options: Any) -> Operation | None:
    with database.autocommit() as connection:
        return operations.close(connection, operation, SENT_STATES, [], state="confirmed", **MINED, **options)


def test_a_stored_operation_is_found_with_all_its_values(database: Database) -> None:
    operation = prepared(database, "k")
    assert find(database, "k") == operation
    assert (operation.state, operation.attempts, operation.nonce) == ("prepared", [], None)
    assert (operation.requeued, operation.reorged, operation.held, operation.error) == (0, False, None, None)
    call_columns = (operation.kind, operation.chain_id, operation.sender, operation.to_address)
    assert call_columns == ("f", HERE, ALICE, CONTRACT)
    assert (operation.request, operation.subject, operation.data, operation.value_wei) == ("asked", None, b"\1\2", 3)
    assert find(database, "another") is None


def test_a_constraint_violation_is_not_taken_for_a_known_key(database: Database) -> None:
    draft = Draft(Call(CONTRACT, "f", b""), HERE, ALICE)
    with database.autocommit() as connection, pytest.raises(NotNullViolation, match="null value"):
        operations.create(connection, "k", None, draft)  # type: ignore[arg-type]


def test_sign_stores_the_attempt_and_its_nonce(database: Database) -> None:
    operation = signed(database, "k", 4)
    assert find(database, "k") == operation
    assert (operation.state, operation.nonce, operation.attempts) == ("signed", 4, [attempt(4)])


def test_next_nonce_is_counted_by_account_and_network(database: Database) -> None:
    assert next_nonce(database) == 0
    signed(database, "k", 0)
    assert next_nonce(database) == 1
    signed(database, "on another chain", 5, chain_id=THERE)
    signed(database, "of another account", 8, sender=BOB)
    nonces = [next_nonce(database, *account) for account in ((HERE, ALICE), (THERE, ALICE), (HERE, BOB), (THERE, BOB))]
    assert nonces == [1, 6, 9, 0]


def test_sign_clears_the_reason_for_holding(database: Database) -> None:
    operation = prepared(database, "k")
    with database.autocommit() as connection:
        held = operations.change(connection, operation, ("prepared",), held="fees are too high")
        assert held is not None
        signed_operation = nonce_queries.sign(connection, held, attempt(0))
    assert signed_operation == find(database, "k")
    assert (held.held, signed_operation and signed_operation.held) == ("fees are too high", None)


@pytest.mark.parametrize("nonce", [0, 3])
def test_sign_refuses_a_nonce_that_is_not_above_the_last_one(database: Database, nonce: int) -> None:
    signed(database, "k", 3)
    operation = prepared(database, "late")
    with database.autocommit() as connection:
        assert nonce_queries.sign(connection, operation, attempt(nonce)) is None
    assert find(database, "late") == operation
    assert next_nonce(database) == 4


def test_an_operation_is_signed_once(database: Database) -> None:
    operation = prepared(database, "k")
    signed_once = [None, None]
    for nonce in (0, 1):
        with database.autocommit() as connection:
            signed_once[nonce] = nonce_queries.sign(connection, operation, attempt(nonce))
    assert find(database, "k") == signed_once[0]
    assert signed_once[1] is None
    assert next_nonce(database) == 1


def test_open_with_lower_nonce_selects_by_account_and_network(database: Database) -> None:
    signed(database, "second", 1)
    first = signed(database, "first of another", 0, sender=BOB)
    signed(database, "elsewhere", 0, chain_id=THERE)
    signed(database, "closed", 2)
    signed(database, "third", 3)
    last = signed(database, "last", 4)
    signed(database, "later", 5)
    prepared(database, "without a nonce")
    closed = find(database, "closed")
    assert closed is not None
    assert close(database, closed)
    assert before(database, last) == ["second", "third"]
    assert before(database, first) == []


def test_open_operations_are_ordered_by_nonce_and_then_by_age(database: Database) -> None:
    for key in ("old", "young"):
        prepared(database, key)
    prepared(database, "elsewhere", chain_id=THERE)
    low, high = signed(database, "low", 1), signed(database, "high", 2)
    signed(database, "of another account", 0, sender=BOB)

    def keys() -> list[str]:
        with database.autocommit() as connection:
            return [operation.key for operation in operations.open_operations(connection, HERE)]

    assert keys() == ["of another account", "low", "high", "old", "young"]
    assert close(database, low)
    assert close(database, high)
    assert keys() == ["of another account", "old", "young"]


def test_closing_in_order_waits_for_the_same_account_and_network_only(database: Database) -> None:
    first = signed(database, "first", 1)
    signed(database, "of another account", 0, sender=BOB)
    signed(database, "elsewhere", 0, chain_id=THERE)
    signed(database, "later", 9)
    second = signed(database, "second", 10)
    assert close(database, second, in_order=True) is None
    assert find(database, "second") == second
    assert close(database, first, in_order=True)
    later = find(database, "later")
    assert later is not None
    assert close(database, later, in_order=True)
    closed = close(database, second, in_order=True, gas_used=5, gas_price_wei=6)
    assert closed == find(database, "second")
    assert closed is not None
    assert (closed.state, closed.tx_hash, closed.block_number) == ("confirmed", "0xab", 7)
    assert (closed.gas_used, closed.gas_price_wei) == (5, 6)
    assert closed.updated_at > second.updated_at


def test_change_and_close_require_the_state_and_nonce_that_the_caller_saw(database: Database) -> None:
    operation = signed(database, "k", 1)

    def change(seen: Operation, *states: str, **values: Any) -> Operation | None:
        with database.autocommit() as connection:
            return operations.change(connection, seen, states, **values)

    unseen = prepared(database, "unseen")
    assert change(operation, "submitted", "mined", state="prepared") is None
    assert find(database, "k") == operation
    submitted = change(operation, "prepared", "signed", state="submitted", held="why")
    assert submitted == find(database, "k")
    assert submitted is not None
    assert (submitted.state, submitted.held, submitted.nonce) == ("submitted", "why", 1)
    assert submitted.updated_at > operation.updated_at
    assert change(replace(submitted, attempts=[]), "submitted", held="an attempt was not seen") is None
    requeued = change(submitted, "submitted", state="signed", nonce=2)
    assert requeued is not None
    assert change(submitted, "signed", held="too late") is None
    assert close(database, submitted) is None
    assert find(database, "k") == requeued
    assert find(database, "unseen") == unseen
    assert close(database, requeued)
    assert close(database, requeued) is None


def test_lock_returns_the_current_row(database: Database) -> None:
    operation, _ = signed(database, "k", 1), prepared(database, "other")
    with database.transaction() as connection:
        assert operations.lock(connection, "k") == operation


def test_nobody_else_takes_a_locked_row(database: Database) -> None:
    for key in ("k", "other"):
        prepared(database, key)
    free = "SELECT key FROM operations FOR UPDATE SKIP LOCKED"
    with database.transaction() as connection:
        operations.lock(connection, "k")
        with database.transaction() as another:
            assert another.exec_driver_sql(free).scalars().all() == ["other"]


def test_wei_that_are_under_way_are_those_of_signed_operations_in_no_block(database: Database) -> None:
    wei = dict(zip(OPERATION_STATES, (2**number for number in range(70, 77)), strict=True))
    with database.transaction() as connection:
        assert operations.unmined_wei(connection, HERE, ALICE) == 0
        for number, (state, value) in enumerate(wei.items()):
            for chain_id, sender in ((HERE, ALICE), (THERE, ALICE), (HERE, BOB)):
                row = {"key": f"{number} {chain_id} {sender}", "request": "", "kind": "f", "chain_id": chain_id}
                row |= {"sender": sender, "to_address": CONTRACT, "data": b"", "value_wei": value, "state": state}
                row |= {} if state in ("prepared", "rejected") else {"nonce": number}
                row |= MINED if state in ("mined", "confirmed", "failed") else {}
                connection.execute(insert(table).values(row))
        assert operations.unmined_wei(connection, HERE, ALICE) == wei["signed"] + wei["submitted"]


def test_operations_without_a_nonce_are_ordered_by_age(database: Database) -> None:
    for key in ("third", "first", "second"):
        prepared(database, key)
    with database.transaction() as connection:
        for age, key in enumerate(("third", "second", "first")):
            at = func.clock_timestamp() - timedelta(minutes=age)
            connection.execute(update(table).where(table.c.key == key).values(created_at=at))
        assert [each.key for each in operations.open_operations(connection, HERE)] == ["first", "second", "third"]
        assert operations.open_operations(connection, THERE) == []


def test_an_abandoned_operation_is_changed_by_who_has_seen_that_it_is(database: Database) -> None:
    """Whatever the time zone of the session; also in the hour that comes twice in a year."""
    operation = signed(database, "k", 1)
    with database.transaction() as connection:
        connection.exec_driver_sql("SET LOCAL TIME ZONE 'Europe/Berlin'")
        for hour in (0, 1):
            at = datetime(2029, 10, 28, hour, 30, tzinfo=UTC)
            abandoned = operations.change(connection, operation, ("signed",), abandoned_at=at)
            assert abandoned is not None
            assert abandoned.abandoned_at is not None
            assert abandoned.abandoned_at.timestamp() == at.timestamp()
            assert operations.change(connection, operation, ("signed",), held="seen too early") is None
            other = replace(abandoned, abandoned_at=at + timedelta(hours=1))
            assert operations.change(connection, other, ("signed",), held="another time") is None
            held = operations.change(connection, abandoned, ("signed",), held="seen", abandoned_at=None)
            assert held is not None
            operation = held


@pytest.mark.parametrize("wei", [3.0, Decimal(3), True])
def test_only_ints_are_stored_as_wei(database: Database, wei: Any) -> None:
    """In the operation, with a new row or without, and in the row."""
    call, run = Call(CONTRACT, "f", b"", wei), uuid4()
    booking: dict[str, Any] = {"event_run_id": run, "user_id": run, "seats": 1, "total_inr": 1}
    subjects = (run, NewRow(event_run_bookings, booking), NewRow(event_run_bookings, booking | {WEI: wei}))
    for subject, sent in zip(subjects, (call, call, call._replace(value=3)), strict=True):
        with database.autocommit() as connection, pytest.raises(TypeError, match="wei are ints, not"):
            operations.create(connection, "k", "", Draft(sent, HERE, ALICE, subject))
    assert find(database, "k") is None


WEI = "blockchain_payment_wei"


def test_for_how_long_an_operation_is_held(connection: Connection) -> None:
    """The clock of the database stands still."""
    draft = Draft(Call(CONTRACT, "f", b""), HERE, ALICE)
    operation, other = (operations.create(connection, key, "", draft) for key in ("k", "other"))
    operations.change(connection, other, ("prepared",), held="why", held_at=NOW - timedelta(days=1))
    assert operations.held_seconds(connection, "k") == 0
    operations.change(connection, operation, ("prepared",), held="why", held_at=NOW - timedelta(seconds=90))
    assert operations.held_seconds(connection, "k") == 90


@pytest.mark.parametrize("is_paused", [False, True])
def test_a_pause_is_said_before_what_is_not_paid(database: Database, is_paused: bool) -> None:
    """Nobody shall pay for what is not taken at present."""

    def check(connection: Connection) -> None:
        raise NotPaid("It is not paid.")

    nothing = update(payments).where(payments.c.id == uuid4()).values(operation_key=bindparam("key"))
    somebody = insert_user(database)
    used = update(users).where(users.c.id == somebody).values(name=bindparam("key"))
    booking: dict[str, Any] = {"event_run_id": uuid4(), "user_id": uuid4(), "seats": 1, "total_inr": 1}
    row = NewRow(event_run_bookings, booking, Use(nothing, {}, check))
    if is_paused:
        with database.transaction() as connection:
            connection.execute(insert(pauses).values(paused_by="operator", reason="to look"))
    with database.autocommit() as connection, pytest.raises(Paused if is_paused else NotPaid):
        operations.create(connection, "k", "", Draft(Call(CONTRACT, "f", b"", 3), HERE, ALICE, row))
    assert find(database, "k") is None
    for use in (None, Use(used, {}, check)):
        new_user = NewRow(users, {"name": "new"}, use)
        with database.autocommit() as connection, pytest.raises(Paused) if is_paused else nullcontext():
            operations.create(
                connection, f"k {use is None}", "", Draft(Call(CONTRACT, "f", b""), HERE, ALICE, new_user)
            )
    with database.autocommit() as connection:
        names = set(connection.execute(select(users.c.name)).scalars())
    assert names == ({"somebody"} if is_paused else {"new", "k False"}), "nothing is stored or used during a pause"


def insert_user(database: Database) -> UUID:
    with database.transaction() as connection:
        user = connection.execute(insert(users).values(name="somebody").returning(users.c.id)).scalar_one()
    return UUID(str(user))


def test_what_is_signed_already_is_stored_unless_its_key_or_nonce_is_taken(database: Database) -> None:
    draft = Draft(Call(CONTRACT, "f", b"\1", 3), HERE, ALICE)

    def create(key: str, nonce: int) -> Operation | None:
        with database.autocommit() as connection:
            return operations.create_signed(connection, key, draft, attempt(nonce))

    operation = create("k", 4)
    assert operation is not None
    assert operation == find(database, "k")
    assert (operation.state, operation.nonce, operation.attempts) == ("signed", 4, [attempt(4)])
    called = (operation.kind, operation.chain_id, operation.sender, operation.to_address)
    assert (called, operation.data, operation.value_wei) == (("f", HERE, ALICE, CONTRACT), b"\1", 3)
    assert (create("k", 5), create("other", 4)) == (None, None)
    assert (find(database, "k"), find(database, "other")) == (operation, None)


def test_a_change_by_an_expression_is_a_change_as_well(connection: Connection) -> None:
    operation = operations.create(connection, "k", "", Draft(Call(CONTRACT, "f", b""), HERE, ALICE))
    connection.execute(update(table).values(updated_at=NOW - timedelta(days=1)))
    changed = operations.change(connection, operation, ("prepared",), held="why", held_at=func.clock_timestamp())
    assert changed is not None
    assert (changed.held, changed.held_at, changed.updated_at) == ("why", NOW, NOW)


def test_operations_with_nonces_between_two_of_an_account(database: Database) -> None:
    for nonce in (2, 3, 4):
        signed(database, f"nonce {nonce}", nonce)
    with database.transaction() as connection:  # the last one is stored first
        connection.execute(update(table).where(table.c.nonce == 2).values(nonce=5))
        connection.execute(update(table).where(table.c.nonce == 4).values(held="stored anew"))
    signed(database, "last", 6)
    signed(database, "elsewhere", 3, chain_id=THERE)
    signed(database, "of another account", 3, sender=BOB)
    last = find(database, "last")
    assert last is not None
    with database.transaction() as connection:
        for method in ("indexscan", "bitmapscan"):  # which give rows in an order that nobody asked for
            connection.exec_driver_sql(f"SET LOCAL enable_{method} = off")
        assert [each.nonce for each in nonce_queries.with_nonces(connection, last, 4)] == [4, 5]
        assert nonce_queries.with_nonces(connection, last, 6) == []


def test_another_row_with_the_id_of_the_new_one_is_no_known_key(database: Database) -> None:
    user = {"id": uuid4(), "name": "somebody"}
    with database.transaction() as connection:
        connection.execute(insert(users).values(user))
    draft = Draft(Call(CONTRACT, "f", b""), HERE, ALICE, NewRow(users, user))
    with database.autocommit() as connection, pytest.raises(UniqueViolation):
        operations.create(connection, "k", "", draft)
    assert find(database, "k") is None


def test_what_is_closed_meanwhile_is_not_signed(database: Database) -> None:
    """The statement that signs locks the row before it looks at the state."""
    operation, found = prepared(database, "k"), list[Operation | None]()

    def sign() -> None:
        with database.autocommit() as connection:
            found.append(nonce_queries.sign(connection, operation, attempt(0)))

    worker = threading.Thread(target=sign)
    with database.transaction() as connection:
        connection.execute(update(table).where(table.c.key == "k").values(state="rejected"))
        worker.start()
        blocked = "SELECT count(*) FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        while worker.is_alive() and not connection.exec_driver_sql(blocked).scalar_one():
            time.sleep(0.01)
    worker.join()
    stored = find(database, "k")
    assert stored is not None
    assert (found, stored.state, stored.nonce, next_nonce(database)) == ([None], "rejected", None, 0)

"""Which nonce an operation gets: each condition of one statement, at its edge. The database's clock stands still."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from app.db.tables import OPERATION_STATES, nonces, operations, order_counts, orphans, pauses
from app.services import nonce_queries
from app.services.codec import Call
from app.services.operation_types import NOT_HELD, Attempt, Draft, Operation
from app.services.operations import create
from app.services.rpc_answers import checksummed
from fixed_clock import NOW
from sqlalchemy import Connection, insert, select, update

HERE, THERE = 1, 11_155_111
ALICE, BOB, CONTRACT = (checksummed("0x" + digits * 20) for digits in ("a1", "b0", "c0"))
NOW_US = int(NOW.timestamp()) * 1_000_000
SECONDS = 1_000_000


def attempt(nonce: int, tx_hash: str = "0xab") -> Attempt:
    return Attempt(tx_hash, "0xcd", nonce, 21_000, 2, 1, 7)


def prepared(connection: Connection, key: str = "k", chain_id: int = HERE, sender: str = ALICE) -> Operation:
    operation = create(connection, key, "", Draft(Call(CONTRACT, "f", b"", 3), chain_id, sender))
    held = {"held": "why", "held_cause": "orphan", "held_at": NOW, "updated_at": NOW - timedelta(days=1)}
    connection.execute(update(operations).where(operations.c.key == key).values(held))
    return replace(operation, **held)


def set_next(connection: Connection, number: int | None, chain_id: int = HERE, sender: str = ALICE) -> None:
    if number is not None:
        connection.execute(insert(nonces).values(chain_id=chain_id, sender=sender, next=number))


def all_next(connection: Connection) -> dict[tuple[int, str], int]:
    return {(row.chain_id, row.sender): row.next for row in connection.execute(select(nonces))}


def rows(connection: Connection) -> dict[str, Operation]:
    return {row.key: Operation.from_row(row) for row in connection.execute(select(operations))}


def signs(connection: Connection, operation: Operation, nonce: int = 5, **options: Any) -> bool:
    """Whether it is signed. If it is, exactly that is stored; if not, nothing is changed."""
    for key, chain_id, sender in (("of account", HERE, ALICE), ("elsewhere", THERE, ALICE), ("of other", HERE, BOB)):
        prepared(connection, key, chain_id, sender)
    before, next_before = rows(connection), all_next(connection)
    counts = connection.execute(select(order_counts)).all()
    signed = nonce_queries.sign(connection, operation, attempt(nonce), **options)
    if signed is None:
        assert (rows(connection), all_next(connection)) == (before, next_before)
        assert connection.execute(select(order_counts)).all() == counts
        return False
    new = {"state": "signed", "nonce": nonce, "updated_at": NOW, "spending": options.get("spending")}
    attempts = [*operation.attempts, attempt(nonce)]
    assert signed == replace(before["k"], attempts=attempts, **new, **NOT_HELD)
    assert rows(connection) == before | {"k": signed}
    assert all_next(connection) == next_before | {(HERE, ALICE): nonce + 1}
    return True


@pytest.mark.parametrize(
    ("next_nonce", "nonce", "used", "is_signed"),
    [
        (None, 5, 5, True),  # the first one of an account: the chain says how many it has used
        (None, 5, 4, False),
        (None, 5, 6, False),
        (5, 5, 0, True),
        (5, 5, 5, True),
        (5, 4, 0, False),
        (5, 4, 4, False),
        (5, 6, 0, False),  # it would leave a gap
        (5, 6, 5, False),
        (5, 6, 7, False),
        (5, 6, 6, True),  # the chain has used the gap
        (2**31 - 1, 2**31 - 1, 0, True),
    ],
)
def test_a_nonce_follows_the_last_one_and_leaves_no_gap(
    connection: Connection, next_nonce: int | None, nonce: int, used: int, is_signed: bool
) -> None:
    set_next(connection, next_nonce)
    for account in ((THERE, ALICE), (HERE, BOB)):
        set_next(connection, 5, *account)
    assert signs(connection, prepared(connection), nonce, used_on_chain=used) == is_signed


@pytest.mark.parametrize("state", OPERATION_STATES)
def test_only_a_prepared_operation_is_signed(connection: Connection, state: str) -> None:
    operation = prepared(connection)
    values: dict[str, Any] = {"state": state, "nonce": None if state in ("prepared", "rejected") else 3}
    values |= {"tx_hash": "0x", "block_number": 3} if state in ("mined", "confirmed", "failed") else {}
    connection.execute(update(operations).where(operations.c.key == "k").values(values))
    assert signs(connection, operation, used_on_chain=5) == (state == "prepared")


@pytest.mark.parametrize(("stored", "seen", "is_signed"), [(0, 0, True), (1, 1, True), (1, 0, False), (2, 1, False)])
def test_who_signs_has_seen_all_attempts(connection: Connection, stored: int, seen: int, is_signed: bool) -> None:
    operation, earlier = prepared(connection), [attempt(3, "0x1"), attempt(4, "0x2")]
    values = {"attempts": [each.to_json() for each in earlier[:stored]]}
    connection.execute(update(operations).where(operations.c.key == "k").values(values))
    assert signs(connection, replace(operation, attempts=earlier[:seen]), used_on_chain=5) == is_signed


@pytest.mark.parametrize("options", [{}, {"is_exit": False}, {"is_exit": True}])
def test_only_exits_are_signed_during_a_pause(connection: Connection, options: dict[str, bool]) -> None:
    operation = prepared(connection)
    connection.execute(insert(pauses).values(paused_by="a", reason="b", ended_at=NOW, ended_by="a"))
    connection.execute(insert(pauses).values(paused_by="a", reason="b"))
    assert signs(connection, operation, used_on_chain=5, **options) == options.get("is_exit", False)


@pytest.mark.parametrize("off", [None, 0, 5 * SECONDS - 1, 5 * SECONDS, 1 - 5 * SECONDS, -5 * SECONDS])
def test_what_is_counted_has_the_databases_time(connection: Connection, off: int | None) -> None:
    operation = prepared(connection)
    spending = None if off is None else {"at": NOW_US + off}
    is_signed = off is None or abs(off) < 5 * SECONDS
    assert signs(connection, operation, used_on_chain=5, spending=spending) == is_signed
    is_null = select(operations.c.spending.is_(None)).where(operations.c.key == "k")
    assert connection.execute(is_null).scalar_one() == (spending is None or not is_signed)


@pytest.mark.parametrize(
    ("values", "compared", "of", "is_signed"),
    [
        ({}, [], [], False),
        ({}, ["0x1"], [], False),
        ({}, ["0x2"], [], False),
        ({"tx_hash": "0x9"}, ["0x9"], [], True),
        ({}, ["0x1", "0x2"], [], True),
        ({}, ["0x1", "0x2", "0x3"], [], True),
        ({}, [], [BOB], True),
        ({}, [], [BOB, ALICE], False),
        ({"chain_id": THERE}, [], [], True),
        ({"sender": BOB}, [], [], True),
        ({"sender": BOB}, [], [BOB], False),
        ({"dismissed": True}, [], [], True),
        ({"succeeded": False}, [], [], True),
        ({"kind": None}, [], [], True),
        ({"operation_key": "other"}, [], [], True),
    ],
)
def test_orphans_are_compared_before_anything_is_signed(
    connection: Connection, values: dict[str, Any], compared: list[str], of: list[str], is_signed: bool
) -> None:
    operation = prepared(connection)
    row: dict[str, Any] = {"chain_id": HERE, "sender": ALICE, "nonce": 3, "block_number": 5, "kind": "f", "data": b""}
    row |= {"value_wei": 0, "succeeded": True, "dismissed": False}
    for tx_hash in ("0x1", "0x2") if "tx_hash" not in values else ("",):
        connection.execute(insert(orphans).values(row | {"tx_hash": tx_hash} | values))
    options: dict[str, Any] = {"compared_orphans": compared, "orphans_of": of}
    assert signs(connection, operation, used_on_chain=5, **options) == is_signed


@pytest.mark.parametrize(
    ("counted", "orders", "is_signed"),
    [
        (None, 0, True),
        (None, 1, False),
        (3, 3, True),
        (3, 2, False),
        (3, 4, False),
        (3, 0, False),
        (2**31 - 1, 2**31 - 1, True),
    ],
)
def test_orders_are_counted_where_several_accounts_sign(
    connection: Connection, counted: int | None, orders: int, is_signed: bool
) -> None:
    operation = prepared(connection)
    connection.execute(insert(order_counts).values(chain_id=THERE, signed=1))
    if counted is not None:
        connection.execute(insert(order_counts).values(chain_id=HERE, signed=counted))
    assert nonce_queries.signed_orders(connection, HERE) == (counted or 0)
    assert signs(connection, operation, used_on_chain=5, orders=orders) == is_signed
    assert nonce_queries.signed_orders(connection, HERE) == (orders + 1 if is_signed else counted or 0)
    assert nonce_queries.signed_orders(connection, THERE) == 1


def test_a_count_that_is_too_old_leaves_the_nonce_alone(connection: Connection) -> None:
    set_next(connection, 5)
    connection.execute(insert(order_counts).values(chain_id=HERE, signed=3))
    assert not signs(connection, prepared(connection), orders=2)


@pytest.mark.parametrize(("before", "after"), [(None, 6), (5, 6), (4, 4), (6, 6), (9, 9)])
def test_the_next_nonce_of_an_account_is_skipped(connection: Connection, before: int | None, after: int) -> None:
    others = {(THERE, ALICE): 5, (HERE, BOB): 5}
    for account, number in others.items():
        set_next(connection, number, *account)
    set_next(connection, before)
    nonce_queries.skip_nonce(connection, HERE, ALICE, 5)
    assert all_next(connection) == others | {(HERE, ALICE): after}
    assert nonce_queries.next_nonce(connection, HERE, ALICE) == after


@pytest.mark.parametrize(("before", "after"), [(None, None), (4, 6), (6, 6), (7, 7)])
def test_nonces_that_the_chain_has_used_are_skipped(
    connection: Connection, before: int | None, after: int | None
) -> None:
    for account in ((THERE, ALICE), (HERE, BOB)):
        set_next(connection, 1, *account)
    set_next(connection, before)
    nonce_queries.skip_nonces(connection, HERE, ALICE, 6)
    assert nonce_queries.next_nonce(connection, HERE, ALICE) == after
    assert sorted(all_next(connection).values()) == sorted([1, 1, *([] if after is None else [after])])


def test_nonces_that_operations_have_left(connection: Connection) -> None:
    """Those of their attempts, where they have another one by now, or none."""
    stored = [
        ("never signed", HERE, ALICE, None, []),
        ("with its first nonce", HERE, ALICE, 2, [2, 2]),
        ("with its second nonce", HERE, ALICE, 7, [3, 3, 7]),
        ("without one again", HERE, ALICE, None, [4, 5]),
        ("elsewhere", THERE, ALICE, None, [8]),
        ("of another account", HERE, BOB, None, [9]),
    ]
    for key, chain_id, sender, nonce, of_attempts in stored:
        prepared(connection, key, chain_id, sender)
        values = {"nonce": nonce, "attempts": [attempt(each).to_json() for each in of_attempts]}
        values |= {"state": "prepared" if nonce is None else "signed"}
        connection.execute(update(operations).where(operations.c.key == key).values(values))
    assert nonce_queries.left_nonces(connection, HERE, ALICE) == {3, 4, 5}

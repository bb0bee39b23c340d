"""What is asked about an account is about this account on this network, whatever others have in the same tables."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from app.db.database import Database
from app.db.tables import nonces, operations, order_counts, orphans
from app.services import nonce_queries
from app.services import operations as operation_queries
from app.services import orphans as orphan_queries
from app.services.operation_types import Attempt, Operation
from app.services.rpc_answers import checksummed
from app.services.transactions import states
from sqlalchemy import Connection, insert, select, update

CHAINS = (1, 11_155_111)
SENDERS = ("0x" + "a1" * 20, "0x" + "b0" * 20)
ACCOUNTS = list(product(CHAINS, SENDERS))
CONTRACT = checksummed("0x" + "c0" * 20)
STATES = ("confirmed", "mined", "submitted", "signed", "signed", "failed")
"""Of the operations of each account, by nonce."""


def attempt(nonce: int) -> dict[str, Any]:
    return Attempt(f"0x{nonce:02x}", "0xcd", nonce, 21_000, 2, 1, 7).to_json()


def key(account: tuple[int, str], nonce: int) -> str:
    return f"{ACCOUNTS.index(account)}:{nonce}"


def wei(account: tuple[int, str], nonce: int) -> int:
    """Each sum of these is made by one set of operations only."""
    return int(1 << ACCOUNTS.index(account) * len(STATES) + nonce)


def rows(account: tuple[int, str]) -> Iterator[dict[str, Any]]:
    chain_id, sender = account
    common = {"request": "", "kind": "f", "chain_id": chain_id, "sender": sender, "to_address": CONTRACT, "data": b""}
    for nonce, state in enumerate(STATES):
        own = {"key": key(account, nonce), "state": state, "nonce": nonce, "value_wei": wei(account, nonce)}
        in_block = {"tx_hash": f"0x{nonce:02x}", "block_number": 1} if state in ("mined", "confirmed") else {}
        yield common | own | in_block | {"attempts": [attempt(nonce)]}
    yield common | {"key": f"{key(account, 9)} prepared", "state": "prepared", "value_wei": 1 << 60, "attempts": []}
    left = 20 + ACCOUNTS.index(account)
    yield (
        common
        | {"key": f"{key(account, 9)} left", "state": "signed", "nonce": 9, "value_wei": 0}
        | {"attempts": [attempt(left), attempt(9)]}
    )


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.autocommit() as connection:
        for number, account in enumerate(ACCOUNTS):
            for row in rows(account):
                connection.execute(insert(operations).values(row))
            named = dict(zip(("chain_id", "sender"), account, strict=True))
            connection.execute(insert(nonces).values(**named, next=10 + number))
            for kind, changes in ORPHANS.items():
                values = {"tx_hash": f"{number} {kind}", "nonce": number, "block_number": 1, "to_address": CONTRACT}
                values |= {
                    "kind": "createEventRun",
                    "args": {},
                    "subject": f"run {number}",
                    "data": b"",
                    "value_wei": 1,
                }
                connection.execute(
                    insert(orphans).values(named | values | {"succeeded": True, "dismissed": False} | changes)
                )
        for number, chain_id in enumerate(CHAINS):
            connection.execute(insert(order_counts).values(chain_id=chain_id, signed=5 + number))
        yield connection


ORPHANS: dict[str, dict[str, Any]] = {
    "open": {},
    "failed": {"succeeded": False},
    "dismissed": {"dismissed": True},
    "taken": {"operation_key": "k"},
}
each_account = pytest.mark.parametrize("account", ACCOUNTS, ids=["here a", "here b", "there a", "there b"])


def operation(connection: Connection, account: tuple[int, str], nonce: int) -> Operation:
    found = operation_queries.find(connection, key(account, nonce))
    assert found is not None
    return found


@each_account
def test_wei_that_are_on_their_way_are_the_account_s_own(connection: Connection, account: tuple[int, str]) -> None:
    on_their_way = sum(wei(account, nonce) for nonce, state in enumerate(STATES) if state in ("signed", "submitted"))
    assert operation_queries.unmined_wei(connection, *account) == on_their_way


@each_account
def test_operations_before_another_are_the_account_s_own(connection: Connection, account: tuple[int, str]) -> None:
    of_fifth = operation(connection, account, 4)
    before = nonce_queries.with_nonces(connection, of_fifth, 1)
    assert [each.key for each in before] == [key(account, nonce) for nonce in (1, 2, 3)]
    lower = operation_queries.open_with_lower_nonce(connection, of_fifth)
    assert [each.key for each in lower] == [key(account, nonce) for nonce in (1, 2, 3)]


@each_account
def test_nonces_are_the_account_s_own(connection: Connection, account: tuple[int, str]) -> None:
    number = ACCOUNTS.index(account)
    assert nonce_queries.next_nonce(connection, *account) == 10 + number
    assert nonce_queries.left_nonces(connection, *account) == {20 + number}
    nonce_queries.skip_nonce(connection, *account, 10 + number + 1)  # not the next one: nothing changes
    assert nonce_queries.next_nonce(connection, *account) == 10 + number
    nonce_queries.skip_nonce(connection, *account, 10 + number)
    nonce_queries.skip_nonces(connection, *account, 10 + number)  # fewer than are assigned
    assert nonce_queries.next_nonce(connection, *account) == 11 + number
    nonce_queries.skip_nonces(connection, *account, 50)
    found = dict.fromkeys(ACCOUNTS, 0) | {
        (chain_id, sender): following for chain_id, sender, following in connection.execute(select(nonces))
    }
    assert found == {each: 10 + place for place, each in enumerate(ACCOUNTS)} | {account: 50}


def test_an_account_without_a_row_has_no_next_nonce_until_one_is_skipped(connection: Connection) -> None:
    assert nonce_queries.next_nonce(connection, 5, SENDERS[0]) is None
    nonce_queries.skip_nonce(connection, 5, SENDERS[0], 3)
    assert nonce_queries.next_nonce(connection, 5, SENDERS[0]) == 4


@each_account
def test_orphans_are_the_account_s_own_and_open(connection: Connection, account: tuple[int, str]) -> None:
    chain_id, sender = account
    number = ACCOUNTS.index(account)
    found = orphan_queries.open_orphans(connection, chain_id, [sender])
    assert [(each.tx_hash, each.sender, each.nonce) for each in found] == [(f"{number} open", sender, number)]
    both = orphan_queries.open_orphans(connection, chain_id, list(SENDERS))
    assert [each.nonce for each in both] == [n for n, (chain, _) in enumerate(ACCOUNTS) if chain == chain_id]
    assert orphan_queries.open_orphans(connection, chain_id, []) == []


@pytest.mark.parametrize("chain_id", CHAINS)
def test_what_is_open_or_counted_on_a_network_is_its_own(connection: Connection, chain_id: int) -> None:
    found = operation_queries.open_operations(connection, chain_id)
    assert {each.chain_id for each in found} == {chain_id}
    assert {each.state for each in found} == {"prepared", "signed", "submitted", "mined"}
    assert len(found) == 2 * 6
    assert nonce_queries.signed_orders(connection, chain_id) == 5 + CHAINS.index(chain_id)
    assert nonce_queries.signed_orders(connection, 5) == 0


@pytest.mark.parametrize("change", [{"state": "submitted"}, {"nonce": 77}, {"attempts": []}, {"held": "x"}])
def test_a_copy_is_old_if_state_nonce_or_attempts_changed(
    database: Database, connection: Connection, change: dict[str, Any]
) -> None:
    seen = operation(connection, ACCOUNTS[0], 3)
    assert states.changed_meanwhile(database, seen) is None
    connection.execute(update(operations).where(operations.c.key == seen.key).values(change))
    stored = states.changed_meanwhile(database, seen)
    if "held" in change:
        assert stored is None
    else:
        assert stored == operation(connection, ACCOUNTS[0], 3)

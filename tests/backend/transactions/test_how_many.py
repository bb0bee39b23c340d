"""How much is done at once: threads, transactions that are looked up; and which rows are counted."""

from __future__ import annotations

import pytest
from app.services.transactions.spending import AboveLimit
from sqlalchemy import Connection
from test_follower_rules import World, block, operation
from test_spending_of_a_day import CHAIN, NOW_US, Process, attempt


def test_so_many_threads_send(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.follower.send_and_follow(operation("prepared"))
    senders = world.follower._senders
    assert senders is not None
    assert senders._max_workers == 4, "however many clients do not wait"
    world.follower.stop()


@pytest.mark.parametrize(("missed", "read"), [(32, 31), (33, 0)])
def test_so_many_missed_blocks_are_read(monkeypatch: pytest.MonkeyPatch, missed: int, read: int) -> None:
    world = World(monkeypatch)
    world.follow(operation())
    world.look()
    world.blocks |= {number: block(number) for number in range(11, 11 + missed)}
    world.look()
    assert len(world.read) == read
    world.follower.stop()


def test_so_many_transactions_are_looked_up_at_a_time(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(connection, monkeypatch)
    for nonce in range(51):
        process.store(nonce, 10, attempts=[attempt(f"0x{nonce}", nonce)])
    process.counted(51)
    process.spending.settle(connection, CHAIN, 5)
    assert process.reads == [f"0x{nonce}" for nonce in range(50)]


def test_operations_of_another_network_do_not_count(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(connection, monkeypatch)
    process.store(0, 10, attempts=[attempt("0x0", 0)])
    for nonce in range(2):
        process.store(nonce, 1, key=f"there {nonce}", chain_id=CHAIN + 1, attempts=[attempt(f"0xthere{nonce}", nonce)])
    process.store(1, 30, attempts=[attempt("0x1", 1)])
    assert process.counted(2) == 40
    process.spending.settle(connection, CHAIN, 5)
    assert process.reads == ["0x0", "0x1"]


def test_the_entry_of_the_nonce_itself_says_nothing_about_those_before(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after lost commits, when the nonce is given out again."""
    process = Process(connection, monkeypatch)
    process.store(0, 10)
    process.store(1, 7, since=1)
    assert process.counted(1) == 10


def test_an_approval_is_for_24_hours(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    process, day_us = Process(connection, monkeypatch), 24 * 60 * 60 * 1_000_000
    assert process.entry(0, 0, approved_at=NOW_US - day_us).wei == 0
    with pytest.raises(AboveLimit, match="24 hours"):
        process.entry(0, 0, approved_at=NOW_US - day_us - 1)

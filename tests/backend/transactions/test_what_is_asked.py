"""What is looked up of nodes and passed to the database, beside what follows from it."""

from __future__ import annotations

from typing import Any

import pytest
from app.db.tables import orphans
from app.services.transactions import nonces as nonces_module
from app.services.transactions import unknown as unknown_module
from sqlalchemy import Connection, insert
from test_nonce_rules import A
from test_nonce_rules import World as Nonces
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

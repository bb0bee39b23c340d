"""All parts of a sender share one node, one database, one seal and one clock: each by the name that it has there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from app.services.transactions.limits import Sealer
from app.services.transactions.sender import TransactionSender


def parts_of(root: object) -> list[object]:
    """Returns all objects of these modules that the sender is made of."""
    found, left = dict[int, object](), [root]
    while left:
        each = left.pop()
        if type(each).__module__.startswith("app.services.transactions") and id(each) not in found:
            found[id(each)] = each
            left.extend(getattr(each, "__dict__", {}).values())
    return list(found.values())


def test_all_parts_share_what_they_work_with() -> None:
    accounts: list[Any] = [SimpleNamespace(address=f"0x{digit}") for digit in "abcd"]
    platform, operator, previous, _ = accounts
    node, database = object(), object()
    sealer = Sealer(platform.address, [b"key"])

    def clock() -> float:
        return 0.0

    w3: Any = node
    rows: Any = database
    sender = TransactionSender(
        w3, platform, rows, clock=clock, operators=[operator], previous=[previous], sealer=sealer
    )
    lanes, signers = [platform.address, operator.address], [*accounts[:3]]
    expected = {"_w3": node, "_database": database, "_sealer": sealer, "sealer": sealer, "_clock": clock}
    expected |= {"_mempool": sender._mempool, "_signer": sender._signer, "_spending": sender._signer._spending}
    expected |= {"_head": sender.head, "nonces": sender.nonces, "_nonces": sender.nonces}
    parts = parts_of(sender)
    assert {type(part).__name__ for part in parts} >= {
        *("TransactionSender", "Mempool", "Head", "Lanes", "Signer", "Unmined", "Spending", "UnknownTransactions"),
        *("NonceAllocator", "Funds", "Unsigned", "NamedIds", "Sealer", "TransactionPolicy"),
    }
    for part in parts:
        for name, value in vars(part).items():
            if (type(part).__name__, name) == ("Spending", "_clock"):  # the database's time, as it was read last
                continue
            assert value is expected.get(name, value), (type(part).__name__, name)
            if name in ("_lanes", "addresses"):
                assert list(value) == lanes, type(part).__name__
            if name in ("_accounts", "accounts"):
                addresses = [getattr(each, "address", each) for each in value]
                assert addresses == [each.address for each in signers], type(part).__name__

"""Rules of single functions that are rare in a whole service: mutants of them survived the tests of services."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from app.db.database import Database
from app.db.tables import orphans as orphans_table
from app.services import orphans, rate_history
from app.services.codec import event_stake_codec
from app.services.operation_types import FILL_NONCE_GAP, HeldCause
from app.services.payments.refunds import Owed, what_is_owed
from app.services.pricing import Rate
from app.services.rate_history import StoredRates
from app.services.rpc_types import Transaction
from app.services.transactions import funds
from app.services.transactions import signer as signer_module
from app.services.transactions.gaps import Obstacles, reason_to_wait
from app.services.transactions.limits import Limits, check
from sqlalchemy import insert, text


def unmined(**values: Any) -> Any:
    row = {"kind": "bookEvent", "nonce": 4, "held": None, "held_cause": None, "abandoned_at": None}
    return SimpleNamespace(**row | values)


@pytest.mark.parametrize(
    ("before", "missing", "lost", "expected"),
    [
        ([], [], [], None),
        ([unmined()], [], [], None),
        ([unmined()], [], [3], None),
        ([], [], [3], (HeldCause.NONCE_GAP, "the earlier nonce 3 was used, and is not any more")),
        ([], [3], [], (HeldCause.NONCE_GAP, "the earlier nonce 3 is in no transaction; it is being filled")),
        (
            [unmined(held="no ether", held_cause=HeldCause.NO_FUNDS)],
            [],
            [],
            (HeldCause.EARLIER, "bookEvent with the earlier nonce 4 is held: no ether"),
        ),
        (
            [unmined(held="a gap", held_cause=HeldCause.NONCE_GAP)],
            [],
            [],
            (HeldCause.NONCE_GAP, "bookEvent with the earlier nonce 4 is held: a gap"),
        ),
        ([unmined(held="it waits itself", held_cause=HeldCause.EARLIER)], [], [], None),
        (
            [unmined(abandoned_at=datetime.now(UTC))],
            [],
            [],
            (HeldCause.EARLIER, "bookEvent with the earlier nonce 4 was abandoned"),
        ),
    ],
)
def test_an_operation_waits_only_for_what_stops_those_before_it(
    before: list[Any], missing: list[int], lost: list[int], expected: Any
) -> None:
    assert reason_to_wait(Obstacles(before, missing, lost)) == expected


def test_another_orphan_does_not_make_a_transaction_known(database: Database) -> None:
    sender: Any = "0x" + "11" * 20
    values: dict[str, Any] = {
        "tx_hash": "0xab",
        "chain_id": 1,
        "sender": sender,
        "nonce": 7,
        "block_number": 5,
        "data": b"",
    }
    with database.transaction() as connection:
        connection.execute(
            insert(orphans_table).values(values | {"value_wei": 0, "succeeded": True, "dismissed": False})
        )
        known, unknown = (Transaction(tx_hash, sender, None, 7, 5, "0x1", {}) for tx_hash in ("0xab", "0xcd"))
        assert orphans.is_known(connection, 1, known)
        assert not orphans.is_known(connection, 1, unknown)


class Chain:
    """An account's balance, what is on its way, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, database: Database, balance: int, on_their_way: int) -> None:
        self.balance, self.on_their_way, self.now, self.reads = balance, on_their_way, 0.0, 0
        monkeypatch.setattr(funds.rpc, "balance", self._read)
        monkeypatch.setattr(funds.operations, "unmined_wei", lambda connection, chain_id, account: self.on_their_way)
        w3: Any = None
        self.reserve = funds.Funds(w3, database, lambda: self.now).reserve

    def _read(self, w3: Any, account: str) -> int:
        self.reads += 1
        return self.balance


def test_an_account_pays_what_it_has_and_no_wei_more(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    chain = Chain(monkeypatch, database, balance=10, on_their_way=3)
    assert not chain.reserve(1, "a", 8)
    assert chain.reserve(1, "a", 4)
    assert chain.reads == 1, "what is left after a refusal counts on"
    assert chain.reserve(1, "a", 3)
    assert chain.reads == 1
    chain.balance, chain.on_their_way = 10, 10
    assert not chain.reserve(1, "a", 1)
    assert chain.reads == 2, "it is read again before it refuses"


def test_a_balance_is_read_at_first_and_once_it_is_old(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    chain = Chain(monkeypatch, database, balance=0, on_their_way=0)
    assert not chain.reserve(1, "a", 1)
    chain.balance = 100
    assert chain.reserve(1, "a", 1)
    chain.balance, chain.now = 0, 12  # seconds
    assert chain.reserve(1, "a", 1)
    chain.now += 1
    assert not chain.reserve(1, "a", 1)


@pytest.mark.parametrize(
    ("value", "kind", "sender", "expected"),
    [
        (1, "bookEventFor", "platform", "nobody paid"),
        (0, "bookEventFor", "platform", None),
        (1, "bookEventFor", "somebody", None),
        (1, "cancelEvent", "platform", None),
    ],
)
def test_an_order_of_the_platform_must_be_paid_from_its_first_wei_on(
    monkeypatch: pytest.MonkeyPatch, database: Database, value: int, kind: str, sender: str, expected: str | None
) -> None:
    monkeypatch.setattr(signer_module, "reason_unpaid", lambda *arguments: "nobody paid")
    signer: Any = SimpleNamespace(_accounts={"platform": None}, _database=database, _sealer=None)
    operation: Any = SimpleNamespace(value_wei=value, kind=kind, sender=sender)
    for needs_payments in (True, False):
        policy: Any = SimpleNamespace(needs_payments=needs_payments)
        assert signer_module.Signer._find_unpaid(signer, operation, policy) == (expected if needs_payments else None)


@pytest.mark.parametrize("state", ["failed", "rejected"])
@pytest.mark.parametrize(("block", "is_owed"), [(None, True), (9, True), (10, True), (11, False)])
def test_what_is_paid_for_an_operation_without_effect_is_owed_once_that_is_final(
    state: str, block: int | None, is_owed: bool
) -> None:
    row = SimpleNamespace(dispute=None, state=state, block_number=block, amount_inr=Decimal(7), to_custody=True)
    assert what_is_owed(row, 10) == (Owed(Decimal(7), "no_effect") if is_owed else None)


@pytest.mark.parametrize("state", ["prepared", "signed", "submitted", "mined"])
def test_nothing_is_owed_while_an_operation_may_have_an_effect(state: str) -> None:
    row = SimpleNamespace(dispute=None, state=state, block_number=1, amount_inr=Decimal(7), to_custody=False)
    assert what_is_owed(row, 10) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accept", "confirm"])
def test_rates_are_accepted_one_at_a_time(database: Database, name: str) -> None:
    """Else two processes could each accept a rate that is too far from the other one's."""
    history = StoredRates(database, Decimal("0.1"), timedelta(hours=1))
    rate = Rate(Decimal(200_000), datetime.now(UTC), "test")
    done = threading.Event()

    def accept() -> None:
        getattr(history, name)(rate)
        done.set()

    thread = threading.Thread(target=accept)
    with database.transaction() as connection:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({rate_history._LOCK_KEY})"))
        thread.start()
        assert not done.wait(0.2)
    thread.join(10)
    assert done.is_set()


PLATFORM, CONTRACT = "0x" + "aa" * 20, "0x" + "cc" * 20


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, None),
        ({"chain_id": 2}, "it is for network 2, not 1"),
        ({"to_address": CONTRACT}, "a transaction that fills a gap of nonces sends nothing to anybody"),
        ({"data": b"\0"}, "a transaction that fills a gap of nonces sends nothing to anybody"),
        ({"value_wei": 1}, "a transaction that fills a gap of nonces sends nothing to anybody"),
    ],
)
def test_what_fills_a_gap_of_nonces_sends_nothing(values: dict[str, Any], reason: str | None) -> None:
    empty: dict[str, Any] = {"chain_id": 1, "kind": FILL_NONCE_GAP, "sender": PLATFORM, "to_address": PLATFORM}
    operation: Any = SimpleNamespace(**empty | {"data": b"", "value_wei": 0} | values)
    assert check(operation, Limits(1, frozenset({CONTRACT}))) == reason


@pytest.mark.parametrize(
    ("call", "values", "reason"),
    [
        ("bookEventFor", {"value_wei": 5}, None),
        ("bookEventFor", {"value_wei": 5, "to_address": PLATFORM}, f"{PLATFORM} is not the contract"),
        ("bookEventFor", {"kind": "cancelEvent"}, "its data calls bookEventFor, and its kind is cancelEvent"),
        ("cancelEvent", {}, None),
        ("cancelEvent", {"value_wei": 1}, "it sends 1 wei with cancelEvent, which takes none"),
        ("completeEvent", {}, "its data calls completeEvent, which the service does not sign"),  # not in the settings
        ("transferOwnership", {}, "its data calls transferOwnership, which the service does not sign"),
        (None, {"data": b"abcd"}, "its data calls an unknown function, which the service does not sign"),
        (None, {"data": b""}, "its data calls an unknown function, which the service does not sign"),
    ],
)
def test_what_an_operation_may_call(call: str | None, values: dict[str, Any], reason: str | None) -> None:
    arguments = {"bookEventFor": (PLATFORM, 1, 2), "completeEvent": (1, []), "transferOwnership": (PLATFORM,)}
    data = event_stake_codec().call(CONTRACT, call, *arguments.get(call, (1,))).data if call else b""
    operation: Any = SimpleNamespace(
        **{"chain_id": 1, "kind": call, "sender": PLATFORM, "to_address": CONTRACT, "data": data, "value_wei": 0}
        | values
    )
    functions = frozenset({"bookEventFor", "cancelEvent", "transferOwnership"})
    assert check(operation, Limits(1, frozenset({CONTRACT}), functions)) == reason

"""What counts for the limits of amounts, to the wei and the microsecond, from rows that other processes have stored."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from app.db.tables import nonces, operations, orphans
from app.services import rpc
from app.services.nonce_queries import CLOCK_TOLERANCE_US
from app.services.rpc_types import Receipt, Transaction
from app.services.transactions import spending as module
from app.services.transactions.limits import Amounts, Sealer
from app.services.transactions.spending import DAY_US, AboveLimit, Charge, Entry, Spending
from fixed_clock import NOW
from sqlalchemy import Connection, insert, update

NOW_US = int(NOW.timestamp()) * 1_000_000
KEPT_US = DAY_US + 2 * CLOCK_TOLERANCE_US
CHAIN, ACCOUNT, LANE = 7, "0xA", "0xB"
ONE = 1_000
"""Limit of one operation, in wei."""
HIGH = 10**12


@dataclass
class Process:
    """A process with its own memory of what was spent, and a clock that the test sets forward."""

    connection: Connection
    monkeypatch: pytest.MonkeyPatch
    accounts: tuple[str, ...] = (ACCOUNT,)
    passed_us: int = 1_000
    sealer: Sealer = field(default_factory=lambda: Sealer(ACCOUNT, [b"key of the platform"]))
    chain: dict[str, tuple[Transaction, Receipt | None]] = field(default_factory=dict)
    reads: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        def transaction(_: Any, tx_hash: str) -> Transaction | None:
            self.reads.append(tx_hash)
            return self.chain.get(tx_hash, (None, None))[0]

        clock = SimpleNamespace(monotonic=lambda: Fraction(self.passed_us, 1_000_000))
        self.monkeypatch.setattr(module, "time", clock)
        self.monkeypatch.setattr(rpc, "transaction", transaction)
        self.monkeypatch.setattr(rpc, "receipt", lambda _, tx_hash: self.chain.get(tx_hash, (None, None))[1])
        self.start()

    def start(self) -> None:
        """Begins anew, without any memory."""
        w3: Any = None
        self.spending = Spending(w3, self.sealer, self.accounts)

    def operation(self, key: str = "new", person: str | None = "somebody", sender: str = ACCOUNT) -> Any:
        return SimpleNamespace(chain_id=CHAIN, sender=sender, person=person, key=key, updated_at=NOW)

    def entry(self, nonce: int, wei: int = 1, sender: str = ACCOUNT, **values: Any) -> Entry:
        """The entry of the next order, or `AboveLimit`."""
        limits = {name: values.pop(name) for name in ("operation_wei", "day_wei", "person_day_wei") if name in values}
        amounts = replace(Amounts(ONE, HIGH, HIGH), **limits)
        charge = Charge(amounts, wei, values.pop("approved_at", None))
        entry = self.spending.entry(self.connection, self.operation(sender=sender, **values), nonce, charge)
        assert entry is not None
        return entry

    def counted(self, nonce: int, limit: str = "day_wei", **values: Any) -> int:
        """Wei that count for a limit when the order with a nonce is signed."""
        low, high = 0, HIGH
        while low < high:
            middle = (low + high) // 2
            try:
                self.entry(nonce, **values | {limit: middle + 1})
                high = middle
            except AboveLimit:
                low = middle + 1
        return low

    def store(self, nonce: int, wei: int, at: int = NOW_US, sender: str = ACCOUNT, since: int = 0, **row: Any) -> Entry:
        """Stores an operation as another process has signed it."""
        key, person = row.pop("key", f"{sender} {nonce}"), row.pop("person", "somebody")
        entry = Entry(nonce, at, wei, person, since, key)
        values: dict[str, Any] = {"key": key, "request": "", "kind": "bookEventFor", "chain_id": CHAIN, "value_wei": 0}
        values |= {"to_address": "b", "data": b"", "state": "signed", "sender": sender, "nonce": nonce}
        values |= {"spending": entry.to_json(CHAIN, sender, self.sealer)}
        self.connection.execute(insert(operations).values(values | row))
        return entry

    def forge(self, nonce: int, spending: Any) -> None:
        target = (operations.c.nonce == nonce) & (operations.c.sender == ACCOUNT)
        self.connection.execute(update(operations).where(target).values(spending=spending))

    def sign(self, nonce: int, wei: int, key: str, **values: Any) -> Entry:
        """Signs and stores an order in this process."""
        entry = self.entry(nonce, wei, key=key, **values)
        sender = values.get("sender", ACCOUNT)
        self.store(nonce, wei, entry.at, sender, entry.since, key=key, person=entry.person)
        self.spending.signed(self.operation(key, sender=sender), entry)
        return entry

    def mine(self, tx_hash: str, nonce: int, **values: Any) -> None:
        """Has a transaction mined in block 5, that sent 20 wei and took 10 units of gas at 3 wei."""
        made = {"sender": ACCOUNT, "succeeded": True, "block_number": 5} | values
        call = Transaction(tx_hash, made["sender"], None, nonce, 5, "0x", {"value": hex(20)})  # type: ignore[arg-type]
        receipt = SimpleNamespace(succeeded=made["succeeded"], block_number=made["block_number"])
        receipt.gas_used, receipt.gas_price = 10, 3
        self.chain[tx_hash] = call, receipt  # type: ignore[assignment]


@pytest.fixture
def process(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Process:
    return Process(connection, monkeypatch)


def attempt(tx_hash: str, nonce: int) -> dict[str, Any]:
    return {"hash": tx_hash, "raw": "0x", "nonce": nonce, "gas": 10, "max_fee": 5, "tip": 1, "block": 1}


def test_each_limit_holds_to_the_wei(process: Process) -> None:
    process.store(0, 30, person="host")
    process.store(1, 12)
    assert process.counted(2) == 42
    assert process.counted(2, "person_day_wei") == 12
    assert process.counted(2, "person_day_wei", person="host") == 30
    assert process.counted(2, "person_day_wei", person="attendee") == 0
    assert process.entry(2, wei=ONE) == Entry(2, NOW_US, ONE, "somebody", 0, "new")
    with pytest.raises(AboveLimit, match="for an operation"):
        process.entry(2, wei=ONE + 1)
    with pytest.raises(AboveLimit, match="its user's last 24 hours above the limit of 13 wei"):
        process.entry(2, wei=2, person_day_wei=13)
    with pytest.raises(AboveLimit, match="the last 24 hours above the limit of 43 wei"):
        process.entry(2, wei=2, day_wei=43)
    assert process.entry(2, wei=0, day_wei=0, operation_wei=0).wei == 0, "an exit"


@pytest.mark.parametrize(("age", "wei"), [(KEPT_US, 5), (KEPT_US + 1, 0), (-5, 5)])
def test_an_entry_counts_for_a_day_and_the_tolerance_of_clocks(process: Process, age: int, wei: int) -> None:
    process.store(0, 5, NOW_US - age)
    assert process.counted(1) == wei


def test_time_goes_on_by_the_clock_of_the_process(process: Process) -> None:
    process.sign(0, 5, "one")
    process.passed_us += 3_600_250_000
    assert process.sign(1, 7, "two").at == NOW_US + 3_600_250_000
    process.passed_us += KEPT_US - 3_600_250_000
    process.spending.forget_time()
    assert process.entry(2).at == NOW_US
    process.spending.signed(process.operation("three"), process.entry(2))  # the database's time is NOW then
    process.passed_us += KEPT_US
    assert process.counted(3) == 5 + 7 + 1
    process.passed_us += 1
    assert process.counted(3) == 7 + 1, "entries end in the order of their nonces"
    process.passed_us += 3_600_250_000
    assert process.counted(3) == 0


def test_the_time_is_that_of_the_database_when_it_signed_last(process: Process) -> None:
    entry = process.entry(0)
    process.passed_us += 60_000_000
    operation = process.operation()
    operation.updated_at = NOW + timedelta(seconds=65)
    process.spending.signed(operation, entry)
    process.passed_us += 10
    assert process.entry(1).at == NOW_US + 65_000_010


def test_what_this_process_signed_counts_whatever_becomes_of_its_row(process: Process) -> None:
    process.sign(0, 5, "one")
    process.sign(1, 7, "two")
    process.forge(1, None)
    assert process.counted(2) == 12
    process.start()
    assert process.counted(2) == 5 + ONE


def test_a_process_counts_what_others_signed_meanwhile(process: Process) -> None:
    process.sign(0, 5, "one")
    process.store(1, 7)
    process.store(2, 9)
    process.store(2, 100, sender="0xanother")
    process.store(2, 100, chain_id=CHAIN + 1, key="on another network")
    assert process.counted(3) == 21
    process.connection.execute(operations.delete())
    assert process.counted(3) == 21
    assert process.counted(4) == 21 + ONE, "a nonce without an operation"


@pytest.mark.parametrize(
    "forged",
    [
        {"wei": 1},
        {"at": NOW_US - KEPT_US - 1},
        {"for": "another"},
        {"since": 2},
        {"seal": "00" * 32},
        {"seal": None},
        {"further": 1},
        None,
        [],
    ],
)
def test_a_changed_entry_counts_with_the_limit_of_one_operation(process: Process, forged: Any) -> None:
    process.store(0, 5)
    entry = process.store(1, 7).to_json(CHAIN, ACCOUNT, process.sealer)
    process.store(2, 9)
    process.forge(1, entry | forged if isinstance(forged, dict) else forged)
    assert process.counted(3) == 5 + ONE + 9
    assert process.counted(3, "person_day_wei", person="another") == ONE, "it may be anybody's"
    assert process.counted(3, "person_day_wei") == 5 + ONE + 9


def test_an_entry_below_nothing_is_none(process: Process) -> None:
    """As a previous account's key might seal it after it leaked."""
    process.store(0, 0)
    process.store(1, -7)
    assert process.counted(2) == ONE


def test_a_missing_entry_is_as_old_as_the_next_one(process: Process) -> None:
    process.store(0, 5, NOW_US - KEPT_US + 10)
    process.store(2, 7, NOW_US - KEPT_US + 20)
    process.store(3, 9, NOW_US - KEPT_US + 15)
    process.store(4, 11, NOW_US + 5)
    everything = 5 + ONE + 7 + 9 + 11 + ONE
    assert process.counted(6) == everything
    for passed, left in ((10, everything), (11, everything - 5), (20, everything - 5), (21, 11 + ONE)):
        process.passed_us = 1_000 + passed
        assert process.counted(6) == left, passed


def test_a_missing_entry_is_of_no_time_that_is_to_come(process: Process) -> None:
    process.store(1, 11, NOW_US + 5)
    assert process.counted(2) == ONE + 11
    process.passed_us += KEPT_US
    assert process.counted(2) == ONE + 11
    process.passed_us += 1
    assert process.counted(2) == 11


def test_nonces_from_before_there_were_entries_do_not_count(process: Process) -> None:
    for nonce in (0, 1):
        process.store(nonce, 5, spending=None)
    assert process.entry(2).since == 2
    process.store(2, 7, since=2)
    process.store(3, 9, since=2)
    process.start()
    assert process.counted(4) == 16
    assert process.entry(4).since == 2
    process.forge(2, {"at": 1})
    process.start()
    assert process.counted(4) == 9 + ONE
    process.forge(3, {"at": 1})
    process.start()
    assert (process.counted(4), process.entry(4).since) == (2 * ONE, 2)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 6, 7, 100])
def test_entries_are_read_piece_by_piece_until_they_are_too_old(
    process: Process, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    for nonce in range(7):
        process.store(nonce, 10**nonce, NOW_US - KEPT_US + (nonce - 2))
    assert process.counted(7) == 1_111_100
    process.start()
    assert process.counted(5) == 11_100


def test_an_old_entry_behind_a_younger_one_is_not_read(process: Process) -> None:
    process.store(0, 5, NOW_US - KEPT_US + 10)
    process.store(1, 7, NOW_US - KEPT_US - 1)
    assert process.counted(2) == 5


def test_the_latest_entry_says_from_which_nonce_on_there_are_entries(process: Process) -> None:
    process.store(0, 5, since=0)
    process.store(1, 7, since=1)
    assert (process.counted(2), process.entry(2).since) == (7, 1)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == module.__name__]


@pytest.mark.parametrize("chunk", [1, 2])
def test_what_is_older_than_a_day_is_not_read(
    process: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, chunk: int
) -> None:
    """So that nobody is told of a nonce without an entry that matters no more."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    process.store(0, 5)
    process.forge(0, {"at": 1})
    process.store(1, 7, NOW_US - KEPT_US - 1)
    process.store(2, 9)
    assert process.counted(3) == 9
    assert said(caplog) == []


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_entries_of_the_same_last_moment_count(process: Process, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    for nonce in range(3):
        process.store(nonce, 10**nonce, NOW_US - KEPT_US)
    assert process.counted(3) == 111


def test_nonces_without_an_entry_are_told(process: Process, caplog: pytest.LogCaptureFixture) -> None:
    process.store(1, 7)
    assert process.counted(3) == 7 + 2 * ONE
    told = "nonces of 0xA from 0 on have no valid entry, and count with the limit of one operation"
    assert said(caplog) == [f"2 {told}"]


def test_of_two_equal_entries_for_a_nonce_the_later_one_counts(process: Process) -> None:
    """As after a lost commit: for no operation, so that no approval is used for either."""
    process.sign(0, 5, "one")
    process.connection.execute(operations.delete())
    process.passed_us += 10
    process.store(0, 5, NOW_US + 10, key="two")
    process.spending.signed(process.operation("two"), Entry(0, NOW_US + 10, 5, "another", 0, "two"))
    assert process.counted(1, "person_day_wei", person="another") == 5
    assert process.counted(1, "person_day_wei") == 0


def test_all_lanes_count_together(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(connection, monkeypatch, (ACCOUNT, LANE))
    process.store(0, 5)
    process.store(0, 7, sender=LANE, person="host")
    process.store(1, 9, sender="0xno lane")
    assert process.counted(1) == 5, "no nonce of the other lane is known to be taken"
    for sender in (ACCOUNT, LANE):
        process.connection.execute(insert(nonces).values(chain_id=CHAIN, sender=sender, next=1))
    for sender in (ACCOUNT, LANE):
        assert process.counted(1, sender=sender) == 12
        assert process.counted(1, "person_day_wei", sender=sender) == 5
    process.store(1, 11, sender=LANE)
    process.connection.execute(update(nonces).where(nonces.c.sender == LANE).values(next=2))
    assert process.counted(1) == 23
    process.store(2, 13, sender=LANE)
    process.connection.execute(update(nonces).where(nonces.c.sender == LANE).values(next=3))
    process.spending.is_current = True  # as where the number of all orders says that nobody signed one
    assert process.counted(1) == 23
    process.passed_us += KEPT_US + 1
    assert process.counted(1) == 0


def test_who_signs_no_orders_is_not_counted(process: Process) -> None:
    assert process.spending.entry(process.connection, process.operation(), 0, None) is None
    charge, of_another = Charge(Amounts(0, 0, 0), 1), process.operation(sender=LANE)
    assert process.spending.entry(process.connection, of_another, 0, charge) is None
    process.spending.signed(of_another, None)
    assert process.spending.to_json(of_another, None) is None


@pytest.mark.parametrize(
    ("approved_at", "used_at", "holds"),
    [
        (NOW_US - DAY_US, None, True),
        (NOW_US - DAY_US - 1, None, False),
        (NOW_US - 60, NOW_US - 60 - CLOCK_TOLERANCE_US, False),
        (NOW_US - 60, NOW_US - 61 - CLOCK_TOLERANCE_US, True),
    ],
)
def test_an_approval_is_for_one_signature_of_a_day(
    process: Process, approved_at: int, used_at: int | None, holds: bool
) -> None:
    process.store(0, 1)
    if used_at is not None:
        process.store(1, 0, used_at, key="new")
    nonce = 1 if used_at is None else 2
    if holds:
        assert process.entry(nonce, 0, approved_at=approved_at).wei == 0
    else:
        with pytest.raises(AboveLimit, match="for one signature within 24 hours, and may have been used"):
            process.entry(nonce, 0, approved_at=approved_at)


@pytest.mark.parametrize(
    ("mined", "final", "counted"),
    [
        ({}, 5, 50),
        ({}, 4, 700),
        ({"succeeded": False}, 5, 30),
        ({"sender": LANE}, 5, 700),
        ({"nonce": 1}, 5, 700),
        ({"hash": "0xunknown"}, 5, 700),
    ],
)
def test_what_is_final_counts_with_what_it_cost(
    process: Process, mined: dict[str, Any], final: int, counted: int
) -> None:
    process.store(0, 700, attempts=[attempt("0x1", 0), attempt("0x2", 0)])
    process.store(1, 10, NOW_US + 1)
    assert process.counted(2) == 710
    values = {"nonce": 0} | mined
    process.mine(values.pop("hash", "0x2"), values.pop("nonce"), **values)
    process.spending.settle(process.connection, CHAIN + 1, final)
    assert process.reads == []
    process.spending.settle(process.connection, CHAIN, final)
    assert process.counted(2) == counted + 10
    process.reads.clear()
    process.spending.settle(process.connection, CHAIN, final)
    assert ("0x2" in process.reads) == (counted == 700), "what is exact is not looked up again"
    process.passed_us += KEPT_US + 1
    assert process.counted(2) == 10, "what was counted anew is as old as before"


def test_a_transaction_that_is_in_no_operation_is_looked_up_as_an_orphan(process: Process) -> None:
    process.store(1, 10, attempts=[attempt("0x1", 1)])
    assert process.counted(2) == ONE + 10
    row = {"tx_hash": "0xorphan", "chain_id": CHAIN, "sender": ACCOUNT, "nonce": 0, "block_number": 5, "data": b""}
    row |= {"value_wei": 20, "succeeded": True, "dismissed": False}
    process.connection.execute(insert(orphans).values(row))
    for other in ({"chain_id": CHAIN + 1}, {"sender": LANE}, {"nonce": 1}):
        process.connection.execute(insert(orphans).values(row | other | {"tx_hash": f"0x{other}"}))
    process.mine("0xorphan", 0)
    process.spending.settle(process.connection, CHAIN, 5)
    assert process.counted(2) == 50 + 10
    assert process.reads == ["0xorphan", "0x1"]


def test_only_some_are_looked_up_at_a_time_oldest_first(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LOOKS", 2)
    for nonce in range(4):
        process.store(nonce, 700 if nonce else 0, attempts=[attempt(f"0x{nonce}", nonce)])
        process.mine(f"0x{nonce}", nonce)
    assert process.counted(4) == 2_100
    for looks, counted in (["0x1", "0x2"], 800), (["0x3"], 150), ([], 150):
        process.reads.clear()
        process.spending.settle(process.connection, CHAIN, 5)
        assert process.reads == looks
        assert process.counted(4) == counted


@pytest.mark.parametrize(
    ("changes", "is_covered"),
    [
        ({}, True),
        ({"max_fee": 31}, False),
        ({"value": 701}, False),
        ({"gas": 11}, False),
        ({"max_fee": 10**6, "no_effect": True}, True),
        ({"max_fee": 10**6, "wei": 0}, True),
        ({"max_fee": 10**6, "kind": "cancelEvent"}, True),
        ({"max_fee": 10**6, "sender": LANE}, True),
        ({"max_fee": 10**6, "amounts": None}, True),
        ({"spending": None}, True),
        ({"spending": None, "max_fee": 31}, False),
    ],
)
def test_a_further_attempt_costs_no_more_than_what_was_counted(
    process: Process, changes: dict[str, Any], is_covered: bool
) -> None:
    """1,000 wei: 700 that are sent, and 10 units of gas at 30."""
    entry = Entry(4, NOW_US, changes.get("wei", 1_000), "somebody", 0, "new")
    operation = process.operation(sender=changes.get("sender", ACCOUNT))
    operation.kind, operation.value_wei = changes.get("kind", "bookEventFor"), changes.get("value", 700)
    operation.spending = entry.to_json(CHAIN, operation.sender, process.sealer) if "spending" not in changes else None
    made: Any = SimpleNamespace(nonce=4, gas_limit=changes.get("gas", 10), max_fee_per_gas=changes.get("max_fee", 30))
    made.no_effect = changes.get("no_effect", False)
    amounts = changes.get("amounts", Amounts(ONE, HIGH, HIGH))
    assert process.spending.covers(operation, made, amounts) == is_covered

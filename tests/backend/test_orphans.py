"""Transactions that are in no row: which effect they have, whose they may be, and how an order takes one over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from app.db.database import Database
from app.db.tables import OPERATION_STATES, operations
from app.db.tables import orphans as orphans_table
from app.services import orphans
from app.services.codec import event_stake_codec
from app.services.operation_types import NOT_HELD, Attempt, Operation
from app.services.orphans import HeldForOrphan, Orphan
from app.services.rpc_answers import checksummed
from app.services.rpc_types import Transaction
from app.services.transactions.fees import Fees
from app.services.transactions.signing import Content, sign_attempt
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from fixed_clock import NOW
from hexbytes import HexBytes
from sqlalchemy import insert, select

ALICE, BOB, CONTRACT, OTHER = (checksummed("0x" + digits * 20) for digits in ("a1", "b0", "c0", "d0"))
ATTEMPT = Attempt("0xab", "0xcd", 7, 21_000, 2, 1, 5)


def data_of(function: str, *arguments: Any) -> bytes:
    return event_stake_codec().call(CONTRACT, function, *arguments).data


BOOKED, COMPLETED = data_of("bookEventFor", BOB, 1, 2), data_of("completeEvent", 1, [2, 3])


def effect(function: str, *arguments: Any, sender: str = ALICE, to: str = CONTRACT) -> str | None:
    return orphans.effect_of(sender, to, data_of(function, *arguments))


def test_calls_with_one_effect() -> None:
    """Who acts for whom, and at which price, makes no difference to what is there afterwards."""
    terms = ("experience", 10**17, 4, 1_900_000_000)
    dearer = ("experience", 2 * 10**17, 4, 1_900_000_000)
    assert effect("bookEventFor", BOB, 1, 2) == effect("bookEvent", 1, 2, sender=BOB)
    assert effect("createEventRunFor", BOB, *terms) == effect("createEventRun", *dearer, sender=BOB)
    effects = [
        effect("bookEventFor", BOB, 1, 2),
        effect("bookEventFor", ALICE, 1, 2),
        effect("bookEventFor", BOB, 2, 2),
        effect("bookEventFor", BOB, 1, 1),
        effect("bookEventFor", BOB, 1, 2, to=OTHER),
        effect("createEventRunFor", BOB, *terms),
        effect("createEventRunFor", BOB, *terms[:2], 5, terms[3]),
        effect("cancelEvent", 1),
        effect("cancelEvent", 1, sender=BOB),
        effect("completeEvent", 1, [2]),
        effect("completeEvent", 1, [3]),
    ]
    assert len({*effects}) == len(effects)
    assert effect("cancelEvent", 1) == f'["{CONTRACT}", "cancelEvent", "{ALICE}", {{"event_run_id": 1}}]'
    assert orphans.effect_of(ALICE, CONTRACT, b"unknown") is None


def transaction(tx_hash: str = "0xab", nonce: int = 7, data: bytes = BOOKED, **values: Any) -> Transaction:
    fields = {"input": "0x" + data.hex(), "value": hex(10**17)}
    mined = Transaction(tx_hash, ALICE, CONTRACT, nonce, 5, "0x1", fields)  # type: ignore[arg-type]
    return mined._replace(**values)


def row(key: str, **values: Any) -> dict[str, Any]:
    common: dict[str, Any] = {"key": key, "request": "", "kind": "bookEventFor", "subject": None, "chain_id": 1}
    common |= {"sender": BOB, "to_address": CONTRACT, "data": BOOKED, "value_wei": 5, "state": "prepared"}
    common |= {"held": "an orphan", "held_cause": "orphan", "held_at": NOW, "created_at": NOW, "updated_at": NOW}
    return common | values


def store(database: Database, *rows: dict[str, Any]) -> None:
    with database.transaction() as connection:
        for values in rows:
            connection.execute(insert(operations).values(values))


def stored(database: Database) -> dict[str, Operation]:
    with database.autocommit() as connection:
        return {each.key: Operation.from_row(each) for each in connection.execute(select(operations))}


def add_orphan(database: Database, tx_hash: str, **values: Any) -> Orphan:
    content: dict[str, Any] = {"sender": ALICE, "nonce": 7, "subject": "an effect", "data": BOOKED, "value_wei": 5}
    common: dict[str, Any] = {"chain_id": 1, "block_number": 5, "succeeded": True, "dismissed": False, "kind": "f"}
    with database.transaction() as connection:
        connection.execute(insert(orphans_table).values(common | content | {"tx_hash": tx_hash} | values))
    return Orphan(tx_hash, **content | {name: values[name] for name in content.keys() & values.keys()})


def taken_by(database: Database) -> dict[str, str | None]:
    with database.autocommit() as connection:
        return {each.tx_hash: each.operation_key for each in connection.execute(select(orphans_table))}


@pytest.mark.parametrize(
    ("chain_id", "sender", "nonce", "is_known"),
    [(1, ALICE, 7, True), (1, ALICE, 8, True), (2, ALICE, 7, False), (1, BOB, 7, False)],
)
def test_an_attempt_of_the_accounts_operations_is_known(
    database: Database, chain_id: int, sender: str, nonce: int, is_known: bool
) -> None:
    """Also where the operation has another nonce by now, and where other operations have attempts."""
    other = ATTEMPT.to_json() | {"hash": "0xff"}
    signed = {"state": "signed", "nonce": nonce, "attempts": [other, ATTEMPT.to_json()]}
    store(
        database,
        row("it", chain_id=chain_id, sender=sender, **signed),
        *(row(f"other {number}", sender=ALICE, state="signed", nonce=number, attempts=[other]) for number in (1, 2)),
    )
    with database.autocommit() as connection:
        assert orphans.is_known(connection, 1, transaction()) == is_known
        assert not orphans.is_known(connection, 1, transaction("0xac"))


@pytest.mark.parametrize(
    ("data", "kind", "args", "said"),
    [
        (BOOKED, "bookEventFor", {"attendee": BOB, "event_run_id": 1, "seat_count": 2}, "bookEventFor {"),
        (
            data_of("completeEvent", 1, [2, 3]),
            "completeEvent",
            {"event_run_id": 1, "attended_booking_ids": [2, 3]},
            "complete",
        ),
        (data_of("pause"), None, {}, "pause {}"),  # which an owner calls by hand
        (b"unknown", None, None, "no call of the contract"),
    ],
    ids=["book", "complete", "pause", "unknown"],
)
def test_an_orphan_is_stored_and_said_once(
    database: Database, caplog: pytest.LogCaptureFixture, data: bytes, kind: str | None, args: Any, said: str
) -> None:
    found = transaction(data=data)
    for succeeded in (True, False):
        with database.autocommit() as connection:
            orphans.record(connection, 1, found, succeeded=succeeded)
        assert len(caplog.records) == 1
    with database.autocommit() as connection:
        values = connection.execute(select(orphans_table)).one()._asdict()
    del values["found_at"]
    where = {"tx_hash": "0xab", "chain_id": 1, "sender": ALICE, "nonce": 7, "block_number": 5, "to_address": CONTRACT}
    what = {"kind": kind, "args": args, "data": data, "value_wei": 10**17}
    what |= {"subject": orphans.effect_of(ALICE, CONTRACT, data)}
    assert values == where | what | {"succeeded": True, "operation_key": None, "dismissed": False}
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    expected = f"orphan: 0xab with nonce 7 from {ALICE} is in no operation: {said}"
    assert record.getMessage().startswith(expected)
    assert record.getMessage().endswith(f"{10**17} wei")


NOT_OPEN: list[dict[str, Any]] = [{"operation_key": "k"}, {"dismissed": True}, {"succeeded": False}, {"kind": None}]


def test_open_orphans_are_those_of_the_accounts_by_nonce(database: Database) -> None:
    for number, values in enumerate([*NOT_OPEN, {"chain_id": 2}, {"sender": OTHER}]):
        add_orphan(database, f"0x{number}", **values)
    last, first = add_orphan(database, "0xa", nonce=9), add_orphan(database, "0xb", sender=BOB, nonce=3)
    with database.autocommit() as connection:
        assert orphans.open_orphans(connection, 1, [ALICE, BOB]) == [first, last]
        assert orphans.open_orphans(connection, 1, [ALICE]) == [last]


def operation(**values: Any) -> Any:
    return Operation(
        **dict.fromkeys(Operation.__dataclass_fields__) | row("k", sender=ALICE, attempts=[], value_wei=5) | values
    )


def test_an_orphan_is_an_operations_own_only_if_all_of_it_is_the_same() -> None:
    subject = effect("bookEventFor", BOB, 1, 2)
    assert subject is not None
    other = Orphan("0x1", ALICE, 6, "another effect", BOOKED, 5)
    same, again = (Orphan(tx_hash, ALICE, nonce, subject, BOOKED, 5) for tx_hash, nonce in (("0x2", 7), ("0x3", 8)))
    dearer = replace(same, tx_hash="0x4", value_wei=6)
    by_itself = replace(same, tx_hash="0x5", data=data_of("bookEvent", 1, 2))
    assert orphans.find_match(operation(), []) is None
    assert orphans.find_match(operation(), [other]) is None
    assert orphans.find_match(operation(), [other, dearer, same, again]) == same
    for candidates, attempts in (([dearer, by_itself, other], []), ([same], [ATTEMPT])):
        hashes = ", ".join(orphan.tx_hash for orphan in candidates if orphan is not other)
        with pytest.raises(HeldForOrphan, match=f"^it may be what {hashes} has done already") as held:
            orphans.find_match(operation(attempts=attempts), candidates)
        assert held.value.reason == str(held.value)


def adopt(database: Database, key: str, orphan: Orphan) -> bool:
    taken_over = replace(stored(database)[key], sender=ALICE, seal="a new seal")
    return orphans.adopt(database, taken_over, orphan, ATTEMPT)


@pytest.mark.parametrize("state", OPERATION_STATES)
def test_an_order_that_is_not_signed_takes_an_orphan_over(database: Database, state: str) -> None:
    has_nonce = {} if state in ("prepared", "rejected") else {"nonce": 3}
    in_block = {"tx_hash": "0x1", "block_number": 3} if state in ("mined", "confirmed", "failed") else {}
    store(database, row("it", state=state, **has_nonce, **in_block), row("other"))
    orphan, other = add_orphan(database, "0xab"), add_orphan(database, "0xac", nonce=8)
    before = stored(database)
    assert adopt(database, "it", orphan) == (state == "prepared")
    after = stored(database)
    assert taken_by(database) == {"0xab": "it" if state == "prepared" else None, "0xac": None}
    assert after["other"] == before["other"]
    if state != "prepared":
        assert after == before
        return
    changed = {"state": "signed", "sender": ALICE, "seal": "a new seal", "nonce": 7, "attempts": [ATTEMPT]}
    assert after["it"].updated_at != NOW
    assert after["it"] == replace(before["it"], **changed, **NOT_HELD, updated_at=after["it"].updated_at)
    assert not adopt(database, "other", orphan), "it has been taken"
    assert not adopt(database, "it", other), "one is enough"
    assert stored(database) == after


@pytest.mark.parametrize("values", NOT_OPEN)
def test_an_orphan_that_somebody_has_decided_about_is_not_taken_over(
    database: Database, values: dict[str, Any]
) -> None:
    store(database, row("it"))
    orphan, before = add_orphan(database, "0xab", **values), stored(database)
    assert not adopt(database, "it", orphan)
    assert (stored(database), taken_by(database)) == (before, {"0xab": values.get("operation_key")})


def test_an_order_with_an_attempt_takes_no_orphan_over(database: Database) -> None:
    store(database, row("it", attempts=[ATTEMPT.to_json()]))
    orphan, before = add_orphan(database, "0xab"), stored(database)
    assert not adopt(database, "it", orphan)
    assert (stored(database), taken_by(database)) == (before, {"0xab": None})


CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "as it is": lambda fields: fields,
    "without yParity": lambda fields: {name: value for name, value in fields.items() if name != "yParity"},
    "with an access list": lambda fields: fields | {"accessList": []},
    "another value": lambda fields: fields | {"value": "0x6"},
    "no signature": lambda fields: {name: value for name, value in fields.items() if name != "r"},
    "no number": lambda fields: fields | {"gas": None},
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("key", [b"\1" * 32, b"\2" * 32, b"\3" * 32], ids=["1", "2", "3"])
def test_a_mined_transaction_is_rebuilt_from_what_the_node_says(name: str, key: bytes) -> None:
    """Its hash proves that it is right; signatures of either parity."""
    account: Any = Account.from_key(key)
    content = Content(1, account.address, CONTRACT, 5, BOOKED)
    attempt = sign_attempt(content, account, 7, 30_000, Fees(100, 2), 5)
    signed = TypedTransaction.from_bytes(HexBytes(attempt.raw_transaction)).as_dict()
    numbers = ("type", "chainId", "nonce", "value", "gas", "maxFeePerGas", "maxPriorityFeePerGas", "v", "r", "s")
    fields = {each: hex(signed[each]) for each in numbers} | {"input": "0x" + BOOKED.hex()}
    fields |= {"yParity": fields["v"]}
    found = transaction(attempt.tx_hash, fields=CHANGES[name](fields))
    expected = attempt if name in ("as it is", "without yParity", "with an access list") else None
    assert orphans.as_attempt(found) == expected
    pending = found._replace(block_number=None)
    assert orphans.as_attempt(pending) == (expected and replace(expected, latest_block=0))

"""Row 51: one row that somebody else writes into `operations` is not signed, and its bytes are not sent."""

from __future__ import annotations

from typing import Any

import pytest
from app.db.tables import operations
from app.services.codec import event_stake_codec
from app.services.operation_types import FILL_NONCE_GAP, HeldCause, Operation
from eth_account import Account
from eth_account.signers.local import LocalAccount
from fault_environment import GWEI, FaultEnvironment, all_operations, hash_of
from sqlalchemy import func, insert, update
from web3 import Web3

pytestmark = pytest.mark.slow

THIEF: LocalAccount = Account.from_key("0x" + "51" * 32)


def call(environment: FaultEnvironment, function: str, *args: Any) -> bytes:
    return event_stake_codec().call(Web3.to_checksum_address(environment.address), function, *args).data


def booking(environment: FaultEnvironment) -> dict[str, Any]:
    """The columns of an operation just as the service stores it, but for the seal."""
    operation = environment.prepare_run()
    names = ("request", "kind", "chain_id", "sender", "to_address", "data", "value_wei", "seal")
    return {name: getattr(operation, name) for name in names}


def write(environment: FaultEnvironment, **columns: Any) -> Operation:
    with environment.database.transaction() as connection:
        row = connection.execute(insert(operations).values(key="forged", **columns).returning(operations)).one()
    return Operation.from_row(row)


FORGERIES = {
    "a row without a seal": ({"seal": None}, "its seal is missing"),
    "a copy under another key": ({}, "its seal is missing or of other values"),
    "more wei": ({"value_wei": 10**19}, "its seal is missing"),
    "another receiver": ({"to_address": THIEF.address}, "is not the contract"),
    "another network": ({"chain_id": 1}, "for network 1"),
    "no data": ({"data": b""}, "calls an unknown function"),
    "a transfer": ({"data": b"", "to_address": THIEF.address}, "is not the contract"),
    "another kind": ({"kind": "bookEventFor"}, "and its kind is bookEventFor"),
    "the data of another function": ({"data": "transferOwnership"}, "calls transferOwnership"),
    "an operator": ({"data": "pause", "kind": "pause", "value_wei": 0}, "which the service does not sign"),
    "wei for a function that takes none": ({"data": "cancelEvent", "kind": "cancelEvent"}, "which takes none"),
    "a gap with a receiver": ({"kind": FILL_NONCE_GAP, "to_address": THIEF.address}, "sends nothing to anybody"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_51_a_forged_row_is_not_signed(
    environment: FaultEnvironment, forgery: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Held with the reason, said once, and never sent; other operations go on."""
    changes, reason = FORGERIES[forgery]
    arguments = {"transferOwnership": (THIEF.address,), "pause": (), "cancelEvent": (1,)}
    if isinstance(function := changes.get("data"), str):
        changes = changes | {"data": call(environment, function, *arguments[function])}
    forged = write(environment, **(booking(environment) | changes))
    for _ in range(3):
        forged = environment.services.sender.step(forged)
        assert (forged.state, forged.nonce, forged.attempts) == ("prepared", None, [])
        assert forged.held_cause == HeldCause.LIMIT
        assert reason in (forged.held or "")
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == [f"{forged.kind} is held: {forged.held}"]
    assert environment.connection.sent == []
    [own] = [each for each in all_operations(environment.database) if each.key != forged.key]
    assert environment.settle(own).state == "confirmed"


@pytest.mark.parametrize("column", ["to_address", "data", "value_wei"])
def test_51_a_row_that_was_changed_is_not_signed(environment: FaultEnvironment, column: str) -> None:
    """Neither the first time, nor with higher fees."""
    changes: dict[str, Any] = {
        "to_address": THIEF.address,
        "data": call(environment, "createEventRunFor", THIEF.address, "x", 10**17, 4, 10**10),
        "value_wei": 10**18,
    }
    worker = environment.worker(bump_after=0)
    for operation in (worker.prepare_run(), worker.step(worker.prepare_run(seats=5))):
        attempts, sent = len(operation.attempts), list(worker.connection.sent)
        with environment.database.transaction() as connection:
            row = operations.c.key == operation.key
            connection.execute(update(operations).where(row).values({column: changes[column]}))
        for _ in range(3):
            operation = worker.services.sender.step(worker.find(operation))
        assert (len(operation.attempts), operation.held_cause) == (attempts, HeldCause.LIMIT)
        assert {hash_of(raw) for raw in worker.connection.sent[len(sent) :]} <= {
            attempt.tx_hash for attempt in operation.attempts
        }


def signed_by(environment: FaultEnvironment, account: LocalAccount, **fields: Any) -> dict[str, Any]:
    """An attempt as the column stores it."""
    transaction = {
        "type": 2,
        "chainId": environment.w3.eth.chain_id,
        "to": THIEF.address,
        "value": 10**18,
        "data": b"",
        "nonce": environment.count(),
        "gas": 21_000,
        "maxFeePerGas": 10 * GWEI,
        "maxPriorityFeePerGas": GWEI,
    } | fields
    raw = account.sign_transaction(transaction).raw_transaction.to_0x_hex()
    return {
        "hash": hash_of(raw),
        "raw": raw,
        "nonce": transaction["nonce"],
        "gas": 21_000,
        "max_fee": 10 * GWEI,
        "tip": GWEI,
        "block": environment.w3.eth.block_number,
    }


@pytest.mark.parametrize("state", ["signed", "submitted"])
@pytest.mark.parametrize(
    "bytes_of", ["the thief", "the platform for another row", "nobody"], ids=["another key", "another row", "garbage"]
)
def test_51_the_bytes_of_a_forged_row_are_not_sent(environment: FaultEnvironment, state: str, bytes_of: str) -> None:
    """Its nonce gets a transaction without effect after a while, so that those behind it go on."""
    environment.settle(environment.prepare_run())
    columns = booking(environment)
    attempt = signed_by(environment, THIEF if bytes_of == "the thief" else environment.platform)
    if bytes_of == "nobody":
        attempt |= {"raw": "0x02c0", "hash": "0x" + "00" * 32}
    nonce, sent = environment.count(), list(environment.connection.sent)
    forged = write(environment, **columns, state=state, nonce=nonce, attempts=[attempt])
    for _ in range(3):
        forged = environment.services.sender.step(forged)
    assert (forged.state, forged.held_cause) == (state, HeldCause.LIMIT)
    assert "stored bytes are not sent" in (forged.held or "")
    assert environment.connection.sent == sent
    own = next(each for each in all_operations(environment.database) if each.state == "prepared")
    own = environment.step(environment.step(environment.step(own)))
    assert own.nonce == nonce + 1
    earlier = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 1)
    with environment.database.transaction() as connection:
        connection.execute(update(operations).where(operations.c.key == "forged").values(held_at=earlier))
    forged = environment.services.sender.step(environment.find(forged))
    assert [each.no_effect for each in forged.attempts] == [False, True]
    for _ in range(4):
        environment.mine()
        environment.services.reconciler.run_full()
    assert environment.find(forged).state == "failed"
    assert environment.find(own).state == "confirmed"
    assert environment.w3.eth.get_balance(THIEF.address) == 0


def test_51_bytes_that_were_exchanged_are_not_sent(environment: FaultEnvironment) -> None:
    """The hash in the database is that of the real transaction."""
    operation = environment.step(environment.prepare_run())
    real = operation.attempts[0].to_json()
    thiefs = signed_by(environment, THIEF)["raw"]
    with environment.database.transaction() as connection:
        connection.execute(update(operations).values(attempts=[real | {"raw": thiefs}]))
    for worker in (environment, environment.worker()):
        forged = worker.step(worker.find(operation))
        assert forged.held_cause == HeldCause.LIMIT
        assert worker.connection.sent == []
    with environment.database.transaction() as connection:
        connection.execute(update(operations).values(attempts=[real]))
    assert environment.settle(environment.find(operation)).state == "confirmed"
    environment.check(runs=1)


def test_51_a_row_from_before_there_were_seals_gets_higher_fees(environment: FaultEnvironment) -> None:
    """Bytes that the platform signed for just this row prove as much as a seal."""
    worker = environment.worker(bump_after=0)
    operation = worker.step(worker.prepare_run())
    with environment.database.transaction() as connection:
        connection.execute(update(operations).values(seal=None))
    operation = worker.step(worker.find(operation))
    assert (len(operation.attempts), operation.held) == (2, None)
    assert worker.settle(operation).state == "confirmed"
    worker.check(runs=1)

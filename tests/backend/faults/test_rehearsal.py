"""A dry run says what a real round then does, and writes and sends nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from app.bootstrap.rehearsal import Rehearsal
from app.db.database import Database
from app.db.tables import event_run_bookings, event_runs, metadata, nonces, operations
from app.services.interventions import Interventions
from app.services.operation_types import Operation
from app.services.steps import describe_steps
from eth_utils.crypto import keccak
from fault_environment import GWEI, POLICY, SEND, FaultEnvironment, first, hash_of, node_error
from hexbytes import HexBytes
from sqlalchemy import func, select, update

pytestmark = pytest.mark.slow

Situation = Callable[[FaultEnvironment], Any]
SITUATIONS: dict[str, tuple[Situation, str]] = {}
"""What brings a situation about, and words of the sentence about its last operation."""
EMPTY_WALLET, FULL_WALLET = 10**14, 10**22


def situation(words: str) -> Callable[[Situation], Situation]:
    """Adds a situation: its name is that of the function."""

    def add(bring_about: Situation) -> Situation:
        SITUATIONS[bring_about.__name__.replace("_", " ")] = (bring_about, words)
        return bring_about

    return add


def submitted(environment: FaultEnvironment) -> Operation:
    operation = environment.follow(environment.prepare_run())
    assert operation.state == "submitted"
    return operation


def mined(environment: FaultEnvironment, blocks: int = 1) -> Operation:
    operation = submitted(environment)
    environment.mine(blocks)
    return operation


def set_balance(environment: FaultEnvironment, wei: int) -> None:
    environment.rpc("hardhat_setBalance", environment.platform.address, hex(wei))


def change(environment: FaultEnvironment, operation: Operation, **values: Any) -> None:
    with environment.database.transaction() as connection:
        connection.execute(update(operations).where(operations.c.key == operation.key).values(**values))


@situation("is signed with the next nonce, sends it")
def prepared(environment: FaultEnvironment) -> None:
    environment.prepare_run()


@situation("is held (base_fee): the base fee of")
def prepared_and_gas_is_expensive(environment: FaultEnvironment) -> None:
    environment.prepare_run()
    environment.mine_at(300 * GWEI)


@situation("is held (no_funds): insufficient funds of")
def prepared_and_the_wallet_is_empty(environment: FaultEnvironment) -> None:
    environment.prepare_run()
    set_balance(environment, EMPTY_WALLET)


@situation("is rejected: bookEventFor was refused by the contract: EventNotOpen")
def prepared_and_sold_out(environment: FaultEnvironment) -> None:
    run = environment.open_run(1)
    late = environment.prepare_booking(run)
    environment.settle(environment.prepare_booking(run))
    assert environment.find(late).state == "prepared"


@situation("is held (limit): it was not stored by this service")
def prepared_by_somebody_else(environment: FaultEnvironment) -> None:
    change(environment, environment.prepare_run(), seal=None)


@situation("is held (orphan): 1 transactions of")
def prepared_and_unknown_transactions_are_on_their_way(environment: FaultEnvironment) -> None:
    environment.open_run()
    environment.prepare_run()
    environment.send_foreign(environment.count())


@situation("again")
def signed_and_not_sent(environment: FaultEnvironment) -> None:
    operation = environment.step(environment.prepare_run())
    environment.rpc("anvil_dropAllTransactions")
    assert operation.state == "signed"


@situation("again")
def in_the_mempool(environment: FaultEnvironment) -> None:
    submitted(environment)


@situation("again")
def dropped_from_the_mempool(environment: FaultEnvironment) -> None:
    submitted(environment)
    environment.rpc("anvil_dropAllTransactions")


@situation("is held (no_funds): insufficient funds of")
def dropped_and_the_wallet_is_empty(environment: FaultEnvironment) -> None:
    submitted(environment)
    environment.rpc("anvil_dropAllTransactions")
    set_balance(environment, EMPTY_WALLET)


@situation("adopts the receipt of")
def mined_and_not_noticed(environment: FaultEnvironment) -> None:
    mined(environment)


@situation("nothing until block")
def mined_and_noticed(environment: FaultEnvironment) -> None:
    environment.follow(mined(environment))


@situation("is confirmed by")
def deep_enough(environment: FaultEnvironment) -> None:
    mined(environment, 3)


@situation("is put back, as block")
def dropped_by_a_reorganisation(environment: FaultEnvironment) -> None:
    environment.follow(mined(environment))
    environment.reorg(1)
    environment.rpc("anvil_dropAllTransactions")


@situation("is put back, as block")
def moved_by_a_reorganisation(environment: FaultEnvironment) -> None:
    operation = environment.follow(mined(environment))
    environment.mine()
    environment.reorg(2, (operation.attempts[0].raw_transaction, 1))


@situation("starts over, as its nonce")
def the_nonce_went_to_another(environment: FaultEnvironment) -> None:
    operation = environment.step(environment.prepare_run())
    environment.send_foreign(operation.nonce or 0, fee=150 * GWEI, tip=50 * GWEI)
    environment.mine(4)


@situation("again")
def the_nonce_went_to_another_not_finally(environment: FaultEnvironment) -> None:
    operation = environment.step(environment.prepare_run())
    environment.step(operation)
    environment.send_foreign(operation.nonce or 0, fee=150 * GWEI, tip=50 * GWEI)
    environment.mine()
    environment.worker().step(operation)


@situation("is held (nonce_gap): the earlier nonce")
def behind_a_gap(environment: FaultEnvironment) -> None:
    """A nonce that no row has: another one's row was lost."""
    environment.open_run()
    with environment.database.transaction() as connection:
        connection.execute(nonces.update().values(next=nonces.c.next + 1))
    environment.step(environment.prepare_run())


@situation("again")
def an_older_attempt_is_known(environment: FaultEnvironment) -> None:
    worker = environment.worker(bump_after=-1)
    worker.step(worker.step(worker.step(worker.prepare_run())))


@situation("is rejected: createEventRunFor was given up after")
def held_for_too_long(environment: FaultEnvironment) -> None:
    environment.mine_at(300 * GWEI)
    operation = environment.step(environment.prepare_run())
    change(environment, operation, held_at=func.clock_timestamp() - func.make_interval(0, 0, 0, 1))


@situation("nothing, as it is abandoned")
def abandoned(environment: FaultEnvironment) -> None:
    change(environment, submitted(environment), abandoned_at=func.clock_timestamp())


@situation("is failed: createEventRunFor had no effect")
def abandoned_and_the_nonce_is_used(environment: FaultEnvironment) -> None:
    operation = environment.step(environment.prepare_run())
    environment.send_foreign(operation.nonce or 0, fee=150 * GWEI, tip=50 * GWEI)
    environment.mine(4)
    change(environment, operation, abandoned_at=func.clock_timestamp())


@situation("again")
def being_cancelled(environment: FaultEnvironment) -> None:
    operation, services = submitted(environment), environment.services
    Interventions(services.w3, environment.database, services.sender, "alice").cancel(operation.key)


@situation("is failed: createEventRunFor was cancelled by an operator")
def cancelled_finally(environment: FaultEnvironment) -> None:
    being_cancelled(environment)
    environment.mine(3)


@situation("gives its nonce up, without effect, sends it")
def stored_bytes_were_exchanged(environment: FaultEnvironment) -> None:
    """Held for ten minutes already."""
    operation = environment.step(environment.prepare_run())
    raw = environment.sign_foreign(operation.nonce or 0)
    attempts = [operation.attempts[0].to_json() | {"raw": raw, "hash": hash_of(raw)}]
    since = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 1)
    change(environment, operation, attempts=attempts, held="…", held_cause="limit", held_at=since)
    environment.foreign.clear()


@situation("finds its own transaction")
def the_commit_of_an_attempt_is_lost(environment: FaultEnvironment) -> None:
    worker = environment.worker(bump_after=-1)
    operation = worker.step(worker.prepare_run())
    while len(worker.find(operation).attempts) < 2:
        worker.step(operation)
    environment.mine(4)
    change(environment, operation, attempts=[operation.attempts[0].to_json()])


def without_seconds(sentence: str) -> str:
    return re.sub(r"\d+ seconds", "… seconds", sentence)


def dump(database: Database) -> dict[str, list[str]]:
    with database.transaction() as connection:
        return {
            table.name: sorted(str(row) for row in connection.execute(select(table)))
            for table in metadata.sorted_tables
        }


def real_round(worker: FaultEnvironment) -> Iterator[str]:
    """Does what a round does with each operation, and says what that was, in the words of a dry run."""
    sender, reconciler = worker.services.sender, worker.services.reconciler
    report = type(reconciler.dry_run())()
    assert sender.contract_watch is not None
    sender.contract_watch.look()
    for operation in reconciler.dry_run().pending:
        before = worker.find(operation)
        worker.connection.sent.clear()
        if before.state == "prepared":
            final_block = max(sender.policy.final_block(worker.w3.eth.block_number), 0)
            sender.nonces.find_unknown(before.chain_id, final_block)
        reconciler._advance(before, report)
        sent = ["0x" + keccak(HexBytes(raw)).hex() for raw in worker.connection.sent]
        sentence = describe_steps(before, worker.find(before), sent, POLICY.confirmations, rehearsed=True)
        yield f"{before.kind} {before.key}: {sentence}"
    assert report.problems == []


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_dry_run_says_what_a_round_then_does(environment: FaultEnvironment, name: str) -> None:
    bring_about, words = SITUATIONS[name]
    bring_about(environment)
    policy = {"expire_after": 0, "replace_after": 0} if "too_long" in bring_about.__name__ else {"replace_after": 30}
    predicting, acting = environment.worker(**policy), environment.worker(**policy)
    before, pool = dump(environment.database), environment.rpc("txpool_content")
    predicted = list(Rehearsal(predicting.services).open_operations())
    assert dump(environment.database) == before
    assert (environment.rpc("txpool_content"), predicting.connection.sent) == (pool, [])
    assert [without_seconds(done) for done in real_round(acting)] == [without_seconds(said) for said in predicted]
    assert words in predicted[-1]


def test_what_a_node_has_refused_is_not_promised(environment: FaultEnvironment) -> None:
    """Nobody knows whether it is accepted this time."""
    operation = environment.step(environment.prepare_run())
    environment.connection.fault = first(9, node_error("transaction lacks the right spirit"), SEND)
    environment.step(operation)
    environment.connection.fault = None
    [sentence] = Rehearsal(environment.services).open_operations()
    assert sentence.endswith("again, though the node has refused it: the node refuses its transaction: "
                             "transaction lacks the right spirit")  # fmt: skip


def test_rows_that_differ_say_what_is_written(environment: FaultEnvironment) -> None:
    run = environment.open_run()
    booking = environment.settle(environment.prepare_booking(run))
    with environment.database.transaction() as connection:
        connection.execute(update(event_runs).values(seats_booked=3))
        connection.execute(update(event_run_bookings).values(status="cancelled"))
    before, block = dump(environment.database), environment.w3.eth.block_number
    rehearsal = Rehearsal(environment.services)
    assert list(rehearsal.refresh(run, block)) == [
        f"event run {run}: writes seats_booked 1, which is 3",
        f"booking {booking.subject}: writes status active, which is cancelled",
    ]
    assert dump(environment.database) == before
    environment.services.runs.refresh(run, block)
    assert list(rehearsal.refresh(run, block)) == []
    assert environment.services.runs.get(run).seats_booked == 1

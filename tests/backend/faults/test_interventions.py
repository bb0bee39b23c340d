"""What an operator does to an operation is safe whatever workers, chain and other operators do at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from app.bootstrap.checks import check_pending
from app.core.errors import AppError, Cancelled, ChainUnavailable, InterventionRefused
from app.db.tables import interventions, operations, orphans
from app.services.interventions import Interventions, Outcome, dismiss_orphan
from app.services.operation_list import Selection, find_operation, history, list_operations, list_orphans
from app.services.operation_types import HeldCause, Operation
from app.services.transactions import states
from eth_account.signers.local import LocalAccount
from fault_environment import (
    GWEI,
    SEND,
    FaultEnvironment,
    Killed,
    all_operations,
    before_the_request,
    dying,
    first,
    node_error,
    raising,
)
from monitoring import metrics
from sqlalchemy import insert, select, update

pytestmark = pytest.mark.slow


def operator(environment: FaultEnvironment, name: str = "alice") -> Interventions:
    """The commands of an operator, in a process of their own or in that of the environment."""
    services = environment.services
    return Interventions(services.w3, environment.database, services.sender, name)


def submitted(environment: FaultEnvironment, **options: Any) -> Operation:
    """Returns an operation that is in the mempool."""
    operation = environment.follow(environment.prepare_run(**options))
    assert operation.state == "submitted"
    return operation


def code_of(operation: Operation) -> str | None:
    return operation.error and operation.error["code"]


def set_balance(environment: FaultEnvironment, wei: int) -> None:
    environment.rpc("hardhat_setBalance", environment.platform.address, hex(wei))


# ------------------------------------------------------------------------------------------------------- cancel


def test_a_prepared_operation_is_rejected(environment: FaultEnvironment) -> None:
    operation = environment.prepare_run()
    outcome = operator(environment).cancel(operation.key)
    assert outcome == Outcome(f"{operation.kind} {operation.key} is cancelled: nothing was sent, and nothing will be.")
    operation = environment.find(operation)
    assert (operation.state, code_of(operation), environment.status(operation)) == ("rejected", "cancelled", "failed")
    with pytest.raises(Cancelled, match="was cancelled by an operator; nothing was sent"):
        environment.services.sender.check_success(operation)
    environment.check(runs=0)


@pytest.mark.parametrize("state", ["signed", "submitted"])
def test_a_replacement_uses_the_nonce(environment: FaultEnvironment, state: str) -> None:
    """With raised fees; the operations behind it go on."""
    operation = environment.step(environment.prepare_run())
    operation = environment.step(operation) if state == "submitted" else operation
    assert operation.state == state
    behind = submitted(environment)
    outcome = operator(environment.worker()).cancel(operation.key)
    first_attempt, replacement = environment.find(operation).attempts
    assert outcome.done
    assert f"{replacement.tx_hash} without effect, with nonce {operation.nonce}" in outcome.sentence
    assert replacement.nonce == first_attempt.nonce
    assert replacement.max_fee_per_gas * 100 >= first_attempt.max_fee_per_gas * 110
    assert replacement.priority_fee_per_gas * 100 >= first_attempt.priority_fee_per_gas * 110
    again = operator(environment, "bob").cancel(operation.key)
    assert again.done
    assert "is being cancelled already" in again.sentence
    operation, behind = environment.settle(operation), environment.settle(behind)
    assert (operation.state, operation.tx_hash, code_of(operation)) == ("failed", replacement.tx_hash, "cancelled")
    assert (environment.status(operation), behind.state) == ("failed", "confirmed")
    environment.check(runs=1)


def test_the_original_counts_if_it_is_mined_first(environment: FaultEnvironment) -> None:
    operation = submitted(environment)
    worker = environment.worker()
    worker.connection.fault = before_the_request_of(SEND, environment.mine)
    outcome = operator(worker).cancel(operation.key)
    assert not outcome.done
    assert f"{operation.attempts[0].tx_hash} was mined first" in outcome.sentence
    assert environment.settle(operation).state == "confirmed"
    environment.check(runs=1)


def before_the_request_of(method: str, action: Callable[[], Any], *, times: int = 1) -> Any:
    return first(times, before_the_request(action), method)


def test_an_operation_that_is_mined_or_closed_is_not_cancelled(environment: FaultEnvironment) -> None:
    operation = submitted(environment)
    environment.mine()
    outcome = operator(environment.worker()).cancel(operation.key)  # mined, and the row does not say so yet
    assert (outcome.done, len(environment.find(operation).attempts)) == (False, 1)
    with pytest.raises(InterventionRefused, match=r"it is mined in block \d+, and counts once that block is final"):
        operator(environment).cancel(operation.key)
    environment.settle(operation)
    for command in ("retry", "cancel", "abandon"):
        with pytest.raises(InterventionRefused, match="it is confirmed, which is final"):
            getattr(operator(environment), command)(operation.key)
    environment.check(runs=1)


@pytest.mark.parametrize("moment", ["before the row is locked", "after the replacement is stored"])
def test_a_worker_raises_the_fees_meanwhile(environment: FaultEnvironment, moment: str) -> None:
    """The operator's command starts again, or the worker sees that there is a newer attempt."""
    operation, bumping = submitted(environment), environment.worker(bump_after=-1)
    bumping.step(operation)  # sends it, so that a bump is due next

    def bump() -> None:
        environment.mine(0)
        bumping.services.sender.step(operation)

    worker = environment.worker()
    method = "eth_getBlockByNumber" if moment.startswith("before") else SEND
    worker.connection.fault = before_the_request_of(method, bump)
    outcome = operator(worker).cancel(operation.key)
    attempts = environment.find(operation).attempts
    expected = [False, False, True] if moment.startswith("before") else [False, True]
    assert [attempt.no_effect for attempt in attempts][: len(expected)] == expected
    assert attempts[-1].no_effect
    assert outcome.done
    operation = environment.settle(bumping.step(operation))
    assert (operation.state, code_of(operation)) == ("failed", "cancelled")
    environment.check(runs=0)


def test_it_does_not_start_over_after_a_foreign_transaction(environment: FaultEnvironment) -> None:
    operation = submitted(environment)
    operator(environment).cancel(operation.key)
    environment.send_foreign(operation.nonce or 0, fee=150 * GWEI, tip=50 * GWEI)
    operation = environment.settle(operation)
    assert (operation.state, code_of(operation), operation.requeued) == ("failed", "superseded", 0)
    environment.check(runs=0)


@pytest.mark.parametrize("comes_back", ["the original", "the replacement"])
def test_a_reorganisation_meets_a_cancellation(environment: FaultEnvironment, comes_back: str) -> None:
    """The replacement is mined and dropped; whichever is mined in the end decides."""
    operation = submitted(environment)
    original = operation.attempts[0].raw_transaction
    operator(environment).cancel(operation.key)
    environment.mine()
    operation = environment.follow(environment.find(operation))
    assert operation.state == "mined"
    environment.reorg(1, *([(original, 0)] if comes_back == "the original" else []))
    operation = environment.settle(operation)
    expected = ("confirmed", None) if comes_back == "the original" else ("failed", "cancelled")
    assert (operation.state, code_of(operation)) == expected
    environment.check(runs=int(comes_back == "the original"))


def test_it_is_cancelled_after_a_reorganisation_dropped_it(environment: FaultEnvironment) -> None:
    operation = submitted(environment)
    environment.mine()
    operation = environment.follow(operation)
    environment.reorg(1)
    with pytest.raises(InterventionRefused, match="is mined in block"):
        operator(environment).cancel(operation.key)  # the row does not know yet
    assert "is put back" in operator(environment.worker()).retry(operation.key).sentence
    assert operator(environment).cancel(operation.key).done
    assert code_of(environment.settle(environment.find(operation))) == "cancelled"
    environment.check(runs=0)


@pytest.mark.parametrize("has_nonce", [False, True])
def test_an_operation_held_for_no_funds_is_cancelled(environment: FaultEnvironment, has_nonce: bool) -> None:
    operation = environment.prepare_run()
    balance = environment.w3.eth.get_balance(environment.platform.address)
    if has_nonce:
        operation = environment.step(operation)
    set_balance(environment, 10**15)
    operation = environment.step(operation)
    assert operation.held_cause == HeldCause.NO_FUNDS
    assert operator(environment).cancel(operation.key).done
    operation = environment.settle(environment.find(operation))
    assert (operation.state, code_of(operation)) == ("failed" if has_nonce else "rejected", "cancelled")
    set_balance(environment, balance)
    environment.check(runs=0)


def test_a_process_that_is_killed_between_the_store_and_the_send(environment: FaultEnvironment) -> None:
    """Recovery sends the replacement; the record says that the command did not end."""
    operation, worker = submitted(environment), environment.worker()
    with dying(worker.connection, first(1, raising(Killed()))):
        operator(worker).cancel(operation.key)
    assert [attempt.no_effect for attempt in environment.find(operation).attempts] == [False, True]
    assert [(one.command, one.outcome) for one in history(environment.database, operation.key)] == [("cancel", None)]
    environment.worker().services.reconciler.run_full()
    assert code_of(environment.settle(environment.find(operation))) == "cancelled"
    environment.check(runs=0)


def test_the_lost_answer_to_a_replacement_proves_nothing(environment: FaultEnvironment) -> None:
    operation, worker = submitted(environment), environment.worker()
    worker.connection.fault = first(1, raising(ConnectionError("reset")))
    assert operator(worker).cancel(operation.key).done
    assert code_of(environment.settle(environment.find(operation))) == "cancelled"
    environment.check(runs=0)


def test_a_replacement_that_a_node_refuses_is_sent_again(environment: FaultEnvironment) -> None:
    operation, worker = submitted(environment), environment.worker()
    worker.connection.fault = first(1, node_error("transaction lacks the right spirit"))
    outcome = operator(worker).cancel(operation.key)
    assert "the node refuses it at present: transaction lacks the right spirit" in outcome.sentence
    assert code_of(environment.settle(environment.find(operation))) == "cancelled"
    environment.check(runs=0)


def test_two_operators_at_once(environment: FaultEnvironment) -> None:
    """One replacement, and both are told."""
    operation = submitted(environment)
    outcomes: list[Outcome] = []
    operators = [operator(environment.worker(), name) for name in ("alice", "bob", "carol", "dave")]
    threads = [threading.Thread(target=lambda one=one: outcomes.append(one.cancel(operation.key))) for one in operators]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome.done for outcome in outcomes] == [True] * 4
    operation = environment.settle(environment.find(operation))
    assert [attempt.no_effect for attempt in operation.attempts] == [False, True]
    assert {one.operator for one in history(environment.database, operation.key)} == {"alice", "bob", "carol", "dave"}
    environment.check(runs=0)


def test_a_base_fee_above_the_cap(environment: FaultEnvironment) -> None:
    """Nothing is stored, as no node would take it."""
    worker = environment.worker(max_fee_per_gas=4 * GWEI)
    environment.mine_at(3 * GWEI)
    operation = worker.follow(worker.prepare_run())
    environment.mine_at(300 * GWEI)
    operation = worker.find(operation)
    with pytest.raises(InterventionRefused, match="the base fee is above MAX_FEE_GWEI"):
        operator(worker).cancel(operation.key)
    assert len(worker.find(operation).attempts) == 1
    environment.mine_at(GWEI)
    worker.settle(operation)
    worker.check(runs=1)


def test_a_deep_reorganisation_drops_the_replacement(environment: FaultEnvironment) -> None:
    """What was cancelled, and final, stays cancelled: the replacement is sent again."""
    environment.mine(5)
    operation = submitted(environment)
    operator(environment).cancel(operation.key)
    operation = environment.settle(environment.find(operation))
    reconciler = environment.services.reconciler
    reconciler.run_full()
    environment.reorg(5)
    environment.rpc("anvil_dropAllTransactions")
    environment.mine()
    for _ in range(3):
        reconciler.run_full()
    operation = environment.find(operation)
    assert (operation.state, operation.given_up, code_of(operation)) == ("submitted", True, "cancelled")
    operation = environment.settle(operation)
    assert (operation.state, code_of(operation)) == ("failed", "cancelled")
    environment.check(runs=0)


# ------------------------------------------------------------------------------------------------------- abandon


def foreign_key(environment: FaultEnvironment) -> tuple[FaultEnvironment, Operation, LocalAccount]:
    """Returns a service, and an operation in the mempool of an account whose key that service does not have."""
    host = environment.engine.accounts[1]
    operation = environment.prepare_run(signer=host)
    sender = environment.services.sender
    for _ in range(2):
        operation = sender._step(operation, host).operation
    assert operation.state == "submitted"
    return environment.worker(), operation, host


@pytest.mark.parametrize("end", ["mined", "another transaction", "carried on"])
def test_an_abandoned_operation_is_only_looked_for(environment: FaultEnvironment, end: str) -> None:
    worker, operation, host = foreign_key(environment)
    with pytest.raises(InterventionRefused, match="is not the platform's account, so nothing can replace it"):
        operator(worker).cancel(operation.key)
    outcome = operator(worker).abandon(operation.key)
    assert outcome.done
    assert "is abandoned: it is not sent any more" in outcome.sentence
    if end != "mined":
        environment.rpc("anvil_dropAllTransactions")
    worker.connection.sent.clear()
    stale = operation
    for _ in range(3):
        worker.services.reconciler.run_full()
        stale = worker.step(stale)
    states.hold(environment.database, operation, HeldCause.EARLIER, "a worker with an old copy thinks so")
    shown = metrics(worker.services)
    assert (shown["stakesim_operations_pending"], shown["stakesim_operations_held{earlier}"]) == (0, 0)
    assert check_pending(environment.database, operation.chain_id).finding == "0 operations are not final yet."
    abandoned = environment.find(operation)
    assert (abandoned.held, worker.connection.sent, len(abandoned.attempts)) == (None, [], 1)
    if end == "another transaction":
        raw = environment._sign(host, operation.nonce or 0, host.address, b"", 50 * GWEI, 2 * GWEI)
        environment.rpc(SEND, raw)
    if end == "carried on":
        assert "sends 0x" in operator(worker).retry(operation.key).sentence
        assert environment.find(operation).abandoned_at is None
    for _ in range(5):
        environment.mine()
        worker.services.reconciler.run_full()
    operation = environment.find(operation)
    assert operation.state == ("failed" if end == "another transaction" else "confirmed")
    assert code_of(operation) == ("superseded" if end == "another transaction" else None)
    assert environment.created()["runs"] == int(operation.state == "confirmed")


def test_what_was_abandoned_before_it_was_sent_is_not_sent(environment: FaultEnvironment) -> None:
    """Its process was killed after the store, and the key is gone."""
    host = environment.engine.accounts[1]
    operation = environment.services.sender._step(environment.prepare_run(signer=host), host).operation
    worker = environment.worker()
    assert (operation.state, environment.pool()) == ("signed", 0)
    operator(worker).abandon(operation.key)
    worker.services.reconciler.run_full()
    assert (worker.find(operation).state, worker.connection.sent, environment.pool()) == ("signed", [], 0)
    assert "sends 0x" in operator(worker).retry(operation.key).sentence
    assert worker.settle(worker.find(operation)).state == "confirmed"


def test_a_reorganisation_drops_what_was_abandoned(environment: FaultEnvironment) -> None:
    """It is mined, dropped, and not sent again, and confirmed once it is mined again."""
    worker, operation, _ = foreign_key(environment)
    raw = operation.attempts[0].raw_transaction
    operator(worker).abandon(operation.key)
    environment.mine()
    worker.services.reconciler.run_full()
    assert environment.find(operation).state == "mined"
    environment.reorg(1)
    environment.rpc("anvil_dropAllTransactions")
    worker.connection.sent.clear()
    for _ in range(4):
        environment.mine()
        worker.services.reconciler.run_full()
    after = environment.find(operation)
    assert (after.state, after.abandoned_at is None, worker.connection.sent) == ("submitted", False, [])
    environment.rpc(SEND, raw)
    assert worker.settle(after).state == "confirmed"
    assert environment.created()["runs"] == 1


def test_what_waits_for_an_abandoned_operation_says_so(environment: FaultEnvironment) -> None:
    worker, operation, host = foreign_key(environment)
    behind = environment.prepare_run(signer=host)
    for _ in range(2):
        behind = environment.services.sender._step(behind, host).operation
    operator(worker).abandon(operation.key)
    environment.rpc("anvil_dropAllTransactions")
    behind = worker.step(behind)
    assert behind.held_cause == HeldCause.EARLIER
    assert behind.held == f"{operation.kind} with the earlier nonce {operation.nonce} was abandoned"
    operator(worker).retry(operation.key)
    assert worker.settle(behind).state == "confirmed"
    worker.settle(environment.find(operation))
    assert environment.created()["runs"] == 2


def test_the_platforms_own_operations_are_cancelled_instead(environment: FaultEnvironment) -> None:
    operation = submitted(environment)
    message = f"abandoning it would stop everything behind nonce {operation.nonce}: use `stakesim operations cancel`"
    with pytest.raises(InterventionRefused, match=message):
        operator(environment).abandon(operation.key)
    with pytest.raises(InterventionRefused, match="it can be cancelled: use"):
        operator(environment).abandon(environment.prepare_run().key)
    assert environment.find(operation).abandoned_at is None


@pytest.mark.parametrize("cause", ["no seal", "limit", "orphan", "no key"])
def test_an_operation_without_attempts_that_nobody_can_cancel(environment: FaultEnvironment, cause: str) -> None:
    account = environment.engine.accounts[1] if cause == "no key" else None
    operation = environment.prepare_run(signer=account)
    changes: dict[str, Any] = {"limit": {"held": "…", "held_cause": "limit"}, "no seal": {"seal": None}}.get(cause, {})
    if cause == "orphan":
        changes = {"held": "it may be what 0x… has done already", "held_cause": "orphan"}
    if changes:
        with environment.database.transaction() as connection:
            connection.execute(update(operations).where(operations.c.key == operation.key).values(**changes))
    with pytest.raises(InterventionRefused, match="can't be cancelled"):
        operator(environment).cancel(operation.key)
    assert operator(environment).abandon(operation.key).done
    operation = environment.find(operation)
    assert (operation.state, code_of(operation)) == ("rejected", "cancelled")
    environment.check(runs=0)


# ------------------------------------------------------------------------------------------------------- retry


def test_a_held_operation_goes_on_at_once(environment: FaultEnvironment) -> None:
    """Though this process refused to send it for a while."""
    operation = environment.step(environment.prepare_run())
    hour = environment.worker(resend_after=3600)
    hour.connection.fault = first(9, node_error("transaction lacks the right spirit"))
    operation = hour.step(operation)
    assert operation.held_cause == HeldCause.REFUSED
    hour.connection.fault = None
    assert hour.step(operation).held is not None  # its back-off is in force
    outcome = operator(environment.worker(resend_after=3600)).retry(operation.key)
    assert outcome == Outcome(f"{operation.kind} {operation.key}: sends {operation.attempts[0].tx_hash} again.")
    environment.settle(operation)
    environment.check(runs=1)


def test_a_prepared_operation_is_signed_and_sent(environment: FaultEnvironment) -> None:
    operation = environment.prepare_run()
    environment.mine_at(300 * GWEI)
    operation = environment.step(operation)
    outcome = operator(environment.worker()).retry(operation.key)
    assert not outcome.done
    assert "stays held (base_fee): the base fee of" in outcome.sentence
    environment.mine_at(GWEI)
    outcome = operator(environment.worker()).retry(operation.key)
    operation = environment.find(operation)
    sent = operation.attempts[0].tx_hash
    assert (
        outcome.sentence
        == f"{operation.kind} {operation.key}: is signed with nonce {operation.nonce} ({sent}), sends it."
    )
    environment.settle(operation)
    environment.check(runs=1)


def test_fees_are_raised_if_the_attempt_is_old(environment: FaultEnvironment) -> None:
    """By the times of blocks: the operator's process knows nothing of earlier sends."""
    operation = submitted(environment)
    worker = environment.worker(bump_after=60, bump_blocks=3, resend_after=0)
    assert "again" in operator(worker).retry(operation.key).sentence
    environment.rpc("anvil_removePoolTransactions", environment.platform.address)
    environment.engine.set_next_timestamp(environment.engine.now() + 100)
    environment.mine(3)
    outcome = operator(environment.worker(bump_after=60, bump_blocks=3, resend_after=0)).retry(operation.key)
    assert "raises its fees to" in outcome.sentence
    assert len(environment.find(operation).attempts) == 2
    environment.settle(environment.find(operation))
    environment.check(runs=1)


def test_without_a_node_it_says_so(environment: FaultEnvironment) -> None:
    operation, worker = submitted(environment), environment.worker()
    worker.connection.fault = raising(ConnectionError("refused"))
    for command in (operator(worker).retry, operator(worker).cancel):
        with pytest.raises(ChainUnavailable):
            command(operation.key)
    prepared = environment.prepare_run()
    assert operator(worker).cancel(prepared.key).done  # needs no node
    assert len(environment.find(operation).attempts) == 1
    outcomes = [one.outcome or "" for one in history(environment.database, operation.key)]
    assert all("node" in outcome for outcome in outcomes)


# ------------------------------------------------------------------------------------------------------- lists


def test_operations_are_listed_in_pages_oldest_first(environment: FaultEnvironment) -> None:
    prepared = [environment.prepare_run() for _ in range(5)]
    closed = operator(environment).cancel(prepared[2].key)
    assert closed.done
    database, keys = environment.database, [operation.key for operation in prepared]
    seen, after = [], None
    for _ in range(2):
        page = list_operations(database, Selection(limit=2, after=after))
        seen += [operation.key for operation in page.operations]
        after = page.next
    assert (seen, after) == ([*keys[:2], *keys[3:]], None)
    everything = list_operations(database, Selection(closed=True))
    assert [operation.key for operation in everything.operations] == keys
    assert [one.key for one in list_operations(database, Selection(state="rejected")).operations] == [keys[2]]
    environment.mine_at(300 * GWEI)
    held = environment.step(prepared[4])
    assert [one.key for one in list_operations(database, Selection(cause="base_fee")).operations] == [held.key]


def test_a_key_is_found_by_a_beginning_that_no_other_has(environment: FaultEnvironment) -> None:
    for key in ("user:a%_b", "user:a%_c", "user:b", "user:b2"):
        environment.prepare_run(idempotency_key=key)
    assert find_operation(environment.database, "user:a%_b").key == "user:a%_b"
    assert find_operation(environment.database, "user:b").key == "user:b"
    for beginning, message in (("user:a", "More than one operation begins"), ("user:a__", "There is no"), ("", "no")):
        with pytest.raises(InterventionRefused, match=message):
            find_operation(environment.database, beginning)


# ------------------------------------------------------------------------------------------------------- orphans


def orphan(environment: FaultEnvironment, of: Operation, **values: Any) -> str:
    tx_hash = "0x" + "ab" * 32
    row = {"tx_hash": tx_hash, "chain_id": of.chain_id, "sender": of.sender, "nonce": 0, "block_number": 1}
    row |= {"to_address": of.to_address, "kind": of.kind, "args": {}, "data": of.data, "value_wei": of.value_wei}
    with environment.database.transaction() as connection:
        connection.execute(insert(orphans).values(row | {"succeeded": True, "subject": "…"} | values))
    return tx_hash


def test_an_orphan_is_dismissed_once(environment: FaultEnvironment) -> None:
    tx_hash = orphan(environment, environment.prepare_run())
    database = environment.database
    assert [one.tx_hash for one in list_orphans(database)] == [tx_hash]
    assert dismiss_orphan(database, tx_hash[:10], "alice").done
    assert list_orphans(database) == []
    assert [one.dismissed for one in list_orphans(database, decided=True)] == [True]
    with pytest.raises(InterventionRefused, match="is dismissed already"):
        dismiss_orphan(database, tx_hash, "bob")
    with pytest.raises(InterventionRefused, match="There is no orphan '0xcd'"):
        dismiss_orphan(database, "0xcd", "bob")
    assert [(one.operator, one.command) for one in history(database, tx_hash)] == [
        ("alice", "dismiss"), ("bob", "dismiss")
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------- the record


def test_every_intervention_is_one_line_in_the_log(
    environment: FaultEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    operation = submitted(environment)
    outcome = operator(environment).cancel(operation.key)
    with pytest.raises(AppError):
        operator(environment, "bob").abandon(operation.key)
    lines = [record for record in caplog.records if record.getMessage().startswith("operator ")]
    assert [line.getMessage() for line in lines] == [
        f"operator alice: cancel: {outcome.sentence}",
        "operator bob: abandon: " + str(history(environment.database, operation.key)[1].outcome),
    ]
    assert {line.operation for line in lines} == {operation.key}  # type: ignore[attr-defined]
    with environment.database.autocommit() as connection:
        assert len(connection.execute(select(interventions)).all()) == 2
    environment.settle(environment.find(operation))
    assert all(one.closed for one in all_operations(environment.database))

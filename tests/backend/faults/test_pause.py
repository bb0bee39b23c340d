"""The pause: no process signs an order after it has begun; exits, and what was signed before, go on."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from app.api.readiness import look_at_database
from app.core.errors import Paused
from app.db.connections import DatabasePolicy
from app.db.database import Database, open_engine
from app.services import nonce_queries, operations, pause
from app.services.operation_types import HeldCause, Operation
from fault_environment import FaultEnvironment, all_operations
from limits_environment import ETH, limited
from stakesim.scenario.actions import Terms

pytestmark = pytest.mark.slow


def test_a_pause_stops_orders_in_all_processes_and_nothing_else(environment: FaultEnvironment) -> None:
    """New orders are not even stored; stored ones wait; exits are signed; signed ones are sent and mined."""
    other = environment.worker()
    run, doomed = environment.open_run(), environment.open_run(seats=5)
    booked = environment.settle(environment.prepare_booking(run))
    stored, signed = environment.prepare_booking(run), other.step(other.prepare_booking(run))
    assert signed.state == "signed"
    begun = pause.pause(other.database, "h. operator", "the price feed looks wrong")
    assert pause.pause(environment.database, "another", None) == begun
    stored_before = len(all_operations(environment.database))
    for worker in (environment, other):
        for order in (lambda w=worker: w.prepare_booking(run), lambda w=worker: w.prepare_run()):
            with pytest.raises(Paused):
                order()
        assert worker.step(stored).held_cause == HeldCause.PAUSED
    assert len(all_operations(environment.database)) == stored_before
    [problem] = [each for each in look_at_database(environment.services) if each.check == "pause"]
    assert not problem.blocks
    assert "h. operator paused new event runs and bookings at " in problem.message
    assert problem.message.endswith(": the price feed looks wrong")
    assert booked.subject is not None
    services = environment.services
    assert environment.settle(environment.find(signed)).state == "confirmed"
    for exit_ in (services.bookings.prepare_cancel(booked.subject), services.runs.prepare_cancel(doomed)):
        assert environment.settle(exit_).state == "confirmed"
    ended = pause.resume(environment.database, "h. operator")
    assert ended == begun
    assert pause.resume(environment.database, "h. operator") is None
    assert other.settle(other.find(stored)).state == "confirmed"
    assert [each.check for each in look_at_database(services)] == []


def test_a_repeated_request_gets_its_outcome_during_a_pause(environment: FaultEnvironment) -> None:
    run = environment.open_run()
    before = environment.prepare_booking(run, idempotency_key="user:once")
    pause.pause(environment.database, "operator")
    assert environment.prepare_booking(run, idempotency_key="user:once").key == before.key


def test_fees_are_not_raised_for_orders_during_a_pause(environment: FaultEnvironment) -> None:
    """A transaction without effect is still signed."""
    run = environment.open_run()
    worker = environment.worker(bump_after=0)
    operation = worker.step(worker.step(worker.prepare_booking(run)))
    attempts = len(operation.attempts)
    pause.pause(worker.database, "operator")
    for _ in range(3):
        operation = worker.step(operation)
    assert len(operation.attempts) == attempts
    pause.resume(worker.database, "operator")
    operation = worker.step(operation)
    assert len(operation.attempts) == attempts + 1
    pause.pause(worker.database, "operator")
    sender = worker.services.sender
    given_up = sender.unmined.give_up_nonce(operation, worker.platform, sender.policy)
    assert given_up.given_up


def test_the_first_nonce_of_an_account_waits_too(environment: FaultEnvironment) -> None:
    operation = environment.prepare_run()
    pause.pause(environment.database, "operator")
    assert environment.step(operation).held_cause == HeldCause.PAUSED


def test_an_account_whose_nonces_the_database_lost_waits_too(environment: FaultEnvironment) -> None:
    """Signing is not tried again and again with the nonce that the chain gives."""
    environment.open_run()
    with environment.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE nonces SET next = next - 1")
    operation = environment.prepare_run()
    pause.pause(environment.database, "operator")
    assert environment.step(operation).held_cause == HeldCause.PAUSED
    pause.resume(environment.database, "operator")
    assert environment.settle(environment.find(operation)).state == "confirmed"


def test_completing_goes_on_and_the_platforms_own_money_waits(environment: FaultEnvironment) -> None:
    """Completing pays others; nobody but the platform waits for its fees."""
    run, worker = environment.open_run(), environment.worker(bump_after=0)
    booked = environment.settle(environment.prepare_booking(run))
    starts_at = environment.services.runs.get(run).starts_at
    environment.engine.set_next_timestamp(int(starts_at.timestamp()))
    environment.mine()
    sender, chain = environment.services.sender, environment.services.chain
    draft = sender.draft(chain._call("withdrawPlatformFees"), None)
    with environment.database.autocommit() as connection:
        fees = operations.create(connection, "fees", "", draft)
    pause.pause(environment.database, "operator")
    assert booked.subject is not None
    completed = environment.settle(environment.services.runs.prepare_complete(run, [booked.subject]))
    assert completed.state == "confirmed"
    assert worker.step(fees).held_cause == HeldCause.PAUSED
    pause.resume(environment.database, "operator")
    fees = worker.step(worker.step(worker.find(fees)))
    pause.pause(environment.database, "operator")
    assert worker.step(fees).attempts == fees.attempts, "no fees are raised"
    pause.resume(environment.database, "operator")
    assert len(worker.step(fees).attempts) == len(fees.attempts) + 1
    assert worker.settle(worker.find(fees)).state == "confirmed"


def test_a_forgotten_run_expires_during_a_pause(environment: FaultEnvironment) -> None:
    run = environment.open_run()
    environment.settle(environment.prepare_booking(run))
    starts_at = environment.services.runs.get(run).starts_at
    environment.engine.set_next_timestamp(int(starts_at.timestamp()) + Terms().completion_grace)
    environment.mine()
    pause.pause(environment.database, "operator")
    assert environment.settle(environment.services.runs.prepare_expire(run)).state == "confirmed"


@pytest.mark.parametrize("first", ["the pause", "the statement that signs"])
def test_no_statement_that_signs_overtakes_the_pause(environment: FaultEnvironment, first: str) -> None:
    """What began to sign before is signed when `pause` returns; what begins later is not."""
    environment.open_run()
    operation, worker = environment.prepare_run(), environment.worker()
    after = list[Operation | None]()
    paused = threading.Event()

    def begin_pause() -> None:
        pause.pause(worker.database, "operator")
        paused.set()

    with environment.database.transaction() as connection:
        if first == "the pause":
            connection.exec_driver_sql("LOCK TABLE nonces IN SHARE ROW EXCLUSIVE MODE")
            signing = threading.Thread(target=lambda: after.append(worker.services.sender.step(operation)))
            signing.start()
            assert not paused.wait(0.3)  # the statement waits for the lock
            connection.exec_driver_sql("INSERT INTO pauses (paused_by) VALUES ('operator')")
            thread = signing
        else:
            nonce = environment.count()
            attempt = worker.services.sender._sign_attempt(
                operation, environment.platform, nonce, 400_000, _fees(), environment.w3.eth.block_number
            )
            assert nonce_queries.sign(connection, operation, attempt) is not None
            thread = threading.Thread(target=begin_pause)
            thread.start()
            assert not paused.wait(0.3)  # the pause waits for the transaction that signs
    thread.join(30)
    stored = environment.find(operation)
    if first == "the pause":
        assert (stored.state, stored.held_cause) == ("prepared", HeldCause.PAUSED)
    else:
        assert stored.state == "signed"
        assert paused.is_set()


def _fees() -> Any:
    from app.services.transactions.fees import Fees

    return Fees(10**10, 10**9)


def test_an_approved_operation_waits_for_the_end_of_the_pause(environment: FaultEnvironment) -> None:
    from app.services.interventions import approve_operation

    worker = limited(environment, operation_wei=ETH)
    large = worker.step(worker.prepare_run(seats=100))
    approve_operation(worker.database, worker.services.sender.sealer, large.key, "operator")
    pause.pause(worker.database, "operator")
    assert worker.step(large).held_cause == HeldCause.PAUSED
    pause.resume(worker.database, "operator")
    assert worker.settle(worker.find(large)).state == "confirmed"


def test_a_pause_waits_for_a_slow_signer(environment: FaultEnvironment) -> None:
    """Longer than a statement waits for a lock otherwise: what holds it may be waiting for a signature."""
    policy = DatabasePolicy(lock_timeout=0.2, statement_timeout=0.4)
    impatient = Database(open_engine(environment.database.engine.url, policy))
    paused = threading.Event()

    def begin_pause() -> None:
        pause.pause(impatient, "operator")
        paused.set()

    with environment.database.transaction() as connection:
        pause.lock_against_pause(connection)
        thread = threading.Thread(target=begin_pause)
        thread.start()
        assert not paused.wait(1)
    thread.join(30)
    assert paused.is_set()
    impatient.engine.dispose()

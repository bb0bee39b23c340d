"""Row 32: the database lost its last commits after the send, as after a failover or a restore."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from app.db.database import Database
from app.db.tables import event_run_bookings, metadata, nonces, operations, orphans
from app.services.operation_types import Operation
from app.services.pricing import Rate
from fault_environment import FaultEnvironment, Forward, all_operations, hashes_of
from monitoring import errors, metrics, ready
from sqlalchemy import delete, insert, select, update

pytestmark = pytest.mark.slow

Saved = dict[str, list[dict[str, Any]]]


def save(database: Database) -> Saved:
    """Returns all rows, as a standby has them that lags behind from now on."""
    with database.transaction() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in metadata.sorted_tables
        }


def lose_commits(database: Database, saved: Saved) -> None:
    """Makes the database what it was: all later commits are lost."""
    with database.transaction() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
        for table in metadata.sorted_tables:
            if saved[table.name]:
                connection.execute(insert(table), saved[table.name])


def found(database: Database) -> list[Any]:
    with database.autocommit() as connection:
        return list(connection.execute(select(orphans).order_by(orphans.c.nonce)).all())


def book(environment: FaultEnvironment, run: Any, key: str) -> Operation:
    attendee = environment.ids["attendee"]
    return environment.services.bookings.prepare_book(run, attendee, 2, idempotency_key=key)


def restarted(environment: FaultEnvironment, restart: bool) -> FaultEnvironment:
    """Returns the service in a new process, or in the one that sent what is lost."""
    return environment.worker() if restart else environment


@pytest.mark.parametrize("restart", [True, False], ids=["a new process", "the same process"])
@pytest.mark.parametrize("lost", ["the whole order", "its transaction"])
@pytest.mark.parametrize("mined", [0, 1, 5])
def test_32_the_same_key_again_takes_over_what_was_sent(
    environment: FaultEnvironment, caplog: pytest.LogCaptureFixture, restart: bool, lost: str, mined: int
) -> None:
    """In the mempool, mined, or final by the time of the retry: never a second booking."""
    run = environment.open_run()
    saved = save(environment.database)
    before = book(environment, run, "once")
    if lost == "its transaction":
        saved = save(environment.database)
    before = environment.follow(before)
    environment.mine(mined)
    lose_commits(environment.database, saved)
    service = restarted(environment, restart)
    retried = service.follow(book(service, run, "once"))
    if mined < 3:
        assert (retried.state, retried.held_cause, retried.nonce) == ("prepared", "orphan", None)
        assert any(retried.held in line for line in errors(caplog) if retried.held)
        service.services.reconciler.run_full()
        status, checks = ready(service.services)
        assert status == 503
        assert "nonces" in checks
        assert metrics(service.services)["stakesim_operations_held{orphan}"] == 1
        environment.mine(4)
    retried = service.settle(environment.find(retried))
    assert (retried.state, hashes_of(retried)) == ("confirmed", hashes_of(before))
    [orphan] = found(environment.database)
    assert (orphan.tx_hash, orphan.operation_key) == (before.attempts[0].tx_hash, "once")
    assert (orphan.kind, orphan.args["seat_count"], orphan.value_wei) == ("bookEventFor", 2, before.value_wei)
    assert sum(line.startswith(f"orphan: {orphan.tx_hash}") for line in errors(caplog)) == 1
    service.services.reconciler.run_full()
    assert ready(service.services) == (200, {})
    service.check(runs=1, bookings=1)


def test_32_an_orphan_that_nobody_asks_for_again_is_said(
    environment: FaultEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    """Other orders go on; /ready names it; a person decides."""
    run = environment.open_run()
    saved = save(environment.database)
    lost = environment.settle(book(environment, run, "lost"))
    lose_commits(environment.database, saved)
    service = environment.worker()
    report = service.services.reconciler.run_full()
    assert report.failure is None
    [orphan] = found(environment.database)
    assert orphan.tx_hash == lost.tx_hash
    assert any(line.startswith(f"orphan: {orphan.tx_hash}") for line in errors(caplog))
    status, checks = ready(service.services)
    assert status == 200
    assert orphan.tx_hash in checks["orphans"]
    assert metrics(service.services)["stakesim_orphans"] == 1
    other = service.settle(service.prepare_run(idempotency_key="other"))
    assert (other.state, other.nonce) == ("confirmed", orphan.nonce + 1)
    with environment.database.transaction() as connection:
        connection.execute(update(orphans).values(dismissed=True))
    assert "orphans" not in ready(service.services)[1]
    again = service.settle(book(service, run, "lost"))  # known by now to be another order
    assert (again.state, again.nonce) == ("confirmed", orphan.nonce + 2)
    assert environment.created() == {"runs": 2, "bookings": 2}


def test_32_an_order_that_differs_in_its_amounts_only_is_held(environment: FaultEnvironment) -> None:
    """The rate has moved since, so the retry asks for another price in wei: the same run all the same."""
    environment.open_run()
    saved, starts_at = save(environment.database), environment.now()
    environment.now = lambda: starts_at  # type: ignore[method-assign]
    lost = environment.settle(environment.prepare_run(idempotency_key="once"))
    lose_commits(environment.database, saved)
    environment.feed.rate = Rate(Decimal(210_000), starts_at)
    service = environment.worker()
    service.now = lambda: starts_at  # type: ignore[method-assign]
    retried = service.follow(service.prepare_run(idempotency_key="once"))
    assert retried.value_wei != lost.value_wei
    for _ in range(3):
        environment.mine()
        retried = service.follow(environment.find(retried))
        assert (retried.state, retried.held_cause, retried.nonce) == ("prepared", "orphan", None)
    assert retried.held is not None
    assert lost.attempts[0].tx_hash in retried.held
    assert environment.created() == {"runs": 2, "bookings": 0}


def test_32_two_lost_orders_for_the_same_have_two_effects_and_no_third(environment: FaultEnvironment) -> None:
    run = environment.open_run(seats=10)
    saved = save(environment.database)
    for key in ("first", "second"):
        environment.settle(book(environment, run, key))
    lose_commits(environment.database, saved)
    service = environment.worker()
    retried = [service.settle(book(service, run, key)) for key in ("first", "second", "third")]
    assert {operation.state for operation in retried} == {"confirmed"}
    assert environment.created()["bookings"] == 3
    assert len({operation.tx_hash for operation in retried}) == 3
    service.check(runs=1, bookings=3)


def test_32_a_lost_attempt_with_other_fees_is_the_operations_own(environment: FaultEnvironment) -> None:
    """The commit of a fee bump is lost, and the bumped attempt is mined: it is no foreign transaction."""
    run = environment.open_run()
    operation = environment.follow(book(environment, run, "once"))
    saved = save(environment.database)
    bumping = environment.worker(bump_after=0, resend_after=0)
    bumped = operation
    while len(bumped.attempts) == len(operation.attempts):
        bumped = bumping.step(bumped)
    environment.mine(3)
    lose_commits(environment.database, saved)
    service = environment.worker()
    after = service.settle(environment.find(operation))
    assert (after.state, after.requeued) == ("confirmed", 0)
    assert after.tx_hash == bumped.attempts[-1].tx_hash
    service.check(runs=1, bookings=1)


def test_32_what_was_lost_and_never_mined_stops_nothing(environment: FaultEnvironment) -> None:
    run = environment.open_run()
    saved = save(environment.database)
    environment.follow(book(environment, run, "once"))
    lose_commits(environment.database, saved)
    service = environment.worker()
    retried = service.follow(book(service, run, "once"))
    assert retried.held_cause == "orphan"
    environment.rpc("anvil_dropAllTransactions")
    assert service.settle(environment.find(retried)).state == "confirmed"
    assert found(environment.database) == []
    service.check(runs=1, bookings=1)


def test_32_rows_that_are_lost_while_their_nonces_are_not(environment: FaultEnvironment) -> None:
    """The contract's events show it: they are compared with the table as well as the count."""
    run = environment.open_run()
    environment.services.reconciler.run_full()
    lost = environment.settle(book(environment, run, "lost"))
    with environment.database.transaction() as connection:
        connection.execute(delete(operations).where(operations.c.key == "lost"))
        connection.execute(delete(event_run_bookings))
        following = connection.execute(select(nonces.c.next)).scalar_one()
    service = environment.worker()
    service.services.reconciler.run_full()
    [orphan] = found(environment.database)
    assert (orphan.tx_hash, orphan.nonce) == (lost.tx_hash, following - 1)
    assert len(all_operations(environment.database)) == 1
    retried = service.settle(book(service, run, "lost"))
    assert (retried.state, retried.tx_hash) == ("confirmed", lost.tx_hash)
    assert environment.created() == {"runs": 1, "bookings": 1}


@pytest.mark.parametrize("restart", [True, False], ids=["a new process", "the same process"])
@pytest.mark.parametrize("mined", [1, 5])
def test_32_what_its_own_lost_transaction_made_impossible_is_taken_over(
    environment: FaultEnvironment, restart: bool, mined: int
) -> None:
    """The contract refuses the repeated order, as the lost one has taken the last seats."""
    run = environment.open_run(seats=2)
    saved = save(environment.database)
    before = environment.follow(book(environment, run, "once"))
    environment.mine(mined)
    lose_commits(environment.database, saved)
    service = restarted(environment, restart)
    retried = service.follow(book(service, run, "once"))
    assert retried.state != "rejected"
    environment.mine(4)
    retried = service.settle(environment.find(retried))
    assert (retried.state, hashes_of(retried)) == ("confirmed", hashes_of(before))
    service.check(runs=1, bookings=1)


def test_32_a_cancellation_that_was_lost_is_taken_over(environment: FaultEnvironment) -> None:
    """The contract refuses to cancel the booking twice."""
    run = environment.open_run()
    booking = environment.settle(book(environment, run, "book")).subject
    assert booking is not None
    saved = save(environment.database)
    before = environment.settle(environment.services.bookings.prepare_cancel(booking, idempotency_key="cancel"))
    lose_commits(environment.database, saved)
    service = environment.worker()
    retried = service.settle(service.services.bookings.prepare_cancel(booking, idempotency_key="cancel"))
    assert (retried.state, hashes_of(retried)) == ("confirmed", hashes_of(before))
    assert service.services.bookings.get(booking).status == "cancelled"
    assert service.services.reconciler.run_full().differences == []


def test_32_what_the_contract_refuses_for_another_reason_is_rejected(environment: FaultEnvironment) -> None:
    run = environment.open_run(seats=1)
    assert environment.settle(book(environment, run, "too many")).state == "rejected"


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("mined", [False, True], ids=["in the mempool", "mined"])
def test_32_what_another_process_sends_meanwhile_is_no_orphan(
    environment: FaultEnvironment, moment: str, mined: bool
) -> None:
    """At whichever of its calls the other process comes in: the node counts its nonce, and its row is there."""
    environment.open_run()
    call = 0
    while True:
        one, other = environment.worker(), environment.worker()
        operation, calls = one.prepare_run(seats=5), 0

        def fault(
            method: str, params: Any, forward: Forward, other: FaultEnvironment = other, chosen: int = call
        ) -> Any:
            nonlocal calls
            calls += 1
            answer = forward() if moment == "after" else None
            if calls == chosen + 1:
                other.step(other.step(other.prepare_run(seats=6)))
                environment.mine(1 if mined else 0)
            return answer or forward()

        one.connection.fault = fault
        operation = one.step(operation)
        one.connection.fault = None
        assert (operation.held, operation.state) in ((None, "signed"), (None, "submitted")), (call, operation)
        for each in all_operations(environment.database):
            environment.settle(each)
        call += 1
        if calls < call:
            break
    assert call > 5
    environment.check(runs=1 + 2 * call - 1)

"""Row 33: a reorganisation deeper than the confirmations reopens what it undid, and says so."""

from __future__ import annotations

import pytest
from app.db.tables import chain_cursors
from app.services.reconciler import Reconciler
from fault_environment import FaultEnvironment
from monitoring import errors, metrics, ready
from sqlalchemy import select

pytestmark = pytest.mark.slow

DEEP = 8
"""Blocks that are dropped; three confirmations are final."""


def reconciler_of(environment: FaultEnvironment, finality_blocks: int | None = None) -> Reconciler:
    services = environment.services
    return Reconciler(
        environment.database,
        services.chain,
        services.runs,
        quiet_for=0,
        health=services.health,
        finality_blocks=finality_blocks,
    )


def settle_all(environment: FaultEnvironment, reconciler: Reconciler) -> None:
    for _ in range(12):
        environment.mine()
        report = reconciler.run_once()
        assert report.failure is None
        if not report.pending and not report.problems and environment.pool() == 0:
            environment.mine(3)
            reconciler.run_once()
            return
    raise AssertionError(report)


@pytest.mark.parametrize("seen", ["a round saw it confirmed", "it was confirmed since the last round"])
def test_33_what_was_confirmed_is_reopened_and_its_bytes_are_sent_again(
    environment: FaultEnvironment, caplog: pytest.LogCaptureFixture, seen: str
) -> None:
    reconciler, services = reconciler_of(environment), environment.services
    run = environment.open_run()
    environment.mine(DEEP)
    reconciler.run_once()
    booking = environment.settle(services.bookings.prepare_book(run, environment.ids["attendee"], 2))
    environment.mine(2)
    if seen.startswith("a round"):
        reconciler.run_once()
    row = services.bookings.get(booking.subject)  # type: ignore[arg-type]
    assert (row.blockchain_status, services.runs.get(run).seats_booked) == ("confirmed", 2)
    environment.reorg(DEEP)
    assert environment.created() == {"runs": 1, "bookings": 0}

    report = reconciler.run_once()
    assert report.problems == ["a deep reorganisation: 1 operations were reopened"]
    reopened = environment.find(booking)
    assert (reopened.state, reopened.reorged, reopened.tx_hash) == ("submitted", True, None)
    row = services.bookings.get(booking.subject)  # type: ignore[arg-type]
    assert (row.blockchain_status, row.blockchain_booking_id) == ("pending", None)
    assert any("a reorganisation went deeper than the confirmations" in line for line in errors(caplog))
    assert metrics(services)["stakesim_operations_reopened_total"] == 1
    assert "1 operations were reopened" in ready(services)[1]["reconciler"]

    settle_all(environment, reconciler)
    assert ready(services) == (200, {})
    confirmed = environment.find(booking)
    assert (confirmed.state, confirmed.attempts) == ("confirmed", booking.attempts)
    assert services.runs.get(run).seats_booked == 2
    environment.check(runs=1, bookings=1)


def test_33_no_round_had_followed_the_chain_yet(environment: FaultEnvironment) -> None:
    """The process ended before its first round stored how far it had followed the chain."""
    reconciler = reconciler_of(environment)
    environment.mine(DEEP)
    operation = environment.settle(environment.prepare_run())
    environment.mine(2)
    environment.reorg(DEEP)
    assert environment.created() == {"runs": 0, "bookings": 0}
    reconciler.run_once()
    assert environment.find(operation).state == "submitted"
    settle_all(environment, reconciler)
    environment.check(runs=1)


def test_33_a_run_and_all_that_depends_on_it(environment: FaultEnvironment) -> None:
    """Run, bookings, a cancelled booking and the cancelled run: all are dropped, and all come again."""
    reconciler, services = reconciler_of(environment), environment.services
    environment.mine(30)
    reconciler.run_once()
    run = environment.open_run()
    bookings = [
        environment.settle(services.bookings.prepare_book(run, environment.ids["attendee"], 1)) for _ in range(2)
    ]
    environment.settle(services.bookings.prepare_cancel(bookings[0].subject))  # type: ignore[arg-type]
    environment.settle(services.runs.prepare_cancel(run))
    reconciler.run_once()
    before = [services.runs.get(run), *services.bookings.of_run(run)]
    environment.reorg(25)
    assert environment.created() == {"runs": 0, "bookings": 0}
    reconciler.run_once()
    assert services.runs.get(run).blockchain_status == "pending"
    settle_all(environment, reconciler)
    environment.check(runs=1, bookings=2)
    after = [services.runs.get(run), *services.bookings.of_run(run)]
    assert [row.status for row in after] == [row.status for row in before] == ["cancelled"] * 3
    assert services.runs.get(run).seats_booked == before[0].seats_booked


def test_33_a_reverted_operation_may_succeed_on_the_other_chain(environment: FaultEnvironment) -> None:
    reconciler, services = reconciler_of(environment), environment.services
    run = environment.open_run()
    environment.mine(DEEP)
    reconciler.run_once()
    booking = environment.step(services.bookings.prepare_book(run, environment.ids["attendee"], 1))
    environment.send_as(1, "cancelEvent", 1)  # the host's key; its fee puts it first in the block
    booking = environment.settle(booking)
    assert (booking.state, environment.status(booking)) == ("failed", "failed")
    reconciler.run_once()
    assert services.runs.get(run).status == "cancelled"
    environment.reorg(DEEP)
    reconciler.run_once()
    assert (environment.find(booking).state, environment.status(booking)) == ("submitted", "pending")
    assert services.runs.get(run).status == "active"  # what a stranger's transaction had changed is undone as well
    settle_all(environment, reconciler)
    assert (environment.find(booking).state, environment.status(booking)) == ("confirmed", "confirmed")
    assert services.runs.get(run).seats_booked == 1
    environment.check(runs=1, bookings=1)


def test_33_only_what_was_dropped_is_reopened(environment: FaultEnvironment) -> None:
    """Blocks are compared newest first, one header each, until one is still in the chain."""
    reconciler, services = reconciler_of(environment), environment.services
    run = environment.open_run()
    kept = environment.settle(services.bookings.prepare_book(run, environment.ids["attendee"], 1))
    environment.mine(DEEP)
    dropped = environment.settle(services.bookings.prepare_book(run, environment.ids["attendee"], 1))
    reconciler.run_once()
    environment.reorg(5)
    reconciler.run_once()
    assert (environment.find(kept).state, environment.find(dropped).state) == ("confirmed", "submitted")
    assert services.runs.get(run).seats_booked == 1
    settle_all(environment, reconciler)
    environment.check(runs=1, bookings=2)


def test_33_another_chain_reopens_nothing(environment: FaultEnvironment) -> None:
    """A finalized block that changed proves that the node is on another chain: nothing is concluded or sent."""
    reconciler, services = reconciler_of(environment, finality_blocks=4), environment.services
    run = environment.prepare_run()
    environment.settle(run)
    environment.mine(DEEP)
    reconciler.run_once()
    with environment.database.autocommit() as connection:
        finalized = connection.execute(select(chain_cursors.c.finalized_block)).scalar_one()
    assert finalized == services.chain.block_number() - 4
    environment.reorg(DEEP)
    environment.mine(2)
    before = len(environment.connection.sent)
    services.health.started()
    for _ in range(2):
        failure = reconciler.run_once().failure
        assert f"block {finalized} was final and is another one now" in (failure or "")
    assert environment.find(run).state == "confirmed"
    assert len(environment.connection.sent) == before
    assert "another chain" in ready(services)[1]["reconciler"]


def test_33_a_node_that_is_behind_reopens_nothing(environment: FaultEnvironment) -> None:
    reconciler = reconciler_of(environment)
    run = environment.settle(environment.prepare_run())
    environment.mine(DEEP)
    reconciler.run_once()
    environment.rpc("anvil_rollback", DEEP)
    report = reconciler.run_once()
    assert "has no block" in (report.failure or "")
    assert environment.find(run).state == "confirmed"


def test_33_the_first_nonce_is_used_once(environment: FaultEnvironment) -> None:
    """A reopened operation keeps its nonce, whatever comes after it."""
    reconciler = reconciler_of(environment)
    environment.mine(DEEP)
    first, second = environment.settle(environment.prepare_run()), environment.settle(environment.prepare_run())
    reconciler.run_once()
    environment.reorg(DEEP)
    sent = {operation.attempts[0].raw_transaction for operation in (first, second)}
    settle_all(environment, reconciler)
    assert set(environment.connection.sent) == sent
    environment.check(runs=2)

"""Row 33: a reorganisation deeper than the confirmations reopens what it undid, and says so."""

from __future__ import annotations

from uuid import UUID

import pytest
from app.db.tables import chain_cursors
from app.services.operation_types import Operation
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
    """The blocks of all operations after the finalized block are compared, one header each."""
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


def test_33_what_was_closed_in_the_other_chain_hides_nothing(environment: FaultEnvironment) -> None:
    """The round that finds the reorganisation has closed an operation before, in a block of the chain that is new."""
    reconciler, services = reconciler_of(environment), environment.services
    run = environment.open_run()
    environment.mine(DEEP)
    reconciler.run_once()
    first = environment.settle(services.bookings.prepare_book(run, environment.ids["attendee"], 1))
    environment.mine(5)  # the second one comes into a later block than the first one was in
    reconciler.run_once()
    second = environment.step(services.bookings.prepare_book(run, environment.ids["attendee"], 1))
    cancelled = environment.sign_as(1, "cancelEvent", 1)
    transactions = [cancelled, *(booking.attempts[-1].raw_transaction for booking in (first, second))]
    environment.reorg(DEEP, *((raw, index) for index, raw in enumerate(transactions)))
    assert environment.created() == {"runs": 1, "bookings": 0}
    reconciler.run_once()
    assert (environment.find(second).state, environment.find(first).state) == ("failed", "submitted")
    settle_all(environment, reconciler)
    assert [environment.status(booking) for booking in (first, second)] == ["failed", "failed"]
    assert services.runs.get(run).status == "cancelled"
    environment.check(runs=1)


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


# ------------------------------------------------------------------------ calls that name what a reorganisation moved

NAMING = ("book", "cancel booking", "cancel run", "complete", "expire")


def open_run_and_booking(environment: FaultEnvironment) -> Operation:
    """Returns the booking's operation; run and booking are confirmed, and a round has followed their blocks."""
    environment.mine(30)  # so that there are blocks that stay
    reconciler_of(environment).run_once()
    booking = environment.settle(environment.prepare_booking(environment.open_run()))
    environment.mine(2)
    reconciler_of(environment).run_once()
    return booking


def prepare(environment: FaultEnvironment, kind: str, booking_id: UUID, run_id: UUID) -> Operation:
    services = environment.services
    if kind == "book":
        return environment.prepare_booking(run_id)
    if kind == "cancel booking":
        return services.bookings.prepare_cancel(booking_id)
    if kind == "complete":
        return services.runs.prepare_complete(run_id, [booking_id])
    return services.runs.prepare_cancel(run_id) if kind == "cancel run" else services.runs.prepare_expire(run_id)


def strangers_run_and_booking(environment: FaultEnvironment, run_id: UUID) -> list[tuple[str, int]]:
    """Returns a stranger's transactions that open a run like this one, and book a seat of it."""
    row = environment.services.runs.get(run_id)
    price, seats = int(row.blockchain_price_per_seat_wei or 0), row.max_seats
    arguments = (str(row.experience_id), price, seats, int(row.starts_at.timestamp()))
    create = environment.sign_as(2, "createEventRun", *arguments, value=price * seats // 5)
    book = environment.sign_as(3, "bookEvent", 1, 1, value=price * 6 // 5)
    return [(create, 0), (book, 1)]


@pytest.mark.parametrize("stored", ["stored before", "stored after"])
@pytest.mark.parametrize("kind", NAMING)
def test_33_nothing_is_sent_to_a_strangers_run_that_took_the_number(
    environment: FaultEnvironment, kind: str, stored: str
) -> None:
    """The stranger's run and booking have the same numbers, price and times; no round has noticed anything yet."""
    booking = open_run_and_booking(environment)
    services, reconciler = environment.services, reconciler_of(environment)
    row = services.bookings.get(booking.subject)  # type: ignore[arg-type]
    operation = prepare(environment, kind, row.id, row.event_run_id) if stored == "stored before" else None
    environment.reorg(20, *strangers_run_and_booking(environment, row.event_run_id))
    assert environment.created() == {"runs": 1, "bookings": 1}
    operation = operation or prepare(environment, kind, row.id, row.event_run_id)
    held = environment.step(operation)
    assert (held.state, held.held_cause, held.attempts) == ("prepared", "reorg", [])
    assert "is not in the chain any more" in str(held.held)
    # once the rows have followed, the call names another number than its row has
    reconciler.run_once()
    held = environment.step(environment.find(operation))
    assert (held.state, held.held_cause, held.attempts) == ("prepared", "reorg", [])
    settle_all(environment, reconciler)
    closed = environment.find(operation)
    assert closed.error is not None
    assert (closed.state, closed.error["code"], closed.attempts) == ("rejected", "superseded", [])
    strangers = services.chain.get_event_run_from_chain(1)
    assert (strangers.status.name, strangers.seats_booked) == ("ACTIVE", 1)
    assert services.runs.get(row.event_run_id).blockchain_event_run_id == 2
    assert services.bookings.get(row.id).blockchain_status in ("failed", "pending")

"""What a round of the reconciler takes over, tells, and leaves alone."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from app.core.errors import ContractRejected
from app.db.tables import chain_cursors, event_run_bookings, event_runs, operations
from app.services.reconciler import Reconciler, ReconcileReport
from sqlalchemy import delete, func, select, update
from stage import Stage, before_request, too_many_requests, transact
from test_costs import counted
from test_rows import mined


@pytest.fixture
def reconciler(stage: Stage) -> Reconciler:
    return Reconciler(stage.database, stage.chain, stage.runs, quiet_for=3_600)


def cursor(stage: Stage) -> int | None:
    with stage.database.autocommit() as connection:
        return connection.scalars(select(chain_cursors.c.block_number)).one_or_none()


def test_the_next_block_is_looked_at_and_no_block_twice(stage: Stage, reconciler: Reconciler) -> None:
    run, other = stage.open_run(), stage.open_run()
    for of in (run, other):
        stage.bookings.book(of.id, stage.ids["attendee"], 1)
    assert reconciler.run_once().refreshed == []
    assert cursor(stage) == stage.chain.block_number()
    transact(stage, "attendee", "cancelBooking", 2)  # in the very next block; its event names no run
    assert reconciler.run_once().refreshed == [other.id]
    assert [booking.status for booking in stage.bookings.list_all()] == ["active", "cancelled"]
    assert (stage.runs.get(run.id).seats_booked, stage.runs.get(other.id).seats_booked) == (1, 0)
    transact(stage, "host", "cancelEvent", 1)
    assert reconciler.run_once().refreshed == [run.id]
    assert reconciler.run_once().refreshed == []
    assert cursor(stage) == stage.chain.block_number()
    assert reconciler.dry_run().differences == []


@pytest.mark.slow
@pytest.mark.parametrize(("span", "looks"), [(1, [1, 1, 1]), (2, [2, 1]), (3, [3]), (1_000, [3])])
def test_many_blocks_are_looked_at_in_spans(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, span: int, looks: list[int]
) -> None:
    reconciler = Reconciler(stage.database, stage.chain, stage.runs, quiet_for=3_600, max_block_range=span)
    events_between, asked = stage.chain.events_between, list[int]()

    def listen(first: int, last: int) -> Any:
        asked.append(last - first + 1)
        return events_between(first, last)

    monkeypatch.setattr(stage.chain, "events_between", listen)
    runs = [stage.open_run() for _ in range(3)]
    reconciler.run_once()
    before = cursor(stage)
    for number in (1, 2, 3):
        transact(stage, "host", "cancelEvent", number)
    asked.clear()
    assert sorted(reconciler.run_once().refreshed) == sorted(run.id for run in runs)
    assert {run.status for run in stage.runs.list_all()} == {"cancelled"}
    assert cursor(stage) == stage.chain.block_number() == before + 3  # type: ignore[operator]
    assert asked == looks


def test_what_is_ours_is_not_asked_for_again(stage: Stage, reconciler: Reconciler) -> None:
    reconciler.run_once()
    run = stage.open_run()
    stage.bookings.book(run.id, stage.ids["attendee"], 1)
    stage.runs.cancel(run.id)
    assert reconciler.run_once().refreshed == []


def test_what_could_not_be_taken_over_is_the_next_rounds(stage: Stage, reconciler: Reconciler) -> None:
    run = stage.open_run()
    reconciler.run_once()
    known = cursor(stage)
    transact(stage, "host", "cancelEvent", 1)

    with too_many_requests(stage.engine.w3, "eth_call"):
        report = reconciler.run_once()
    assert (report.refreshed, cursor(stage)) == ([], known)
    assert len(report.problems) == 1
    assert report.problems[0].startswith("getEventRun: the node says")
    with too_many_requests(stage.engine.w3, "eth_getLogs"):
        report = reconciler.run_once()
    assert (report.refreshed, cursor(stage)) == ([], known)
    assert [told.partition(": the node says")[0] for told in report.problems] == ["events"]
    assert reconciler.run_once().refreshed == [run.id]


def test_what_an_operation_met_is_told_with_how_far_it_came(stage: Stage, reconciler: Reconciler) -> None:
    run = stage.open_run()
    operation = stage.bookings.prepare_book(run.id, stage.ids["attendee"], 1)
    with too_many_requests(stage.engine.w3, "eth_getTransactionReceipt"):
        report = reconciler.run_full()
    [(before, after)] = report.advanced
    assert (before, after.key, after.state) == ("prepared", operation.key, "signed")
    assert [told.partition(": the node says")[0] for told in report.problems] == ["bookEventFor"]


def test_how_far_an_operation_came_is_told_where_it_has_to_wait(stage: Stage, reconciler: Reconciler) -> None:
    operation = stage.bookings.prepare_book(stage.open_run().id, stage.ids["attendee"], 1)
    stage.sender.policy = replace(stage.sender.policy, confirmations=2)
    [(before, after)] = reconciler.run_full().advanced
    assert (before, after.key, after.state) == ("prepared", operation.key, "mined")
    assert reconciler.run_full().advanced == []


def test_operations_go_on_once_they_were_left_alone_for_long(
    stage: Stage, reconciler: Reconciler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="app.services.reconciler")
    run = stage.open_run()
    operation = mined(stage, stage.bookings.prepare_book(run.id, stage.ids["attendee"], 1))
    report = reconciler.run_once()
    assert (report.advanced, [one.key for one in report.pending], caplog.records) == ([], [operation.key], [])
    [(before, after)] = reconciler.run_full().advanced
    assert (before, after.key, after.state) == ("signed", operation.key, "confirmed")
    [told] = [record for record in caplog.records if record.name == "app.services.reconciler"]
    assert (told.getMessage(), vars(told)["operation"]) == ("bookEventFor: confirmed", operation.key)
    assert reconciler.run_once().pending == []
    assert stage.bookings.list_all()[0].blockchain_status == "confirmed"


def test_who_has_come_further_is_not_taken_back(stage: Stage, reconciler: Reconciler) -> None:
    stage.open_run()
    reconciler.run_once()

    def come_further() -> None:
        with stage.database.transaction() as connection:
            connection.execute(update(chain_cursors).values(block_number=1_000))

    transact(stage, "host", "cancelEvent", 1)
    before_request(stage.engine.w3, come_further, "eth_getLogs")
    reconciler.run_once()
    assert cursor(stage) == 1_000


def test_nothing_is_taken_over_before_it_is_final(stage: Stage, reconciler: Reconciler) -> None:
    run = stage.open_run()
    stage.bookings.book(run.id, stage.ids["attendee"], 1)
    reconciler.run_once()
    stage.sender.policy = replace(stage.sender.policy, confirmations=3)
    transact(stage, "attendee", "cancelBooking", 1)
    stage.engine.mine()
    assert reconciler.run_once().refreshed == []
    transact(stage, "host", "cancelEvent", 1)
    assert reconciler.run_once().refreshed == [run.id]
    assert (stage.runs.get(run.id).status, stage.runs.get(run.id).seats_booked) == ("active", 0)
    stage.engine.mine()
    assert reconciler.run_once().refreshed == []
    stage.engine.mine()
    assert reconciler.run_once().refreshed == [run.id]
    assert stage.runs.get(run.id).status == "cancelled"


def test_what_is_about_no_run_is_passed_over(stage: Stage, reconciler: Reconciler) -> None:
    """And no more is asked of the chain than which run a cancelled booking is of."""
    run = stage.open_run()
    stage.bookings.book(run.id, stage.ids["attendee"], 1)
    reconciler.run_once()
    transact(stage, "platform", "pause")
    transact(stage, "platform", "unpause")
    assert reconciler.run_once() == ReconcileReport()
    cost = stage.chain.calculate_booking_cost(1, 1).total
    transact(stage, "attendee", "bookEvent", 1, 1, value=cost)
    with counted(stage) as (calls, _):
        assert reconciler.run_once().refreshed == [run.id]
    assert calls == {"eth_blockNumber": 1, "eth_getLogs": 1, "eth_call": 2}  # of the run, and of its booking


def test_what_is_due_is_refreshed(stage: Stage, reconciler: Reconciler) -> None:
    run, other = stage.open_run(), stage.open_run()
    with stage.database.transaction() as connection:
        connection.execute(update(event_runs).where(event_runs.c.id == run.id).values(refresh_due=True))
    assert reconciler.run_once().refreshed == [run.id]
    assert not stage.runs.get(run.id).refresh_due
    assert stage.runs.get(other.id) == other


def test_each_difference_is_told_in_words_and_mended_where_the_chain_knows(
    stage: Stage, reconciler: Reconciler
) -> None:
    run, other = stage.open_run(), stage.open_run()
    booking = stage.bookings.book(run.id, stage.ids["attendee"], 1)
    row = stage.runs.get(run.id)
    assert reconciler.dry_run().differences == []
    with stage.database.transaction() as connection:
        changes = {"status": "cancelled", "seats_booked": 3, "max_seats": 9}
        changes |= {"blockchain_price_per_seat_wei": 5, "blockchain_stake_amount_wei": 6}
        connection.execute(update(event_runs).where(event_runs.c.id == run.id).values(**changes))
        changes = {"status": "no_show", "seats": 2, "blockchain_payment_wei": 7, "blockchain_stake_amount_wei": 8}
        connection.execute(update(event_run_bookings).values(**changes))
    about, of = f"event run {run.id} (1 on chain)", f"booking {booking.id} (1 on chain)"
    seats, paid, stake = row.max_seats, booking.blockchain_payment_wei, booking.blockchain_stake_amount_wei
    told = [
        f"{about}: status is cancelled in the database, active on chain",
        f"{about}: seats_booked is 3 in the database, 1 on chain",
        f"{about}: max_seats is 9 in the database, {seats} on chain",
        f"{about}: price_wei is 5 in the database, {row.blockchain_price_per_seat_wei} on chain",
        f"{about}: stake_wei is 6 in the database, {row.blockchain_stake_amount_wei} on chain",
        f"{of}: status is no_show in the database, active on chain",
        f"{of}: seats is 2 in the database, 1 on chain",
        f"{of}: payment_wei is 7 in the database, {paid} on chain",
        f"{of}: stake_wei is 8 in the database, {stake} on chain",
    ]
    assert reconciler.dry_run().differences == told
    report = reconciler.run_full()
    assert (report.differences, report.refreshed) == (told, [run.id])
    assert len(reconciler.dry_run().differences) == len(told) - 3  # statuses and seats booked are the chain's to say
    assert stage.runs.get(other.id) == other


def test_differences_are_told_by_age_up_to_what_is_not_closed(stage: Stage, reconciler: Reconciler) -> None:
    """What is of the block of an operation that is still open may be its doing."""
    runs = [stage.open_run() for _ in range(4)]
    blocks = [run.blockchain_block for run in runs]
    assert blocks == list(range(blocks[0], blocks[0] + 4))
    operation = stage.sender.step(stage.bookings.prepare_book(runs[0].id, stage.ids["attendee"], 1))
    with stage.database.transaction() as connection:
        for run in reversed(runs):
            connection.execute(update(event_runs).where(event_runs.c.id == run.id).values(seats_booked=3))
        mined = {"state": "mined", "tx_hash": "0xab", "block_number": blocks[2]}
        connection.execute(update(operations).where(operations.c.key == operation.key).values(**mined))
    report = reconciler.dry_run()
    assert [one.key for one in report.pending] == [operation.key]
    told = "event run {} ({} on chain): seats_booked is 3 in the database, 0 on chain"
    assert report.differences == [told.format(run.id, i) for i, run in enumerate(runs[:2], 1)]


def test_what_differs_in_bookings_is_told_by_age(stage: Stage, reconciler: Reconciler) -> None:
    """Also after one that never came on chain; and where it is another run's there."""
    run, other = stage.open_run(seats=3), stage.open_run()
    with pytest.raises(ContractRejected):
        stage.bookings.book(run.id, stage.ids["attendee"], 9)
    ours = [stage.bookings.book(of.id, stage.ids["attendee"], 1) for of in (run, run, other)]
    changes = [  # the ids of the second and the third are swapped, and the first is the last that is changed
        (ours[1], {"seats": 2, "blockchain_booking_id": None}),
        (ours[2], {"blockchain_booking_id": 2}),
        (ours[1], {"blockchain_booking_id": 3}),
        (ours[0], {"seats": 2}),
    ]
    with stage.database.transaction() as connection:
        for booking, values in changes:
            rows = update(event_run_bookings).where(event_run_bookings.c.id == booking.id)
            connection.execute(rows.values(**values))
    first, second, third = (f"booking {booking.id}" for booking in ours)
    assert reconciler.dry_run().differences == [
        f"{first} (1 on chain): seats is 2 in the database, 1 on chain",
        f"{second} (3 on chain): seats is 2 in the database, 1 on chain",
        f"{second} (3 on chain): event_run is 1 in the database, 2 on chain",
        f"{third} (2 on chain): event_run is 2 in the database, 1 on chain",
    ]


def test_what_is_not_final_is_no_difference(stage: Stage, reconciler: Reconciler) -> None:
    stage.bookings.book(stage.open_run().id, stage.ids["attendee"], 1)
    stage.bookings.book(stage.open_run().id, stage.ids["attendee"], 1)
    stage.engine.mine()
    stage.engine.mine()
    stage.sender.policy = replace(stage.sender.policy, confirmations=3)
    transact(stage, "attendee", "cancelBooking", 1)
    transact(stage, "host", "cancelEvent", 2)
    assert reconciler.dry_run().differences == []
    stage.sender.policy = replace(stage.sender.policy, confirmations=1)
    assert len(reconciler.dry_run().differences) == 4


def test_an_operation_is_left_alone_for_15_seconds(stage: Stage) -> None:
    reconciler = Reconciler(stage.database, stage.chain, stage.runs)
    operation = stage.bookings.prepare_book(stage.open_run().id, stage.ids["attendee"], 1)
    assert reconciler.run_once().advanced == []
    assert [one.key for one in reconciler.dry_run().pending] == [operation.key]
    with stage.database.transaction() as connection:
        long_ago = func.clock_timestamp() - timedelta(seconds=15.5)
        connection.execute(update(operations).where(operations.c.key == operation.key).values(updated_at=long_ago))
    assert [one.key for _, one in reconciler.run_once().advanced] == [operation.key]


def test_rows_that_nothing_brings_on_chain_are_told(stage: Stage, reconciler: Reconciler) -> None:
    run = stage.open_run()
    operation = stage.bookings.prepare_book(run.id, stage.ids["attendee"], 1)
    assert reconciler.dry_run().differences == []
    with stage.database.transaction() as connection:
        connection.execute(delete(operations).where(operations.c.key == operation.key))
    booking = stage.bookings.list_all()[0]
    said = f"booking {booking.id} is pending, and no operation brings it on chain"
    report = reconciler.dry_run()
    assert (report.differences, report.pending) == ([said], [])
    with stage.database.transaction() as connection:
        connection.execute(update(event_runs).values(blockchain_status="pending"))
    assert reconciler.dry_run().differences == [
        f"event run {run.id} is pending, and no operation brings it on chain",
        said,
    ]


def test_a_run_that_the_contract_does_not_know_is_told(stage: Stage, reconciler: Reconciler) -> None:
    run = stage.open_run()
    with stage.database.transaction() as connection:
        connection.execute(update(event_runs).values(blockchain_event_run_id=9))
    [told] = reconciler.dry_run().differences
    assert told.startswith(f"event run {run.id} (9 on chain): getEventRun was refused by the contract: UnknownEventRun")
    assert stage.runs.get(run.id) == replace(run, blockchain_event_run_id=9)

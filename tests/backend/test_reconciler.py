"""What a round of the reconciler changes, reports, and leaves alone."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from app.core.errors import ChainUnavailable, ContractRejected, DatabaseUnavailable
from app.db.tables import chain_cursors, event_run_bookings, event_runs, operations
from app.services import reconciler as reconciler_module
from app.services.reconciler import Reconciler, ReconcileReport
from backend_environment import BackendEnvironment, before_request, too_many_requests, transact
from sqlalchemy import delete, func, select, update
from test_costs import counted
from test_rows import mined


@pytest.fixture
def reconciler(backend: BackendEnvironment) -> Reconciler:
    return Reconciler(backend.database, backend.chain, backend.runs, quiet_for=3_600)


def cursor(backend: BackendEnvironment) -> int | None:
    with backend.database.autocommit() as connection:
        return connection.scalars(select(chain_cursors.c.block_number)).one_or_none()


@pytest.mark.slow
def test_each_block_is_followed_once(backend: BackendEnvironment, reconciler: Reconciler) -> None:
    run, other = backend.open_run(), backend.open_run()
    for of in (run, other):
        backend.bookings.book(of.id, backend.ids["attendee"], 1)
    assert reconciler.run_once().refreshed == []
    assert cursor(backend) == backend.chain.block_number()
    transact(backend, "attendee", "cancelBooking", 2)  # in the very next block; its event names no run
    assert reconciler.run_once().refreshed == [other.id]
    assert [booking.status for booking in backend.bookings.list_all()] == ["active", "cancelled"]
    assert (backend.runs.get(run.id).seats_booked, backend.runs.get(other.id).seats_booked) == (1, 0)
    transact(backend, "host", "cancelEvent", 1)
    assert reconciler.run_once().refreshed == [run.id]
    assert reconciler.run_once().refreshed == []
    assert cursor(backend) == backend.chain.block_number()
    assert reconciler.dry_run().differences == []


@pytest.mark.slow
@pytest.mark.parametrize(("span", "looks"), [(1, [1, 1, 1]), (2, [2, 1]), (3, [3]), (1_000, [3])])
def test_events_are_requested_in_block_ranges(
    backend: BackendEnvironment, monkeypatch: pytest.MonkeyPatch, span: int, looks: list[int]
) -> None:
    reconciler = Reconciler(backend.database, backend.chain, backend.runs, quiet_for=3_600, max_block_range=span)
    events_between, block_counts = backend.chain.events_between, list[int]()

    def record(first: int, last: int) -> Any:
        block_counts.append(last - first + 1)
        return events_between(first, last)

    monkeypatch.setattr(backend.chain, "events_between", record)
    runs = [backend.open_run() for _ in range(3)]
    reconciler.run_once()
    before = cursor(backend)
    for number in (1, 2, 3):
        transact(backend, "host", "cancelEvent", number)
    block_counts.clear()
    assert sorted(reconciler.run_once().refreshed) == sorted(run.id for run in runs)
    assert {run.status for run in backend.runs.list_all()} == {"cancelled"}
    assert cursor(backend) == backend.chain.block_number() == before + 3  # type: ignore[operator]
    assert block_counts == looks


@pytest.mark.slow
def test_our_own_transactions_cause_no_refresh(backend: BackendEnvironment, reconciler: Reconciler) -> None:
    reconciler.run_once()
    run = backend.open_run()
    backend.bookings.book(run.id, backend.ids["attendee"], 1)
    backend.runs.cancel(run.id)
    assert reconciler.run_once().refreshed == []


def test_a_failed_refresh_is_repeated_in_the_next_round(backend: BackendEnvironment, reconciler: Reconciler) -> None:
    """The run stays due, so the cursor need not wait for it. Blocks whose events are unknown hold the cursor back."""
    run = backend.open_run()
    reconciler.run_once()
    cursor_before = cursor(backend)
    transact(backend, "host", "cancelEvent", 1)

    with too_many_requests(backend.engine.w3, "eth_getLogs"):
        report = reconciler.run_once()
    assert (report.refreshed, cursor(backend)) == ([], cursor_before)
    assert (report.failure or "").startswith("events: the node says")
    with too_many_requests(backend.engine.w3, "eth_call"):
        report = reconciler.run_once()
    assert (report.refreshed, report.failure, cursor(backend)) == ([], None, backend.chain.block_number())
    assert len(report.problems) == 1
    assert report.problems[0].startswith("getEventRun: the node says")
    assert reconciler.run_once().refreshed == [run.id]


def test_the_report_has_the_operations_problem_and_state(backend: BackendEnvironment, reconciler: Reconciler) -> None:
    run = backend.open_run()
    operation = backend.bookings.prepare_book(run.id, backend.ids["attendee"], 1)
    with too_many_requests(backend.engine.w3, "eth_getTransactionReceipt"):
        report = reconciler.run_full()
    [(before, after)] = report.advanced
    assert (before, after.key, after.state) == ("prepared", operation.key, "signed")
    assert [problem.partition(": the node says")[0] for problem in report.problems] == ["bookEventFor"]


def test_the_report_has_operations_that_advanced_and_still_wait(
    backend: BackendEnvironment, reconciler: Reconciler
) -> None:
    operation = backend.bookings.prepare_book(backend.open_run().id, backend.ids["attendee"], 1)
    backend.sender.policy = replace(backend.sender.policy, confirmations=2)
    [(before, after)] = reconciler.run_full().advanced
    assert (before, after.key, after.state) == ("prepared", operation.key, "mined")
    assert reconciler.run_full().advanced == []


def test_operations_are_taken_up_after_the_quiet_time(
    backend: BackendEnvironment, reconciler: Reconciler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="app.services.reconciler")
    run = backend.open_run()
    operation = mined(backend, backend.bookings.prepare_book(run.id, backend.ids["attendee"], 1))
    report = reconciler.run_once()
    assert (report.advanced, [pending.key for pending in report.pending], caplog.records) == ([], [operation.key], [])
    [(before, after)] = reconciler.run_full().advanced
    assert (before, after.key, after.state) == ("signed", operation.key, "confirmed")
    [record] = [record for record in caplog.records if record.name == "app.services.reconciler"]
    assert (record.getMessage(), vars(record)["operation"]) == ("bookEventFor: confirmed", operation.key)
    assert reconciler.run_once().pending == []
    assert backend.bookings.list_all()[0].blockchain_status == "confirmed"


def test_the_cursor_never_moves_back(backend: BackendEnvironment, reconciler: Reconciler) -> None:
    backend.open_run()
    reconciler.run_once()

    def come_further() -> None:
        with backend.database.transaction() as connection:
            connection.execute(update(chain_cursors).values(block_number=1_000))

    transact(backend, "host", "cancelEvent", 1)
    before_request(backend.engine.w3, come_further, "eth_getLogs")
    reconciler.run_once()
    assert cursor(backend) == 1_000


@pytest.mark.slow
def test_events_are_followed_once_they_are_final(backend: BackendEnvironment, reconciler: Reconciler) -> None:
    run = backend.open_run()
    backend.bookings.book(run.id, backend.ids["attendee"], 1)
    reconciler.run_once()
    backend.sender.policy = replace(backend.sender.policy, confirmations=3)
    transact(backend, "attendee", "cancelBooking", 1)
    backend.engine.mine()
    assert reconciler.run_once().refreshed == []
    transact(backend, "host", "cancelEvent", 1)
    assert reconciler.run_once().refreshed == [run.id]
    assert (backend.runs.get(run.id).status, backend.runs.get(run.id).seats_booked) == ("active", 0)
    backend.engine.mine()
    assert reconciler.run_once().refreshed == []
    backend.engine.mine()
    assert reconciler.run_once().refreshed == [run.id]
    assert backend.runs.get(run.id).status == "cancelled"


@pytest.mark.slow
def test_events_without_a_run_are_ignored(backend: BackendEnvironment, reconciler: Reconciler) -> None:
    """The only view that is called is the one that returns the run of a cancelled booking."""
    run = backend.open_run()
    backend.bookings.book(run.id, backend.ids["attendee"], 1)
    reconciler.run_once()
    transact(backend, "platform", "pause")
    transact(backend, "platform", "unpause")
    assert reconciler.run_once() == ReconcileReport()
    cost = backend.chain.calculate_booking_cost(1, 1).total_wei
    transact(backend, "attendee", "bookEvent", 1, 1, value=cost)
    with counted(backend) as (calls, _):
        assert reconciler.run_once().refreshed == [run.id]
    headers = {"eth_getBlockByNumber": 3}  # of the cursor before and after, and the finalized one
    others = {"eth_getTransactionCount": 2, "eth_getTransactionByHash": 1}  # is it an orphan?
    expected = {"eth_blockNumber": 2, "eth_getLogs": 1, "eth_call": 2, **headers, **others}
    assert calls == expected  # two calls: of the run, and of its booking


def test_runs_that_are_due_are_refreshed(backend: BackendEnvironment, reconciler: Reconciler) -> None:
    run, other = backend.open_run(), backend.open_run()
    with backend.database.transaction() as connection:
        connection.execute(update(event_runs).where(event_runs.c.id == run.id).values(refresh_due=True))
    assert reconciler.run_once().refreshed == [run.id]
    assert not backend.runs.get(run.id).refresh_due
    assert backend.runs.get(other.id) == other


def test_differences_are_reported_in_words_and_refreshed_from_the_chain(
    backend: BackendEnvironment, reconciler: Reconciler
) -> None:
    run, other = backend.open_run(), backend.open_run()
    booking = backend.bookings.book(run.id, backend.ids["attendee"], 1)
    row = backend.runs.get(run.id)
    assert reconciler.dry_run().differences == []
    with backend.database.transaction() as connection:
        changes = {"status": "cancelled", "seats_booked": 3, "max_seats": 9}
        changes |= {"blockchain_price_per_seat_wei": 5, "blockchain_stake_amount_wei": 6}
        connection.execute(update(event_runs).where(event_runs.c.id == run.id).values(**changes))
        changes = {"status": "no_show", "seats": 2, "blockchain_payment_wei": 7, "blockchain_stake_amount_wei": 8}
        connection.execute(update(event_run_bookings).values(**changes))
    about, of = f"event run {run.id} (1 on chain)", f"booking {booking.id} (1 on chain)"
    seats, paid, stake = row.max_seats, booking.blockchain_payment_wei, booking.blockchain_stake_amount_wei
    expected = [
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
    assert reconciler.dry_run().differences == expected
    report = reconciler.run_full()
    assert (report.differences, report.refreshed) == (expected, [run.id])
    assert (
        len(reconciler.dry_run().differences) == len(expected) - 3
    )  # statuses and seats booked are the chain's to say
    assert backend.runs.get(other.id) == other


def test_differences_are_ordered_by_age_and_exclude_open_operations(
    backend: BackendEnvironment, reconciler: Reconciler
) -> None:
    """Changes in the block of an open operation may be that operation's."""
    runs = [backend.open_run() for _ in range(4)]
    blocks = [run.blockchain_block for run in runs]
    assert blocks == list(range(blocks[0], blocks[0] + 4))
    operation = backend.sender.step(backend.bookings.prepare_book(runs[0].id, backend.ids["attendee"], 1))
    with backend.database.transaction() as connection:
        for run in reversed(runs):
            connection.execute(update(event_runs).where(event_runs.c.id == run.id).values(seats_booked=3))
        mined = {"state": "mined", "tx_hash": "0xab", "block_number": blocks[2]}
        connection.execute(update(operations).where(operations.c.key == operation.key).values(**mined))
    report = reconciler.dry_run()
    assert [pending.key for pending in report.pending] == [operation.key]
    template = "event run {} ({} on chain): seats_booked is 3 in the database, 0 on chain"
    assert report.differences == [template.format(run.id, i) for i, run in enumerate(runs[:2], 1)]


def test_differences_of_bookings_are_ordered_by_age(backend: BackendEnvironment, reconciler: Reconciler) -> None:
    """Also after a booking that is not on chain, and for one that belongs to another run on chain."""
    run, other = backend.open_run(seats=3), backend.open_run()
    with pytest.raises(ContractRejected):
        backend.bookings.book(run.id, backend.ids["attendee"], 9)
    ours = [backend.bookings.book(of.id, backend.ids["attendee"], 1) for of in (run, run, other)]
    changes = [  # the ids of the second and the third are swapped, and the first is the last that is changed
        (ours[1], {"seats": 2, "blockchain_booking_id": None}),
        (ours[2], {"blockchain_booking_id": 2}),
        (ours[1], {"blockchain_booking_id": 3}),
        (ours[0], {"seats": 2}),
    ]
    with backend.database.transaction() as connection:
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


def test_changes_that_are_not_final_are_no_difference(backend: BackendEnvironment, reconciler: Reconciler) -> None:
    backend.bookings.book(backend.open_run().id, backend.ids["attendee"], 1)
    backend.bookings.book(backend.open_run().id, backend.ids["attendee"], 1)
    backend.engine.mine()
    backend.engine.mine()
    backend.sender.policy = replace(backend.sender.policy, confirmations=3)
    transact(backend, "attendee", "cancelBooking", 1)
    transact(backend, "host", "cancelEvent", 2)
    assert reconciler.dry_run().differences == []
    backend.sender.policy = replace(backend.sender.policy, confirmations=1)
    assert len(reconciler.dry_run().differences) == 4


def test_the_default_quiet_time_is_15_seconds(backend: BackendEnvironment) -> None:
    reconciler = Reconciler(backend.database, backend.chain, backend.runs)
    operation = backend.bookings.prepare_book(backend.open_run().id, backend.ids["attendee"], 1)
    assert reconciler.run_once().advanced == []
    assert [pending.key for pending in reconciler.dry_run().pending] == [operation.key]
    with backend.database.transaction() as connection:
        long_ago = func.clock_timestamp() - timedelta(seconds=15.5)
        connection.execute(update(operations).where(operations.c.key == operation.key).values(updated_at=long_ago))
    assert [pending.key for _, pending in reconciler.run_once().advanced] == [operation.key]


def test_pending_rows_without_an_operation_are_reported(backend: BackendEnvironment, reconciler: Reconciler) -> None:
    run = backend.open_run()
    operation = backend.bookings.prepare_book(run.id, backend.ids["attendee"], 1)
    assert reconciler.dry_run().differences == []
    with backend.database.transaction() as connection:
        connection.execute(delete(operations).where(operations.c.key == operation.key))
    booking = backend.bookings.list_all()[0]
    difference = f"booking {booking.id} is pending, and no operation brings it on chain"
    report = reconciler.dry_run()
    assert (report.differences, report.pending) == ([difference], [])
    with backend.database.transaction() as connection:
        connection.execute(update(event_runs).values(blockchain_status="pending"))
    report = reconciler.dry_run()
    assert report.differences == [
        f"event run {run.id} is pending, and no operation brings it on chain",
        difference,
    ]
    assert report.differing_runs == []  # what is not on chain can't be refreshed
    assert reconciler.run_full().problems == []


def test_a_run_unknown_to_the_contract_is_reported(backend: BackendEnvironment, reconciler: Reconciler) -> None:
    run = backend.open_run()
    with backend.database.transaction() as connection:
        connection.execute(update(event_runs).values(blockchain_event_run_id=9))
    [difference] = reconciler.dry_run().differences
    assert difference.startswith(
        f"event run {run.id} (9 on chain): getEventRun was refused by the contract: UnknownEventRun"
    )
    assert backend.runs.get(run.id) == replace(run, blockchain_event_run_id=9)


def test_how_far_the_rows_are_behind_the_chain(backend: BackendEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks: at the start of each look at events, and at the end of the round."""
    reconciler = Reconciler(backend.database, backend.chain, backend.runs, quiet_for=3_600, max_block_range=2)
    run, events_between, lags = backend.open_run(), backend.chain.events_between, list[int]()

    def record(first: int, last: int) -> Any:
        lags.append(reconciler.health.cursor_lag)
        return events_between(first, last)

    def looks() -> tuple[list[int], int]:
        lags.clear()
        assert reconciler.run_once().failure is None
        return [*lags], reconciler.health.cursor_lag

    monkeypatch.setattr(backend.chain, "events_between", record)
    assert looks() == ([1], 0)  # the first round begins at the last block
    assert looks() == ([], 0)
    for _ in range(5):
        backend.engine.mine()
    assert looks() == ([5, 3, 1], 0)
    operation = backend.sender.step(backend.bookings.prepare_book(run.id, backend.ids["attendee"], 1))
    mined_in = {"state": "mined", "tx_hash": "0xab", "block_number": backend.chain.block_number()}
    with backend.database.transaction() as connection:
        connection.execute(update(operations).where(operations.c.key == operation.key).values(**mined_in))
    for _ in range(3):
        backend.engine.mine()
    assert looks() == ([], 3)  # the events of a block count once the service's own operations in it are closed
    with backend.database.transaction() as connection:
        connection.execute(update(chain_cursors).values(block_number=1_000, block_hash=None))
    monkeypatch.setattr(reconciler._finality, "undo_reorganised", lambda head: None)
    assert looks() == ([], 0)  # a node that is behind


class Unforeseen(Exception):
    """An error that nobody expects."""


@pytest.mark.parametrize(
    ("error", "problem", "is_logged"),
    [
        (Unforeseen("details"), "event run {}: unexpected Unforeseen", True),
        (ContractRejected("Nothing", (), "The contract refuses."), "event run {}: The contract refuses.", False),
        (ChainUnavailable("The node is silent."), "The node is silent.", False),
    ],
    ids=["unforeseen", "refused", "silent"],
)
def test_the_trouble_of_one_run_does_not_stop_the_others(
    backend: BackendEnvironment,
    reconciler: Reconciler,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    problem: str,
    is_logged: bool,
) -> None:
    first, second = backend.open_run(), backend.open_run()
    with backend.database.transaction() as connection:
        connection.execute(update(event_runs).values(refresh_due=True))
    refresh = backend.runs.refresh

    def fails_once(run_id: Any, block: int | None = None) -> Any:
        if run_id == first.id:
            raise error
        return refresh(run_id, block)

    monkeypatch.setattr(backend.runs, "refresh", fails_once)
    report = reconciler.run_once()
    assert (report.refreshed, report.failure) == ([second.id], None)
    assert report.problems == [problem.format(first.id)]
    assert any(record.exc_info for record in caplog.records) == is_logged
    assert (backend.runs.get(first.id).refresh_due, backend.runs.get(second.id).refresh_due) == (True, False)


@pytest.mark.parametrize("silent", [False, True])
def test_the_trouble_of_one_operation_does_not_stop_the_others(
    backend: BackendEnvironment,
    reconciler: Reconciler,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    silent: bool,
) -> None:
    """A node that answers nothing any more ends the round."""
    run = backend.open_run()
    first, second = (backend.bookings.prepare_book(run.id, backend.ids[role], 1) for role in ("attendee", "no_show"))
    stepped = reconciler_module.take_steps
    error = ChainUnavailable("The node is silent.") if silent else Unforeseen("details")

    def fails_once(sender: Any, operation: Any) -> Any:
        if operation.key == first.key:
            raise error
        return stepped(sender, operation)

    monkeypatch.setattr(reconciler_module, "take_steps", fails_once)
    report = reconciler.run_full()
    assert [operation.key for _, operation in report.advanced] == [second.key]
    assert report.problems == ["The node is silent." if silent else f"bookEventFor {first.key}: unexpected Unforeseen"]
    assert any(record.exc_info for record in caplog.records) == (not silent)
    if silent:
        monkeypatch.setattr(backend.chain, "block_number", raising(ChainUnavailable("No block.")))
        assert reconciler.run_once(timedelta(0)).failure == "No block."


def raising(error: Exception) -> Any:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    return fails


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (DatabaseUnavailable("The database is away."), "The database is away."),
        (Unforeseen("details"), "the round was broken off by an unexpected error"),
    ],
    ids=["database", "unforeseen"],
)
@pytest.mark.parametrize("where", ["stages", "refresh", "operation"])
def test_a_round_that_is_broken_off_says_why(
    backend: BackendEnvironment,
    reconciler: Reconciler,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    error: Exception,
    failure: str,
) -> None:
    """Without a database nothing goes on, whichever part finds that out."""
    backend.bookings.prepare_book(backend.open_run().id, backend.ids["attendee"], 1)
    with backend.database.transaction() as connection:
        connection.execute(update(event_runs).values(refresh_due=True))
    if where == "stages":
        monkeypatch.setattr(reconciler, "_run_stages", raising(error))
    elif where == "refresh":
        monkeypatch.setattr(backend.runs, "refresh", raising(error))
    else:
        monkeypatch.setattr(reconciler_module, "take_steps", raising(error))
    ended: list[Any] = []
    monkeypatch.setattr(reconciler.health, "round_ended", lambda *arguments: ended.append(arguments) or [])
    if where == "stages" or isinstance(error, DatabaseUnavailable):
        with pytest.raises(type(error)):
            reconciler.run_once(timedelta(0))
        assert ended == [([], failure)]
    else:
        report = reconciler.run_once(timedelta(0))
        assert ended == [(report.problems, None)]
        assert len(report.problems) == 1

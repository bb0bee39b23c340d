"""Limits of amounts: checked where an operation is signed, by all processes together. What is above waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from app.api.readiness import look_at_database
from app.core.errors import NothingToApprove
from app.db.tables import approvals, operations
from app.services import booking_service, interventions
from app.services.operation_types import HeldCause, Operation
from app.services.operations import create as store_operation
from app.services.transactions.limits import SIGNABLE_FUNCTIONS
from app.services.transactions.spending import DAY_US, Charge
from fault_environment import GWEI, FaultEnvironment
from limits_environment import ETH, limited, shift_clock, with_clock
from sqlalchemy import delete, insert, select, update

pytestmark = pytest.mark.slow

GAS_RESERVE = 200 * GWEI * 500_000
"""Wei that the gas of an operation of these tests is at most counted with."""


@pytest.fixture
def clocked(environment: FaultEnvironment) -> Iterator[FaultEnvironment]:
    with with_clock(environment) as on_clock:
        yield on_clock
        on_clock.stop_followers()


def held(worker: FaultEnvironment, operation: Operation) -> Operation:
    """Steps an operation three times, and returns it as it is held above a limit, without having been signed."""
    for _ in range(3):
        operation = worker.step(operation)
    assert (operation.state, operation.held_cause) == ("prepared", HeldCause.ABOVE_LIMIT), operation.held
    assert (operation.nonce, operation.attempts) == (None, [])
    return operation


def cost(operation: Operation) -> int:
    """What is counted for a signed operation."""
    assert operation.spending is not None
    return int(operation.spending["wei"])


def reserve(operation: Operation) -> int:
    """What is counted for the gas of such an operation."""
    return operation.attempts[0].gas_limit * 200 * GWEI


def approve(worker: FaultEnvironment, operation: Operation) -> Operation:
    sealer = worker.services.sender.sealer
    return interventions.approve_operation(worker.database, sealer, operation.key, "the operator")


def write(worker: FaultEnvironment, statement: Any) -> None:
    with worker.database.transaction() as connection:
        connection.execute(statement)


def test_an_operation_above_the_limit_is_held_until_a_person_approves_it(
    environment: FaultEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once; the service stays ready; smaller operations go on; the approval is for this operation only."""
    worker = limited(environment, operation_wei=ETH)
    large, second = worker.prepare_run(seats=100), worker.prepare_run(seats=101)
    large, second = held(worker, large), held(worker, second)
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == [f"createEventRunFor is held: {each.held}" for each in (large, second)]
    assert f"sends {large.value_wei} wei, and the lowest limit is {ETH} wei" in (large.held or "")
    [problem] = [each for each in look_at_database(worker.services) if each.check == "operations"]
    assert "above_limit" in problem.message
    assert not problem.blocks
    assert worker.settle(worker.prepare_run(seats=4)).state == "confirmed"
    approve(worker, large)
    approve(worker, large)
    held(worker, second)
    large = worker.settle(large)
    assert (large.state, cost(large)) == ("confirmed", 0)
    history = interventions_of(worker, large.key)
    assert len(history) == 2
    assert all("is approved by the operator" in outcome for outcome in history)


def interventions_of(worker: FaultEnvironment, key: str) -> list[str]:
    from app.services.operation_list import history

    return [each.outcome or "" for each in history(worker.database, key)]


def test_only_what_a_limit_holds_can_be_approved(environment: FaultEnvironment) -> None:
    worker = limited(environment, operation_wei=ETH)
    small, large = worker.prepare_run(), held(worker, worker.prepare_run(seats=100))
    with pytest.raises(NothingToApprove, match="no limit holds it"):
        approve(worker, small)
    write(worker, update(operations).where(operations.c.key == large.key).values(seal="00" * 32))
    with pytest.raises(NothingToApprove, match="did not store it"):
        approve(worker, large)


@pytest.mark.parametrize("forgery", ["written", "copied", "changed"])
def test_an_approval_that_somebody_else_writes_is_none(environment: FaultEnvironment, forgery: str) -> None:
    """Neither a row without the platform's key, nor a copy of another operation's, nor one with another name."""
    worker = limited(environment, operation_wei=ETH)
    other, large = held(worker, worker.prepare_run(seats=100)), held(worker, worker.prepare_run(seats=200))
    approve(worker, other)
    with worker.database.autocommit() as connection:
        row = connection.execute(select(approvals)).one()._asdict()
    row |= {"written": {"seal": "00" * 32}, "copied": {}, "changed": {"approved_by": "me"}}[forgery]
    write(worker, insert(approvals).values(row | {"operation_key": large.key}))
    held(worker, large)
    if forgery == "changed":
        write(worker, update(approvals).where(approvals.c.operation_key == other.key).values(approved_by="me"))
        held(worker, other)


def test_the_limit_of_a_day_holds_for_all_processes(clocked: FaultEnvironment) -> None:
    """Until 24 hours have passed by the database's clock. What is final counts with what it cost."""
    created = clocked.settle(clocked.prepare_run(seats=40))
    run = created.subject
    assert run is not None
    [_, booking] = [clocked.settle(clocked.prepare_booking(run)) for _ in range(2)]
    day = created.value_wei + 4 * booking.value_wei + 5 * reserve(booking) // 2
    workers = [limited(clocked, day_wei=day) for _ in range(2)]
    booked = [workers[n % 2].prepare_booking(run) for n in range(4)]
    first, second = workers[0].follow(booked[0]), workers[1].follow(booked[1])
    assert {first.state, second.state} == {"submitted"}
    held(workers[0], booked[2])
    held(workers[1], booked[3])
    workers[0].settle(first)
    workers[0].settle(second)
    held(workers[0], booked[2])
    shift_clock(clocked, 86_390)
    held(workers[0], booked[2])
    shift_clock(clocked, 100)
    third = workers[0].follow(booked[2])
    assert third.state == "submitted"
    assert third.spending is not None
    assert third.spending["at"] - (first.spending or {})["at"] >= DAY_US
    assert workers[1].follow(booked[3]).state == "submitted"


def test_gas_counts_at_the_highest_fee_until_it_is_known(environment: FaultEnvironment) -> None:
    """A second operation fits once the first one is final, as it cost less than it might have."""
    run = environment.open_run(seats=10)
    environment.settle(environment.prepare_booking(run))  # the first one of a run takes more gas
    before = environment.settle(environment.prepare_booking(run))
    worker = limited(environment, day_wei=2 * before.value_wei + 3 * reserve(before) // 2)
    first, second = worker.follow(worker.prepare_booking(run)), worker.prepare_booking(run)
    gas = cost(first) - first.value_wei
    assert gas == first.attempts[0].gas_limit * 200 * GWEI
    held(worker, second)
    first = worker.settle(first)
    assert worker.follow(second).state == "submitted"
    real = first.value_wei + (first.gas_used or 0) * (first.gas_price_wei or 0)
    window = worker.services.sender.nonces._spending._windows[worker.w3.eth.chain_id, worker.platform.address]
    assert window.entries[first.nonce or 0].wei == real


def test_the_limit_of_a_user(environment: FaultEnvironment) -> None:
    """Whoever asks, and by whichever key: the user is the one for whom the wei are."""
    run = environment.open_run(seats=10)
    value = environment.settle(environment.prepare_booking(run)).value_wei
    worker = limited(environment, person_day_wei=value + GAS_RESERVE)
    assert worker.follow(worker.prepare_booking(run, idempotency_key="a:1")).state == "submitted"
    waiting = held(worker, worker.prepare_booking(run, idempotency_key="b:1"))
    assert "its user's last 24 hours" in (waiting.held or "")
    ids = worker.ids | {"attendee": worker.ids["host"]}
    assert worker.follow(replace(worker, ids=ids).prepare_booking(run)).state == "submitted"
    write(worker, update(operations).where(operations.c.key == waiting.key).values(person=str(uuid4())))
    assert worker.step(worker.find(waiting)).held_cause == HeldCause.LIMIT  # the seal covers the user


def test_the_seats_of_a_user_in_a_run(environment: FaultEnvironment) -> None:
    """Bookings that are stored earlier come first, whichever is signed first. A cancelled one does not count."""
    worker = limited(environment, person_run_seats=3)
    run, other_run = worker.open_run(seats=10), worker.open_run(seats=11)
    early, late = worker.prepare_booking(run, seats=2), worker.prepare_booking(run, seats=2)
    waiting = held(worker, late)
    assert "would have 4 seats in one event run, above the limit of 3" in (waiting.held or "")
    assert worker.settle(worker.prepare_booking(other_run, seats=3)).state == "confirmed"
    early = worker.settle(early)
    held(worker, waiting)
    worker.settle(worker.services.bookings.prepare_cancel(early.subject))
    assert worker.settle(waiting).state == "confirmed"


def test_a_booking_that_becomes_visible_late_counts_what_was_signed_meanwhile(
    environment: FaultEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, drafts = limited(environment, person_run_seats=2), list[tuple[str, Any]]()
    run = worker.open_run(seats=8)
    with monkeypatch.context() as patched:
        patched.setattr(
            booking_service, "find_or_create", lambda _, __, request, make: drafts.append((request, make()))
        )
        worker.prepare_booking(run, seats=2)
    [(request, draft)] = drafts
    with worker.database.transaction() as connection:  # its commit takes a while
        early = store_operation(connection, "early", request, draft)
        late = worker.follow(worker.prepare_booking(run, seats=2))
    assert late.state == "submitted"
    assert "would have 4 seats" in (held(worker, worker.find(early)).held or "")
    assert worker.settle(late).state == "confirmed"


def test_exits_are_never_above_a_limit(environment: FaultEnvironment) -> None:
    run = environment.open_run()
    booking = environment.settle(environment.prepare_booking(run))
    worker = limited(environment, operation_wei=0, person_day_wei=0, day_wei=0, person_run_seats=1)
    held(worker, worker.prepare_booking(run))
    assert booking.subject is not None
    cancelled = worker.settle(worker.services.bookings.prepare_cancel(booking.subject))
    ended = worker.settle(worker.services.runs.prepare_cancel(run))
    assert [(each.state, cost(each)) for each in (cancelled, ended)] == [("confirmed", 0)] * 2


def test_only_functions_of_the_settings_are_signed(environment: FaultEnvironment) -> None:
    run = environment.open_run()
    worker = environment.worker(functions=SIGNABLE_FUNCTIONS - {"bookEventFor"})
    assert worker.step(worker.prepare_booking(run)).held_cause == HeldCause.LIMIT
    assert worker.settle(worker.prepare_run()).state == "confirmed"


def test_two_processes_can_not_both_spend_what_is_left(environment: FaultEnvironment) -> None:
    """Both have seen that there is enough, and sign at the same time; one of them has to wait."""
    run = environment.open_run(seats=10)
    value = environment.settle(environment.prepare_booking(run)).value_wei
    workers = [limited(environment, day_wei=value + GAS_RESERVE) for _ in range(2)]
    booked = [worker.prepare_booking(run) for worker in workers]
    barrier, after = threading.Barrier(2), list[Operation]()

    def sign(worker: FaultEnvironment, operation: Operation) -> None:
        sender = worker.services.sender
        original = sender._sign_attempt

        def wait_and_sign(*fields: Any) -> Any:  # after the sum was made, before the statement that signs
            with suppress(threading.BrokenBarrierError):
                barrier.wait(10)
            barrier.abort()
            return original(*fields)

        sender._sign_attempt = wait_and_sign  # type: ignore[method-assign]
        for _ in range(3):
            operation = sender.step(operation)
        after.append(operation)

    threads = [threading.Thread(target=sign, args=pair) for pair in zip(workers, booked, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes = sorted((each.state == "prepared", each.held_cause) for each in after)
    assert outcomes == [(False, None), (True, HeldCause.ABOVE_LIMIT)]


@pytest.mark.parametrize("change", ["deleted", "emptied", "cheaper", "older", "of another nonce"])
def test_rows_that_somebody_changes_make_no_room(environment: FaultEnvironment, change: str) -> None:
    """A new process counts them with the limit of one operation, and one that knew them with what they cost."""
    run = environment.open_run(seats=10)
    value = environment.settle(environment.prepare_booking(run)).value_wei
    operation_wei = value + GAS_RESERVE
    worker = limited(environment, operation_wei=operation_wei, day_wei=3 * operation_wei)
    signed = [worker.settle(worker.prepare_booking(run)) for _ in range(2)]
    target = operations.c.key == signed[1].key
    entry = signed[1].spending or {}
    changes = {
        "emptied": None,
        "cheaper": entry | {"wei": 1},
        "older": entry | {"at": entry["at"] - 2 * DAY_US},
        "of another nonce": signed[0].spending,
    }
    write(
        worker,
        delete(operations).where(target)
        if change == "deleted"
        else update(operations).where(target).values(spending=changes[change]),
    )
    last = worker.settle(worker.prepare_booking(run))
    new_process = limited(environment, operation_wei=operation_wei, day_wei=3 * operation_wei)
    assert counted(new_process, run) >= cost(signed[0]) + cost(last) + operation_wei
    assert counted(worker, run) >= cost(signed[0]) + cost(signed[1]) + cost(last)


def counted(worker: FaultEnvironment, run: Any) -> int:
    """What a process counts before it asks the chain what final operations cost."""
    spending, operation = worker.services.sender.nonces._spending, worker.prepare_booking(run)
    amounts = worker.services.sender.policy.amounts
    assert amounts is not None
    with worker.database.autocommit() as connection:
        nonce = worker.count()
        spending.entry(connection, operation, nonce, Charge(amounts))
    return spending._windows[worker.w3.eth.chain_id, worker.platform.address].total


def test_a_row_that_is_set_back_is_counted_again(environment: FaultEnvironment) -> None:
    """The seal does not protect against a row's own earlier state; the limit of the day does."""
    run = environment.open_run(seats=10)
    value = environment.settle(environment.prepare_booking(run)).value_wei
    worker = limited(environment, day_wei=2 * (value + GAS_RESERVE))
    booking = worker.prepare_booking(run)
    with worker.database.autocommit() as connection:
        before = connection.execute(select(operations).where(operations.c.key == booking.key)).one()._asdict()
    states = []
    for _ in range(4):
        write(worker, update(operations).where(operations.c.key == booking.key).values(before))
        states.append(worker.follow(worker.find(booking)).held_cause)
        worker.mine(1)
    assert states[-1] == HeldCause.ABOVE_LIMIT
    assert states.count(None) <= 3  # the gas of final ones is known


def set_back(worker: FaultEnvironment, operation: Operation) -> Operation:
    """Writes the row of an operation as it was before it was signed, as somebody with the database's password might."""
    empty = {
        "state": "prepared",
        "nonce": None,
        "attempts": [],
        "spending": None,
        "tx_hash": None,
        "block_number": None,
    }
    write(worker, update(operations).where(operations.c.key == operation.key).values(empty))
    return worker.find(operation)


@pytest.mark.parametrize("entry", ["emptied", "in another row"])
def test_an_approval_is_used_once(clocked: FaultEnvironment, entry: str) -> None:
    """Whoever sets its row back gets no second transaction, from no process; a person may approve it anew."""
    worker = limited(clocked, operation_wei=ETH)
    worker.settle(worker.prepare_run())  # the first entry of the account
    large = held(worker, worker.prepare_run(seats=100))
    approve(worker, large)
    large = worker.settle(large)
    spending, nonce = large.spending, large.nonce
    assert large.state == "confirmed"
    later = worker.settle(worker.prepare_run())
    large = set_back(worker, large)
    if entry == "in another row":
        write(worker, update(operations).where(operations.c.key == later.key).values(nonce=nonce, spending=spending))
    for process in (worker, limited(clocked, operation_wei=ETH)):
        large = process.services.sender.step(large)
        assert (large.state, large.held_cause) == ("prepared", HeldCause.ABOVE_LIMIT)
        assert "may have been used" in (large.held or "")
    shift_clock(clocked, 60)
    approve(worker, large)
    for _ in range(2):  # the first one notices that the clock has jumped
        large = worker.services.sender.step(large)
    assert large.state in ("signed", "submitted"), large.held


def test_an_approval_ends_after_a_day(clocked: FaultEnvironment) -> None:
    worker = limited(clocked, operation_wei=ETH)
    large = held(worker, worker.prepare_run(seats=100))
    approve(worker, large)
    shift_clock(clocked, 86_500)
    assert "within 24 hours" in (held(worker, large).held or "")
    approve(worker, large)
    assert worker.follow(large).state == "submitted"


def test_fees_are_not_raised_above_the_limit_without_an_entry(environment: FaultEnvironment) -> None:
    """As when somebody empties it, and MAX_FEE_GWEI was set higher meanwhile."""
    run = environment.open_run()
    first = limited(environment)
    operation = first.step(first.step(first.prepare_booking(run)))
    write(first, update(operations).where(operations.c.key == operation.key).values(spending=None))
    worker = limited(environment, operation_wei=cost(operation))
    policy = replace(worker.services.sender.policy, bump_after=0, max_fee_per_gas=2000 * GWEI)
    worker.services.sender.policy = policy
    for _ in range(60):
        operation = worker.step(operation)
    assert len(operation.attempts) > 5
    most = max(each.gas_limit * each.max_fee_per_gas for each in operation.attempts)
    assert operation.value_wei + most <= worker.services.sender.policy.amounts.operation_wei  # type: ignore[union-attr]
    assert operation.held_cause == HeldCause.FEES_AT_CAP


def test_fees_are_raised_within_what_was_counted(environment: FaultEnvironment) -> None:
    run = environment.open_run()
    worker = limited(environment)
    worker.services.sender.policy = replace(worker.services.sender.policy, bump_after=0)
    operation = worker.step(worker.step(worker.prepare_booking(run)))
    for _ in range(60):
        operation = worker.step(operation)
    assert len(operation.attempts) > 5
    most = max(each.gas_limit * each.max_fee_per_gas for each in operation.attempts)
    assert operation.value_wei + most <= cost(operation)
    assert operation.held_cause == HeldCause.FEES_AT_CAP

"""Several operators: each sends in a lane of its own, and one that stands still stops nobody else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from app.bootstrap.access_checks import check_keys
from app.core.units import WEI_PER_GWEI as GWEI
from app.db.tables import users
from app.services import nonce_queries
from app.services.interventions import approve_operation
from app.services.operation_types import HeldCause, Operation
from app.services.transactions.accounts import SignerError, SigningAccount
from app.services.transactions.limits import Amounts
from app.services.transactions.remote_account import RemoteAccount
from fault_environment import FaultEnvironment, Killed, all_operations, dying, node_error
from lanes_environment import (
    OPERATORS,
    check_lanes,
    dismiss,
    effects,
    finish,
    for_sender,
    hire,
    refused,
    senders,
    with_lanes,
)
from monitoring import ready
from remote_signer import RemoteSigner, remote_signer
from sqlalchemy import update
from test_faults_32 import lose_commits, save

pytestmark = pytest.mark.slow
SECOND, THIRD, _ = OPERATORS
ETH = 10**18


@pytest.fixture
def two(environment: FaultEnvironment) -> FaultEnvironment:
    """A process with two lanes: the platform's, and one more."""
    hire(environment, SECOND, THIRD)
    return with_lanes(environment, SECOND)


def in_lane(environment: FaultEnvironment, account: SigningAccount, prepare: Callable[[], Operation]) -> Operation:
    """Prepares an operation in this lane, as if all others had more waiting."""
    lanes = environment.services.sender.lanes
    choose, lanes.choose = lanes.choose, lambda chain_id, function: account.address  # type: ignore[method-assign]
    try:
        return prepare()
    finally:
        lanes.choose = choose  # type: ignore[method-assign]


# ------------------------------------------------------------------------------------------------ which lane


def test_operations_are_spread_over_the_lanes_and_keep_theirs(two: FaultEnvironment) -> None:
    three = with_lanes(two, SECOND, THIRD)
    run = three.open_run(seats=9)
    booked = [three.prepare_booking(run) for _ in range(9)]
    lanes = [three.platform, SECOND, THIRD]
    assert senders(booked) == {lane.address: 3 for lane in lanes}
    sent = [three.step(three.step(each)) for each in booked]
    assert [each.sender for each in sent] == [each.sender for each in booked]
    finish(three, 4)
    check_lanes(three, lanes, bookings=9)
    exits = [three.services.bookings.prepare_cancel(each.subject) for each in booked]
    assert len(senders(exits)) == 3
    finish(three, 4)
    check_lanes(three, lanes, bookings=9)


def test_one_lane_is_the_platform_alone_and_calls_what_it_did(environment: FaultEnvironment) -> None:
    alone = with_lanes(environment)
    statements: list[Any] = []
    assert not alone.services.sender.lanes.are_several
    alone.services.sender.lanes._database = statements  # type: ignore[assignment]  # is not asked
    for function in ("bookEventFor", "withdrawPlatformFees"):
        assert alone.services.sender.lanes.choose(1, function) == environment.platform.address


def test_operators_are_no_previous_accounts(two: FaultEnvironment) -> None:
    sender = two.services.sender
    check = check_keys(two.database, sender.chain_id, sender.accounts, len(sender.lanes.addresses))
    assert check.finding == f"All open operations are from {two.platform.address} and {SECOND.address}."
    left = in_lane(two, SECOND, lambda: two.prepare_booking(two.open_run()))
    after = with_lanes(two).services.sender
    check = check_keys(two.database, sender.chain_id, after.accounts, len(after.lanes.addresses))
    assert (check.ok, left.sender in check.finding) == (False, True)


def test_people_without_a_wallet_are_the_platforms_whichever_lane_books(two: FaultEnvironment) -> None:
    """The default of `CUSTODY_ADDRESS` is the platform's account, which only it may book for by `bookEvent`."""
    with two.database.transaction() as connection:
        connection.execute(update(users).values(wallet_address=None))
    run = two.open_run()
    booked = [in_lane(two, lane, lambda: two.prepare_booking(run)) for lane in (two.platform, SECOND)]
    assert {each.kind for each in booked} == {"bookEventFor"}
    finish(two, 4)
    rows = [two.services.chain.get_booking_from_chain(number) for number in (1, 2)]
    assert {row.user for row in rows} == {two.platform.address}


# ------------------------------------------------------------------------------------------------ a lane that is stuck


class Trouble:
    """What stops the second lane, and how it ends."""

    def __init__(self, cause: str, begin: Callable[..., None], end: Callable[..., None]) -> None:
        self.cause, self.begin, self.end = cause, begin, end


def _empty(environment: FaultEnvironment, *_: Any) -> None:
    environment.rpc("anvil_setBalance", SECOND.address, hex(0))


def _top_up(environment: FaultEnvironment, *_: Any) -> None:
    environment.rpc("anvil_setBalance", SECOND.address, hex(10**21))


def _refuse(words: str) -> Callable[..., None]:
    def begin(environment: FaultEnvironment, *_: Any) -> None:
        environment.connection.fault = for_sender(SECOND, refused(words))

    return begin


def _accept(environment: FaultEnvironment, *_: Any) -> None:
    environment.connection.fault = None


def _silence(environment: FaultEnvironment, signer: RemoteSigner) -> None:
    signer.answer = "silence"


def _work(environment: FaultEnvironment, signer: RemoteSigner) -> None:
    signer.work()


TROUBLES = {
    "an empty wallet": Trouble("no_funds", _empty, _top_up),
    "underpriced for good": Trouble("fees_at_cap", _refuse("transaction underpriced"), _accept),
    "refused by the node": Trouble("refused", _refuse("the transaction lacks the right spirit"), _accept),
    "its signer is down": Trouble("signer", _silence, _work),
}


@pytest.mark.in_turn
@pytest.mark.parametrize("name", TROUBLES)
def test_a_stuck_lane_stops_nobody_else_and_goes_on_afterwards(two: FaultEnvironment, name: str) -> None:
    trouble = TROUBLES[name]
    with remote_signer(SECOND) as signer:
        account = RemoteAccount(signer.url, SECOND.address, 0.3, clock=iter(range(0, 10**6, 10)).__next__)
        lanes = with_lanes(two, account, THIRD, max_fee_per_gas=3 * GWEI)
        run = lanes.open_run(seats=12)
        trouble.begin(lanes, signer)
        stuck = [in_lane(lanes, SECOND, lambda: lanes.prepare_booking(run)) for _ in range(2)]
        for each in stuck:
            for _ in range(14):
                lanes.services.sender.advance(lanes.find(each))
        held = lanes.find(stuck[0])
        assert held.held_cause == trouble.cause, (held.state, held.held)

        others = [lanes.prepare_booking(run) for _ in range(6)]
        assert senders(others) == {lanes.platform.address: 3, THIRD.address: 3}, "the stuck lane gets nothing new"
        ended = [lanes.settle(each) for each in others]
        assert {each.state for each in ended} == {"confirmed"}
        lanes.services.reconciler.run_once(timedelta())
        assert lanes.services.health.round_problems == 0
        status, checks = ready(lanes.services)
        assert status == 200, checks
        assert trouble.cause in str(checks)

        trouble.end(lanes, signer)
        finish(lanes)
        assert {lanes.find(each).state for each in stuck} == {"confirmed"}
        assert {lanes.find(each).sender for each in stuck} == {SECOND.address}
        assert ready(lanes.services) == (200, {})
        again = [lanes.prepare_booking(run) for _ in range(3)]
        assert SECOND.address in senders(again)
        finish(lanes, 4)
        check_lanes(lanes, [lanes.platform, SECOND, THIRD], bookings=11)


def test_a_gap_of_one_lanes_nonces_stops_that_lane_only_and_is_filled(two: FaultEnvironment) -> None:
    run = two.open_run(seats=6)
    sender = two.services.sender
    lost, behind = (in_lane(two, SECOND, lambda: two.prepare_booking(run)) for _ in range(2))
    signed = [sender._signer.sign_first(each, SECOND, sender.policy, sender.limits) for each in (lost, behind)]
    assert [each.nonce for each in signed] == [0, 1]
    with two.database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM operations WHERE key = %s", (lost.key,))
    after = with_lanes(two, SECOND)
    after.connection.fault = for_sender(SECOND, node_error("the transaction lacks the right spirit"))
    other = after.settle(in_lane(after, after.platform, lambda: after.prepare_booking(run)))
    assert other.state == "confirmed"
    assert after.find(behind).state == "signed"
    after.connection.fault = None
    finish(after)
    assert after.find(behind).state == "confirmed"
    [filled] = [each for each in all_operations(after.database) if each.kind == "fillNonceGap"]
    assert (filled.sender, filled.nonce) == (SECOND.address, 0)


def test_all_lanes_held_is_not_ready_and_new_operations_wait(two: FaultEnvironment) -> None:
    run = two.open_run()
    for account in (two.platform, SECOND):
        two.rpc("anvil_setBalance", account.address, hex(0))
    lanes = with_lanes(two, SECOND)
    booked = [lanes.step(lanes.prepare_booking(run)) for _ in range(2)]
    assert [each.held_cause for each in booked] == [HeldCause.NO_FUNDS] * 2
    assert len(senders(booked)) == 2
    status, checks = ready(lanes.services)
    assert status == 503
    assert "2 operations held (no_funds)" in checks["wallet"]
    assert lanes.prepare_booking(run).sender in (two.platform.address, SECOND.address)


def test_an_operator_who_is_dismissed_gets_nothing_new_and_is_said(two: FaultEnvironment) -> None:
    run = two.open_run(seats=6)
    two.services.reconciler.run_once()
    left = in_lane(two, SECOND, lambda: two.prepare_booking(run))
    dismiss(two, SECOND)
    two.services.reconciler.run_once()
    status, checks = ready(two.services)
    assert status == 200
    assert f"the platform's account {SECOND.address} is neither owner nor operator" in checks["contract"]
    booked = [two.prepare_booking(run) for _ in range(3)]
    assert senders(booked) == {two.platform.address: 3}
    assert two.step(left).held_cause == HeldCause.CONTRACT
    assert {two.settle(each).state for each in booked} == {"confirmed"}
    dismiss(two, SECOND, allowed=True)
    finish(two)
    assert two.find(left).state == "confirmed"
    assert ready(two.services) == (200, {})


def test_a_silent_signer_is_asked_once_in_its_time_out() -> None:
    """So a lane whose signer hangs does not keep the threads that step the others."""
    now = [0.0]
    with remote_signer(SECOND) as signer:
        signer.answer = "silence"
        account = RemoteAccount(signer.url, SECOND.address, 2, clock=lambda: now[0])
        fields = {"type": 2, "chainId": 1, "to": SECOND.address, "value": 0, "data": b"", "nonce": 0, "gas": 21_000}
        fields |= {"maxFeePerGas": 2, "maxPriorityFeePerGas": 1}

        def words() -> str:
            with pytest.raises(SignerError) as caught:
                account.sign_transaction(fields)
            return str(caught.value)

        assert words() == words() == words()
        assert account.failures["timeout"] == 1
        now[0] = 3
        words()
        assert account.failures["timeout"] == 2
        signer.work()
        now[0] = 6
        assert account.sign_transaction(fields).raw_transaction


# ------------------------------------------------------------------------------------------------ several processes


def test_two_processes_with_two_lanes_each_and_a_crash_of_one(two: FaultEnvironment) -> None:
    """Each dies at another request of the node; the reconciler of another process ends what they began."""
    run = two.open_run(seats=30)
    first, second = with_lanes(two, SECOND), with_lanes(two, SECOND)
    for number in range(6):
        for process in (first, second):
            booked = in_lane(process, (two.platform, SECOND)[number % 2], lambda p=process: p.prepare_booking(run))
            killed_at = number // 2

            def dies(method: str, params: Any, forward: Callable[[], Any], at: int = killed_at) -> Any:
                if method != "eth_sendRawTransaction":
                    return forward()
                if at == 1:
                    forward()  # sent, and nobody knows
                if at < 2:
                    raise Killed
                return forward()

            if killed_at < 2 and process is second:
                with dying(process.connection, dies):
                    process.follow(booked)
                second = with_lanes(two, SECOND)
            else:
                process.step(process.step(booked))
    assert senders([each for each in all_operations(two.database) if each.kind == "bookEventFor"]) == {
        two.platform.address: 6,
        SECOND.address: 6,
    }
    after = with_lanes(two, SECOND)
    finish(after)
    check_lanes(after, [two.platform, SECOND], bookings=12)


def test_another_process_that_has_the_lane_as_its_first_one_goes_on_with_it(two: FaultEnvironment) -> None:
    """Accounts are known by address, so their order in the settings may change."""
    run = two.open_run()
    sent = two.step(two.step(in_lane(two, SECOND, lambda: two.prepare_booking(run))))
    prepared = in_lane(two, SECOND, lambda: two.prepare_booking(run))
    other = with_lanes(two, THIRD, SECOND)
    finish(other)
    assert [(other.find(each).state, other.find(each).sender) for each in (sent, prepared)] == [
        ("confirmed", SECOND.address)
    ] * 2


def test_an_operation_keeps_its_lane_when_it_starts_over(two: FaultEnvironment) -> None:
    """Somebody else's transaction took its nonce: the next one is of the same account."""
    run = two.open_run()
    booked = in_lane(two, SECOND, lambda: two.prepare_booking(run))
    sender = two.services.sender
    signed = sender._signer.sign_first(booked, SECOND, sender.policy, sender.limits)
    raw = two._sign(SECOND, signed.nonce or 0, SECOND.address, b"", 50 * GWEI, 20 * GWEI)
    two.rpc("eth_sendRawTransaction", raw)
    two.mine(4)
    finish(two)
    ended = two.find(booked)
    assert (ended.state, ended.sender, ended.nonce, ended.requeued) == ("confirmed", SECOND.address, 1, 1)
    assert effects(two)[booked.key] == 1


def test_a_cancelled_run_that_is_closed_before_a_cancelled_booking_of_another_lane(two: FaultEnvironment) -> None:
    """Operations of one lane are closed by their nonces, those of two lanes in any order."""
    run = two.open_run(seats=4)
    kept, cancelled = (two.settle(two.prepare_booking(run)) for _ in range(2))
    leave = in_lane(two, SECOND, lambda: two.services.bookings.prepare_cancel(cancelled.subject))
    leave = two.step(two.step(leave))
    two.mine()
    close = in_lane(two, two.platform, lambda: two.services.runs.prepare_cancel(run))
    close = two.step(two.step(close))
    two.mine(4)
    assert two.follow(close).state == "confirmed"
    assert two.follow(leave).state == "confirmed"
    two.services.reconciler.run_once(timedelta())
    report = two.services.reconciler.dry_run()
    assert (report.differences, report.pending) == ([], [])
    assert kept.subject is not None


# ------------------------------------------------------------------------------------------------ limits of all lanes


def day(wei: int) -> Amounts:
    return Amounts(operation_wei=100 * ETH, person_day_wei=wei, day_wei=wei)


def booked_with_entry(environment: FaultEnvironment) -> tuple[Any, int, int]:
    """Returns a run's id, what its creation has cost, and what a booking of it counts with; one was signed already."""
    process = with_lanes(environment, SECOND, amounts=day(1000 * ETH))
    run = process.settle(process.prepare_run(seats=9))
    spent = run.value_wei + (run.gas_used or 0) * (run.gas_price_wei or 0)
    booking = process.step(in_lane(process, SECOND, lambda: process.prepare_booking(run.subject)))
    assert booking.spending is not None
    return run.subject, spent, booking.spending["wei"]


def test_the_limits_of_a_day_hold_for_all_lanes_together(two: FaultEnvironment) -> None:
    run, spent, each = booked_with_entry(two)
    bounded = with_lanes(two, SECOND, amounts=day(spent + 3 * each + each // 2))
    lanes = (two.platform, SECOND, two.platform)
    booked = [bounded.step(in_lane(bounded, lane, lambda: bounded.prepare_booking(run))) for lane in lanes]
    assert [each.state for each in booked] == ["signed", "signed", "prepared"]
    assert booked[-1].held_cause == HeldCause.ABOVE_LIMIT
    other_lane = bounded.step(in_lane(bounded, SECOND, lambda: bounded.prepare_booking(run)))
    assert other_lane.held_cause == HeldCause.ABOVE_LIMIT
    approve_operation(bounded.database, bounded.services.sender.sealer, other_lane.key, "operator")
    assert bounded.step(other_lane).state == "signed"


def test_two_lanes_of_two_processes_at_the_same_moment_do_not_pass_the_limit(
    two: FaultEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process signs in its lane after this one has added up, and before it stores."""
    run, spent, each = booked_with_entry(two)
    here, there = (with_lanes(two, SECOND, amounts=day(spent + 2 * each + each // 2)) for _ in range(2))
    ours = in_lane(here, here.platform, lambda: here.prepare_booking(run))
    theirs = in_lane(there, SECOND, lambda: there.prepare_booking(run))
    sign, done = nonce_queries.sign, list[Operation]()

    def after_the_other(*arguments: Any, **options: Any) -> Operation | None:
        monkeypatch.setattr(nonce_queries, "sign", sign)
        done.append(there.step(theirs))
        return sign(*arguments, **options)

    monkeypatch.setattr(nonce_queries, "sign", after_the_other)
    held = here.step(ours)
    assert done[0].state == "signed"
    assert (held.state, held.held_cause) == ("prepared", HeldCause.ABOVE_LIMIT)


# ------------------------------------------------------------------------------------------------ lost commits


@pytest.mark.parametrize("who", ["a new process", "the same process", "another process"])
@pytest.mark.parametrize("mined", [0, 1, 5])
def test_an_order_that_was_lost_in_one_lane_is_not_sent_again_in_another(
    two: FaultEnvironment, who: str, mined: int
) -> None:
    """The client repeats it, and another lane is chosen: the order takes over what the first lane has sent."""
    run = two.open_run(seats=8)
    other = with_lanes(two, SECOND)
    for process in (two, other):
        process.settle(in_lane(process, SECOND, lambda p=process: p.prepare_booking(run)))
        process.settle(in_lane(process, two.platform, lambda p=process: p.prepare_booking(run)))
    saved = save(two.database)
    lost = two.follow(in_lane(two, SECOND, lambda: two.prepare_booking(run, 2, idempotency_key="once")))
    two.mine(mined)
    lose_commits(two.database, saved)
    service = {"a new process": with_lanes(two, SECOND), "the same process": two, "another process": other}[who]
    retried = in_lane(service, two.platform, lambda: service.prepare_booking(run, 2, idempotency_key="once"))
    assert retried.sender == two.platform.address
    retried = service.follow(retried)
    if mined < 3:
        assert (retried.state, retried.held_cause, retried.nonce) == ("prepared", "orphan", None)
        service.services.reconciler.run_full()
        service.mine(4)
    ended = service.settle(service.find(retried))
    assert (ended.state, ended.sender, ended.tx_hash) == ("confirmed", SECOND.address, lost.attempts[0].tx_hash)
    assert service.services.sender.sealer.has_sealed(ended)
    finish(service, 4)
    check_lanes(service, [two.platform, SECOND], bookings=5)


def test_a_round_says_that_a_lane_sent_more_than_the_database_knows(two: FaultEnvironment) -> None:
    run = two.open_run(seats=8)
    two.settle(in_lane(two, SECOND, lambda: two.prepare_booking(run)))
    saved = save(two.database)
    two.follow(in_lane(two, SECOND, lambda: two.prepare_booking(run)))
    lose_commits(two.database, saved)
    after = with_lanes(two, SECOND)
    after.services.reconciler.run_full()
    status, checks = ready(after.services)
    assert status == 503
    assert f"1 transactions of {SECOND.address} from nonce 1 on are in no row" in checks["nonces"]


def test_an_orphan_of_a_lane_is_found_by_a_round(two: FaultEnvironment) -> None:
    run = two.open_run(seats=8)
    two.settle(in_lane(two, SECOND, lambda: two.prepare_booking(run)))
    saved = save(two.database)
    lost = two.settle(in_lane(two, SECOND, lambda: two.prepare_booking(run)))
    lose_commits(two.database, saved)
    after = with_lanes(two, SECOND)
    assert after.services.reconciler.run_full().failure is None
    status, checks = ready(after.services)
    assert status == 200
    assert str(lost.tx_hash) in checks["orphans"]

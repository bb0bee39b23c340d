"""What use cases write into the rows of runs and bookings: theirs and nobody else's, each block once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
from app.core.errors import ContractRejected, InvalidRequest, KeyReused, NotFound, NotOnChain, PriceError
from app.db.tables import Booking, EventRun
from app.services.operation_types import Operation
from stage import DAY, Stage, before_request, transact
from test_rejections import pause

ETH = 10**18


def rows(stage: Stage) -> tuple[list[EventRun], list[Booking]]:
    return stage.runs.list_all(), stage.bookings.list_all()


def mined(stage: Stage, operation: Operation) -> Operation:
    """The operation's transaction is mined, and the service has not heard of it."""
    signed = stage.sender.step(operation)
    stage.engine.w3.eth.send_raw_transaction(signed.attempts[0].raw_transaction)
    return signed


def end(stage: Stage, run: EventRun, how: str) -> None:
    match how:
        case "cancel":
            stage.runs.cancel(run.id)
        case "expire":
            stage.go_to(run.starts_at + 7 * DAY)
            stage.runs.expire(run.id)
        case "complete":
            stage.go_to(run.starts_at)
            stage.runs.complete(run.id, [stage.bookings.of_run(run.id)[0].id])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "status", "bookings"),
    [
        ("cancel", "cancelled", ["cancelled", "cancelled"]),
        ("expire", "expired", ["cancelled", "cancelled"]),
        ("complete", "completed", ["completed", "no_show"]),
    ],
)
def test_a_run_that_ends_takes_its_own_open_bookings_with_it(
    stage: Stage, how: str, status: str, bookings: list[str]
) -> None:
    run, other = stage.open_run(seats=5), stage.open_run(seats=5)
    for of in (run, other):
        for role in ("attendee", "no_show", "walletless"):
            stage.bookings.book(of.id, stage.ids[role], 1)
    gone = stage.bookings.of_run(run.id)[2]
    stage.bookings.cancel(gone.id)
    with pytest.raises(ContractRejected):
        stage.bookings.book(run.id, stage.ids["attendee"], 9)
    others = (stage.runs.get(other.id), stage.bookings.of_run(other.id))
    before = (stage.runs.get(run.id), stage.bookings.of_run(run.id))
    end(stage, run, how)
    now = stage.chain.block_number()
    assert stage.runs.get(run.id) == replace(before[0], status=status, blockchain_block=now)
    statuses = [*bookings, "cancelled", "active"]  # the last never came on chain
    assert stage.bookings.of_run(run.id) == [replace(b, status=s) for b, s in zip(before[1], statuses, strict=True)]
    assert (stage.runs.get(other.id), stage.bookings.of_run(other.id)) == others


def test_a_booking_counts_in_its_own_run_only(stage: Stage) -> None:
    run, other = stage.open_run(seats=3), stage.open_run(seats=3)
    first = stage.bookings.book(run.id, stage.ids["attendee"], 1)
    assert first == stage.bookings.get(first.id)
    assert (first.blockchain_booking_id, first.blockchain_status, first.status) == (1, "confirmed", "active")
    assert first.blockchain_payment_wei == ETH // 10
    assert first.blockchain_stake_amount_wei == 2 * ETH // 100
    assert (first.total_inr, first.seats) == (Decimal("24000.00"), 1)
    assert stage.engine.w3.eth.get_transaction_receipt(first.blockchain_tx_hash)["status"] == 1  # type: ignore[arg-type]
    row = replace(run, seats_booked=1, blockchain_block=stage.chain.block_number())
    assert rows(stage) == ([row, other], [first])
    second = stage.bookings.book(run.id, stage.ids["no_show"], 2)
    row = replace(row, seats_booked=3, status="full", blockchain_block=stage.chain.block_number())
    assert rows(stage) == ([row, other], [first, second])
    stage.bookings.cancel(first.id)
    row = replace(row, seats_booked=2, status="active", blockchain_block=stage.chain.block_number())
    assert rows(stage) == ([row, other], [replace(first, status="cancelled"), second])


def test_a_run_that_is_refused_is_failed_and_no_other(stage: Stage) -> None:
    run = stage.open_run()
    with pytest.raises(ContractRejected) as caught:
        stage.open_run(inr="0")
    kept, failed = stage.runs.list_all()
    assert (kept, failed.blockchain_status, failed.status) == (run, "failed", "active")
    assert (failed.blockchain_error, failed.blockchain_tx_hash) == (str(caught.value), None)
    assert failed.blockchain_event_run_id is None
    before_request(stage.engine.w3, lambda: pause(stage))
    with pytest.raises(ContractRejected) as caught:
        stage.open_run(host="host", signer=stage.wallets["host"])
    assert caught.value.receipt is not None
    reverted = stage.runs.list_all()[2]
    assert reverted.blockchain_error == str(caught.value)
    assert reverted.blockchain_tx_hash == caught.value.receipt["transactionHash"].to_0x_hex()
    assert stage.runs.list_all()[:2] == [kept, failed]
    for attempt in (
        lambda: stage.bookings.quote(failed.id, 1),
        lambda: stage.bookings.book(failed.id, stage.ids["attendee"], 1),
        lambda: stage.runs.cancel(failed.id),
        lambda: stage.runs.refresh(failed.id),
    ):
        with pytest.raises(NotOnChain, match=f"^The event run {failed.id} is not on chain: its transaction is not fin"):
            attempt()


def test_a_booking_that_is_refused_is_failed_and_no_other(stage: Stage) -> None:
    run = stage.open_run()
    booking = stage.bookings.book(run.id, stage.ids["attendee"], 1)
    with pytest.raises(ContractRejected) as caught:
        stage.bookings.book(run.id, stage.ids["attendee"], 9)
    kept, failed = stage.bookings.list_all()
    assert (kept, failed.blockchain_status, failed.blockchain_error) == (booking, "failed", str(caught.value))
    for attempt in (
        lambda: stage.bookings.cancel(failed.id),
        lambda: stage.runs.complete(run.id, [booking.id, failed.id]),
    ):
        with pytest.raises(NotOnChain, match=f"^The booking {failed.id} is not on chain"):
            attempt()


def test_what_a_view_has_counted_is_not_counted_again(stage: Stage) -> None:
    """The transaction is mined and a refresh has seen it, before its operation is closed."""
    run = stage.open_run(seats=2)
    operation = mined(stage, stage.bookings.prepare_book(run.id, stage.ids["attendee"], 2))
    now = stage.chain.block_number()
    seen = stage.runs.refresh(run.id)
    assert seen == replace(
        run, status="full", seats_booked=2, blockchain_block=now, refreshed_block=now, refresh_due=False
    )
    stage.sender.finish(operation)
    assert stage.runs.get(run.id) == replace(seen, refresh_due=True)
    assert stage.runs.refresh(run.id) == seen


def test_a_view_of_an_earlier_block_changes_nothing(stage: Stage) -> None:
    run = stage.open_run()
    before = stage.chain.block_number()
    booking = stage.bookings.book(run.id, stage.ids["attendee"], 2)
    row = stage.runs.get(run.id)
    assert stage.runs.refresh(run.id, before) == row
    transact(stage, "attendee", "cancelBooking", booking.blockchain_booking_id)
    assert stage.runs.refresh(run.id, row.blockchain_block) == replace(row, refreshed_block=row.blockchain_block)
    assert stage.bookings.get(booking.id).status == "active"


def test_a_refresh_is_of_one_run(stage: Stage) -> None:
    run, other = stage.open_run(), stage.open_run()
    booking, others = (stage.bookings.book(of.id, stage.ids["attendee"], 1) for of in (run, other))
    with pytest.raises(ContractRejected):
        stage.bookings.book(run.id, stage.ids["attendee"], 9)
    for of in (booking, others):
        transact(stage, "attendee", "cancelBooking", of.blockchain_booking_id)
    untouched = (stage.runs.get(other.id), others, stage.bookings.of_run(run.id)[1])
    stage.runs.refresh(run.id)
    assert stage.bookings.get(booking.id) == replace(booking, status="cancelled")
    assert (stage.runs.get(other.id), *stage.bookings.of_run(other.id), stage.bookings.of_run(run.id)[1]) == untouched


def _signer_last(use_case: Callable[..., Operation]) -> Callable[..., Operation]:
    """The use case with the signer as its last positional argument."""
    return lambda *args, **options: use_case(*args[:-1], signer=args[-1], **options)


def _asked(stage: Stage) -> dict[str, tuple[Callable[..., Operation], list[Any]]]:
    """Use cases with what is asked of them."""
    run = stage.open_run()
    booking = stage.bookings.book(run.id, stage.ids["attendee"], 1)
    hosts = [stage.ids["host"], run.experience_id, stage.now() + DAY, 3, Decimal(100), stage.wallets["host"]]
    return {
        "create run": (_signer_last(stage.runs.prepare_create), hosts),
        "complete": (_signer_last(stage.runs.prepare_complete), [run.id, [booking.id], stage.wallets["host"]]),
        "cancel run": (_signer_last(stage.runs.prepare_cancel), [run.id, stage.wallets["host"]]),
        "expire": (_signer_last(stage.runs.prepare_expire), [run.id, stage.wallets["stranger"]]),
        "book": (
            _signer_last(stage.bookings.prepare_book),
            [run.id, stage.ids["attendee"], 1, stage.wallets["attendee"]],
        ),
        "cancel booking": (_signer_last(stage.bookings.prepare_cancel), [booking.id, stage.wallets["attendee"]]),
    }


EACH = pytest.mark.parametrize("name", ["create run", "complete", "cancel run", "expire", "book", "cancel booking"])


@EACH
def test_a_key_is_of_one_request_with_all_that_was_asked(stage: Stage, name: str) -> None:
    prepare, asked = _asked(stage)[name]
    first = prepare(*asked, idempotency_key="k")
    assert (first.key, first.state, first.sender) == ("k", "prepared", asked[-1].address)
    assert prepare(*asked, idempotency_key="k") == first
    written = rows(stage)
    changes: dict[type, Any] = {int: 2, Decimal: Decimal(101), list: []}
    for place, given in enumerate(asked):
        other = [*asked]
        other[place] = None if place == len(asked) - 1 else changes.get(type(given), uuid4())
        with pytest.raises(KeyReused, match=r"^The idempotency key 'k' was used for another request\.$"):
            prepare(*other, idempotency_key="k")
    assert rows(stage) == written


@EACH
def test_a_request_has_the_same_hash_for_ever(stage: Stage, name: str) -> None:
    """Else one that comes again after the service was upgraded would be taken for another one, and refused."""
    prepare, asked = _asked(stage)[name]
    *flat, signer = [one for given in asked for one in (given if isinstance(given, list) else [given])]
    told = json.dumps([name, *flat, signer.address], default=str)
    assert prepare(*asked, idempotency_key="k").request == sha256(told.encode()).hexdigest()


def test_who_signs_sends_and_what_it_is_about_is_noted(stage: Stage) -> None:
    for name, (prepare, asked) in _asked(stage).items():
        operation = prepare(*asked)
        assert operation.sender == asked[-1].address
        made = {"create run": stage.runs.list_all()[-1], "book": stage.bookings.list_all()[-1]}.get(name)
        assert operation.subject == (made.id if made else asked[0])


def test_each_party_may_sign_for_what_it_may_do(stage: Stage) -> None:
    run, over, late = stage.open_run(), stage.open_run(), stage.open_run()
    for of in (run, over, late):
        stage.bookings.book(of.id, stage.ids["attendee"], 1)
    cancelled = stage.bookings.cancel(stage.bookings.of_run(run.id)[0].id, signer=stage.wallets["attendee"])
    ended = stage.runs.cancel(run.id, signer=stage.wallets["host"])
    stage.go_to(over.starts_at)
    completed = stage.runs.complete(over.id, [], signer=stage.wallets["host"])
    stage.go_to(late.starts_at + 7 * DAY)
    expired = stage.runs.expire(late.id, signer=stage.wallets["stranger"])
    senders = [
        stage.engine.w3.eth.get_transaction(done.tx_hash)["from"]  # type: ignore[arg-type]
        for done in (cancelled, ended, completed, expired)
    ]
    assert senders == [stage.wallets[role].address for role in ("attendee", "host", "host", "stranger")]


def test_a_key_is_of_one_use_case(stage: Stage) -> None:
    stage.runs.prepare_cancel(stage.open_run().id, idempotency_key="k")
    with pytest.raises(KeyReused):
        stage.runs.prepare_expire(stage.runs.list_all()[0].id, idempotency_key="k")


@pytest.mark.slow
def test_the_second_answer_of_a_key_is_the_first(stage: Stage) -> None:
    run = stage.open_run(seats=4)
    starts_at = stage.now() + 3 * DAY
    asked = (stage.ids["host"], run.experience_id, starts_at, 4, Decimal(1))
    opened = [stage.runs.create(*asked, idempotency_key="o") for _ in range(2)]
    assert opened == stage.runs.list_all()[1:] * 2
    booked = [stage.bookings.book(run.id, stage.ids["attendee"], 1, idempotency_key="b") for _ in range(2)]
    assert booked[0] == booked[1]
    refunds = [stage.bookings.cancel(booked[0].id, idempotency_key="c").refund for _ in range(2)]
    assert refunds == [12 * ETH // 100] * 2
    assert stage.chain.get_event_bookings(1) == [1]
    ended = [stage.runs.cancel(run.id, idempotency_key="e") for _ in range(2)]
    assert ended[0] == ended[1]
    late = stage.open_run()
    stage.go_to(late.starts_at)
    done = [stage.runs.complete(late.id, [], idempotency_key="d") for _ in range(2)]
    assert done[0] == done[1]
    stage.set_rate(200_000)
    later = stage.open_run()
    stage.go_to(later.starts_at + 7 * DAY)
    assert stage.runs.expire(later.id, idempotency_key="x") == stage.runs.expire(later.id, idempotency_key="x")


def test_what_there_is_not_is_named(stage: Stage) -> None:
    run, nobody = stage.open_run(), uuid4()
    create, later = stage.runs.create, stage.now() + DAY
    for what, attempt in (
        ("user", lambda: create(nobody, run.experience_id, later, 1, Decimal(1))),
        ("experience", lambda: create(stage.ids["host"], nobody, later, 1, Decimal(1))),
        ("event run", lambda: stage.runs.get(nobody)),
        ("event run", lambda: stage.runs.cancel(nobody)),
        ("event run", lambda: stage.bookings.quote(nobody, 1)),
        ("event run", lambda: stage.bookings.book(nobody, stage.ids["attendee"], 1)),
        ("user", lambda: stage.bookings.book(run.id, nobody, 1)),
        ("booking", lambda: stage.bookings.cancel(nobody)),
        ("booking", lambda: stage.runs.complete(run.id, [nobody])),
    ):
        with pytest.raises(NotFound, match=rf"^There is no {what} {nobody}\.$"):
            attempt()


@pytest.mark.parametrize(("seats", "error"), [(-1, InvalidRequest), (0, ContractRejected), (2**63, InvalidRequest)])
def test_seats_are_what_a_row_can_hold(stage: Stage, seats: int, error: type[Exception]) -> None:
    run = stage.open_run()
    written = error is ContractRejected
    with pytest.raises(error, match="InvalidSeats" if written else rf"^{seats} is no number of seats\.$"):
        stage.open_run(seats=seats)
    with pytest.raises(error):
        stage.bookings.book(run.id, stage.ids["attendee"], seats)
    assert tuple(map(len, rows(stage))) == (1 + written, written)


def test_a_time_without_a_zone_is_named(stage: Stage) -> None:
    run, naive = stage.open_run(), (stage.now() + DAY).replace(tzinfo=None)
    with pytest.raises(InvalidRequest, match=rf"^The time {naive.isoformat()} has no time zone: give it in UTC\.$"):
        stage.runs.create(stage.ids["host"], run.experience_id, naive, 1, Decimal(1))
    stage.feed.rate = None
    with pytest.raises(PriceError):  # before the time is looked at
        stage.runs.create(stage.ids["host"], run.experience_id, naive, 1, Decimal(1))

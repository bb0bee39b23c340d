"""Use cases write only to the rows that they are about, and count each block's events once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
from app.core.errors import ContractRejected, InvalidRequest, KeyReused, NeverOnChain, NotFound, PriceError
from app.db.tables import Booking, EventRun
from app.services.operation_types import Operation
from backend_environment import DAY, BackendEnvironment, before_request, transact
from test_rejections import pause

ETH = 10**18


def rows(backend: BackendEnvironment) -> tuple[list[EventRun], list[Booking]]:
    return backend.runs.list_all(), backend.bookings.list_all()


def mined(backend: BackendEnvironment, operation: Operation) -> Operation:
    """Mines the operation's transaction without the service."""
    signed = backend.sender.step(operation)
    backend.engine.w3.eth.send_raw_transaction(signed.attempts[0].raw_transaction)
    return signed


def end(backend: BackendEnvironment, run: EventRun, how: str) -> None:
    match how:
        case "cancel":
            backend.runs.cancel(run.id)
        case "expire":
            backend.go_to(run.starts_at + 7 * DAY)
            backend.runs.expire(run.id)
        case "complete":
            backend.go_to(run.starts_at)
            backend.runs.complete(run.id, [backend.bookings.of_run(run.id)[0].id])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "status", "bookings"),
    [
        ("cancel", "cancelled", ["cancelled", "cancelled"]),
        ("expire", "expired", ["cancelled", "cancelled"]),
        ("complete", "completed", ["completed", "no_show"]),
    ],
)
def test_closing_a_run_closes_its_own_bookings_only(
    backend: BackendEnvironment, how: str, status: str, bookings: list[str]
) -> None:
    run, other = backend.open_run(seats=5), backend.open_run(seats=5)
    for target in (run, other):
        for role in ("attendee", "no_show", "walletless"):
            backend.bookings.book(target.id, backend.ids[role], 1)
    gone = backend.bookings.of_run(run.id)[2]
    backend.bookings.cancel(gone.id)
    with pytest.raises(ContractRejected):
        backend.bookings.book(run.id, backend.ids["attendee"], 9)
    others = (backend.runs.get(other.id), backend.bookings.of_run(other.id))
    before = (backend.runs.get(run.id), backend.bookings.of_run(run.id))
    end(backend, run, how)
    now = backend.chain.block_number()
    assert backend.runs.get(run.id) == replace(before[0], status=status, blockchain_block=now)
    statuses = [*bookings, "cancelled", "active"]  # the last never came on chain
    assert backend.bookings.of_run(run.id) == [replace(b, status=s) for b, s in zip(before[1], statuses, strict=True)]
    assert (backend.runs.get(other.id), backend.bookings.of_run(other.id)) == others


def test_a_booking_counts_in_its_own_run_only(backend: BackendEnvironment) -> None:
    run, other = backend.open_run(seats=3), backend.open_run(seats=3)
    first = backend.bookings.book(run.id, backend.ids["attendee"], 1)
    assert first == backend.bookings.get(first.id)
    assert (first.blockchain_booking_id, first.blockchain_status, first.status) == (1, "confirmed", "active")
    assert first.blockchain_payment_wei == ETH // 10
    assert first.blockchain_stake_amount_wei == 2 * ETH // 100
    assert (first.total_inr, first.seats) == (Decimal("24000.00"), 1)
    assert backend.engine.w3.eth.get_transaction_receipt(first.blockchain_tx_hash)["status"] == 1  # type: ignore[arg-type]
    row = replace(run, seats_booked=1, blockchain_block=backend.chain.block_number())
    assert rows(backend) == ([row, other], [first])
    second = backend.bookings.book(run.id, backend.ids["no_show"], 2)
    row = replace(row, seats_booked=3, status="full", blockchain_block=backend.chain.block_number())
    assert rows(backend) == ([row, other], [first, second])
    backend.bookings.cancel(first.id)
    row = replace(row, seats_booked=2, status="active", blockchain_block=backend.chain.block_number())
    assert rows(backend) == ([row, other], [replace(first, status="cancelled"), second])


def test_a_run_that_is_refused_is_failed_and_no_other(backend: BackendEnvironment) -> None:
    run = backend.open_run()
    with pytest.raises(ContractRejected) as caught:
        backend.open_run(inr="0")
    other_run, failed = backend.runs.list_all()
    assert (other_run, failed.blockchain_status, failed.status) == (run, "failed", "active")
    assert (failed.blockchain_error, failed.blockchain_tx_hash) == (str(caught.value), None)
    assert failed.blockchain_event_run_id is None
    before_request(backend.engine.w3, lambda: pause(backend))
    with pytest.raises(ContractRejected) as caught:
        backend.open_run(host="host", signer=backend.wallets["host"])
    assert caught.value.receipt is not None
    reverted = backend.runs.list_all()[2]
    assert reverted.blockchain_error == str(caught.value)
    assert reverted.blockchain_tx_hash == caught.value.receipt.tx_hash
    assert backend.runs.list_all()[:2] == [other_run, failed]
    for attempt in (
        lambda: backend.bookings.quote(failed.id, 1),
        lambda: backend.bookings.book(failed.id, backend.ids["attendee"], 1),
        lambda: backend.runs.cancel(failed.id),
        lambda: backend.runs.refresh(failed.id),
    ):
        with pytest.raises(NeverOnChain, match=f"^The event run {failed.id} does not exist on chain"):
            attempt()


def test_a_booking_that_is_refused_is_failed_and_no_other(backend: BackendEnvironment) -> None:
    run = backend.open_run()
    booking = backend.bookings.book(run.id, backend.ids["attendee"], 1)
    with pytest.raises(ContractRejected) as caught:
        backend.bookings.book(run.id, backend.ids["attendee"], 9)
    other_booking, failed = backend.bookings.list_all()
    assert (other_booking, failed.blockchain_status, failed.blockchain_error) == (booking, "failed", str(caught.value))
    for attempt in (
        lambda: backend.bookings.cancel(failed.id),
        lambda: backend.runs.complete(run.id, [booking.id, failed.id]),
    ):
        with pytest.raises(NeverOnChain, match=f"^The booking {failed.id} does not exist on chain"):
            attempt()


def test_seats_counted_by_a_refresh_are_not_added_again(backend: BackendEnvironment) -> None:
    """The transaction is mined and a refresh has seen it, before its operation is closed."""
    run = backend.open_run(seats=2)
    operation = mined(backend, backend.bookings.prepare_book(run.id, backend.ids["attendee"], 2))
    now = backend.chain.block_number()
    refreshed = backend.runs.refresh(run.id)
    assert refreshed == replace(
        run, status="full", seats_booked=2, blockchain_block=now, refreshed_block=now, refresh_due=False
    )
    backend.sender.finish(operation)
    assert backend.runs.get(run.id) == replace(refreshed, refresh_due=True)
    assert backend.runs.refresh(run.id) == refreshed


def test_a_view_of_an_earlier_block_changes_nothing(backend: BackendEnvironment) -> None:
    run = backend.open_run()
    before = backend.chain.block_number()
    booking = backend.bookings.book(run.id, backend.ids["attendee"], 2)
    row = backend.runs.get(run.id)
    assert backend.runs.refresh(run.id, before) == row
    transact(backend, "attendee", "cancelBooking", booking.blockchain_booking_id)
    assert backend.runs.refresh(run.id, row.blockchain_block) == replace(row, refreshed_block=row.blockchain_block)
    assert backend.bookings.get(booking.id).status == "active"


def test_a_refresh_is_of_one_run(backend: BackendEnvironment) -> None:
    run, other = backend.open_run(), backend.open_run()
    booking, others = (backend.bookings.book(target.id, backend.ids["attendee"], 1) for target in (run, other))
    with pytest.raises(ContractRejected):
        backend.bookings.book(run.id, backend.ids["attendee"], 9)
    for target in (booking, others):
        transact(backend, "attendee", "cancelBooking", target.blockchain_booking_id)
    untouched = (backend.runs.get(other.id), others, backend.bookings.of_run(run.id)[1])
    backend.runs.refresh(run.id)
    assert backend.bookings.get(booking.id) == replace(booking, status="cancelled")
    assert (
        backend.runs.get(other.id),
        *backend.bookings.of_run(other.id),
        backend.bookings.of_run(run.id)[1],
    ) == untouched


def _signer_last(use_case: Callable[..., Operation]) -> Callable[..., Operation]:
    """Returns the use case with the signer as its last positional argument."""
    return lambda *args, **options: use_case(*args[:-1], signer=args[-1], **options)


def _asked(backend: BackendEnvironment) -> dict[str, tuple[Callable[..., Operation], list[Any]]]:
    """Returns the use cases and their arguments."""
    run = backend.open_run()
    booking = backend.bookings.book(run.id, backend.ids["attendee"], 1)
    hosts = [backend.ids["host"], run.experience_id, backend.now() + DAY, 3, Decimal(100), backend.wallets["host"]]
    return {
        "create run": (_signer_last(backend.runs.prepare_create), hosts),
        "complete": (_signer_last(backend.runs.prepare_complete), [run.id, [booking.id], backend.wallets["host"]]),
        "cancel run": (_signer_last(backend.runs.prepare_cancel), [run.id, backend.wallets["host"]]),
        "expire": (_signer_last(backend.runs.prepare_expire), [run.id, backend.wallets["stranger"]]),
        "book": (
            _signer_last(backend.bookings.prepare_book),
            [run.id, backend.ids["attendee"], 1, backend.wallets["attendee"]],
        ),
        "cancel booking": (_signer_last(backend.bookings.prepare_cancel), [booking.id, backend.wallets["attendee"]]),
    }


EACH = pytest.mark.parametrize("name", ["create run", "complete", "cancel run", "expire", "book", "cancel booking"])


@EACH
def test_a_key_with_another_argument_is_refused(backend: BackendEnvironment, name: str) -> None:
    prepare, arguments = _asked(backend)[name]
    first = prepare(*arguments, idempotency_key="k")
    assert (first.key, first.state, first.sender) == ("k", "prepared", arguments[-1].address)
    assert prepare(*arguments, idempotency_key="k") == first
    written = rows(backend)
    changes: dict[type, Any] = {int: 2, Decimal: Decimal(101), list: []}
    for place, argument in enumerate(arguments):
        other = [*arguments]
        other[place] = None if place == len(arguments) - 1 else changes.get(type(argument), uuid4())
        with pytest.raises(KeyReused, match=r"^The idempotency key 'k' was used for another request\.$"):
            prepare(*other, idempotency_key="k")
    assert rows(backend) == written


@EACH
def test_the_hash_of_a_request_is_stable(backend: BackendEnvironment, name: str) -> None:
    """Otherwise a request that is repeated after an upgrade would be refused."""
    prepare, arguments = _asked(backend)[name]
    *flat, signer = [
        value for argument in arguments for value in (argument if isinstance(argument, list) else [argument])
    ]
    request_json = json.dumps([name, *flat, signer.address], default=str)
    assert prepare(*arguments, idempotency_key="k").request == sha256(request_json.encode()).hexdigest()


def test_an_operation_has_its_sender_and_subject(backend: BackendEnvironment) -> None:
    for name, (prepare, arguments) in _asked(backend).items():
        operation = prepare(*arguments)
        assert operation.sender == arguments[-1].address
        created = {"create run": backend.runs.list_all()[-1], "book": backend.bookings.list_all()[-1]}.get(name)
        assert operation.subject == (created.id if created else arguments[0])


@pytest.mark.slow
def test_each_party_may_sign_for_what_it_may_do(backend: BackendEnvironment) -> None:
    run, over, late = backend.open_run(), backend.open_run(), backend.open_run()
    for target in (run, over, late):
        backend.bookings.book(target.id, backend.ids["attendee"], 1)
    cancelled = backend.bookings.cancel(backend.bookings.of_run(run.id)[0].id, signer=backend.wallets["attendee"])
    ended = backend.runs.cancel(run.id, signer=backend.wallets["host"])
    backend.go_to(over.starts_at)
    completed = backend.runs.complete(over.id, [], signer=backend.wallets["host"])
    backend.go_to(late.starts_at + 7 * DAY)
    expired = backend.runs.expire(late.id, signer=backend.wallets["stranger"])
    senders = [
        backend.engine.w3.eth.get_transaction(result.tx_hash)["from"]  # type: ignore[arg-type]
        for result in (cancelled, ended, completed, expired)
    ]
    assert senders == [backend.wallets[role].address for role in ("attendee", "host", "host", "stranger")]


def test_a_key_with_another_use_case_is_refused(backend: BackendEnvironment) -> None:
    backend.runs.prepare_cancel(backend.open_run().id, idempotency_key="k")
    with pytest.raises(KeyReused):
        backend.runs.prepare_expire(backend.runs.list_all()[0].id, idempotency_key="k")


@pytest.mark.slow
def test_the_same_request_with_the_same_key_has_the_same_result(backend: BackendEnvironment) -> None:
    run = backend.open_run(seats=4)
    starts_at = backend.now() + 3 * DAY
    arguments = (backend.ids["host"], run.experience_id, starts_at, 4, Decimal(1))
    opened = [backend.runs.create(*arguments, idempotency_key="o") for _ in range(2)]
    assert opened == backend.runs.list_all()[1:] * 2
    booked = [backend.bookings.book(run.id, backend.ids["attendee"], 1, idempotency_key="b") for _ in range(2)]
    assert booked[0] == booked[1]
    refunds = [backend.bookings.cancel(booked[0].id, idempotency_key="c").refund for _ in range(2)]
    assert refunds == [12 * ETH // 100] * 2
    assert backend.chain.get_event_bookings(1) == [1]
    ended = [backend.runs.cancel(run.id, idempotency_key="e") for _ in range(2)]
    assert ended[0] == ended[1]
    late = backend.open_run()
    backend.go_to(late.starts_at)
    result = [backend.runs.complete(late.id, [], idempotency_key="d") for _ in range(2)]
    assert result[0] == result[1]
    backend.set_rate(200_000)
    later = backend.open_run()
    backend.go_to(later.starts_at + 7 * DAY)
    assert backend.runs.expire(later.id, idempotency_key="x") == backend.runs.expire(later.id, idempotency_key="x")


def test_unknown_ids_are_named(backend: BackendEnvironment) -> None:
    run, nobody = backend.open_run(), uuid4()
    create, later = backend.runs.create, backend.now() + DAY
    for row_name, attempt in (
        ("user", lambda: create(nobody, run.experience_id, later, 1, Decimal(1))),
        ("experience", lambda: create(backend.ids["host"], nobody, later, 1, Decimal(1))),
        ("event run", lambda: backend.runs.get(nobody)),
        ("event run", lambda: backend.runs.cancel(nobody)),
        ("event run", lambda: backend.bookings.quote(nobody, 1)),
        ("event run", lambda: backend.bookings.book(nobody, backend.ids["attendee"], 1)),
        ("user", lambda: backend.bookings.book(run.id, nobody, 1)),
        ("booking", lambda: backend.bookings.cancel(nobody)),
        ("booking", lambda: backend.runs.complete(run.id, [nobody])),
    ):
        with pytest.raises(NotFound, match=rf"^There is no {row_name} {nobody}\.$"):
            attempt()


@pytest.mark.parametrize(("seats", "error"), [(-1, InvalidRequest), (0, ContractRejected), (2**63, InvalidRequest)])
def test_seats_outside_a_bigint_are_refused(backend: BackendEnvironment, seats: int, error: type[Exception]) -> None:
    run = backend.open_run()
    written = error is ContractRejected
    with pytest.raises(error, match="InvalidSeats" if written else rf"^{seats} is no number of seats\.$"):
        backend.open_run(seats=seats)
    with pytest.raises(error):
        backend.bookings.book(run.id, backend.ids["attendee"], seats)
    assert tuple(map(len, rows(backend))) == (1 + written, written)


def test_a_time_without_time_zone_is_refused(backend: BackendEnvironment) -> None:
    run, naive = backend.open_run(), (backend.now() + DAY).replace(tzinfo=None)
    with pytest.raises(InvalidRequest, match=rf"^The time {naive.isoformat()} has no time zone: give it in UTC\.$"):
        backend.runs.create(backend.ids["host"], run.experience_id, naive, 1, Decimal(1))
    backend.feed.rate = None
    with pytest.raises(PriceError):  # before the time is looked at
        backend.runs.create(backend.ids["host"], run.experience_id, naive, 1, Decimal(1))

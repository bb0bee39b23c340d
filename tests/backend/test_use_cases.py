"""Each use case, from the database over the chain back to the database, to the wei."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from app.core.errors import InvalidRequest, NotFound, PriceError, UnsupportedByContract
from app.services.contract_types import BookingStatus, RunStatus
from stage import DAY, Stage, transact

ETH = 10**18


def test_a_run_is_opened_for_its_host_and_its_price_becomes_wei_once(each_stage: Stage) -> None:
    stage = each_stage
    run = stage.open_run(seats=4, inr="2500")
    assert (run.status, run.blockchain_status, run.blockchain_event_run_id) == ("active", "confirmed", 1)
    assert run.blockchain_price_per_seat_wei == 12_500_000_000_000_000
    assert run.blockchain_stake_amount_wei == 10_000_000_000_000_000
    assert (run.price_inr, run.inr_per_eth) == (Decimal("2500.00"), Decimal(200_000))
    on_chain = stage.chain.get_event_run_from_chain(1)
    assert on_chain.host == stage.wallets["host"].address
    assert on_chain.experience_id == str(run.experience_id)
    assert (on_chain.starts_at, on_chain.status) == (run.starts_at, RunStatus.ACTIVE)
    assert stage.runs.get(run.id) == run


def test_the_worked_example_pays_to_the_wei(each_stage: Stage) -> None:
    """0.1 ETH a seat, 4 seats; A books 2 and comes, B books 2 and does not: A 0.04, host 0.46, platform 0.06."""
    stage = each_stage
    run = stage.open_run()
    came = stage.bookings.book(run.id, stage.ids["attendee"], 2)
    no_show = stage.bookings.book(run.id, stage.ids["no_show"], 2)
    assert stage.runs.get(run.id).status == "full"
    before = {role: stage.balance(role) for role in ("host", "attendee", "no_show")}

    stage.go_to(run.starts_at)
    done = stage.runs.complete(run.id, [came.id])

    assert (done.host_payout, done.host_stake_returned) == (38 * ETH // 100, 8 * ETH // 100)
    assert done.stakes_returned == {came.blockchain_booking_id: 4 * ETH // 100}
    assert done.stakes_forfeited == {no_show.blockchain_booking_id: 4 * ETH // 100}
    assert done.deferred == ()
    gains = {role: stage.balance(role) - wei for role, wei in before.items()}
    assert gains == {"host": 46 * ETH // 100, "attendee": 4 * ETH // 100, "no_show": 0}
    assert stage.chain.withdraw_platform_fees_onchain().amount == 6 * ETH // 100
    assert stage.runs.get(run.id).status == "completed"
    assert {row.id: row.status for row in stage.bookings.list_all()} == {came.id: "completed", no_show.id: "no_show"}


def test_a_booking_pays_exactly_the_quote(stage: Stage) -> None:
    run = stage.open_run()
    stage.set_rate(300_000)
    quote = stage.bookings.quote(run.id, 3)
    assert (quote.payment_wei, quote.stake_wei, quote.total_wei) == (3 * ETH // 10, 6 * ETH // 100, 36 * ETH // 100)
    assert (quote.payment_inr, quote.total_inr) == (Decimal("90000.00"), Decimal("108000.00"))
    before = stage.balance("platform")
    booking = stage.bookings.book(run.id, stage.ids["attendee"], 3)
    receipt = stage.engine.w3.eth.get_transaction_receipt(booking.blockchain_tx_hash)  # type: ignore[arg-type]
    gas = receipt["gasUsed"] * receipt["effectiveGasPrice"]
    assert before - stage.balance("platform") - gas == quote.total_wei
    assert (booking.blockchain_payment_wei, booking.blockchain_stake_amount_wei) == (quote.payment_wei, quote.stake_wei)
    assert (booking.total_inr, booking.inr_per_eth) == (quote.total_inr, Decimal(300_000))
    assert stage.runs.get(run.id).seats_booked == 3


def test_wei_beyond_64_bits_are_exact(stage: Stage) -> None:
    """9.22 ETH is where a 64-bit column ends."""
    run = stage.open_run(seats=3, inr="111111111.11")
    booking = stage.bookings.book(run.id, stage.ids["attendee"], 3)
    price = 55_555_555_555 * 10**10
    assert run.blockchain_price_per_seat_wei == price
    assert stage.bookings.get(booking.id).blockchain_payment_wei == 3 * price
    assert type(booking.blockchain_stake_amount_wei) is int


def test_a_cancelled_booking_frees_its_seats(stage: Stage) -> None:
    run = stage.open_run(seats=2)
    booking = stage.bookings.book(run.id, stage.ids["attendee"], 2)
    assert stage.runs.get(run.id).status == "full"
    done = stage.bookings.cancel(booking.id)
    assert (done.onchain_booking_id, done.refund) == (booking.blockchain_booking_id, 24 * ETH // 100)
    assert stage.bookings.get(booking.id).status == "cancelled"
    row = stage.runs.get(run.id)
    assert (row.status, row.seats_booked) == ("active", 0)


def test_a_cancelled_run_refunds_all_its_bookings(stage: Stage) -> None:
    run = stage.open_run()
    ids = [stage.bookings.book(run.id, stage.ids[role], 1).id for role in ("attendee", "no_show")]
    assert stage.runs.cancel(run.id).refunds_issued == 24 * ETH // 100
    assert stage.runs.get(run.id).status == "cancelled"
    assert [stage.bookings.get(id).status for id in ids] == ["cancelled", "cancelled"]


def test_an_expired_run_shares_the_hosts_stake(stage: Stage) -> None:
    run = stage.open_run()
    booking = stage.bookings.book(run.id, stage.ids["attendee"], 1)
    stage.go_to(run.starts_at + 7 * DAY)
    done = stage.runs.expire(run.id)
    assert (done.refunds_issued, done.compensation, done.to_platform) == (12 * ETH // 100, 8 * ETH // 100, 0)
    assert (stage.runs.get(run.id).status, stage.bookings.get(booking.id).status) == ("expired", "cancelled")


def test_who_has_no_wallet_is_entered_under_the_platforms_address(stage: Stage) -> None:
    run = stage.open_run(host="walletless")
    booking = stage.bookings.book(run.id, stage.ids["walletless"], 1)
    platform = stage.wallets["platform"].address
    assert stage.chain.get_event_run_from_chain(1).host == platform
    assert stage.chain.get_booking_from_chain(1).user == platform
    assert (run.host_id, booking.user_id) == (stage.ids["walletless"],) * 2
    assert stage.chain.get_host_events(platform) == stage.chain.get_user_bookings(platform) == [1]


def test_host_and_attendee_may_sign_and_pay_for_themselves(each_stage: Stage) -> None:
    _lifecycle_signed_by_the_parties(each_stage)


def test_the_deployed_interface_is_driven_too(minimal: Stage) -> None:
    stage = minimal
    assert not stage.chain.has_full_interface
    _lifecycle_signed_by_the_parties(stage)
    assert stage.chain.withdraw_platform_fees_onchain().amount is None
    stage.set_rate(200_000)
    run = stage.open_run(host="walletless")  # the platform itself is the host, and signs
    booking = stage.bookings.book(run.id, stage.ids["walletless"], 1)
    assert stage.runs.cancel(run.id).refunds_issued == 12 * ETH // 100
    assert stage.bookings.get(booking.id).status == "cancelled"


def _lifecycle_signed_by_the_parties(stage: Stage) -> None:
    host, attendee, no_show = (stage.wallets[role] for role in ("host", "attendee", "no_show"))
    before = stage.balance("platform")
    run = stage.open_run(signer=host)
    came = stage.bookings.book(run.id, stage.ids["attendee"], 2, signer=attendee)
    stage.bookings.book(run.id, stage.ids["no_show"], 2, signer=no_show)
    assert stage.balance("platform") == before
    assert stage.chain.get_booking_from_chain(came.blockchain_booking_id or 0).user == attendee.address
    stage.go_to(run.starts_at)
    done = stage.runs.complete(run.id, [came.id], signer=host)
    assert (done.host_payout, len(done.stakes_forfeited)) == (38 * ETH // 100, 1)
    assert [row.status for row in stage.bookings.list_all()] == ["completed", "no_show"]


def test_what_the_deployed_interface_lacks_is_refused_before_anything_is_sent(minimal: Stage) -> None:
    stage = minimal
    sent = stage.engine.w3.eth.get_transaction_count(stage.wallets["platform"].address)
    with pytest.raises(UnsupportedByContract, match=r"createEventRunFor: 0x.* has to sign for itself"):
        stage.open_run()
    assert stage.runs.list_all() == []

    run = stage.open_run(signer=stage.wallets["host"])
    booking = stage.bookings.book(run.id, stage.ids["attendee"], 1, signer=stage.wallets["attendee"])
    for attempt in (
        lambda: stage.bookings.book(run.id, stage.ids["no_show"], 1),
        lambda: stage.bookings.cancel(booking.id),
        lambda: stage.runs.expire(run.id),
        lambda: stage.chain.withdraw_onchain(stage.wallets["attendee"]),
        lambda: stage.chain.credit_of(stage.wallets["attendee"].address),
        stage.chain.platform_balance,
        stage.chain.total_liabilities,
    ):
        with pytest.raises(UnsupportedByContract):
            attempt()
    assert stage.engine.w3.eth.get_transaction_count(stage.wallets["platform"].address) == sent
    assert stage.bookings.get(booking.id).status == "active"


def test_refresh_takes_over_what_was_done_past_the_service(stage: Stage) -> None:
    run = stage.open_run(seats=3)
    kept, gone = (stage.bookings.book(run.id, stage.ids[role], 1) for role in ("attendee", "no_show"))
    transact(stage, "no_show", "cancelBooking", gone.blockchain_booking_id)
    assert stage.runs.get(run.id).seats_booked == 2
    assert stage.runs.refresh(run.id).seats_booked == 1
    assert (stage.bookings.get(kept.id).status, stage.bookings.get(gone.id).status) == ("active", "cancelled")
    transact(stage, "platform", "cancelEvent", run.blockchain_event_run_id)
    assert stage.runs.get(run.id).status == "active"
    assert stage.runs.refresh(run.id).status == "cancelled"
    assert stage.bookings.get(kept.id).status == "cancelled"


def test_what_the_chain_service_alone_sends_comes_into_the_rows_too(stage: Stage) -> None:
    run = stage.open_run(seats=3)
    booking = stage.bookings.book(run.id, stage.ids["attendee"], 1)
    stage.chain.cancel_booking_onchain(booking.blockchain_booking_id or 0)
    assert (stage.bookings.get(booking.id).status, stage.runs.get(run.id).seats_booked) == ("cancelled", 0)
    stage.chain.cancel_event_onchain(run.blockchain_event_run_id or 0)
    assert stage.runs.get(run.id).status == "cancelled"


def test_views_tell_what_the_contract_holds(stage: Stage) -> None:
    run = stage.open_run()
    booking = stage.bookings.book(run.id, stage.ids["attendee"], 1)
    id = booking.blockchain_booking_id or 0
    found = stage.chain.get_booking_from_chain(id)
    assert (found.seat_count, found.total_payment, found.status) == (1, ETH // 10, BookingStatus.ACTIVE)
    assert stage.chain.get_event_bookings(1) == [id]
    assert stage.chain.get_host_events(stage.wallets["host"].address) == [1]
    assert stage.chain.owner() == stage.wallets["platform"].address
    assert stage.chain.total_liabilities() == 20 * ETH // 100
    assert stage.chain.platform_balance() == stage.chain.credit_of(stage.wallets["host"].address) == 0
    assert stage.chain.convert_inr_to_wei(Decimal(2500), Decimal(200_000)) == 12_500_000_000_000_000
    assert stage.chain.convert_wei_to_inr(12_500_000_000_000_000, Decimal(200_000)) == Decimal("2500.00")


def test_without_a_price_nothing_is_written(stage: Stage) -> None:
    run = stage.open_run()
    stage.feed.rate = None
    for attempt in (
        stage.open_run,
        lambda: stage.bookings.quote(run.id, 1),
        lambda: stage.bookings.book(run.id, stage.ids["attendee"], 1),
        lambda: stage.bookings.book(uuid4(), uuid4(), -1),
    ):
        with pytest.raises(PriceError):
            attempt()
    assert stage.runs.list_all() == [run]
    assert stage.bookings.list_all() == []


def test_what_can_not_be_put_to_the_contract_is_refused_here(stage: Stage) -> None:
    run = stage.open_run()
    nobody, host, experience = uuid4(), stage.ids["host"], run.experience_id
    later, price = stage.now() + DAY, Decimal(100)
    for error, attempt in (
        (InvalidRequest, lambda: stage.runs.create(host, experience, later.replace(tzinfo=None), 1, price)),
        (InvalidRequest, lambda: stage.runs.create(host, experience, later, -1, price)),
        (InvalidRequest, lambda: stage.runs.create(host, experience, later, 1, Decimal("1.005"))),
        (InvalidRequest, lambda: stage.runs.create(host, experience, later, 1, Decimal("NaN"))),
        (NotFound, lambda: stage.runs.create(nobody, experience, later, 1, price)),
        (NotFound, lambda: stage.runs.create(host, nobody, later, 1, price)),
        (NotFound, lambda: stage.bookings.book(nobody, host, 1)),
        (NotFound, lambda: stage.bookings.book(run.id, nobody, 1)),
        (NotFound, lambda: stage.bookings.cancel(nobody)),
        (NotFound, lambda: stage.runs.complete(nobody, [])),
        (NotFound, lambda: stage.runs.complete(run.id, [nobody])),
        (NotFound, lambda: stage.runs.get(nobody)),
        (InvalidRequest, lambda: stage.bookings.book(run.id, host, -1)),
        (InvalidRequest, lambda: stage.chain.get_user_bookings("nobody")),
    ):
        with pytest.raises(error):
            attempt()
    assert stage.runs.list_all() == [run]
    assert stage.bookings.list_all() == []


def test_fractions_of_a_second_are_dropped_in_database_and_chain(stage: Stage) -> None:
    run = stage.open_run()
    starts_at = stage.now() + DAY + timedelta(microseconds=999_999)
    row = stage.runs.create(stage.ids["host"], run.experience_id, starts_at, 1, Decimal(1))
    assert row.starts_at == stage.chain.get_event_run_from_chain(2).starts_at == starts_at.replace(microsecond=0)

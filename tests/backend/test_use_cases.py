"""Each use case, from the database over the chain back to the database, to the wei."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from app.core.errors import InvalidRequest, NotFound, PriceError, UnsupportedByContract
from app.services.contract_types import BookingStatus, RunStatus
from backend_environment import DAY, BackendEnvironment, transact

ETH = 10**18


def test_a_run_is_opened_for_its_host_and_its_price_becomes_wei_once(
    backend_on_each_engine: BackendEnvironment,
) -> None:
    backend = backend_on_each_engine
    run = backend.open_run(seats=4, inr="2500")
    assert (run.status, run.blockchain_status, run.blockchain_event_run_id) == ("active", "confirmed", 1)
    assert run.blockchain_price_per_seat_wei == 12_500_000_000_000_000
    assert run.blockchain_stake_amount_wei == 10_000_000_000_000_000
    assert (run.price_inr, run.inr_per_eth) == (Decimal("2500.00"), Decimal(200_000))
    on_chain = backend.chain.get_event_run_from_chain(1)
    assert on_chain.host == backend.wallets["host"].address
    assert on_chain.experience_id == str(run.experience_id)
    assert (on_chain.starts_at, on_chain.status) == (run.starts_at, RunStatus.ACTIVE)
    assert backend.runs.get(run.id) == run


def test_the_worked_example_pays_exact_amounts(backend_on_each_engine: BackendEnvironment) -> None:
    """0.1 ETH a seat, 4 seats; A books 2 and attends, B books 2 and does not: A 0.04, host 0.46, platform 0.06."""
    backend = backend_on_each_engine
    run = backend.open_run()
    attended = backend.bookings.book(run.id, backend.ids["attendee"], 2)
    no_show = backend.bookings.book(run.id, backend.ids["no_show"], 2)
    assert backend.runs.get(run.id).status == "full"
    before = {role: backend.balance(role) for role in ("host", "attendee", "no_show")}

    backend.go_to(run.starts_at)
    result = backend.runs.complete(run.id, [attended.id])

    assert (result.host_payout, result.host_stake_returned) == (38 * ETH // 100, 8 * ETH // 100)
    assert result.stakes_returned == {attended.blockchain_booking_id: 4 * ETH // 100}
    assert result.stakes_forfeited == {no_show.blockchain_booking_id: 4 * ETH // 100}
    assert result.deferred == ()
    gains = {role: backend.balance(role) - wei for role, wei in before.items()}
    assert gains == {"host": 46 * ETH // 100, "attendee": 4 * ETH // 100, "no_show": 0}
    assert backend.chain.withdraw_platform_fees_onchain().amount == 6 * ETH // 100
    assert backend.runs.get(run.id).status == "completed"
    assert {row.id: row.status for row in backend.bookings.list_all()} == {
        attended.id: "completed",
        no_show.id: "no_show",
    }


def test_a_booking_pays_exactly_the_quote(backend: BackendEnvironment) -> None:
    run = backend.open_run()
    backend.set_rate(300_000)
    quote = backend.bookings.quote(run.id, 3)
    assert (quote.payment_wei, quote.stake_wei, quote.total_wei) == (3 * ETH // 10, 6 * ETH // 100, 36 * ETH // 100)
    assert (quote.payment_inr, quote.total_inr) == (Decimal("90000.00"), Decimal("108000.00"))
    before = backend.balance("platform")
    booking = backend.bookings.book(run.id, backend.ids["attendee"], 3)
    receipt = backend.engine.w3.eth.get_transaction_receipt(booking.blockchain_tx_hash)  # type: ignore[arg-type]
    gas = receipt["gasUsed"] * receipt["effectiveGasPrice"]
    assert before - backend.balance("platform") - gas == quote.total_wei
    assert (booking.blockchain_payment_wei, booking.blockchain_stake_amount_wei) == (quote.payment_wei, quote.stake_wei)
    assert (booking.total_inr, booking.inr_per_eth) == (quote.total_inr, Decimal(300_000))
    assert backend.runs.get(run.id).seats_booked == 3


def test_wei_beyond_64_bits_are_exact(backend: BackendEnvironment) -> None:
    """9.22 ETH is where a 64-bit column ends."""
    run = backend.open_run(seats=3, inr="111111111.11")
    booking = backend.bookings.book(run.id, backend.ids["attendee"], 3)
    price = 55_555_555_555 * 10**10
    assert run.blockchain_price_per_seat_wei == price
    assert backend.bookings.get(booking.id).blockchain_payment_wei == 3 * price
    assert type(booking.blockchain_stake_amount_wei) is int


def test_a_cancelled_booking_frees_its_seats(backend: BackendEnvironment) -> None:
    run = backend.open_run(seats=2)
    booking = backend.bookings.book(run.id, backend.ids["attendee"], 2)
    assert backend.runs.get(run.id).status == "full"
    result = backend.bookings.cancel(booking.id)
    assert (result.onchain_booking_id, result.refund) == (booking.blockchain_booking_id, 24 * ETH // 100)
    assert backend.bookings.get(booking.id).status == "cancelled"
    row = backend.runs.get(run.id)
    assert (row.status, row.seats_booked) == ("active", 0)


def test_a_cancelled_run_refunds_all_its_bookings(backend: BackendEnvironment) -> None:
    run = backend.open_run()
    ids = [backend.bookings.book(run.id, backend.ids[role], 1).id for role in ("attendee", "no_show")]
    assert backend.runs.cancel(run.id).refunds_issued == 24 * ETH // 100
    assert backend.runs.get(run.id).status == "cancelled"
    assert [backend.bookings.get(booking_id).status for booking_id in ids] == ["cancelled", "cancelled"]


def test_an_expired_run_shares_the_hosts_stake(backend: BackendEnvironment) -> None:
    run = backend.open_run()
    booking = backend.bookings.book(run.id, backend.ids["attendee"], 1)
    backend.go_to(run.starts_at + 7 * DAY)
    result = backend.runs.expire(run.id)
    assert (result.refunds_issued, result.compensation, result.to_platform) == (12 * ETH // 100, 8 * ETH // 100, 0)
    assert (backend.runs.get(run.id).status, backend.bookings.get(booking.id).status) == ("expired", "cancelled")


def test_users_without_a_wallet_are_entered_under_the_platforms_address(backend: BackendEnvironment) -> None:
    run = backend.open_run(host="walletless")
    booking = backend.bookings.book(run.id, backend.ids["walletless"], 1)
    platform = backend.wallets["platform"].address
    assert backend.chain.get_event_run_from_chain(1).host == platform
    assert backend.chain.get_booking_from_chain(1).user == platform
    assert (run.host_id, booking.user_id) == (backend.ids["walletless"],) * 2
    assert backend.chain.get_host_events(platform) == backend.chain.get_user_bookings(platform) == [1]


def test_host_and_attendee_may_sign_and_pay_for_themselves(backend_on_each_engine: BackendEnvironment) -> None:
    _lifecycle_signed_by_the_parties(backend_on_each_engine)


def test_the_deployed_interface_is_driven_too(minimal: BackendEnvironment) -> None:
    backend = minimal
    assert not backend.chain.has_full_interface
    _lifecycle_signed_by_the_parties(backend)
    assert backend.chain.withdraw_platform_fees_onchain().amount is None
    backend.set_rate(200_000)
    run = backend.open_run(host="walletless")  # the platform itself is the host, and signs
    booking = backend.bookings.book(run.id, backend.ids["walletless"], 1)
    assert backend.runs.cancel(run.id).refunds_issued == 12 * ETH // 100
    assert backend.bookings.get(booking.id).status == "cancelled"


def _lifecycle_signed_by_the_parties(backend: BackendEnvironment) -> None:
    host, attendee, no_show = (backend.wallets[role] for role in ("host", "attendee", "no_show"))
    before = backend.balance("platform")
    run = backend.open_run(signer=host)
    attended = backend.bookings.book(run.id, backend.ids["attendee"], 2, signer=attendee)
    backend.bookings.book(run.id, backend.ids["no_show"], 2, signer=no_show)
    assert backend.balance("platform") == before
    assert backend.chain.get_booking_from_chain(attended.blockchain_booking_id or 0).user == attendee.address
    backend.go_to(run.starts_at)
    result = backend.runs.complete(run.id, [attended.id], signer=host)
    assert (result.host_payout, len(result.stakes_forfeited)) == (38 * ETH // 100, 1)
    assert [row.status for row in backend.bookings.list_all()] == ["completed", "no_show"]


def test_functions_missing_in_the_deployed_interface_are_refused_before_sending(minimal: BackendEnvironment) -> None:
    backend = minimal
    sent = backend.engine.w3.eth.get_transaction_count(backend.wallets["platform"].address)
    with pytest.raises(UnsupportedByContract, match=r"createEventRunFor: 0x.* has to sign for itself"):
        backend.open_run()
    assert backend.runs.list_all() == []

    run = backend.open_run(signer=backend.wallets["host"])
    booking = backend.bookings.book(run.id, backend.ids["attendee"], 1, signer=backend.wallets["attendee"])
    for attempt in (
        lambda: backend.bookings.book(run.id, backend.ids["no_show"], 1),
        lambda: backend.bookings.cancel(booking.id),
        lambda: backend.runs.expire(run.id),
        lambda: backend.chain.withdraw_onchain(backend.wallets["attendee"]),
        lambda: backend.chain.credit_of(backend.wallets["attendee"].address),
        backend.chain.platform_balance,
        backend.chain.total_liabilities,
    ):
        with pytest.raises(UnsupportedByContract):
            attempt()
    assert backend.engine.w3.eth.get_transaction_count(backend.wallets["platform"].address) == sent
    assert backend.bookings.get(booking.id).status == "active"


def test_refresh_takes_over_foreign_transactions(backend: BackendEnvironment) -> None:
    run = backend.open_run(seats=3)
    kept, gone = (backend.bookings.book(run.id, backend.ids[role], 1) for role in ("attendee", "no_show"))
    transact(backend, "no_show", "cancelBooking", gone.blockchain_booking_id)
    assert backend.runs.get(run.id).seats_booked == 2
    assert backend.runs.refresh(run.id).seats_booked == 1
    assert (backend.bookings.get(kept.id).status, backend.bookings.get(gone.id).status) == ("active", "cancelled")
    transact(backend, "platform", "cancelEvent", run.blockchain_event_run_id)
    assert backend.runs.get(run.id).status == "active"
    assert backend.runs.refresh(run.id).status == "cancelled"
    assert backend.bookings.get(kept.id).status == "cancelled"


def test_transactions_of_the_blockchain_service_update_rows_too(backend: BackendEnvironment) -> None:
    run = backend.open_run(seats=3)
    booking = backend.bookings.book(run.id, backend.ids["attendee"], 1)
    backend.chain.cancel_booking_onchain(booking.blockchain_booking_id or 0)
    assert (backend.bookings.get(booking.id).status, backend.runs.get(run.id).seats_booked) == ("cancelled", 0)
    backend.chain.cancel_event_onchain(run.blockchain_event_run_id or 0)
    assert backend.runs.get(run.id).status == "cancelled"


def test_views_return_the_contracts_values(backend: BackendEnvironment) -> None:
    run = backend.open_run()
    booking = backend.bookings.book(run.id, backend.ids["attendee"], 1)
    onchain_id = booking.blockchain_booking_id or 0
    stored = backend.chain.get_booking_from_chain(onchain_id)
    assert (stored.seat_count, stored.total_payment, stored.status) == (1, ETH // 10, BookingStatus.ACTIVE)
    assert backend.chain.get_event_bookings(1) == [onchain_id]
    assert backend.chain.get_host_events(backend.wallets["host"].address) == [1]
    assert backend.chain.owner() == backend.wallets["platform"].address
    assert backend.chain.total_liabilities() == 20 * ETH // 100
    assert backend.chain.platform_balance() == backend.chain.credit_of(backend.wallets["host"].address) == 0


def test_nothing_is_stored_without_a_price(backend: BackendEnvironment) -> None:
    run = backend.open_run()
    backend.feed.rate = None
    for attempt in (
        backend.open_run,
        lambda: backend.bookings.quote(run.id, 1),
        lambda: backend.bookings.book(run.id, backend.ids["attendee"], 1),
        lambda: backend.bookings.book(uuid4(), uuid4(), -1),
    ):
        with pytest.raises(PriceError):
            attempt()
    assert backend.runs.list_all() == [run]
    assert backend.bookings.list_all() == []


def test_arguments_that_the_contract_cannot_take_are_refused(backend: BackendEnvironment) -> None:
    run = backend.open_run()
    nobody, host, experience = uuid4(), backend.ids["host"], run.experience_id
    later, price = backend.now() + DAY, Decimal(100)
    for error, attempt in (
        (InvalidRequest, lambda: backend.runs.create(host, experience, later.replace(tzinfo=None), 1, price)),
        (InvalidRequest, lambda: backend.runs.create(host, experience, later, -1, price)),
        (InvalidRequest, lambda: backend.runs.create(host, experience, later, 1, Decimal("1.005"))),
        (InvalidRequest, lambda: backend.runs.create(host, experience, later, 1, Decimal("NaN"))),
        (NotFound, lambda: backend.runs.create(nobody, experience, later, 1, price)),
        (NotFound, lambda: backend.runs.create(host, nobody, later, 1, price)),
        (NotFound, lambda: backend.bookings.book(nobody, host, 1)),
        (NotFound, lambda: backend.bookings.book(run.id, nobody, 1)),
        (NotFound, lambda: backend.bookings.cancel(nobody)),
        (NotFound, lambda: backend.runs.complete(nobody, [])),
        (NotFound, lambda: backend.runs.complete(run.id, [nobody])),
        (NotFound, lambda: backend.runs.get(nobody)),
        (InvalidRequest, lambda: backend.bookings.book(run.id, host, -1)),
        (InvalidRequest, lambda: backend.chain.get_user_bookings("nobody")),
    ):
        with pytest.raises(error):
            attempt()
    assert backend.runs.list_all() == [run]
    assert backend.bookings.list_all() == []


def test_fractions_of_a_second_are_dropped_in_database_and_chain(backend: BackendEnvironment) -> None:
    run = backend.open_run()
    starts_at = backend.now() + DAY + timedelta(microseconds=999_999)
    row = backend.runs.create(backend.ids["host"], run.experience_id, starts_at, 1, Decimal(1))
    assert row.starts_at == backend.chain.get_event_run_from_chain(2).starts_at == starts_at.replace(microsecond=0)


def test_a_run_starts_in_a_whole_second(backend: BackendEnvironment) -> None:
    """As the contract stores it."""
    experience, start = backend.open_run().experience_id, (backend.now() + DAY).replace(microsecond=0)
    for microsecond in (1, 999_999):
        starts_at = start.replace(microsecond=microsecond)
        run = backend.runs.create(backend.ids["host"], experience, starts_at, 4, Decimal(2_500))
        assert run.starts_at == start
        assert run.blockchain_event_run_id is not None
        assert backend.chain.get_event_run_from_chain(run.blockchain_event_run_id).starts_at == start


def test_the_host_of_an_experience(backend: BackendEnvironment) -> None:
    for host in ("host", "walletless"):
        run = backend.open_run(host=host)
        assert backend.runs.host_of_experience(run.experience_id) == backend.ids[host]
    with pytest.raises(NotFound, match="There is no experience"):
        backend.runs.host_of_experience(uuid4())

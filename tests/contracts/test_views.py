"""Views and constants show the contract's state, for things that exist and things that don't."""

import pytest
from web3.exceptions import ContractLogicError

from tests.contracts.conftest import PRICE

UNKNOWN_IDS = [0, 2, 2**32 + 1, 2**256 - 1]
"""Ids that don't exist once there is one run and one booking. The third has the lowest 32 bits of an id that does."""


def test_lists_are_in_order_of_creation(chain, contract, host, attendee, stranger):
    runs = [chain.create_run(contract), chain.create_run(contract)]
    bookings = [chain.book(contract, runs[0]), chain.book(contract, runs[1]), chain.book(contract, runs[0])]
    strangers_booking = chain.book(contract, runs[0], attendee=stranger.address)
    assert contract.functions.getHostEvents(host.address).call() == runs
    assert contract.functions.getUserBookings(attendee.address).call() == bookings
    assert contract.functions.getUserBookings(stranger.address).call() == [strangers_booking]
    assert contract.functions.getEventBookings(runs[0]).call() == [bookings[0], bookings[2], strangers_booking]
    assert contract.functions.getUserBookings(host.address).call() == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 7, 8, 9, 15, 16, 17])
def test_lists_of_any_length_are_whole(chain, contract, host, attendee, count):
    """Eight ids share a slot, and the length of a user's or host's list is in the first of them."""
    runs = [chain.create_run(contract, seats=40) for _ in range(count)]
    bookings = [chain.book(contract, runs[0]) for _ in range(count)]
    assert contract.functions.getHostEvents(host.address).call() == runs
    assert contract.functions.getUserBookings(attendee.address).call() == bookings
    assert contract.functions.getEventBookings(runs[0]).call() == bookings


@pytest.mark.slow
def test_a_list_of_more_ids_than_8_bits_count_is_whole(chain, contract, host):
    runs = [chain.create_run(contract, seats=1) for _ in range(257)]
    assert contract.functions.getHostEvents(host.address).call() == runs


def test_booking_cost_is_payment_plus_stake(chain, contract):
    run_id = chain.create_run(contract)
    payment, stake = 2 * PRICE, 2 * PRICE // 5
    assert contract.functions.calculateBookingCost(run_id, 2).call() == [payment, stake, payment + stake]
    assert contract.functions.calculateBookingCost(run_id, 0).call() == [0, 0, 0]
    assert contract.functions.calculateRequiredStake(PRICE, 3).call() == 3 * PRICE // 5


def test_a_cost_that_does_not_fit_in_256_bits_is_refused(chain):
    """With a stake of one basis point the largest payment fits, and its sum with the stake does not."""
    contract = chain.deploy_event_stake(stake_bps=1)
    price = 2**60
    run_id = chain.create_run(contract, seats=1, price=price)
    seats = (2**256 - 1) // price
    fitting = seats * 9_998 // 10_000
    payment, stake, total = contract.functions.calculateBookingCost(run_id, fitting).call()
    assert payment == price * fitting
    assert payment + stake == total < 2**256
    for too_many in (seats, seats + 1):
        with pytest.raises(ContractLogicError):
            contract.functions.calculateBookingCost(run_id, too_many).call()


def test_constants_are_public(contract):
    assert contract.functions.MAX_SEATS().call() == 200
    assert contract.functions.PUSH_GAS().call() == 30_000


@pytest.mark.parametrize("unknown", UNKNOWN_IDS)
def test_unknown_ids_are_refused_by_name(chain, contract, platform, unknown):
    chain.book(contract, chain.create_run(contract))
    functions = contract.functions
    for call in (
        functions.getEventRun(unknown),
        functions.calculateBookingCost(unknown, 1),
        functions.completeEvent(unknown, []),
        functions.cancelEvent(unknown),
        functions.expireEvent(unknown),
    ):
        assert chain.revert_error(call, platform) == "UnknownEventRun"
    for call in (functions.getBooking(unknown), functions.cancelBooking(unknown)):
        assert chain.revert_error(call, platform) == "UnknownBooking"
    assert functions.getEventBookings(unknown).call() == []


def test_views_of_accounts_without_anything_are_empty(contract, stranger):
    functions = contract.functions
    assert functions.getUserBookings(stranger.address).call() == functions.getHostEvents(stranger.address).call() == []
    assert functions.creditOf(stranger.address).call() == functions.platformBalance().call() == 0
    assert functions.totalLiabilities().call() == 0
    assert functions.isOperator(stranger.address).call() is False

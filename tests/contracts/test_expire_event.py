"""expireEvent: by anybody, once the grace is over; attendees share the host's stake."""

import pytest

from tests.contracts.conftest import BOOKING_COST, GRACE, HOST_STAKE, ROLES

EXPIRED, REFUNDED = 5, 3


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("offset", "error"), [(-1, "TooEarly"), (0, None), (1, None)])
def test_anybody_lets_a_run_expire_from_the_end_of_the_grace_period(chain, contract, callers, role, offset, error):
    at = chain.start_of(contract, callers.run_id) + GRACE + offset
    assert callers.error(role, "expireEvent", callers.run_id, at=at) == error


def test_event_has_refunds_compensation_and_remainder(chain, contract, attendee, host):
    """Three of seven seats are booked: the platform gets what the division of the host's stake leaves over."""
    price = 10**16 + 7
    run_id = chain.create_run(contract, seats=7, price=price)
    bookings = [chain.book(contract, run_id, seats=2), chain.book(contract, run_id, seats=1)]
    balances = chain.balance(attendee.address), chain.balance(host.address)
    receipt = chain.settle(contract, run_id, "expire", attended=[])
    (log,) = receipt.logs
    expired = contract.events.EventExpired().process_log(log)["args"]
    host_stake = 7 * price * 2000 // 10_000
    refunds = sum(price * seats + price * seats * 2000 // 10_000 for seats in (2, 1))
    compensation = host_stake * 2 // 3 + host_stake * 1 // 3
    assert expired["refundsIssued"] == refunds
    assert expired["compensation"] == compensation
    assert expired["toPlatform"] == host_stake - compensation > 0
    assert contract.functions.platformBalance().call() == host_stake - compensation
    assert chain.balance(attendee.address) - balances[0] == refunds + compensation
    assert chain.balance(host.address) == balances[1]
    assert {contract.functions.getBooking(booking).call()[6] for booking in bookings} == {REFUNDED}
    run = contract.functions.getEventRun(run_id).call()
    assert (run[5], run[8], run[9]) == (3, EXPIRED, True)


def test_host_of_a_run_without_active_bookings_gets_the_stake_back(chain, contract, host, platform):
    run_id = chain.create_run(contract)
    chain.transact(contract.functions.cancelBooking(chain.book(contract, run_id)), platform)
    balance = chain.balance(host.address)
    (log,) = chain.settle(contract, run_id, "expire", attended=[]).logs
    expired = contract.events.EventExpired().process_log(log)["args"]
    assert (expired["refundsIssued"], expired["compensation"], expired["toPlatform"]) == (0, 0, 0)
    assert chain.balance(host.address) - balance == HOST_STAKE
    assert chain.balance(contract.address) == 0


def test_cancelled_booking_gets_no_compensation(chain, contract, attendee, stranger, platform):
    run_id = chain.create_run(contract)
    chain.transact(contract.functions.cancelBooking(chain.book(contract, run_id, seats=2)), platform)
    chain.book(contract, run_id, attendee=stranger.address)
    balances = chain.balance(attendee.address), chain.balance(stranger.address)
    chain.transact(contract.functions.expireEvent(run_id), platform, at=chain.start_of(contract, run_id) + GRACE)
    assert chain.balance(attendee.address) == balances[0]
    assert chain.balance(stranger.address) - balances[1] == BOOKING_COST + HOST_STAKE


@pytest.mark.parametrize("settlement", ["complete", "cancel", "expire"])
def test_final_run_does_not_expire(chain, contract, stranger, settlement):
    run_id = chain.create_run(contract)
    at = chain.start_of(contract, run_id) + 2 * GRACE
    chain.settle(contract, run_id, settlement, attended=[])
    assert chain.revert_error(contract.functions.expireEvent(run_id), stranger, at=at) == "EventNotOpen"


def test_errors_come_in_the_order_of_the_checks(chain, contract, host, stranger):
    run_id, cancelled = chain.create_run(contract), chain.create_run(contract)
    chain.transact(contract.functions.cancelEvent(cancelled), host)
    unknown = "UnknownEventRun"
    for run, error in ((0, unknown), (99, unknown), (cancelled, "EventNotOpen"), (run_id, "TooEarly")):
        assert chain.revert_error(contract.functions.expireEvent(run), stranger) == error

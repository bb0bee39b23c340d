"""Views, constants and events show the contract's state; refusals that belong to no other module."""

from tests.contracts.conftest import GRACE, HOST_STAKE, PRICE, ZERO_ADDRESS


def test_lists_are_in_order_of_creation(chain, contract, host, attendee, stranger):
    runs = [chain.create_run(contract), chain.create_run(contract)]
    bookings = [chain.book(contract, runs[0]), chain.book(contract, runs[1]), chain.book(contract, runs[0])]
    strangers_booking = chain.book(contract, runs[0], attendee=stranger.address)
    assert contract.functions.getHostEvents(host.address).call() == runs
    assert contract.functions.getUserBookings(attendee.address).call() == bookings
    assert contract.functions.getUserBookings(stranger.address).call() == [strangers_booking]
    assert contract.functions.getEventBookings(runs[0]).call() == [bookings[0], bookings[2], strangers_booking]
    assert contract.functions.getUserBookings(host.address).call() == []


def test_booking_cost_is_payment_plus_stake(chain, contract):
    run_id = chain.create_run(contract)
    payment, stake = 2 * PRICE, 2 * PRICE // 5
    assert contract.functions.calculateBookingCost(run_id, 2).call() == [payment, stake, payment + stake]
    assert contract.functions.calculateRequiredStake(PRICE, 3).call() == 3 * PRICE // 5


def test_constants_are_public(contract):
    assert contract.functions.MAX_SEATS().call() == 200
    assert contract.functions.PUSH_GAS().call() == 30_000


def test_expiry_event_has_refunds_compensation_and_remainder(chain, contract, stranger):
    """Three of seven seats are booked: the platform gets what the division of the host's stake leaves over."""
    price = 10**16 + 1
    run_id = chain.create_run(contract, seats=7, price=price)
    chain.book(contract, run_id, seats=2)
    chain.book(contract, run_id, seats=1)
    end_of_grace = chain.start_of(contract, run_id) + GRACE
    receipt = chain.transact(contract.functions.expireEvent(run_id), stranger, at=end_of_grace)
    expired = contract.events.EventExpired().process_log(receipt.logs[0])["args"]
    host_stake = 7 * price * 2000 // 10_000
    refunds = sum(price * seats + price * seats * 2000 // 10_000 for seats in (2, 1))
    compensation = host_stake * 2 // 3 + host_stake * 1 // 3
    assert expired["refundsIssued"] == refunds
    assert expired["compensation"] == compensation
    assert expired["toPlatform"] == host_stake - compensation
    assert contract.functions.platformBalance().call() == host_stake - compensation


def test_stranger_cannot_renounce_ownership(chain, contract, stranger):
    assert chain.revert_error(contract.functions.renounceOwnership(), stranger) == "OwnableUnauthorizedAccount"


def test_only_the_owner_pauses_and_unpauses(chain, contract, platform, host, stranger):
    start = chain.engine.now() + 1_000_000
    create = contract.functions.createEventRunFor(host.address, "cooking", PRICE, 4, start)
    assert chain.revert_error(contract.functions.unpause(), platform) == "ExpectedPause"
    chain.transact(contract.functions.pause(), platform)
    assert chain.revert_error(create, platform, HOST_STAKE) == "EnforcedPause"
    assert chain.revert_error(contract.functions.unpause(), stranger) == "OwnableUnauthorizedAccount"
    chain.transact(contract.functions.unpause(), platform)
    assert chain.revert_error(create, platform, HOST_STAKE) is None


def test_credit_is_not_withdrawn_to_a_receiver_that_cannot_be_paid(chain, contract, stranger):
    for receiver in (ZERO_ADDRESS, contract.address):
        assert chain.revert_error(contract.functions.withdrawTo(receiver), stranger) == "InvalidReceiver"


def test_latest_possible_start_is_stored_exactly(chain, contract):
    latest = 2**40 - 1
    assert chain.start_of(contract, chain.create_run(contract, start=latest)) == latest

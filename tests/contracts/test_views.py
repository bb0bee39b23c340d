"""Lists, costs, constants and events say what is so."""

from tests.contracts.conftest import GRACE, PRICE


def test_lists_have_what_was_made_in_order(chain):
    stake = chain.stake()
    runs = [chain.run(stake), chain.run(stake)]
    bookings = [chain.book(stake, runs[0]), chain.book(stake, runs[1]), chain.book(stake, runs[0])]
    other = chain.book(stake, runs[0], attendee=chain.stranger.address)
    assert stake.functions.getHostEvents(chain.host.address).call() == runs
    assert stake.functions.getUserBookings(chain.attendee.address).call() == bookings
    assert stake.functions.getUserBookings(chain.stranger.address).call() == [other]
    assert stake.functions.getEventBookings(runs[0]).call() == [bookings[0], bookings[2], other]
    assert stake.functions.getUserBookings(chain.host.address).call() == []


def test_costs_add_up(chain):
    stake = chain.stake()
    run = chain.run(stake)
    assert stake.functions.calculateBookingCost(run, 2).call() == [
        2 * PRICE,
        2 * PRICE // 5,
        2 * PRICE + 2 * PRICE // 5,
    ]
    assert stake.functions.calculateRequiredStake(PRICE, 3).call() == 3 * PRICE // 5


def test_constants_are_public(chain):
    stake = chain.stake()
    assert stake.functions.MAX_SEATS().call() == 200
    assert stake.functions.PUSH_GAS().call() == 30_000


def test_an_expiry_is_told_in_full(chain):
    """Three of seven seats are booked: what the host's stake leaves over goes to the platform."""
    stake = chain.stake()
    run = chain.run(stake, seats=7, price=10**16 + 1)
    chain.book(stake, run, seats=2)
    chain.book(stake, run, seats=1)
    at = chain.start_of(stake, run) + GRACE
    receipt = chain.send(stake.functions.expireEvent(run), chain.stranger, at=at)
    told = stake.events.EventExpired().process_log(receipt.logs[0])["args"]
    price, held = 10**16 + 1, 7 * (10**16 + 1) * 2000 // 10_000
    refunds = sum(price * seats + price * seats * 2000 // 10_000 for seats in (2, 1))
    compensation = held * 2 // 3 + held * 1 // 3
    assert (told["refundsIssued"], told["compensation"], told["toPlatform"]) == (
        refunds,
        compensation,
        held - compensation,
    )
    assert stake.functions.platformBalance().call() == held - compensation


def test_a_stranger_who_renounces_is_told_that_it_is_not_theirs(chain):
    stake = chain.stake()
    assert chain.error(stake.functions.renounceOwnership(), chain.stranger) == "OwnableUnauthorizedAccount"


def test_a_pause_is_the_owners_to_begin_and_to_end(chain):
    stake = chain.stake()
    start = chain.engine.now() + 1_000_000
    value = stake.functions.calculateRequiredStake(PRICE, 4).call()
    create = stake.functions.createEventRunFor(chain.host.address, "cooking", PRICE, 4, start)
    assert chain.error(stake.functions.unpause(), chain.platform) == "ExpectedPause"
    assert chain.send(stake.functions.pause(), chain.platform).status == 1
    assert chain.error(create, chain.platform, value) == "EnforcedPause"
    assert chain.error(stake.functions.unpause(), chain.stranger) == "OwnableUnauthorizedAccount"
    assert chain.send(stake.functions.unpause(), chain.platform).status == 1
    assert chain.error(create, chain.platform, value) is None


def test_a_credit_goes_to_nobody_who_can_not_have_it(chain):
    stake = chain.stake()
    for nobody in ("0x" + "00" * 20, stake.address):
        assert chain.error(stake.functions.withdrawTo(nobody), chain.stranger) == "InvalidReceiver"


def test_the_farthest_start_can_be_kept(chain):
    stake = chain.stake()
    assert chain.start_of(stake, chain.run(stake, start=2**40 - 1)) == 2**40 - 1

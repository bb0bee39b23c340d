"""No receiver, however hostile, can stop anyone else's settlement, and nobody can starve a receiver of its gas."""

import pytest

KINDS = ["RefusingReceiver", "BurningReceiver", "FloodingReceiver"]
REENTRIES = [
    ("withdraw", []),
    ("withdrawTo", ["0x" + "11" * 20]),
    ("cancelBooking", [1]),
    ("cancelEvent", [1]),
    ("completeEvent", [1, [1]]),
    ("expireEvent", [1]),
    ("withdrawPlatformFees", []),
]


def _settle(chain, stake, run, how: str, came: list[int], at_start=0):
    start = chain.start_of(stake, run)
    match how:
        case "complete":
            return chain.send(stake.functions.completeEvent(run, came), chain.platform, at=start)
        case "cancel":
            return chain.send(stake.functions.cancelEvent(run), chain.platform)
        case "expire":
            return chain.send(stake.functions.expireEvent(run), chain.stranger, at=start + 8 * 24 * 3600)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["complete", "cancel", "expire"])
def test_a_push_that_fails_becomes_a_credit_and_stops_nobody(chain, kind, how):
    stake = chain.stake()
    hostile = chain.deploy(kind)
    run = chain.run(stake, host=hostile.address)
    bookings = [chain.book(stake, run, attendee=hostile.address), chain.book(stake, run)]
    before = chain.balance(chain.attendee.address)
    receipt = _settle(chain, stake, run, how, bookings)
    assert receipt.status == 1
    assert chain.balance(chain.attendee.address) > before
    credit = stake.functions.creditOf(hostile.address).call()
    assert credit > 0
    assert chain.balance(stake.address) == stake.functions.totalLiabilities().call()

    other = "0x" + "22" * 20
    call = stake.encode_abi("withdrawTo", [other])
    assert chain.send(hostile.functions.execute(stake.address, 0, call), chain.platform).status == 1
    assert chain.balance(other) == credit
    assert stake.functions.creditOf(hostile.address).call() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_withdrawal_keeps_the_credit(chain, kind):
    stake = chain.stake()
    hostile = chain.deploy(kind)
    run = chain.run(stake)
    chain.book(stake, run, attendee=hostile.address)
    _settle(chain, stake, run, "cancel", [])
    credit = stake.functions.creditOf(hostile.address).call()
    call = hostile.functions.execute(stake.address, 0, stake.encode_abi("withdraw", []))
    assert chain.send(call, chain.platform).status == 0
    assert stake.functions.creditOf(hostile.address).call() == credit > 0


@pytest.mark.parametrize(("function", "args"), REENTRIES)
def test_reentering_any_paying_function_does_nothing(chain, function, args):
    stake = chain.stake()
    thief = chain.deploy("ReenteringReceiver", stake.address, stake.encode_abi(function, args))
    run = chain.run(stake, host=thief.address)
    booking = chain.book(stake, run, attendee=thief.address)
    chain.book(stake, run)
    receipt = _settle(chain, stake, run, "complete", [booking])
    assert receipt.status == 1
    assert thief.functions.reentered().call() == 0
    assert chain.balance(stake.address) == stake.functions.totalLiabilities().call()


@pytest.mark.slow
def test_too_little_gas_for_a_push_reverts_instead_of_starving_the_receiver(chain):
    """A caller who sends just too little can't turn a payout into a credit: it settles in full or not at all."""
    stake = chain.stake()
    run = chain.run(stake)
    chain.book(stake, run)
    settle = stake.functions.cancelEvent(run)
    for gas in range(60_000, 260_000, 10_000):
        snapshot = chain.engine.snapshot()
        receipt = chain.send(settle, chain.platform, gas=gas)
        if receipt.status == 1:
            assert stake.functions.creditOf(chain.attendee.address).call() == 0
            assert stake.functions.creditOf(chain.host.address).call() == 0
        chain.engine.revert(snapshot)
    assert receipt.status == 1


@pytest.mark.slow
def test_booking_and_cancelling_for_ever_does_not_make_a_run_longer_to_settle(chain, profile):
    stake = chain.stake()
    gas = []
    for times in (0, 1, 5 if profile == "quick" else 30):
        run = chain.run(stake)
        for _ in range(times):
            booking = chain.book(stake, run)
            assert chain.send(stake.functions.cancelBooking(booking), chain.attendee).status == 1
        last = chain.book(stake, run)
        assert len(stake.functions.getEventBookings(run).call()) == times + 1
        gas.append(_settle(chain, stake, run, "complete", [last]).gasUsed)
    assert gas[2] <= gas[1]


def test_the_middle_booking_of_many_can_be_cancelled(chain):
    stake = chain.stake()
    run = chain.run(stake, seats=12)
    bookings = [chain.book(stake, run) for _ in range(12)]
    assert stake.functions.getEventRun(run).call()[8] == 2
    for booking in (bookings[5], bookings[0], bookings[11]):
        assert chain.send(stake.functions.cancelBooking(booking), chain.attendee).status == 1
    assert stake.functions.getEventRun(run).call()[8] == 1
    left = [b for b in bookings if b not in (bookings[5], bookings[0], bookings[11])]
    assert _settle(chain, stake, run, "complete", left).status == 1
    assert chain.balance(stake.address) == stake.functions.platformBalance().call()

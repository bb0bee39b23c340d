"""No hostile receiver can stop another party's settlement, and no caller can starve a receiver of its gas."""

import pytest

HOSTILE_RECEIVERS = ["RefusingReceiver", "BurningReceiver", "FloodingReceiver"]
FULL, ACTIVE = 2, 1
"""Statuses of a run."""

REENTERED_CALLS = [
    ("withdraw", []),
    ("withdrawTo", ["0x" + "11" * 20]),
    ("cancelBooking", [1]),
    ("cancelEvent", [1]),
    ("completeEvent", [1, [1]]),
    ("expireEvent", [1]),
    ("withdrawPlatformFees", []),
]


@pytest.mark.parametrize("receiver", HOSTILE_RECEIVERS)
@pytest.mark.parametrize("settlement", ["complete", "cancel", "expire"])
def test_failed_push_becomes_a_credit_and_stops_no_other_payout(
    chain, contract, platform, attendee, receiver, settlement
):
    attacker = chain.deploy(receiver)
    run_id = chain.create_run(contract, host=attacker.address)
    bookings = [chain.book(contract, run_id, attendee=attacker.address), chain.book(contract, run_id)]
    balance_before = chain.balance(attendee.address)
    chain.settle(contract, run_id, settlement, attended=bookings)
    assert chain.balance(attendee.address) > balance_before
    credit = contract.functions.creditOf(attacker.address).call()
    assert credit > 0
    assert chain.balance(contract.address) == contract.functions.totalLiabilities().call()

    other_address = "0x" + "22" * 20
    withdraw_to = contract.encode_abi("withdrawTo", [other_address])
    chain.transact(attacker.functions.execute(contract.address, 0, withdraw_to), platform)
    assert chain.balance(other_address) == credit
    assert contract.functions.creditOf(attacker.address).call() == 0


@pytest.mark.parametrize("receiver", HOSTILE_RECEIVERS)
def test_refused_withdrawal_keeps_the_credit(chain, contract, platform, receiver):
    attacker = chain.deploy(receiver)
    run_id = chain.create_run(contract)
    chain.book(contract, run_id, attendee=attacker.address)
    chain.settle(contract, run_id, "cancel", attended=[])
    credit = contract.functions.creditOf(attacker.address).call()
    withdraw = attacker.functions.execute(contract.address, 0, contract.encode_abi("withdraw", []))
    assert chain.send(withdraw, platform).status == 0
    assert contract.functions.creditOf(attacker.address).call() == credit > 0


@pytest.mark.parametrize(("function", "args"), REENTERED_CALLS, ids=[name for name, _ in REENTERED_CALLS])
def test_reentering_a_function_has_no_effect(chain, contract, function, args):
    attacker = chain.deploy("ReenteringReceiver", contract.address, contract.encode_abi(function, args))
    run_id = chain.create_run(contract, host=attacker.address)
    booking_id = chain.book(contract, run_id, attendee=attacker.address)
    chain.book(contract, run_id)
    chain.settle(contract, run_id, "complete", attended=[booking_id])
    assert attacker.functions.reentered().call() == 0
    assert chain.balance(contract.address) == contract.functions.totalLiabilities().call()


@pytest.mark.slow
def test_too_little_gas_for_a_push_reverts_instead_of_starving_the_receiver(chain, contract, platform, host, attendee):
    """A caller who sends slightly too little gas cannot turn a payout into a credit: the run settles in full or not."""
    run_id = chain.create_run(contract)
    chain.book(contract, run_id)
    cancel = contract.functions.cancelEvent(run_id)
    for gas in range(60_000, 260_000, 10_000):
        snapshot = chain.engine.snapshot()
        receipt = chain.send(cancel, platform, gas=gas)
        if receipt.status == 1:
            assert contract.functions.creditOf(attendee.address).call() == 0
            assert contract.functions.creditOf(host.address).call() == 0
        chain.engine.revert(snapshot)
    assert receipt.status == 1


@pytest.mark.slow
def test_cancelled_bookings_do_not_make_a_settlement_cost_more_gas(chain, contract, attendee, profile):
    gas_used = []
    for cancellations in (0, 1, 5 if profile == "quick" else 30):
        run_id = chain.create_run(contract)
        for _ in range(cancellations):
            chain.transact(contract.functions.cancelBooking(chain.book(contract, run_id)), attendee)
        active = chain.book(contract, run_id)
        assert len(contract.functions.getEventBookings(run_id).call()) == cancellations + 1
        gas_used.append(chain.settle(contract, run_id, "complete", attended=[active]).gasUsed)
    assert gas_used[2] <= gas_used[1]


def test_first_middle_and_last_booking_of_many_can_be_cancelled(chain, contract, attendee):
    run_id = chain.create_run(contract, seats=12)
    bookings = [chain.book(contract, run_id) for _ in range(12)]
    assert contract.functions.getEventRun(run_id).call()[8] == FULL
    cancelled = (bookings[5], bookings[0], bookings[11])
    for booking_id in cancelled:
        chain.transact(contract.functions.cancelBooking(booking_id), attendee)
    assert contract.functions.getEventRun(run_id).call()[8] == ACTIVE
    active = [booking_id for booking_id in bookings if booking_id not in cancelled]
    chain.settle(contract, run_id, "complete", attended=active)
    assert chain.balance(contract.address) == contract.functions.platformBalance().call()

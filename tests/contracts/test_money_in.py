"""Creating runs and booking seats: exact value, bounds of the arguments, the pause, and who may do it."""

import pytest

from tests.contracts.conftest import BOOKING_COST, DAY, GRACE, HOST_STAKE, PRICE, ZERO_ADDRESS


@pytest.mark.parametrize("error_in_wei", [-1, 1])
def test_only_the_exact_value_is_accepted(chain, contract, host, attendee, error_in_wei):
    create = contract.functions.createEventRun("cooking", PRICE, 4, chain.engine.now() + 1000)
    assert contract.functions.calculateRequiredStake(PRICE, 4).call() == HOST_STAKE == 8 * 10**16
    assert chain.revert_error(create, host, HOST_STAKE + error_in_wei) == "WrongValue"
    assert chain.revert_error(create, host, HOST_STAKE) is None
    book = contract.functions.bookEvent(chain.create_run(contract), 1)
    assert chain.revert_error(book, attendee, BOOKING_COST + error_in_wei) == "WrongValue"


@pytest.mark.parametrize(
    ("experience", "price", "seats", "seconds_ahead", "error"),
    [
        ("", PRICE, 4, 1000, "InvalidExperience"),
        ("x", 0, 4, 1000, "InvalidPrice"),
        ("x", 2**128, 4, 1000, "InvalidPrice"),
        ("x", PRICE, 0, 1000, "InvalidSeats"),
        ("x", PRICE, 201, 1000, "InvalidSeats"),
        ("x", PRICE, 4, 0, "InvalidStart"),
        ("x", PRICE, 4, 2**40, "InvalidStart"),
    ],
)
def test_run_out_of_bounds_is_refused(chain, contract, host, experience, price, seats, seconds_ahead, error):
    now = chain.engine.now() + 10
    create = contract.functions.createEventRun(experience, price, seats, now + seconds_ahead)
    value = min(contract.functions.calculateRequiredStake(price, seats).call(), 10**23)
    assert chain.revert_error(create, host, value, at=now) == error


def test_highest_price_and_nearest_start_are_within_bounds(chain, contract, host):
    now = chain.engine.now() + 10
    create = contract.functions.createEventRun("x", 2**128 - 1, 1, now + 1)
    assert chain.revert_error(create, host, 1, at=now) == "WrongValue"
    create = contract.functions.createEventRun("x", 1, 200, now + 1)
    assert chain.revert_error(create, host, 40, at=now) is None


def test_receiver_that_cannot_be_paid_is_refused(chain, contract, platform):
    run_id = chain.create_run(contract)
    for receiver in (ZERO_ADDRESS, contract.address):
        create = contract.functions.createEventRunFor(receiver, "x", PRICE, 4, chain.engine.now() + 1000)
        assert chain.revert_error(create, platform, HOST_STAKE) == "InvalidReceiver"
        book = contract.functions.bookEventFor(receiver, run_id, 1)
        assert chain.revert_error(book, platform, BOOKING_COST) == "InvalidReceiver"


def test_only_the_platform_pays_in_for_others(chain, contract, host, attendee):
    run_id = chain.create_run(contract)
    create = contract.functions.createEventRunFor(host.address, "x", PRICE, 4, chain.engine.now() + 1000)
    assert chain.revert_error(create, host, HOST_STAKE) == "OwnableUnauthorizedAccount"
    book = contract.functions.bookEventFor(attendee.address, run_id, 1)
    assert chain.revert_error(book, attendee, BOOKING_COST) == "OwnableUnauthorizedAccount"


def test_full_run_accepts_no_booking_until_one_is_cancelled(chain, contract, attendee, stranger):
    run_id = chain.create_run(contract, seats=2)
    booking_id = chain.book(contract, run_id, seats=2)
    book = contract.functions.bookEvent(run_id, 1)
    assert chain.revert_error(book, stranger, BOOKING_COST) == "EventNotOpen"
    chain.transact(contract.functions.cancelBooking(booking_id), attendee)
    assert chain.revert_error(book, stranger, BOOKING_COST) is None
    assert chain.revert_error(contract.functions.bookEvent(run_id, 3), stranger, 3 * BOOKING_COST) == "NotEnoughSeats"
    assert chain.revert_error(contract.functions.bookEvent(run_id, 0), stranger) == "InvalidSeats"


def test_pause_stops_runs_and_bookings_but_no_exit(chain, contract, platform, host, attendee, stranger):
    run_id = chain.create_run(contract)
    booking_id = chain.book(contract, run_id)
    start = chain.start_of(contract, run_id)
    assert chain.revert_error(contract.functions.pause(), host) == "OwnableUnauthorizedAccount"
    chain.transact(contract.functions.pause(), platform)

    create = contract.functions.createEventRun("x", PRICE, 4, start)
    book = contract.functions.bookEvent(run_id, 1)
    book_for = contract.functions.bookEventFor(host.address, run_id, 1)
    assert chain.revert_error(create, host, HOST_STAKE) == "EnforcedPause"
    assert chain.revert_error(book, attendee, BOOKING_COST) == "EnforcedPause"
    assert chain.revert_error(book_for, platform, BOOKING_COST) == "EnforcedPause"

    after_grace = start + GRACE + DAY
    assert chain.revert_error(contract.functions.cancelBooking(booking_id), attendee) is None
    assert chain.revert_error(contract.functions.cancelEvent(run_id), host) is None
    assert chain.revert_error(contract.functions.expireEvent(run_id), stranger, at=after_grace) is None
    assert chain.send(contract.functions.completeEvent(run_id, []), host, at=after_grace + 1).status == 0
    chain.transact(contract.functions.unpause(), platform)


def test_plain_ether_is_refused(chain, contract, host):
    w3 = chain.engine.w3
    transaction = {
        "to": contract.address,
        "value": 1,
        "gas": 100_000,
        "nonce": w3.eth.get_transaction_count(host.address),
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 10**9,
        "chainId": w3.eth.chain_id,
    }
    tx_hash = w3.eth.send_raw_transaction(host.sign_transaction(transaction).raw_transaction)
    assert w3.eth.wait_for_transaction_receipt(tx_hash).status == 0
    assert chain.balance(contract.address) == 0

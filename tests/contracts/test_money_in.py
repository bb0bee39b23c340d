"""Creating and booking: exact value, bounds, pause, and who may."""

import pytest

from tests.contracts.conftest import PRICE


@pytest.fixture
def stake(chain):
    return chain.stake()


@pytest.mark.parametrize("off", [-1, 1])
def test_only_the_exact_value_is_taken(chain, stake, off):
    start = chain.engine.now() + 1000
    call = stake.functions.createEventRun("cooking", PRICE, 4, start)
    due = stake.functions.calculateRequiredStake(PRICE, 4).call()
    assert due == 8 * 10**16
    assert chain.error(call, chain.host, due + off) == "WrongValue"
    assert chain.error(call, chain.host, due) is None
    run = chain.run(stake)
    assert chain.error(stake.functions.bookEvent(run, 1), chain.attendee, PRICE * 12 // 10 + off) == "WrongValue"


@pytest.mark.parametrize(
    ("experience", "price", "seats", "ahead", "error"),
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
def test_bounds_of_a_run(chain, stake, experience, price, seats, ahead, error):
    now = chain.engine.now() + 10
    call = stake.functions.createEventRun(experience, price, seats, now + ahead)
    value = min(stake.functions.calculateRequiredStake(price, seats).call(), 10**23)
    assert chain.error(call, chain.host, value, at=now) == error


def test_the_largest_price_and_the_nearest_start(chain, stake):
    now = chain.engine.now() + 10
    call = stake.functions.createEventRun("x", 2**128 - 1, 1, now + 1)
    assert chain.error(call, chain.host, 1, at=now) == "WrongValue"
    call = stake.functions.createEventRun("x", 1, 200, now + 1)
    assert chain.error(call, chain.host, 40, at=now) is None


def test_nobody_can_be_entered_who_can_not_be_paid(chain, stake):
    run = chain.run(stake)
    for receiver in ("0x" + "00" * 20, stake.address):
        create = stake.functions.createEventRunFor(receiver, "x", PRICE, 4, chain.engine.now() + 1000)
        assert chain.error(create, chain.platform, PRICE * 8 // 10) == "InvalidReceiver"
        book = stake.functions.bookEventFor(receiver, run, 1)
        assert chain.error(book, chain.platform, PRICE * 12 // 10) == "InvalidReceiver"


def test_only_the_platform_pays_in_for_others(chain, stake):
    run = chain.run(stake)
    create = stake.functions.createEventRunFor(chain.host.address, "x", PRICE, 4, chain.engine.now() + 1000)
    assert chain.error(create, chain.host, PRICE * 8 // 10) == "OwnableUnauthorizedAccount"
    book = stake.functions.bookEventFor(chain.attendee.address, run, 1)
    assert chain.error(book, chain.attendee, PRICE * 12 // 10) == "OwnableUnauthorizedAccount"


def test_a_full_run_takes_nobody_until_somebody_cancels(chain, stake):
    run = chain.run(stake, seats=2)
    first = chain.book(stake, run, seats=2)
    call = stake.functions.bookEvent(run, 1)
    assert chain.error(call, chain.stranger, PRICE * 12 // 10) == "EventNotOpen"
    assert chain.send(stake.functions.cancelBooking(first), chain.attendee).status == 1
    assert chain.error(call, chain.stranger, PRICE * 12 // 10) is None
    assert chain.error(stake.functions.bookEvent(run, 3), chain.stranger, PRICE * 36 // 10) == "NotEnoughSeats"
    assert chain.error(stake.functions.bookEvent(run, 0), chain.stranger) == "InvalidSeats"


def test_a_pause_stops_what_comes_in_and_nothing_that_goes_out(chain, stake):
    run = chain.run(stake)
    booking = chain.book(stake, run)
    start = chain.start_of(stake, run)
    assert chain.error(stake.functions.pause(), chain.host) == "OwnableUnauthorizedAccount"
    assert chain.send(stake.functions.pause(), chain.platform).status == 1
    cost = PRICE * 12 // 10
    create = stake.functions.createEventRun("x", PRICE, 4, start)
    assert chain.error(create, chain.host, PRICE * 8 // 10) == "EnforcedPause"
    assert chain.error(stake.functions.bookEvent(run, 1), chain.attendee, cost) == "EnforcedPause"
    assert (
        chain.error(stake.functions.bookEventFor(chain.host.address, run, 1), chain.platform, cost) == "EnforcedPause"
    )
    assert chain.error(stake.functions.cancelBooking(booking), chain.attendee) is None
    assert chain.error(stake.functions.cancelEvent(run), chain.host) is None
    assert chain.error(stake.functions.expireEvent(run), chain.stranger, at=start + 8 * 86400) is None
    assert chain.send(stake.functions.completeEvent(run, []), chain.host, at=start + 8 * 86400 + 1).status == 0
    assert chain.send(stake.functions.unpause(), chain.platform).status == 1


def test_plain_ether_is_refused(chain, stake):
    w3 = chain.engine.w3
    transaction = {
        "to": stake.address,
        "value": 1,
        "gas": 100_000,
        "nonce": w3.eth.get_transaction_count(chain.host.address),
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 10**9,
        "chainId": w3.eth.chain_id,
    }
    sent = w3.eth.send_raw_transaction(chain.host.sign_transaction(transaction).raw_transaction)
    assert w3.eth.wait_for_transaction_receipt(sent).status == 0
    assert chain.balance(stake.address) == 0

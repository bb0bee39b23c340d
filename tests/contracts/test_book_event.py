"""bookEvent and bookEventFor: who may book, for whom, which seats, when, at what cost."""

import pytest

from tests.contracts.conftest import BOOKING_COST, PLATFORM_ROLES, PRICE, ROLES, ZERO_ADDRESS

ACTIVE, FULL = 1, 2
"""Statuses of a run."""


@pytest.mark.parametrize("role", ROLES)
def test_anybody_books_for_themselves(callers, role):
    assert callers.error(role, "bookEvent", callers.run_id, 1, value=BOOKING_COST) is None


@pytest.mark.parametrize("role", ROLES)
def test_only_owner_and_operators_book_for_others(callers, attendee, role):
    error = callers.error(role, "bookEventFor", attendee.address, callers.run_id, 1, value=BOOKING_COST)
    assert error == (None if role in PLATFORM_ROLES else "OwnableUnauthorizedAccount")


def test_booking_has_what_it_was_made_with(chain, contract, attendee, platform):
    run_id = chain.create_run(contract)
    for book, sender in (
        (contract.functions.bookEvent(run_id, 2), attendee),
        (contract.functions.bookEventFor(attendee.address, run_id, 2), platform),
    ):
        receipt = chain.transact(book, sender, 2 * BOOKING_COST)
        created = contract.events.BookingCreated().process_log(receipt.logs[0])["args"]
        booking_id, block = created["bookingId"], chain.engine.w3.eth.get_block(receipt.blockNumber)
        assert dict(created) == {
            "bookingId": booking_id,
            "eventRunId": run_id,
            "user": attendee.address,
            "seatCount": 2,
            "totalPayment": 2 * PRICE,
            "userStake": 2 * PRICE // 5,
        }
        expected = (booking_id, run_id, attendee.address, 2, 2 * PRICE, 2 * PRICE // 5, 0, block.timestamp)
        assert tuple(contract.functions.getBooking(booking_id).call()) == expected
    assert contract.functions.getUserBookings(attendee.address).call() == [1, 2]
    assert contract.functions.getEventBookings(run_id).call() == [1, 2]


@pytest.mark.parametrize("error_in_wei", [-1, 0, 1])
def test_only_the_exact_value_is_accepted(chain, contract, attendee, error_in_wei):
    book = contract.functions.bookEvent(chain.create_run(contract), 1)
    assert chain.revert_error(book, attendee, BOOKING_COST + error_in_wei) == ("WrongValue" if error_in_wei else None)


@pytest.mark.parametrize(("offset", "error"), [(-1, None), (0, "TooLate"), (1, "TooLate")])
def test_booking_is_possible_before_the_start(chain, contract, stranger, offset, error):
    run_id = chain.create_run(contract)
    at = chain.start_of(contract, run_id) + offset
    assert chain.revert_error(contract.functions.bookEvent(run_id, 1), stranger, BOOKING_COST, at=at) == error


def test_last_seat_makes_a_run_full_and_a_cancelled_booking_makes_it_active(chain, contract, attendee, stranger):
    run_id = chain.create_run(contract, seats=2)
    booking_id = chain.book(contract, run_id, seats=2)
    assert contract.functions.getEventRun(run_id).call()[8] == FULL
    book = contract.functions.bookEvent(run_id, 1)
    assert chain.revert_error(book, stranger, BOOKING_COST) == "EventNotOpen"
    chain.transact(contract.functions.cancelBooking(booking_id), attendee)
    assert contract.functions.getEventRun(run_id).call()[8] == ACTIVE
    assert chain.revert_error(book, stranger, BOOKING_COST) is None
    assert chain.revert_error(contract.functions.bookEvent(run_id, 3), stranger, 3 * BOOKING_COST) == "NotEnoughSeats"
    assert chain.revert_error(contract.functions.bookEvent(run_id, 2**256 - 1), stranger) == "NotEnoughSeats"
    assert chain.revert_error(contract.functions.bookEvent(run_id, 0), stranger) == "InvalidSeats"


def test_receiver_that_cannot_be_paid_is_refused(chain, contract, platform):
    run_id = chain.create_run(contract)
    for receiver in (ZERO_ADDRESS, contract.address):
        book = contract.functions.bookEventFor(receiver, run_id, 1)
        assert chain.revert_error(book, platform, BOOKING_COST) == "InvalidReceiver"


@pytest.mark.parametrize("run_id", [0, 2, 2**32 + 1, 2**256 - 1])
def test_unknown_run_is_refused(chain, contract, attendee, run_id):
    chain.create_run(contract)
    assert chain.revert_error(contract.functions.bookEvent(run_id, 1), attendee) == "UnknownEventRun"


def test_errors_come_in_the_order_of_the_checks(chain, contract, platform, host, attendee):
    run_id, full = chain.create_run(contract), chain.create_run(contract, seats=1)
    chain.book(contract, full)
    start = chain.start_of(contract, run_id)
    chain.transact(contract.functions.pause(), platform)

    def error(receiver, run, seats, *, sender=platform, value=1, at=None):
        return chain.revert_error(contract.functions.bookEventFor(receiver, run, seats), sender, value, at=at)

    assert error(ZERO_ADDRESS, 99, 0, sender=host) == "OwnableUnauthorizedAccount"
    assert error(ZERO_ADDRESS, 99, 0) == "EnforcedPause"
    chain.transact(contract.functions.unpause(), platform)
    assert error(ZERO_ADDRESS, 99, 0) == "UnknownEventRun"
    assert error(ZERO_ADDRESS, full, 0, at=start + 10) == "InvalidReceiver"
    assert error(attendee.address, full, 0, at=start + 10) == "EventNotOpen"
    assert error(attendee.address, run_id, 0, at=start + 10) == "TooLate"


def test_errors_of_the_arguments_come_in_order(chain, contract, attendee):
    run_id = chain.create_run(contract)
    for seats, value, error in (
        (0, 1, "InvalidSeats"),
        (5, 1, "NotEnoughSeats"),
        (4, 1, "WrongValue"),
        (4, 4 * BOOKING_COST, None),
    ):
        assert chain.revert_error(contract.functions.bookEvent(run_id, seats), attendee, value) == error

"""cancelBooking: who may cancel a booking, until when, and what it leaves of the run's lists."""

import random

import pytest

from tests.contracts.conftest import BOOKING_COST, CUTOFF, PLATFORM_ROLES, ROLES

ACTIVE, FULL = 1, 2
REFUNDED = 3


@pytest.mark.parametrize("role", ROLES)
def test_only_attendee_owner_and_operators_cancel(callers, role):
    error = callers.error(role, "cancelBooking", callers.booking_id)
    assert error == (None if role in PLATFORM_ROLES | {"attendee"} else "NotAuthorized")


@pytest.mark.parametrize(("offset", "error"), [(-1, None), (0, None), (1, "TooLate")])
@pytest.mark.parametrize("role", ["attendee", "operator"])
def test_booking_can_be_cancelled_up_to_the_cutoff(chain, contract, callers, role, offset, error):
    at = chain.start_of(contract, callers.run_id) - CUTOFF + offset
    assert callers.error(role, "cancelBooking", callers.booking_id, at=at) == error


@pytest.mark.parametrize(("offset", "error"), [(-1, None), (0, None), (1, "TooLate")])
def test_without_a_cutoff_a_booking_can_be_cancelled_until_the_start_itself(chain, attendee, offset, error):
    contract = chain.deploy_event_stake(cutoff=0)
    run_id = chain.create_run(contract)
    cancel = contract.functions.cancelBooking(chain.book(contract, run_id))
    assert chain.revert_error(cancel, attendee, at=chain.start_of(contract, run_id) + offset) == error


def test_attendee_is_refunded_and_the_seats_are_free(chain, contract, attendee, platform):
    run_id = chain.create_run(contract, seats=3)
    booking_id, other = chain.book(contract, run_id, seats=2), chain.book(contract, run_id)
    balance = chain.balance(attendee.address)
    receipt = chain.transact(contract.functions.cancelBooking(booking_id), platform)
    assert chain.balance(attendee.address) - balance == 2 * BOOKING_COST
    (log,) = receipt.logs
    cancelled = dict(contract.events.BookingCancelled().process_log(log)["args"])
    assert cancelled == {"bookingId": booking_id, "user": attendee.address, "refund": 2 * BOOKING_COST}
    assert contract.functions.getBooking(booking_id).call()[6] == REFUNDED
    run = contract.functions.getEventRun(run_id).call()
    assert (run[5], run[8]) == (1, ACTIVE)
    assert contract.functions.getEventBookings(run_id).call() == [booking_id, other]
    assert contract.functions.getUserBookings(attendee.address).call() == [booking_id, other]


@pytest.mark.parametrize("settlement", ["complete", "cancel", "expire", "cancel booking"])
def test_final_booking_is_not_cancelled(chain, contract, platform, settlement):
    run_id = chain.create_run(contract)
    booking_id = chain.book(contract, run_id)
    cancel = contract.functions.cancelBooking(booking_id)
    if settlement == "cancel booking":
        chain.transact(cancel, platform)
    else:
        chain.settle(contract, run_id, settlement, attended=[booking_id])
    assert chain.revert_error(cancel, platform) == "BookingNotActive"


@pytest.mark.parametrize("booking_id", [0, 2, 2**32 + 1, 2**256 - 1])
def test_unknown_booking_is_refused(chain, contract, platform, booking_id):
    chain.book(contract, chain.create_run(contract))
    assert chain.revert_error(contract.functions.cancelBooking(booking_id), platform) == "UnknownBooking"


def test_errors_come_in_the_order_of_the_checks(chain, contract, attendee, stranger):
    run_id = chain.create_run(contract)
    cancelled, booking_id = chain.book(contract, run_id), chain.book(contract, run_id)
    chain.transact(contract.functions.cancelBooking(cancelled), attendee)
    late = chain.start_of(contract, run_id)
    for booking, sender, error in (
        (99, stranger, "UnknownBooking"),
        (cancelled, stranger, "NotAuthorized"),
        (cancelled, attendee, "BookingNotActive"),
        (booking_id, attendee, "TooLate"),
    ):
        late += 1
        assert chain.revert_error(contract.functions.cancelBooking(booking), sender, at=late) == error


@pytest.mark.slow
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


@pytest.mark.slow
def test_lists_stay_in_order_and_complete_however_often_people_cancel_and_book(chain, contract, attendee, profile):
    """Two runs take turns, so that ids of the one lie between those of the other."""
    rng = random.Random(0)
    runs = {chain.create_run(contract, seats=20): ([], set()) for _ in range(2)}
    for _ in range({"quick": 120, "ci": 1_000, "deep": 5_000}[profile]):
        run_id = rng.choice([*runs])
        made, active = runs[run_id]
        if active and (len(active) == 20 or rng.random() < 0.45):
            booking_id = rng.choice(sorted(active))
            chain.transact(contract.functions.cancelBooking(booking_id), attendee)
            active.remove(booking_id)
        else:
            made.append(chain.book(contract, run_id))
            active.add(made[-1])
    for run_id, (made, active) in runs.items():
        assert contract.functions.getEventBookings(run_id).call() == made
        assert contract.functions.getEventRun(run_id).call()[5] == len(active)
        chain.settle(contract, run_id, "complete", attended=sorted(active))
    all_made = sorted(booking_id for made, _ in runs.values() for booking_id in made)
    assert contract.functions.getUserBookings(attendee.address).call() == all_made
    assert chain.balance(contract.address) == contract.functions.platformBalance().call()

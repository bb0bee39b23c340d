"""Each time limit of the contract, tested one second before it, at it and one second after it.

With t the block's timestamp and s the start of the run: booking while t < s; cancelling by the host while t < s;
cancelling a booking while t + cutoff <= s; completing while s <= t < s + grace; expiring while t >= s + grace.
"""

import pytest

from tests.contracts.conftest import BOOKING_COST, CUTOFF, GRACE

BEFORE_AT_AFTER_START = [(-1, None), (0, "TooLate"), (1, "TooLate")]


@pytest.fixture
def run_id(chain, contract):
    return chain.create_run(contract)


@pytest.fixture
def booking_id(chain, contract, run_id):
    return chain.book(contract, run_id)


@pytest.fixture
def start(chain, contract, run_id, booking_id):
    return chain.start_of(contract, run_id)


@pytest.mark.parametrize(("offset", "error"), BEFORE_AT_AFTER_START)
def test_booking_is_possible_before_the_start(chain, contract, stranger, run_id, start, offset, error):
    book = contract.functions.bookEvent(run_id, 1)
    assert chain.revert_error(book, stranger, BOOKING_COST, at=start + offset) == error


@pytest.mark.parametrize(("offset", "error"), BEFORE_AT_AFTER_START)
def test_host_can_cancel_before_the_start(chain, contract, host, run_id, start, offset, error):
    assert chain.revert_error(contract.functions.cancelEvent(run_id), host, at=start + offset) == error


@pytest.mark.parametrize("offset", [-1, 0, 1, GRACE - 1, GRACE, 100 * GRACE])
def test_platform_can_cancel_until_the_run_is_settled(chain, contract, platform, run_id, start, offset):
    assert chain.revert_error(contract.functions.cancelEvent(run_id), platform, at=start + offset) is None


@pytest.mark.parametrize(("offset", "error"), [(-1, None), (0, None), (1, "TooLate")])
def test_booking_can_be_cancelled_up_to_the_cutoff(chain, contract, attendee, booking_id, start, offset, error):
    cancel = contract.functions.cancelBooking(booking_id)
    assert chain.revert_error(cancel, attendee, at=start - CUTOFF + offset) == error


@pytest.mark.parametrize(
    ("offset", "error"),
    [(-1, "TooEarly"), (0, None), (1, None), (GRACE - 1, None), (GRACE, "TooLate"), (GRACE + 1, "TooLate")],
)
def test_run_can_be_completed_from_the_start_to_the_end_of_the_grace_period(
    chain, contract, host, run_id, booking_id, start, offset, error
):
    complete = contract.functions.completeEvent(run_id, [booking_id])
    assert chain.revert_error(complete, host, at=start + offset) == error


@pytest.mark.parametrize(("offset", "error"), [(-1, "TooEarly"), (0, None), (1, None)])
def test_run_can_expire_from_the_end_of_the_grace_period(chain, contract, stranger, run_id, start, offset, error):
    assert chain.revert_error(contract.functions.expireEvent(run_id), stranger, at=start + GRACE + offset) == error


def test_without_a_cutoff_a_booking_can_be_cancelled_until_the_start_itself(chain, attendee):
    contract = chain.deploy_event_stake(cutoff=0)
    run_id = chain.create_run(contract)
    cancel = contract.functions.cancelBooking(chain.book(contract, run_id))
    start = chain.start_of(contract, run_id)
    assert chain.revert_error(cancel, attendee, at=start) is None
    assert chain.revert_error(cancel, attendee, at=start + 1) == "TooLate"

"""Each edge of the contract's times, at the second before, at it and after it.

book while t < s; the host cancels while t < s; a booking is cancelled while t + cutoff <= s; complete while
s <= t < s + grace; expire when t >= s + grace.
"""

import pytest

from tests.contracts.conftest import CUTOFF, GRACE


@pytest.fixture
def booked(chain):
    stake = chain.stake()
    run = chain.run(stake)
    return stake, run, chain.book(stake, run), chain.start_of(stake, run)


@pytest.mark.parametrize(("offset", "error"), [(-1, None), (0, "TooLate"), (1, "TooLate")])
def test_book_until_the_start(chain, booked, offset, error):
    stake, run, _, start = booked
    value = stake.functions.calculateBookingCost(run, 1).call()[2]
    assert chain.error(stake.functions.bookEvent(run, 1), chain.stranger, value, start + offset) == error


@pytest.mark.parametrize(("offset", "error"), [(-1, None), (0, "TooLate"), (1, "TooLate")])
def test_host_cancels_until_the_start(chain, booked, offset, error):
    stake, run, _, start = booked
    assert chain.error(stake.functions.cancelEvent(run), chain.host, at=start + offset) == error


@pytest.mark.parametrize("offset", [-1, 0, 1, GRACE - 1, GRACE, 100 * GRACE])
def test_platform_cancels_until_the_run_is_final(chain, booked, offset):
    stake, run, _, start = booked
    assert chain.error(stake.functions.cancelEvent(run), chain.platform, at=start + offset) is None


@pytest.mark.parametrize(("offset", "error"), [(-1, None), (0, None), (1, "TooLate")])
def test_booking_cancelled_up_to_the_cutoff(chain, booked, offset, error):
    stake, _, booking, start = booked
    assert chain.error(stake.functions.cancelBooking(booking), chain.attendee, at=start - CUTOFF + offset) == error


@pytest.mark.parametrize(
    ("offset", "error"),
    [(-1, "TooEarly"), (0, None), (1, None), (GRACE - 1, None), (GRACE, "TooLate"), (GRACE + 1, "TooLate")],
)
def test_complete_from_the_start_within_the_grace(chain, booked, offset, error):
    stake, run, booking, start = booked
    assert chain.error(stake.functions.completeEvent(run, [booking]), chain.host, at=start + offset) == error


@pytest.mark.parametrize(("offset", "error"), [(-1, "TooEarly"), (0, None), (1, None)])
def test_expire_once_the_grace_is_over(chain, booked, offset, error):
    stake, run, _, start = booked
    assert chain.error(stake.functions.expireEvent(run), chain.stranger, at=start + GRACE + offset) == error


def test_with_no_cutoff_a_booking_can_be_cancelled_at_the_start_itself(chain):
    stake = chain.stake(cutoff=0)
    run = chain.run(stake)
    booking, start = chain.book(stake, run), chain.start_of(stake, run)
    assert chain.error(stake.functions.cancelBooking(booking), chain.attendee, at=start) is None
    assert chain.error(stake.functions.cancelBooking(booking), chain.attendee, at=start + 1) == "TooLate"

"""completeEvent: who may complete a run, when, and which attendance lists are taken."""

import pytest

from tests.contracts.conftest import GRACE, HOST_STAKE, PLATFORM_ROLES, PRICE, ROLES

COMPLETED = 3
CAME, NO_SHOW = 1, 2


@pytest.fixture
def run_id(chain, contract):
    return chain.create_run(contract)


@pytest.mark.parametrize("role", ROLES)
def test_only_host_owner_and_operators_complete(chain, contract, callers, role):
    start = chain.start_of(contract, callers.run_id)
    error = callers.error(role, "completeEvent", callers.run_id, [callers.booking_id], at=start)
    assert error == (None if role in PLATFORM_ROLES | {"host"} else "NotAuthorized")


@pytest.mark.parametrize(
    ("offset", "error"),
    [(-1, "TooEarly"), (0, None), (1, None), (GRACE - 1, None), (GRACE, "TooLate"), (GRACE + 1, "TooLate")],
)
@pytest.mark.parametrize("role", ["host", "operator"])
def test_run_can_be_completed_from_the_start_to_the_end_of_the_grace_period(
    chain, contract, callers, role, offset, error
):
    at = chain.start_of(contract, callers.run_id) + offset
    assert callers.error(role, "completeEvent", callers.run_id, [callers.booking_id], at=at) == error


def test_statuses_and_events_of_a_completed_run(chain, contract, run_id, attendee, stranger):
    came, stayed_away = chain.book(contract, run_id), chain.book(contract, run_id, attendee=stranger.address)
    receipt = chain.settle(contract, run_id, "complete", attended=[came])
    stake, payout = PRICE // 5, 2 * PRICE * 95 // 100
    events = [contract.events.BookingCompleted, contract.events.BookingNoShow, contract.events.EventCompleted]
    logged = [dict(event().process_log(log)["args"]) for event, log in zip(events, receipt.logs, strict=True)]
    assert logged == [
        {"bookingId": came, "user": attendee.address, "stakeReturned": stake},
        {"bookingId": stayed_away, "user": stranger.address, "stakeForfeit": stake},
        {"eventRunId": run_id, "hostPayout": payout, "hostStakeReturned": HOST_STAKE},
    ]
    assert [contract.functions.getBooking(booking).call()[6] for booking in (came, stayed_away)] == [CAME, NO_SHOW]
    run = contract.functions.getEventRun(run_id).call()
    assert (run[5], run[8], run[9]) == (2, COMPLETED, True)
    assert contract.functions.totalLiabilities().call() == 2 * PRICE * 5 // 100 + stake


def test_run_without_bookings_is_completed(chain, contract, run_id, host):
    balance = chain.balance(host.address)
    chain.settle(contract, run_id, "complete", attended=[])
    assert chain.balance(host.address) - balance == HOST_STAKE
    assert chain.balance(contract.address) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attended", "error"),
    [
        ([], None),
        ([1, 2, 3], None),
        ([3, 1], None),
        ([1, 1], "BookingNotActive"),
        ([1, 2, 1], "BookingNotActive"),
        ([3, 1, 2, 3], "BookingNotActive"),
        ([4], "BookingNotActive"),
        ([1, 4], "BookingNotActive"),
        ([5], "BookingNotOfRun"),
        ([1, 5, 1], "BookingNotOfRun"),
        ([0], "BookingNotOfRun"),
        ([6], "BookingNotOfRun"),
        ([2**32 + 1], "BookingNotOfRun"),
        ([2**256 - 1], "BookingNotOfRun"),
    ],
)
def test_list_has_active_bookings_of_the_run_each_once(chain, contract, run_id, platform, attended, error):
    """Bookings 1 to 3 are active, 4 is cancelled, 5 is of another run, 6 does not exist."""
    for _ in range(3):
        chain.book(contract, run_id)
    chain.transact(contract.functions.cancelBooking(chain.book(contract, run_id)), platform)
    chain.book(contract, chain.create_run(contract))
    complete = contract.functions.completeEvent(run_id, attended)
    assert chain.revert_error(complete, platform, at=chain.start_of(contract, run_id)) == error


@pytest.mark.parametrize("settlement", ["complete", "cancel", "expire"])
def test_final_run_is_not_completed(chain, contract, run_id, platform, settlement):
    chain.settle(contract, run_id, settlement, attended=[])
    assert chain.revert_error(contract.functions.completeEvent(run_id, []), platform) == "EventNotOpen"


def test_errors_come_in_the_order_of_the_checks(chain, contract, run_id, host, stranger):
    start = chain.start_of(contract, run_id)
    cancelled = chain.create_run(contract)
    chain.transact(contract.functions.cancelEvent(cancelled), host)

    def error(run, sender, at):
        return chain.revert_error(contract.functions.completeEvent(run, [99]), sender, at=at)

    assert error(99, stranger, start - 10) == "UnknownEventRun"
    assert error(cancelled, stranger, start - 9) == "NotAuthorized"
    assert error(cancelled, host, start - 8) == "EventNotOpen"
    assert error(run_id, host, start - 7) == "TooEarly"
    assert error(run_id, host, start + 1) == "BookingNotOfRun"
    assert error(run_id, host, start + GRACE) == "TooLate"

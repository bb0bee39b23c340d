"""cancelEvent: who may call a run off, and until when."""

import pytest

from tests.contracts.conftest import BOOKING_COST, GRACE, HOST_STAKE, PLATFORM_ROLES, ROLES

CANCELLED = 4
REFUNDED = 3


@pytest.mark.parametrize("role", ROLES)
def test_only_host_owner_and_operators_cancel(callers, role):
    error = callers.error(role, "cancelEvent", callers.run_id)
    assert error == (None if role in PLATFORM_ROLES | {"host"} else "NotAuthorized")


@pytest.mark.parametrize(("offset", "error"), [(-1, None), (0, "TooLate"), (1, "TooLate"), (GRACE, "TooLate")])
def test_host_can_cancel_before_the_start(chain, contract, callers, offset, error):
    at = chain.start_of(contract, callers.run_id) + offset
    assert callers.error("host", "cancelEvent", callers.run_id, at=at) == error


@pytest.mark.parametrize("role", sorted(PLATFORM_ROLES))
@pytest.mark.parametrize(
    ("offset", "error"),
    [(-1, None), (0, None), (1, None), (GRACE - 1, None), (GRACE, "TooLate"), (GRACE + 1, "TooLate")],
)
def test_platform_can_cancel_until_the_grace_is_over(chain, contract, callers, role, offset, error):
    at = chain.start_of(contract, callers.run_id) + offset
    assert callers.error(role, "cancelEvent", callers.run_id, at=at) == error


@pytest.mark.parametrize("offset", [GRACE - 1, GRACE])
def test_platform_that_hosts_a_run_has_the_platforms_time(chain, contract, platform, offset):
    run_id = chain.create_run(contract, host=platform.address)
    at = chain.start_of(contract, run_id) + offset
    error = chain.revert_error(contract.functions.cancelEvent(run_id), platform, at=at)
    assert error == ("TooLate" if offset == GRACE else None)


def test_error_has_the_deadline_of_the_caller(chain, contract, platform, host):
    run_id = chain.create_run(contract)
    start = chain.start_of(contract, run_id)
    for sender, deadline in ((host, start), (platform, start + GRACE)):
        chain.engine.set_next_timestamp(start + GRACE + 1)
        with pytest.raises(Exception) as error:  # noqa: PT011 - the class differs by engine; its data is checked
            contract.functions.cancelEvent(run_id).call({"from": sender.address}, block_identifier="pending")
        assert f"{deadline:064x}" in str(error.value.data)


def test_everybody_is_refunded(chain, contract, host, attendee, stranger):
    run_id = chain.create_run(contract)
    bookings = [chain.book(contract, run_id, seats=2), chain.book(contract, run_id, attendee=stranger.address)]
    before = [chain.balance(account.address) for account in (host, attendee, stranger)]
    receipt = chain.settle(contract, run_id, "cancel", attended=[])
    gains = [chain.balance(a.address) - b for a, b in zip((host, attendee, stranger), before, strict=True)]
    assert gains == [HOST_STAKE, 2 * BOOKING_COST, BOOKING_COST]
    (log,) = receipt.logs
    cancelled = dict(contract.events.EventCancelled().process_log(log)["args"])
    assert cancelled == {"eventRunId": run_id, "refundsIssued": 3 * BOOKING_COST}
    assert {contract.functions.getBooking(booking).call()[6] for booking in bookings} == {REFUNDED}
    run = contract.functions.getEventRun(run_id).call()
    assert (run[5], run[8], run[9]) == (3, CANCELLED, True)
    assert chain.balance(contract.address) == contract.functions.totalLiabilities().call() == 0


@pytest.mark.parametrize("settlement", ["complete", "cancel", "expire"])
def test_final_run_is_not_cancelled(chain, contract, platform, settlement):
    run_id = chain.create_run(contract)
    chain.settle(contract, run_id, settlement, attended=[])
    assert chain.revert_error(contract.functions.cancelEvent(run_id), platform) == "EventNotOpen"


def test_errors_come_in_the_order_of_the_checks(chain, contract, host, stranger):
    run_id, cancelled = chain.create_run(contract), chain.create_run(contract)
    chain.transact(contract.functions.cancelEvent(cancelled), host)
    late = chain.start_of(contract, run_id) + 10
    assert chain.revert_error(contract.functions.cancelEvent(99), stranger, at=late) == "UnknownEventRun"
    assert chain.revert_error(contract.functions.cancelEvent(cancelled), stranger, at=late + 1) == "NotAuthorized"
    assert chain.revert_error(contract.functions.cancelEvent(cancelled), host, at=late + 2) == "EventNotOpen"
    assert chain.revert_error(contract.functions.cancelEvent(run_id), host, at=late + 3) == "TooLate"

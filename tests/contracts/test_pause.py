"""pause and unpause: new runs and bookings stop, and nothing else."""

import pytest
from web3.exceptions import ContractLogicError

from tests.contracts.conftest import BOOKING_COST, GRACE, HOST_STAKE, PRICE, ROLES


@pytest.mark.parametrize("role", ROLES)
def test_only_the_owner_pauses_and_unpauses(chain, contract, callers, role):
    refusal = None if role == "owner" else "OwnableUnauthorizedAccount"
    assert callers.error(role, "pause") == refusal
    assert callers.error(role, "unpause") == (refusal or "ExpectedPause")
    receipt = chain.transact(contract.functions.pause(), callers.accounts["owner"])
    assert contract.events.Paused().process_log(receipt.logs[0])["args"]["account"] == callers.address("owner")
    assert contract.functions.paused().call() is True
    assert callers.error(role, "pause") == (refusal or "EnforcedPause")
    assert callers.error(role, "unpause") == refusal
    receipt = chain.transact(contract.functions.unpause(), callers.accounts["owner"])
    assert contract.events.Unpaused().process_log(receipt.logs[0])["args"]["account"] == callers.address("owner")
    assert contract.functions.paused().call() is False


@pytest.mark.parametrize("function", ["pause", "unpause"])
def test_neither_takes_ether(chain, contract, platform, function):
    if function == "unpause":
        chain.transact(contract.functions.pause(), platform)
    call = {"from": platform.address, "to": contract.address, "data": contract.encode_abi(function, [])}
    assert chain.engine.w3.eth.call(call) == b""
    with pytest.raises(ContractLogicError):
        chain.engine.w3.eth.call({**call, "value": 1})


def test_pause_stops_runs_and_bookings_of_everybody(chain, contract, callers, host, attendee):
    chain.transact(contract.functions.pause(), callers.accounts["owner"])
    run = ("x", PRICE, 4, chain.start_of(contract, callers.run_id))
    for role in ROLES:
        assert callers.error(role, "createEventRun", *run, value=HOST_STAKE) == "EnforcedPause"
        assert callers.error(role, "bookEvent", callers.run_id, 1, value=BOOKING_COST) == "EnforcedPause"
    for role in ("owner", "operator"):
        assert callers.error(role, "createEventRunFor", host.address, *run, value=HOST_STAKE) == "EnforcedPause"
        error = callers.error(role, "bookEventFor", attendee.address, callers.run_id, 1, value=BOOKING_COST)
        assert error == "EnforcedPause"
    chain.transact(contract.functions.unpause(), callers.accounts["owner"])
    assert callers.error("host", "createEventRun", *run, value=HOST_STAKE) is None
    assert callers.error("attendee", "bookEvent", callers.run_id, 1, value=BOOKING_COST) is None


def test_pause_stops_no_exit(chain, contract, platform, host, attendee, stranger):
    refuser, functions = chain.deploy("RefusingReceiver"), contract.functions
    earned, run_id = chain.create_run(contract), chain.create_run(contract)
    refused = chain.book(contract, run_id, attendee=refuser.address)
    booking_id = chain.book(contract, run_id)
    chain.book(contract, earned)
    start = chain.start_of(contract, run_id)
    chain.transact(functions.pause(), platform)

    chain.transact(functions.cancelBooking(refused), platform)
    withdraw = refuser.functions.execute(contract.address, 0, contract.encode_abi("withdrawTo", [stranger.address]))
    assert chain.revert_error(withdraw, platform) is None
    assert chain.revert_error(functions.cancelBooking(booking_id), attendee) is None
    assert chain.revert_error(functions.cancelEvent(run_id), host) is None
    chain.transact(functions.completeEvent(earned, []), host, at=start)
    assert chain.revert_error(functions.withdrawPlatformFees(), platform) is None
    assert chain.revert_error(functions.expireEvent(run_id), stranger, at=start + GRACE) is None

"""Terms are fixed at construction, within bounds; the owner can withdraw what the platform earned and nothing else."""

import pytest

from tests.contracts.conftest import BOOKING_COST, DAY, HOST_STAKE, PRICE


@pytest.mark.parametrize(
    "terms",
    [
        (5_001, 500, 0, DAY, 7 * DAY),
        (2_000, 1_001, 0, DAY, 7 * DAY),
        (2_000, 500, 10_001, DAY, 7 * DAY),
        (2_000, 500, 0, 30 * DAY + 1, 7 * DAY),
        (2_000, 500, 0, DAY, 3_599),
        (2_000, 500, 0, DAY, 90 * DAY + 1),
    ],
)
def test_terms_out_of_bounds_are_refused(chain, platform, terms):
    artifact = chain.artifacts["EventStake"]
    factory = chain.engine.w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
    assert chain.send(factory.constructor(platform.address, terms), platform).status == 0


@pytest.mark.parametrize("terms", [(0, 0, 0, 0, 3_600), (5_000, 1_000, 10_000, 30 * DAY, 90 * DAY)])
def test_terms_at_their_bounds_are_accepted(chain, terms):
    contract = chain.deploy_event_stake(*terms)
    assert tuple(contract.functions.terms().call()) == terms


def test_platform_withdraws_its_fees_but_no_escrow(chain, contract, platform, host):
    completed_run, open_run = chain.create_run(contract), chain.create_run(contract)
    chain.book(contract, completed_run, seats=4)
    chain.book(contract, open_run, seats=2)
    withdraw_fees = contract.functions.withdrawPlatformFees()
    assert chain.revert_error(withdraw_fees, platform) == "NothingToWithdraw"
    start = chain.start_of(contract, completed_run)
    chain.transact(contract.functions.completeEvent(completed_run, []), host, at=start)
    fee_and_forfeits = 4 * PRICE * 5 // 100 + 4 * PRICE * 20 // 100
    escrow_of_open_run = 2 * BOOKING_COST + HOST_STAKE
    assert contract.functions.platformBalance().call() == fee_and_forfeits
    assert chain.revert_error(withdraw_fees, host) == "OwnableUnauthorizedAccount"
    chain.transact(withdraw_fees, platform)
    assert chain.balance(contract.address) == escrow_of_open_run
    assert chain.revert_error(withdraw_fees, platform) == "NothingToWithdraw"


def test_ownership_cannot_be_renounced_and_is_transferred_in_two_steps(chain, contract, platform, stranger):
    assert chain.revert_error(contract.functions.renounceOwnership(), platform) == "OwnershipRequired"
    chain.transact(contract.functions.transferOwnership(stranger.address), platform)
    assert contract.functions.owner().call() == platform.address
    chain.transact(contract.functions.acceptOwnership(), stranger)
    assert contract.functions.owner().call() == stranger.address


def test_forced_ether_is_not_owed_to_anybody_and_changes_no_settlement(chain, contract, host):
    run_id = chain.create_run(contract)
    chain.book(contract, run_id)
    liabilities = contract.functions.totalLiabilities().call()
    chain.deploy("EtherForcer", contract.address, value=5)
    assert chain.balance(contract.address) == liabilities + 5
    assert contract.functions.totalLiabilities().call() == liabilities
    chain.transact(contract.functions.cancelEvent(run_id), host)
    assert chain.balance(contract.address) == 5


def test_unknown_ids_are_refused_by_name(chain, contract, platform):
    for call in (
        contract.functions.getEventRun(1),
        contract.functions.calculateBookingCost(1, 1),
        contract.functions.completeEvent(1, []),
        contract.functions.cancelEvent(1),
        contract.functions.expireEvent(0),
    ):
        assert chain.revert_error(call, platform) == "UnknownEventRun"
    for call in (contract.functions.getBooking(1), contract.functions.cancelBooking(1)):
        assert chain.revert_error(call, platform) == "UnknownBooking"

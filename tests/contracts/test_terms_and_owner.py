"""Terms are fixed at construction within bounds; the owner can withdraw what the platform earned and nothing else."""

import pytest

from tests.contracts.conftest import PRICE

DAY = 86_400


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
def test_terms_out_of_bounds_are_refused(chain, terms):
    artifact = chain.artifacts["EventStake"]
    factory = chain.engine.w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
    receipt = chain.send(factory.constructor(chain.platform.address, terms), chain.platform)
    assert receipt.status == 0


@pytest.mark.parametrize("terms", [(0, 0, 0, 0, 3_600), (5_000, 1_000, 10_000, 30 * DAY, 90 * DAY)])
def test_terms_at_their_bounds_are_kept(chain, terms):
    stake = chain.deploy("EventStake", chain.platform.address, terms)
    assert tuple(stake.functions.terms().call()) == terms


def test_the_platform_withdraws_its_fees_and_no_escrow(chain):
    stake = chain.stake()
    done, open_ = chain.run(stake), chain.run(stake)
    chain.book(stake, done, seats=4)
    chain.book(stake, open_, seats=2)
    start = chain.start_of(stake, done)
    assert chain.error(stake.functions.withdrawPlatformFees(), chain.platform) == "NothingToWithdraw"
    assert chain.send(stake.functions.completeEvent(done, []), chain.host, at=start).status == 1
    earned = 4 * PRICE * 5 // 100 + 4 * PRICE * 20 // 100
    escrow = 2 * PRICE * 12 // 10 + 4 * PRICE * 20 // 100
    assert stake.functions.platformBalance().call() == earned
    assert chain.error(stake.functions.withdrawPlatformFees(), chain.host) == "OwnableUnauthorizedAccount"
    assert chain.send(stake.functions.withdrawPlatformFees(), chain.platform).status == 1
    assert chain.balance(stake.address) == escrow
    assert chain.error(stake.functions.withdrawPlatformFees(), chain.platform) == "NothingToWithdraw"


def test_the_owner_can_not_be_given_up_and_changes_in_two_steps(chain):
    stake = chain.stake()
    assert chain.error(stake.functions.renounceOwnership(), chain.platform) == "OwnershipRequired"
    assert chain.send(stake.functions.transferOwnership(chain.stranger.address), chain.platform).status == 1
    assert stake.functions.owner().call() == chain.platform.address
    assert chain.send(stake.functions.acceptOwnership(), chain.stranger).status == 1
    assert stake.functions.owner().call() == chain.stranger.address


def test_forced_ether_belongs_to_nobody_and_breaks_nothing(chain):
    stake = chain.stake()
    run = chain.run(stake)
    chain.book(stake, run)
    owed = stake.functions.totalLiabilities().call()
    chain.deploy("EtherForcer", stake.address, value=5)
    assert chain.balance(stake.address) == owed + 5
    assert stake.functions.totalLiabilities().call() == owed
    assert chain.send(stake.functions.cancelEvent(run), chain.host).status == 1
    assert chain.balance(stake.address) == 5


def test_unknown_ids_are_named(chain):
    stake = chain.stake()
    for call in (
        stake.functions.getEventRun(1),
        stake.functions.calculateBookingCost(1, 1),
        stake.functions.completeEvent(1, []),
        stake.functions.cancelEvent(1),
        stake.functions.expireEvent(0),
    ):
        assert chain.error(call, chain.platform) == "UnknownEventRun"
    for call in (stake.functions.getBooking(1), stake.functions.cancelBooking(1)):
        assert chain.error(call, chain.platform) == "UnknownBooking"

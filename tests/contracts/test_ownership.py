"""transferOwnership, acceptOwnership, renounceOwnership: the ownership passes in two steps, and can't be given up."""

import pytest

from tests.contracts.conftest import ROLES, ZERO_ADDRESS


@pytest.mark.parametrize("role", ROLES)
def test_only_the_owner_offers_the_ownership(callers, stranger, role):
    error = callers.error(role, "transferOwnership", stranger.address)
    assert error == (None if role == "owner" else "OwnableUnauthorizedAccount")


@pytest.mark.parametrize("role", ROLES)
def test_ownership_cannot_be_renounced(callers, role):
    error = callers.error(role, "renounceOwnership")
    assert error == ("OwnershipRequired" if role == "owner" else "OwnableUnauthorizedAccount")


@pytest.mark.parametrize("role", ROLES)
def test_only_who_it_was_offered_to_accepts(chain, contract, callers, role):
    offer = contract.functions.transferOwnership(callers.address("stranger"))
    chain.transact(offer, callers.accounts["owner"])
    assert callers.error(role, "acceptOwnership") == (None if role == "stranger" else "OwnableUnauthorizedAccount")


def test_owner_stays_until_the_next_one_accepts(chain, contract, platform, stranger):
    receipt = chain.transact(contract.functions.transferOwnership(stranger.address), platform)
    offered = dict(contract.events.OwnershipTransferStarted().process_log(receipt.logs[0])["args"])
    assert offered == {"previousOwner": platform.address, "newOwner": stranger.address}
    assert contract.functions.owner().call() == platform.address
    assert contract.functions.pendingOwner().call() == stranger.address
    receipt = chain.transact(contract.functions.acceptOwnership(), stranger)
    transferred = dict(contract.events.OwnershipTransferred().process_log(receipt.logs[0])["args"])
    assert transferred == {"previousOwner": platform.address, "newOwner": stranger.address}
    assert contract.functions.owner().call() == stranger.address
    assert contract.functions.pendingOwner().call() == ZERO_ADDRESS


def test_offer_can_be_taken_back(chain, contract, platform, stranger):
    for offered_to in (stranger.address, ZERO_ADDRESS):
        chain.transact(contract.functions.transferOwnership(offered_to), platform)
    assert chain.revert_error(contract.functions.acceptOwnership(), stranger) == "OwnableUnauthorizedAccount"


def test_unfinished_offer_gives_no_rights(chain, contract, platform, stranger):
    run_id = chain.create_run(contract)
    chain.transact(contract.functions.transferOwnership(stranger.address), platform)
    assert chain.revert_error(contract.functions.cancelEvent(run_id), stranger) == "NotAuthorized"
    assert chain.revert_error(contract.functions.pause(), stranger) == "OwnableUnauthorizedAccount"

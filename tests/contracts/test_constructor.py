"""The constructor: terms within bounds, fixed for ever, and an event that says them."""

import pytest

from tests.contracts.conftest import DAY, DEFAULT_TERMS, ZERO_ADDRESS


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


def test_zero_address_cannot_own(chain, platform):
    artifact = chain.artifacts["EventStake"]
    factory = chain.engine.w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
    assert chain.send(factory.constructor(ZERO_ADDRESS, DEFAULT_TERMS), platform).status == 0


def test_events_say_owner_and_terms(chain, platform, stranger):
    artifact = chain.artifacts["EventStake"]
    factory = chain.engine.w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
    receipt = chain.transact(factory.constructor(stranger.address, DEFAULT_TERMS), platform)
    contract = chain.engine.w3.eth.contract(receipt.contractAddress, abi=artifact.abi)
    owned, deployed = receipt.logs
    expected = {"previousOwner": ZERO_ADDRESS, "newOwner": stranger.address}
    assert dict(contract.events.OwnershipTransferred().process_log(owned)["args"]) == expected
    assert tuple(contract.events.Deployed().process_log(deployed)["args"]["terms"].values()) == DEFAULT_TERMS
    assert contract.functions.owner().call() == stranger.address

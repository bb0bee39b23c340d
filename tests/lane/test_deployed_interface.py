"""The lane judges a contract that has only the interface deployed on Sepolia: by the liberties that it takes."""

from __future__ import annotations

import functools

import pytest
from lane_helpers import with_source
from planted_bugs import STAND_IN, deployed_bugs, planted_in_deployed, replace_once
from stakesim.evm.compiler import CONTRACTS, Artifact
from stakesim.evm.contract_file import load_contract
from stakesim.lane.deployed_interface import deployed_world, find_liberties
from stakesim.lane.moves import PREPARATIONS, SCRIPT, Move, Nested, When, deployed_move
from stakesim.lane.play import Player, World
from stakesim.lane.search import LaneSearch
from stakesim.lane.worlds import worlds
from stakesim.model.contract_traits import ContractTraits
from stakesim.model.deployed_interface import DEPLOYED
from stakesim.scenario.actions import Terms
from stakesim.search.contract_search import confirm, open_search
from stakesim.units import DAY

pytestmark = pytest.mark.slow

SOUND = CONTRACTS / "test" / "sound" / "OfTheDeployedInterface.sol"
QUICK = (  # each stands for a kind; all are found within some hundred sequences
    "fee-rounds-up",
    "host-paid-before-status",
    "attended-id-in-8-bits",
    "cancelled-run-completed",
    "anybody-sets-the-fee",
)
PUSHED = {"stake returned", "refund", "host payout", "host stake returned"}
CREATE = Move("createEventRun", "host", ("a", 10**16, 2, 10 * DAY))


@functools.cache
def stand_in() -> Artifact:
    return load_contract(str(STAND_IN))


def searched(contract: Artifact, seed: int, sequences: int) -> LaneSearch:
    search = open_search(contract, seed)
    search.shrinking = False
    search.run(sequences=sequences, watch=lambda: not search.findings)
    return search


@pytest.mark.parametrize("contract", [str(STAND_IN), f"{SOUND}:OtherPercentages"])
def test_nothing_is_found_in_a_sound_contract(contract: str, campaign_seed: int) -> None:
    search = searched(load_contract(contract), campaign_seed, 150)
    assert search.findings == {}
    assert confirm(search) == []


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found(name: str, campaign_seed: int) -> None:
    assert searched(with_source(planted_in_deployed(name)), campaign_seed, 6_000).findings, name


WITH_OWNER = (("constructor() {", "constructor(address owner_) {"), ("owner = msg.sender;", "owner = owner_;"))
CREATOR = (("address public owner;", "address public owner; address immutable _creator = msg.sender;"),)
KEPT = {
    "nothing": (),
    "fees": (("payable(owner).transfer(fees);", "payable(_creator).transfer(fees);"),),
    "runs": (("msg.sender == run.host || msg.sender == owner,", "msg.sender == run.host || msg.sender == _creator,"),),
    "percentages": (('require(msg.sender == owner, "Only owner")', 'require(msg.sender == _creator, "Only owner")'),),
}


@pytest.mark.parametrize("kept", KEPT)
def test_what_whoever_deploys_keeps_is_found(kept: str, campaign_seed: int) -> None:
    """The owner is an argument, as where a hot key deploys for a multisig, and can't be another one later."""
    edits = (*WITH_OWNER, *CREATOR, *KEPT[kept])
    source = functools.reduce(lambda text, edit: replace_once(text, *edit), edits, STAND_IN.read_text())
    assert bool(searched(with_source(source), campaign_seed, 600).findings) is (kept != "nothing")


def test_a_contract_that_calls_back_takes_the_little_gas_of_a_transfer() -> None:
    """The stake is paid by a call, in which the contract completes the run again; the host's share by `transfer`."""
    again = Nested("completeEvent", (1, (2,)))
    moves = (
        Move("createEventRun", "mallory", ("a", 10**16, 3, DAY)),
        Move("bookEvent", "guest", (1, 1)),
        Move("bookEvent", "mallory", (1, 1)),
        Move("createEventRun", "host", ("a", 10**18, 2, 10 * DAY)),  # its stake is what is paid out once more
        Move(SCRIPT, "mallory", ("accepts", again)),
        Move("completeEvent", "mallory", (1, (2,)), when=When("start", run=1)),
    )
    assert found_by(stand_in(), moves) == []
    bug = with_source(planted_in_deployed("attendee-paid-before-status"))
    assert ("reentered", "completeEvent") in found_by(bug, moves)


def found_by(contract: Artifact, moves: tuple[Move, ...]) -> list[tuple[str, str]]:
    """Kind and function of each difference that some moves show."""
    search = searched(contract, 1, 0)
    search.begin_with([("plain", moves)])
    search.run(sequences=1, watch=lambda: True)
    return [(found.difference.kind, found.difference.function) for found in search.findings.values()]


def test_each_planted_bug_fits_the_stand_in() -> None:
    sources = {planted_in_deployed(name) for name in deployed_bugs()} | {STAND_IN.read_text()}
    assert len(sources) == len(deployed_bugs()) + 1
    assert all(bug.kind and bug.wrong.endswith(".") for bug in deployed_bugs().values())


def test_liberties_are_found_out() -> None:
    assert find_liberties(stand_in(), ContractTraits(Terms())) == {"excess", "ether", "no experience", *PUSHED}
    exact = STAND_IN.read_text().replace("msg.value >=", "msg.value ==")
    exact = replace_once(exact, "receive() external payable {}", "")
    assert find_liberties(with_source(exact), ContractTraits(Terms())) == {"no experience", *PUSHED}


def test_what_is_not_judged_is_told(campaign_seed: int) -> None:
    skipped = open_search(stand_in(), campaign_seed).skipped
    told = {
        "a contract owns it",
        "values above what is due",
        "payouts that are refused",
        "setStakePercentage by the owner",
    }
    assert told <= skipped.keys()


def test_a_setter_that_anybody_can_call_is_judged_and_one_of_the_owner_is_not(campaign_seed: int) -> None:
    search = open_search(stand_in(), campaign_seed)
    search.begin_with([("plain", (CREATE, Move("setStakePercentage", "platform", (50,))))])
    search.play_one()
    assert search.findings == {}


def test_moves_are_those_of_people_who_sign_for_themselves() -> None:
    args = CREATE.args
    assert deployed_move(Move("createEventRunFor", "platform", ("guest", *args))) == CREATE._replace(by="guest")
    assert deployed_move(Move("pause", "platform")) is None
    script = Move(SCRIPT, "mallory", ("accepts", Nested("bookEventFor", ("guest", 1, 2))))
    assert deployed_move(script) == script._replace(args=("accepts", Nested("bookEvent", (1, 2))))


def test_worlds_have_only_functions_of_the_deployed_interface() -> None:
    possible = [world for world in map(deployed_world, worlds(Terms())) if world]
    assert len(possible) >= 8
    called = {move.function for world in possible for move in world.moves} - set(PREPARATIONS)
    assert called <= set(DEPLOYED)


def test_a_receiver_that_is_called_with_0_wei_may_call_the_contract() -> None:
    """Whatever it does then is no finding, if the rules allow it."""
    source = STAND_IN.read_text().replace(
        "payable(run.host).transfer(run.hostStake);", '(bool done,) = run.host.call{value: run.hostStake}("");'
    )
    player = Player(
        with_source(source), World("plain"), ContractTraits(Terms(), liberties=frozenset({"host stake returned"}))
    )
    moves = (
        CREATE._replace(by="mallory", args=("a", 1, 1, DAY)),
        CREATE,
        Move(SCRIPT, "mallory", ("accepts", Nested("bookEvent", (2, 1)))),
        Move("cancelEvent", "mallory", (1,), when=When(seconds=1)),
    )
    for position, move in enumerate(moves):
        assert player.play(move, position).differences == []
    assert [booking.attendee for booking in player.state.bookings.values()] == ["mallory"]
    assert player.check_state(3, after="cancelEvent") == []

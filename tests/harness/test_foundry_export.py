"""What the lane finds is exported as a test for Foundry: it fails on the contract, and passes on a sound one."""

import functools
import json
import os
import shutil
import subprocess

import pytest
from planted_bugs import planted_together, replace_once, sound, write
from stakesim.evm.compiler import CONTRACTS, Compiler, artifacts_from_output, error_messages
from stakesim.evm.import_resolver import collect_sources
from stakesim.gate.plain_build import PLAIN_SETTINGS, compile_plain
from stakesim.lane.foundry import foundry_test
from stakesim.lane.moves import FORCE_ETHER, LEAST, SCRIPT, SET_IDS, Move, Nested, When
from stakesim.lane.play import Player, World
from stakesim.model.contract_traits import ContractTraits
from stakesim.units import DAY

pytestmark = pytest.mark.slow

FILE = "EventStake.sol"
BUGS = (
    "create-for-by-anyone",
    "platform-by-origin",
    "pause-blocks-cancel-booking",
    "booking-event-swaps-amounts",
    "withdraw-clears-after-call",
    "fee-rounded-up",
    "rescue-by-owner",
    "run-id-8-bits-in-complete",
    "stake-of-sold-seats",
)
"""All in one contract, so that each test must fail for its own reason."""
EDITS = (
    (
        "return _book(attendee, run, eventRunId, seatCount);",
        "return _book(attendee, run, eventRunId, seatCount) + 1;",
    ),
    (
        "if (gasleft() < PUSH_GAS + PUSH_OVERHEAD) revert InsufficientGas();",
        """if (gasleft() < PUSH_GAS + PUSH_OVERHEAD) {
            creditOf[to] += amount;
            _totals.credits += uint96(amount);
            emit PaymentDeferred(to, amount);
            return;
        }""",
    ),
)
PRICE = 10_001
RUN = Move("createEventRun", "host", ("a", PRICE, 4, 10 * DAY))
OF_MALLORY = Move("createEventRun", "mallory", ("a", PRICE, 4, 10 * DAY))
OF_ALL_BYTES = Move("createEventRun", "host", ('\udcff"\\\u0939', PRICE, 4, 10 * DAY))
BOOKED = Move("bookEvent", "guest", (1, 2))
CREDIT = (Move(SCRIPT, "mallory", ("refuses", None)), OF_MALLORY, Move("cancelEvent", "mallory", (1,)))
REENTERED = (
    *(*CREDIT, RUN, Move(SCRIPT, "mallory", ("accepts", Nested("expireEvent", (2,))))),
    Move("withdraw", "mallory", when=When("deadline", 2, 0)),
)
SEQUENCES = {
    "accepted": (Move("createEventRunFor", "stranger", ("host", "a", PRICE, 4, 10 * DAY)),),
    "accepted by origin": (RUN, Move("cancelEvent", "trudy", (1,), origin="platform")),
    "accepted above 255": (
        *(RUN, BOOKED, Move(SET_IDS, "platform", (256, 1)), RUN._replace(by="friend")),
        Move("completeEvent", "friend", (257, (1,)), when=When("start", 257, 0)),
    ),
    "refused": (RUN, BOOKED, Move("pause", "platform"), Move("cancelBooking", "guest", (1,))),
    "error": (
        Move("pause", "platform"),
        Move("createEventRunFor", "stranger", ("host", "a", PRICE, 4, 10 * DAY)),
    ),
    "events": (OF_ALL_BYTES, BOOKED),
    "events with little gas": (OF_MALLORY, Move("cancelEvent", "mallory", (1,), gas=LEAST)),
    "returned": (RUN, Move("bookEventFor", "platform", ("guest", 1, 1))),
    "view": (RUN, Move("cancelEvent", "host", (1,))),
    "wei": (
        RUN._replace(args=("a", PRICE, 12, 10 * DAY)),
        *[BOOKED._replace(args=(1, 1))] * 9,
        Move("completeEvent", "host", (1, tuple(range(1, 10))), when=When("start", 1, 0)),
    ),
    "wei of the owner": (RUN, Move(FORCE_ETHER, "friend", (10**15,)), Move("rescue", "platform", ("platform", 10**15))),
    "reentered": REENTERED,
    "wei after it was reentered": (
        *(*REENTERED, RUN, BOOKED._replace(args=(3, 1))),
        Move("completeEvent", "host", (3, (1,)), when=When("start", 3, 0)),
    ),
    "stale": (*CREDIT, Move(SCRIPT, "mallory", ("accepts", None)), Move("withdraw", "mallory")),
    "events of who drains": (
        *(*CREDIT, RUN, Move(SCRIPT, "mallory", ("accepts", Nested("withdraw")))),
        Move("withdraw", "mallory"),
    ),
}
"""By the kind of difference that the last move shows."""


@functools.cache
def faulty():
    return functools.reduce(lambda source, edit: replace_once(source, *edit), EDITS, planted_together(BUGS))


@functools.cache
def sources():
    return collect_sources(CONTRACTS / FILE)


@functools.cache
def faulty_contract():
    given = {**sources(), FILE: faulty()}
    with Compiler() as compiler:
        return artifacts_from_output(compile_plain(compiler, given, FILE), given)["EventStake"]


def exported(case):
    """The test for a case, and what it is about."""
    kind, moves, world = case.split()[0], SEQUENCES[case], World("plain")
    player = Player(faulty_contract(), world)
    for position, move in enumerate(moves):
        differences = player.play(move, position).differences
    if kind in ("view", "wei"):
        differences = player.check_state(len(moves) - 1, after=moves[-1].function)
    difference = next(each for each in differences if each.kind == kind)
    return foundry_test(Player(faulty_contract(), world), f"../src/{FILE}", world, moves, difference)


def test_it_compiles_with_nothing_but_the_contract():
    cases = ("wei", "reentered", "stale")
    tests = {f"test/{number}.t.sol": {"content": exported(case)} for number, case in enumerate(cases)}
    contract = {f"src/{name}" if "/" not in name else name: {"content": text} for name, text in sources().items()}
    settings = PLAIN_SETTINGS | {"outputSelection": {name: {"*": ["abi"]} for name in tests}}
    with Compiler() as compiler:
        output = compiler.compile({"language": "Solidity", "sources": contract | tests, "settings": settings})
    assert not error_messages(output.get("errors", ()))
    assert set(output["contracts"]) >= set(tests)


def find_forge():
    packaged = next((CONTRACTS / "proofs").glob("node_modules/@foundry-rs/forge-*/bin/forge"), None)
    return str(packaged) if packaged else shutil.which("forge")


def run_forge(project):
    """Runs a project's tests and returns the reasons for which they fail, by case; None: it passed."""
    environment = {**os.environ, "FOUNDRY_OFFLINE": "true"}
    command = [find_forge(), "test", "--json"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    suites = json.loads(done.stdout.strip().splitlines()[-1])
    cases = list(SEQUENCES)
    return {
        cases[int(name.partition("/")[2].partition(".")[0])]: result.get("reason")
        for name, suite in suites.items()
        for result in suite["test_results"].values()
    }


REASONS = {
    "accepted": "a call that must fail succeeds",
    "accepted by origin": "a call that must fail succeeds",
    "accepted above 255": "a call that must fail succeeds",
    "refused": "a call that must succeed fails with 0xd93c0665",  # EnforcedPause()
    "error": "a call fails with another error than it must",
    "events": "event 1 of those that must be logged is missing",
    "events with little gas": "an event is logged that must not be",
    "returned": "bookEventFor returns what it must not",
    "view": "a view returns what it must not",
    "wei": "wei of host",
    "wei of the owner": "wei of platform",
    "reentered": "a call that a receiver made while it was paid succeeds",
    "wei after it was reentered": "wei of host",
    "stale": "a receiver sees the state before it is paid",
    "events of who drains": "an event is logged that must not be",
}


def test_a_contract_that_pushes_no_payouts_is_exported_with_the_wallets_that_its_own_rules_give():
    file = "OtherMakes.sol"
    given = collect_sources(CONTRACTS / "test" / "sound" / file)
    other = "OtherMake.sol"
    given |= {other: replace_once(given[other], "revenue - fee + forfeitsToHost + stake", "revenue - fee + stake + 1")}
    with Compiler() as compiler:
        contract = artifacts_from_output(compile_plain(compiler, given, file), given)["PullPayments"]
    world, traits = World("plain"), ContractTraits(max_seats=200, pays_by_credit=True)
    moves = (RUN, BOOKED, Move("completeEvent", "host", (1, (1,)), when=When("start", 1, 0)), Move("withdraw", "host"))
    player = Player(contract, world, traits)
    for position, move in enumerate(moves):
        player.play(move, position)
    difference = next(each for each in player.check_state(3, after="withdraw") if each.kind == "wei")
    player.restart()
    test = foundry_test(player, f"../src/{file}", world, moves, difference)

    revenue = 2 * PRICE
    fee = revenue // 20
    assert f"HOST.balance, FUNDS + {revenue - fee:_}," in test  # the stake was paid and came back
    assert f"GUEST.balance, FUNDS - {revenue + revenue // 5:_}," in test  # who did not withdraw has not got the stake
    assert f"address(stake).balance, {revenue // 5 + fee:_}," in test


@pytest.mark.skipif(find_forge() is None, reason="forge is not installed: make -C contracts/proofs, or Foundry's own")
def test_it_fails_on_the_contract_for_the_reason_of_the_finding_and_passes_on_a_sound_one(tmp_path):
    write(tmp_path / "src", faulty())
    (tmp_path / "foundry.toml").write_text(
        f"""[profile.default]
libs = []
remappings = ["@openzeppelin/={CONTRACTS}/node_modules/@openzeppelin/"]
allow_paths = ["{(CONTRACTS / "node_modules").resolve()}"]
solc = "{CONTRACTS / "solc"}"
evm_version = "cancun"
"""
    )
    (tmp_path / "test").mkdir()
    for number, case in enumerate(SEQUENCES):
        (tmp_path / "test" / f"{number}.t.sol").write_text(exported(case))
    reasons = run_forge(tmp_path)
    assert {case: (reason or "")[: len(REASONS[case])] for case, reason in reasons.items()} == REASONS

    write(tmp_path / "src", sound())
    assert run_forge(tmp_path) == dict.fromkeys(SEQUENCES)

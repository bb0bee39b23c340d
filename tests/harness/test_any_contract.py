"""Contracts written elsewhere: each weakness is named with a short scenario; in sound contracts nothing is found."""

from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from plainly_patched import plainly_compiled
from stakesim import run
from stakesim.campaign import failure_cache
from stakesim.campaign.report import save_failures
from stakesim.commands.cli import cli
from stakesim.evm.chain_spec import TRANSACTION_GAS_CAP
from stakesim.evm.compiler import CONTRACTS, compile_contracts
from stakesim.evm.contract_file import load_contract
from stakesim.evm.errors import EngineError
from stakesim.evm.required_abi import own_transactions
from stakesim.runner.environment import open_environment
from stakesim.runner.narrative import narrate
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.actions import Actor, Book, CreateRun
from stakesim.scenario.scenario import Scenario, load
from stakesim.search.contract_diagnosis import diagnose_contract
from stakesim.search.probes import bookings_above_gas_cap, function_probes
from typer.testing import CliRunner

pytestmark = pytest.mark.slow

STAND_IN = CONTRACTS / "test" / "MinimalEventStake.sol"
SOUND = CONTRACTS / "test" / "SoundEventStake.sol"
PLANTED = CONTRACTS / "test" / "Planted.sol"
SCENARIOS = [
    "no-show",
    "refusing-attendee",
    "host-cancels-early",
    "wrong-values",
    "fees-while-escrow-is-open",
    "wrong-callers",
    "expired-with-bookings",
]


def run_scenarios(contract: str | Path, engine: str, names: list[str] = SCENARIOS):
    """On the contract alone, where shrinking takes a fraction of the time; other tests go through the services."""
    files = [CONTRACTS.parent / "scenarios" / f"{name}.yaml" for name in names]
    return run(files, engine=engine, contract=plainly_compiled(contract), driver="contract")


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("contract", "weakness", "steps"),
    [
        ("OwnerTakesEscrow", "the owner can take escrow", 2),
        ("FeesAreTheBalance", "the owner can take escrow", 2),
        ("KeepsOverpayment", "overpayment is kept", 2),
        ("TermsChange", "terms change under a booked run", 4),
        ("ReceiverBlocksAll", "one hostile receiver blocks everybody", 3),
        ("FundsStayLocked", "funds stay locked for ever", 1),
        ("NobodysStakes", "no-shows' stakes belong to nobody", 4),
    ],
)
def test_each_planted_weakness_is_named_and_shrunk(contract, weakness, steps, engine_name):
    """With the shortest story there is, and amounts."""
    result = run_scenarios(f"{PLANTED}:{contract}", engine_name)
    assert {finding.weakness for finding in result.findings} == {weakness}
    [scenario] = {finding.scenario.name: finding.scenario for finding in result.findings}.values()
    assert len(scenario.actions) == steps
    narrative = narrate(result.findings)
    assert narrative.startswith(f"WEAKNESS: {weakness} (")
    assert "wei" in narrative
    assert "INR" in narrative


@pytest.mark.parametrize(("base", "gas_per_booking"), [(60_000, 15_000), (200_000, 39_999), (100_000, 75_000)])
def test_the_largest_run_probe_is_just_too_large(base, gas_per_booking):
    """A contract that opens runs only a little too large is found, too."""
    bookings = bookings_above_gas_cap(base + 10 * gas_per_booking, base + 30 * gas_per_booking)
    least = (TRANSACTION_GAS_CAP - base) // gas_per_booking + 1
    assert least <= bookings <= least + least // 50


def test_a_run_too_large_to_settle_is_named(engine_name):
    result = run_scenarios(f"{PLANTED}:RunsTooLarge", engine_name, ["no-show"])
    assert {finding.weakness for finding in result.findings} == {"a full run doesn't fit in a transaction"}
    narrative = narrate(result.findings)
    assert "..." in narrative
    assert len(narrative.splitlines()) < 20


def test_the_weaknesses_of_the_deployed_contract_are_named(engine_name):
    """And nothing else is told of it: that views give zeros, the host alone may cancel, and ether is taken is none."""
    result = run_scenarios(STAND_IN, engine_name)
    assert {finding.weakness for finding in result.findings} == {
        "overpayment is kept",
        "one hostile receiver blocks everybody",
        "terms change under a booked run",
        "a full run doesn't fit in a transaction",
    }
    failed = {one.scenario.name for one in result.results if one.findings}
    for percentage in ("platform-fee", "stake"):  # each is found by itself
        assert f"probe-set-{percentage}-percentage-by-platform-0" in failed
    assert not [name for name in failed if "by-outsider" in name]
    assert not [finding for finding in result.findings if finding.id == "CRASH"]


@pytest.mark.in_turn
@pytest.mark.parametrize(("contract", "code"), [(STAND_IN, 1), (SOUND, 0)], ids=["deployed", "sound"])
def test_the_exit_code_says_whether_it_holds(contract, code, engine_name, tmp_path, monkeypatch):
    monkeypatch.setattr(failure_cache, "state_dir", lambda: tmp_path / "state")
    asked = [
        "run",
        "scenarios/no-show.yaml",
        "--engine",
        engine_name,
        "--contract",
        str(contract),
        "--out",
        str(tmp_path),
    ]
    done = CliRunner().invoke(cli, asked)
    assert (done.exit_code, type(done.exception)) == (code, SystemExit if code else type(None))
    assert ("WEAKNESS: terms change under a booked run" in done.output) == bool(code)
    assert "CRASH" not in done.output


def test_scripted_scenarios_run_on_the_deployed_contract(engine_name):
    """All stories but those of receivers that refuse ether or need gas to take it, and of values that are not exact."""
    found = {}
    with closing(open_environment(engine_name, plainly_compiled(STAND_IN))) as environment:
        assert not environment.contract.full_interface
        for file in sorted((CONTRACTS.parent / "scenarios").glob("*.yaml")):
            found[file.stem] = bool(run_scenario(environment, load(file)).findings)
    assert {name for name, any_of_it in found.items() if any_of_it} == {
        "burning-and-flooding-receivers",
        "reentrant-attendee",
        "refusing-attendee",
        "refusing-host",
        "views-while-paying",
        "wrong-values",
    }
    assert len(found) > 25


@pytest.mark.parametrize("receiver", ["refuses", "burns_gas", "floods"])
def test_a_value_that_was_refused_is_not_why_an_exit_is_shut(receiver, engine_name):
    story = Scenario(
        name="story",
        story="A host takes no ether, and a guest pays too little.",
        strict=False,
        actors={"host": Actor(receiver=receiver), "guest": Actor(pays="self")},
        actions=(
            CreateRun(run="run1", by="host", price_inr=Decimal(20_000), seats=1, starts=86_400, direct=True),
            Book(booking="booking1", run="run1", by="guest", seats=1, direct=True, value_off=-1),
        ),
    )
    with closing(open_environment(engine_name, plainly_compiled(STAND_IN))) as environment:
        result = diagnose_contract(environment, run_scenario(environment, story), set())
        for finding in result.findings:
            assert (finding.id, finding.weakness) == ("INV-11", "one hostile receiver blocks everybody")
        assert result.findings


def test_a_pause_is_no_change_of_terms(engine_name):
    """`EventStake` has one that is not in its interface; it stops new bookings, and no exit."""
    names = [scenario.name for scenario in function_probes(own_transactions(compile_contracts()["EventStake"].abi))]
    assert "probe-pause-by-platform-0" in names
    assert run([], engine=engine_name, contract=compile_contracts()["EventStake"]).findings == []


def test_a_function_that_the_abi_calls_a_view_is_called_all_the_same(engine_name):
    """A call of a view changes nothing, and a transaction may: an artifact's ABI can say anything."""
    planted = load_contract(f"{CONTRACTS / 'test' / 'Planted.sol'}:OwnerTakesEscrow")
    own = own_transactions(planted.abi).keys()
    abi = [item | {"stateMutability": "view"} if item.get("name") in own else item for item in planted.abi]
    weaknesses = {
        finding.weakness for finding in run([], engine=engine_name, contract=replace(planted, abi=abi)).findings
    }
    assert "the owner can take escrow" in weaknesses


@pytest.mark.parametrize("contract", [SOUND, CONTRACTS / "EventStake.sol"], ids=lambda path: path.stem)
def test_nothing_is_found_in_a_sound_contract(contract, engine_name):
    assert run_scenarios(contract, engine_name).findings == []


def test_what_a_contract_does_not_support_is_reported(engine_name):
    reached = run_scenarios(SOUND, engine_name, ["cancel-around-the-cutoff", "forfeits-shared-with-the-host"]).reached
    assert {key for key in reached if key.startswith("not supported")} == {
        "not supported: cancel_booking",
        "not supported: other terms",
    }


def test_an_action_that_only_has_another_payer_is_reported_as_such(engine_name):
    """A contract without the additions has bookings, and none that somebody pays for another."""
    reached = run_scenarios(STAND_IN, engine_name, ["pause-and-new-owner", "operators"]).reached
    left_out = {key.removeprefix("not supported: ") for key in reached if key.startswith("not supported")}
    assert {"book paid by another", "create_run paid by another", "pause"} <= left_out
    assert not {"book", "create_run"} & left_out


def test_the_saved_scenario_fails_again_with_the_printed_command(tmp_path, engine_name):
    contract = f"{PLANTED}:KeepsOverpayment"
    result = run_scenarios(contract, engine_name, ["wrong-values"])
    save_failures(result, tmp_path, contract)
    assert f"stakesim replay {tmp_path}/overpayment-is-kept.yaml --contract {contract}" in narrate(result.findings)
    again = run(load(tmp_path / "overpayment-is-kept.yaml"), engine=engine_name, contract=plainly_compiled(contract))
    assert {finding.weakness for finding in again.findings} == {"overpayment is kept"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "contract Bare { function bookEvent(uint256, uint256) external payable returns (uint256) {} }",
            "Bare can't be tested, as it lacks ",
        ),
        (
            SOUND.read_text().replace("uint256 internal _fees;", "uint256 internal _fees; constructor(bytes32) {}"),
            "its constructor takes (bytes32): give one that takes nothing",
        ),
    ],
)
def test_an_unsupported_contract_is_refused_in_one_sentence(tmp_path, source, said, engine_name):
    file = tmp_path / "Stake.sol"
    file.write_text(
        source if "pragma" in source else f"// SPDX-License-Identifier: MIT\npragma solidity ^0.8.30;\n{source}"
    )
    with pytest.raises(EngineError, match=said.replace("(", r"\(").replace(")", r"\)")):
        open_environment(engine_name, load_contract(file))

"""Mutants: which there are, which are killed, and what does not count as killed."""

import json

import pytest
from stakesim.commands.cli import cli
from stakesim.evm.compiler import CONTRACTS, CompileError, Compiler
from stakesim.evm.errors import EngineError
from stakesim.gate import mutation_run
from stakesim.gate.mutation_operators import generate_mutants
from stakesim.gate.mutation_run import MutantStatus, MutationResult, Verdict, diff, mutate
from stakesim.gate.plain_build import build, compile_plain
from stakesim.paths import shipped
from stakesim.scenario.scenario import load
from typer.testing import CliRunner

SCENARIOS = shipped("scenarios")

pytestmark = pytest.mark.slow

STAKE = CONTRACTS / "EventStake.sol"
PURSE = """// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

contract Purse {
    address public owner = msg.sender;
    uint256 public total;
    modifier onlyOwner() { require(msg.sender == owner); _; }
    function add(uint256 a, uint256 b) external onlyOwner returns (uint256) {
        if (a >= 5 && !(b == 2)) revert();
        total += a * b;
        return a - b;
    }
    function pay(address to) external {
        uint256 amount = total;
        total = 0;
        _send(to, amount);
    }
    function _send(address to, uint256 amount) private { payable(to).transfer(amount); }
}
"""


@pytest.fixture(scope="module")
def purse(tmp_path_factory):
    file = tmp_path_factory.mktemp("purse") / "Purse.sol"
    file.write_text(PURSE)
    return build(f"{file}:Purse")


@pytest.fixture
def only_scenarios(monkeypatch):
    """Replaces the scenario suite by these scenarios."""

    def choose(*names):
        monkeypatch.setattr(
            mutation_run, "scenario_suite", lambda: [load(SCENARIOS / f"{name}.yaml") for name in names]
        )

    return choose


@pytest.mark.parametrize(
    ("operator", "function", "old", "new"),
    [
        ("boundary", "add", ">=", ">"),
        ("condition", "add", "&&", "||"),
        ("condition", "add", "!(b == 2)", "(b == 2)"),
        ("condition", "add", "a >= 5 && !(b == 2)", "!(a >= 5 && !(b == 2))"),
        ("arithmetic", "add", "==", "!="),
        ("arithmetic", "add", "*", "/"),
        ("arithmetic", "add", "+=", "-="),
        ("arithmetic", "add", "-", "+"),
        ("constant", "add", "5", "6"),
        ("constant", "add", "5", "4"),
        ("constant", "add", "5", "0"),
        ("check removed", "add", "if (a >= 5 && !(b == 2)) revert();", ""),
        ("check removed", "Purse", "require(msg.sender == owner);", ""),
        ("statement removed", "add", "total += a * b;", ""),
        ("modifier removed", "add", "onlyOwner", ""),
        ("recipient", "pay", "to", "payable(msg.sender)"),
        ("amount", "pay", "amount", "(amount) + 1"),
        ("amount", "pay", "amount", "(amount) / 2"),
        ("late effect", "pay", "total = 0;\n        _send(to, amount);", "_send(to, amount);\n        total = 0;"),
    ],
)
def test_each_operator_generates_its_mutant(purse, operator, function, old, new):
    def flat(code):
        return " ".join(code.split())

    mutants = generate_mutants(purse.source, purse.tree, "Purse")
    matching = [
        m
        for m in mutants
        if (m.operator, m.function, flat(m.old), flat(m.new)) == (operator, function, flat(old), flat(new))
    ]
    assert len(matching) == 1
    assert diff(purse.source, matching[0], "Purse.sol").count("\n-") >= 1
    assert matching[0].text in PURSE


def test_mutants_differ_from_each_other_and_mostly_compile(purse):
    mutants = generate_mutants(purse.source, purse.tree, "Purse")
    assert len({m.key for m in mutants}) == len({m.apply(PURSE) for m in mutants}) == len(mutants) > 30
    with Compiler() as compiler:
        errors = 0
        for mutant in mutants[::5]:
            output = compile_plain(compiler, {"Purse.sol": mutant.apply(PURSE)}, "Purse.sol")
            errors += any(error["severity"] == "error" for error in output.get("errors", ()))
    assert errors <= 1


def test_faults_in_the_fee_are_found(only_scenarios, engine_name):
    only_scenarios("everybody-comes")
    result = mutate(STAKE, engine_name, only="uint256 fee = revenue * FEE_BPS / BPS;")
    assert len(result.verdicts) == 3
    assert {verdict.status for verdict in result.verdicts} == {"killed"}
    assert result.passed
    assert result.score == 1
    assert result.killers["INV-05"] >= 2
    assert {verdict.scenario for verdict in result.verdicts} == {"everybody-comes"}


def test_mutants_without_effect_on_the_scenarios_survive(only_scenarios, tmp_path, monkeypatch, engine_name):
    """All attend, so nothing is forfeited. One of the survivors is then listed as equivalent."""
    only_scenarios("everybody-comes")
    result = mutate(STAKE, engine_name, only="uint256 forfeitsToHost")
    survived = result.with_status("survived")
    assert len(survived) >= 2
    assert not result.passed
    (tmp_path / "equivalent.json").write_text(json.dumps([{"mutant": survived[0].mutant.key, "reason": "a reason"}]))
    monkeypatch.setattr(mutation_run, "EQUIVALENT", tmp_path / "equivalent.json")
    again = mutate(STAKE, engine_name, only="uint256 forfeitsToHost")
    assert [verdict.reason for verdict in again.with_status("equivalent")] == ["a reason"]
    assert len(again.with_status("survived")) == len(survived) - 1


def test_tests_can_kill_a_mutant_that_survives_the_scenarios(only_scenarios, engine_name):
    only_scenarios("everybody-comes")
    tests = CONTRACTS.parent / "tests" / "contracts" / "test_views.py"
    result = mutate(STAKE, engine_name, only="getHostEvents", tests=tests)
    assert {verdict.status for verdict in result.verdicts} == {"killed"}
    by_tests = [verdict for verdict in result.verdicts if verdict.killed_by == ("EXPECTATION",)]
    assert by_tests
    assert all(verdict.scenario.endswith("test_lists_are_in_order_of_creation") for verdict in by_tests)


def test_a_contract_with_findings_of_its_own_is_refused(only_scenarios, tmp_path, engine_name):
    only_scenarios("everybody-comes")
    source = STAKE.read_text().replace("revenue * FEE_BPS / BPS;", "revenue * FEE_BPS / BPS + 1;")
    (tmp_path / "EventStake.sol").write_text(source)
    (tmp_path / "IEventStake.sol").write_text((CONTRACTS / "IEventStake.sol").read_text())
    with pytest.raises(EngineError, match=r"EventStake itself has findings.*everybody-comes, INV-05"):
        mutate(tmp_path / "EventStake.sol", engine_name, only="fee")


def test_no_mutants_are_no_success(only_scenarios, engine_name):
    only_scenarios("everybody-comes")
    result = CliRunner().invoke(cli, ["mutate", "--engine", engine_name, "--only", "no such line"])
    assert isinstance(result.exception, EngineError)
    assert "There is no mutant of EventStake" in str(result.exception)
    assert MutationResult().score == 0
    assert not MutationResult().passed


def test_no_mutant_on_a_line_with_money_may_survive(purse):
    mutants = generate_mutants(purse.source, purse.tree, "Purse")
    money = next(mutant for mutant in mutants if mutant.operator == "amount")
    other = next(mutant for mutant in mutants if mutant.operator == "modifier removed")
    killed = [Verdict(other, MutantStatus.KILLED, ("INV-01",))] * 99
    assert MutationResult(verdicts=[*killed, Verdict(other, MutantStatus.SURVIVED)]).passed
    assert not MutationResult(verdicts=[*killed, Verdict(money, MutantStatus.SURVIVED)]).passed


def test_a_missing_file_or_contract_is_reported():
    with pytest.raises(CompileError, match=r"nowhere.sol can't be read"):
        build(CONTRACTS / "nowhere.sol")
    with pytest.raises(
        CompileError, match=r"Say which contract of EventStake\.sol is meant; it has EventStake\.sol:EventStake\."
    ):
        build(f"{STAKE}:Elsewhere")

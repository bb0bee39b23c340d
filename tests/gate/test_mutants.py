"""Mutants: which there are, that they are found, and that what is no kill is not counted as one."""

import json

import pytest
from stakesim.commands.cli import cli
from stakesim.evm.compiler import CONTRACTS, CompileError, Compiler
from stakesim.evm.errors import EngineError
from stakesim.gate import mutation_run
from stakesim.gate.mutation_operators import mutants
from stakesim.gate.mutation_run import Mutation, Verdict, diff, mutate
from stakesim.gate.plain_build import build, compiled
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
    return build(file, "Purse")


@pytest.fixture
def few(monkeypatch):
    """Only these scenarios."""

    def choose(*names):
        monkeypatch.setattr(mutation_run, "scenarios", lambda: [load(SCENARIOS / f"{name}.yaml") for name in names])

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
def test_what_kinds_of_mutants_there_are(purse, operator, function, old, new):
    def flat(code):
        return " ".join(code.split())

    made = mutants(purse.source, purse.tree, "Purse")
    found = [
        m
        for m in made
        if (m.operator, m.function, flat(m.old), flat(m.new)) == (operator, function, flat(old), flat(new))
    ]
    assert len(found) == 1
    assert diff(purse.source, found[0], "Purse.sol").count("\n-") >= 1
    assert found[0].text in PURSE


def test_mutants_differ_from_each_other_and_mostly_compile(purse):
    made = mutants(purse.source, purse.tree, "Purse")
    assert len({m.key for m in made}) == len({m.apply(PURSE) for m in made}) == len(made) > 30
    with Compiler() as compiler:
        errors = 0
        for mutant in made[::5]:
            output = compiled(compiler, {"Purse.sol": mutant.apply(PURSE)}, "Purse.sol")
            errors += any(error["severity"] == "error" for error in output.get("errors", ()))
    assert errors <= 1


def test_faults_in_the_fee_are_found(few, engine_name):
    few("everybody-comes")
    done = mutate(STAKE, "EventStake", engine_name, only="uint256 fee = revenue * FEE_BPS / BPS;")
    assert len(done.verdicts) == 3
    assert {verdict.status for verdict in done.verdicts} == {"killed"}
    assert done.passed
    assert done.score == 1
    assert done.killers["INV-05"] >= 2
    assert {verdict.scenario for verdict in done.verdicts} == {"everybody-comes"}


def test_scenarios_that_can_not_tell_leave_survivors(few, tmp_path, monkeypatch, engine_name):
    """Nobody stays away, so nothing is forfeited. One of the survivors is then known to be equivalent."""
    few("everybody-comes")
    done = mutate(STAKE, "EventStake", engine_name, only="uint256 forfeitsToHost")
    survived = done.of("survived")
    assert len(survived) >= 2
    assert not done.passed
    (tmp_path / "equivalent.json").write_text(json.dumps([{"mutant": survived[0].mutant.key, "reason": "a reason"}]))
    monkeypatch.setattr(mutation_run, "EQUIVALENT", tmp_path / "equivalent.json")
    again = mutate(STAKE, "EventStake", engine_name, only="uint256 forfeitsToHost")
    assert [verdict.reason for verdict in again.of("equivalent")] == ["a reason"]
    assert len(again.of("survived")) == len(survived) - 1


def test_a_survivor_of_the_scenarios_can_be_found_by_tests(few, engine_name):
    few("everybody-comes")
    tests = CONTRACTS.parent / "tests" / "contracts" / "test_views.py"
    done = mutate(STAKE, "EventStake", engine_name, only="getHostEvents", tests=tests)
    assert [verdict.status for verdict in done.verdicts] == ["killed"]
    assert done.verdicts[0].by == ("EXPECTATION",)
    assert done.verdicts[0].scenario.endswith("test_lists_have_what_was_made_in_order")


def test_a_contract_with_findings_of_its_own_is_refused(few, tmp_path, engine_name):
    few("everybody-comes")
    source = STAKE.read_text().replace("revenue * FEE_BPS / BPS;", "revenue * FEE_BPS / BPS + 1;")
    (tmp_path / "EventStake.sol").write_text(source)
    (tmp_path / "IEventStake.sol").write_text((CONTRACTS / "IEventStake.sol").read_text())
    with pytest.raises(EngineError, match=r"EventStake itself has findings.*everybody-comes, INV-05"):
        mutate(tmp_path / "EventStake.sol", "EventStake", engine_name, only="fee")


def test_no_mutants_are_no_success(few, engine_name):
    few("everybody-comes")
    done = CliRunner().invoke(cli, ["mutate", "--engine", engine_name, "--only", "no such line"])
    assert isinstance(done.exception, EngineError)
    assert "There is no mutant of EventStake" in str(done.exception)
    assert Mutation().score == 0
    assert not Mutation().passed


def test_a_survivor_where_money_moves_is_one_too_many(purse):
    made = mutants(purse.source, purse.tree, "Purse")
    money = next(mutant for mutant in made if mutant.operator == "amount")
    other = next(mutant for mutant in made if mutant.operator == "modifier removed")
    killed = [Verdict(other, "killed", ("INV-01",))] * 99
    assert Mutation([*killed, Verdict(other, "survived")]).passed
    assert not Mutation([*killed, Verdict(money, "survived")]).passed


def test_what_is_not_there_is_said():
    with pytest.raises(CompileError, match=r"nowhere.sol can't be read"):
        build(CONTRACTS / "nowhere.sol", "X")
    with pytest.raises(
        CompileError, match=r"^Say which contract of EventStake\.sol is meant; it has EventStake\.sol:E"
    ):
        build(STAKE, "Elsewhere")

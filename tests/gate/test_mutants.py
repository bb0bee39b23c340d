"""Mutants: which there are, which are killed, and what does not count as killed."""

import json
from dataclasses import replace

import pytest
from stakesim.commands.cli import cli
from stakesim.evm.compiler import CONTRACTS, CompileError, Compiler
from stakesim.evm.errors import EngineError
from stakesim.gate import mutation_run, reviewed
from stakesim.gate.equivalent_mutants import load_equivalents, not_made
from stakesim.gate.mutant import Mutant
from stakesim.gate.mutation_judge import LaneBudget
from stakesim.gate.mutation_operators import generate_mutants
from stakesim.gate.mutation_result import Build, MutantStatus, MutationResult, Stage, Verdict
from stakesim.gate.mutation_run import choose_mutants, diff, mutate
from stakesim.gate.plain_build import build, compile_plain
from stakesim.gate.verdict_file import VerdictFile
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
VAULT = """// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

contract Vault {
    enum State { Open, Closed, Gone }
    struct Entry { address user; uint64 opened; uint64 closes; State state; uint32 moves; }
    mapping(uint256 id => Entry) private _entries;
    mapping(address user => uint256) public balanceOf;
    uint256 private _last;
    event Closed(address user, uint256 amount, bool late);
    modifier known(uint256 id) { require(_entries[id].user != address(0)); _; }
    modifier onlyOnce() { _; }
    modifier onlyTwice() { _; }

    function owner() public pure returns (address) { return address(1); }
    function open(uint256 closes) external onlyOnce returns (uint256 id) {
        id = ++_last;
        Entry storage entry = _entries[id];
        entry.user = msg.sender;
        entry.closes = uint64(closes);
        entry.opened = uint64(block.timestamp);
        entry.state = State.Open;
        ++entry.moves;
    }
    function close(uint256 id, uint256 fee) external onlyTwice known(id) {
        uint256 amount = balanceOf[msg.sender] - fee;
        if (_entries[id].state != State.Open) revert();
        if (amount == 0) revert();
        _entries[id].state = State.Closed;
        emit Closed(msg.sender, amount, block.timestamp > _entries[id].closes);
        _take(amount);
        _give(msg.sender, amount);
    }
    function give(address to) external { _give(to, 1); emit Closed(to, 1, true); }
    function reset() external { _last = 0; }
    function sum(uint256[] memory numbers) public pure returns (uint256 total) {
        for (uint256 i; i < numbers.length; ++i) {
            total += uint256(uint128(numbers[i]));
        }
    }
    function _take(uint256 amount) private { balanceOf[msg.sender] -= amount; }
    function _give(address to, uint256 amount) private {
        bool paid;
        assembly { paid := call(30000, to, amount, 0, 0, 0, 0) }
        if (!paid) revert();
    }
}
"""
TWICE = """// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

contract Twice {
    uint256 public last;
    function set(uint256 value) external {
        if (value == 0) revert();
        if (value == 0) revert();
        last = value;
    }
}
"""


@pytest.fixture(scope="module")
def vault(tmp_path_factory):
    file = tmp_path_factory.mktemp("vault") / "Vault.sol"
    file.write_text(VAULT)
    return build(f"{file}:Vault")


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


@pytest.mark.parametrize(
    ("operator", "function", "old", "new"),
    [
        ("cast", "open", "uint64(closes)", "uint64(uint40(closes))"),
        ("cast", "close", "balanceOf[msg.sender] - fee", "uint256(uint32(balanceOf[msg.sender] - fee))"),
        ("cast", "close", "balanceOf[msg.sender] - fee", "uint256(uint64(balanceOf[msg.sender] - fee))"),
        ("cast", "sum", "uint256(uint128(numbers[i]))", "uint128(numbers[i])"),
        ("cast", "sum", "uint256(uint128(numbers[i]))", "uint256(uint96(uint128(numbers[i])))"),
        ("cast", "sum", "uint256", "uint8"),
        ("field type", "Vault", "uint64", "uint40"),
        ("field type", "Vault", "uint32", "uint16"),
        ("field type", "Vault", "uint32", "uint64"),
        ("assembly opcode", "_give", "call", "callcode"),
        (
            "assembly opcode",
            "_give",
            "call(30000, to, amount, 0, 0, 0, 0)",
            "delegatecall(30000, to, 0, 0, 0, 0)",
        ),
        ("assembly gas", "_give", "30000", "gas()"),
        ("assembly operand", "_give", "to", "caller()"),
        ("assembly operand", "_give", "to, amount", "amount, to"),
        ("assembly value", "_give", "amount", "add(amount, 1)"),
        (
            "assembly return",
            "_give",
            "call(30000, to, amount, 0, 0, 0, 0)",
            "iszero(call(30000, to, amount, 0, 0, 0, 0))",
        ),
        (
            "assembly return",
            "_give",
            "paid := call(30000, to, amount, 0, 0, 0, 0)",
            "pop(call(30000, to, amount, 0, 0, 0, 0)) paid := 1",
        ),
        ("assembly statement", "_give", "paid := call(30000, to, amount, 0, 0, 0, 0)", ""),
        ("caller", "_take", "msg.sender", "tx.origin"),
        ("caller", "_take", "msg.sender", "owner()"),
        ("identifier", "_take", "amount", "_last"),
        ("identifier", "sum", "numbers", None),
        ("identifier", "open", "closes", "id"),
        ("member", "open", "opened", "closes"),
        ("member", "close", "Closed", "Open"),
        ("modifier replaced", "open", "onlyOnce", "onlyTwice"),
        ("argument replaced", "close", "amount", None),
        ("swapped operands", "close", "balanceOf[msg.sender] - fee", "(fee) - (balanceOf[msg.sender])"),
        ("event argument", "close", "amount", "(amount) + 1"),
        ("event argument", "close", "msg.sender", "address(this)"),
        (
            "event argument",
            "close",
            "block.timestamp > _entries[id].closes",
            "!(block.timestamp > _entries[id].closes)",
        ),
        ("visibility", "_take", "private", "public"),
        ("visibility", "reset", "external", "external payable"),
        ("visibility", "Vault", "public", "internal"),
        ("memory copy", "open", "storage", "memory"),
        ("unchecked", "_take", "balanceOf[msg.sender] -= amount;", "unchecked { balanceOf[msg.sender] -= amount; }"),
        (
            "unchecked",
            "_take",
            "{ balanceOf[msg.sender] -= amount; }",
            "{ unchecked { balanceOf[msg.sender] -= amount; } }",
        ),
        ("early return", "reset", "", "return;"),
        ("early return", "sum", "", "return total;"),
        ("order", "close", "if (amount == 0) revert(); _entries[id].state = State.Closed;", None),
        ("order", "give", "_give(to, 1); emit Closed(to, 1, true);", "emit Closed(to, 1, true); _give(to, 1);"),
        ("statement removed", "_take", "balanceOf[msg.sender] -= amount;", ""),
        ("loop", "sum", "", "break;"),
        ("loop", "sum", "", "= 1"),
        ("loop", "sum", "i", "i + 1"),
        ("loop", "sum", "i < numbers.length", "i < numbers.length && i < 128"),
    ],
)
def test_each_operator_of_solidity_generates_its_mutant(vault, operator, function, old, new):
    """`new` is None where nothing may take the place of `old`."""
    mutants = generate_mutants(vault.source, vault.tree, "Vault")
    made = {(m.operator, m.function, " ".join(m.old.split()), " ".join(m.new.split())) for m in mutants}
    if new is None:
        assert not [each for each in made if each[:3] == (operator, function, old)]
    else:
        assert (operator, function, old, new) in made


def test_a_narrower_field_changes_the_casts_to_it(vault):
    """Without them it would not compile."""
    mutants = generate_mutants(vault.source, vault.tree, "Vault")
    opened, closes = (m for m in mutants if (m.operator, m.old, m.new) == ("field type", "uint64", "uint40"))
    assert "uint40 closes;" in closes.apply(VAULT)
    assert "entry.closes = uint40(closes);" in closes.apply(VAULT)
    assert "entry.opened = uint64(block.timestamp);" in closes.apply(VAULT)
    assert "entry.opened = uint40(block.timestamp);" in opened.apply(VAULT)


def test_keys_tell_equal_lines_of_a_function_apart(vault):
    source = VAULT.replace("        if (amount == 0) revert();\n", "        if (amount == 0) revert();\n" * 2)
    mutants = generate_mutants(vault.source, vault.tree, "Vault")
    assert len({m.key for m in mutants}) == len(mutants)
    assert " #2 [" not in "".join(m.key for m in mutants)
    (vault.path.parent / "Twice.sol").write_text(source)
    twice = build(f"{vault.path.parent / 'Twice.sol'}:Vault")
    again = generate_mutants(twice.source, twice.tree, "Vault")
    assert len({m.key for m in again}) == len(again)
    assert "close: if (amount == 0) revert(); #2 [13: amount == 0 -> !(amount == 0)]" in {m.key for m in again}


def test_mutants_differ_from_each_other_and_mostly_compile(purse):
    mutants = generate_mutants(purse.source, purse.tree, "Purse")
    assert len({m.key for m in mutants}) == len({m.apply(PURSE) for m in mutants}) == len(mutants) > 60
    with Compiler() as compiler:
        errors = 0
        for mutant in mutants[::5]:
            output = compile_plain(compiler, {"Purse.sol": mutant.apply(PURSE)}, "Purse.sol")
            errors += any(error["severity"] == "error" for error in output.get("errors", ()))
    assert errors <= len(mutants) / 25


FEE = "uint256 fee = revenue * FEE_BPS / BPS;"
LITTLE = LaneBudget(kept=150, fresh=20)


def test_faults_in_the_fee_are_found_by_a_scenario(only_scenarios, engine_name):
    only_scenarios("everybody-comes")
    result = mutate(STAKE, engine_name, only=f"{FEE} [30: * ->", lane=None)
    assert {verdict.status for verdict in result.verdicts} == {"killed"}
    assert result.passed
    assert result.score == result.money_score == 1
    assert result.killers["INV-05"] >= 1
    assert {verdict.scenario for verdict in result.verdicts} == {"everybody-comes"}
    assert {verdict.stage for verdict in result.verdicts} == {Stage.SCENARIOS}


@pytest.mark.in_turn
def test_the_lane_kills_before_any_scenario_runs(only_scenarios, engine_name, tmp_path, monkeypatch):
    """The file has each verdict as it came. The same call again judges nothing; other sources begin anew."""
    only_scenarios("everybody-comes")
    out, seen = tmp_path / "verdicts.jsonl", []
    result = mutate(STAKE, engine_name, only=FEE, sample=5, lane=LITTLE, out=out, progress=seen.append)
    assert {verdict.stage for verdict in result.with_status("killed")} == {Stage.LANE}
    assert result.by_operator()["arithmetic"].stages[Stage.LANE] >= 1
    about, *rows = map(json.loads, out.read_text().splitlines())
    assert about["about"]["contract"] == "EventStake"
    assert {row["mutant"] for row in rows} == {verdict.mutant.key for verdict in seen}
    assert len(rows) == len(seen) == 5
    out.write_text(out.read_text() + '{"mutant": "cut o')
    monkeypatch.setattr(mutation_run, "search_sound", lambda *_: pytest.fail("it judges again"))
    again = mutate(STAKE, engine_name, only=FEE, sample=5, lane=LITTLE, out=out)
    assert again.verdicts == [replace(verdict, seconds=round(verdict.seconds, 3)) for verdict in result.verdicts]
    assert [json.loads(line) for line in out.read_text().splitlines()] == [about, *rows]
    other = VerdictFile(out, about["about"] | {"sources": "another hash"})
    assert other.known([verdict.mutant for verdict in result.verdicts], Build.PLAIN) == {}


def test_a_sample_is_drawn_by_its_seed(purse):
    mutants = generate_mutants(purse.source, purse.tree, "Purse")
    sample = choose_mutants(mutants, "", 5, seed=1)
    assert len(sample) == 5
    assert sample == choose_mutants(mutants, "", 5, seed=1) != choose_mutants(mutants, "", 5, seed=2)
    assert sample == [mutant for mutant in mutants if mutant in sample]
    assert choose_mutants(mutants, "", 10_000, seed=1) == mutants
    assert {mutant.function for mutant in choose_mutants(mutants, "pay: ", 3, seed=1)} == {"pay"}


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"[\n1\n]\n",
            b'{"mnemonic": "my only copy"}\n',
            b'{"a": 1}\n{"b": 2}\n',
            b"my notes",
            b'"text"\n',
            b"\xff\n",
        ),
        *(b"\n", b'{"about": null}\n', b"[]\n"),
    ],
)
def test_another_file_is_not_overwritten(tmp_path, content):
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(EngineError, match=r"report.json is no file of verdicts: choose another one for `--out`"):
        VerdictFile(tmp_path / "report.json", {})
    assert (tmp_path / "report.json").read_bytes() == content


@pytest.mark.parametrize("content", ["", '{"about": {"contract": "Another"}}\n{"mutant": "a", "build": "plain"}\n'])
def test_an_empty_file_and_verdicts_about_something_else_begin_anew(tmp_path, content):
    (tmp_path / "verdicts.jsonl").write_text(content)
    with VerdictFile(tmp_path / "verdicts.jsonl", {"contract": "EventStake"}):
        assert (tmp_path / "verdicts.jsonl").read_text() == '{"about": {"contract": "EventStake"}}\n'


@pytest.mark.in_turn
def test_mutants_without_effect_on_the_scenarios_survive(only_scenarios, tmp_path, monkeypatch, engine_name):
    """All attend, so nothing is forfeited. One of the survivors is then listed as equivalent."""
    only_scenarios("everybody-comes")
    key = "uint256 forfeitsToHost = forfeits * FORFEIT_TO_HOST_BPS / BPS; ["
    result = mutate(STAKE, engine_name, only=key, sample=8, lane=None)
    survived = result.with_status("survived")
    assert len(survived) >= 2
    assert not result.passed
    row = {"file": "EventStake.sol", "mutant": survived[0].mutant.key, "argument": "an argument"}
    other = {"file": "Other.sol", "mutant": survived[1].mutant.key, "argument": "of another file"}
    (tmp_path / "equivalent_mutants.json").write_text(json.dumps([row, other]))
    monkeypatch.setattr(reviewed, "reviewed_folder", lambda contract: tmp_path)
    assert load_equivalents(STAKE) == {survived[0].mutant.key: "an argument"}
    again = mutate(STAKE, engine_name, only=survived[0].mutant.key, lane=None)
    assert [(verdict.status, verdict.reason) for verdict in again.verdicts] == [("equivalent", "an argument")]


@pytest.mark.slow
@pytest.mark.in_turn
def test_a_listed_equivalent_that_the_lane_tells_is_no_pass(only_scenarios, engine_name, tmp_path, monkeypatch):
    """Nobody need believe the list. What the lane does not tell stays as it was reviewed."""
    only_scenarios("everybody-comes")
    out = tmp_path / "verdicts.jsonl"
    fee = mutate(STAKE, engine_name, only=f"{FEE} [30: * ->", lane=LITTLE).verdicts[0].mutant.key
    same = next(key for key in load_equivalents(STAKE) if "unchecked" in key)
    rows = [{"file": "EventStake.sol", "mutant": key, "argument": "an argument"} for key in (fee, same)]
    (tmp_path / "equivalent_mutants.json").write_text(json.dumps(rows))
    monkeypatch.setattr(reviewed, "reviewed_folder", lambda contract: tmp_path)
    monkeypatch.setattr(mutation_run, "choose_mutants", lambda made, *_: [m for m in made if m.key in (fee, same)])
    for lane, killed in ((LITTLE, [fee]), (LITTLE, [fee]), (None, [])):
        result = mutate(STAKE, engine_name, lane=lane, out=out if lane else None)
        assert (result.refuted, result.passed) == (killed, False)
        assert [each.reason for each in result.with_status("equivalent")] == ["an argument"] * (2 - len(killed))


def test_an_equivalent_that_is_not_made_any_more_is_told():
    assert not_made({"f: a [1: b -> c]": "", "f: a [1: b -> d]": ""}, ["f: a [1: b -> d]"]) == ["f: a [1: b -> c]"]
    verdict = Verdict(generate_one(), MutantStatus.KILLED)
    assert MutationResult(verdicts=[verdict]).passed
    assert not MutationResult(verdicts=[verdict], stale=["f: a [1: b -> c]"]).passed


def generate_one():
    """Any mutant on a line without money."""
    return Mutant("constant", 0, 1, "1", "2", "f", 1, 1, "x = 1;")


def test_each_listed_equivalent_is_a_mutant_of_its_contract():
    plain = build(STAKE)
    made = {mutant.key for mutant in generate_mutants(plain.source, plain.tree, "EventStake")}
    assert not_made(load_equivalents(STAKE), made) == []


def test_where_a_whole_body_may_be_unchecked_so_may_each_of_its_statements():
    """The gate draws its mutants: a list without some of them passes for most seeds, and fails for the others."""
    plain, listed = build(STAKE), load_equivalents(STAKE)
    made = [m for m in generate_mutants(plain.source, plain.tree, "EventStake") if m.operator == "unchecked"]
    bodies = {mutant.function for mutant in made if mutant.key in listed and mutant.old.startswith("{")}
    assert len(bodies) > 15
    unlisted = [mutant.old for mutant in made if mutant.function in bodies and mutant.key not in listed]
    assert unlisted == ["deadline += COMPLETION_GRACE;"], (
        "the body of an if, where a block of its own can't be unchecked"
    )


@pytest.mark.in_turn
def test_what_is_the_same_when_it_is_deployed_is_proven_to_be_the_same(only_scenarios, tmp_path, engine_name):
    """The optimizer removes a check that is made twice. What differs is judged once more as it would be deployed."""
    only_scenarios()
    (tmp_path / "Twice.sol").write_text(TWICE)
    result = mutate(f"{tmp_path / 'Twice.sol'}:Twice", engine_name, lane=None, deployed=0)
    found = {verdict.mutant.key: (verdict.build, verdict.status) for verdict in result.final}
    assert found["set: if (value == 0) revert(); #2 [9: if (value == 0) revert(); -> ]"] == ("plain", "duplicate")
    assert found["set: last = value; [16: value -> last]"] == ("deployed", "survived")


@pytest.mark.in_turn
def test_a_call_that_never_ends_is_killed(only_scenarios, engine_name):
    """Where a contract calls it, and has a little gas left, it is a call that fails without a reason."""
    only_scenarios("everybody-comes")
    key = "_deactivate: while (ids.at[place] != id) ++place; [37: ++place -> place]"
    result = mutate(STAKE, engine_name, only=key, lane=LITTLE)
    assert [verdict.killed_by in [("HANG",), ("refused",)] for verdict in result.verdicts] == [True]
    assert [verdict.scenario for verdict in result.verdicts] == ["cancelBooking"]


@pytest.mark.in_turn
def test_tests_can_kill_a_mutant_that_survives_the_scenarios(only_scenarios, engine_name):
    only_scenarios("everybody-comes")
    tests = CONTRACTS.parent / "tests" / "contracts" / "test_views.py"
    key = "getHostEvents: return _read(_hostRuns[host], 1, _hostRuns[host].at[0]); [39: 1 "
    result = mutate(STAKE, engine_name, only=key, tests=tests, lane=None)
    by_tests = [verdict for verdict in result.verdicts if verdict.killed_by == ("EXPECTATION",)]
    assert by_tests
    assert all(verdict.scenario.endswith("test_lists_are_in_order_of_creation") for verdict in by_tests)
    assert {verdict.stage for verdict in by_tests} == {Stage.TESTS}


def test_a_contract_with_findings_of_its_own_is_refused(only_scenarios, tmp_path, engine_name):
    only_scenarios("everybody-comes")
    source = STAKE.read_text().replace("revenue * FEE_BPS / BPS;", "revenue * FEE_BPS / BPS + 1;")
    (tmp_path / "EventStake.sol").write_text(source)
    (tmp_path / "IEventStake.sol").write_text((CONTRACTS / "IEventStake.sol").read_text())
    with pytest.raises(EngineError, match=r"EventStake itself has findings.*everybody-comes, INV-05"):
        mutate(tmp_path / "EventStake.sol", engine_name, only="fee", lane=None)


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

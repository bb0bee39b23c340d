"""Coverage reports the lines and branches that ran, and no others."""

import pytest
from stakesim.commands.cli import cli
from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.coverage import measure
from stakesim.evm.engines import open_engine
from stakesim.evm.errors import EngineError
from stakesim.evm.in_process.trace import ExecutionTrace
from stakesim.gate import coverage
from stakesim.gate.plain_build import COVERAGE_SETTINGS, build
from stakesim.paths import shipped
from stakesim.scenario.scenario import load
from typer.testing import CliRunner

SCENARIOS = shipped("scenarios")

pytestmark = pytest.mark.slow

GATE = """// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

contract Gate {
    uint256 public immutable LIMIT;
    uint256 public sum;
    constructor(uint256 limit) {
        if (limit > 100) revert();
        LIMIT = limit;
    }
    function go(uint256 a, uint256 b) external {
        if (a > LIMIT || b > LIMIT) {
            sum = 0;
        } else {
            sum = a == b ? a : b;
        }
        for (uint256 i; i < a; ++i) {
            sum += i;
        }
    }
    function never() external {
        sum = 7;
    }
}
"""


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    file = tmp_path_factory.mktemp("gate") / "Gate.sol"
    file.write_text(GATE)
    return build(f"{file}:Gate", COVERAGE_SETTINGS)


def after(gate, *calls):
    """Coverage of these calls of `go`, which all succeed."""
    return reached(gate, (10,), *calls, status=1)


def reached(built, arguments, *calls, status=None):
    """Coverage of a contract made with these arguments, and of these calls of `go`."""
    trace = ExecutionTrace()
    engine = open_engine("py-evm", trace=trace)
    w3, me = engine.w3, engine.accounts[0]

    def send(call):
        fields = {"from": me.address, "gas": 2_000_000, "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 1}
        raw = me.sign_transaction(
            call.build_transaction(fields | {"nonce": w3.eth.get_transaction_count(me.address)})
        ).raw_transaction
        return w3.eth.get_transaction_receipt(w3.eth.send_raw_transaction(raw))

    factory = w3.eth.contract(abi=built.artifact.abi, bytecode=built.artifact.bytecode)
    contract = w3.eth.contract(send(factory.constructor(*arguments)).contractAddress, abi=built.artifact.abi)
    for call in calls:
        receipt = send(contract.functions.go(*call))
        assert receipt.status == (status or receipt.status)
    return measure(trace, built.artifact, file=built.file, source=built.source, tree=built.tree, index=built.index)


def lines_with(*texts):
    return [number for number, line in enumerate(GATE.splitlines(), start=1) if any(text in line for text in texts)]


def test_a_line_is_covered_when_it_ran(gate):
    assert after(gate).missed_lines == lines_with(
        "revert()", "if (a >", "sum = 0", "sum = a ==", "for (", "sum += i", "sum = 7"
    )
    assert after(gate, (1, 2)).missed_lines == lines_with("revert()", "sum = 0", "sum = 7")
    assert after(gate, (1, 2), (11, 0)).missed_lines == lines_with("revert()", "sum = 7")


def test_a_branch_is_covered_when_both_ways_were_taken(gate):
    def missed(*calls):
        return [" ".join(branch.condition.split()) for branch in after(gate, *calls).missed_branches]

    constructor, outer, inner, equal, loop = (
        "limit > 100",
        "a > LIMIT || b > LIMIT",
        "a > LIMIT",
        "a == b",
        "i < a",
    )
    assert sorted(missed()) == sorted([constructor, outer, inner, equal, loop])
    assert sorted(missed((1, 2))) == sorted([constructor, outer, inner, equal])
    assert sorted(missed((1, 2), (2, 2))) == sorted([constructor, outer, inner])
    assert missed((1, 2), (2, 2), (11, 1)) == [constructor]


CHECKS = """// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

error Refused(uint256 x, string why);

contract Checks {
    uint256 public sum;
    function other(uint256 x) external pure {
        for (;;) {
            if (x != 13) break;
            revert();
        }
    }
    modifier small(uint256 x) {
        require(x < 100);
        _;
    }
    function go(uint256 x, uint256 y) external small(x) {
        require(x < 5 || y == 1, "one of the two must hold, says this text of more than thirty-two bytes");
        require(y < 50, Refused(x, "no"));
        assert(x < 200);
        do {
            ++sum;
        } while (sum < x);
        uint256 z;
        assembly {
            if eq(x, 3) { z := 1 }
            switch y
            case 1 { z := 2 }
            case 2 { z := 3 }
            default { z := 4 }
            for { let i := 0 } lt(i, y) { i := add(i, 1) } { z := add(z, i) }
            function twice(q) -> r { if gt(q, 9) { r := 1 } }
            z := add(z, twice(y))
        }
        sum += z;
        if (x < 14) this.other(x);
    }
}
"""


@pytest.mark.parametrize(
    ("calls", "missed"),
    [
        (
            [(4, 9)],
            {"x < 100", "x < 5 || y == 1", "x < 5", "y < 50", "x < 200", "eq(x, 3)", "1", "2", "gt(q, 9)"}
            | {"x != 13", "x < 14"},
        ),
        (
            [(4, 9), (3, 1), (4, 2), (0, 10)],
            {"x != 13", "x < 14", "x < 100", "x < 5 || y == 1", "x < 5", "y < 50", "x < 200"},
        ),
        ([(4, 9), (3, 1), (4, 2), (0, 10), (100, 1), (7, 7), (13, 1), (20, 1), (0, 50)], {"x < 200"}),
    ],
)
def test_a_check_that_never_refuses_is_a_gap(tmp_path, calls, missed):
    """And a condition of inline assembly that was only true, or only false. An endless loop has no condition."""
    (tmp_path / "Checks.sol").write_text(CHECKS)
    built = build(tmp_path / "Checks.sol", COVERAGE_SETTINGS)
    found = {" ".join(branch.condition.split()) for branch in reached(built, (), *calls).missed_branches}
    assert found == missed


WAYS = """// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

contract Ways {
    uint256 public sum;
    function go(uint256 x, uint256 y) external {
        if (x == 1) sum = 1;
        if (!(x != 1)) sum = 2; else sum = 3;
        sum = x == 1 ? 4 : 5;
        bool both = x == 1 && y == 1;
        both = x == 1 || y == 1;
        for (uint256 i; x == 1; ++i) { if (x == 1) break; }
        while (x == 1) { if (y < 9) break; }
        do { if (++y > 9) break; } while (x == 1);
        assembly {
            if eq(x, 1) { y := 6 }
            switch x
            case 1 { y := 7 }
            for {} eq(x, 1) {} { break }
        }
        require(x == 1);
        require(x == 1, "text");
        require(x == 1, No());
        assert(x == 1);
        if (x == 1) return;
    }
    error No();
}
"""


def test_the_ways_of_a_branch_are_what_its_condition_was(tmp_path):
    """Whatever jump the compiler makes of it: it turns around that of an `if` that leaves a loop."""
    (tmp_path / "Ways.sol").write_text(WAYS)
    built = build(tmp_path / "Ways.sol", COVERAGE_SETTINGS)
    of_x = ("x == 1", "!(x != 1)", "eq(x, 1)", "1")
    for x, way in ((1, True), (2, False)):
        branches = [branch for branch in reached(built, (), (x, 0)).branches if branch.condition in of_x]
        assert len(branches) == 17
        # within the loop, and behind the first requirement
        assert {branch.taken for branch in branches} == ({frozenset({way})} if way else {frozenset({way}), frozenset()})


HEAD = """// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

abstract contract Root {
    uint256 public left;
    uint256 public base = left == 0 ? 1 : 2;
    constructor(uint256 x) { left = x; }
    modifier less(uint256 x) { left -= x; _; }
    modifier least() { left = 0; _; }
}
contract Other { uint256 public other = block.chainid == 5 ? 1 : 2; }
contract Head is Root(block.chainid == 1 ? 3 : 4) {
    uint256 public start = block.chainid == 2 ? 5 : 6;
    constructor(uint256 y) {}
    function go(uint256 x, uint256 y) external less(x == y ? 0 : 1) {}
    function drain() external least {}
    function lower() external less(1) { }
    function none() external {}
}
contract Arguments is Root {
    constructor(uint256 y) Root(y == 7 ? 1 : 2) {}
}
"""


def test_conditions_of_initial_values_and_arguments_are_measured_and_functions_of_modifiers_alone(tmp_path):
    """A back door is no less one there."""
    (tmp_path / "Head.sol").write_text(HEAD)
    built = build(f"{tmp_path / 'Head.sol'}:Head", COVERAGE_SETTINGS)
    measured = reached(built, (7,), (1, 2))
    ways = {branch.condition: branch.taken for branch in measured.branches}
    false, true = frozenset({False}), frozenset({True})
    assert ways == {"left == 0": true, "block.chainid == 1": false, "block.chainid == 2": false, "x == y": false}
    lines = HEAD.splitlines()
    missed = [lines[line - 1].split("(")[0].strip() for line in measured.missed_lines]
    assert missed == ["modifier least", "function drain", "function lower"]
    built = build(f"{tmp_path / 'Head.sol'}:Arguments", COVERAGE_SETTINGS)
    assert {branch.condition: branch.taken for branch in reached(built, (7,)).branches}["y == 7"] == true


def test_code_that_differs_from_the_contract_says_nothing_of_it(gate):
    """It may only have other immutables. Zeros of the compiler are code elsewhere."""
    runtime = bytes.fromhex(gate.artifact.deployed_bytecode[2:])
    [places] = gate.artifact.immutables.values()
    [one, *_] = places
    within = {n for place in places for n in range(place["start"], place["start"] + place["length"])}
    filled = runtime[: one["start"]] + b"\x01" * one["length"] + runtime[one["start"] + one["length"] :]
    zero = next(n for n, byte in enumerate(runtime) if byte == 0 and n not in within)
    patched = runtime[:zero] + b"\x01" + runtime[zero + 1 :]

    def ran(code):
        trace = ExecutionTrace()
        trace.executed[code] = set(range(len(code)))
        measured = measure(trace, gate.artifact, file="", source=GATE, tree=gate.tree, index=gate.index)
        return any(measured.lines.values())

    assert [ran(code) for code in (runtime, filled, patched, runtime + b"\x00")] == [True, True, False, False]
    creation = bytes.fromhex(gate.artifact.bytecode[2:])
    assert [ran(code) for code in (creation + bytes(31) + b"\x09", creation[:-1] + b"\xff")] == [True, False]


def test_the_tracefile_has_the_format_of_lcov(gate):
    text = after(gate, (1, 2)).lcov()
    assert text.startswith("TN:\nSF:Gate.sol\n")
    assert f"DA:{lines_with('sum = 7')[0]},0" in text
    assert f"DA:{lines_with('sum = a ==')[0]},1" in text
    assert "BRF:10" in text
    assert text.endswith("end_of_record\n")


def test_traces_of_several_processes_add_up(gate, tmp_path):
    first, second = ExecutionTrace(), ExecutionTrace()
    first.executed[b"\x01"] |= {1, 2}
    first.jumps[b"\x01"].add((2, True))
    second.executed[b"\x01"].add(3)
    first.save(tmp_path / "first")
    second.add(tmp_path / "first")
    assert second.executed == {b"\x01": {1, 2, 3}}
    assert second.jumps == {b"\x01": {(2, True)}}


def test_lines_that_no_scenario_reaches_are_listed(monkeypatch, tmp_path):
    monkeypatch.setattr(coverage, "scenario_suite", lambda: [load(SCENARIOS / "no-show.yaml")])
    result = CliRunner().invoke(cli, ["coverage", "--lcov", str(tmp_path / "x" / "lcov.info")])
    assert result.exit_code == 1, result.output
    assert "did not run: _pause();" in result.output
    assert "did not run: ) revert InvalidTerms();" in result.output
    assert "EventCompleted" not in result.output
    assert (tmp_path / "x" / "lcov.info").read_text().count("\nDA:") > 150


def test_only_py_evm_records_instructions():
    with pytest.raises(EngineError, match="The engine revm can't record which instructions run: use py-evm"):
        open_engine("revm", trace=ExecutionTrace())


def test_all_statements_of_event_stake_are_found():
    built = build(CONTRACTS / "EventStake.sol", COVERAGE_SETTINGS)
    nothing = measure(
        ExecutionTrace(),
        built.artifact,
        file="EventStake.sol",
        source=built.source,
        tree=built.tree,
        index=built.index,
    )
    assert len(nothing.missed_lines) == len(nothing.lines) > 150
    assert len(nothing.missed_branches) == len(nothing.branches) > 50

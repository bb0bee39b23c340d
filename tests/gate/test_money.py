"""Lines with money are found by what they do, and not by names."""

from __future__ import annotations

import pytest
from stakesim.evm.compiler import Compiler
from stakesim.gate.money import lines_with, money_pieces
from stakesim.gate.mutation_operators import all_mutants, generate_mutants
from stakesim.gate.mutation_result import MONEY, MutantStatus, MutationResult, Verdict
from stakesim.gate.plain_build import build, compile_plain

SOURCE = """// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;
struct Seat { uint64 due; address who; bool taken; }
contract Odd {
    uint256 constant PART = 3; // $
    uint256 constant NAMES = 4;
    address boss;
    bool open;
    uint256 total;
    uint256[] rows;
    mapping(address => mapping(bool => uint256)) owed;
    mapping(uint256 => Seat) seats;
    modifier whole() {
        require(msg.value == total, "x"); // $
        _;
    }
    function a(address to, uint256 due) external {
        boss = msg.sender; // $
        open = !open; // $
        emit Said(due);
        payable(to).transfer(due); // $
    }
    function b(address to, uint256 x) external {
        uint256 y = x * PART; // $
        uint256 z = y; // $
        uint256 other = NAMES;
        emit Said(other);
        (bool ok,) = to.call{value: z + part()}(""); // $
        if (!ok) {
            owed[to][true] = 0; // $
        }
    }
    function c() external payable whole { // $
        total += 1; // $
        --total; // $
        delete seats[0]; // $
        seats[1].due = 2; // $
        seats[1].taken = true; // $
        seats[1].who = msg.sender; // $
        rows.push(4); // $
        (open, total) = (false, 5); // $
    }
    function d(uint256 i) external {
        Seat storage seat = seats[i]; // $
        seat.due -= 1; // $
        Seat memory copy = seats[i];
        copy.due = 3;
        uint256 j = i;
        j += 2;
        emit Said(j);
    }
    function e(address to) external returns (bool ok) {
        uint256 wad = total; // $
        assembly {
            let zero := 0
            mstore(0, zero)
            ok := call(gas(), to, wad, 0, 0, 0, 0) // $
        }
        while (
            address(this).balance > 5 // $
        ) {
            open = true; // $
        }
    }
    function part() internal pure returns (uint256) {
        emit_();
        return 7; // $
    }
    function plain() external pure returns (uint256) {
        return 7;
    }
    function emit_() internal pure {}
    event Said(uint256 x);
}
"""


@pytest.mark.slow
def test_lines_with_money_are_found_by_the_syntax_tree() -> None:
    with Compiler() as compiler:
        output = compile_plain(compiler, {"Odd.sol": SOURCE}, "Odd.sol", trees=["Odd.sol"])
    tree = output["sources"]["Odd.sol"]["ast"]
    [contract] = [node for node in tree["nodes"] if node["nodeType"] == "ContractDefinition"]
    lines = SOURCE.splitlines()
    money = lines_with(money_pieces([contract]), SOURCE.encode(), contract)
    found = [lines[number - 1].strip() for number in sorted(money)]
    assert found == [line.strip() for line in lines if line.endswith("// $")]
    assert not any(MONEY.search(line.partition("//")[0]) for line in found), "names say nothing here"
    statuses = {
        mutant.text.endswith("// $"): MutationResult(
            verdicts=[Verdict(mutant, MutantStatus.SURVIVED), *[Verdict(mutant, MutantStatus.KILLED)] * 99]
        ).passed
        for mutant in generate_mutants(SOURCE, tree, "Odd")
        if "\n" not in mutant.old
    }
    assert statuses == {True: False, False: True}


HEAD = "// SPDX-License-Identifier: MIT\npragma solidity ^0.8.30;\n"
FORMS = {
    "Base.sol": """
type Wei is uint256;
struct Due { address who; uint256 sum; }
library Rate {
    function part(uint256 x) internal pure returns (uint256) {
        return x / 3; // $
    }
    function name(uint256 x) internal pure returns (uint256) {
        return x / 5;
    }
}
abstract contract Base {
    uint256 kept;
    constructor(uint256 x) {
        kept = x; // $
    }
    modifier paying(address to) {
        _;
        send(to, 1); // $
    }
    function rate() internal view virtual returns (uint256) {
        return 4; // $
    }
    function send(address to, uint256 x) internal {
        assembly {
            function less(a) -> b {
                let c := 1 // $
                b := sub(a, c) // $
            }
            function other(d) -> e {
                e := add(d, 1)
            }
            let q := div(x, 10) // $
            let z := less(q) // $
            let n := other(x)
            mstore(0, n)
            pop(call(gas(), to, z, 0, 0, 0, 0)) // $
        }
    }
}
""",
    "Forms.sol": """
import {Base, Due, Rate, Wei} from "./Base.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
interface IToken {
    function move(address to, uint256 x) external;
    function has(address who) external view returns (uint256);
}
contract Made { constructor(uint256 x) {} }
abstract contract Middle is Base {
    function rate() internal view virtual override returns (uint256) {
        return 6; // $
    }
}
contract Forms is
    Base(block.chainid / 2), // $
    Middle
{
    enum Status { Open, Closed }
    mapping(address => Wei) owed;
    mapping(address => bytes32) packed;
    mapping(address => bool) op;
    Status status;
    string title;
    IToken token = IToken(address(5)); // $
    address payee;
    constructor() {
        op[address(1)] = true; // $
    }
    function rate() internal view override(Base, Middle) returns (uint256) {
        return block.chainid; // $
    }
    function types(uint256 x, address to) external {
        owed[to] = Wei.wrap(x / 2); // $
        packed[to] = bytes32(x / 2); // $
        status = Status.Closed; // $
        title = "x"; // $
        payee = to; // $
    }
    function paid(uint256 x, address payable to) external
        paying(to) // $
    {
        uint256 y = x / 7; // $
        send(to, y); // $
        send(to, rate() + Rate.part(x)); // $
        uint256 name = Rate.name(x);
        emit Said(name);
    }
    function elsewhere(uint256 x, address payable to) external {
        uint256 y = x / 2; // $
        Address.sendValue(to, y); // $
        uint256 z = x / 3; // $
        token.move(to, z); // $
        uint256 v = x / 4; // $
        new Made(v); // $
        function(uint256) internal known = by; // $
        known(9); // $
        if (
            token.has(to) > 3 // $
        ) {
            revert();
        }
    }
    function by(uint256 x) internal {
        emit Said(x);
    }
    function parts(uint256 x, address payable to) external {
        Due memory due; // $
        due.sum = x / 3; // $
        fill(due, x / 9); // $
        Due memory made = make(x); // $
        uint256[] memory list = new uint256[](2); // $
        list[0] = x / 4; // $
        Due memory other;
        other.sum = x / 6;
        to.transfer(due.sum + made.sum + list[0]); // $
        emit Said(other.sum);
    }
    function fill(Due memory due, uint256 x) internal pure {
        uint256 y = x + 1; // $
        due.sum += y; // $
    }
    function make(uint256 x) internal pure returns (Due memory) {
        uint256 half = x / 5; // $
        return Due(address(1), half); // $
    }
    function quote(uint256 x) external view returns (uint256) {
        uint256 y = token.has(address(this)) * x;
        return y;
    }
    event Said(uint256 x);
}
""",
}


@pytest.mark.slow
def test_money_is_followed_into_other_functions_bases_and_libraries(tmp_path) -> None:
    """And into whatever form it has: members, lists, types of one's own, variables of inline assembly."""
    for name, text in FORMS.items():
        (tmp_path / name).write_text(HEAD + text)
    plain = build(f"{tmp_path / 'Forms.sol'}:Forms")
    pieces = money_pieces([unit.definition for unit in plain.units])
    for file in plain.files:
        found, lines = set(), file.source.splitlines()
        for unit in plain.units:
            if unit.file is file:
                found |= lines_with(pieces, file.source.encode(), unit.definition)
        assert [lines[number - 1] for number in sorted(found)] == [line for line in lines if line.endswith("// $")]
    mutants = [mutant for mutant in all_mutants(plain) if "\n" not in mutant.old]
    assert all(mutant.moves_money == mutant.text.endswith("// $") for mutant in mutants)
    assert any("Base(block.chainid / 2)" in mutant.text for mutant in mutants), "arguments of a base"


@pytest.mark.slow
def test_each_line_of_the_packaged_contract_that_writes_an_amount_has_money() -> None:
    plain = build()
    money = lines_with(money_pieces([plain.definition]), plain.source.encode(), plain.definition)
    for text in ("platformBalance = 0;", "platformBalance += toPlatform;", "isOperator[account] = allowed;"):
        [number] = [n for n, line in enumerate(plain.source.splitlines(), start=1) if line.strip() == text]
        assert number in money

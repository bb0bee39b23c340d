"""Lines with money are found by what they do, and not by names."""

from __future__ import annotations

import pytest
from stakesim.evm.compiler import Compiler
from stakesim.gate.money import money_lines
from stakesim.gate.mutation_operators import generate_mutants
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
        boss = msg.sender;
        open = !open;
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
    function c() external payable whole {
        total += 1; // $
        --total; // $
        delete seats[0]; // $
        seats[1].due = 2; // $
        seats[1].taken = true;
        seats[1].who = msg.sender;
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
            open = true;
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
    found = [lines[number - 1].strip() for number in sorted(money_lines(SOURCE.encode(), contract))]
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


@pytest.mark.slow
def test_each_line_of_the_packaged_contract_that_writes_an_amount_has_money() -> None:
    plain = build()
    money = money_lines(plain.source.encode(), plain.definition)
    for text in ("platformBalance = 0;", "platformBalance += toPlatform;"):
        [number] = [n for n, line in enumerate(plain.source.splitlines(), start=1) if line.strip() == text]
        assert number in money

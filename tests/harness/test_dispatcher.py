"""The functions that code answers to are those of its ABI, in each build, and those that an ABI hides are found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from stakesim.evm.abi import selector_of
from stakesim.evm.compiler import (
    CONTRACTS,
    SETTINGS,
    Artifact,
    Compiler,
    artifacts_from_output,
    compile_contracts,
    error_messages,
    project_sources,
)
from stakesim.evm.dispatcher import read_dispatch
from stakesim.evm.import_resolver import collect_sources
from stakesim.evm.instructions import DELEGATECALL, runnable_opcodes
from stakesim.gate.plain_build import PLAIN_SETTINGS

LEGACY = SETTINGS | {"viaIR": False}
HIDDEN = """
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;
contract Hidden {
    uint256 public value;
    uint256 internal other;
    function wycpnbqcyf() external { value = 1; } // its selector is 0x00000000
    fallback() external payable {
        if (msg.sig == 0x11223344) other = 2;
        assembly {
            switch shr(224, calldataload(0))
            case 0x00ff { sstore(0, 3) }
            case 0xfffffffe { sstore(0, 4) }
            default { sstore(0, shr(226, calldataload(4))) }
        }
        if (msg.value == 0x55667788 || abi.decode(msg.data[4:], (bytes4)) == 0x99aabbcc) value = 5;
    }
}
"""
PLANTED = """
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;
import {SoundEventStake} from "./SoundEventStake.sol";
contract Planted is SoundEventStake {
    function emergencyWithdraw(uint256 amount) external { _pay(owner, amount); }
}
"""
HIDDEN_SELECTORS = ["00000000", "000000ff", "11223344", "fffffffe"]


def code_of(artifact: Artifact) -> bytes:
    return bytes.fromhex(artifact.deployed_bytecode.removeprefix("0x"))


def built(sources: dict[str, str], settings: dict[str, Any]) -> Iterator[Artifact]:
    """The contracts of these sources that have code."""
    outputs = {"*": {"*": ["abi", "evm.bytecode", "evm.deployedBytecode"]}}
    request = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": settings | {"outputSelection": outputs},
    }
    with Compiler() as compiler:
        output = compiler.compile(request)
    assert not error_messages(output.get("errors", ()))
    yield from (each for each in artifacts_from_output(output, sources).values() if len(each.deployed_bytecode) > 2)


def named_by(abi: list[dict[str, Any]]) -> set[bytes]:
    return {selector_of(item) for item in abi if item["type"] == "function"}


def unnamed(artifact: Artifact, *names: str) -> list[str]:
    """The selectors of its code that the ABI does not name, if it names no other functions than these."""
    abi = [item for item in artifact.abi if item.get("name") in names or not names]
    return sorted(each.hex() for each in read_dispatch(code_of(artifact)).selectors - named_by(abi))


def is_exact(artifact: Artifact) -> bool:
    """Whether all is read, and is what the ABI says. What a fallback does is not followed for ever."""
    kinds, dispatch = {item["type"] for item in artifact.abi}, read_dispatch(code_of(artifact))
    return (
        dispatch.selectors == named_by(artifact.abi)
        and (dispatch.is_complete or "fallback" in kinds)
        and dispatch.takes_other_data == ("fallback" in kinds)
        and dispatch.takes_no_data == bool(kinds & {"fallback", "receive"})
    )


@pytest.mark.slow
def test_the_packaged_contracts_answer_to_their_abi():
    """As they are deployed, via IR."""
    artifacts = [each for each in compile_contracts().values() if len(each.deployed_bytecode) > 2]
    assert len(artifacts) >= 8
    assert [each.name for each in artifacts if not is_exact(each)] == []


@pytest.mark.slow
@pytest.mark.parametrize("settings", [PLAIN_SETTINGS, LEGACY], ids=["plain", "legacy"])
def test_legacy_builds_answer_to_their_abi(settings):
    """With and without optimizer; long lists of functions are halved."""
    sources = project_sources() | collect_sources(CONTRACTS / "test" / "Witness.sol")
    artifacts = list(built(sources, settings))
    assert len(artifacts) >= 9
    assert [each.name for each in artifacts if not is_exact(each)] == []


@pytest.mark.slow
@pytest.mark.parametrize("settings", [SETTINGS, PLAIN_SETTINGS, LEGACY], ids=["ir", "plain", "legacy"])
def test_functions_that_no_abi_names_are_found(settings):
    """Also in a fallback that looks at the selector, and with a selector of few digits. Other numbers are none."""
    sources = {"Hidden.sol": HIDDEN, "Planted.sol": PLANTED} | collect_sources(
        CONTRACTS / "test" / "SoundEventStake.sol"
    )
    artifacts = {each.name: each for each in built(sources, settings)}
    hidden, planted = artifacts["Hidden"], artifacts["Planted"]
    assert unnamed(hidden, "value") == HIDDEN_SELECTORS
    named = {item["name"] for item in planted.abi if item["type"] == "function"}
    assert unnamed(planted, *named - {"emergencyWithdraw"}) == ["5312ea8e"]
    assert unnamed(planted) == []


FALLBACKS = {
    "value": "if (msg.value == 77) {HIT}",
    "length": "if (msg.data.length == 77) {HIT}",
    "whole data": "if (keccak256(msg.data) == keccak256(hex'64726169')) {HIT}",
    "hash": "if (keccak256(msg.data[:4]) == keccak256(hex'deadbeef')) {HIT}",
    "copy": "bytes memory d = msg.data; if (bytes4(d) == 0xdeadbeef) {HIT}",
    "byte": "if (uint8(msg.data[0]) == 0xde && uint8(msg.data[1]) == 0xad) {HIT}",
    "mask": "if (msg.sig & 0xffff0000 == 0xdead0000) {HIT}",
    "plus": "unchecked { if (uint32(msg.sig) + 1 == 0xdeadbef0) {HIT} }",
    "modulo": "if (uint32(msg.sig) % 7 == 3) {HIT}",
    "range": "if (uint32(msg.sig) > 0xdeadbeee && uint32(msg.sig) < 0xdeadbef0) {HIT}",
    "constant hash": "if (msg.sig == bytes4(keccak256('drain()'))) {HIT}",
    "subtraction": "assembly { if iszero(sub(shr(224, calldataload(0)), 0xdeadbeef)) { sstore(0, 77) stop() } }",
    "not less": "assembly { if eq(lt(shr(224, calldataload(0)), 0xdeadbeef), 0) { sstore(0, 77) stop() } }",
    "memory": "assembly { calldatacopy(28, 0, 4) if eq(mload(0), 0xdeadbeef) { sstore(0, 77) stop() } }",
    "shifted": "assembly { if eq(shr(248, calldataload(0)), 0xde) { sstore(0, 77) stop() } }",
    "table": "if (table[msg.sig]) {HIT}",
    "storage": "if (msg.sig == stored) {HIT}",
    "immutable": "if (msg.sig == FIXED) {HIT}",
    "loop": """
        uint256 z;
        for (uint256 i; i < 30_000; ++i) { if (i == 29_999) z = 1; }
        if (z == 1 && msg.sig == 0xdeadbeef) {HIT}
    """,
    "pointer": "function() internal f = pointer; f();",
    "proxy": "assembly { if iszero(delegatecall(gas(), 77, 0, 0, 0, 0)) { revert(0, 0) } return(0, 0) }",
}
"""Bodies of a fallback, in which HIT is what nobody has tried."""
FALLBACK = """
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;
contract NAME {
    uint256 public value;
    mapping(bytes4 => bool) table;
    bytes4 stored;
    bytes4 immutable FIXED = 0xdeadbeef;
    function() internal pointer;
    constructor() { pointer = hit; }
    function hit() internal { if (msg.sig == 0xdeadbeef) { value = 77; assembly { stop() } } }
    fallback() external payable { BODY revert(); }
}
"""


def fallbacks(hit: str, settings: dict[str, Any]) -> dict[str, Artifact]:
    """A contract for each of `FALLBACKS`, by its key."""
    names = {f"F{number}": key for number, key in enumerate(FALLBACKS)}
    sources = {
        f"{name}.sol": FALLBACK.replace("NAME", name).replace("BODY", FALLBACKS[key].replace("HIT", hit))
        for name, key in names.items()
    }
    return {names[each.name]: each for each in built(sources, settings)}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [SETTINGS, PLAIN_SETTINGS, LEGACY], ids=["ir", "plain", "legacy"])
def test_a_fallback_that_takes_anything_is_told_whatever_it_looks_at(settings):
    """A selector that is not read is not passed over in silence: the way to it does not end in a revert."""
    unread = []
    for key, artifact in fallbacks("value = 77; return;", settings).items():
        dispatch = read_dispatch(code_of(artifact))
        told = dispatch.takes_other_data or not dispatch.is_complete or unnamed(artifact)
        unread += [] if told else [key]
    assert unread == []


@pytest.mark.slow
@pytest.mark.parametrize("settings", [SETTINGS, PLAIN_SETTINGS, LEGACY], ids=["ir", "plain", "legacy"])
def test_a_fallback_that_takes_nothing_is_no_function(settings):
    quiet = fallbacks("revert('no');", settings)
    for key in ("value", "length", "hash", "copy", "mask", "modulo", "table", "storage", "immutable"):
        dispatch = read_dispatch(code_of(quiet[key]))
        assert (dispatch.is_complete, dispatch.takes_other_data, dispatch.takes_no_data) == (True, False, False), key


@pytest.mark.slow
@pytest.mark.parametrize("settings", [SETTINGS, LEGACY], ids=["ir", "legacy"])
def test_a_comparison_that_the_optimizer_rewrites_is_read(settings):
    """It adds the negative of a constant, for one."""
    found = fallbacks("value = 77; return;", settings)
    assert {key: unnamed(found[key]) for key in ("constant hash", "subtraction")} == {
        "constant hash": ["9890220b"],
        "subtraction": ["deadbeef"],
    }


@pytest.mark.parametrize(
    "code",
    [
        "5f5456",  # PUSH0 SLOAD JUMP
        "5f3556",  # PUSH0 CALLDATALOAD JUMP
        "0c",  # an instruction of no fork that is known here
        "5f5b60010180600157",  # a counter that ends never
    ],
)
def test_code_that_cant_be_followed_says_so(code):
    assert not read_dispatch(bytes.fromhex(code)).is_complete


@pytest.mark.parametrize(
    ("code", "other", "none"),
    [
        ("", True, True),
        ("00", True, True),
        ("5f5ffd", False, False),
        ("36600657005b5f5ffd", False, True),  # CALLDATASIZE, to REVERT if not 0, STOP
        ("3615600857005b5f5ffd", True, False),  # CALLDATASIZE ISZERO, to REVERT if 0, STOP
        ("5b5f5456", False, True),  # where it goes is not known
    ],
)
def test_what_is_taken_without_a_function(code, other, none):
    dispatch = read_dispatch(bytes.fromhex(code))
    assert (dispatch.takes_other_data, dispatch.takes_no_data) == (other, none)


@pytest.mark.parametrize(
    ("code", "runs"),
    [
        ("5ff4", True),
        ("60f400", False),  # pushed data
        ("00f4", False),  # nothing leads there
        ("005bf4", True),
        ("5f57f4", True),  # after a JUMPI
        ("5f565bf4", True),  # after a JUMP, at a place to jump to
        ("600556a35bf4000004", False),  # the last six bytes are metadata
        ("600456a35bf4000004", True),  # into them
        ("600556005bf4000004", True),  # these are none: a map begins with another byte
    ],
)
def test_an_instruction_runs_that_something_leads_to(code, runs):
    """Hashes and other data may have any byte."""
    assert (DELEGATECALL in runnable_opcodes(bytes.fromhex(code))) == runs


@pytest.mark.parametrize(
    "code", [b"", b"\x5b\x5f\x56", b"\x80", b"\x63", b"\xfe", b"\x34\x60\x00\x57", bytes(range(256))]
)
def test_code_that_nobody_compiled_ends(code):
    assert read_dispatch(code).selectors == set()


@pytest.mark.slow
def test_a_loop_ends():
    """A counter, compared with the call's value: JUMPDEST PUSH1 1 ADD CALLVALUE PUSH1 2 JUMPI STOP."""
    assert read_dispatch(bytes.fromhex("5f5b600101346001575b00")).selectors == set()

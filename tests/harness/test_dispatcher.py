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
from stakesim.evm.dispatcher import dispatched_selectors, unnamed_selectors
from stakesim.evm.import_resolver import collect_sources
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


def is_exact(artifact: Artifact) -> bool:
    named = {selector_of(item) for item in artifact.abi if item["type"] == "function"}
    return dispatched_selectors(code_of(artifact)) == named


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
    value = [item for item in hidden.abi if item.get("name") == "value"]
    assert [each.hex() for each in unnamed_selectors(code_of(hidden), value)] == HIDDEN_SELECTORS
    shortened = [item for item in planted.abi if item.get("name") != "emergencyWithdraw"]
    assert [each.hex() for each in unnamed_selectors(code_of(planted), shortened)] == ["5312ea8e"]
    assert unnamed_selectors(code_of(planted), planted.abi) == []


@pytest.mark.parametrize(
    "code", [b"", b"\x5b\x5f\x56", b"\x80", b"\x63", b"\xfe", b"\x34\x60\x00\x57", bytes(range(256))]
)
def test_code_that_nobody_compiled_ends(code):
    assert dispatched_selectors(code) == set()


@pytest.mark.slow
def test_a_loop_ends():
    """A counter, compared with the call's value: JUMPDEST PUSH1 1 ADD CALLVALUE PUSH1 2 JUMPI STOP."""
    assert dispatched_selectors(bytes.fromhex("5f5b600101346001575b00")) == set()

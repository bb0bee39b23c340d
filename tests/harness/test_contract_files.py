"""A file without a usable contract gives one sentence, exit code 2 and no traceback, in every command."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace

import pytest
from stakesim.evm import compiler
from stakesim.evm.compiler import CONTRACTS, CompileError
from stakesim.evm.contract_file import load_contract

pytestmark = pytest.mark.slow

HEAD = "// SPDX-License-Identifier: MIT\npragma solidity ^0.8.30;\n"
NO_CODE = ", and an interface, or an abstract contract, can't be deployed: give a contract that has the code of all its"
NO_CONTRACT = "Stake.sol has no contract in it: give a Solidity file with one."
FILES = {
    "empty": ("", NO_CONTRACT),
    "blank": (" \n\t\n", NO_CONTRACT),
    "only comments": ("// nothing\n/* contract Stake {} */\n", NO_CONTRACT),
    "only a pragma": (HEAD, NO_CONTRACT),
    "only a struct": (HEAD + "struct Stake { uint256 wei_; }", NO_CONTRACT),
    "only an interface": (HEAD + "interface Stake { function owner() external; }", f"Stake.sol has Stake{NO_CODE}"),
    "only an abstract contract": (
        HEAD + "abstract contract Stake { function owner() public virtual returns (address); }",
        f"Stake.sol has Stake{NO_CODE}",
    ),
    "an interface and an abstract contract": (
        HEAD + "interface IStake { function owner() external; }\nabstract contract Stake is IStake {}",
        "Stake.sol has",
    ),
    "a syntax error": (HEAD + "contract Stake { function owner( }", "ParserError: Expected"),
    "an unknown name": (HEAD + "contract Stake { Wei public price; }", "DeclarationError: Identifier not found"),
    "another contract": (HEAD + "contract Stake { uint256 public price; }", "Stake can't be tested, as it lacks "),
}
FOR_EVERY_COMMAND = ("empty", "only comments", "only an interface", "only an abstract contract", "a syntax error")
"""Files that every command is tested with; the others are tested with `run`."""
COMMANDS = {
    "run": ("run", "scenarios/no-show.yaml", "--contract"),
    "gate": ("gate", "--contract"),
    "replay": ("replay", "scenarios/no-show.yaml", "--contract"),
    "fuzz": ("fuzz", "--sequences", "1", "--contract"),
    "mutate": ("mutate", "--contract"),
}


@pytest.fixture
def stakesim(run_stakesim, tmp_path):
    """The command, run in this process from the project's folder. The gate leaves the project's report alone."""

    def call(command, *arguments):
        out = ("--out", tmp_path / "out") if command == "gate" else ()
        return run_stakesim(command, *out, *arguments, cwd=CONTRACTS.parent)

    return call


def assert_fails_with(completed: subprocess.CompletedProcess[str], message: str) -> None:
    assert completed.returncode == 2
    assert completed.stderr.strip().startswith("stakesim: ")
    assert message in completed.stderr
    assert "Traceback" not in completed.stderr + completed.stdout
    if "Error: " not in message:  # the compiler's own message has the line, too
        assert len(completed.stderr.strip().splitlines()) == 1


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("command", "file"),
    [
        *(("run", file) for file in FILES),
        *((one, file) for one in COMMANDS if one != "run" for file in FOR_EVERY_COMMAND),
    ],
)
def test_file_without_a_usable_contract_is_one_sentence(stakesim, tmp_path, command, file):
    text, message = FILES[file]
    path = tmp_path / "Stake.sol"
    path.write_text(text)
    assert_fails_with(stakesim(*COMMANDS[command], str(path)), message)


@pytest.mark.parametrize("command", COMMANDS)
def test_file_that_is_not_utf_8_is_one_sentence(stakesim, tmp_path, command):
    path = tmp_path / "Stake.sol"
    path.write_bytes(b"\xff\xfe\x00")
    assert_fails_with(stakesim(*COMMANDS[command], str(path)), f"{path} is no text in UTF-8: give a Solidity file.")


@pytest.mark.parametrize("command", COMMANDS)
def test_flat_values_instead_of_a_struct_are_one_sentence(stakesim, tmp_path, command):
    """A contract whose functions have the right names, and which no view of could be decoded."""
    source = (CONTRACTS / "test" / "MinimalEventStake.sol").read_text().replace("MinimalEventStake {", "Stake {")
    struct = "(Booking memory) {\n        return _bookings[bookingId];"
    assert struct in source
    flat = (
        "(uint256, uint256, address, uint256, uint256, uint256, BookingStatus, uint256) {\n"
        "        Booking storage b = _bookings[bookingId];\n"
        "        return (b.bookingId, b.eventRunId, b.user, b.seatCount, b.totalPayment, b.userStake, b.status, 0);"
    )
    path = tmp_path / "Stake.sol"
    path.write_text(source.replace(struct, flat))
    values = "(uint256, uint256, address, uint256, uint256, uint256, uint8, uint256)"
    message = f"Stake can't be tested: getBooking returns {values} where one struct {values} must be."
    assert_fails_with(stakesim(*COMMANDS[command], str(path)), message)


def test_one_of_several_contracts_must_be_named(tmp_path):
    path = tmp_path / "Stake.sol"
    path.write_text(HEAD + "interface I {} abstract contract A {} contract B {} contract C {}")
    with pytest.raises(
        CompileError, match=r"Say which contract of Stake.sol is meant; it has Stake.sol:B, Stake.sol:C"
    ):
        load_contract(path)
    assert load_contract(f"{path}:C").name == "C"
    for name in ("I", "A"):
        with pytest.raises(CompileError, match=rf"^Stake.sol has {name}, and an interface"):
            load_contract(f"{path}:{name}")


def test_a_chosen_contract_is_compiled_alone_and_to_the_same_code(tmp_path, monkeypatch):
    monkeypatch.setenv("STAKESIM_HOME", str(tmp_path / "state"))
    path = tmp_path / "Stake.sol"
    path.write_text(HEAD + "contract B { uint256 public b; } contract C is B { uint256 public c; }")
    chosen = load_contract(f"{path}:C")
    [cached] = compiler.cache_dir().glob("*.json")
    assert list(json.loads(cached.read_text())) == ["C"]
    assert compiler.compile_sources({"Stake.sol": path.read_text()})["C"] == chosen


def test_an_interrupted_request_leaves_no_answer_for_the_next(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    with compiler.Compiler() as interrupted_compiler:
        process = interrupted_compiler._process
        assert process is not None
        monkeypatch.setattr(process, "stdout", SimpleNamespace(readline=interrupted))
        with pytest.raises(KeyboardInterrupt):
            interrupted_compiler.compile({"language": "Solidity", "sources": {}})
        assert process.poll() is not None
        monkeypatch.undo()


@pytest.mark.parametrize("abi", ['"x"', "{}", "[1]", '[{"name": "owner"}]'])
def test_artifact_without_a_valid_abi_is_an_error(tmp_path, abi):
    path = tmp_path / "Stake.json"
    path.write_text(f'{{"abi": {abi}, "bytecode": "0x6000"}}')
    with pytest.raises(CompileError, match="its `abi` is none"):
        load_contract(path)

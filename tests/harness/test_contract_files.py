"""A file that has no contract to play: one sentence, exit code 2, and no traceback, whichever command is given it."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest
from stakesim.commands import cli
from stakesim.evm.compiler import CONTRACTS, CompileError
from stakesim.evm.contract_file import load_contract

pytestmark = pytest.mark.slow

HEAD = "// SPDX-License-Identifier: MIT\npragma solidity ^0.8.30;\n"
NO_CODE = ", and an interface, or an abstract contract, can't be deployed: give a contract that has the code of all its"
NOTHING = "Stake.sol has no contract in it: give a Solidity file with one."
FILES = {
    "empty": ("", NOTHING),
    "blank": (" \n\t\n", NOTHING),
    "only comments": ("// nothing\n/* contract Stake {} */\n", NOTHING),
    "only a pragma": (HEAD, NOTHING),
    "only a struct": (HEAD + "struct Stake { uint256 wei_; }", NOTHING),
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
EACH = ("empty", "only comments", "only an interface", "only an abstract contract", "a syntax error")
"""Given to each command; the others to one of them."""
COMMANDS = {
    "run": ("run", "scenarios/no-show.yaml", "--contract"),
    "gate": ("gate", "--contract"),
    "replay": ("replay", "scenarios/no-show.yaml", "--contract"),
    "fuzz": ("fuzz", "--runs", "1", "--contract"),
    "mutate": ("mutate", "--contract", "Stake", "--source"),
}


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def stakesim(monkeypatch, capsys):
    """The command, run in this process from the project's folder."""

    def call(*args: str) -> Done:
        monkeypatch.chdir(CONTRACTS.parent)
        monkeypatch.setattr(sys, "argv", ["stakesim", *args])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return call


def assert_told(done: Done, said: str) -> None:
    assert done.returncode == 2
    assert done.stderr.strip().startswith("stakesim: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    if "Error: " not in said:  # the compiler's own message has the line, too
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "file"),
    [*(("run", file) for file in FILES), *((one, file) for one in COMMANDS if one != "run" for file in EACH)],
)
def test_what_has_no_contract_to_play_is_told(stakesim, tmp_path, command, file):
    text, said = FILES[file]
    path = tmp_path / "Stake.sol"
    path.write_text(text)
    assert_told(stakesim(*COMMANDS[command], str(path)), said)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_text_is_told(stakesim, tmp_path, command):
    path = tmp_path / "Stake.sol"
    path.write_bytes(b"\xff\xfe\x00")
    assert_told(stakesim(*COMMANDS[command], str(path)), f"{path} is no text in UTF-8: give a Solidity file.")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_flat_answer_where_a_struct_must_be_is_told(stakesim, tmp_path, command):
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
    said = f"Stake can't be tested: getBooking returns {values} where one struct {values} must be."
    assert_told(stakesim(*COMMANDS[command], str(path)), said)


def test_one_of_several_has_to_be_named(tmp_path):
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


@pytest.mark.parametrize("abi", ['"x"', "{}", "[1]", '[{"name": "owner"}]'])
def test_an_artifact_without_an_abi_is_told(tmp_path, abi):
    path = tmp_path / "Stake.json"
    path.write_text(f'{{"abi": {abi}, "bytecode": "0x6000"}}')
    with pytest.raises(CompileError, match="its `abi` is none"):
        load_contract(path)

"""Which rows of the reviewed lists are about which contract."""

from __future__ import annotations

import json

import pytest
from stakesim.gate.equivalent_mutants import EQUIVALENT, load_equivalents, not_made
from stakesim.gate.unreached import UNREACHED, load_reasons


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose lists have one row for each way to name a contract: its key is what the row says."""
    (tmp_path / "pyproject.toml").write_text('[tool.stakesim]\nreviewed = "gate"\n')
    for folder in ("gate", "src", "old"):
        (tmp_path / folder).mkdir()
    for file in ("src/Stake.sol", "old/Stake.sol", "src/Two.sol", "Root.sol", "src/Root.sol"):
        (tmp_path / file).touch()
    named = ["Stake.sol", "src/Stake.sol", "./old/Stake.sol", "src/Stake.sol:Stake", "Root.sol", "src/Root.sol"]
    named += ["Two.sol", "src/Two.sol:A", "Two.sol:B"]
    rows = [{"file": each, "unreached": each, "reason": "why", "mutant": each, "argument": "why"} for each in named]
    for name in (UNREACHED, EQUIVALENT):
        (tmp_path / "gate" / name).write_text(json.dumps(rows))
    monkeypatch.chdir(tmp_path / "src")
    return tmp_path


@pytest.mark.parametrize("load", [load_reasons, load_equivalents])
@pytest.mark.parametrize(
    ("file", "contract", "rows"),
    [
        ("src/Stake.sol", "Stake", ["Stake.sol", "src/Stake.sol", "src/Stake.sol:Stake"]),
        ("src/Stake.sol", "Other", ["Stake.sol", "src/Stake.sol"]),
        ("old/Stake.sol", "Stake", ["Stake.sol", "./old/Stake.sol"]),
        ("Root.sol", "Root", ["Root.sol"]),
        ("src/Root.sol", "Root", ["src/Root.sol"]),
        ("src/Two.sol", "A", ["Two.sol", "src/Two.sol:A"]),
        ("src/Two.sol", "B", ["Two.sol", "Two.sol:B"]),
        ("src/Two.sol", None, ["Two.sol", "src/Two.sol:A", "Two.sol:B"]),
        ("src/../old/Stake.sol", "Stake", ["Stake.sol", "./old/Stake.sol"]),
    ],
)
def test_rows_are_those_of_the_file_and_the_contract(project, load, file, contract, rows):
    assert list(load(project / file, contract)) == rows


def test_a_row_of_another_contract_of_the_file_is_not_stale(project):
    assert not_made(load_equivalents(project / "src" / "Two.sol", "A"), ["Two.sol"]) == ["src/Two.sol:A"]

"""The proofs: what they are of, whether their table is complete, and, with halmos installed, that they can fail."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from random import Random

import pytest
from stakesim.evm.compiler import CONTRACTS, SETTINGS, compile_contracts, compiler_version
from stakesim.evm.errors import EngineError
from stakesim.gate import proof_tools, proofs
from stakesim.paths import checkout

is_installed = (proof_tools.PROOFS / ".halmos" / "bin" / "halmos").exists()
needs_halmos = pytest.mark.skipif(not is_installed, reason="halmos is not installed: make -C contracts/proofs")


def test_forge_has_the_settings_of_what_is_deployed():
    import tomllib

    profile = tomllib.loads((CONTRACTS / "foundry.toml").read_text())["profile"]["default"]
    assert {
        "evmVersion": profile["evm_version"],
        "optimizer": {"enabled": profile["optimizer"], "runs": profile["optimizer_runs"]},
        "viaIR": profile["via_ir"],
        "metadata": {"bytecodeHash": profile["bytecode_hash"]},
    } == SETTINGS
    assert profile["solc"] == "./solc", f"the shim of the pinned version {compiler_version()}"


@needs_halmos
@pytest.mark.slow
def test_what_is_proved_is_what_is_deployed():
    proof_tools.build(CONTRACTS)
    built = json.loads((proof_tools.PROOFS / "out" / "EventStake.sol" / "EventStake.json").read_text())
    artifact = compile_contracts()["EventStake"]
    assert _code(built["bytecode"]["object"]) == _code(artifact.bytecode)
    assert _code(built["deployedBytecode"]["object"]) == _code(artifact.deployed_bytecode)
    assert "type" in built["storageLayout"]["storage"][0]


def _code(text: str) -> bytes:
    """Code without the hash of the metadata, which has the names of all sources of a build."""
    code = bytes.fromhex(text.removeprefix("0x"))
    return re.sub(rb"(?<=\x64ipfs\x58\x22).{34}", b"", code, flags=re.DOTALL)


@needs_halmos
@pytest.mark.slow
def test_the_slots_of_the_proofs_are_the_compilers():
    proof_tools.build(CONTRACTS)
    built = json.loads((proof_tools.PROOFS / "out" / "EventStake.sol" / "EventStake.json").read_text())
    layout = {row["label"]: (int(row["slot"]), row["offset"]) for row in built["storageLayout"]["storage"]}
    source = (proof_tools.PROOFS / "AnyState.sol").read_text()
    slots = {name: int(slot) for name, slot in re.findall(r"internal constant ([A-Z_]+) = (\d+);", source)}
    assert slots.pop("RUN") == 1  # an id
    names = {
        "OWNER": "_owner",
        "PAUSED": "_paused",
        "TOTALS": "_totals",
        "RUNS": "_runs",
        "BOOKINGS": "_bookings",
        "RUN_BOOKINGS": "_runBookings",
        "OPERATORS": "isOperator",
    }
    assert slots == {name: layout[label][0] for name, label in names.items()}
    assert layout["_paused"][1] == 20


def test_the_table_of_proofs_has_every_property():
    root = checkout()
    assert root is not None
    rows = re.findall(r"^\| `(check_\w+)` \| ([^|]+) \|", (root / "INVARIANTS.md").read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == [each.name for each in proofs.properties()]
    assert all(re.fullmatch(r"INV-\d\d(, INV-\d\d)*", invariants.strip()) for _, invariants in rows)


def test_every_property_has_a_faulty_contract_that_refutes_it():
    names = [each.name for each in proofs.properties()]
    assert len(set(names)) == len(names)
    assert {name for fault in proofs.faults() for name in fault.refutes} == set(names)


def test_every_edit_of_a_faulty_contract_fits():
    source = (CONTRACTS / "EventStake.sol").read_text()
    assert all(proofs.edited(source, fault.edits) != source for fault in proofs.faults())
    with pytest.raises(EngineError, match="occurs 0 times"):
        proofs.edited(source, [("no such text", "")])


@pytest.mark.slow
def test_a_program_whose_time_is_up_ends_with_all_that_it_has_started(monkeypatch, tmp_path):
    monkeypatch.setattr(proof_tools, "forge", lambda: tmp_path / "forge")
    command = ["sh", "-c", "trap '' TERM; sleep 60 & echo $! > child; wait"]
    with pytest.raises(subprocess.TimeoutExpired):
        proof_tools.run(command, tmp_path, limit=1)
    child = Path("/proc", (tmp_path / "child").read_text().strip(), "stat")
    for _ in range(600):  # it may take a moment to end
        if not child.exists() or child.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("what it has started goes on")


def test_what_is_not_proved_in_the_time_is_said(monkeypatch):
    """The long ones come last, each for itself; one that takes too long is no failure."""
    ran = []

    def halmos(_, options, limit=None):
        ran.append((options[1], limit))
        names = options[3].partition("(")[2].partition(")")[0].split("|")
        if limit == 0:
            raise subprocess.TimeoutExpired("halmos", limit)
        clock[0] += 100
        return [proofs.Proof(name, proofs.PROVED, 1) for name in names]

    clock = [1_000.0]
    monkeypatch.setattr(proofs, "build", lambda *_: None)
    monkeypatch.setattr(proofs, "_halmos", halmos)
    monkeypatch.setattr(proofs.time, "monotonic", lambda: clock[0])
    assert {proof.verdict for proof in proofs.prove(long=True)} == {proofs.PROVED}
    contracts = [contract for contract, _ in ran]
    assert [contract.startswith("^Long") for contract in contracts] == [False] * 4 + [True] * 5
    ran.clear()
    proved = [*proofs.prove(long=True, seconds=500)]
    assert [limit for _, limit in ran] == [500, 400, 300, 200, 100, 0]
    assert [proof.name for proof in proved] == [name for _, names in proofs._batches(long=True) for name in names]
    assert [proof.verdict for proof in proved[-5:]] == [proofs.PROVED, *[proofs.TIME_WAS_UP] * 4]


@needs_halmos
@pytest.mark.slow
def test_halmos_proves_every_property():
    assert [proof for proof in proofs.prove() if not proof.ok] == []


@needs_halmos
@pytest.mark.slow
def test_halmos_refutes_properties_of_a_faulty_contract():
    """One drawn anew each time; `stakesim opinions --refute` tries all."""
    long = {each.name for each in proofs.properties() if each.is_long}
    fault = Random().choice([fault for fault in proofs.faults() if not long & set(fault.refutes)])
    assert {proof.verdict for proof in proofs.refute(fault)} == {proofs.REFUTED}, fault.name

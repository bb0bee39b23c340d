"""slither and halmos, if they are installed (`make -C contracts/proofs`), and the triage of findings."""

from __future__ import annotations

import json

import pytest
from stakesim.evm.errors import EngineError
from stakesim.gate import static_analysis


def needs(name: str) -> pytest.MarkDecorator:
    is_installed = (static_analysis.PROOFS / f".{name}" / "bin" / name).exists()
    return pytest.mark.skipif(not is_installed, reason=f"{name} is not installed: make -C contracts/proofs")


def test_the_key_of_a_finding_has_no_line_number():
    detected = {
        "check": "timestamp",
        "description": "EventStake.cancelEvent(uint256) (EventStake.sol#168-182) uses timestamp for comparisons\n\t...",
    }
    assert static_analysis.finding_key(detected) == "timestamp: EventStake.cancelEvent(uint256)"
    named = {"check": "naming", "description": "Variable EventStake.FEE_BPS (EventStake.sol#48) is not in mixedCase"}
    assert static_analysis.finding_key(named) == "naming: EventStake.FEE_BPS"


def test_new_findings_and_outdated_triage_are_problems():
    assert static_analysis.triage_problems(["a: X", "b: Y"], ["b: Y", "c: Z"]) == [
        "slither finds a: X: fix it, or give the reason why not in slither_triage.json",
        "slither no longer finds c: Z: remove it from slither_triage.json",
    ]


def test_every_triaged_finding_has_a_reason():
    rows = json.loads(static_analysis.TRIAGE.read_text())
    assert len({row["finding"] for row in rows}) == len(rows)
    assert all(len(row["reason"]) > 20 for row in rows)


def test_a_missing_tool_is_reported_with_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(static_analysis, "PROOFS", tmp_path)
    with pytest.raises(EngineError, match=r"slither is missing: install it with `make -C contracts/proofs`\."):
        static_analysis.slither()


@needs("slither")
@pytest.mark.slow
def test_slither_finds_nothing_new():
    assert static_analysis.slither().problems == []


@needs("halmos")
@pytest.mark.slow
def test_halmos_proves_every_property():
    report = static_analysis.halmos()
    assert report.problems == []
    assert report.figures["proved"] == report.figures["properties"] >= 8

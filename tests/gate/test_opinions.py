"""What slither and halmos say, where they are installed (`make -C contracts/proofs`); and what is made of it."""

from __future__ import annotations

import json

import pytest
from stakesim.evm.errors import EngineError
from stakesim.gate import static_analysis


def needs(name: str) -> pytest.MarkDecorator:
    there = (static_analysis.PROOFS / f".{name}" / "bin" / name).exists()
    return pytest.mark.skipif(not there, reason=f"{name} is not installed: make -C contracts/proofs")


def test_a_finding_is_called_by_what_and_where_not_by_its_line():
    detected = {
        "check": "timestamp",
        "description": "EventStake.cancelEvent(uint256) (EventStake.sol#168-182) uses timestamp for comparisons\n\t...",
    }
    assert static_analysis.finding_key(detected) == "timestamp: EventStake.cancelEvent(uint256)"
    named = {"check": "naming", "description": "Variable EventStake.FEE_BPS (EventStake.sol#48) is not in mixedCase"}
    assert static_analysis.finding_key(named) == "naming: EventStake.FEE_BPS"


def test_what_nobody_looked_at_and_what_is_gone_are_problems():
    assert static_analysis.triage_problems(["a: X", "b: Y"], ["b: Y", "c: Z"]) == [
        "slither finds a: X: fix it, or give the reason why not in slither_triage.json",
        "slither no longer finds c: Z: remove it from slither_triage.json",
    ]


def test_every_triaged_finding_has_a_reason():
    rows = json.loads(static_analysis.TRIAGE.read_text())
    assert len({row["finding"] for row in rows}) == len(rows)
    assert all(len(row["reason"]) > 20 for row in rows)


def test_what_is_missing_is_said_with_what_to_do(monkeypatch, tmp_path):
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
    opinion = static_analysis.halmos()
    assert opinion.problems == []
    assert opinion.figures["proved"] == opinion.figures["properties"] >= 8

"""slither, if it is installed (`make -C contracts/proofs`), and the triage of its findings."""

from __future__ import annotations

import json

import pytest
from stakesim.evm.errors import EngineError
from stakesim.gate import proof_tools, static_analysis

needs_slither = pytest.mark.skipif(
    not (proof_tools.PROOFS / ".slither" / "bin" / "slither").exists(),
    reason="slither is not installed: make -C contracts/proofs",
)


def test_the_key_of_a_finding_has_no_line_number():
    detected = {
        "check": "timestamp",
        "description": "EventStake.cancelEvent(uint256) (EventStake.sol#168-182) uses timestamp for comparisons\n\t...",
    }
    assert static_analysis.finding_key(detected) == "timestamp: EventStake.cancelEvent(uint256)"
    named = {"check": "naming", "description": "Variable EventStake.FEE_BPS (EventStake.sol#48) is not in mixedCase"}
    assert static_analysis.finding_key(named) == "naming: EventStake.FEE_BPS"


def test_the_key_of_a_reentrancy_has_what_is_written_after_the_call():
    description = """Reentrancy in A.f() (A.sol#5-9):
	External calls:
	- (paid,None) = to.call{value: amount}() (A.sol#6)
	State variables written after the call(s):
	- g(amount) (A.sol#8)
		- total -= uint96(amount) (A.sol#12)
	A.total (A.sol#2) can be used in cross function reentrancies:
	- A.h() (A.sol#20)"""
    key = static_analysis.finding_key({"check": "reentrancy-eth", "description": description})
    assert key == "reentrancy-eth: A.f(), total -= uint96(amount)"


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
    monkeypatch.setattr(proof_tools, "PROOFS", tmp_path)
    with pytest.raises(EngineError, match=r"slither is missing: install it with `make -C contracts/proofs`\."):
        static_analysis.slither()


@needs_slither
@pytest.mark.slow
def test_slither_finds_nothing_new():
    assert static_analysis.slither().problems == []


GUARDED = "function completeEvent(uint256 eventRunId, uint256[] calldata attendedBookingIds) external nonReentrant {"
RELEASE = "        _release(refunds + stake);\n        run.status = RunStatus.Cancelled;"
REFUND = "        _refundAll(run, active, 0);\n"
FEES = """        platformBalance = 0;
        emit PlatformFeesWithdrawn(msg.sender, amount);

        _send(msg.sender, amount);"""
CANCELLED = "        run.status = RunStatus.Cancelled;\n"
COMPLETED = "        run.status = RunStatus.Completed;\n"
HOST_IS_PAID = "        _push(run.host, stake);\n"
HOST_EARNS = "        _push(run.host, hostPayout + stake);\n"


@needs_slither
@pytest.mark.slow
@pytest.mark.parametrize(
    ("edits", "finding"),
    [
        ([(GUARDED, GUARDED.replace(" nonReentrant", ""))], "reentrancy-events: EventStake.completeEvent("),
        (
            [(RELEASE, RELEASE.splitlines()[1]), (REFUND, f"{REFUND}        _release(refunds + stake);\n")],
            "_totals.escrow = uint96(_totals.escrow - amount)",
        ),
        ([(FEES, "        _send(msg.sender, amount);\n        platformBalance = 0;")], "platformBalance = 0"),
        (
            [
                (RELEASE, RELEASE.splitlines()[0]),
                (f"{REFUND}{HOST_IS_PAID}", f"{REFUND}{HOST_IS_PAID}{CANCELLED}"),
            ],
            "run.status = RunStatus.Cancelled",
        ),
        ([(COMPLETED, ""), (HOST_EARNS, HOST_EARNS + COMPLETED)], "run.status = RunStatus.Completed"),
    ],
    ids=[
        "no guard",
        "escrow released after refunds",
        "fees cleared after they are sent",
        "cancelled after refunds",
        "completed after payouts",
    ],
)
def test_slither_finds_a_removed_guard_and_late_effects(edits, finding):
    triaged = [row["finding"] for row in json.loads(static_analysis.TRIAGE.read_text())]
    problems = static_analysis.triage_problems(static_analysis.slither_findings(edits), triaged)
    assert any(finding in problem and "slither finds" in problem for problem in problems)

"""slither, if it is installed (`make -C contracts/proofs`), and the triage of its findings."""

from __future__ import annotations

import json
import tempfile
from random import Random

import pytest
from stakesim.evm.compiler import CONTRACTS
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
	- (seats,active) = (seats - 1,active - 1) (A.sol#9)
	A.total (A.sol#2) can be used in cross function reentrancies:
	- A.h() (A.sol#20)"""
    key = static_analysis.finding_key({"check": "reentrancy-eth", "description": description})
    assert key == "reentrancy-eth: A.f(), (seats,active) = (seats - 1,active - 1), total -= uint96(amount)"


def test_new_findings_and_outdated_triage_are_problems():
    assert static_analysis.triage_problems(["a: X", "b: Y"], ["b: Y", "c: Z"]) == [
        "slither finds a: X: fix it, or give the reason why not in slither_triage.json",
        "slither no longer finds c: Z: remove it from slither_triage.json",
    ]


def test_another_place_of_a_reviewed_finding_is_a_problem():
    more, fewer = static_analysis.triage_problems(["a: X"] * 3 + ["b: Y"], ["a: X", "a: X", "b: Y", "b: Y"])
    assert more.startswith("slither finds a: X in 3 places, of which 2 are reviewed: fix what is new")
    assert '"places": 1 in slither_triage.json' in fewer


def detected(*elements):
    """A finding of slither about elements: type and file."""
    return {"elements": [{"type": what, "source_mapping": {"filename_relative": file}} for what, file in elements]}


def test_places_of_a_finding_are_its_statements():
    node, function = ("node", "EventStake.sol"), ("function", "EventStake.sol")
    assert static_analysis.places(detected(function, node, node)) == 2
    assert static_analysis.places(detected(function)) == 1
    assert static_analysis.places({"elements": []}) == 1


@pytest.mark.parametrize(
    ("files", "excluded"),
    [
        (["EventStake.sol"], False),
        (["latest/EventStake.sol"], False),
        (["contest/test.sol"], False),
        (["test/Probe.sol"], True),
        (["proofs/AnyState.sol", "node_modules/a/b.sol"], True),
        (["node_modules/a/b.sol", "EventStake.sol"], False),
        ([], False),
    ],
)
def test_what_is_in_no_file_of_the_contract_is_left_out(files, excluded):
    assert static_analysis.is_excluded(detected(*(("node", file) for file in files))) is excluded


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


@needs_slither
@pytest.mark.slow
def test_neither_a_comment_nor_another_finding_nor_a_path_silences_one(monkeypatch, tmp_path):
    folder = tmp_path / "latest"  # which has "test" in it
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    signature = "function _send(address to, uint256 amount) private {"
    condition = "uint256 deadline = run.start + COMPLETION_GRACE;"
    problems = problems_with(
        [
            (
                signature,
                f"{signature}\n// slither-disable-next-line assembly,low-level-calls\n"
                "assembly { if eq(caller(), 0xbEEF) { pop(call(gas(), caller(), selfbalance(), 0, 0, 0, 0)) } }",
            ),
            (condition, f"if (block.timestamp > run.start + 6 days) revert NothingToWithdraw();\n{condition}"),
            ("contract EventStake is", "// slither-disable-start timestamp\ncontract EventStake is"),
        ]
    )
    assert [each.partition(": fix")[0] for each in problems] == [
        "slither finds assembly: EventStake._send(address,uint256)",
        "slither finds timestamp: EventStake.completeEvent(uint256,uint256[]) in 3 places, of which 2 are reviewed",
    ]


GUARDED = (
    "function completeEvent(uint256 eventRunId, uint256[] calldata attendedBookingIds) external nonReentrant {",
    "function cancelEvent(uint256 eventRunId) external nonReentrant {",
    "function cancelBooking(uint256 bookingId) external nonReentrant {",
    "function expireEvent(uint256 eventRunId) external nonReentrant {",
)
"""Of functions that do something after a payment. That withdrawals have a guard is proved, and tested."""
# By function: statements, its last payment, behind which they are moved, and what slither then says is written there.
LATE = {
    "completeEvent(uint256,uint256[])": (
        ["run.status = RunStatus.Completed;"],
        "_push(run.host, hostPayout + stake);",
        ["run.status = RunStatus.Completed"],
    ),
    "cancelEvent(uint256)": (
        ["_release(refunds + stake);"],
        "_refundAll(run, active, 0);\n        _push(run.host, stake);",
        ["_totals.escrow = uint96(_totals.escrow - amount)"],
    ),
    "cancelBooking(uint256)": (
        [
            "(run.seatsBooked, run.activeBookings) = (run.seatsBooked - booking.seats, active - 1);",
            "booking.status = BookingStatus.Cancelled;\n        _deactivate(_runBookings[booking.eventRunId], active, "
            "uint32(bookingId)); // exists",
        ],
        "_push(user, refund);",
        ["(run.seatsBooked,run.activeBookings) = (run.seats", "booking.status = BookingStatus.Cancelled"],
    ),
    "expireEvent(uint256)": (
        ["platformBalance += toPlatform;", "run.status = RunStatus.Expired;"],
        "else _refundAll(run, active, stake);",
        ["platformBalance += toPlatform", "run.status = RunStatus.Expired"],
    ),
    "withdrawTo(address)": (["creditOf[msg.sender] = 0;"], "_send(to, amount);", ["creditOf[msg.sender] = 0"]),
    "withdrawPlatformFees()": (["platformBalance = 0;"], "_send(msg.sender, amount);", ["platformBalance = 0"]),
}


def late(function, statements, payment):
    """A function, and the same with statements behind its last payment."""
    source = (CONTRACTS / "EventStake.sol").read_text()
    start = source.index(f"function {function.partition('(')[0]}(")
    text = source[start : source.index("\n    }\n", start)]
    changed = text
    for statement in statements:
        assert changed.count(f"        {statement}") == 1, statement
        changed = changed.replace(f"        {statement}", "")
    assert changed.count(payment) == 1, payment
    return text, changed.replace(payment, "\n        ".join((payment, *statements)))


def problems_with(edits):
    return static_analysis.triage_problems(static_analysis.slither_findings(edits), static_analysis.triaged_findings())


@needs_slither
@pytest.mark.slow
def test_slither_finds_every_late_effect():
    edits = [late(function, statements, payment) for function, (statements, payment, _) in LATE.items()]
    problems = problems_with(edits)
    for function, (_, _, written) in LATE.items():
        for effect in written:
            assert any(f"EventStake.{function}, " in each and effect in each for each in problems), (function, effect)


@needs_slither
@pytest.mark.slow
def test_slither_finds_a_removed_guard():
    """One drawn anew each time."""
    guarded = Random().choice(GUARDED)
    problems = problems_with([(guarded, guarded.replace(" nonReentrant", ""))])
    assert any("slither finds reentrancy" in each for each in problems), guarded

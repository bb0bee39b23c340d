"""No interleaving of workers, a reconciler, a chain and a node that lies books twice, or leaves an operation standing.

`explorer.py` says what an exploration is. Each test visits every state that can be reached from one beginning within a
budget, and prints how many these are. `test_old_bugs.py` shows that an exploration finds bugs.
"""

from __future__ import annotations

import sys

import pytest
from sqlalchemy import Connection

from .conftest import BEGINNINGS, RECONCILER, operator, worker
from .explorer import Exploration
from .process import Process

SIGNED_FAULTS = ("lost request", "lost answer", "false acceptance", "false refusal")
"""Faults of sending."""
SUBMITTED_FAULTS = (
    "foreign transaction",
    "reorganisation",
    "mempool dropped",
    "reverted",
    "out of gas",
    "lagging node",
    "count too low",
    "count too high",
    "no receipt",
    "receipt of another",
    "database gone",
    "crash",
)
MINING_FAULTS = ("foreign transaction", "reverted", "out of gas")
"""Faults that are a block of their own."""
OPERATORS_FAULTS = (*SIGNED_FAULTS, "foreign transaction", "reorganisation", "out of gas", "database gone", "crash")
"""Faults that may come between what an operator does."""
FAULTS = [*(("signed", fault) for fault in SIGNED_FAULTS), *(("submitted", fault) for fault in SUBMITTED_FAULTS)]


def explore(
    connection: Connection,
    profile: str,
    beginning: str,
    processes: list[Process],
    budget: dict[str, int],
    reaches: str | None = "confirmed",
) -> Exploration:
    """Explores with this budget; in the deep profile with one more of each kind of event.

    Args:
        connection: To the exploration's database.
        profile: Profile of the tests.
        beginning: One of `BEGINNINGS`.
        processes: What is interleaved.
        budget: As `Exploration`.
        reaches: State that an operation must have in some states that are explored; None for any.
    """
    if profile == "deep":
        budget = {event: number + 1 for event, number in budget.items()}
    exploration = Exploration(connection, processes, budget, BEGINNINGS[beginning])
    exploration.explore()
    sys.stdout.write(f"{beginning}, {budget}: {exploration.summary}\n")
    assert reaches is None or exploration.reached[reaches]
    return exploration


@pytest.mark.slow
@pytest.mark.sampled(6)
@pytest.mark.parametrize("beginning", ["prepared", "signed", "submitted", "mined"])
def test_two_workers_and_a_reconciler(connection: Connection, profile: str, beginning: str) -> None:
    processes = [worker(1), worker(1, raises_fees=True), RECONCILER]
    blocks = 1 if beginning in ("prepared", "signed") else 2
    exploration = explore(connection, profile, beginning, processes, {"block": blocks, "round": 1})
    assert len(exploration.interleavings) > 300


@pytest.mark.slow
@pytest.mark.sampled(6)
@pytest.mark.parametrize("beginning", ["prepared", "signed", "submitted", "mined"])
def test_two_workers_interrupt_each_other(connection: Connection, profile: str, beginning: str) -> None:
    processes = [worker(1), worker(1, raises_fees=True)]
    exploration = explore(connection, profile, beginning, processes, {"block": 2, "interruption": 2})
    assert len(exploration.interleavings) > 500


@pytest.mark.in_turn
@pytest.mark.slow
def test_a_worker_and_a_reconciler_interrupt_each_other(connection: Connection, profile: str) -> None:
    processes = [worker(1, raises_fees=True), RECONCILER]
    budget = {"block": 2, "interruption": 2, "round": 1}
    exploration = explore(connection, profile, "submitted", processes, budget)
    assert len(exploration.interleavings) > 3_000


@pytest.mark.slow
@pytest.mark.sampled(5)
@pytest.mark.parametrize(("beginning", "fault"), FAULTS)
def test_a_fault_meets_a_worker_and_a_reconciler(
    connection: Connection, profile: str, beginning: str, fault: str
) -> None:
    processes = [worker(1, raises_fees=True), RECONCILER]
    blocks = 1 if beginning == "signed" or fault in MINING_FAULTS else 2
    explore(connection, profile, beginning, processes, {"block": blocks, "round": 1, fault: 1})


@pytest.mark.slow
@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("command", "beginning"), [*(("cancel", each) for each in ("prepared", "signed", "submitted")), ("retry", "signed")]
)
def test_an_operator_meets_a_worker(connection: Connection, profile: str, command: str, beginning: str) -> None:
    """The worker raises fees. Each of them interrupts the other."""
    processes = [worker(1, raises_fees=True), operator(command)]
    explore(connection, profile, beginning, processes, {"block": 1, "interruption": 1}, None)


@pytest.mark.slow
@pytest.mark.sampled(6)
@pytest.mark.parametrize("fault", OPERATORS_FAULTS)
def test_a_fault_meets_an_operator_who_cancels(connection: Connection, profile: str, fault: str) -> None:
    processes = [operator("cancel"), worker(1)]
    explore(connection, profile, "submitted", processes, {"block": 1, fault: 1}, None)


@pytest.mark.slow
def test_two_operators_cancel_at_once(connection: Connection, profile: str) -> None:
    processes = [operator("cancel"), operator("cancel")]
    explore(connection, profile, "submitted", processes, {"block": 1, "interruption": 1}, None)


@pytest.mark.slow
@pytest.mark.sampled(6)
@pytest.mark.parametrize("fault", ["foreign transaction", "reorganisation", "mempool dropped", "crash"])
def test_a_fault_meets_an_operator_who_abandons(connection: Connection, profile: str, fault: str) -> None:
    """The sender's key is not there any more; a process from before has it, and raises fees."""
    processes = [operator("abandon", has_key=False), worker(1, raises_fees=True)]
    explore(connection, profile, "submitted", processes, {"block": 1, "interruption": 1, fault: 1}, None)


@pytest.mark.slow
def test_one_stale_answer_does_not_confirm_what_was_dropped(connection: Connection, profile: str) -> None:
    """A node that has not seen the reorganisation yet gives one answer."""
    budget = {"block": 3, "reorganisation": 1, "node on a dropped branch": 1}
    explore(connection, profile, "submitted", [worker(2)], budget)


@pytest.mark.slow
@pytest.mark.sampled(6)
@pytest.mark.parametrize("beginning", ["mined", "followed"])
def test_a_deep_reorganisation_meets_a_reconciler(connection: Connection, profile: str, beginning: str) -> None:
    """Deeper than the confirmations, not deeper than the network's finalized block."""
    explore(connection, profile, beginning, [RECONCILER], {"block": 1, "round": 1, "deep reorganisation": 1})


@pytest.mark.slow
@pytest.mark.sampled(6)
@pytest.mark.parametrize("beginning", ["prepared", "signed", "submitted"])
def test_the_database_loses_its_last_commits(connection: Connection, profile: str, beginning: str) -> None:
    """The last one or two; all processes start anew."""
    processes = [worker(2), RECONCILER]
    explore(connection, profile, beginning, processes, {"block": 1, "round": 1, "lost commits": 1})


@pytest.mark.slow
@pytest.mark.sampled(6)
@pytest.mark.parametrize("fault", ["foreign transaction", "reorganisation", "lagging node"])
def test_a_fault_meets_two_workers(connection: Connection, profile: str, fault: str) -> None:
    processes = [worker(2), worker(1, raises_fees=True)]
    explore(connection, profile, "submitted", processes, {"block": 3, "interruption": 1, fault: 1})


@pytest.mark.slow
@pytest.mark.sampled(6)
@pytest.mark.parametrize("fault", ["count too high", "count too low", "crash"])
def test_a_fault_meets_workers_that_sign(connection: Connection, profile: str, fault: str) -> None:
    processes = [worker(1), worker(1, key="b")]
    explore(connection, profile, "prepared", processes, {"block": 1, "interruption": 1, fault: 1})

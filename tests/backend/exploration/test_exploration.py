"""No interleaving of two workers and a chain books twice, loses an operation, or concludes something too early.

`explorer.py` says what an exploration is. Each test visits every state that can be reached from one beginning within a
budget; the tests of old bugs put one back, and show that the exploration finds it.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple

import pytest
from app.db.database import create_database, drop_database
from app.db.embedded import default_data_dir, start_embedded
from app.db.migrations import migrate
from app.services import operations
from app.services.transactions import conclusions, nonces, receipts, sender, signer, unmined
from sqlalchemy import Connection

from .explorer import Exploration, Violation, Worker

FIRST = Worker("a", ("load", "step", "step"))
"""Brings an operation from prepared to submitted."""
BEGINNINGS = {
    "prepared": (),
    "signed": ((Worker("a", ("load", "step")), ()),),
    "submitted": ((FIRST, ()),),
    "mined": ((FIRST, ("mine",)),),
}
FAULTS = ("foreign transaction", "reorganisation", "mempool dropped", "lagging node", "lost request", "lost answer")


def worker(steps: int, *, raises_fees: bool = False, key: str = "a") -> Worker:
    return Worker(key, ("load", *["step"] * steps), raises_fees)


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    """A migrated database that commits each statement."""
    server, name = start_embedded(default_data_dir()), f"test_exploration_{os.getpid()}"
    database = create_database(server, name)
    migrate(database)
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection
    database.dispose()
    drop_database(server, name)


def explore(connection: Connection, beginning: str, first: int, second: int, budget: dict[str, int]) -> Exploration:
    """Explores two workers that take so many steps with one operation. The second one raises fees."""
    workers = [worker(first), worker(second, raises_fees=True)]
    exploration = Exploration(connection, workers, budget, BEGINNINGS[beginning])
    exploration.explore()
    return exploration


@pytest.mark.slow
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_two_workers_carry_out_one_operation(connection: Connection, beginning: str) -> None:
    exploration = explore(connection, beginning, 1, 1, {"block": 3, "interruption": 2})
    assert exploration.reached["confirmed"]
    assert len(exploration.visited) > 500


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("beginning", ["signed", "submitted", "mined"])
def test_a_fault_meets_two_workers(connection: Connection, beginning: str, fault: str) -> None:
    exploration = explore(connection, beginning, 2, 1, {"block": 3, fault: 1})
    assert exploration.reached["confirmed"]


@pytest.mark.slow
def test_two_operations_take_different_nonces(connection: Connection) -> None:
    workers = [worker(2), worker(2, key="b")]
    exploration = Exploration(connection, workers, {"block": 2, "interruption": 1})
    exploration.explore()
    assert exploration.reached["confirmed"]


# ------------------------------------------------------------------------------------------- old bugs, put back


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    """An exploration logs what happens in thousands of states."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


Change = tuple[ModuleType, str, str]
"""In this module, this piece of the source becomes that one."""


_LAST = (signer, unmined, sender)
"""Modules that import names from those that are changed, in the order in which they import from each other."""


@contextmanager
def put_back(changes: Sequence[Change]) -> Iterator[None]:
    """Runs with changed sources."""
    changed = [module for module, *_ in changes if module not in _LAST]
    sources = {module: inspect.getsource(module) for module in (*changed, *_LAST)}
    for module, right, wrong in changes:
        assert right in sources[module], f"{module.__name__} has no {right!r} any more"
        sources[module] = sources[module].replace(right, wrong)
    before = {module: dict(vars(module)) for module in sources}
    for module, source in sources.items():
        exec(compile(source, str(module.__file__), "exec"), vars(module))
    yield
    for module, names in before.items():
        vars(module).clear()
        vars(module).update(names)


class OldBug(NamedTuple):
    """What brings a bug back, and the smallest exploration that is known to find it."""

    changes: Sequence[Change]
    beginning: str
    steps: tuple[int, int]
    budget: dict[str, int]


OLD_BUGS = {
    "a copy with fewer attempts takes the newer one for foreign": OldBug(
        [
            (operations, "type_=BigInteger)), _ALL_ATTEMPTS_SEEN)", "type_=BigInteger)))"),
            (conclusions, "current = states.reload(database, operation)", "current = operation"),
        ],
        "submitted",
        (1, 2),
        {"block": 2},
    ),
    "two workers sign one operation": OldBug(
        [
            (operations, '_o.state == "prepared", _ALL_ATTEMPTS_SEEN)', "_o.state != 'confirmed')"),
            (nonces, 'if current.state != "prepared" or next_nonce is None', "if next_nonce is None"),
        ],
        "prepared",
        (1, 1),
        {"interruption": 1},
    ),
    "a transaction is final at once": OldBug(
        [(receipts, "if policy.final_block(head.number(policy.head_max_age)) < receipt.block_number:", "if False:")],
        "submitted",
        (1, 1),
        {"block": 1},
    ),
    "a nonce is given up before the foreign transaction that has it is final": OldBug(
        [(unmined, "policy.final_block(rpc.block_number(self._w3))", "rpc.block_number(self._w3)")],
        "submitted",
        (1, 1),
        {"foreign transaction": 1},
    ),
    "nonce too low means that another transaction has it": OldBug(
        [
            (
                conclusions,
                "if foreign is None:\n        return operation",
                "if foreign is None:\n        return NoEffect(operation, UsedNonce('', 10**9))",
            )
        ],
        "submitted",
        (1, 1),
        {"block": 1, "lagging node": 1},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("bug", OLD_BUGS)
def test_an_old_bug_is_found(connection: Connection, bug: str) -> None:
    changes, beginning, steps, budget = OLD_BUGS[bug]
    explore(connection, beginning, *steps, budget)
    with put_back(changes), pytest.raises(Violation):
        explore(connection, beginning, *steps, budget)

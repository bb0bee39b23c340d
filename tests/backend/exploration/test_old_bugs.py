"""An exploration finds bugs: each test puts one back into the backend's source, and sees it fail within seconds."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Connection

from .conftest import BEGINNINGS, RECONCILER, operator, worker
from .explorer import Exploration
from .invariants import Violation
from .process import Process

Change = tuple[str, str, str]
"""In this module of `app.services`, this piece of the source becomes that one."""


class _ChangedModules:
    """Finds modules of `app.services`, and changes the sources of some."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self._changes = changes

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        of_module = [change for change in self._changes if f"app.services.{change[0]}" == name]
        spec = PathFinder.find_spec(name, path, target) if of_module else None
        if spec is not None and spec.origin is not None:
            spec.loader = _ChangingLoader(name, spec.origin, of_module)
        return spec


class _ChangingLoader(SourceFileLoader):
    def __init__(self, name: str, path: str, changes: Sequence[Change]) -> None:
        super().__init__(name, path)
        self._changes = changes

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_source(fullname) or ""
        for name, right, wrong in self._changes:
            assert right in source, f"app.services.{name} has no {right!r} any more"
            source = source.replace(right, wrong)
        return compile(source, self.path, "exec")


@contextmanager
def put_back(changes: Sequence[Change]) -> Iterator[None]:
    """Runs with all of `app.services` imported anew, some of it from changed sources."""
    app = importlib.import_module("app")
    before = {name: module for name, module in sys.modules.items() if f"{name}.".startswith("app.services.")}
    finder = _ChangedModules(changes)
    for name in before:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
    try:
        for name in sorted(before):
            importlib.import_module(name)
        yield
    finally:
        sys.meta_path.remove(finder)  # type: ignore[arg-type]
        for name in [name for name in sys.modules if f"{name}.".startswith("app.services.")]:
            del sys.modules[name]
        sys.modules.update(before)
        app.services = before["app.services"]  # type: ignore[attr-defined]


class OldBug(NamedTuple):
    """What brings a bug back, the smallest exploration that is known to find it, and what that says."""

    changes: Sequence[Change]
    beginning: str
    processes: Sequence[Process]
    budget: dict[str, int]
    says: str


_TWO = (worker(1), worker(1, raises_fees=True))
_FEWER_ATTEMPTS_ALLOWED: Change = (
    "operations",
    'bindparam("of_nonce")), ALL_ATTEMPTS_SEEN)',
    'bindparam("of_nonce")))',
)

OLD_BUGS = {
    "a copy with fewer attempts takes the newer one for foreign": OldBug(
        [
            _FEWER_ATTEMPTS_ALLOWED,
            ("transactions.conclusions", "current = states.reload(database, operation)", "current = operation"),
            ("transactions.conclusions", "own = _take_over(database, current, foreign)", "own = None"),
        ],
        "submitted",
        (worker(1), worker(2, raises_fees=True)),
        {"block": 2, "interruption": 1},
        "left nonce 0",
    ),
    "two workers sign one operation": OldBug(
        [
            ("nonce_queries", '_o.state == "prepared", ALL_ATTEMPTS_SEEN)', "_o.state != 'confirmed')"),
            ("transactions.nonces", 'if current.state != "prepared" or next_nonce is None', "if next_nonce is None"),
        ],
        "prepared",
        _TWO,
        {"interruption": 1},
        "left nonce 0",
    ),
    "a transaction is final at once": OldBug(
        [
            (
                "transactions.receipts",
                "if latest_block is None or policy.final_block(latest_block) < receipt.block_number:",
                "if False:",
            )
        ],
        "submitted",
        _TWO,
        {"block": 1},
        "no final effect",
    ),
    "a nonce is given up before the foreign transaction that has it is final": OldBug(
        [("transactions.unmined", "policy.final_block(rpc.block_number(self._w3))", "rpc.block_number(self._w3)")],
        "submitted",
        _TWO,
        {"foreign transaction": 1},
        "left nonce 0",
    ),
    "nonce too low means that another transaction has it": OldBug(
        [
            (
                "transactions.conclusions",
                "if foreign is None:\n        return operation",
                "if foreign is None:\n        return NoEffect(operation, UsedNonce('', 10**9))",
            )
        ],
        "submitted",
        _TWO,
        {"block": 1, "lagging node": 1},
        "left nonce 0",
    ),
    "a nonce is taken because a node counts too high": OldBug(
        [("transactions.nonces", "count = min(count, rpc.transaction_count(self._w3, sender, final_block))", "pass")],
        "prepared",
        _TWO,
        {"count too high": 1},
        "have a gap",
    ),
    "a receipt that says reverted counts as success": OldBug(
        [("transactions.sender", "if not receipt.succeeded:", "if False:")],
        "submitted",
        _TWO,
        {"block": 2, "reverted": 1},
        "no final effect",
    ),
    "a receipt that says reverted counts as none": OldBug(
        [("transactions.receipts", "if has_effect or (receipt is not None and", "if has_effect or (False and")],
        "submitted",
        _TWO,
        {"block": 2, "reverted": 1},
        "stands still",
    ),
    "a deep reorganisation is not noticed": OldBug(
        [("reconciler", "reopened = self._finality.undo_reorganised(head)", "reopened = None")],
        "followed",
        (RECONCILER,),
        {"round": 1, "deep reorganisation": 1},
        "no final effect",
    ),
    "a receipt is read before the head": OldBug(
        [
            (
                "transactions.receipts",
                "if latest_block is None or policy",
                "latest_block = rpc.block_number(w3)\n    if policy",
            )
        ],
        "submitted",
        (worker(2),),
        {"block": 3, "reorganisation": 1, "node on a dropped branch": 1},
        "no final effect",
    ),
    "what was cancelled starts over": OldBug(
        [("transactions.unmined", "is_wanted = not operation.given_up and", "is_wanted =")],
        "submitted",
        (operator("cancel"),),
        {"foreign transaction": 1},
        "was given up, and started over",
    ),
    "what was cancelled starts over after it ran out of gas": OldBug(
        [("transactions.unmined", "operation.requeued == 0 and not operation.given_up", "operation.requeued == 0")],
        "submitted",
        (operator("cancel"),),
        {"out of gas": 1},
        "was given up, and started over",
    ),
    "an abandoned operation is not looked for": OldBug(
        [
            (
                "transactions.sender",
                "receipt = self._mempool.receipt(operation)",
                "receipt = None if operation.abandoned_at else self._mempool.receipt(operation)",
            )
        ],
        "submitted",
        (operator("abandon", has_key=False),),
        {"block": 1},
        "stands still",
    ),
    "an abandoned operation fails at once": OldBug(
        [
            (
                "interventions",
                "if self._set_abandoned(operation, func.clock_timestamp()) is None:",
                "if states._close_without_effect(self._database, operation, (operation.state,), "
                'Cancelled(""), state="failed") is None:',
            )
        ],
        "submitted",
        (operator("abandon", has_key=False),),
        {"block": 1},
        "has failed, and its transaction may be mined yet",
    ),
    "a replacement is sent before it is stored": OldBug(
        [
            (
                "transactions.signer",
                "        error = error or TransactionRefused(message)\n",
                "        error = error or TransactionRefused(message)\n"
                "        rpc.send_raw(self._w3, make(operation.attempts[-1]).raw_transaction)\n",
            )
        ],
        "submitted",
        (operator("cancel"),),
        {"block": 1},
        "sent before it was stored",
    ),
    "a transaction without receipt is never sent again": OldBug(
        [("transactions.unmined", 'resent = operation.state == "submitted" and due.resend', "resent = False")],
        "submitted",
        (RECONCILER,),
        {"mempool dropped": 1},
        "stands still",
    ),
}


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize("bug", OLD_BUGS)
def test_an_old_bug_is_found(connection: Connection, bug: str) -> None:
    changes, beginning, processes, budget, says = OLD_BUGS[bug]
    Exploration(connection, processes, budget, BEGINNINGS[beginning]).explore()
    with put_back(changes), pytest.raises(Violation, match=says):
        Exploration(connection, processes, budget, BEGINNINGS[beginning]).explore()

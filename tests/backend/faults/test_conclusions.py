"""The one place that concludes that an operation has no effect looks at all attempts, those with other nonces too."""

from __future__ import annotations

import ast
from pathlib import Path

import app
import pytest
from app.services.operation_types import HeldCause, Operation
from fault_environment import FaultEnvironment

pytestmark = pytest.mark.slow

BACKEND = Path(app.__file__).parent


def test_one_module_makes_proofs() -> None:
    """`states.requeue` and `states.fail` take a `NoEffect`, so that nobody gives a nonce up without one."""
    makers = {
        path.relative_to(BACKEND).as_posix()
        for path in BACKEND.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "NoEffect"
    }
    assert makers == {"services/transactions/conclusions.py"}


def started_over(environment: FaultEnvironment) -> Operation:
    """Returns an operation that lost its first nonce to a foreign transaction, and is in the mempool with another."""
    operation = environment.step(environment.prepare_run())
    environment.send_foreign(operation.nonce or 0)
    environment.mine(3)
    operation = environment.follow(environment.step(operation))
    assert (operation.state, operation.requeued, len(operation.attempts)) == ("submitted", 1, 2)
    return operation


@pytest.mark.parametrize("seen", ["in the mempool", "when its bytes are sent again"])
def test_a_deep_reorganisation_brings_an_attempt_back(environment: FaultEnvironment, seen: str) -> None:
    """The foreign transaction is gone, and the first attempt is mined instead: the second one must not be."""
    operation = started_over(environment)
    environment.reorg(3, (operation.attempts[0].raw_transaction, 0))
    if seen == "when its bytes are sent again":
        environment.rpc("anvil_dropAllTransactions")
    operation = environment.step(operation)
    assert operation.held_cause != HeldCause.NONCE_GAP
    operation = environment.step(operation)
    assert [attempt.no_effect for attempt in operation.attempts] == [False, False, True]
    assert operation.held_cause == HeldCause.REORG
    assert operation.attempts[2].nonce == operation.attempts[1].nonce == operation.nonce
    environment.mine()
    assert environment.created() == {"runs": 1, "bookings": 0}
    for _ in range(4):
        assert environment.status(operation) in ("pending", "confirmed")
        environment.mine()
        operation = environment.step(operation)
    assert (operation.state, operation.tx_hash) == ("confirmed", operation.attempts[0].tx_hash)
    assert environment.created() == {"runs": 1, "bookings": 0}

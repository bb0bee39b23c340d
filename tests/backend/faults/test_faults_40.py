"""Row 40: an estimate that fails for good holds the operation with the node's words."""

from __future__ import annotations

import pytest
from app.core.errors import ChainUnavailable
from app.services.operation_types import HeldCause
from backend_environment import Time
from fault_environment import FaultEnvironment, Forward, refusal

pytestmark = pytest.mark.slow


def test_40_an_estimate_in_trouble_for_good(environment: FaultEnvironment, caplog: pytest.LogCaptureFixture) -> None:
    """Trouble for a minute is the node's; after that the operation is held, tried again, and goes on by itself."""
    clock = Time()
    worker = environment.worker(clock=lambda: clock.now, hold_after=60)

    def fault(method: str, params: object, forward: Forward) -> object:
        return refusal("missing trie node 1234") if method == "eth_estimateGas" else forward()

    worker.connection.fault = fault
    operation = worker.prepare_run()
    for _ in range(6):
        with pytest.raises(ChainUnavailable, match="missing trie node 1234"):
            worker.services.sender.step(operation)
        clock.now += 10
    assert worker.find(operation).held is None
    clock.now += 10
    for _ in range(3):
        operation = worker.step(operation)
        assert (operation.state, operation.nonce, operation.held_cause) == ("prepared", None, HeldCause.ESTIMATE)
    assert operation.held == "its gas can't be estimated: the node says: missing trie node 1234"
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == [f"createEventRunFor is held: {operation.held}"]
    with pytest.raises(ChainUnavailable, match="is held: its gas can't be estimated"):
        worker.services.sender.finish(operation)
    worker.connection.fault = None
    operation = worker.settle(operation)
    assert (operation.state, operation.held) == ("confirmed", None)
    worker.check(runs=1)


def test_40_trouble_now_and_then_holds_nothing(environment: FaultEnvironment) -> None:
    """Only an estimate that fails without a break counts."""
    clock = Time()
    worker = environment.worker(clock=lambda: clock.now, hold_after=60)
    environment.mine_at(300 * 10**9)
    operation, failing = worker.prepare_run(), [True]
    worker.connection.fault = lambda method, params, forward: (
        refusal("missing trie node") if method == "eth_estimateGas" and failing[0] else forward()
    )
    for _ in range(3):
        with pytest.raises(ChainUnavailable):
            worker.services.sender.step(operation)
        clock.now += 50
        failing[0] = False
        operation = worker.step(operation)
        assert operation.held_cause == HeldCause.BASE_FEE
        failing[0] = True
    worker.connection.fault = None
    environment.mine_at(10**9)
    assert worker.settle(operation).state == "confirmed"
    worker.check(runs=1)

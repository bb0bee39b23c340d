"""Row 41: while no blocks are mined, fees are not raised; the operation says what it waits for."""

from __future__ import annotations

import pytest
from app.services.operation_types import HeldCause
from backend_environment import Time
from fault_environment import SEND, FaultEnvironment, refusal

pytestmark = pytest.mark.slow

HOUR = 3600.0


def test_41_no_blocks_for_an_hour(environment: FaultEnvironment, caplog: pytest.LogCaptureFixture) -> None:
    """Held with the number of the last block, once; the fees stay as they are. Nothing is held when blocks come."""
    clock = Time()
    worker = environment.worker(clock=lambda: clock.now, bump_after=60, bump_blocks=3, resend_after=15)
    operation = worker.follow(worker.prepare_run())
    block = environment.w3.eth.block_number
    for _ in range(60):
        clock.now += HOUR / 60
        operation = worker.follow(operation)
    assert (len(operation.attempts), operation.held_cause) == (1, HeldCause.NO_BLOCKS)
    assert f"no block has been mined since block {block}" in (operation.held or "")
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == [f"createEventRunFor is held: {operation.held}"]
    operation = worker.settle(operation)
    assert (operation.state, operation.held, len(operation.attempts)) == ("confirmed", None, 1)
    worker.check(runs=1)


def test_41_fees_are_raised_after_enough_blocks_without_it(environment: FaultEnvironment) -> None:
    """Seconds and blocks both count, from when the attempt was signed; also in a process that has just started."""
    clock = Time()
    worker = environment.worker(clock=lambda: clock.now, bump_after=60, bump_blocks=3, resend_after=15)
    operation = worker.follow(worker.prepare_run())
    for attempts in (2, 3):
        for blocks in (1, 2, 3):
            for tx_hash in [attempt.tx_hash for attempt in operation.attempts]:
                environment.rpc("anvil_dropTransaction", tx_hash)
            environment.mine()
            clock.now += 61
            operation = worker.follow(operation)
            assert len(operation.attempts) == attempts - (blocks < 3)
            assert operation.held is None
    restarted = environment.worker(clock=lambda: clock.now, bump_after=60, bump_blocks=3, resend_after=15)
    operation = restarted.follow(restarted.step(operation))
    clock.now += HOUR
    assert len(restarted.follow(operation).attempts) == 3
    assert restarted.settle(operation).state == "confirmed"
    restarted.check(runs=1)


def test_41_a_node_that_asks_for_higher_fees_gets_them_without_a_block(environment: FaultEnvironment) -> None:
    worker = environment.worker(bump_blocks=3)
    operation = worker.step(worker.prepare_run())
    refused = operation.attempts[0].raw_transaction
    worker.connection.fault = lambda method, params, forward: (
        refusal("transaction underpriced") if method == SEND and params[0] == refused else forward()
    )
    operation = worker.step(operation)
    assert (len(operation.attempts), operation.held) == (2, None)
    assert worker.settle(operation).state == "confirmed"
    worker.check(runs=1)


def test_41_an_operation_behind_another_one_does_not_raise_its_fees(environment: FaultEnvironment) -> None:
    """Its own fees are not why it waits."""
    worker = environment.worker(bump_after=0)
    first_operation, later = worker.step(worker.prepare_run()), worker.step(worker.prepare_run(seats=5))
    words = "the sequencer does not like you"
    refused = first_operation.attempts[0].raw_transaction
    worker.connection.fault = lambda method, params, forward: (
        refusal(words) if method == SEND and params[0] == refused else forward()
    )
    first_operation = worker.step(first_operation)
    for _ in range(5):
        later = worker.step(later)
    assert (len(later.attempts), later.held_cause) == (1, HeldCause.EARLIER)
    worker.connection.fault = None
    assert worker.settle(first_operation).state == worker.settle(later).state == "confirmed"
    worker.check(runs=2)

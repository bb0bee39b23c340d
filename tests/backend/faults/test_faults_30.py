"""Row 30: a worker with an old copy must not take the newest attempt for a foreign transaction."""

from __future__ import annotations

import pytest
from app.services import operations
from app.services.operation_types import Operation
from fault_environment import FaultEnvironment

pytestmark = pytest.mark.slow


def with_fees_raised(environment: FaultEnvironment, operation: Operation) -> Operation:
    """Another worker gives the operation one more attempt, with the same nonce."""
    other = environment.worker(bump_after=0, resend_after=0)
    newer = operation
    for _ in range(5):
        newer = other.step(newer)
        if len(newer.attempts) > len(operation.attempts):
            return newer
    raise AssertionError(f"no further attempt: {newer}")


@pytest.mark.parametrize("requeued", [0, 1], ids=["first nonce", "second nonce"])
def test_30_an_old_copy_knows_fewer_attempts_than_the_database(environment: FaultEnvironment, requeued: int) -> None:
    """Two workers, one key, a fee bump between them, the bumped attempt mined and final: one effect, and no failure."""
    old = environment.follow(environment.prepare_run(idempotency_key="once"))
    for _ in range(requeued):
        environment.rpc("anvil_dropAllTransactions")
        environment.send_foreign(old.nonce or 0)
        environment.mine(3)
        old = environment.follow(environment.step(environment.step(old)))
    newer = with_fees_raised(environment, old)
    environment.mine(3)
    assert environment.receipt(newer)["status"] == 1
    late = environment.worker(resend_after=0)
    after = late.settle(old)
    assert (after.state, after.tx_hash) == ("confirmed", newer.attempts[-1].tx_hash)
    assert after.requeued == requeued
    environment.check(runs=1)


def test_30_nothing_is_concluded_from_an_old_copy(environment: FaultEnvironment) -> None:
    """`change` and `close` do nothing for a copy that lacks attempts."""
    old = environment.follow(environment.prepare_run())
    newer = with_fees_raised(environment, old)
    with environment.database.transaction() as connection:
        assert operations.change(connection, old, ("submitted",), state="prepared", nonce=None) is None
        assert operations.close(connection, old, ("submitted",), [], state="failed") is None
        assert operations.find(connection, old.key) == newer
        assert operations.change(connection, newer, ("signed", "submitted"), held="seen") is not None
    assert environment.settle(newer).state == "confirmed"
    environment.check(runs=1)

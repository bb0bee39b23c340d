"""Row 30: a worker knows fewer attempts than the database has, and takes the newer one for somebody else's."""

from __future__ import annotations

import pytest
from app.services import operations
from app.services.operation_types import Operation
from scene import Scene

pytestmark = pytest.mark.slow


def with_fees_raised(scene: Scene, operation: Operation) -> Operation:
    """Another worker gives the operation one more attempt, with the same nonce."""
    other = scene.worker(bump_after=0, resend_after=0)
    newer = operation
    for _ in range(5):
        newer = other.step(newer)
        if len(newer.attempts) > len(operation.attempts):
            return newer
    raise AssertionError(f"no further attempt: {newer}")


@pytest.mark.parametrize("requeued", [0, 1], ids=["first nonce", "second nonce"])
def test_30_an_old_copy_knows_fewer_attempts_than_the_database(scene: Scene, requeued: int) -> None:
    """Two workers, one key, a fee bump between them, the bumped attempt mined and final: one effect, and no failure."""
    old = scene.follow(scene.prepare_run(idempotency_key="once"))
    for _ in range(requeued):
        scene.rpc("anvil_dropAllTransactions")
        scene.send_foreign(old.nonce or 0)
        scene.mine(3)
        old = scene.follow(scene.step(scene.step(old)))
    newer = with_fees_raised(scene, old)
    scene.mine(3)
    assert scene.receipt(newer)["status"] == 1
    late = scene.worker(resend_after=0)
    after = late.settle(old)
    assert (after.state, after.tx_hash) == ("confirmed", newer.attempts[-1].tx_hash)
    assert after.requeued == requeued
    scene.check(runs=1)


def test_30_nothing_is_concluded_from_an_old_copy(scene: Scene) -> None:
    """What changes or closes an operation has seen all of its attempts, or changes nothing."""
    old = scene.follow(scene.prepare_run())
    newer = with_fees_raised(scene, old)
    with scene.database.transaction() as connection:
        assert operations.change(connection, old, ("submitted",), state="prepared", nonce=None) is None
        assert operations.close(connection, old, ("submitted",), [], state="failed") is None
        assert operations.find(connection, old.key) == newer
        assert operations.change(connection, newer, ("signed", "submitted"), held="seen") is not None
    assert scene.settle(newer).state == "confirmed"
    scene.check(runs=1)

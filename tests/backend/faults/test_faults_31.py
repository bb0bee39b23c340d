"""Row 31: a node that counts too many nonces leaves no gap, and a gap that is there is found and filled."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from app.db.tables import event_runs, nonces, operations
from app.services import nonce_queries
from app.services.operation_types import FILL_NONCE_GAP, HeldCause, Operation
from app.services.transactions.fees import Fees
from fault_environment import FaultEnvironment, Forward, all_operations, first, result
from sqlalchemy import delete, update

pytestmark = pytest.mark.slow

COUNT = "eth_getTransactionCount"


def counts(environment: FaultEnvironment, too_many: int, times: int) -> None:
    """Lets the node count too many nonces in its next answers."""

    def fault(method: str, params: Any, forward: Forward) -> Any:
        return result(hex(int(forward()["result"], 16) + too_many))

    environment.connection.fault = first(times, fault, COUNT)


def filling(environment: FaultEnvironment) -> list[Operation]:
    return [operation for operation in all_operations(environment.database) if operation.kind == FILL_NONCE_GAP]


def lose_nonce(environment: FaultEnvironment) -> Operation:
    """Deletes the row of an operation with a nonce that no node has, and returns a later operation in the mempool."""
    lost = environment.step(environment.prepare_run())
    later = environment.step(environment.prepare_run(seats=5))
    lose_rows(environment, lost)
    return environment.step(later)


def lose_rows(environment: FaultEnvironment, *lost: Operation) -> None:
    """Deletes the rows of operations and of the runs that they create, as if they had never been committed."""
    with environment.database.transaction() as connection:
        connection.execute(delete(operations).where(operations.c.key.in_([each.key for each in lost])))
        connection.execute(delete(event_runs).where(event_runs.c.id.in_([each.subject for each in lost])))


@pytest.mark.parametrize("times", [1, 2, 3, 10])
def test_31_an_account_with_assigned_nonces(environment: FaultEnvironment, times: int) -> None:
    """Nothing but a transaction in a final block makes the nonce higher than what the database assigned."""
    environment.settle(environment.prepare_run())
    expected = environment.count()
    for worker in (environment, environment.worker()):
        counts(worker, 3, times)
        operation = worker.step(worker.prepare_run(seats=5))
        worker.connection.fault = None
        assert operation.nonce == expected
        expected += 1
        assert worker.settle(operation).state == "confirmed"
    environment.check(runs=3)
    assert filling(environment) == []


def test_31_the_first_nonce_of_an_account_with_history(environment: FaultEnvironment) -> None:
    """The database is empty, so that the chain's count is all there is: one wrong answer is found by a second one."""
    expected = environment.count()
    assert expected > 0
    counts(environment, 3, times=1)
    operation = environment.step(environment.prepare_run())
    assert operation.nonce == expected
    assert environment.settle(operation).state == "confirmed"
    environment.check(runs=1)


def test_31_foreign_transactions_that_are_final_are_skipped(environment: FaultEnvironment) -> None:
    """The nonce moves up at once, as the transaction with the nonce before is found in a final block."""
    environment.settle(environment.prepare_run())
    for _ in range(3):
        environment.send_foreign(environment.count())
        environment.mine()
    environment.mine(3)
    expected = environment.count()
    operation = environment.step(environment.prepare_run(seats=5))
    assert (operation.nonce, operation.requeued) == (expected, 0)
    assert environment.settle(operation).state == "confirmed"
    environment.check(runs=2)


def test_31_the_database_refuses_a_nonce_that_leaves_a_gap(environment: FaultEnvironment) -> None:
    first_operation = environment.step(environment.prepare_run())
    attempt = first_operation.attempts[0]
    other = environment.prepare_run(seats=5)
    for ahead, used in ((2, 0), (2, 1), (0, 0)):
        too_high = environment.services.sender._sign_attempt(
            other,
            environment.platform,
            attempt.nonce + ahead,
            attempt.gas_limit,
            Fees(attempt.max_fee_per_gas, attempt.priority_fee_per_gas),
            attempt.latest_block,
        )
        with environment.database.autocommit() as connection:
            assert nonce_queries.sign(connection, other, too_high, used) is None
    environment.step(first_operation)
    assert environment.settle(environment.find(other)).state == "confirmed"
    environment.check(runs=2)


@pytest.mark.parametrize("by", ["the client", "the reconciler"])
def test_31_a_gap_is_filled(environment: FaultEnvironment, by: str, caplog: pytest.LogCaptureFixture) -> None:
    """A transaction was lost together with its row: a transaction without effect uses its nonce."""
    later = lose_nonce(environment)
    assert later.nonce is not None
    environment.mine(2)
    if by == "the client":
        held = environment.step(later)
    else:
        environment.worker().services.reconciler.run_full()
        held = environment.find(later)
    assert held.held_cause == HeldCause.NONCE_GAP
    assert f"nonce {later.nonce - 1} is in no transaction" in (held.held or "")
    [gap] = filling(environment)
    assert (gap.nonce, gap.value_wei, gap.data, gap.to_address) == (
        later.nonce - 1,
        0,
        b"",
        environment.platform.address,
    )
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert any(f"nonce {gap.nonce} of {environment.platform.address} is in no transaction" in line for line in errors)
    held = environment.step(held)
    assert (held.held_cause, held.held) == (HeldCause.NONCE_GAP, f"the earlier nonce {gap.nonce} is being filled")
    environment.mine(3)
    environment.settle(environment.find(gap))
    later = environment.settle(environment.find(later))
    assert (later.state, later.held) == ("confirmed", None)
    assert environment.find(gap).state == "confirmed"
    environment.check(runs=1)


def test_31_a_gap_of_several_nonces_and_operations_behind_it(environment: FaultEnvironment) -> None:
    """Those behind the first one say what they wait for."""
    lost = [environment.step(environment.prepare_run()) for _ in range(3)]
    behind = [environment.step(environment.step(environment.prepare_run(seats=5))) for _ in range(2)]
    lose_rows(environment, *lost)
    behind = [environment.step(each) for each in behind]
    assert [each.held_cause for each in behind] == [HeldCause.NONCE_GAP] * 2
    assert [each.nonce for each in filling(environment)] == [each.nonce for each in lost]
    environment.mine()
    for each in behind:
        environment.settle(environment.find(each))
    environment.check(runs=2)


def test_31_a_nonce_that_an_attempt_may_use_is_not_filled(environment: FaultEnvironment) -> None:
    """The operation with the missing nonce is open: its stored bytes are sent, by whoever carries it out."""
    earlier = environment.step(environment.prepare_run())
    later = environment.step(environment.step(environment.prepare_run(seats=5)))
    later = environment.step(later)
    assert (filling(environment), later.held) == ([], None)
    assert environment.settle(earlier).state == environment.settle(later).state == "confirmed"
    environment.check(runs=2)


def test_31_two_workers_fill_a_gap_once(environment: FaultEnvironment) -> None:
    later, workers = lose_nonce(environment), [environment.worker() for _ in range(2)]
    for worker in workers:
        worker.step(later)
    assert len(filling(environment)) == 1
    environment.mine()
    environment.settle(environment.find(later))
    environment.check(runs=1)


def test_31_a_lagging_node_makes_no_gap(environment: FaultEnvironment) -> None:
    """It counts fewer nonces than are used. What fills them is refused by the others, and closed without effect."""
    for _ in range(2):
        environment.send_foreign(environment.count())
        environment.mine()
    environment.mine(3)
    operation = environment.step(environment.step(environment.prepare_run()))
    counts(environment, -2, times=1)
    environment.step(operation)
    environment.connection.fault = None
    for _ in range(6):
        environment.mine()
        environment.services.reconciler.run_full()
    assert {each.state for each in filling(environment)} == {"failed"}
    assert environment.find(operation).state == "confirmed"
    assert environment.created() == {"runs": 1, "bookings": 0}


def test_31_a_restored_database_continues_after_what_is_on_chain(environment: FaultEnvironment) -> None:
    """The table `nonces` is from before; what was mined since is found by proof, and nothing is left out."""
    environment.settle(environment.prepare_run())
    with environment.database.transaction() as connection:
        connection.execute(update(nonces).values(next=nonces.c.next - 1))
    for worker in (environment, environment.worker()):
        assert worker.settle(worker.prepare_run(seats=5)).state == "confirmed"
    environment.check(runs=3)


def test_31_a_row_that_took_the_next_nonce_itself_stops_nobody(environment: FaultEnvironment) -> None:
    """It was inserted past the table `nonces`. The nonce counts as assigned."""
    operation = environment.step(environment.prepare_run())
    with environment.database.transaction() as connection:
        connection.execute(update(nonces).values(next=operation.nonce))
    later = environment.step(environment.prepare_run(seats=5))
    assert later.nonce == (operation.nonce or 0) + 1
    environment.settle(operation)
    environment.settle(later)
    environment.check(runs=2)


@pytest.mark.parametrize("too_many", [1, 4, 1000])
def test_31_a_node_that_always_counts_too_many_nonces_is_not_asked_for_all_blocks(
    environment: FaultEnvironment, too_many: int
) -> None:
    environment.settle(environment.prepare_run())
    environment.mine(60)
    environment.settle(environment.prepare_run())
    worker, blocks = environment.worker(), Counter[str]()

    def fault(method: str, params: Any, forward: Forward) -> Any:
        blocks[method] += 1
        return result(hex(int(forward()["result"], 16) + too_many)) if method == COUNT else forward()

    worker.connection.fault = fault
    operation = worker.step(worker.prepare_run(seats=5))
    assert operation.state == "signed"
    assert blocks["eth_getBlockByNumber"] <= 5, blocks
    worker.connection.fault = None
    assert worker.settle(operation).state == "confirmed"
    environment.check(runs=3)

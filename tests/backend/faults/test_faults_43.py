"""Row 43: an order that waited is decided anew when its turn comes, and does not wait for ever."""

from __future__ import annotations

import pytest
from app.core.errors import Expired, OutOfFunds
from app.db.tables import operations
from app.services.operation_types import HeldCause, Operation
from backend_environment import DAY
from fault_environment import FaultEnvironment
from sqlalchemy import func, update

pytestmark = pytest.mark.slow


def without_funds(environment: FaultEnvironment, operation: Operation) -> Operation:
    """Empties the platform's wallet, and returns the operation as it is held."""
    environment.engine.set_balance(environment.platform.address, 10**6)
    with pytest.raises(OutOfFunds):
        environment.services.sender.finish(operation)
    held = environment.find(operation)
    assert (held.state, held.held_cause) == ("prepared", HeldCause.NO_FUNDS)
    return held


def fund(environment: FaultEnvironment) -> None:
    environment.engine.set_balance(environment.platform.address, 10**21)


def held_since(environment: FaultEnvironment, operation: Operation, seconds: int) -> None:
    """Dates the beginning of the hold back."""
    earlier = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    with environment.database.transaction() as connection:
        connection.execute(update(operations).where(operations.c.key == operation.key).values(held_at=earlier))


def reason(environment: FaultEnvironment, operation: Operation) -> str | None:
    assert operation.subject is not None
    return environment.services.bookings.get(operation.subject).blockchain_error


def test_43_the_run_is_over_when_the_money_comes(environment: FaultEnvironment) -> None:
    run = environment.open_run()
    held = without_funds(environment, environment.prepare_booking(run))
    environment.engine.set_next_timestamp(int((environment.now() + 4 * DAY).timestamp()))
    environment.mine()
    fund(environment)
    operation = environment.step(held)
    assert (operation.state, operation.nonce, environment.status(operation)) == ("rejected", None, "failed")
    assert operation.error is not None
    assert operation.error["name"] == "TooLate"
    assert operation.error["message"] == reason(environment, operation)
    environment.check(runs=1)


def test_43_the_seats_are_gone_when_the_money_comes(environment: FaultEnvironment) -> None:
    run = environment.open_run(seats=2)
    held = without_funds(environment, environment.prepare_booking(run, 2))
    fund(environment)
    other = environment.settle(environment.prepare_booking(run, 1))
    operation = environment.step(held)
    assert (other.state, operation.state, environment.status(operation)) == ("confirmed", "rejected", "failed")
    assert operation.error is not None
    assert operation.error["name"] == "NotEnoughSeats"
    environment.check(runs=1, bookings=1)


@pytest.mark.parametrize("cause", [HeldCause.NO_FUNDS, HeldCause.BASE_FEE])
def test_43_an_order_that_is_held_for_too_long_expires(environment: FaultEnvironment, cause: HeldCause) -> None:
    """The client gets the reason, again and again; the row is failed; nothing was sent."""
    run = environment.open_run()
    operation, sent = environment.prepare_booking(run, idempotency_key="order"), list(environment.connection.sent)
    if cause is HeldCause.NO_FUNDS:
        operation = without_funds(environment, operation)
    else:
        environment.mine_at(300 * 10**9)
        operation = environment.step(operation)
    assert operation.held_cause == cause
    held_since(environment, operation, 1790)
    assert environment.step(environment.find(operation)).state == "prepared"
    held_since(environment, operation, 1810)
    operation = environment.step(environment.find(operation))
    assert (operation.state, operation.nonce, operation.attempts) == ("rejected", None, [])
    assert (environment.status(operation), environment.connection.sent) == ("failed", sent)
    fund(environment)
    for _ in range(2):
        with pytest.raises(Expired, match=r"given up after 18.. seconds, and nothing was sent") as caught:
            environment.services.sender.finish(environment.prepare_booking(run, idempotency_key="order"))
    assert caught.value.message == reason(environment, operation)
    environment.check(runs=1)


def test_43_an_order_with_a_nonce_never_expires(environment: FaultEnvironment) -> None:
    operation = environment.step(environment.prepare_run())
    environment.engine.set_balance(environment.platform.address, 10**6)
    operation = environment.step(operation)
    assert (operation.state, operation.held_cause) == ("signed", HeldCause.NO_FUNDS)
    held_since(environment, operation, 10**6)
    assert environment.step(environment.find(operation)).state == "signed"
    fund(environment)
    assert environment.settle(environment.find(operation)).state == "confirmed"
    environment.check(runs=1)


def test_43_an_order_that_had_a_nonce_never_expires(environment: FaultEnvironment) -> None:
    """It starts over with a new nonce, as a foreign transaction used the first one, and is held without one."""
    operation = environment.step(environment.prepare_run())
    environment.send_foreign(operation.nonce or 0)
    environment.mine(3)
    operation = environment.step(operation)
    assert (operation.state, operation.requeued) == ("prepared", 1)
    operation = without_funds(environment, operation)
    held_since(environment, operation, 10**6)
    assert environment.step(environment.find(operation)).state == "prepared"
    fund(environment)
    assert environment.settle(environment.find(operation)).state == "confirmed"
    environment.check(runs=1)


def test_43_an_exit_never_expires(environment: FaultEnvironment) -> None:
    """Somebody's money depends on a cancellation, so it waits."""
    run, environment = environment.open_run(), environment.worker()
    operation = without_funds(environment, environment.services.runs.prepare_cancel(run))
    held_since(environment, operation, 10**6)
    assert environment.services.sender.step(environment.find(operation)).state == "prepared"
    fund(environment)
    assert environment.settle(environment.find(operation)).state == "confirmed"

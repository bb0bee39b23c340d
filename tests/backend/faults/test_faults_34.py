"""Row 34: a refusal that nobody foresaw holds the operation with the node's words, and those behind it go on."""

from __future__ import annotations

import pytest
from app.core.errors import TransactionRefused
from app.db.tables import operations
from app.services.operation_types import HeldCause, Operation
from fault_environment import GWEI, SEND, FaultEnvironment, Forward, all_operations, refusal
from sqlalchemy import func, update

pytestmark = pytest.mark.slow

WORDS = "the sequencer does not like you"


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def held_long_ago(environment: FaultEnvironment, operation: Operation) -> None:
    """Dates the beginning of the hold back by an hour."""
    earlier = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 1)
    with environment.database.transaction() as connection:
        connection.execute(update(operations).where(operations.c.key == operation.key).values(held_at=earlier))


def refuse_first_bytes(environment: FaultEnvironment, operation: Operation, words: str) -> None:
    """Lets the node refuse the operation's present bytes for ever, and no others."""
    refused = operation.attempts[-1].raw_transaction

    def fault(method: str, params: list[str], forward: Forward) -> object:
        return refusal(words) if method == SEND and params[0] == refused else forward()

    environment.connection.fault = fault


def test_34_unknown_words_hold_at_once(environment: FaultEnvironment, caplog: pytest.LogCaptureFixture) -> None:
    """The reason has the node's words; it is said once, and over once the node accepts the transaction."""
    operation = environment.step(environment.prepare_run())
    refuse_first_bytes(environment, operation, WORDS)
    for _ in range(3):
        operation = environment.step(operation)
        assert (operation.state, operation.held_cause) == ("signed", HeldCause.REFUSED)
        assert operation.held == f"the node refuses its transaction: {WORDS}"
    assert errors(caplog) == [f"createEventRunFor is held: {operation.held}"]
    environment.connection.fault = None
    operation = environment.step(operation)
    assert (operation.state, operation.held, operation.held_cause) == ("submitted", None, None)
    assert environment.settle(operation).state == "confirmed"
    assert len(set(environment.connection.sent)) == 1
    environment.check(runs=1)


def test_34_a_held_operation_is_tried_at_intervals(environment: FaultEnvironment) -> None:
    now = [0.0]
    worker = environment.worker(clock=lambda: now[0], resend_after=15)
    operation = worker.step(worker.prepare_run())
    worker.connection.fault = node_error_on_send(WORDS)
    for tried in range(1, 4):
        for _ in range(5):
            operation = worker.step(operation)
        assert len(worker.connection.sent) == tried
        now[0] += 16
    worker.connection.fault = None
    assert worker.settle(operation).state == "confirmed"
    worker.check(runs=1)


def node_error_on_send(words: str):  # type: ignore[no-untyped-def]
    return lambda method, params, forward: refusal(words) if method == SEND else forward()


def test_34_a_transaction_that_is_refused_for_good_gives_its_nonce_up(
    environment: FaultEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    """A transaction without effect uses the nonce; the operation fails once that is final, and the next one goes on."""
    operation = environment.step(environment.prepare_run())
    later = environment.step(environment.prepare_run(seats=5))
    refuse_first_bytes(environment, operation, WORDS)
    operation, later = environment.step(operation), environment.step(environment.step(later))
    assert (operation.held_cause, later.held_cause) == (HeldCause.REFUSED, HeldCause.EARLIER)
    assert later.held == f"createEventRunFor with the earlier nonce {operation.nonce} is held: {operation.held}"
    held_long_ago(environment, operation)
    operation = environment.step(operation)
    assert [attempt.no_effect for attempt in operation.attempts] == [False, True]
    assert operation.attempts[-1].nonce == operation.nonce
    assert any("gives up its transaction" in line for line in errors(caplog))
    environment.mine()
    operation = environment.follow(operation)
    assert (operation.state, environment.status(operation)) == ("mined", "pending")
    environment.mine(2)
    operation = environment.follow(operation)
    assert (operation.state, environment.status(operation)) == ("failed", "failed")
    with pytest.raises(TransactionRefused, match=WORDS):
        environment.services.sender.finish(operation)
    later = environment.settle(environment.find(later))
    assert (later.state, later.held) == ("confirmed", None)
    assert environment.created() == {"runs": 1, "bookings": 0}


def test_34_whichever_attempt_is_mined_decides(environment: FaultEnvironment) -> None:
    """A node had the transaction after all: it is mined instead of the one without effect."""
    operation = environment.step(environment.prepare_run())
    refuse_first_bytes(environment, operation, WORDS)
    operation = environment.step(operation)
    held_long_ago(environment, operation)
    operation = environment.step(operation)
    environment.rpc("anvil_dropAllTransactions")
    environment.rpc(SEND, operation.attempts[0].raw_transaction)
    environment.mine(3)
    operation = environment.settle(operation)
    assert (operation.state, operation.error) == ("confirmed", None)
    assert operation.tx_hash == operation.attempts[0].tx_hash
    environment.check(runs=1)


@pytest.mark.parametrize(
    ("words", "attribute", "is_lower"),
    [
        ("intrinsic gas too low: gas 100, minimum needed 21064", "gas_limit", False),
        ("exceeds block gas limit", "gas_limit", True),
        ("tx fee (1.23 ether) exceeds the configured cap (1.00 ether)", "max_fee_per_gas", True),
    ],
    ids=["intrinsic gas", "gas limit", "fee cap"],
)
def test_34_other_gas_or_fees_mend_the_transaction(
    environment: FaultEnvironment, words: str, attribute: str, is_lower: bool
) -> None:
    """It is signed once more with the same nonce, within the caps."""
    estimates = {"gas_limit": hex(100_000 if not is_lower else 5_000_000)}
    operation = environment.prepare_run()
    if attribute == "gas_limit":
        environment.connection.fault = lambda method, params, forward: (
            {"jsonrpc": "2.0", "id": 0, "result": estimates["gas_limit"]} if method == "eth_estimateGas" else forward()
        )
    operation = environment.step(operation)
    refuse_first_bytes(environment, operation, words)
    operation = environment.step(operation)
    before, after = (getattr(attempt, attribute) for attempt in operation.attempts)
    assert (after < before) == is_lower
    assert (operation.attempts[1].nonce, operation.attempts[1].no_effect) == (operation.attempts[0].nonce, False)
    operation = environment.step(operation)
    assert (operation.state, operation.held) == ("submitted", None)
    assert environment.settle(operation).state == "confirmed"
    environment.check(runs=1)


def test_34_an_expensive_operation_takes_no_nonce_and_cheaper_ones_go_on(environment: FaultEnvironment) -> None:
    """Value and the highest possible fee are compared with the balance before the nonce is taken."""
    expensive, cheap = environment.prepare_run(seats=8), environment.prepare_run(seats=1)
    environment.engine.set_balance(environment.platform.address, expensive.value_wei + 10**14)
    expensive = environment.step(expensive)
    assert (expensive.state, expensive.nonce, expensive.held_cause) == ("prepared", None, HeldCause.NO_FUNDS)
    assert environment.settle(cheap).state == "confirmed"
    environment.engine.set_balance(environment.platform.address, 10**20)
    assert environment.settle(expensive).state == "confirmed"
    environment.check(runs=2)


def test_34_funds_that_are_on_their_way_count_as_spent(environment: FaultEnvironment) -> None:
    """Two operations, and wei for one: the second takes no nonce, though the first is not mined."""
    first_run, second = environment.prepare_run(seats=8), environment.prepare_run(seats=8)
    environment.engine.set_balance(environment.platform.address, first_run.value_wei * 3 // 2)
    first_run, second = environment.step(first_run), environment.step(second)
    assert (first_run.state, second.state, second.held_cause) == ("signed", "prepared", HeldCause.NO_FUNDS)
    assert environment.settle(first_run).state == "confirmed"
    environment.engine.set_balance(environment.platform.address, 10**20)
    assert environment.settle(second).state == "confirmed"
    environment.check(runs=2)


def test_34_a_signed_operation_without_funds_stops_those_behind_it_and_they_say_so(
    environment: FaultEnvironment,
) -> None:
    operation = environment.step(environment.prepare_run())
    later = environment.step(environment.prepare_run(seats=5))
    balance = environment.engine.w3.eth.get_balance(environment.platform.address)
    environment.engine.set_balance(environment.platform.address, 10**6)
    operation = environment.step(operation)
    assert operation.held_cause == HeldCause.NO_FUNDS
    environment.engine.set_balance(environment.platform.address, balance)
    later = environment.step(environment.step(later))
    assert later.held_cause == HeldCause.EARLIER
    assert "insufficient funds" in (later.held or "")
    assert environment.settle(operation).state == "confirmed"
    later = environment.settle(later)
    assert (later.state, later.held) == ("confirmed", None)
    environment.check(runs=2)


def test_34_a_fee_bump_of_a_transaction_without_effect_has_none_either(environment: FaultEnvironment) -> None:
    operation = environment.step(environment.prepare_run())
    refuse_first_bytes(environment, operation, WORDS)
    operation = environment.step(operation)
    held_long_ago(environment, operation)
    environment.connection.fault = node_error_on_send(WORDS)
    operation = environment.step(operation)
    assert [attempt.no_effect for attempt in operation.attempts] == [False, True]
    environment.connection.fault = None
    raising = environment.worker(bump_after=0)
    for _ in range(3):
        operation = raising.step(operation)
    assert [attempt.no_effect for attempt in operation.attempts[1:]] == [True] * (len(operation.attempts) - 1)
    assert len(operation.attempts) > 2
    assert operation.attempts[-1].max_fee_per_gas <= 200 * GWEI
    environment.mine(3)
    assert environment.settle(operation).state == "failed"
    assert environment.created() == {"runs": 0, "bookings": 0}
    assert [each.state for each in all_operations(environment.database)] == ["failed"]


@pytest.mark.parametrize("words", ["nonce too low", "nonce too high"])
def test_34_known_words_hold_nothing(environment: FaultEnvironment, words: str) -> None:
    operation = environment.step(environment.prepare_run())
    environment.connection.fault = node_error_on_send(words)
    operation = environment.step(operation)
    assert (operation.state, operation.held) == ("signed", None)
    environment.connection.fault = None
    assert environment.settle(operation).state == "confirmed"
    environment.check(runs=1)

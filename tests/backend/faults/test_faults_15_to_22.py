"""Faults of the chain, and of nodes that lag behind it: rows 15 to 22 of the catalogue of faults, in its order."""

from __future__ import annotations

from typing import Any

import pytest
from app.core.errors import ContractRejected, Superseded
from app.services.operation_types import Operation
from fault_environment import FaultEnvironment, Forward, http, result
from web3 import Web3
from web3.types import RPCEndpoint

pytestmark = pytest.mark.slow

RECEIPT = "eth_getTransactionReceipt"


def mined(environment: FaultEnvironment, operation: Operation) -> Operation:
    """Returns the operation, mined in the latest block."""
    environment.follow(operation)
    environment.mine()
    operation = environment.follow(environment.find(operation))
    assert (operation.state, environment.status(operation)) == ("mined", "pending")
    return operation


# ---------------------------------------------------------------------------------------------- 15 to 17: the reorgs


@pytest.mark.parametrize("later", [0, 1], ids=["same height", "one block later"])
def test_15_reorg_puts_the_same_transaction_in_another_block(environment: FaultEnvironment, later: int) -> None:
    operation = mined(environment, environment.prepare_run())
    environment.mine()
    was, sent = (operation.block_number or 0, operation.block_hash), len(environment.connection.sent)
    environment.reorg(2, (operation.attempts[0].raw_transaction, later))
    operation = environment.step(operation)
    receipt = environment.receipt(operation)
    assert receipt["blockNumber"] == was[0] + later
    assert receipt["blockHash"].to_0x_hex() != was[1]
    assert (operation.state, operation.block_number) == ("mined", receipt["blockNumber"])
    assert operation.block_hash == receipt["blockHash"].to_0x_hex()
    operation = environment.settle(operation)
    assert (operation.state, operation.block_number, len(environment.connection.sent)) == (
        "confirmed",
        was[0] + later,
        sent,
    )
    environment.check(runs=1)


def test_16_reorg_drops_the_transaction(environment: FaultEnvironment) -> None:
    """No row has changed yet; only the operation's state is set back, and the same bytes are sent again."""
    run = environment.open_run()
    operation = mined(environment, environment.prepare_booking(run))
    environment.mine()
    environment.reorg(2)
    assert environment.created() == {"runs": 1, "bookings": 0}
    operation = environment.step(operation)
    assert (operation.state, operation.reorged, environment.status(operation)) == ("submitted", True, "pending")
    assert (operation.tx_hash, operation.block_number, operation.block_hash) == (None, None, None)
    assert environment.services.runs.get(run).seats_booked == 0
    assert environment.pool() == 1
    operation = environment.settle(operation)
    assert (operation.state, len(operation.attempts), len(set(environment.connection.sent))) == ("confirmed", 1, 2)
    assert environment.services.runs.get(run).seats_booked == 1
    environment.check(runs=1, bookings=1)


def test_16_reorg_after_reorg(environment: FaultEnvironment) -> None:
    """The same transaction can be dropped any number of times."""
    operation = environment.prepare_run()
    for _ in range(4):
        operation = mined(environment, operation)
        environment.mine()
        assert environment.step(operation).state == "mined"
        environment.reorg(2)
    assert environment.settle(operation).state == "confirmed"
    assert len(set(environment.connection.sent)) == 1
    environment.check(runs=1)


def test_17_reorg_brings_another_transaction_with_that_nonce(environment: FaultEnvironment) -> None:
    """The operation fails without a new nonce, as its effect was visible on chain; no value was sent."""
    run = environment.open_run()
    before = environment.w3.eth.get_balance(Web3.to_checksum_address(environment.address))
    operation = mined(environment, environment.prepare_booking(run))
    assert environment.w3.eth.get_balance(Web3.to_checksum_address(environment.address)) > before
    environment.reorg(1, (environment.sign_foreign(operation.nonce or 0), 0))
    for _ in range(2):
        operation = environment.step(operation)
        assert (operation.state, operation.reorged, operation.requeued) == ("submitted", True, 0)
        environment.mine()
    operation = environment.step(operation)
    assert (operation.state, len(operation.attempts)) == ("failed", 1)
    with pytest.raises(Superseded, match="no effect"):
        environment.services.sender.finish(operation)
    assert environment.w3.eth.get_balance(Web3.to_checksum_address(environment.address)) == before
    assert environment.services.runs.get(run).seats_booked == 0
    environment.check(runs=1)


# ------------------------------------------------------------------------------------------ 18 to 20: the contract


def test_18_estimate_fine_but_reverts_on_chain(environment: FaultEnvironment) -> None:
    """The host cancels the run earlier in the same block."""
    run = environment.open_run()
    operation = environment.follow(environment.prepare_booking(run))
    environment.send_as(1, "cancelEvent", environment.services.runs.get(run).blockchain_event_run_id)
    environment.mine()
    operation = environment.settle(operation)
    assert (operation.state, len(operation.attempts), operation.requeued) == ("failed", 1, 0)
    with pytest.raises(ContractRejected) as caught:
        environment.services.sender.finish(operation)
    assert (caught.value.name, caught.value.outcome) == ("EventNotOpen", "reverted")
    theirs = environment.receipt(operation)
    assert (operation.tx_hash, operation.block_number) == (operation.attempts[0].tx_hash, theirs["blockNumber"])
    assert operation.block_hash == theirs["blockHash"].to_0x_hex()
    assert (operation.gas_used, operation.gas_price_wei) == (theirs["gasUsed"], theirs["effectiveGasPrice"])
    receipt = caught.value.receipt
    assert receipt is not None
    assert (receipt.tx_hash, receipt.succeeded, receipt.gas_used) == (operation.tx_hash, False, theirs["gasUsed"])
    assert environment.services.bookings.list_all()[0].blockchain_error == str(caught.value)
    sent = len(environment.connection.sent)
    environment.mine(2)
    assert environment.services.reconciler.run_full().problems == []
    assert len(environment.connection.sent) == sent
    assert environment.services.runs.get(run).status == "cancelled"
    environment.check(runs=1)
    assert environment.services.sender._mempool._send_times == {}, "of what is over nothing is kept"


def test_19_estimate_reverts(environment: FaultEnvironment) -> None:
    run, count = environment.open_run(seats=2), environment.count()
    operation = environment.step(environment.prepare_booking(run, seats=3))
    assert (operation.state, operation.nonce, operation.attempts) == ("rejected", None, [])
    with pytest.raises(ContractRejected) as caught:
        environment.services.sender.finish(operation)
    assert (caught.value.name, caught.value.args, caught.value.outcome) == ("NotEnoughSeats", (3, 2), "rejected")
    operation = environment.settle(environment.prepare_booking(run, seats=2))
    assert operation.nonce == count, "none was taken by the one rejected"
    environment.check(runs=1, bookings=1)


@pytest.mark.parametrize("lows", [1, 2])
def test_20_out_of_gas(environment: FaultEnvironment, lows: int) -> None:
    """After an estimate that is too low, the operation starts over, once, with a larger margin."""
    remaining = [lows]

    def too_low(method: str, params: Any, forward: Forward) -> Any:
        answer = forward()
        if method == "eth_estimateGas" and remaining[0]:
            remaining[0] -= 1
            answer["result"] = hex(int(answer["result"], 16) * 3 // 10)
        return answer

    environment.connection.fault = too_low
    operation = mined(environment, environment.prepare_run())
    assert environment.receipt(operation)["status"] == 0
    environment.mine(2)
    operation = environment.step(operation)
    assert (operation.state, operation.nonce, operation.requeued) == ("prepared", None, 1)
    assert (operation.tx_hash, operation.block_number, operation.block_hash) == (None, None, None)
    operation = environment.follow(operation)
    for _ in range(3):
        operation = environment.step(operation)
        assert operation.state == "submitted", "the first one's receipt says nothing of the second"
    operation = environment.settle(operation)
    first, second = operation.attempts
    assert second.nonce == first.nonce + 1
    assert second.gas_limit > first.gas_limit
    assert operation.state == ("confirmed" if lows == 1 else "failed")
    if lows == 2:
        with pytest.raises(ContractRejected, match="out of gas") as caught:
            environment.services.sender.finish(operation)
        assert (caught.value.name, caught.value.outcome) == ("OutOfGas", "reverted")
    environment.check(runs=1 if lows == 1 else 0)


# --------------------------------------------------------------------------------------------- 21, 22: nodes that lag


def test_21_a_lagging_node_returns_an_old_nonce(environment: FaultEnvironment) -> None:
    for _ in range(2):
        environment.open_run()

    def old_nonce(method: str, params: Any, forward: Forward) -> Any:
        return result("0x1") if method == "eth_getTransactionCount" else forward()

    environment.connection.fault = old_nonce
    operations = [environment.follow(environment.prepare_run(seats=seats)) for seats in (5, 6, 7)]
    assert [operation.nonce for operation in operations] == [3, 4, 5]
    assert [environment.settle(operation).state for operation in operations] == ["confirmed"] * 3
    environment.check(runs=5)


def test_22_a_lagging_node_returns_an_old_block(environment: FaultEnvironment) -> None:
    operation = mined(environment, environment.prepare_run())
    old_block = environment.w3.eth.block_number
    environment.mine(5)
    environment.connection.fault = lambda method, params, forward: (
        result(hex(old_block)) if method == "eth_blockNumber" else forward()
    )
    for _ in range(3):
        operation = environment.step(operation)
        assert (operation.state, environment.status(operation)) == ("mined", "pending")
    environment.connection.fault = None
    assert environment.step(operation).state == "confirmed"
    environment.check(runs=1)


def test_22_a_lagging_node_returns_an_old_receipt(environment: FaultEnvironment) -> None:
    """The receipt is of a dropped block that would be final by its number."""
    operation = mined(environment, environment.prepare_run())
    stale = http(environment.engine).make_request(RPCEndpoint(RECEIPT), [operation.tx_hash])
    environment.reorg(1)
    environment.mine(5)

    environment.connection.fault = lambda method, params, forward: stale if method == RECEIPT else forward()
    for _ in range(3):
        operation = environment.step(operation)
        assert (operation.state, environment.status(operation)) == ("mined", "pending")
    environment.connection.fault = None
    operation = environment.step(operation)
    assert (operation.state, operation.reorged) == ("submitted", True)
    assert environment.settle(operation).state == "confirmed"
    environment.check(runs=1)


def test_22_a_lagging_node_knows_of_no_receipt_any_more(environment: FaultEnvironment) -> None:
    """This resembles a reorg and a foreign transaction, and must not be handled as one."""
    operation = mined(environment, environment.prepare_run())
    environment.mine(5)
    environment.connection.fault = lambda method, params, forward: result(None) if method == RECEIPT else forward()
    for _ in range(3):
        operation = environment.step(operation)
        assert (operation.state, environment.status(operation)) == ("submitted", "pending")
    environment.connection.fault = None
    operation = environment.settle(operation)
    assert (operation.state, len(operation.attempts), operation.requeued) == ("confirmed", 1, 0)
    environment.check(runs=1)


def test_22_a_node_that_has_just_started_to_sync(environment: FaultEnvironment) -> None:
    """No block is final then, which is no error."""
    operation = mined(environment, environment.prepare_run())
    environment.mine(5)
    environment.connection.fault = lambda method, params, forward: (
        result("0x0") if method == "eth_blockNumber" else forward()
    )
    report = environment.services.reconciler.run_full()
    assert (report.problems, report.differences) == ([], [])
    assert [operation.state for operation in report.pending] == ["mined"]
    environment.connection.fault = None
    assert environment.step(operation).state == "confirmed"
    environment.check(runs=1)

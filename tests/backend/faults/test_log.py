"""The log of an operation: a line for each change of its state, with its key and state."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import requests
from app.services.operation_types import Operation
from fault_environment import GWEI, FaultEnvironment, Forward, first, node_error, raising

pytestmark = pytest.mark.slow

Read = Callable[[Operation], list[tuple[str, str, str]]]


@pytest.fixture
def read(caplog: pytest.LogCaptureFixture) -> Read:
    """Returns level, message and state of each new log line about an operation."""
    caplog.set_level(logging.INFO, logger="app.services.transactions")

    def lines(operation: Operation) -> list[tuple[str, str, str]]:
        mine = [record for record in caplog.records if getattr(record, "operation", None) == operation.key]
        caplog.clear()
        return [(record.levelname, record.getMessage(), vars(record)["state"]) for record in mine]

    return lines


def test_log_of_a_refused_transaction(environment: FaultEnvironment, read: Read) -> None:
    operation = environment.step(environment.prepare_run())
    assert read(operation) == []
    environment.connection.fault = first(1, raising(requests.ConnectionError("https://node/secret")))
    operation = environment.step(operation)
    unreachable = "createEventRunFor: the node can't be reached (ConnectionError)."
    assert read(operation) == [("WARNING", unreachable, "signed")]
    environment.connection.fault = first(1, node_error("nonce too high"))
    operation = environment.step(operation)
    assert read(operation)[0] == ("INFO", "createEventRunFor: the node says NONCE_TOO_HIGH", "signed")
    operation = environment.follow(operation)
    assert read(operation) == []
    operation = environment.settle(operation)
    message = f"createEventRunFor: {operation.tx_hash} in block {operation.block_number}"
    assert read(operation) == [("INFO", message, "mined")]


def test_log_of_raised_fees_and_of_a_reorg(environment: FaultEnvironment, read: Read) -> None:
    worker = environment.worker(bump_after=0)
    operation = worker.step(worker.step(worker.prepare_run()))
    raised = operation.attempts[1]
    fees = f"{raised.max_fee_per_gas} and {raised.priority_fee_per_gas} wei per gas"
    assert read(operation) == [("WARNING", f"createEventRunFor: fees raised to {fees}", "signed")]
    environment.mine()
    operation = worker.follow(operation)
    read(operation)
    was, block = operation.tx_hash, operation.block_number
    environment.reorg(1)
    operation = worker.step(operation)
    assert read(operation)[0] == ("WARNING", f"{was} is not in block {block} any more", "mined")


def test_log_of_fees_above_the_cap(environment: FaultEnvironment, read: Read) -> None:
    environment.mine_at(300 * GWEI)
    operation = environment.step(environment.step(environment.prepare_run()))
    why = f"the base fee of {300 * GWEI} wei per gas is above the cap of {200 * GWEI}"
    assert operation.held == why
    assert read(operation) == [("ERROR", f"createEventRunFor is held: {why}", "prepared")]


def test_log_of_a_foreign_nonce(environment: FaultEnvironment, read: Read) -> None:
    operation = environment.step(environment.prepare_run())
    foreign, nonce = environment.send_foreign(operation.nonce or 0), operation.nonce
    environment.mine(3)
    operation = environment.step(operation)
    begins = f"createEventRunFor starts over: its nonce {nonce} went to {foreign}"
    says = ("INFO", "createEventRunFor: the node says NONCE_TOO_LOW", "signed")
    assert read(operation) == [says, ("WARNING", begins, "signed")]
    operation = environment.step(operation)
    foreign, nonce = environment.send_foreign(operation.nonce or 0), operation.nonce
    environment.mine(3)
    operation = environment.step(operation)
    assert operation.state == "failed"
    none = f"createEventRunFor had no effect: its nonce {nonce} went to {foreign}, which is not ours."
    assert read(operation) == [says, ("INFO", none, "signed")]


def test_log_of_out_of_gas(environment: FaultEnvironment, read: Read) -> None:
    def too_low(method: str, params: Any, forward: Forward) -> Any:
        answer = forward()
        return answer | {"result": hex(int(answer["result"], 16) * 4 // 10)}

    environment.connection.fault = first(1, too_low, "eth_estimateGas")
    operation = environment.follow(environment.prepare_run())
    environment.mine(3)
    tx_hash = operation.attempts[0].tx_hash
    operation = environment.step(operation)
    assert (operation.state, operation.tx_hash) == ("prepared", None)
    assert read(operation) == [
        ("WARNING", f"The node does not say why {tx_hash} failed", "submitted"),
        ("WARNING", f"createEventRunFor starts over: {tx_hash} ran out of gas", "submitted"),
    ]


def test_log_of_a_rejection(environment: FaultEnvironment, read: Read) -> None:
    operation = environment.step(environment.prepare_booking(environment.open_run(seats=2), seats=3))
    assert operation.error is not None
    assert read(operation) == [("INFO", operation.error["message"], "prepared")]

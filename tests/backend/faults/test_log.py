"""What operators read of an operation: a line for each turn it takes, with its key and its state then."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import requests
from app.services.operation_types import Operation
from scene import GWEI, Ask, Scene, first, raising, saying

pytestmark = pytest.mark.slow

Read = Callable[[Operation], list[tuple[str, str, str]]]


@pytest.fixture
def read(caplog: pytest.LogCaptureFixture) -> Read:
    """Level, message and state of each line about an operation since it was last asked."""
    caplog.set_level(logging.INFO, logger="app.services.transactions")

    def lines(operation: Operation) -> list[tuple[str, str, str]]:
        mine = [record for record in caplog.records if getattr(record, "operation", None) == operation.key]
        caplog.clear()
        return [(record.levelname, record.getMessage(), vars(record)["state"]) for record in mine]

    return lines


def test_of_a_node_that_does_not_take_it(scene: Scene, read: Read) -> None:
    operation = scene.step(scene.prepare_run())
    assert read(operation) == []
    scene.line.fault = first(1, raising(requests.ConnectionError("https://node/secret")))
    operation = scene.step(operation)
    unreachable = "createEventRunFor: the node can't be reached (ConnectionError)."
    assert read(operation) == [("WARNING", unreachable, "signed")]
    scene.line.fault = first(1, saying("nonce too high"))
    operation = scene.step(operation)
    assert read(operation)[0] == ("INFO", "createEventRunFor: the node says NONCE_TOO_HIGH", "signed")
    operation = scene.follow(operation)
    assert read(operation) == []
    operation = scene.settle(operation)
    done = f"createEventRunFor: {operation.tx_hash} in block {operation.block_number}"
    assert read(operation) == [("INFO", done, "mined")]


def test_of_fees_that_are_raised_and_of_a_reorg(scene: Scene, read: Read) -> None:
    worker = scene.worker(bump_after=0)
    operation = worker.step(worker.step(worker.prepare_run()))
    raised = operation.attempts[1]
    fees = f"{raised.max_fee_per_gas} and {raised.priority_fee_per_gas} wei per gas"
    assert read(operation) == [("WARNING", f"createEventRunFor: fees raised to {fees}", "signed")]
    scene.mine()
    operation = worker.follow(operation)
    read(operation)
    was, block = operation.tx_hash, operation.block_number
    scene.reorg(1)
    operation = worker.step(operation)
    assert read(operation)[0] == ("WARNING", f"{was} is not in block {block} any more", "mined")


def test_of_fees_that_are_too_high(scene: Scene, read: Read) -> None:
    scene.mine_at(300 * GWEI)
    operation = scene.step(scene.step(scene.prepare_run()))
    why = f"the base fee of {300 * GWEI} wei per gas is above the cap of {200 * GWEI}"
    assert operation.held == why
    assert read(operation) == [("ERROR", f"createEventRunFor is held: {why}", "prepared")]


def test_of_a_nonce_that_somebody_else_took(scene: Scene, read: Read) -> None:
    operation = scene.step(scene.prepare_run())
    foreign, nonce = scene.send_foreign(operation.nonce or 0), operation.nonce
    scene.mine(3)
    operation = scene.step(operation)
    begins = f"createEventRunFor begins again: its nonce {nonce} went to {foreign}"
    says = ("INFO", "createEventRunFor: the node says NONCE_TOO_LOW", "signed")
    assert read(operation) == [says, ("WARNING", begins, "signed")]
    operation = scene.step(operation)
    foreign, nonce = scene.send_foreign(operation.nonce or 0), operation.nonce
    scene.mine(3)
    operation = scene.step(operation)
    assert operation.state == "failed"
    none = f"createEventRunFor had no effect: its nonce {nonce} went to {foreign}, which is not ours."
    assert read(operation) == [says, ("INFO", none, "signed")]


def test_of_gas_that_ran_out(scene: Scene, read: Read) -> None:
    def too_low(method: str, params: Any, ask: Ask) -> Any:
        answer = ask()
        return answer | {"result": hex(int(answer["result"], 16) * 4 // 10)}

    scene.line.fault = first(1, too_low, "eth_estimateGas")
    operation = scene.follow(scene.prepare_run())
    scene.mine(3)
    tx_hash = operation.attempts[0].tx_hash
    operation = scene.step(operation)
    assert (operation.state, operation.tx_hash) == ("prepared", None)
    assert read(operation) == [
        ("WARNING", f"The node does not say why {tx_hash} failed", "submitted"),
        ("WARNING", f"createEventRunFor begins again: {tx_hash} ran out of gas", "submitted"),
    ]


def test_of_what_the_contract_refuses(scene: Scene, read: Read) -> None:
    operation = scene.step(scene.prepare_booking(scene.open_run(seats=2), seats=3))
    assert operation.error is not None
    assert read(operation) == [("INFO", operation.error["message"], "prepared")]

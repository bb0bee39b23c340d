"""Faults in the chain itself, and of nodes that lag behind it: rows 15 to 22 of the table, in its order."""

from __future__ import annotations

from typing import Any

import pytest
from app.core.errors import ContractRejected, Superseded
from app.services.operation_types import Operation
from scene import Ask, Scene, http, result
from web3 import Web3
from web3.types import RPCEndpoint

pytestmark = pytest.mark.slow

RECEIPT = "eth_getTransactionReceipt"


def mined(scene: Scene, operation: Operation) -> Operation:
    """In the latest block."""
    scene.follow(operation)
    scene.mine()
    operation = scene.follow(scene.find(operation))
    assert (operation.state, scene.status(operation)) == ("mined", "pending")
    return operation


# ---------------------------------------------------------------------------------------------- 15 to 17: the reorgs


@pytest.mark.parametrize("later", [0, 1], ids=["same height", "one block later"])
def test_15_reorg_puts_the_same_transaction_in_another_block(scene: Scene, later: int) -> None:
    operation = mined(scene, scene.prepare_run())
    scene.mine()
    was, sent = (operation.block_number or 0, operation.block_hash), len(scene.line.sent)
    scene.reorg(2, (operation.attempts[0].raw_transaction, later))
    operation = scene.step(operation)
    receipt = scene.receipt(operation)
    assert receipt["blockNumber"] == was[0] + later
    assert receipt["blockHash"].to_0x_hex() != was[1]
    assert (operation.state, operation.block_number) == ("mined", receipt["blockNumber"])
    assert operation.block_hash == receipt["blockHash"].to_0x_hex()
    operation = scene.settle(operation)
    assert (operation.state, operation.block_number, len(scene.line.sent)) == ("confirmed", was[0] + later, sent)
    scene.check(runs=1)


def test_16_reorg_drops_the_transaction(scene: Scene) -> None:
    """Rows have not seen it, so there is nothing to undo but where the operation is; the same bytes go out again."""
    run = scene.open_run()
    operation = mined(scene, scene.prepare_booking(run))
    scene.mine()
    scene.reorg(2)
    assert scene.created() == {"runs": 1, "bookings": 0}
    operation = scene.step(operation)
    assert (operation.state, operation.reorged, scene.status(operation)) == ("submitted", True, "pending")
    assert (operation.tx_hash, operation.block_number, operation.block_hash) == (None, None, None)
    assert scene.services.runs.get(run).seats_booked == 0
    assert scene.pool() == 1
    operation = scene.settle(operation)
    assert (operation.state, len(operation.attempts), len(set(scene.line.sent))) == ("confirmed", 1, 2)
    assert scene.services.runs.get(run).seats_booked == 1
    scene.check(runs=1, bookings=1)


def test_16_reorg_after_reorg(scene: Scene) -> None:
    """As often as it likes."""
    operation = scene.prepare_run()
    for _ in range(4):
        operation = mined(scene, operation)
        scene.mine()
        assert scene.step(operation).state == "mined"
        scene.reorg(2)
    assert scene.settle(operation).state == "confirmed"
    assert len(set(scene.line.sent)) == 1
    scene.check(runs=1)


def test_17_reorg_brings_another_transaction_with_that_nonce(scene: Scene) -> None:
    """No second try here: what was seen on chain may have been acted on. What was paid never left the wallet."""
    run = scene.open_run()
    before = scene.w3.eth.get_balance(Web3.to_checksum_address(scene.address))
    operation = mined(scene, scene.prepare_booking(run))
    assert scene.w3.eth.get_balance(Web3.to_checksum_address(scene.address)) > before
    scene.reorg(1, (scene.sign_foreign(operation.nonce or 0), 0))
    for _ in range(2):
        operation = scene.step(operation)
        assert (operation.state, operation.reorged, operation.requeued) == ("submitted", True, 0)
        scene.mine()
    operation = scene.step(operation)
    assert (operation.state, len(operation.attempts)) == ("failed", 1)
    with pytest.raises(Superseded, match="no effect"):
        scene.services.sender.finish(operation)
    assert scene.w3.eth.get_balance(Web3.to_checksum_address(scene.address)) == before
    assert scene.services.runs.get(run).seats_booked == 0
    scene.check(runs=1)


# ------------------------------------------------------------------------------------------ 18 to 20: the contract


def test_18_estimate_fine_but_reverts_on_chain(scene: Scene) -> None:
    """The host calls it off in the same block, just before."""
    run = scene.open_run()
    operation = scene.follow(scene.prepare_booking(run))
    scene.send_as(1, "cancelEvent", scene.services.runs.get(run).blockchain_event_run_id)
    scene.mine()
    operation = scene.settle(operation)
    assert (operation.state, len(operation.attempts), operation.requeued) == ("failed", 1, 0)
    with pytest.raises(ContractRejected) as caught:
        scene.services.sender.finish(operation)
    assert (caught.value.name, caught.value.outcome) == ("EventNotOpen", "reverted")
    theirs = scene.receipt(operation)
    assert (operation.tx_hash, operation.block_number) == (operation.attempts[0].tx_hash, theirs["blockNumber"])
    assert operation.block_hash == theirs["blockHash"].to_0x_hex()
    assert (operation.gas_used, operation.gas_price_wei) == (theirs["gasUsed"], theirs["effectiveGasPrice"])
    assert caught.value.receipt == {field: theirs[field] for field in caught.value.receipt}
    assert scene.services.bookings.list_all()[0].blockchain_error == str(caught.value)
    sent = len(scene.line.sent)
    scene.mine(2)
    assert scene.services.reconciler.run_full().problems == []
    assert len(scene.line.sent) == sent
    assert scene.services.runs.get(run).status == "cancelled"
    scene.check(runs=1)
    assert scene.services.sender._mempool._send_times == {}, "of what is over nothing is kept"


def test_19_estimate_reverts(scene: Scene) -> None:
    run, count = scene.open_run(seats=2), scene.count()
    operation = scene.step(scene.prepare_booking(run, seats=3))
    assert (operation.state, operation.nonce, operation.attempts) == ("rejected", None, [])
    with pytest.raises(ContractRejected) as caught:
        scene.services.sender.finish(operation)
    assert (caught.value.name, caught.value.args, caught.value.outcome) == ("NotEnoughSeats", (3, 2), "rejected")
    operation = scene.settle(scene.prepare_booking(run, seats=2))
    assert operation.nonce == count, "none was taken by the one rejected"
    scene.check(runs=1, bookings=1)


@pytest.mark.parametrize("lows", [1, 2])
def test_20_out_of_gas(scene: Scene, lows: int) -> None:
    """An estimate that is too low: told as such, and estimated anew, once, with more to spare."""
    left = [lows]

    def too_low(method: str, params: Any, ask: Ask) -> Any:
        answer = ask()
        if method == "eth_estimateGas" and left[0]:
            left[0] -= 1
            answer["result"] = hex(int(answer["result"], 16) * 4 // 10)
        return answer

    scene.line.fault = too_low
    operation = mined(scene, scene.prepare_run())
    assert scene.receipt(operation)["status"] == 0
    scene.mine(2)
    operation = scene.step(operation)
    assert (operation.state, operation.nonce, operation.requeued) == ("prepared", None, 1)
    assert (operation.tx_hash, operation.block_number, operation.block_hash) == (None, None, None)
    operation = scene.follow(operation)
    for _ in range(3):
        operation = scene.step(operation)
        assert operation.state == "submitted", "the first one's receipt says nothing of the second"
    operation = scene.settle(operation)
    first, second = operation.attempts
    assert second.nonce == first.nonce + 1
    assert second.gas_limit > first.gas_limit
    assert operation.state == ("confirmed" if lows == 1 else "failed")
    if lows == 2:
        with pytest.raises(ContractRejected, match="out of gas") as caught:
            scene.services.sender.finish(operation)
        assert (caught.value.name, caught.value.outcome) == ("OutOfGas", "reverted")
    scene.check(runs=1 if lows == 1 else 0)


# --------------------------------------------------------------------------------------------- 21, 22: nodes that lag


def test_21_a_lagging_node_returns_an_old_nonce(scene: Scene) -> None:
    for _ in range(2):
        scene.open_run()

    def old(method: str, params: Any, ask: Ask) -> Any:
        return result("0x1") if method == "eth_getTransactionCount" else ask()

    scene.line.fault = old
    operations = [scene.follow(scene.prepare_run(seats=seats)) for seats in (5, 6, 7)]
    assert [operation.nonce for operation in operations] == [3, 4, 5]
    assert [scene.settle(operation).state for operation in operations] == ["confirmed"] * 3
    scene.check(runs=5)


def test_22_a_lagging_node_returns_an_old_block(scene: Scene) -> None:
    operation = mined(scene, scene.prepare_run())
    old = scene.w3.eth.block_number
    scene.mine(5)
    scene.line.fault = lambda method, params, ask: result(hex(old)) if method == "eth_blockNumber" else ask()
    for _ in range(3):
        operation = scene.step(operation)
        assert (operation.state, scene.status(operation)) == ("mined", "pending")
    scene.line.fault = None
    assert scene.step(operation).state == "confirmed"
    scene.check(runs=1)


def test_22_a_lagging_node_returns_an_old_receipt(scene: Scene) -> None:
    """Of a block that is not in the chain any more, and would be deep enough."""
    operation = mined(scene, scene.prepare_run())
    stale = http(scene.engine).make_request(RPCEndpoint(RECEIPT), [operation.tx_hash])
    scene.reorg(1)
    scene.mine(5)

    scene.line.fault = lambda method, params, ask: stale if method == RECEIPT else ask()
    for _ in range(3):
        operation = scene.step(operation)
        assert (operation.state, scene.status(operation)) == ("mined", "pending")
    scene.line.fault = None
    operation = scene.step(operation)
    assert (operation.state, operation.reorged) == ("submitted", True)
    assert scene.settle(operation).state == "confirmed"
    scene.check(runs=1)


def test_22_a_lagging_node_knows_of_no_receipt_any_more(scene: Scene) -> None:
    """It looks like a reorg, and like somebody else's nonce; it is neither."""
    operation = mined(scene, scene.prepare_run())
    scene.mine(5)
    scene.line.fault = lambda method, params, ask: result(None) if method == RECEIPT else ask()
    for _ in range(3):
        operation = scene.step(operation)
        assert (operation.state, scene.status(operation)) == ("submitted", "pending")
    scene.line.fault = None
    operation = scene.settle(operation)
    assert (operation.state, len(operation.attempts), operation.requeued) == ("confirmed", 1, 0)
    scene.check(runs=1)


def test_22_a_node_that_has_just_begun_to_follow_the_chain(scene: Scene) -> None:
    """Nothing is final then, and that is no trouble."""
    operation = mined(scene, scene.prepare_run())
    scene.mine(5)
    scene.line.fault = lambda method, params, ask: result("0x0") if method == "eth_blockNumber" else ask()
    report = scene.services.reconciler.run_full()
    assert (report.problems, report.differences) == ([], [])
    assert [one.state for one in report.pending] == ["mined"]
    scene.line.fault = None
    assert scene.step(operation).state == "confirmed"
    scene.check(runs=1)

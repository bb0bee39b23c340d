"""Snapshots nest, can be reverted to repeatedly, and restore time and fees as well as the state."""

import pytest
from stakesim.evm.errors import EngineError

from tests.engines.transactions import send


def picture(engine, probe):
    """All that a snapshot has to bring back, as far as it can be seen."""
    w3 = engine.w3
    return {
        "time": engine.now(),
        "next": probe.functions.time().call(block_identifier="pending"),
        "block": w3.eth.get_block("latest")["hash"],
        "recorded": probe.functions.recordedTime().call(),
        "balances": [w3.eth.get_balance(account.address) for account in engine.accounts[:3]],
        "nonces": [w3.eth.get_transaction_count(account.address) for account in engine.accounts[:3]],
        "base fee": w3.eth.get_block("pending")["baseFeePerGas"],
    }


def act(engine, probe, seconds):
    engine.set_next_timestamp(engine.now() + seconds)
    send(engine, probe.functions.recordTime(), sender=1)
    send(engine, engine.accounts[2].address, value=seconds)


@pytest.mark.slow
def test_revert_twice_to_the_same_snapshot(engine, probe):
    act(engine, probe, 10)
    engine.set_next_timestamp(engine.now() + 5_000)
    snapshot, before = engine.snapshot(), picture(engine, probe)
    for seconds in (100, 200):
        act(engine, probe, 6_000 + seconds)
        assert picture(engine, probe) != before
        engine.revert(snapshot)
        assert picture(engine, probe) == before
    assert (
        engine.w3.eth.get_block(send(engine, probe.functions.recordTime())["blockNumber"])["timestamp"]
        == (before["next"][0])
    )


@pytest.mark.slow
def test_nested_snapshots_revert_inner_then_outer(engine, probe):
    outer, at_outer = engine.snapshot(), picture(engine, probe)
    act(engine, probe, 50)
    inner, at_inner = engine.snapshot(), picture(engine, probe)
    act(engine, probe, 60)
    for _ in range(2):
        engine.revert(inner)
        assert picture(engine, probe) == at_inner
    act(engine, probe, 70)
    engine.revert(outer)
    assert picture(engine, probe) == at_outer


def test_same_transactions_after_a_revert_have_the_same_results(engine, probe):
    act(engine, probe, 1)  # so that the base fee is on its way down
    snapshot = engine.snapshot()
    receipts = []
    for _ in range(2):
        engine.set_next_timestamp(engine.now() + 9)
        receipts.append(send(engine, probe.functions.note(1, "again"), value=3))
        engine.revert(snapshot)
    first, second = receipts
    for key in ("transactionHash", "gasUsed", "effectiveGasPrice", "blockNumber", "status"):
        assert first[key] == second[key]


def test_reverted_transaction_has_no_receipt(engine, probe):
    snapshot = engine.snapshot()
    undone = send(engine, probe.functions.recordTime())["transactionHash"]
    engine.revert(snapshot)
    with pytest.raises(Exception, match="not found"):
        engine.w3.eth.get_transaction_receipt(undone)
    with pytest.raises(Exception, match="not found"):
        engine.w3.eth.get_transaction(undone)


def test_invalidated_snapshot_is_refused(engine, probe):
    outer = engine.snapshot()
    act(engine, probe, 5)
    inner = engine.snapshot()
    engine.revert(outer)
    with pytest.raises(EngineError, match="take a new one"):
        engine.revert(inner)


def test_set_balance_acts_at_once_and_is_reverted(engine):
    address, height = engine.accounts[5].address, engine.w3.eth.block_number
    snapshot, before = engine.snapshot(), engine.w3.eth.get_balance(address)
    engine.set_balance(address, 17)
    assert engine.w3.eth.get_balance(address) == engine.w3.eth.get_balance(address, "pending") == 17
    assert engine.w3.eth.block_number == height
    send(engine, address, value=3)
    assert engine.w3.eth.get_balance(address) == 20
    engine.revert(snapshot)
    assert engine.w3.eth.get_balance(address) == before

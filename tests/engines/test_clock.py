"""The next block has exactly the timestamp that was set, and calls on "pending" see it before."""

import pytest
from stakesim.evm.errors import EngineError

from tests.engines.transactions import send


def block_time(engine, receipt):
    return engine.w3.eth.get_block(receipt["blockNumber"])["timestamp"]


def test_next_transaction_has_the_timestamp_that_was_set(engine, probe):
    at = engine.now() + 86_400
    engine.set_next_timestamp(at)
    receipt = send(engine, probe.functions.recordTime())
    assert block_time(engine, receipt) == engine.now() == probe.functions.recordedTime().call() == at


def test_pending_sees_the_timestamp_and_latest_does_not(engine, probe):
    now = engine.now()
    engine.set_next_timestamp(now + 1_000)
    timestamp, number = probe.functions.time().call(block_identifier="pending")
    assert (timestamp, number) == (now + 1_000, engine.w3.eth.block_number + 1)
    assert engine.w3.eth.get_block("pending")["timestamp"] == now + 1_000
    assert probe.functions.time().call(block_identifier="latest") == [now, engine.w3.eth.block_number]

    only_then = probe.functions.recordTimeAt(now + 1_000)
    assert only_then.estimate_gas({"from": engine.accounts[0].address}, block_identifier="pending")
    for method in (only_then.call, only_then.estimate_gas):
        with pytest.raises(Exception, match="wrong second"):
            method({"from": engine.accounts[0].address}, block_identifier="latest")
    assert send(engine, only_then)["status"] == 1


def test_setting_the_timestamp_mines_no_block(engine):
    height = engine.w3.eth.block_number
    engine.set_next_timestamp(engine.now() + 5)
    assert engine.w3.eth.block_number == height


def test_last_timestamp_set_is_used_and_may_be_earlier(engine, probe):
    now = engine.now()
    engine.set_next_timestamp(now + 500)
    engine.set_next_timestamp(now + 100)
    assert block_time(engine, send(engine, probe.functions.recordTime())) == now + 100


def test_earliest_timestamp_is_one_second_after_the_latest_block(engine, probe):
    now = engine.now()
    engine.set_next_timestamp(now + 1)
    assert block_time(engine, send(engine, probe.functions.recordTime())) == now + 1


@pytest.mark.parametrize("seconds", [0, 1, 1_000])
def test_timestamp_must_increase(engine, seconds):
    with pytest.raises(EngineError, match="go back"):
        engine.set_next_timestamp(engine.now() - seconds)


def test_empty_block_has_the_timestamp_that_was_set(engine):
    at, height = engine.now() + 77, engine.w3.eth.block_number
    engine.set_next_timestamp(at)
    engine.mine()
    assert (engine.now(), engine.w3.eth.block_number) == (at, height + 1)


def test_failed_estimate_or_refused_transaction_keeps_the_timestamp(engine, probe):
    at = engine.now() + 1_234
    engine.set_next_timestamp(at)
    with pytest.raises(Exception, match="no luck"):
        send(engine, probe.functions.failWithText())
    with pytest.raises(Exception, match=r"(?i)insufficient funds"):
        send(engine, engine.accounts[1].address, value=2 * 10**24, gas=21_000)
    assert block_time(engine, send(engine, probe.functions.recordTime())) == at

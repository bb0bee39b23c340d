"""Events in receipts and in `eth_getLogs`; blocks and transactions as a backend reads them."""

import pytest
from web3.exceptions import BlockNotFound

from tests.engines.transactions import MAX_FEE, TIP, send


def test_event_is_decoded(engine, probe):
    receipt = send(engine, probe.functions.note(42, "tea"), sender=3, value=9)
    (event,) = probe.events.Noted().process_receipt(receipt)
    assert dict(event["args"]) == {"number": 42, "who": engine.accounts[3].address, "text": "tea", "value": 9}
    assert event["address"] == probe.address
    assert event["transactionHash"] == receipt["transactionHash"]
    assert (event["blockNumber"], event["logIndex"]) == (receipt["blockNumber"], 0)


def test_get_logs_filters_by_block_address_and_topic(engine, probe):
    first = send(engine, probe.functions.note(1, "one"))["blockNumber"]
    send(engine, probe.functions.noteTwice(2))
    send(engine, probe.functions.recordTime())

    everything = probe.events.Noted().get_logs(from_block=first)
    assert [(e["args"]["text"], e["logIndex"]) for e in everything] == [("one", 0), ("first", 0), ("second", 1)]
    assert [e["args"]["text"] for e in probe.events.Noted().get_logs(from_block=first + 1)] == ["first", "second"]
    of_two = probe.events.Noted().get_logs(from_block=first, argument_filters={"number": 2})
    assert [e["args"]["text"] for e in of_two] == ["first", "second"]
    assert engine.w3.eth.get_logs({"fromBlock": first, "address": engine.accounts[0].address}) == []
    (only,) = engine.w3.eth.get_logs({"blockHash": engine.w3.eth.get_block(first)["hash"]})
    assert only["blockNumber"] == first


def test_transaction_can_be_read(engine, probe):
    receipt = send(engine, probe.functions.note(1, "x"), sender=2, value=5, gas=90_000)
    transaction = engine.w3.eth.get_transaction(receipt["transactionHash"])
    expected = {
        "from": engine.accounts[2].address,
        "to": probe.address,
        "value": 5,
        "gas": 90_000,
        "maxFeePerGas": MAX_FEE,
        "maxPriorityFeePerGas": TIP,
        "blockNumber": receipt["blockNumber"],
        "type": 2,
        "gasPrice": receipt["effectiveGasPrice"],
    }
    assert {key: transaction[key] for key in expected} == expected
    block = engine.w3.eth.get_block(receipt["blockHash"], full_transactions=True)
    assert [transaction["hash"] for transaction in block["transactions"]] == [receipt["transactionHash"]]


def test_contract_has_address_code_and_storage(engine, probe):
    w3 = engine.w3
    assert len(w3.eth.get_code(probe.address)) > 100
    assert w3.eth.get_code(engine.accounts[0].address) == b""
    assert int.from_bytes(w3.eth.get_storage_at(probe.address, 0), "big") == 0
    send(engine, probe.functions.recordTime())
    assert int.from_bytes(w3.eth.get_storage_at(probe.address, 0), "big") == engine.now()


def test_past_state_can_be_read(engine, probe):
    before = engine.w3.eth.block_number
    send(engine, probe.functions.recordTime())
    assert probe.functions.recordedTime().call(block_identifier=before) == 0
    assert probe.functions.recordedTime().call(block_identifier=before + 1) == engine.now()


def test_unknown_block_is_an_error(engine):
    with pytest.raises(BlockNotFound):
        engine.w3.eth.get_block(engine.w3.eth.block_number + 1)

"""Gas estimates suffice and are not wasteful; fees and balances are exact to the wei."""

import pytest
from stakesim.evm.in_process.node import CALLER_SLACK
from web3.exceptions import Web3RPCError

from tests.engines.transactions import MAX_FEE, TIP, send

CALLS = {
    "a write": lambda probe: probe.functions.recordTime(),
    "calls in calls, 63/64 of the gas each": lambda probe: probe.functions.forward(12, 3),
    "one call with all the gas": lambda probe: probe.functions.forward(1, 20),
    "refunds": lambda probe: probe.functions.clear(),
    "a cheap last write that needs 2,300 left": lambda probe: probe.functions.guarded(),
    "far more gas than it uses": lambda probe: probe.functions.needGas(2_000_000),
    "mostly data": lambda probe: probe.functions.note(1, "x" * 5_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_estimated_gas_suffices_exactly(engine, probe, name):
    send(engine, probe.functions.fill(20))
    call = CALLS[name](probe)
    estimate = call.estimate_gas({"from": engine.accounts[0].address}, block_identifier="pending")
    receipt = send(engine, call, gas=estimate)
    assert receipt["status"] == 1
    if name not in ("far more gas than it uses", "refunds"):
        searches = engine.name not in ("py-evm", "revm")  # there a search for less costs more runs than it is worth
        slack = 0 if searches else CALLER_SLACK
        assert receipt["gasUsed"] <= estimate <= receipt["gasUsed"] * 1.25 + 2_400 + slack


def test_estimate_of_a_payment_is_exact(engine):
    payment = {"from": engine.accounts[0].address, "to": engine.accounts[1].address, "value": 1}
    assert engine.w3.eth.estimate_gas(payment, "pending") == 21_000


def test_estimate_changes_nothing(engine, probe):
    call, sender = probe.functions.fill(3), {"from": engine.accounts[0].address}
    first = call.estimate_gas(sender, block_identifier="pending")
    assert call.estimate_gas(sender, block_identifier="pending") == first
    assert call.call({**sender, "gas": first}, block_identifier="pending") == []
    assert send(engine, call, gas=first)["gasUsed"] <= first


def test_estimate_respects_the_gas_limit_of_the_request(engine, probe):
    with pytest.raises((Web3RPCError, ValueError)):
        probe.functions.fill(3).estimate_gas({"from": engine.accounts[0].address, "gas": 30_000})


def test_fees_and_balances_are_exact(engine, probe):
    w3, payer, coinbase = engine.w3, engine.accounts[0].address, engine.w3.eth.get_block("pending")["miner"]
    before = [w3.eth.get_balance(address) for address in (payer, probe.address, coinbase)]
    receipt = send(engine, probe.functions.note(1, "paid"), value=12_345)
    after = [w3.eth.get_balance(address) for address in (payer, probe.address, coinbase)]

    base_fee = w3.eth.get_block(receipt["blockNumber"])["baseFeePerGas"]
    assert 0 < base_fee < MAX_FEE - TIP
    assert receipt["effectiveGasPrice"] == base_fee + TIP
    assert before[0] - after[0] == 12_345 + receipt["gasUsed"] * receipt["effectiveGasPrice"]
    assert after[1] - before[1] == 12_345
    assert after[2] - before[2] == receipt["gasUsed"] * TIP


def test_failed_transaction_pays_gas_only(engine, probe):
    payer = engine.accounts[0].address
    before = engine.w3.eth.get_balance(payer)
    receipt = send(engine, probe.functions.failWithText(), gas=60_000)
    assert before - engine.w3.eth.get_balance(payer) == receipt["gasUsed"] * receipt["effectiveGasPrice"]


def test_pending_base_fee_is_the_next_blocks(engine, probe):
    send(engine, probe.functions.fill(20))
    expected = engine.w3.eth.get_block("pending")["baseFeePerGas"]
    receipt = send(engine, probe.functions.recordTime())
    assert engine.w3.eth.get_block(receipt["blockNumber"])["baseFeePerGas"] == expected


def test_block_has_room_for_a_transaction_at_the_eip_7825_cap(engine, probe):
    assert send(engine, probe.functions.recordTime(), gas=16_777_216)["status"] == 1

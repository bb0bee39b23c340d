"""Gas estimates suffice and are not wasteful; fees and balances are exact to the wei."""

from contextlib import closing

import pytest
from stakesim.evm.engines import open_engine
from stakesim.evm.in_process.node_core import CALLER_SLACK
from web3.exceptions import ContractLogicError, Web3RPCError

from tests.engines.transactions import MAX_FEE, TIP, deploy, send

TRANSACTION_GAS_CAP = 16_777_216
"""Highest gas limit of a transaction (EIP-7825)."""

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
    assert send(engine, probe.functions.recordTime(), gas=TRANSACTION_GAS_CAP)["status"] == 1


def test_a_transaction_above_the_eip_7825_cap_is_refused(engine, probe):
    """By the engines in this process and by a node with Osaka's rules. One with Prague's has no cap."""
    call, account = probe.functions.recordTime(), engine.accounts[0].address
    before = engine.w3.eth.get_transaction_count(account)
    if engine.name == "anvil":
        assert send(engine, call, gas=TRANSACTION_GAS_CAP + 1)["status"] == 1
        return
    with pytest.raises(
        Web3RPCError, match=r"gas limit too high \(cap: 16777216, |gas_limit > env.cfg.tx_gas_limit_cap"
    ):
        send(engine, call, gas=TRANSACTION_GAS_CAP + 1)
    assert engine.w3.eth.get_transaction_count(account) == before


@pytest.mark.parametrize("name", ["py-evm", "revm"])
def test_an_estimate_never_exceeds_the_eip_7825_cap(name):
    """A node's own search ends there, too: geth's with `gas required exceeds allowance (16777216)`."""
    with closing(open_engine(name)) as engine:
        probe, sender = deploy(engine), {"from": engine.accounts[0].address}
        assert probe.functions.needGas(16_000_000).estimate_gas(sender) <= TRANSACTION_GAS_CAP
        with pytest.raises(ContractLogicError, match="too little gas"):
            probe.functions.needGas(17_000_000).estimate_gas(sender)

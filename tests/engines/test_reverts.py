"""A revert raises the same web3 exception with the same data on every engine."""

import pytest
import rlp
from eth_abi import encode
from eth_utils import keccak
from web3.exceptions import ContractCustomError, ContractLogicError, ContractPanicError, Web3RPCError

from tests.engines.transactions import send


def revert_data(signature, *arguments):
    types = signature[signature.index("(") + 1 : -1].split(",")
    return "0x" + (keccak(text=signature)[:4] + encode(types, arguments)).hex()


@pytest.fixture(params=["text", "error", "panic", "silent"])
def failure(request, engine, probe):
    """A call that reverts, what web3 raises for it, and the data it carries."""
    who = engine.accounts[0].address
    return {
        "text": (
            probe.functions.failWithText(),
            ContractLogicError,
            revert_data("Error(string)", "no luck"),
        ),
        "error": (
            probe.functions.failWithError(7),
            ContractCustomError,
            revert_data("Refused(address,uint256,string)", who, 7, "not today"),
        ),
        "panic": (
            probe.functions.failWithPanic(0),
            ContractPanicError,
            revert_data("Panic(uint256)", 0x12),
        ),
        "silent": (probe.functions.failSilently(), ContractLogicError, "0x"),
    }[request.param]


@pytest.mark.parametrize("block", ["latest", "pending"])
@pytest.mark.parametrize("method", ["call", "estimate_gas"])
def test_call_or_estimate_raises_with_the_revert_data(engine, failure, method, block):
    call, exception, data = failure
    with pytest.raises(ContractLogicError) as raised:
        getattr(call, method)({"from": engine.accounts[0].address}, block_identifier=block)
    assert type(raised.value) is exception
    assert raised.value.data == data


def test_reason_string_is_in_the_message(engine, probe):
    with pytest.raises(ContractLogicError, match="execution reverted: no luck"):
        probe.functions.failWithText().call()


def test_transaction_with_explicit_gas_is_mined_and_its_reason_can_be_read_at_its_block(engine, failure):
    call, exception, data = failure
    receipt = send(engine, call, gas=100_000)
    assert receipt["status"] == 0
    assert receipt["logs"] == []
    assert 21_000 < receipt["gasUsed"] < 100_000
    with pytest.raises(exception) as raised:
        call.call({"from": engine.accounts[0].address}, block_identifier=receipt["blockNumber"])
    assert raised.value.data == data


def test_failure_other_than_a_revert_uses_all_gas_and_is_no_contract_error(engine, probe):
    call = probe.functions.failHard()
    for method in (call.call, call.estimate_gas):
        with pytest.raises(Web3RPCError):
            method()
    receipt = send(engine, call, gas=50_000)
    assert (receipt["status"], receipt["gasUsed"]) == (0, 50_000)


def test_insufficient_funds_are_refused(engine, probe):
    pays_too_much = {"from": engine.accounts[0].address, "value": 2 * 10**24}
    for method in (probe.functions.note(1, "").call, probe.functions.note(1, "").estimate_gas):
        with pytest.raises(Web3RPCError, match=r"(?i)insufficient funds"):
            method(pays_too_much)
    with pytest.raises(Web3RPCError, match=r"(?i)insufficient funds"):
        send(engine, engine.accounts[1].address, value=2 * 10**24, gas=21_000)


def test_used_nonce_is_refused(engine):
    account, nonce = engine.accounts[0], engine.w3.eth.get_transaction_count(engine.accounts[0].address)
    send(engine, engine.accounts[1].address, gas=21_000)
    transaction = {
        "to": account.address,
        "value": 1,
        "nonce": nonce,
        "gas": 21_000,
        "maxFeePerGas": 3 * 10**9,
        "maxPriorityFeePerGas": 0,
        "chainId": engine.w3.eth.chain_id,
    }
    with pytest.raises(Web3RPCError, match="nonce too low"):
        engine.w3.eth.send_raw_transaction(account.sign_transaction(transaction).raw_transaction)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gas": 20_999}, "intrinsic gas too low"),
        ({"gas": 31_000_000}, "gas"),
        ({"maxFeePerGas": 7, "maxPriorityFeePerGas": 7}, "max fee per gas less than block base fee"),
        ({"chainId": 1}, "chain"),
    ],
)
def test_transaction_above_the_block_gas_limit_or_below_intrinsic_gas_is_refused(engine, wrong, message):
    account = engine.accounts[0]
    nonce = engine.w3.eth.get_transaction_count(account.address)
    transaction = {
        "to": account.address,
        "value": 1,
        "nonce": nonce,
        "gas": 21_000,
        "maxFeePerGas": 3 * 10**9,
        "maxPriorityFeePerGas": 0,
        "chainId": engine.w3.eth.chain_id,
    }
    signed = account.sign_transaction(transaction | wrong)
    with pytest.raises(Web3RPCError, match=f"(?i){message}"):
        engine.w3.eth.send_raw_transaction(signed.raw_transaction)
    assert engine.w3.eth.get_transaction_count(account.address) == nonce


@pytest.mark.parametrize("r", [0, 2**256 - 1])
def test_a_signature_that_names_no_sender_is_refused(engine, r):
    account = engine.accounts[4]
    fields = {"to": account.address, "value": 1, "nonce": 0, "gas": 21_000, "chainId": engine.w3.eth.chain_id}
    signed = account.sign_transaction(fields | {"maxFeePerGas": 3 * 10**9, "maxPriorityFeePerGas": 0})
    content = rlp.decode(bytes(signed.raw_transaction)[1:])
    content[10] = r.to_bytes(32, "big").lstrip(b"\0")
    before = engine.w3.eth.block_number
    with pytest.raises(Web3RPCError):
        engine.w3.eth.send_raw_transaction(b"\2" + rlp.encode(content))
    assert engine.w3.eth.block_number == before

"""Signed transactions, the short way."""

from __future__ import annotations

from typing import Any

from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.contract_file import load_contract
from stakesim.evm.engine import Engine
from web3.contract import Contract
from web3.types import TxReceipt

TIP = 10**9
MAX_FEE = 3 * 10**9


def send(engine: Engine, call: Any, sender: int = 0, value: int = 0, gas: int | None = None) -> TxReceipt:
    """Signs with the key of account `sender`, sends, and waits for the receipt.

    `call` is a contract function, a constructor, or an address to pay. Without `gas`: what is estimated on "pending".
    """
    account = engine.accounts[sender]
    transaction: Any = {
        "from": account.address,
        "nonce": engine.w3.eth.get_transaction_count(account.address),
        "chainId": engine.w3.eth.chain_id,
        "type": 2,
        "maxFeePerGas": MAX_FEE,
        "maxPriorityFeePerGas": TIP,
        "value": value,
    }
    if isinstance(call, str):
        transaction |= {"to": call, "data": "0x"}
    else:
        transaction = call.build_transaction(transaction | {"gas": 0})
        del transaction["gas"]
    transaction["gas"] = gas or engine.w3.eth.estimate_gas(transaction, "pending")
    signed = account.sign_transaction(transaction)
    tx_hash = engine.w3.eth.send_raw_transaction(signed.raw_transaction)
    return engine.w3.eth.wait_for_transaction_receipt(tx_hash, poll_latency=0.001)


def deploy(engine: Engine) -> Contract:
    artifact = load_contract(CONTRACTS / "test" / "Probe.sol")
    receipt = send(engine, engine.w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode).constructor())
    return engine.w3.eth.contract(receipt["contractAddress"], abi=artifact.abi)

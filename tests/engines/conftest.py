"""Every test here that takes `engine` runs on each engine: `rpc` is the engine for a foreign node, on an anvil."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from web3.contract import Contract
from web3.types import TxReceipt

from harness.evm.compiler import compile_contracts
from harness.evm.engine import Engine, open_engine

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
    artifact = compile_contracts()["Probe"]
    receipt = send(engine, engine.w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode).constructor())
    return engine.w3.eth.contract(receipt["contractAddress"], abi=artifact.abi)


@pytest.fixture(scope="session", params=["py-evm", "anvil", "rpc"])
def deployed(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, Contract]]:
    anvil = open_engine("anvil") if request.param != "py-evm" else None
    url = getattr(anvil.w3.provider, "endpoint_uri", "") if anvil else ""
    engine = {"py-evm": lambda: open_engine("py-evm"), "anvil": lambda: anvil, "rpc": lambda: open_engine(f"rpc:{url}")}
    opened = engine[request.param]()
    try:
        yield opened, deploy(opened)
    finally:
        opened.close()
        if anvil:
            anvil.close()


@pytest.fixture
def engine(deployed: tuple[Engine, Contract]) -> Iterator[Engine]:
    """Put back after each test."""
    before = deployed[0].snapshot()
    yield deployed[0]
    deployed[0].revert(before)


@pytest.fixture
def probe(engine: Engine, deployed: tuple[Engine, Contract]) -> Contract:
    return deployed[1]

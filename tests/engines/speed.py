"""Signed transactions with explicit gas: plain `EthereumTesterProvider` and the py-evm engine, side by side.

    python -m tests.engines.speed [BLOCKS]

Prints milliseconds of this process a transaction, sign + send + receipt, for each hundred blocks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_tester.backends.pyevm.main import PyEVMBackend
from eth_utils import to_canonical_address
from stakesim.evm.chain_spec import engine_accounts
from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.contract_file import load_contract
from stakesim.evm.engines import open_engine
from web3 import EthereumTesterProvider, Web3


def plain() -> Web3:
    account = {"balance": 10**24, "nonce": 0, "code": b"", "storage": {}}
    state = {to_canonical_address(a.address): account for a in engine_accounts()}
    return Web3(EthereumTesterProvider(PyEVMBackend(genesis_state=state)))  # type: ignore[no-untyped-call]


def transact(w3: Web3, account: LocalAccount, nonce: int, **fields: Any) -> Any:
    transaction = {
        "nonce": nonce,
        "gas": 2_000_000,
        "value": 0,
        "maxFeePerGas": 3 * 10**9,
        "maxPriorityFeePerGas": 10**9,
        "chainId": 131277322940537,
        **fields,
    }
    signed = account.sign_transaction(transaction)
    return w3.eth.wait_for_transaction_receipt(w3.eth.send_raw_transaction(signed.raw_transaction))


def paces(w3: Web3, chunk: int) -> Iterator[float]:
    """Milliseconds of this process a transaction, for each chunk of them: an event and a payment to a contract."""
    artifact, account = load_contract(CONTRACTS / "test" / "Probe.sol"), engine_accounts()[0]
    factory = w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
    address = transact(w3, account, 0, data=factory.bytecode, to="")["contractAddress"]
    data = w3.eth.contract(address, abi=artifact.abi).encode_abi("note", [1, "speed"])
    for first in count(1, chunk):
        start = time.process_time()
        for nonce in range(first, first + chunk):
            assert transact(w3, account, nonce, to=address, data=data, value=1)["status"] == 1
        yield (time.process_time() - start) * 1e3 / chunk


def main(blocks: int, chunk: int = 100) -> None:
    sys.stdout.write("up to block  eth-tester ms  engine ms\n")
    runs = zip(paces(plain(), chunk), paces(open_engine("py-evm").w3, chunk), strict=True)
    for block, (theirs, ours) in zip(range(chunk, blocks + 1, chunk), runs, strict=False):
        sys.stdout.write(f"{block:11}  {theirs:13.2f}  {ours:9.2f}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)

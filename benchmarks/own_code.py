"""Own code beside the library that it stands in for, on the same chain: what docs/decisions 3, 4 and 14 quote.

    python benchmarks/own_code.py [ROUNDS]

Prints microseconds of processor time, both sides in turns in one process, and their ratio.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any
from uuid import uuid4

from app.db.statements import Compiled
from app.db.tables import operations, payments
from eth_account.signers.local import LocalAccount
from eth_tester.backends.pyevm.main import PyEVMBackend
from eth_utils.address import to_canonical_address
from sqlalchemy import Uuid, bindparam, select, update
from stakesim.evm.abi import ContractAbi
from stakesim.evm.chain_spec import engine_accounts
from stakesim.evm.client import RpcClient
from stakesim.evm.compiler import compile_contracts
from stakesim.evm.engines import open_engine
from stakesim_adapter.backend import EventStakeBackend
from web3 import EthereumTesterProvider, Web3
from web3.logs import DISCARD

ETH = 10**18
SEATS = 6
LEAD_TIME_S = 86_400
REPEATS = 20


def microseconds(call: Callable[[], object]) -> float:
    """Processor time of one call in microseconds, the mean of `REPEATS`."""
    start = time.process_time()
    for _ in range(REPEATS):
        call()
    return (time.process_time() - start) * 1e6 / REPEATS


def compare(title: str, library: Callable[[], object], own: Callable[[], object], rounds: int) -> None:
    """Prints the medians of both, measured in turns."""
    pairs = [(microseconds(library), microseconds(own)) for _ in range(rounds)]
    theirs, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    sys.stdout.write(f"{title:58} {theirs:8.0f} {ours:8.0f} {theirs / ours:6.1f}\n")


def views_and_receipts(rounds: int) -> None:
    """A struct view and the events of a settlement: web3's contract objects beside `ContractAbi` and bare requests."""
    artifact, engine = compile_contracts()["EventStake"], open_engine("revm")
    owner, host, *attendees = engine.accounts[: SEATS + 2]
    abi, access = ContractAbi(artifact.abi), RpcClient(engine.w3)
    factory = engine.w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
    init_code = factory.constructor(owner.address, (2_000, 500, 0, 86_400, 604_800)).data_in_transaction
    address = access.transact(owner, None, bytes.fromhex(init_code[2:])).contract_address
    assert address is not None
    start = engine.now() + LEAD_TIME_S
    host_stake = ETH * SEATS // 5
    access.transact(host, address, abi.encode("createEventRun", "pottery", ETH, SEATS, start), host_stake)
    for attendee in attendees:
        access.transact(attendee, address, abi.encode("bookEvent", 1, 1), ETH * 6 // 5)
    engine.set_next_timestamp(start)
    completion = access.transact(host, address, abi.encode("completeEvent", 1, list(range(1, SEATS))))
    assert completion.ok

    contract = engine.w3.eth.contract(address, abi=artifact.abi)
    compare(
        "view getEventRun: web3 contract | ContractAbi and eth_call",
        lambda: contract.functions.getEventRun(1).call(),
        lambda: abi.decode("getEventRun", access.call(address, abi.encode("getEventRun", 1))),
        rounds,
    )
    raw_receipt = engine.w3.eth.get_transaction_receipt(completion.hash)
    kinds = [event for event in contract.events if event.event_name.startswith(("Booking", "EventCompleted"))]
    assert sum(len(kind().process_receipt(raw_receipt, DISCARD)) for kind in kinds) == SEATS + 1
    assert len(abi.events(completion.logs, address)) == SEATS + 1
    compare(
        f"{SEATS + 1} events of a receipt: web3 contract | ContractAbi",
        lambda: [kind().process_receipt(raw_receipt, DISCARD) for kind in kinds],
        lambda: abi.events(completion.logs, address),
        rounds,
    )


def in_process_node(rounds: int) -> None:
    """A signed payment on py-evm: eth-tester behind web3 beside the engine's own JSON-RPC node."""
    account, other = engine_accounts()[:2]
    rich = {to_canonical_address(account.address): {"balance": 10**24, "nonce": 0, "code": b"", "storage": {}}}
    eth_tester = Web3(EthereumTesterProvider(PyEVMBackend(genesis_state=rich)))
    own = open_engine("py-evm").w3
    nonces = {id(eth_tester): 0, id(own): 0}

    def pay(w3: Web3) -> Mapping[str, Any]:
        nonce = nonces[id(w3)]
        nonces[id(w3)] += 1
        return _pay(w3, account, other.address, nonce)

    compare(
        "signed payment on py-evm: eth-tester | own JSON-RPC node", lambda: pay(eth_tester), lambda: pay(own), rounds
    )


def statements(rounds: int) -> None:
    """A row of 24 columns, and an update of four: SQLAlchemy beside `Compiled`, each on a connection of the pool."""
    with closing(EventStakeBackend()) as backend:
        read = select(payments).where(payments.c.id == bindparam("of_id", type_=Uuid))
        write = update(operations).where(operations.c.key == bindparam("of_key"), operations.c.state == "prepared")
        columns = {"nonce": 1, "tx_hash": "0x", "held": None, "attempts": []}
        write = write.values({name: bindparam(f"new_{name}") for name in columns})
        values = {"of_key": "none", **{f"new_{name}": value for name, value in columns.items()}}

        def run(statement: Any, parameters: dict[str, Any]) -> None:
            with backend.database.autocommit() as connection:
                connection.execute(statement, parameters)

        for title, statement, parameters in (
            ("select of a payment: SQLAlchemy | compiled", read, {"of_id": uuid4()}),
            ("update of an operation: SQLAlchemy | compiled", write, values),
        ):
            compiled = Compiled(statement)
            compare(title, partial(run, statement, parameters), partial(run, compiled, parameters), rounds)


def _pay(w3: Web3, account: LocalAccount, to: str, nonce: int) -> Mapping[str, Any]:
    transaction = {
        "to": to,
        "nonce": nonce,
        "gas": 21_000,
        "value": 1,
        "maxFeePerGas": 3 * 10**9,
        "maxPriorityFeePerGas": 10**9,
        "chainId": w3.eth.chain_id,
    }
    signed = account.sign_transaction(transaction)
    return w3.eth.wait_for_transaction_receipt(w3.eth.send_raw_transaction(signed.raw_transaction))


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    sys.stdout.write(f"{'microseconds':58} {'library':>8} {'own':>8} {'ratio':>6}\n")
    views_and_receipts(rounds)
    in_process_node(rounds)
    statements(rounds)

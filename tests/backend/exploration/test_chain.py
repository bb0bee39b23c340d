"""The small chain of the exploration answers as an anvil does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from app.services.rpc_errors import RefusalKind, classify
from stakesim.evm.anvil import AnvilEngine
from stakesim.evm.engines import open_engine
from web3.exceptions import Web3RPCError
from web3.types import RPCEndpoint

from .chain import CONTRACT, PLATFORM, Chain, Refusal, transaction

GWEI = 10**9


def signed(chain_id: int, nonce: int, max_fee: int, tip: int) -> str:
    """A transaction of the platform; fees in gwei per gas."""
    fields = {"type": 2, "to": CONTRACT.address, "value": 1, "gas": 21_000, "nonce": nonce, "chainId": chain_id}
    fees = {"maxFeePerGas": max_fee * GWEI, "maxPriorityFeePerGas": tip * GWEI}
    return PLATFORM.sign_transaction(fields | fees).raw_transaction.to_0x_hex()


def script(
    send: Callable[[int, int, int], Any], happen: Callable[[str], None], look: Callable[[], Any]
) -> Iterator[Any]:
    """Yields what one node answers to each transaction, and what it shows after each event."""
    yield send(0, 100, 10)
    yield send(0, 100, 10)
    yield send(0, 99, 9)  # an anvil takes any higher fee, geth wants 10 percent more
    yield send(0, 120, 12)
    yield look()
    happen("mine")
    yield look()
    yield send(0, 100, 10)
    yield send(2, 100, 10)
    happen("mine")
    yield look()
    yield send(1, 100, 10)
    happen("mine")
    yield look()
    yield send(3, 100, 10)
    happen("drop")
    happen("mine")
    yield look()
    yield send(3, 100, 10)
    happen("mine")
    happen("reorganise")
    yield look()


def answers_of_chain(chain_id: int) -> list[Any]:
    chain, sent = Chain(), list[str]()

    def send(nonce: int, max_fee: int, tip: int) -> RefusalKind | str | None:
        nonlocal chain
        raw = signed(chain_id, nonce, max_fee, tip)
        sent.append(transaction(raw).hash)
        try:
            chain, tx_hash = chain.send(raw)
        except Refusal as refusal:
            return classify(str(refusal))
        return tx_hash

    def happen(event: str) -> None:
        nonlocal chain
        events = {"mine": chain.mine, "drop": chain.drop_mempool, "reorganise": lambda: chain.reorganise(1, keep=False)}
        chain = events[event]()

    def look() -> Any:
        receipts = [chain.answer("eth_getTransactionReceipt", [tx_hash]) for tx_hash in sent]
        count = chain.answer("eth_getTransactionCount", [PLATFORM.address, "latest"])
        return count, [receipt and receipt["status"] for receipt in receipts]

    return list(script(send, happen, look))


def answers_of_anvil(engine: AnvilEngine) -> list[Any]:
    sent = list[str]()

    def ask(method: str, *params: Any) -> Any:
        return engine.w3.manager.request_blocking(RPCEndpoint(method), list(params))

    def send(nonce: int, max_fee: int, tip: int) -> RefusalKind | str | None:
        raw = signed(engine.w3.eth.chain_id, nonce, max_fee, tip)
        sent.append(transaction(raw).hash)
        try:
            return str(ask("eth_sendRawTransaction", raw))
        except Web3RPCError as error:
            return classify(error)

    def happen(event: str) -> None:
        ask(
            *{"mine": ("evm_mine",), "drop": ("anvil_dropAllTransactions",), "reorganise": ("anvil_reorg", 1, [])}[
                event
            ]
        )

    def look() -> Any:
        receipts = [ask("eth_getTransactionReceipt", tx_hash) for tx_hash in sent]
        count = ask("eth_getTransactionCount", PLATFORM.address, "latest")
        return count, [receipt and receipt["status"] for receipt in receipts]

    ask("evm_setAutomine", False)
    engine.set_balance(PLATFORM.address, 10**20)
    return list(script(send, happen, look))


@pytest.mark.slow
def test_the_chain_answers_as_anvil() -> None:
    with closing(open_engine("anvil")) as engine:
        assert isinstance(engine, AnvilEngine)
        assert answers_of_chain(engine.w3.eth.chain_id) == answers_of_anvil(engine)

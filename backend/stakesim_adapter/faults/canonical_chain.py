"""Reads the canonical chain at the end of an episode."""

from __future__ import annotations

from typing import Any, NamedTuple

from stakesim.evm.abi import Event, Log
from web3.types import TxData, TxReceipt

from stakesim_adapter.faults.testbed import BackendTestbed


class CanonicalChain(NamedTuple):
    """The transactions of an episode that are in the chain, in order.

    Attributes:
        transactions: Transactions by hash.
        receipts: Receipts by transaction hash.
        events: The contract's events by transaction hash; no entry for a transaction without any.
    """

    transactions: dict[str, TxData]
    receipts: dict[str, TxReceipt]
    events: dict[str, list[Event]]


def read_chain(testbed: BackendTestbed) -> CanonicalChain:
    """Reads all blocks since the episode began."""
    sent: dict[str, TxData] = {}
    receipts: dict[str, TxReceipt] = {}
    events: dict[str, list[Event]] = {}
    for number in range(testbed.first_block, testbed.head() + 1):
        transactions: Any = testbed.w3.eth.get_block(number, full_transactions=True)["transactions"]
        for transaction in transactions:
            tx_hash = transaction["hash"].to_0x_hex()
            sent[tx_hash] = transaction
            receipt = receipts[tx_hash] = testbed.w3.eth.get_transaction_receipt(transaction["hash"])
            logs = (Log(log["address"], log["topics"], log["data"]) for log in receipt["logs"])
            if contract_events := testbed.abi.events(logs, testbed.contract):
                events[tx_hash] = contract_events
    return CanonicalChain(sent, receipts, events)

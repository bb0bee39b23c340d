"""The node, its network, and the transactions that wait in it."""

from __future__ import annotations

from collections.abc import Callable

from eth_hash.auto import keccak

from stakesim.evm.abi import checksummed
from stakesim.evm.in_process import rpc_encoding
from stakesim.evm.in_process.evm import Transaction
from stakesim.evm.in_process.node import Methods
from stakesim.evm.in_process.node_core import NodeCore
from stakesim.evm.in_process.rpc_encoding import JsonObject, JsonValue
from stakesim.evm.in_process.rpc_params import data


def methods(core: NodeCore) -> Methods:
    """Methods about the node. It is alone in its network and always up to date."""
    return {
        "eth_blobBaseFee": lambda: "0x1",
        "eth_protocolVersion": lambda: "0x44",
        "eth_syncing": lambda: False,
        "net_listening": lambda: True,
        "net_peerCount": lambda: "0x0",
        "txpool_content": lambda: _by_state(core, rpc_encoding.waiting_transaction),
        "txpool_inspect": lambda: _by_state(core, _in_words),
        "txpool_status": lambda: {state: hex(sum(map(len, group.values()))) for state, group in _grouped(core).items()},
        "web3_sha3": lambda value: rpc_encoding.data(keccak(data(value))),
    }


def _by_state(core: NodeCore, encode: Callable[[Transaction], JsonValue]) -> JsonObject:
    """Encodes the waiting transactions by state, sender and nonce."""
    return {
        state: {
            checksummed(sender): {str(tx.nonce): encode(tx) for tx in transactions}
            for sender, transactions in group.items()
        }
        for state, group in _grouped(core).items()
    }


def _grouped(core: NodeCore) -> dict[str, dict[bytes, list[Transaction]]]:
    """Groups the waiting transactions: `pending` can be mined, `queued` lacks an earlier one of its sender."""
    groups: dict[str, dict[bytes, list[Transaction]]] = {"pending": {}, "queued": {}}
    for tx in sorted(core.mempool.waiting, key=lambda tx: tx.nonce):
        state = "pending" if tx.nonce < core.mempool.next_nonce(tx.sender) else "queued"
        groups[state].setdefault(tx.sender, []).append(tx)
    return groups


def _in_words(tx: Transaction) -> str:
    to = checksummed(tx.to) if tx.to else "contract creation"
    return f"{to}: {tx.value} wei + {tx.gas} gas x {tx.max_fee_per_gas} wei"

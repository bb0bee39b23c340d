"""The default engine: py-evm in this process, on the chain that eth-tester sets up.

web3 talks to `node.Node`, which answers as a real node does, instead of to eth-tester's own request layers.
`tests/engines/speed.py` measures it beside `EthereumTesterProvider`.
"""

from __future__ import annotations

from typing import cast

from eth.abc import MiningChainAPI
from eth_tester.backends.pyevm.main import PyEVMBackend, get_default_genesis_params
from eth_utils.address import to_canonical_address
from web3 import Web3

from harness.evm.chain import Chain, Point
from harness.evm.engine import (
    BLOCK_GAS_LIMIT,
    CHAIN_ID,
    INITIAL_BALANCE,
    MIDDLEWARE,
    START,
    EngineError,
    Snapshot,
    engine_accounts,
)
from harness.evm.node import Node


class PyEvm:
    """An `Engine` on py-evm, with Prague rules. Nothing in it reads the wall clock or is random."""

    name = "py-evm"
    capabilities = frozenset({"time", "snapshot", "balance"})

    def __init__(self) -> None:
        self.accounts = engine_accounts()
        account = {"balance": INITIAL_BALANCE, "nonce": 0, "code": b"", "storage": {}}
        genesis = get_default_genesis_params({"timestamp": START, "gas_limit": BLOCK_GAS_LIMIT})
        state = {to_canonical_address(a.address): account for a in self.accounts}
        backend = PyEVMBackend(genesis, state)
        self._chain = Chain(cast(MiningChainAPI, backend.chain))
        if self._chain.id != CHAIN_ID:
            raise EngineError(f"eth-tester's chain id is now {self._chain.id}: give CHAIN_ID that value.")
        self.w3 = Web3(Node(self._chain), MIDDLEWARE)

    def now(self) -> int:
        return int(self._chain.head.header.timestamp)

    def set_next_timestamp(self, timestamp: int) -> None:
        if timestamp <= self.now():
            raise EngineError(
                f"Time can't go back: give a time after the latest block's {self.now()}, not {timestamp}."
            )
        self._chain.pending = self._chain.pending.copy(timestamp=timestamp)

    def mine(self) -> None:
        self._chain.mine([])

    def snapshot(self) -> Snapshot:
        return self._chain.point()

    def revert(self, snapshot: Snapshot) -> None:
        if not isinstance(snapshot, Point) or not self._chain.rewind(snapshot):
            raise EngineError("The chain never was at this snapshot, or was taken back before it: take a new one.")

    def set_balance(self, address: str, wei: int) -> None:
        self._chain.set_balance(to_canonical_address(address), wei)

    def close(self) -> None:
        """Nothing was started."""

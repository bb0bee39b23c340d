"""Engines on a chain in this process: `py-evm`, the default, and `revm`.

web3 talks to `node.Node`, which answers as a real node does. `tests/engines/speed.py` measures them beside
`EthereumTesterProvider`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eth_utils.address import to_canonical_address
from web3 import Web3

from stakesim.errors import NotInstalled
from stakesim.evm.chain import Chain, Machine, Point
from stakesim.evm.engine import BLOCK_GAS_LIMIT, CHAIN_ID, INITIAL_BALANCE, MIDDLEWARE, START, Snapshot, engine_accounts
from stakesim.evm.errors import EngineError
from stakesim.evm.node import Node

if TYPE_CHECKING:
    from stakesim.evm.coverage import Trace


class InProcess:
    """An `Engine` whose time only goes on when it is told to. Nothing in it reads the wall clock or is random."""

    capabilities = frozenset({"time", "snapshot", "balance"})

    def __init__(self, name: str, trace: Trace | None = None) -> None:
        """trace: notes where the code was; py-evm's alone."""
        self.name = name
        self.accounts = engine_accounts()
        self.chain = Chain(_machine(name, trace), CHAIN_ID)
        self.w3 = Web3(Node(self.chain, name), MIDDLEWARE)

    def now(self) -> int:
        return int(self.chain.head.header.timestamp)

    def set_next_timestamp(self, timestamp: int) -> None:
        if timestamp <= self.now():
            raise EngineError(
                f"Time can't go back: give a time after the latest block's {self.now()}, not {timestamp}."
            )
        self.chain.set_time(timestamp)

    def mine(self) -> None:
        self.chain.mine([])

    def snapshot(self) -> Snapshot:
        return self.chain.point()

    def revert(self, snapshot: Snapshot) -> None:
        if not isinstance(snapshot, Point) or not self.chain.rewind(snapshot):
            raise EngineError("The chain never was at this snapshot, or was taken back before it: take a new one.")

    def set_balance(self, address: str, wei: int) -> None:
        self.chain.set_balance(to_canonical_address(address), wei)

    def close(self) -> None:
        """Nothing was started."""


def _machine(name: str, trace: Trace | None) -> Machine:
    if trace is not None and name != "py-evm":
        raise EngineError(f"The engine {name} can't say where the code was: use py-evm.")
    balances = {bytes(to_canonical_address(account.address)): INITIAL_BALANCE for account in engine_accounts()}
    if name == "revm":
        try:
            from stakesim.evm.revm import Revm
        except ModuleNotFoundError as missing:
            raise NotInstalled("The engine revm", missing.name, "revm", "use --engine py-evm") from None
        return Revm(balances, START, BLOCK_GAS_LIMIT)
    from stakesim.evm.py_evm import PyEvm

    traced = [trace.computation()] if trace is not None else []
    machine = PyEvm(balances, START, BLOCK_GAS_LIMIT, *traced)
    if machine.chain_id != CHAIN_ID:
        raise EngineError(f"eth-tester's chain id is now {machine.chain_id}: give CHAIN_ID that value.")
    return machine

"""The engines on a chain in this process: `py-evm`, the default, and `revm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eth_utils.address import to_canonical_address

from stakesim.errors import NotInstalled
from stakesim.evm.chain_spec import BLOCK_GAS_LIMIT, CHAIN_ID, GENESIS_TIMESTAMP, INITIAL_BALANCE, engine_accounts
from stakesim.evm.engine import Snapshot
from stakesim.evm.errors import EngineError
from stakesim.evm.in_process.chain import Chain, ChainSnapshot
from stakesim.evm.in_process.evm import StateOverride
from stakesim.evm.in_process.node import InProcessNode
from stakesim.evm.in_process.node_core import NodeCore
from stakesim.evm.lean_web3 import lean_web3
from stakesim.evm.quick_import import import_precompiles

if TYPE_CHECKING:
    from stakesim.evm.in_process.evm import Evm
    from stakesim.evm.in_process.trace import ExecutionTrace


class InProcessEngine:
    """An `Engine` whose time moves only when blocks are mined. It reads no wall clock and no random numbers.

    `tests/engines/speed.py` compares its speed with web3's `EthereumTesterProvider`.
    """

    capabilities = frozenset({"time", "snapshot", "balance", "storage"})

    def __init__(self, name: str, trace: ExecutionTrace | None = None) -> None:
        """Starts a chain.

        Args:
            name: `py-evm` or `revm`.
            trace: Records which instructions run; only for `py-evm`.

        Raises:
            NotInstalled: pyrevm is not installed.
            EngineError: The installed eth-tester has another chain id than `CHAIN_ID`.
        """
        self.name = name
        self.accounts = engine_accounts()
        self.chain = Chain(_open_evm(name, trace), CHAIN_ID)
        self.w3 = lean_web3(InProcessNode(NodeCore(self.chain, name)))

    def now(self) -> int:
        """See `Engine.now`."""
        return int(self.chain.head.header.timestamp)

    def set_next_timestamp(self, timestamp: int) -> None:
        """See `Engine.set_next_timestamp`."""
        if timestamp <= self.now():
            raise EngineError(
                f"Time can't go back: give a time after the latest block's {self.now()}, not {timestamp}."
            )
        self.chain.set_time(timestamp)

    def mine(self) -> None:
        """See `Engine.mine`."""
        self.chain.mine([])

    def snapshot(self) -> Snapshot:
        """See `Engine.snapshot`."""
        return self.chain.snapshot()

    def revert(self, snapshot: Snapshot) -> None:
        """See `Engine.revert`."""
        if not isinstance(snapshot, ChainSnapshot) or not self.chain.revert(snapshot):
            raise EngineError("The chain never was at this snapshot, or was taken back before it: take a new one.")

    def set_balance(self, address: str, wei: int) -> None:
        """See `Engine.set_balance`."""
        self.chain.set_state({to_canonical_address(address): StateOverride(balance=wei)})

    def set_storage(self, address: str, slot: int, value: int) -> None:
        """See `Engine.set_storage`."""
        self.chain.set_state({to_canonical_address(address): StateOverride(slots={slot: value})})

    def close(self) -> None:
        """Does nothing: the chain is memory of this process."""


def development_node(name: str) -> InProcessNode:
    """Starts a chain for a web3 client, which has the node's accounts and all its methods.

    Args:
        name: `py-evm` or `revm`.

    Raises:
        NotInstalled: pyrevm is not installed.
    """
    from stakesim.evm.in_process.rpc_methods.all_methods import all_methods

    engine = InProcessEngine(name)
    core = NodeCore(engine.chain, name, engine.accounts)
    return InProcessNode(core, all_methods(core))


def _open_evm(name: str, trace: ExecutionTrace | None) -> Evm:
    balances = {bytes(to_canonical_address(account.address)): INITIAL_BALANCE for account in engine_accounts()}
    if name == "revm":
        try:
            from stakesim.evm.in_process.revm import Revm
        except ModuleNotFoundError as missing:
            raise NotInstalled("The engine revm", missing.name, "revm", "use --engine py-evm") from None
        return Revm(balances, GENESIS_TIMESTAMP, BLOCK_GAS_LIMIT)
    import_precompiles()
    from stakesim.evm.in_process.py_evm import GasWatchingComputation, PyEvm

    computation = trace.computation() if trace is not None else GasWatchingComputation
    evm = PyEvm(balances, GENESIS_TIMESTAMP, BLOCK_GAS_LIMIT, computation)
    if evm.chain_id != CHAIN_ID:
        raise EngineError(f"eth-tester's chain id is now {evm.chain_id}: give CHAIN_ID that value.")
    return evm

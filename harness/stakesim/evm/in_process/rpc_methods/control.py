"""Control of the chain, under the names of anvil, Hardhat, and web3's `w3.testing`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stakesim.evm.in_process.chain import Block, ChainSnapshot
from stakesim.evm.in_process.evm import StateOverride, Transaction
from stakesim.evm.in_process.node import Methods
from stakesim.evm.in_process.node_core import NodeCore
from stakesim.evm.in_process.rpc_encoding import JsonValue
from stakesim.evm.in_process.rpc_error import INVALID_PARAMS, RpcError
from stakesim.evm.in_process.rpc_params import Data, Number, address, data, integer

_MOST_BLOCKS = 100_000


class _Saved(NamedTuple):
    """A state to return to: the chain, and the transactions that waited."""

    chain: ChainSnapshot
    waiting: tuple[Transaction, ...]


class Control:
    """Time, blocks and snapshots of one node."""

    def __init__(self, core: NodeCore) -> None:
        self._core = core
        self._saved: dict[int, _Saved] = {}
        self._next_id = 1

    def mine(self, blocks: Number = 1, interval: Number = 1) -> str:
        """Mines blocks, `interval` seconds apart. Waiting transactions are in the first."""
        blocks_wanted, seconds = integer(blocks), integer(interval)
        if not 0 <= blocks_wanted <= _MOST_BLOCKS:
            raise RpcError(INVALID_PARAMS, f"can't mine {blocks_wanted} blocks: 0 to {_MOST_BLOCKS} are possible")
        for number in range(blocks_wanted):
            if number and seconds != 1:
                self._core.chain.set_time(self._now + seconds)
            self._core.mempool.mine()
        return "0x0"

    def set_automine(self, enabled: bool) -> bool:
        """Mines each transaction when it comes, or keeps them. What waits is mined when this is switched on."""
        self._core.mempool.mines_at_once = enabled
        if enabled and self._core.mempool.waiting:
            self._core.mempool.mine()
        return True

    def snapshot(self) -> str:
        """Saves the state, and returns an id for `revert`."""
        number, self._next_id = self._next_id, self._next_id + 1
        self._saved[number] = _Saved(self._core.chain.snapshot(), self._core.mempool.waiting)
        return hex(number)

    def revert(self, snapshot_id: Number) -> bool:
        """Returns to a snapshot, and forgets it and all later ones. Returns False if there is none."""
        number = integer(snapshot_id)
        saved = self._saved.get(number)
        if saved is None or not self._core.chain.revert(saved.chain):
            return False
        self._saved = {earlier: each for earlier, each in self._saved.items() if earlier < number}
        self._core.mempool.waiting = saved.waiting
        return True

    def reset(self) -> bool:
        """Returns to the genesis block, and forgets all snapshots."""
        chain = self._core.chain
        genesis = chain.evm.genesis
        self._saved.clear()
        self._core.mempool.waiting = ()
        return chain.revert(ChainSnapshot(Block(genesis, genesis.hash), chain.evm.header_after(genesis)))

    def set_time(self, timestamp: Number) -> bool:
        """Sets the timestamp of the next block, in seconds since 1970."""
        seconds = integer(timestamp)
        if seconds <= self._now:
            raise RpcError(INVALID_PARAMS, f"time can't go back: {seconds} is not after the latest block's {self._now}")
        self._core.chain.set_time(seconds)
        return True

    def increase_time(self, seconds: Number) -> str:
        """Moves the next block's time on, by seconds."""
        self.set_time(self._core.chain.pending.timestamp + integer(seconds))
        return hex(self._core.chain.pending.timestamp - self._now)

    def override(self, account: Data, change: StateOverride) -> bool:
        """Changes an account in the latest state."""
        self._core.chain.set_state({address(account): change})
        self._core.mempool.drop_stale()
        return True

    @property
    def _now(self) -> int:
        return int(self._core.chain.head.header.timestamp)


def methods(core: NodeCore) -> Methods:
    """Methods that control the chain. Those of `anvil_` exist under `hardhat_` as well."""
    control = Control(core)
    override = control.override
    named: dict[str, Callable[..., JsonValue]] = {
        "mine": control.mine,
        "setBalance": lambda account, wei: override(account, StateOverride(balance=integer(wei))),
        "setNonce": lambda account, nonce: override(account, StateOverride(nonce=integer(nonce))),
        "setCode": lambda account, code: override(account, StateOverride(code=data(code))),
        "setStorageAt": lambda account, slot, word: override(
            account, StateOverride(slots={integer(slot): int.from_bytes(data(word))})
        ),
    }
    return {
        **{f"{prefix}_{name}": method for prefix in ("anvil", "hardhat") for name, method in named.items()},
        "anvil_getAutomine": lambda: core.mempool.mines_at_once,
        "hardhat_getAutomine": lambda: core.mempool.mines_at_once,
        "evm_increaseTime": control.increase_time,
        "evm_mine": lambda blocks=1: control.mine(blocks),
        "evm_reset": control.reset,
        "evm_revert": control.revert,
        "evm_setAutomine": control.set_automine,
        "evm_setNextBlockTimestamp": control.set_time,
        "evm_snapshot": control.snapshot,
        "testing_timeTravel": control.set_time,
    }

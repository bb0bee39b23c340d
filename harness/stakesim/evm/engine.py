"""The `Engine` protocol: a chain to play on. What runs on top of it pays no attention to which one it is.

Every engine passes the same conformance suite (`tests/engines`), so the same calls give the same errors, receipts and
times on each. `py-evm`, `revm` and `anvil` also run the same fork from the same genesis, so transaction hashes,
contract addresses, gas and fees agree between them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Protocol

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from web3 import Web3
from web3.middleware import AttributeDictMiddleware

from stakesim.evm.errors import EngineError

START = 4_102_444_800
"""Timestamp of the genesis block of the chains we start: 2100-01-01T00:00:00Z, in seconds."""

CHAIN_ID = 131_277_322_940_537
"""The chain id of eth-tester, and of the anvil we start, so that a signed transaction is the same on both."""

BLOCK_GAS_LIMIT = 30_000_000
"""Gas of a block: room for one transaction of 16,777,216 gas, the cap of EIP-7825."""

INITIAL_BASE_FEE = 10**9
"""Base fee of the genesis block of the chains we start, in wei per gas."""

PRIORITY_FEE = 10**9
"""Suggested tip in wei per gas, as anvil suggests it."""

MIDDLEWARE = (AttributeDictMiddleware,)
"""What an engine's web3 does with each request: no more than make results readable. web3's other defaults look up names
and price strategies that nobody uses here, and ask for the chain id before each call."""

ACCOUNTS = 40
INITIAL_BALANCE = 1_000_000 * 10**18
"""Number of accounts of a chain we start, and the wei in each."""


class Snapshot(Protocol):
    """A point to return to, as often as one likes. Opaque: only its own engine can read it."""


class Engine(Protocol):
    """A chain that mines each transaction it is sent in a block of its own."""

    name: str
    w3: Web3
    capabilities: frozenset[str]
    """Of "time" (`set_next_timestamp`), "snapshot" (`snapshot`, `revert`) and "balance" (`set_balance`)."""

    @property
    def accounts(self) -> Sequence[LocalAccount]:
        """Funded, with their keys here. The same on `py-evm`, `revm` and `anvil`."""
        ...

    def now(self) -> int:
        """The timestamp of the latest block, in seconds."""
        ...

    def set_next_timestamp(self, timestamp: int) -> None:
        """The next block has exactly this time; calls and estimates on "pending" see it at once.

        Raises `EngineError` unless it is later than `now()`.
        """
        ...

    def mine(self) -> None:
        """Mines one empty block."""
        ...

    def snapshot(self) -> Snapshot:
        """Remembers balances, code, storage, nonces, blocks, fees and time."""
        ...

    def revert(self, snapshot: Snapshot) -> None:
        """Puts the chain back. Raises `EngineError` for a snapshot that an earlier revert has undone."""
        ...

    def set_balance(self, address: str, wei: int) -> None:
        """Sets the balance in the latest state, without mining."""
        ...

    def close(self) -> None:
        """Stops what the engine started. The engine is of no use afterwards; closing twice does no harm."""
        ...


@functools.cache
def engine_accounts(count: int = ACCOUNTS) -> tuple[LocalAccount, ...]:
    """The accounts of a chain we start: the key of account i is keccak256("stakesim account i")."""
    return tuple(Account.from_key(keccak(text=f"stakesim account {i}")) for i in range(count))


def open_engine(name: str, **options: Any) -> Engine:
    """`py-evm`, `revm`, `anvil`, or a node's URL, bare or as `rpc:URL`.

    `keys=[...]` gives the private keys of the accounts on a node that is not ours.
    Raises `EngineError` for any other name, and when the engine can't be started or reached.
    """
    if name in ("py-evm", "revm"):
        from stakesim.evm.in_process import InProcess

        return InProcess(name, **options)
    if name == "anvil":
        from stakesim.evm.anvil import Anvil

        return Anvil(**options)
    url = name.removeprefix("rpc:")
    if url.startswith(("http://", "https://")):
        from stakesim.evm.rpc import Rpc

        return Rpc(url, **options)
    raise EngineError(f"Unknown engine {name!r}: choose py-evm, revm, anvil, or rpc:http://HOST:PORT.")

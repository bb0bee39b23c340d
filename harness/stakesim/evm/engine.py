"""The `Engine` protocol: a chain to run scenarios on.

Every engine passes one conformance suite (`tests/engines`): the same calls give the same errors, receipts and
timestamps. `py-evm`, `revm` and `anvil` also start from the same genesis (`chain_spec`) and have the same rules, as far
as the contracts here use them: transaction hashes, contract addresses, gas and fees agree. py-evm has Prague's rules,
revm those of Cancun with Prague's price of data; both also have Osaka's cap on the gas of a transaction. anvil has
Prague's, or those of the hard fork in its name, as `anvil:osaka`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3


class Snapshot(Protocol):
    """A state of the chain to return to, any number of times. Only the engine that made it can read it."""


class Engine(Protocol):
    """A chain that mines each transaction in a block of its own as soon as it receives it.

    Attributes:
        name: The engine's name for ledgers and messages.
        w3: A web3 client of the chain's node.
        capabilities: Subset of "time" (`set_next_timestamp`, `mine`), "snapshot" (`snapshot`, `revert`) and "balance"
            (`set_balance`), "storage" (`set_storage`). A method whose capability is missing raises `NotSupported`.
    """

    name: str
    w3: Web3
    capabilities: frozenset[str]

    @property
    def accounts(self) -> Sequence[LocalAccount]:
        """Funded accounts with their private keys. The same on `py-evm`, `revm` and `anvil`."""
        ...

    def now(self) -> int:
        """Returns the timestamp of the latest block, in seconds since 1970."""
        ...

    def set_next_timestamp(self, timestamp: int) -> None:
        """Sets the timestamp of the next block. Calls and estimates on "pending" see it immediately.

        Args:
            timestamp: Seconds since 1970.

        Raises:
            EngineError: `timestamp` is not later than `now()`.
        """
        ...

    def mine(self) -> None:
        """Mines one empty block."""
        ...

    def snapshot(self) -> Snapshot:
        """Saves balances, code, storage, nonces, blocks, fees and time."""
        ...

    def revert(self, snapshot: Snapshot) -> None:
        """Restores a snapshot. Snapshots that were taken after it become invalid.

        Raises:
            EngineError: An earlier `revert` has made the snapshot invalid, or it is another engine's.
        """
        ...

    def set_balance(self, address: str, wei: int) -> None:
        """Sets a balance in the latest state, without mining a block."""
        ...

    def set_storage(self, address: str, slot: int, value: int) -> None:
        """Sets a slot of a contract's storage in the latest state, without mining a block."""
        ...

    def close(self) -> None:
        """Stops what the engine started. May be called twice; the engine can't be used afterwards."""
        ...

"""The engine on a node behind a URL: a development node or a live network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import requests
from eth_account import Account
from eth_account.signers.local import LocalAccount
from requests.exceptions import RequestException
from web3.exceptions import Web3Exception, Web3RPCError
from web3.providers import HTTPProvider
from web3.types import RPCEndpoint

from stakesim.evm.chain_spec import INITIAL_BALANCE, engine_accounts
from stakesim.evm.engine import Snapshot
from stakesim.evm.errors import EngineError, NotSupported
from stakesim.evm.lean_web3 import lean_web3

TIMEOUT_S = 30


@dataclass
class _RemoteSnapshot:
    """A snapshot on the node. Its id is valid for one revert, so each revert takes a new one and stores its id here."""

    id: str
    next_timestamp: int
    next_base_fee: int


class RemoteEngine:
    """An `Engine` on the node at a URL.

    Attributes:
        capabilities: Those of the development methods that the node has. anvil and Hardhat have all, a live network
            has none.
        accounts: Those of the given private keys. Without keys, `engine_accounts`, funded, where the node can set
            balances; else none.
    """

    name = "rpc"

    def __init__(self, url: str, keys: Sequence[str] = ()) -> None:
        """Connects to the node.

        Args:
            url: HTTP URL of its JSON-RPC endpoint.
            keys: Private keys in hex.

        Raises:
            EngineError: No node answers at the URL.
        """
        # no automatic retries: the code on top decides what to repeat, and when
        provider = HTTPProvider(url, {"timeout": TIMEOUT_S}, _session(url), exception_retry_configuration=None)
        self.w3 = lean_web3(provider)
        try:
            self.w3.eth.chain_id  # noqa: B018, the shortest request there is
        except (OSError, RequestException, Web3Exception) as error:
            raise EngineError(f"No Ethereum node answers at {url}: start it, or correct the URL.") from error
        self._snapshots: list[_RemoteSnapshot] = []
        self.capabilities = self._find_capabilities()
        self.accounts: Sequence[LocalAccount] = [Account.from_key(key) for key in keys]
        if not keys and "balance" in self.capabilities:
            self.accounts = engine_accounts()
            for account in self.accounts:
                self.set_balance(account.address, INITIAL_BALANCE)

    def now(self) -> int:
        """See `Engine.now`."""
        return self.w3.eth.get_block("latest")["timestamp"]

    def set_next_timestamp(self, timestamp: int) -> None:
        """See `Engine.set_next_timestamp`."""
        self._require("time")
        if timestamp <= self.now():
            raise EngineError(
                f"Time can't go back: give a time after the latest block's {self.now()}, not {timestamp}."
            )
        self._request("evm_setNextBlockTimestamp", hex(timestamp))

    def mine(self) -> None:
        """See `Engine.mine`."""
        self._require("time")
        self._request("evm_mine")

    def snapshot(self) -> Snapshot:
        """See `Engine.snapshot`."""
        self._require("snapshot")
        self._snapshots.append(self._take_snapshot())
        return self._snapshots[-1]

    def revert(self, snapshot: Snapshot) -> None:
        """See `Engine.revert`."""
        self._require("snapshot")
        if not isinstance(snapshot, _RemoteSnapshot) or not any(each is snapshot for each in self._snapshots):
            raise EngineError("The chain never was at this snapshot, or was taken back before it: take a new one.")
        while self._snapshots[-1] is not snapshot:
            self._snapshots.pop()
        self._restore(snapshot)

    def set_balance(self, address: str, wei: int) -> None:
        """See `Engine.set_balance`."""
        self._require("balance")
        self._request("hardhat_setBalance", address, hex(wei))

    def set_storage(self, address: str, slot: int, value: int) -> None:
        """See `Engine.set_storage`."""
        self._require("storage")
        self._request("hardhat_setStorageAt", address, hex(slot), f"0x{value:064x}")

    def close(self) -> None:
        """Does nothing: the engine did not start the node."""

    def _take_snapshot(self) -> _RemoteSnapshot:
        pending = self.w3.eth.get_block("pending")
        # an anvil on the wall clock gives a pending block the latest block's timestamp within the same second
        next_timestamp = max(pending["timestamp"], self.now() + 1)
        return _RemoteSnapshot(self._request("evm_snapshot"), next_timestamp, pending["baseFeePerGas"])

    def _restore(self, snapshot: _RemoteSnapshot) -> None:
        if not self._request("evm_revert", snapshot.id):
            raise EngineError("The node no longer has this snapshot: somebody else reverts on the same node.")
        snapshot.id = self._request("evm_snapshot")
        # a revert drops a timestamp that was set, and anvil 1.7.1 continues with the base fee of one block later
        self._request("evm_setNextBlockTimestamp", hex(snapshot.next_timestamp))
        self._request("hardhat_setNextBlockBaseFeePerGas", hex(snapshot.next_base_fee))

    def _find_capabilities(self) -> frozenset[str]:
        """Tries the development methods, and undoes their effects."""
        try:
            before = self._take_snapshot()
        except Web3RPCError:
            return frozenset()
        capabilities = {"snapshot", "time"}
        try:
            self._request("hardhat_setBalance", "0x" + "00" * 19 + "01", "0x1")
            capabilities |= {"balance", "storage"}  # nodes that have the one have the other
        except Web3RPCError:
            pass  # the node has no such method
        self._restore(before)
        return frozenset(capabilities)

    def _request(self, method: str, *params: Any) -> Any:
        """Sends a request. Raises web3's `Web3RPCError` for an error of the node."""
        return self.w3.manager.request_blocking(RPCEndpoint(method), list(params))

    def _require(self, capability: str) -> None:
        if capability not in self.capabilities:
            raise NotSupported(f"The node behind this engine can't do {capability!r}: use py-evm or anvil for this.")


def _session(url: str) -> requests.Session:
    """Opens a session that reads the environment's proxies and certificates once: per request it takes 0.13 ms."""
    session = requests.Session()
    for name, value in session.merge_environment_settings(url, {}, None, None, None).items():
        setattr(session, name, value)
    session.trust_env = False
    return session

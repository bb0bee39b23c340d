"""The engine on a node behind a URL: a development node, or a live network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import requests
from eth_account import Account
from eth_account.signers.local import LocalAccount
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import Web3Exception, Web3RPCError
from web3.providers import HTTPProvider
from web3.types import RPCEndpoint

from stakesim.evm.engine import INITIAL_BALANCE, MIDDLEWARE, Snapshot, engine_accounts
from stakesim.evm.errors import EngineError, NotSupported

TIMEOUT_S = 30


def _session(url: str) -> requests.Session:
    """One that reads the environment's proxies and certificates now: at each request it takes 0.13 ms."""
    session = requests.Session()
    for name, value in session.merge_environment_settings(url, {}, None, None, None).items():
        setattr(session, name, value)
    session.trust_env = False
    return session


@dataclass
class _Snapshot:
    """The node's own id is good for one revert only, so each revert puts a new one here."""

    id: str
    next_timestamp: int
    next_base_fee: int


class Rpc:
    """An `Engine` on the node at a URL.

    The capabilities are those of its development methods, which anvil and Hardhat share; a live network has none.
    `accounts` are those of the given private keys, else, where balances can be set, the usual ones, funded.
    Raises `EngineError` if there is no node.
    """

    name = "rpc"

    def __init__(self, url: str, keys: Sequence[str] = ()) -> None:
        # no silent second attempts: what to repeat, and when, is for the code on top to say
        provider = HTTPProvider(url, {"timeout": TIMEOUT_S}, _session(url), exception_retry_configuration=None)
        self.w3 = Web3(provider, MIDDLEWARE)
        try:
            self.w3.eth.chain_id  # noqa: B018, the shortest question there is
        except (OSError, RequestException, Web3Exception) as error:
            raise EngineError(f"No Ethereum node answers at {url}: start it, or correct the URL.") from error
        self._snapshots: list[_Snapshot] = []
        self.capabilities = self._probe()
        self.accounts: Sequence[LocalAccount] = [Account.from_key(key) for key in keys]
        if not keys and "balance" in self.capabilities:
            self.accounts = engine_accounts()
            for account in self.accounts:
                self.set_balance(account.address, INITIAL_BALANCE)

    def now(self) -> int:
        return self.w3.eth.get_block("latest")["timestamp"]

    def set_next_timestamp(self, timestamp: int) -> None:
        self._need("time")
        if timestamp <= self.now():
            raise EngineError(
                f"Time can't go back: give a time after the latest block's {self.now()}, not {timestamp}."
            )
        self._request("evm_setNextBlockTimestamp", hex(timestamp))

    def mine(self) -> None:
        self._need("time")
        self._request("evm_mine")

    def snapshot(self) -> Snapshot:
        self._need("snapshot")
        self._snapshots.append(self._take())
        return self._snapshots[-1]

    def revert(self, snapshot: Snapshot) -> None:
        self._need("snapshot")
        if not isinstance(snapshot, _Snapshot) or not any(kept is snapshot for kept in self._snapshots):
            raise EngineError("The chain never was at this snapshot, or was taken back before it: take a new one.")
        while self._snapshots[-1] is not snapshot:
            self._snapshots.pop()
        self._restore(snapshot)

    def set_balance(self, address: str, wei: int) -> None:
        self._need("balance")
        self._request("hardhat_setBalance", address, hex(wei))

    def close(self) -> None:
        """The node is not ours to stop."""

    def _take(self) -> _Snapshot:
        pending = self.w3.eth.get_block("pending")
        # an anvil that goes by the wall clock shows the latest block's second again while it lasts
        next_timestamp = max(pending["timestamp"], self.now() + 1)
        return _Snapshot(self._request("evm_snapshot"), next_timestamp, pending["baseFeePerGas"])

    def _restore(self, snapshot: _Snapshot) -> None:
        if not self._request("evm_revert", snapshot.id):
            raise EngineError("The node no longer has this snapshot: somebody else reverts on the same node.")
        snapshot.id = self._request("evm_snapshot")
        # a node forgets a time that was set, and anvil 1.7.1 goes on with the fee of the block after the right one
        self._request("evm_setNextBlockTimestamp", hex(snapshot.next_timestamp))
        self._request("hardhat_setNextBlockBaseFeePerGas", hex(snapshot.next_base_fee))

    def _probe(self) -> frozenset[str]:
        """Tries the development methods, and undoes what they did."""
        try:
            before = self._take()
        except Web3RPCError:
            return frozenset()
        found = {"snapshot", "time"}
        try:
            self._request("hardhat_setBalance", "0x" + "00" * 19 + "01", "0x1")
            found.add("balance")
        except Web3RPCError:
            pass  # one capability less
        self._restore(before)
        return frozenset(found)

    def _request(self, method: str, *params: Any) -> Any:
        """Raises web3's `Web3RPCError` for an error of the node."""
        return self.w3.manager.request_blocking(RPCEndpoint(method), list(params))

    def _need(self, capability: str) -> None:
        if capability not in self.capabilities:
            raise NotSupported(f"The node behind this engine can't do {capability!r}: use py-evm or anvil for this.")

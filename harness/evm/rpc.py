"""Engines on a node behind a URL: any node there is, and an anvil that we start and stop."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import Web3Exception, Web3RPCError
from web3.providers import HTTPProvider
from web3.types import RPCEndpoint

from harness.evm.compiler import NODE_MODULES
from harness.evm.engine import (
    BLOCK_GAS_LIMIT,
    CHAIN_ID,
    INITIAL_BALANCE,
    INITIAL_BASE_FEE,
    START,
    EngineError,
    NotSupported,
    Snapshot,
    engine_accounts,
)

TIMEOUT_S = 30
START_TIMEOUT_S = 20


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
        self.w3 = Web3(HTTPProvider(url, request_kwargs={"timeout": TIMEOUT_S}, exception_retry_configuration=None))
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


class Anvil(Rpc):
    """An `Engine` on an anvil of our own, with the fork, genesis time, gas limit and chain id of the py-evm engine.

    It is silent, listens on a free local port, and ends with `close()` or with this process, however that ends.
    """

    name = "anvil"

    def __init__(self) -> None:
        url, self._stop = _start_anvil()
        try:
            super().__init__(url)
            # a second a block, where anvil would go by the wall clock
            self._request("anvil_setBlockTimestampInterval", 1)
            self.set_next_timestamp(START + 1)
            # anvil gives the first block the fee of the genesis block; by EIP-1559 it is 1/8 less
            self._request("hardhat_setNextBlockBaseFeePerGas", hex(INITIAL_BASE_FEE * 7 // 8))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._stop()


# Shell: run a command, and end it when standard input closes, as it does when the process that holds the other end
# is over, be it by kill -9. $1 is a folder to remove at the end.
_WITH_LIFELINE = """
exec 3<&0; folder=$1; shift
"$@" 3<&- </dev/null & it=$!
{ read -r _; kill $it; } <&3 &
exec 3<&-; wait $it; rm -rf "$folder"
"""


def _start_anvil() -> tuple[str, Callable[[], None]]:
    """Its URL once it answers, and what stops it. Raises `EngineError`."""
    binary = _find_anvil()
    for _ in range(3):  # another process may take the free port first
        port, states = _free_port(), tempfile.mkdtemp(prefix="stakesim-anvil-")
        command = [binary, "--silent", "--port", str(port), "--hardfork", "prague", "--accounts", "0"]
        command += ["--timestamp", str(START), "--gas-limit", str(BLOCK_GAS_LIMIT), "--chain-id", str(CHAIN_ID)]
        command += ["--block-base-fee-per-gas", str(INITIAL_BASE_FEE), "--cache-path", states]
        process = subprocess.Popen(
            ["/bin/sh", "-c", _WITH_LIFELINE, "sh", states, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us; the lifeline tells it
        )
        assert process.stdin is not None  # a pipe, as asked for
        stop = weakref.finalize(process, _stop, process.stdin, process.wait)
        if _listens(port, process):
            return f"http://127.0.0.1:{port}", stop
        stop()
    raise EngineError(f"anvil did not start: run `{' '.join(command)}` to see why.")


def _stop(lifeline: IO[bytes], wait: Callable[[float], int]) -> None:
    lifeline.close()
    wait(TIMEOUT_S)


def _listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _find_anvil() -> str:
    """On PATH, else from npm. Raises `EngineError`."""
    ours = sorted(NODE_MODULES.glob("@foundry-rs/anvil-*/bin/anvil"))
    found = shutil.which("anvil") or (str(ours[0]) if ours else None)
    if found is None:
        raise EngineError("There is no anvil: run `make setup-dev`, or install Foundry's anvil so that it is on PATH.")
    return found

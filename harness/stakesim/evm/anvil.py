"""The engine on an anvil that we start and stop."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from stakesim.evm.compiler import node_modules
from stakesim.evm.engine import BLOCK_GAS_LIMIT, CHAIN_ID, INITIAL_BASE_FEE, START
from stakesim.evm.errors import EngineError
from stakesim.evm.rpc import Rpc

START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 10

# Shell: run a command, and end it when standard input closes, as it does when the process that holds the other end is
# over, be it by kill -9. $1 is a folder to remove at the end.
_WITH_LIFELINE = """
exec 3<&0; folder=$1; shift
"$@" 3<&- </dev/null & it=$!
{ read -r _; kill $it; } <&3 &
exec 3<&-; wait $it; status=$?; rm -rf "$folder"; exit $status
"""


class Anvil(Rpc):
    """An `Engine` on an anvil of our own, with the fork, genesis time, gas limit and chain id of the py-evm engine.

    It is silent, listens on a free local port, and ends with `close()` or with this process, however that ends.
    Raises `EngineError` if there is no anvil, or if it does not start.
    """

    name = "anvil"

    def __init__(self) -> None:
        url, stop = start_anvil(
            *("--timestamp", str(START), "--gas-limit", str(BLOCK_GAS_LIMIT), "--chain-id", str(CHAIN_ID)),
            *("--block-base-fee-per-gas", str(INITIAL_BASE_FEE)),
        )
        self._stop = weakref.finalize(self, stop)
        try:
            super().__init__(url)
            self._even_out()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._stop()

    def _even_out(self) -> None:
        """What anvil does in its own way, or by the wall clock."""
        self._request("anvil_setLoggingEnabled", False)
        self._request("anvil_setBlockTimestampInterval", 1)
        self.set_next_timestamp(START + 1)
        # it gives the first block the fee of the genesis block; by EIP-1559 that is 1/8 less
        self._request("hardhat_setNextBlockBaseFeePerGas", hex(INITIAL_BASE_FEE * 7 // 8))


def start_anvil(*options: str) -> tuple[str, Callable[[], None]]:
    """Starts an anvil without accounts on a free local port: its URL, and what stops it. It ends with this process in
    any case. Raises `EngineError`.
    """
    binary, folder = _find_anvil(), Path(tempfile.mkdtemp(prefix="stakesim-anvil-"))
    command = [binary, "--port", "0", "--color", "never", "--accounts", "0", "--hardfork", "prague"]
    command += ["--cache-path", str(folder), *options]
    with (folder / "output").open("w") as into, (folder / "output").open() as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _WITH_LIFELINE, "sh", str(folder), *command],
            stdin=subprocess.PIPE,
            stdout=into,
            stderr=into,
            start_new_session=True,  # Ctrl-C is for us, and the lifeline passes it on
        )
        try:
            return _url(process, output), lambda: _stop(process)
        except BaseException:
            _stop(process)
            raise


def _url(process: subprocess.Popen[bytes], output: TextIO) -> str:
    """Waits until anvil says where it listens. Raises `EngineError` with what it says instead."""
    deadline, said = time.monotonic() + START_TIMEOUT_S, ""
    while time.monotonic() < deadline:
        over = process.poll() is not None
        said += output.read()
        listening = re.search(r"^Listening on (\S+)\n", said, re.MULTILINE)
        if listening:
            return f"http://{listening[1]}"
        if over:
            break
        time.sleep(0.005)
    raise EngineError(f"anvil did not start; it said: {said.strip() or 'nothing'}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    process.wait(STOP_TIMEOUT_S)


def _find_anvil() -> str:
    """On PATH, else from npm. Raises `EngineError`."""
    ours = sorted(node_modules().glob("@foundry-rs/anvil-*/bin/anvil"))
    found = shutil.which("anvil") or (str(ours[0]) if ours else None)
    if found is None:
        raise EngineError("There is no anvil: run `make setup-dev`, or install Foundry's anvil so that it is on PATH.")
    return found

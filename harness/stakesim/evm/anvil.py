"""The engine on an anvil process of its own."""

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

from stakesim.evm.chain_spec import BLOCK_GAS_LIMIT, CHAIN_ID, GENESIS_TIMESTAMP, INITIAL_BASE_FEE
from stakesim.evm.compiler import node_modules
from stakesim.evm.errors import EngineError
from stakesim.evm.hardfork import DEFAULT_HARDFORK, Hardfork
from stakesim.evm.remote import RemoteEngine

KEPT_STATES = 20_000
"""States of blocks that anvil keeps in memory. By default, a reorganisation finds states from before about the last 500
blocks empty, also after these were reverted."""
START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 10

_RUN_UNTIL_STDIN_CLOSES = """
exec 3<&0; folder=$1; shift
"$@" 3<&- </dev/null & it=$!
{ read -r _; kill $it; } <&3 &
exec 3<&-; wait $it; status=$?; rm -rf "$folder"; exit $status
"""
"""Shell script: runs a command and kills it when standard input closes. That happens when the process that holds the
other end of the pipe ends, even by kill -9. `$1` is a folder to remove afterwards."""


class AnvilEngine(RemoteEngine):
    """An `Engine` on an anvil with the chain of `chain_spec`.

    anvil logs nothing and listens on a free local port. It ends with `close()` or with this process, however that ends.
    """

    def __init__(self, hardfork: Hardfork = DEFAULT_HARDFORK, unlocked: int = 0) -> None:
        """Starts anvil.

        Args:
            hardfork: The chain's rules. The name of the engine says which, unless they are the default ones.
            unlocked: Number of funded accounts beside `accounts` that anvil itself signs for.

        Raises:
            EngineError: anvil is not installed, or does not start.
        """
        self.name = "anvil" if hardfork == DEFAULT_HARDFORK else f"anvil:{hardfork}"
        url, stop = start_anvil(
            *("--timestamp", str(GENESIS_TIMESTAMP), "--gas-limit", str(BLOCK_GAS_LIMIT), "--chain-id", str(CHAIN_ID)),
            *("--block-base-fee-per-gas", str(INITIAL_BASE_FEE)),
            accounts=unlocked,
            hardfork=hardfork,
        )
        self._stop = weakref.finalize(self, stop)
        try:
            super().__init__(url)
            self._align_with_other_engines()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stops anvil."""
        self._stop()

    def _align_with_other_engines(self) -> None:
        """Replaces what anvil does by the wall clock or in its own way."""
        self._request("anvil_setLoggingEnabled", False)
        self._request("anvil_setBlockTimestampInterval", 1)
        self.set_next_timestamp(GENESIS_TIMESTAMP + 1)
        # anvil gives the first block the base fee of the genesis block; by EIP-1559 it is 1/8 less
        self._request("hardhat_setNextBlockBaseFeePerGas", hex(INITIAL_BASE_FEE * 7 // 8))


def start_anvil(
    *options: str, accounts: int = 0, hardfork: Hardfork = DEFAULT_HARDFORK
) -> tuple[str, Callable[[], None]]:
    """Starts an anvil on a free local port. It ends at the latest with this process.

    Args:
        options: More command line options for anvil.
        accounts: Number of funded accounts whose keys it has.
        hardfork: The chain's rules.

    Returns:
        Its URL, and a function that stops it.

    Raises:
        EngineError: anvil is not installed, or does not start.
    """
    binary, folder = _find_anvil(), Path(tempfile.mkdtemp(prefix="stakesim-anvil-"))
    command = [binary, "--port", "0", "--color", "never", "--accounts", str(accounts), "--hardfork", hardfork]
    if hardfork == "osaka":
        command.append("--enable-tx-gas-limit")  # its cap on a transaction's gas (EIP-7825) is off in anvil 1.7.1
    command += ["--cache-path", str(folder), "--prune-history", str(KEPT_STATES), *options]
    with (folder / "output").open("w") as output, (folder / "output").open() as output_reader:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _RUN_UNTIL_STDIN_CLOSES, "sh", str(folder), *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches this process only, whose end closes the pipe
        )
        try:
            return _wait_for_url(process, output_reader), lambda: _stop(process)
        except BaseException:
            _stop(process)
            raise


def _wait_for_url(process: subprocess.Popen[bytes], output_reader: TextIO) -> str:
    """Waits until anvil prints its address. Raises `EngineError` with its output if it ends or takes too long."""
    deadline, output = time.monotonic() + START_TIMEOUT_S, ""
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        output += output_reader.read()
        listening = re.search(r"^Listening on (\S+)\n", output, re.MULTILINE)
        if listening:
            return f"http://{listening[1]}"
        if ended:
            break
        time.sleep(0.005)
    raise EngineError(f"anvil did not start; it said: {output.strip() or 'nothing'}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    process.wait(STOP_TIMEOUT_S)


def _find_anvil() -> str:
    """Finds anvil on PATH, else in `node_modules`. Raises `EngineError` if it is in neither."""
    from_npm = sorted(node_modules().glob("@foundry-rs/anvil-*/bin/anvil"))
    binary = shutil.which("anvil") or (str(from_npm[0]) if from_npm else None)
    if binary is None:
        raise EngineError("There is no anvil: run `make setup-dev` in the checkout, or put Foundry's anvil on PATH.")
    return binary

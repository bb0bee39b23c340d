"""Runs the programs of `contracts/proofs`: forge, which builds, and those that read what it built."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.errors import EngineError
from stakesim.paths import checkout

PROOFS = CONTRACTS / "proofs"
INSTALL = "install it with `make -C contracts/proofs`"


def forge() -> Path:
    """Foundry's forge: the npm package's, else the one on PATH.

    Raises:
        EngineError: There is none.
    """
    if packaged := next(PROOFS.glob("node_modules/@foundry-rs/forge-*/bin/forge"), None):
        packaged.chmod(0o755)
        return packaged
    if on_path := shutil.which("forge"):
        return Path(on_path)
    raise EngineError(f"forge is missing: {INSTALL}, or put Foundry's own on PATH.")


def installed(name: str) -> Path:
    """Returns a tool's program.

    Raises:
        EngineError: It, or forge, which builds what it reads, is not installed.
    """
    program = PROOFS / f".{name}" / "bin" / name
    if checkout() is None:
        raise EngineError(f"{name} runs only in a checkout of stakesim, as the wheel does not have its set-up.")
    if not program.exists():
        raise EngineError(f"{name} is missing: {INSTALL}.")
    forge()
    return program


def build(project: Path, limit: float | None = None) -> None:
    """Builds contract and proofs below a folder that has a `foundry.toml`.

    Args:
        project: The folder.
        limit: As in `run`.

    Raises:
        EngineError: forge is missing, or they don't compile.
        TimeoutExpired: See `run`.
    """
    process = run([str(forge()), "build", "--quiet"], project, limit)
    if process.returncode:
        raise EngineError(f"forge can't build the proofs: {last_line(process)}")


def run(command: Sequence[str], folder: Path, limit: float | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a program in a folder, with forge and the checkout's Node on PATH.

    Args:
        command: The program and its arguments.
        folder: Its working directory.
        limit: Seconds that it may take; None: any.

    Raises:
        TimeoutExpired: It has not ended by then. It is killed, with all that it has started.
    """
    path = os.pathsep.join([str(forge().parent), os.environ.get("PATH", ""), str(CONTRACTS.parent / ".venv" / "bin")])
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=limit)
        except BaseException:  # the time is up, or Ctrl-C
            os.killpg(process.pid, signal.SIGKILL)  # halmos takes no SIGTERM
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def last_line(process: subprocess.CompletedProcess[str]) -> str:
    """Returns the last line that a program wrote."""
    output = (process.stderr or process.stdout).strip().splitlines() or ["no output"]
    return output[-1]

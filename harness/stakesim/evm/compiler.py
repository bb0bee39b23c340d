"""Compiles Solidity to artifacts, and caches them on disk.

The artifacts of the packaged contracts ship with the library, so a first run needs no compiler. Other sources are
compiled by the npm package `solc` under Node, which is installed when first needed. A native `solc` of the same version
on PATH is used instead: it gives the same bytecode and starts faster.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stakesim.errors import StakesimError
from stakesim.evm import solc_install
from stakesim.paths import checkout, package_data, shipped, state_dir

CONTRACTS = shipped("contracts")
PACKAGED_ARTIFACTS = package_data("artifacts.json")
"""Artifacts of the packaged contracts; `stakesim compile --write` writes the file."""

SETTINGS: dict[str, Any] = {
    "evmVersion": "cancun",
    "optimizer": {"enabled": True, "runs": 1000},
    "viaIR": True,  # a fifth smaller, and a fifth to a third fewer instructions to run, for twice the compile time
    "metadata": {"bytecodeHash": "ipfs"},  # the hash of all sources ends the code, for an exact match on explorers
}
"""Compiler settings for everything that is deployed."""
_OUTPUTS = ["abi", "evm.bytecode", "evm.deployedBytecode"]


class CompileError(StakesimError):
    """A contract can't be compiled or read: the compiler's messages with file and line, or one sentence."""


@dataclass(frozen=True)
class Artifact:
    """A compiled contract.

    Attributes:
        name: The contract's name.
        source: Its file, by the compiler's name; relative to `contracts/` for packaged contracts.
        abi: Its ABI.
        bytecode: Init code without constructor arguments, in hex with 0x.
        deployed_bytecode: Code on chain, with zeros for immutables, in hex with 0x.
        source_map: The compiler's source map of `bytecode`.
        deployed_source_map: The compiler's source map of `deployed_bytecode`.
        immutables: Positions of immutables in `deployed_bytecode`, by the id of their declaration.
    """

    name: str
    source: str
    abi: list[dict[str, Any]]
    bytecode: str
    deployed_bytecode: str
    source_map: str = ""
    deployed_source_map: str = ""
    immutables: dict[str, list[dict[str, int]]] = field(default_factory=dict)


def compiler_version() -> str:
    """Returns the pinned version, as `contracts/package.json` names it."""
    return solc_install.pinned_packages()["solc"]


def node_modules() -> Path:
    """Returns the folder of the compiler's npm packages: the checkout's, else one below the state directory."""
    return (CONTRACTS if checkout() else state_dir() / f"solc-{compiler_version()}") / "node_modules"


def cache_dir() -> Path:
    """Returns the folder of cached artifacts."""
    return state_dir() / "artifacts"


def project_sources() -> dict[str, str]:
    """Returns the texts of all packaged contracts that runs and campaigns need, by path relative to `contracts/`."""
    # not `rglob` from the top: that reads thousands of folders of npm packages
    needed = (entry for entry in CONTRACTS.iterdir() if entry.name not in ("node_modules", "proofs", "test"))
    paths = (p for entry in needed for p in ([entry] if entry.suffix == ".sol" else entry.rglob("*.sol")))
    return {p.relative_to(CONTRACTS).as_posix(): p.read_text() for p in sorted(paths)}


def compile_contracts() -> dict[str, Artifact]:
    """Returns the artifacts of all packaged contracts by name, compiled only if the sources have changed.

    Raises:
        CompileError: A source does not compile, or there is no compiler.
    """
    sources = project_sources()
    packaged = _read_packaged_artifacts()
    if packaged is not None and packaged["sourceHash"] == source_hash(sources):
        return {name: Artifact(**fields) for name, fields in packaged["contracts"].items()}
    return compile_sources(sources)


@functools.cache
def _read_packaged_artifacts() -> dict[str, Any] | None:
    return json.loads(PACKAGED_ARTIFACTS.read_text()) if PACKAGED_ARTIFACTS.exists() else None


def build_packaged_artifacts() -> dict[str, Any]:
    """Compiles the packaged contracts and returns the content of `PACKAGED_ARTIFACTS`."""
    sources = project_sources()
    compiled = compile_sources(sources)
    return {
        "sourceHash": source_hash(sources),
        "contracts": {name: asdict(artifact) for name, artifact in sorted(compiled.items())},
    }


def build_production_artifact() -> dict[str, Any]:
    """Compiles `EventStake` and returns the content of the artifact file that a backend ships with."""
    sources = project_sources()
    artifact = compile_sources(sources)["EventStake"]
    production_sources = {path: text for path, text in sources.items() if "/" not in path}
    return {
        "contractName": artifact.name,
        "compiler": {"version": compiler_version(), "settings": SETTINGS},
        "sourceHash": source_hash(production_sources),
        "abi": artifact.abi,
        "bytecode": artifact.bytecode,
        "deployedBytecode": artifact.deployed_bytecode,
        "immutableReferences": artifact.immutables,
    }


def compile_sources(sources: Mapping[str, str], file: str = "*", name: str = "*") -> dict[str, Artifact]:
    """Compiles Solidity sources, or reads the result from the cache.

    Args:
        sources: Texts by path. Imports that are not among them are read below `node_modules`.
        file: Path of the one source whose contracts are returned; "*" returns those of all sources.
        name: Name of the one contract that is returned; "*" returns all. Compiling one takes a fraction of the time.

    Returns:
        The contracts of these sources by name; without the chosen one if there is none.

    Raises:
        CompileError: A source does not compile, or the compiler does not run.
        InstallError: The compiler can't be installed.
    """
    cache_file = cache_dir() / f"{source_hash(sources, file, name)}.json"
    if (cached := _read_cache(cache_file)) is not None:
        return cached
    cache_file.parent.mkdir(parents=True, exist_ok=True)
    with _lock(cache_file.with_suffix(".lock")):
        if (cached := _read_cache(cache_file)) is not None:  # another process has compiled it meanwhile
            return cached
        compiled = artifacts_from_output(_compile_standard_json(sources, file, name), sources)
        partial = cache_file.with_suffix(f".{os.getpid()}")  # renamed when complete, as another process may be reading
        partial.write_text(json.dumps({name: asdict(artifact) for name, artifact in compiled.items()}))
        partial.replace(cache_file)
    return compiled


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    """Waits until no other process has the lock: one compiles, and the others read its result."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read_cache(file: Path) -> dict[str, Artifact] | None:
    """Reads cached artifacts; returns None if the file is missing or incomplete, as after a full disk."""
    try:
        return {name: Artifact(**fields) for name, fields in json.loads(file.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def source_hash(sources: Mapping[str, str], *chosen: str) -> str:
    """Returns a SHA-256 over the sources, the compiler settings, the pinned versions and what is chosen, in hex."""
    inputs = [dict(sources), SETTINGS, solc_install.pinned_packages(), *(each for each in chosen if each != "*")]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def artifacts_from_output(output: Mapping[str, Any], sources: Mapping[str, str]) -> dict[str, Artifact]:
    """Returns the contracts of these sources by name, out of the compiler's standard JSON output."""
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
        for path, contracts in output.get("contracts", {}).items()  # the key is missing if no source has a contract
        if path in sources
        for name, compiled in contracts.items()
    }


def find_compiler() -> Path:
    """Returns the compiler's program: a native one of the pinned version, else the npm package.

    Outside a checkout the npm package is installed below the state directory if it is not there.

    Raises:
        CompileError: The checkout has no compiler, or there is no Node to run it.
        InstallError: The compiler can't be installed.
    """
    native = shutil.which("solc")
    if native:
        version = subprocess.run([native, "--version"], capture_output=True, text=True, check=False).stdout
        if f"Version: {compiler_version()}+" in version:
            return Path(native)
    ensure_node_modules()
    if checkout() and solc_install.find_node() is None:
        raise CompileError("Node is missing, which runs the Solidity compiler: run `make setup`.")
    return npm_compiler()


def ensure_node_modules() -> Path:
    """Returns `node_modules` with all packages; outside a checkout it installs them if any is missing.

    Raises:
        CompileError: The checkout lacks a package.
        InstallError: The packages can't be installed.
    """
    if not solc_install.is_complete(node_modules().parent):
        if checkout():
            raise CompileError(f"The Solidity compiler is not installed below {node_modules()}: run `make setup`.")
        solc_install.install(node_modules().parent, compiler_version())
    return node_modules()


def npm_compiler() -> Path:
    """Returns the program that runs the npm package with the command line of `solc`."""
    return CONTRACTS / "solc" if checkout() else solc_install.write_program(node_modules().parent)


class Compiler:
    """A compiler for many requests, as a context manager.

    The npm package stays one process for all requests. A native compiler starts fast, and is started for each.
    """

    def __init__(self) -> None:
        """Starts the compiler. Raises what `find_compiler` raises."""
        self._program = find_compiler()
        self._process: subprocess.Popen[str] | None = None
        if self._program == npm_compiler():
            self._process = start_process([str(self._program), "--base-path", str(node_modules()), "--lines"])

    def __enter__(self) -> Compiler:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            end_process(self._process)

    def compile(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Compiles a standard JSON input.

        Returns:
            The compiler's standard JSON output. Errors in the sources are in it.

        Raises:
            CompileError: The compiler does not run.
        """
        try:
            output: dict[str, Any] = json.loads(self._run(json.dumps(request)))
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise _broken_compiler(error) from None
        return output

    def _run(self, request: str) -> str:
        if self._process is None:
            return _run_native(self._program, request)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        except BaseException:  # else the next request would get the answer to this one
            self._process.kill()
            self._process.wait()
            raise
        if not answer:
            _, reason = self._process.communicate()
            raise subprocess.CalledProcessError(self._process.returncode, str(self._program), stderr=reason)
        return answer


def _run_native(program: Path, request: str) -> str:
    from solcx.exceptions import SolcError
    from solcx.wrapper import solc_wrapper

    try:
        answer, *_ = solc_wrapper(
            solc_binary=program,
            stdin=request,
            standard_json=True,
            base_path=node_modules(),
            allow_paths=[node_modules()],
        )
    except SolcError as error:
        raise subprocess.CalledProcessError(error.return_code or 1, str(program), stderr=error.stderr_data) from None
    return str(answer)


def start_process(command: list[str]) -> subprocess.Popen[str]:
    """Starts a compiler that answers one request after another."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def end_process(process: subprocess.Popen[str]) -> None:
    """Ends a compiler, at once."""
    process.kill()
    process.communicate()


def _compile_standard_json(sources: Mapping[str, str], file: str, name: str) -> dict[str, Any]:
    request = {
        "language": "Solidity",
        "sources": {path: {"content": text} for path, text in sources.items()},
        "settings": SETTINGS | {"outputSelection": {file: {name: _OUTPUTS}}},
    }
    with Compiler() as compiler:
        output = compiler.compile(request)
    if errors := error_messages(output.get("errors", ())):
        raise CompileError(errors)
    return output


def _broken_compiler(error: Exception) -> CompileError:
    """Returns the error for a compiler that gives no output, for example because a file of its package is missing."""
    advice = "run `make setup`" if checkout() else f"remove {node_modules().parent}, and it is installed anew"
    details = getattr(error, "stderr", None) or str(error) or type(error).__name__
    text = details.decode(errors="replace") if isinstance(details, bytes) else str(details)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = next((line for line in lines if "Error" in line), lines[0] if lines else "no reason given")
    return CompileError(f"The Solidity compiler does not run ({reason.rstrip('.')}): {advice}.")


def error_messages(entries: Sequence[Mapping[str, Any]]) -> str:
    """Returns the formatted messages of the errors in the compiler's standard JSON output; warnings are left out."""
    return "\n".join(entry["formattedMessage"].strip() for entry in entries if entry["severity"] == "error")

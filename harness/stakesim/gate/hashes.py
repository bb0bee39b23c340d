"""Hashes, and the commit, that say which contract a report is about."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from eth_utils.crypto import keccak

from stakesim.evm.abi import Abi, AbiItem
from stakesim.evm.compiler import SETTINGS, Artifact, compiler_version
from stakesim.evm.import_resolver import collect_sources

_GIT_TIMEOUT_S = 30


def code_hash(code: str) -> str:
    """Keccak-256 of a hex string's bytes, in hex, as explorers and nodes give it."""
    return "0x" + keccak(hexstr=code).hex()


def abi_hash(abi: Abi) -> str:
    """SHA-256 of what an ABI says of the interface, in hex.

    Two ABIs have the same hash if they have the same functions, events, errors, constructor, `receive` and `fallback`:
    names, types, indexed flags and mutability. The order of the entries and the compiler's own type names do not count.
    """
    return _sha256(sorted({json.dumps(_interface_of(item), sort_keys=True) for item in abi}))


def _interface_of(item: AbiItem) -> dict[str, Any]:
    fields = {name: item.get(name) for name in ("type", "name", "stateMutability")}
    fields |= {name: [_parameter(each) for each in item.get(name, ())] for name in ("inputs", "outputs")}
    return fields | {"anonymous": item.get("anonymous", False)}


def _parameter(parameter: AbiItem) -> list[Any]:
    components = [_parameter(each) for each in parameter.get("components", ())]
    return [parameter["type"], parameter.get("name", ""), parameter.get("indexed", False), components]


def contract_hashes(artifact: Artifact, file: Path) -> dict[str, str | None]:
    """Hashes of a contract's code and ABI, and of what it was compiled from.

    Args:
        artifact: The contract.
        file: Its file.

    Returns:
        By name; None for sources and settings of a compiler's artifact, which does not have them.
    """
    has_source = file.suffix == ".sol"
    return {
        "sources_sha256": _sha256(collect_sources(file.resolve())) if has_source else None,
        "settings_sha256": _sha256([compiler_version(), SETTINGS]) if has_source else None,
        "abi_sha256": abi_hash(artifact.abi),
        "creation_code_keccak256": code_hash(artifact.bytecode),
        "runtime_code_keccak256": code_hash(artifact.deployed_bytecode),
    }


def source_revision(file: Path) -> dict[str, Any] | None:
    """Returns the commit of a file's git checkout, and whether the checkout has changes that are in no commit.

    Returns:
        None if the file is not under git's control, or there is no git.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_GIT_TIMEOUT_S)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "--", file.name)
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

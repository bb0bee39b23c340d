"""Hashes that say which contract a report is about."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from eth_utils.crypto import keccak

from stakesim.evm.compiler import SETTINGS, Artifact, compiler_version
from stakesim.evm.import_resolver import collect_sources


def code_hash(code: str) -> str:
    """Keccak-256 of a hex string's bytes, in hex, as explorers and nodes give it."""
    return "0x" + keccak(hexstr=code).hex()


def contract_hashes(artifact: Artifact, file: Path) -> dict[str, str | None]:
    """Hashes of a contract's code, and of what it was compiled from.

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
        "creation_code_keccak256": code_hash(artifact.bytecode),
        "runtime_code_keccak256": code_hash(artifact.deployed_bytecode),
    }


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

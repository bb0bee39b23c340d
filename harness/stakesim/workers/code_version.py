"""Hashes of code: results are the same only where the code is."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

_LIBRARY = Path(__file__).parents[1]


def hash_of_files(roots: Iterable[Path]) -> str:
    """Returns the first 12 digits of a SHA-256 over Python and JSON files: these, and all in these folders."""
    digest = hashlib.sha256()
    for root in sorted(roots):
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.suffix in (".py", ".json"):
                digest.update(f"{path.relative_to(root.parent).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def library_hash() -> str:
    """Returns the hash of this library's code."""
    return hash_of_files([_LIBRARY])

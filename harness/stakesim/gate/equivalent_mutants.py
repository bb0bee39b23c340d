"""The reviewed list of equivalent mutants: those that behave as the contract does, each with an argument."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from stakesim.evm.compiler import CONTRACTS

EQUIVALENT = CONTRACTS / "equivalent_mutants.json"
"""Rows of `file`, `mutant` (its key) and `argument`: why no call can tell it from the contract."""


def load_equivalents(file: str) -> dict[str, str]:
    """Returns the argument of each equivalent mutant of a contract's file, by the mutant's key.

    Args:
        file: Name of the file.
    """
    rows = json.loads(EQUIVALENT.read_text(encoding="utf-8")) if EQUIVALENT.exists() else []
    return {row["mutant"]: row["argument"] for row in rows if row["file"] == file}


def not_made(equivalents: Mapping[str, str], keys: Iterable[str]) -> list[str]:
    """Keys of the list that no mutant has: the contract has moved on from them."""
    made = set(keys)
    return [key for key in equivalents if key not in made]

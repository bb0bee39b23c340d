"""The reviewed list of equivalent mutants: those that behave as the contract does, each with an argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from stakesim.gate.reviewed import reviewed_rows

EQUIVALENT = "equivalent_mutants.json"
"""Rows of `file`, `mutant` (its key) and `argument`: why no call can tell it from the contract."""


def load_equivalents(file: Path, contract: str | None = None) -> dict[str, str]:
    """Returns the argument of each equivalent mutant of a contract, by the mutant's key.

    Args:
        file: The contract's file.
        contract: Its name; None: all contracts of the file.

    Raises:
        MalformedList: The list can't be read.
    """
    rows = reviewed_rows(file, contract, EQUIVALENT, "mutant", "argument")
    return {row["mutant"]: row["argument"] for row in rows}


def not_made(equivalents: Mapping[str, str], keys: Iterable[str]) -> list[str]:
    """Keys of the list that no mutant has: the contract has moved on from them."""
    made = set(keys)
    return [key for key in equivalents if key not in made]

"""The corpus on disk: sequences that showed something new, and those that showed a finding, one in a line of JSON.

The next search plays them first. So a failure is seen again at once, for as long as it is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stakesim.json_text import parse_json
from stakesim.lane.moves import Move, Nested, When

FILE = "sequences.jsonl"


def load_sequences(folder: Path) -> list[tuple[str, tuple[Move, ...]]]:
    """Reads the world's name and the moves of each sequence; lines of another version are left out."""
    file = folder / FILE
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return list(_sequences(lines))


def _sequences(lines: Iterable[str]) -> Iterator[tuple[str, tuple[Move, ...]]]:
    for line in lines:
        try:
            entry = parse_json(line)
            yield str(entry["world"]), tuple(_move(fields) for fields in entry["moves"])
        except (ValueError, KeyError, TypeError):
            continue


def save_sequences(folder: Path, sequences: Iterable[tuple[str, Iterable[Move]]]) -> None:
    """Writes the corpus anew.

    Raises:
        OSError: The folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"world": world, "moves": list(moves)}) for world, moves in sequences)
    temporary = folder / f"{FILE}.new"
    temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    temporary.replace(folder / FILE)


def _move(fields: list[Any]) -> Move:
    function, by, args, value_off, when, gas, origin = fields
    return Move(function, by, tuple(_argument(arg) for arg in args), value_off, When(*when), gas, origin)


def _argument(value: Any) -> Any:
    """JSON has one kind of list: one that begins with a text is a call, any other a list of ids."""
    if not isinstance(value, list):
        return value
    if value and isinstance(value[0], str):
        return Nested(value[0], tuple(_argument(arg) for arg in value[1]))
    return tuple(value)

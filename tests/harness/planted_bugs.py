"""`EventStake` with bugs, which are data in `contracts/test/planted/`: each has a name, and there are lists of names.

    python tests/harness/planted_bugs.py DIRECTORY NAME...

writes a contract with these bugs, ready to compile, as DIRECTORY/EventStake.sol.
"""

from __future__ import annotations

import functools
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from stakesim.evm.compiler import CONTRACTS

FOLDER = CONTRACTS / "test" / "planted"
TOGETHER = "together.yaml"
YARDSTICK = "yardstick.yaml"
STAND_IN = CONTRACTS / "test" / "MinimalEventStake.sol"


@dataclass(frozen=True)
class Bug:
    """A bug of today's contract.

    Attributes:
        name: Unique.
        kind: Of what sort it is.
        wrong: One sentence: what goes wrong, and for whom.
        edits: Pairs of text: what is in the source exactly once, and what takes its place.
        actions: How many calls it needs, of the yardstick; 0 for the others.
    """

    name: str
    kind: str
    wrong: str
    edits: tuple[tuple[str, str], ...]
    actions: int = 0


def sound() -> str:
    """Returns the source of `EventStake` as it is."""
    return (CONTRACTS / "EventStake.sol").read_text()


@functools.cache
def bugs() -> dict[str, Bug]:
    """Returns all bugs by name, without those of the yardstick."""
    files = sorted(path for path in FOLDER.glob("*.yaml") if path.name not in (TOGETHER, YARDSTICK))
    found = [bug for path in files for bug in _read(path)]
    names = [bug.name for bug in found]
    assert len(set(names)) == len(names), "a name is given twice"
    return {bug.name: bug for bug in found}


@functools.cache
def yardstick() -> dict[str, Bug]:
    """Returns the bugs that need a certain sequence of calls, by name, the shortest sequence first."""
    return {bug.name: bug for bug in sorted(_read(FOLDER / YARDSTICK), key=lambda bug: bug.actions)}


@functools.cache
def together() -> dict[str, list[str]]:
    """Returns lists of bugs that can be planted at once, by name of the list."""
    lists: dict[str, list[str]] = yaml.safe_load((FOLDER / TOGETHER).read_text())
    return lists


@functools.cache
def deployed_bugs() -> dict[str, Bug]:
    """Returns the bugs of the contract that has only the interface deployed on Sepolia, by name."""
    return {bug.name: bug for bug in _read(FOLDER / "deployed" / "bugs.yaml")}


def planted_in_deployed(name: str) -> str:
    """Returns the source of `MinimalEventStake` with one bug."""
    source = STAND_IN.read_text()
    for old, new in deployed_bugs()[name].edits:
        source = replace_once(source, old, new, name)
    return source


def planted(name: str) -> str:
    """Returns the source of `EventStake` with one bug, or with those of a list of `together`."""
    return planted_together(together().get(name, [name]))


def planted_together(names: Iterable[str]) -> str:
    """Returns the source of `EventStake` with several bugs.

    Raises:
        KeyError: There is no such bug.
        ValueError: A text to replace is not there exactly once: the contract changed, or one bug hides another.
    """
    known = bugs() | yardstick()
    source = sound()
    for name in names:
        for old, new in known[name].edits:
            source = replace_once(source, old, new, name)
    return source


def replace_once(source: str, old: str, new: str, name: str = "") -> str:
    """Returns the source with the one place where `old` is replaced. White space may differ, but not its places."""
    pattern = _pattern(old)
    if len(pattern.findall(source)) != 1:
        raise ValueError(f"{name}: this is not in the contract exactly once: {old}")
    return pattern.sub(lambda _: new, source)


def write(directory: Path, source: str) -> Path:
    """Writes a contract and the interface that it imports into a folder, and returns the contract's file."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(CONTRACTS / "IEventStake.sol", directory)
    file = directory / "EventStake.sol"
    file.write_text(source)
    return file


def _read(path: Path) -> list[Bug]:
    return [_bug(name, fields) for name, fields in yaml.load(path.read_text(), yaml.CSafeLoader).items()]


def _bug(name: str, fields: Mapping) -> Bug:
    edits = tuple((edit["old"].strip(), edit["new"].strip()) for edit in fields["edits"])
    return Bug(name, fields["kind"], fields["wrong"], edits, fields.get("actions", 0))


@functools.cache
def _pattern(old: str) -> re.Pattern[str]:
    return re.compile(r"\s+".join(map(re.escape, old.split())))


if __name__ == "__main__":
    folder, *given = sys.argv[1:]
    written = write(Path(folder), planted_together(bug for name in given for bug in together().get(name, [name])))
    sys.stdout.write(f"{written}\n")

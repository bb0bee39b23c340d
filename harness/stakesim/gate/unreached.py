"""The reviewed list of lines and branches that the scenarios do not reach, each with the reason why that is all right.

Keys are the text of the line, so that they hold while other lines are added above it. Of a condition they have what it
never was, so that the reason for one is none for the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stakesim.evm.coverage import Coverage
from stakesim.gate.reviewed import reviewed_rows

UNREACHED = "unreached.json"
"""Rows of `file`, `unreached` (a key) and `reason`: what else shows that the line is right."""


class Gap(NamedTuple):
    """A line that did not run, or a condition that was never true, or never false.

    Attributes:
        line: Number of the line.
        what: What is missing, in words.
        key: Name in the list of reasons; that of a gap in another file than the contract's begins with the file's.
        file: Name of that other file among the compiler's sources; empty for the contract's.
    """

    line: int
    what: str
    key: str
    file: str = ""

    @property
    def text(self) -> str:
        """As it is told."""
        return f"{f'{self.file}:' if self.file else 'line '}{self.line} {self.what}: {self.key}"


def gaps(coverage: Coverage) -> list[Gap]:
    """What the coverage of a contract lacks: in the order of its own file's source, then of the other files."""
    missing = _gaps_of_file(coverage)
    for other in coverage.others:
        missing += [gap._replace(key=f"{other.name}: {gap.key}", file=other.name) for gap in _gaps_of_file(other)]
    return missing


def _gaps_of_file(coverage: Coverage) -> list[Gap]:
    seen, texts = Counter[str](), dict[int, str]()
    for number, line in enumerate(coverage.source.splitlines(), start=1):
        text = line.strip()
        seen[text] += 1
        texts[number] = text if seen[text] == 1 else f"{text} #{seen[text]}"
    missing = [Gap(number, "did not run", texts[number]) for number in coverage.missed_lines]
    for branch in coverage.branches:
        condition = f"{texts[branch.line]} [{' '.join(branch.condition.split())}]"
        seen[condition] += 1
        again = f" #{seen[condition]}" if seen[condition] > 1 else ""
        what = "took one way only" if branch.taken else "took no way"
        ways = [way for way in (True, False) if way not in branch.taken]
        missing += [Gap(branch.line, what, f"{condition}{again} never {str(way).lower()}") for way in ways]
    return sorted(missing)


def load_reasons(file: Path, contract: str | None = None) -> dict[str, str]:
    """Returns the reason for each reviewed gap of a contract, by its key.

    Args:
        file: The contract's file.
        contract: Its name; None: all contracts of the file.

    Raises:
        MalformedList: The list can't be read.
    """
    rows = reviewed_rows(file, contract, UNREACHED, "unreached", "reason")
    return {row["unreached"]: row["reason"] for row in rows}


def reached_again(missing: Sequence[Gap], reasons: Mapping[str, str]) -> list[str]:
    """Keys of the list that are no gaps any more: scenarios reach them, or the contract has moved on.

    Args:
        missing: Gaps of the coverage by scenarios alone.
        reasons: By key of the gap.
    """
    keys = {gap.key for gap in missing}
    return [key for key in reasons if key not in keys]

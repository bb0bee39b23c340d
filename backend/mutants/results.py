"""What became of the backend's mutants: a file of verdicts, tables, and the score."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from stakesim.gate.mutation_result import MutantStatus

from mutants.making import PythonMutant

MIN_SCORE = 0.95
"""Share of the mutants that are not equivalent which must be killed; of those on lines with money, all."""
SHOWN = (MutantStatus.INVALID, MutantStatus.EQUIVALENT, MutantStatus.KILLED, MutantStatus.SURVIVED)


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        mutant: The mutant.
        status: What became of it.
        by: The test that killed it, or why it is invalid or equivalent.
        seconds: Wall-clock time that it took.
    """

    mutant: PythonMutant
    status: MutantStatus
    by: str = ""
    seconds: float = 0.0


class VerdictFile:
    """A file with a verdict a line.

    A verdict counts as long as the mutated file is the same; that on a killed mutant as long as the file of the test
    that killed it is, too; that on a survivor as long as all code and all tests are.
    """

    def __init__(self, file: Path, code: Mapping[str, str], tests: Mapping[str, str], all_of_it: str) -> None:
        """Takes the file, hashes of the mutated files, of the files of tests, and of everything."""
        self._file, self._code, self._tests, self._all = file, code, tests, all_of_it
        file.parent.mkdir(parents=True, exist_ok=True)

    def write(self, mutant: PythonMutant, outcome: Mapping[str, Any]) -> None:
        """Appends a verdict."""
        by = outcome.get("test") or outcome.get("reason", "")
        row = {
            "mutant": mutant.key,
            "operator": mutant.mutant.operator,
            "line": mutant.mutant.line,
            "status": outcome["status"],
            "by": by,
            "seconds": outcome.get("seconds", 0.0),
            "over_time": outcome.get("over_time", False),
            "code": self._code[mutant.file],
            "tests": self._depends_on(outcome["status"], by),
        }
        with self._file.open("a") as out:
            out.write(json.dumps(row) + "\n")

    def read(self, mutants: Sequence[PythonMutant]) -> dict[str, Verdict]:
        """Verdicts that count, by the mutant's key."""
        found: dict[str, Verdict] = {}
        for mutant, row in self._rows(mutants):
            status = MutantStatus(row["status"])
            if row["code"] == self._code[mutant.file] and row["tests"] == self._depends_on(status, row["by"]):
                found[mutant.key] = Verdict(mutant, status, row["by"], row["seconds"])
            elif status == MutantStatus.SURVIVED:
                found.pop(mutant.key, None)
        return found

    def kills(self, mutants: Sequence[PythonMutant]) -> list[tuple[PythonMutant, str]]:
        """Mutants with the tests that killed them, also where that does not count any more."""
        return [(mutant, row["by"]) for mutant, row in self._rows(mutants) if row["status"] == MutantStatus.KILLED]

    def _depends_on(self, status: MutantStatus, by: str) -> str | None:
        """Hash of what a verdict depends on, beside the mutated file."""
        match status:
            case MutantStatus.KILLED:
                return self._tests.get(by.partition("::")[0])
            case MutantStatus.SURVIVED:
                return self._all
        return ""

    def _rows(self, mutants: Sequence[PythonMutant]) -> Iterator[tuple[PythonMutant, dict[str, Any]]]:
        by_key = {mutant.key: mutant for mutant in mutants}
        for line in self._file.read_text().splitlines() if self._file.exists() else ():
            row = json.loads(line)
            if mutant := by_key.get(row["mutant"]):
                yield mutant, row


def score(verdicts: Sequence[Verdict]) -> float:
    """Share of the killed among the killed and the survivors; 1 if there are none."""
    count = Counter(verdict.status for verdict in verdicts)
    judged = count[MutantStatus.KILLED] + count[MutantStatus.SURVIVED]
    return count[MutantStatus.KILLED] / judged if judged else 1.0


def show(verdicts: Sequence[Verdict], made: int, stale: Sequence[str], console: Console) -> bool:
    """Prints survivors, tables and the score, and returns whether that is enough.

    Args:
        verdicts: The verdicts.
        made: Number of mutants, of which these are a part.
        stale: Mutants in the list of equivalents that don't exist.
        console: Where to print.
    """
    by_file, by_operator = _table("file", verdicts, _file), _table("operator", verdicts, _operator)
    for verdict in verdicts:
        if verdict.status == MutantStatus.SURVIVED:
            fault, place = verdict.mutant.mutant, f"{verdict.mutant.file}:{verdict.mutant.mutant.line}"
            money = ", moves money" if verdict.mutant.moves_money else ""
            why = f" ({verdict.by})" if verdict.by else ""
            console.print(
                f"survived{money}: {place} {fault.operator}{why}\n  - {fault.text}\n"
                f"  [{fault.column}: {fault.old} -> {fault.new}]\n  key: {fault.key}",
                markup=False,
            )
    console.print(by_operator, by_file)
    for key in stale:
        console.print(f"listed as equivalent, and not made: {key}", markup=False)
    on_money = [verdict for verdict in verdicts if verdict.mutant.moves_money]
    minutes = sum(verdict.seconds for verdict in verdicts) / 60
    whole = f", so about {minutes / len(verdicts) * made:.0f} for all" if verdicts and len(verdicts) < made else ""
    enough = score(verdicts) >= MIN_SCORE and score(on_money) == 1 and not stale and bool(verdicts)
    console.print(
        f"{len(verdicts)} of {made} mutants in {minutes:.1f} min{whole}; killed {score(verdicts):.1%} of those that "
        f"are not equivalent (required {MIN_SCORE:.0%}), {score(on_money):.1%} of {len(on_money)} on lines that move "
        f"money (required 100%): {'pass' if enough else 'missed'}"
    )
    return enough


def hash_of(files: Sequence[Path]) -> str:
    """Hash of files' contents."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def equivalents_in(file: Path) -> dict[str, str]:
    """The reviewed arguments for mutants that do the same as the code, by `file: mutant`."""
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    return {f"{row['file']}: {row['mutant']}": row["argument"] for row in rows}


def _file(verdict: Verdict) -> str:
    return verdict.mutant.file


def _operator(verdict: Verdict) -> str:
    return verdict.mutant.mutant.operator


def _table(title: str, verdicts: Sequence[Verdict], name: Callable[[Verdict], str]) -> Table:
    table = Table(title, "made", *SHOWN, "share", "minutes")
    for row in _rows(verdicts, name):
        table.add_row(*row)
    return table


def _rows(verdicts: Sequence[Verdict], name: Callable[[Verdict], str]) -> Iterator[list[str]]:
    for each in [*sorted({name(verdict) for verdict in verdicts}), "all"]:
        part = [verdict for verdict in verdicts if each in (name(verdict), "all")]
        count = Counter(verdict.status for verdict in part)
        minutes = sum(verdict.seconds for verdict in part) / 60
        counts = (str(count[status]) for status in SHOWN)
        yield [each, str(len(part)), *counts, f"{score(part):.1%}", f"{minutes:.1f}"]

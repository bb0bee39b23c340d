"""The file of verdicts: a line of JSON each, written as they come, so that an interrupted run can go on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, TypeAlias

from stakesim.evm.errors import EngineError
from stakesim.gate.mutant import Mutant
from stakesim.gate.mutation_result import Build, Verdict
from stakesim.json_text import parse_json

_Rows: TypeAlias = Mapping[tuple[str, str], Mapping[str, Any]]
_NO_ROWS: _Rows = {}


class VerdictFile:
    """Verdicts on disk, as a context manager.

    The first line says what was judged: `about`. Verdicts of a file about something else, and a last line that is not
    complete, are dropped.
    """

    def __init__(self, path: Path | None, about: Mapping[str, str]) -> None:
        """Names the file; None: nothing is kept.

        Args:
            path: The file. It need not exist.
            about: What verdicts depend on: the contract, the hash of its sources, the engine.

        Raises:
            EngineError: It is another kind of file.
        """
        self._path, self._about = path, {"about": dict(about)}
        self._file: TextIO | None = None
        self._rows = self._read()

    def _read(self) -> _Rows:
        if self._path is None or not self._path.exists():
            return _NO_ROWS
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            if not lines:
                return _NO_ROWS
            about, *rows = [parse_json(line) for line in lines if line.endswith("\n")]
            if about == self._about:
                return {(row["mutant"], row["build"]): row for row in rows}
            about["about"].items()  # a file of verdicts about something else
            return _NO_ROWS
        except (ValueError, KeyError, TypeError, AttributeError):
            raise EngineError(f"{self._path} is no file of verdicts: choose another one for `--out`.") from None

    def known(self, mutants: Iterable[Mutant], build: Build) -> dict[str, Verdict]:
        """Verdicts that the file had on these mutants, compiled in this way, by key."""
        rows = ((mutant, self._rows.get((mutant.key, build))) for mutant in mutants)
        return {mutant.key: Verdict.from_json(mutant, row) for mutant, row in rows if row is not None}

    def __enter__(self) -> VerdictFile:
        """Writes the file anew with the lines that hold.

        Raises:
            OSError: It can't be written.
        """
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_name(f"{self._path.name}.new")
            lines = [self._about, *self._rows.values()]
            temporary.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
            temporary.replace(self._path)
            self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    def add(self, verdict: Verdict) -> None:
        """Appends a verdict."""
        if self._file is not None:
            self._file.write(json.dumps(verdict.as_json()) + "\n")
            self._file.flush()

"""The gate's findings as SARIF 2.1.0 (OASIS, 2020), which code hosts show on the lines of a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stakesim.errors import StakesimError
from stakesim.evm.import_resolver import collect_files
from stakesim.gate.result import GatePart, GateResult, PartVerdict
from stakesim.runner.findings import Finding
from stakesim.scenario.actions import CallFunction

FUNCTIONS: Mapping[str, str] = {
    "create_run": "createEventRun",
    "book": "bookEvent",
    "cancel_booking": "cancelBooking",
    "cancel_run": "cancelEvent",
    "complete": "completeEvent",
    "expire": "expireEvent",
    "withdraw": "withdraw",
    "withdraw_fees": "withdrawPlatformFees",
    "pause": "pause",
    "unpause": "unpause",
    "set_operator": "setOperator",
    "transfer_ownership": "transferOwnership",
    "accept_ownership": "acceptOwnership",
}
"""Function of the contract by kind of action."""
_ROOT = "%SRCROOT%"
"""Name of the repository's root, to which places are relative, as CodeQL has it."""
_LINE = re.compile(r"\bline (\d+)\b")
_OTHER_FILE = re.compile(r"([^:]+\.sol):(\d+)\b")
"""How a problem in another file than the contract's begins."""


def sarif(gate: GateResult) -> dict[str, Any]:
    """Returns one run of SARIF: a result for each finding, and for each problem of a part that is no pass.

    A scenario's finding is shown where the function of its failing action begins; a problem that names a line, there,
    in whichever file of the contract it is.
    All others are at the contract's own line, as GitHub refuses a whole file with one result that has no place. What
    failed is an error, what is vacuous a warning, and a part that was not tried a note.
    """
    source = _Source(gate)
    results = [result for part in gate.parts for result in _results(part, source)]
    rules = [{"id": each} for each in dict.fromkeys(result["ruleId"] for result in results)]
    driver = {"name": "stakesim", "version": version("stakesim"), "rules": rules}
    run: dict[str, Any] = {"tool": {"driver": driver}, "results": results}
    if source.is_in_repository:
        run["originalUriBaseIds"] = {_ROOT: {"description": {"text": "The root of the repository."}}}
    return {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }


def _results(part: GatePart, source: _Source) -> Iterator[dict[str, Any]]:
    level = "warning" if part.verdict is PartVerdict.VACUOUS else "error"
    for finding in part.findings:
        text = f"{finding.weakness or finding.statement}: {finding.message}"
        yield source.result(finding.weakness or finding.id, text, level, source.line_of(finding))
    if part.verdict is PartVerdict.FAIL:
        for problem in part.problems:
            yield source.result(part.name, problem, level, *source.place_of(problem))
    elif part.verdict is PartVerdict.NOT_TRIED or (part.verdict is PartVerdict.VACUOUS and not part.findings):
        reason = part.problems[0] if part.problems else "Too little was reached to judge the contract."
        rule = f"{part.name}: {part.verdict}"
        yield source.result(rule, f"{rule}. {reason}", "note" if part.verdict is PartVerdict.NOT_TRIED else level)


def repository_root(folder: Path) -> Path | None:
    """Returns the root of the git repository that a folder is in; None if it is in none."""
    # in a worktree and in a submodule .git is a file
    return next((each for each in (folder, *folder.parents) if (each / ".git").exists()), None)


class _Source:
    """The contract's files, for places in them."""

    def __init__(self, gate: GateResult) -> None:
        self._file, self._here = gate.file.resolve(), Path.cwd().resolve()
        roots = map(repository_root, (self._here, self._file.parent))
        self._root = next((root for root in roots if root and self._file.is_relative_to(root)), None)
        self.is_in_repository = self._root is not None
        self._lines = self._file.read_text(encoding="utf-8").splitlines() if self._file.suffix == ".sol" else []
        self._contract = gate.artifact.name

    @cached_property
    def _others(self) -> dict[str, Path]:
        """Paths of the files that the contract imports, by their names among the sources."""
        try:
            return {name: each.path for name, each in collect_files(self._file).items()}
        except StakesimError:  # one is gone by now
            return {}

    def place_of(self, problem: str) -> tuple[int | None, Path | None]:
        """Line and file that a problem names; None for a line that it does not name, and for the contract's file."""
        if (other := _OTHER_FILE.match(problem)) and (path := self._others.get(other[1])):
            return int(other[2]), path
        line = _LINE.search(problem)
        return (int(line[1]) if line else None), None

    def _artifact(self, file: Path) -> dict[str, str]:
        if self._root is not None and file.is_relative_to(self._root):
            return {"uri": quote(file.relative_to(self._root).as_posix()), "uriBaseId": _ROOT}
        if file.is_relative_to(self._here):
            return {"uri": quote(file.relative_to(self._here).as_posix())}
        return {"uri": file.as_uri()}

    def line_of(self, finding: Finding) -> int | None:
        """The line where the function of a finding's action begins; None if it has none in this file."""
        scenario = finding.scenario
        if scenario is None or not 0 < finding.step <= len(scenario.actions):
            return None
        action = scenario.actions[finding.step - 1]
        function = action.function if isinstance(action, CallFunction) else FUNCTIONS.get(action.do)
        return self._line_with(rf"\s*function {str(function).partition('(')[0]}\b")

    def result(
        self, rule: str, text: str, level: str, line: int | None = None, file: Path | None = None
    ) -> dict[str, Any]:
        """A result, at the contract's own line if there is no better one."""
        line = line or self._line_with(rf"\s*contract {re.escape(self._contract)}\b") or 1
        region = {"artifactLocation": self._artifact(file or self._file), "region": {"startLine": line}}
        return {
            "ruleId": rule,
            "level": level,
            "message": {"text": text},
            "locations": [{"physicalLocation": region}],
        }

    def _line_with(self, pattern: str) -> int | None:
        return next((number for number, line in enumerate(self._lines, start=1) if re.match(pattern, line)), None)

"""The gate's findings as SARIF 2.1.0 (OASIS, 2020), which code hosts show on the lines of a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
_LINE = re.compile(r"\bline (\d+)\b")


def sarif(gate: GateResult) -> dict[str, Any]:
    """Returns one run of SARIF: a result for each finding, and for each problem of a part that failed.

    A scenario's finding is shown where the function of its failing action begins; a problem that names a line, there.
    """
    source = _Source(gate)
    results = [result for part in gate.parts for result in _results(part, source)]
    rules = [{"id": each} for each in dict.fromkeys(result["ruleId"] for result in results)]
    driver = {"name": "stakesim", "version": version("stakesim"), "rules": rules}
    return {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def _results(part: GatePart, source: _Source) -> Iterator[dict[str, Any]]:
    for finding in part.findings:
        title = finding.weakness or finding.statement
        yield source.result(finding.weakness or finding.id, f"{title}: {finding.message}", source.line_of(finding))
    if part.verdict is PartVerdict.FAIL:
        for problem in part.problems:
            line = _LINE.search(problem)
            yield source.result(part.name, problem, int(line[1]) if line else None)


class _Source:
    """The contract's file, for places in it."""

    def __init__(self, gate: GateResult) -> None:
        file = gate.file.resolve()
        self._uri = file.relative_to(Path.cwd()).as_posix() if file.is_relative_to(Path.cwd()) else file.as_uri()
        self._lines = file.read_text(encoding="utf-8").splitlines() if file.suffix == ".sol" else []
        self._contract = gate.artifact.name

    def line_of(self, finding: Finding) -> int | None:
        """The line where the function of a finding's action begins; None if it has none in this file."""
        scenario = finding.scenario
        if scenario is None or not 0 < finding.step <= len(scenario.actions):
            return None
        action = scenario.actions[finding.step - 1]
        function = action.function if isinstance(action, CallFunction) else FUNCTIONS.get(action.do)
        return self._line_with(rf"\s*function {function}\b")

    def result(self, rule: str, text: str, line: int | None) -> dict[str, Any]:
        """A result, at the contract's own line if there is no better one."""
        line = line or self._line_with(rf"\s*contract {re.escape(self._contract)}\b") or 1
        region = {"artifactLocation": {"uri": self._uri}, "region": {"startLine": line}}
        return {
            "ruleId": rule,
            "level": "error",
            "message": {"text": text},
            "locations": [{"physicalLocation": region}],
        }

    def _line_with(self, pattern: str) -> int | None:
        return next((number for number, line in enumerate(self._lines, start=1) if re.match(pattern, line)), None)

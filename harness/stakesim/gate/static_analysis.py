"""Static analysis of `EventStake`: slither looks for known mistakes, halmos proves properties for all inputs.

Both are programs in environments of their own, which `make -C contracts/proofs` installs.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stakesim.evm.errors import EngineError
from stakesim.evm.solidity_text import without_comments
from stakesim.gate import proofs
from stakesim.gate.proof_tools import PROOFS, build, installed, last_line, run
from stakesim.json_text import parse_json

TRIAGE = PROOFS / "slither_triage.json"
"""Reviewed findings of slither: rows of `finding` (a key), `reason` why it is no fault, and `places`, 1 if left out."""
EXCLUDED_FOLDERS = frozenset({"node_modules", "proofs", "test", "adversaries", "support"})
"""Folders of the project whose findings are left out. slither's own filter searches absolute paths, and would leave out
everything where the project is below a folder `latest`."""
_ASSEMBLY = """bool paid;
        assembly ("memory-safe") {{
            paid := call({gas}, to, amount, 0, 0, 0, 0)
        }}"""
PLAIN_CALLS = (
    (_ASSEMBLY.format(gas="PUSH_GAS"), '(bool paid,) = to.call{value: amount, gas: PUSH_GAS}("");'),
    (_ASSEMBLY.format(gas="gas()"), '(bool paid,) = to.call{value: amount}("");'),
)
"""The two payments as Solidity has them. slither does not see that assembly sends ether, so it reads these instead."""
RUN_BY_ID = (
    "Run storage run = _existing(eventRunId);",
    "Run storage run = _runs[eventRunId];\n        _existing(eventRunId);",
)
"""How functions get a run. slither does not see writes to storage that a function returned, so it reads this."""

_ASSIGNMENT = re.compile(r"^\s+- (.+ [-+*/]?= .+) \(\S+#[-\d]+\)$", re.MULTILINE)
_WRITTEN_LATE = "State variables written after the call(s):"


@dataclass(frozen=True)
class ToolReport:
    """Result of one tool.

    Attributes:
        tool: Name of the tool.
        problems: Sentences; empty if there is nothing to fix.
        figures: How much was checked: number by name.
        seconds: Wall-clock time.
        proofs: The properties, if the tool proves any.
        interrupted: Whether Ctrl-C ended it.
    """

    tool: str
    problems: Sequence[str]
    figures: Mapping[str, Any]
    seconds: float
    proofs: Sequence[proofs.Proof] = ()
    interrupted: bool = False


def slither() -> ToolReport:
    """Runs slither, and compares its findings with the committed triage.

    Raises:
        EngineError: slither is not installed, or fails.
    """
    started = time.perf_counter()
    findings, triaged = slither_findings(), triaged_findings()
    figures = {"findings": len(findings), "of them triaged": (Counter(findings) & Counter(triaged)).total()}
    return ToolReport("slither", triage_problems(findings, triaged), figures, time.perf_counter() - started)


def triaged_findings() -> list[str]:
    """Returns the keys of the committed triage, each as often as it has places."""
    return [row["finding"] for row in parse_json(TRIAGE.read_text()) for _ in range(row.get("places", 1))]


def slither_findings(edits: Sequence[Sequence[str]] = ()) -> list[str]:
    """Returns the keys of slither's findings in `EventStake`, each as often as it has places.

    slither reads a copy with its payments written as plain calls, its runs as state, and without comments: some switch
    findings off (`slither-disable-next-line`, `@custom:security non-reentrant`), which only the triage may.

    Args:
        edits: More texts of `EventStake.sol` that occur once, and what takes their place.

    Raises:
        EngineError: slither is not installed or fails, a text to edit does not occur exactly once, or `RUN_BY_ID`
            never.
    """
    program = installed("slither")
    with TemporaryDirectory() as folder:
        project = Path(folder)
        proofs.copy_project(project, set(), [*PLAIN_CALLS, *edits])
        contract = project / "EventStake.sol"
        source = contract.read_text()
        if RUN_BY_ID[0] not in source:
            raise EngineError(f"This text is not in EventStake.sol: {RUN_BY_ID[0]}")
        contract.write_text(source.replace(*RUN_BY_ID))
        for file in (*project.glob("*.sol"), *project.glob("proofs/*.sol")):
            file.write_text(without_comments(file.read_text()))
        build(project)
        report = project / "slither.json"
        command = [str(program), ".", "--ignore-compile", "--foundry-out-directory", "proofs/out"]
        process = run([*command, "--json", str(report)], project)
        if not report.exists():
            raise EngineError(f"slither fails: {last_line(process)}")
        result = parse_json(report.read_text())
    if not result["success"]:
        raise EngineError(f"slither fails: {result['error']}")
    found = (detected for detected in result["results"].get("detectors", []) if not is_excluded(detected))
    return [finding_key(detected) for detected in found for _ in range(places(detected))]


def is_excluded(detected: Mapping[str, Any]) -> bool:
    """Whether all that a finding of slither is about is in `EXCLUDED_FOLDERS` of the project."""
    files = [Path(element["source_mapping"]["filename_relative"]) for element in detected["elements"]]
    return bool(files) and not any(EXCLUDED_FOLDERS.isdisjoint(file.parts[:-1]) for file in files)


def places(detected: Mapping[str, Any]) -> int:
    """Number of statements that a finding of slither is about; 1 if it is about a declaration."""
    return max(1, [element["type"] for element in detected["elements"]].count("node"))


def finding_key(detected: Mapping[str, Any]) -> str:
    """Name of a finding of slither: the check and the place, without line numbers; what is written after a payment."""
    description: str = detected["description"]
    first = description.splitlines()[0]
    place = re.match(r"(?:Variable |Function |Parameter |Reentrancy in |Low level call in )?(\S+)", first)
    written = set(_ASSIGNMENT.findall(description.partition(_WRITTEN_LATE)[2]))
    return ", ".join([f"{detected['check']}: {place[1] if place else first}", *sorted(written)])


def triage_problems(findings: Sequence[str], triaged: Sequence[str]) -> list[str]:
    """Sentences for what nobody has reviewed, and for what was reviewed and slither no longer finds.

    Args:
        findings: Keys, each as often as it has places.
        triaged: The same, as reviewed.
    """
    found, reviewed = Counter(findings), Counter(triaged)
    new = [
        f"slither finds {key}: fix it, or give the reason why not in {TRIAGE.name}"
        for key in found
        if key not in reviewed
    ]
    gone = [f"slither no longer finds {key}: remove it from {TRIAGE.name}" for key in reviewed if key not in found]
    other = [
        f"slither finds {key} in {found[key]} places, of which {reviewed[key]} are reviewed: fix what is new, or "
        f'review them all and write "places": {found[key]} in {TRIAGE.name}'
        for key in found
        if key in reviewed and found[key] != reviewed[key]
    ]
    return new + other + gone


def halmos(*, long: bool = False, seconds: float = inf) -> ToolReport:
    """Runs halmos's proofs; the long ones only if asked for. Trouble or Ctrl-C after the first loses none before.

    Args:
        long: Whether to prove the long ones.
        seconds: Time for all of them. What it does not get to is no problem, and not among the proofs.

    Raises:
        EngineError: halmos is not installed, fails, or leaves a property out.
    """
    started, proved, trouble, interrupted = time.perf_counter(), list[proofs.Proof](), list[str](), False
    try:
        for proof in proofs.prove(long=long, seconds=seconds):
            if proof.verdict != proofs.TIME_WAS_UP:
                proved.append(proof)
    except EngineError as error:
        if not proved:
            raise
        trouble.append(str(error))
    except KeyboardInterrupt:
        interrupted = True
    problems = [f"{proof.name} is not proved: {proof.verdict}" for proof in proved if not proof.ok]
    figures = {"properties": len(proved), "proved": len(proved) - len(problems)}
    seconds = time.perf_counter() - started
    return ToolReport("halmos", problems + trouble, figures, seconds, proved, interrupted)


def refutations() -> ToolReport:
    """Runs halmos on each faulty contract: a property that is proved for one that it must refute is a problem.

    Raises:
        EngineError: halmos is not installed or fails.
    """
    started = time.perf_counter()
    results = [(fault, proof) for fault in proofs.faults() for proof in proofs.refute(fault)]
    problems = [
        f"{proof.name} does not show that {fault.name}: {proof.verdict}"
        for fault, proof in results
        if proof.verdict != proofs.REFUTED
    ]
    figures = {"refutations": len(results) - len(problems)}
    return ToolReport("halmos on faulty contracts", problems, figures, time.perf_counter() - started)


TOOLS: Mapping[str, Callable[[], ToolReport]] = {"slither": slither, "halmos": halmos}

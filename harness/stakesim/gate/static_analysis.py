"""Static analysis of `EventStake`: slither looks for known mistakes, halmos proves properties for all inputs.

Both are programs in environments of their own, which `make -C contracts/proofs` installs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.errors import EngineError
from stakesim.paths import checkout

PROOFS = CONTRACTS / "proofs"
TRIAGE = PROOFS / "slither_triage.json"
"""Reviewed findings of slither, each with the reason why it is no fault."""
INSTALL = "install it with `make -C contracts/proofs`"
EXCLUDED_PATHS = "node_modules|proofs|test|adversaries|support"
"""Regular expression for files whose findings slither leaves out."""
SOLVER_SECONDS = 120
"""Time limit of halmos's solver for one assertion."""
FAILURES = {1: "there is a counterexample", 2: "the solver took too long", 3: "not all paths could be followed"}
"""What halmos's exit code of a property means; 0 is a proof."""


@dataclass(frozen=True)
class ToolReport:
    """Result of one tool.

    Attributes:
        tool: Name of the tool.
        problems: Sentences; empty if there is nothing to fix.
        figures: How much was checked: number by name.
        seconds: Wall-clock time.
    """

    tool: str
    problems: Sequence[str]
    figures: Mapping[str, Any]
    seconds: float


def slither() -> ToolReport:
    """Runs slither, and compares its findings with the committed triage.

    Raises:
        EngineError: slither is not installed, or fails.
    """
    started = time.perf_counter()
    options = [".", "--ignore-compile", "--foundry-out-directory", "proofs/out", "--filter-paths", EXCLUDED_PATHS]
    report = _run_tool("slither", options, "--json")
    if not report["success"]:
        raise EngineError(f"slither fails: {report['error']}")
    findings = [finding_key(detected) for detected in report["results"].get("detectors", [])]
    triaged = [row["finding"] for row in json.loads(TRIAGE.read_text())]
    figures = {"findings": len(findings), "of them triaged": len(set(findings) & set(triaged))}
    return ToolReport("slither", triage_problems(findings, triaged), figures, time.perf_counter() - started)


def finding_key(detected: Mapping[str, Any]) -> str:
    """Name of a finding of slither: the check and the place, without line numbers."""
    first = detected["description"].splitlines()[0]
    place = re.match(r"(?:Variable |Function |Parameter )?(\S+)", first)
    return f"{detected['check']}: {place[1] if place else first}"


def triage_problems(findings: Sequence[str], triaged: Sequence[str]) -> list[str]:
    """Sentences for findings that nobody has reviewed, and for reviewed findings that slither no longer has."""
    new = [
        f"slither finds {key}: fix it, or give the reason why not in {TRIAGE.name}"
        for key in findings
        if key not in triaged
    ]
    gone = [f"slither no longer finds {key}: remove it from {TRIAGE.name}" for key in triaged if key not in findings]
    return new + gone


def halmos() -> ToolReport:
    """Runs halmos's proofs.

    Raises:
        EngineError: halmos is not installed, fails, or finds no property.
    """
    started = time.perf_counter()
    options = ["--root", ".", "--forge-build-out", "proofs/out", "--loop", "4"]
    options += ["--solver-timeout-assertion", str(SOLVER_SECONDS * 1000)]
    report = _run_tool("halmos", options, "--json-output")
    properties = [test for tests in report["test_results"].values() for test in tests]
    if not properties:
        raise EngineError("halmos found no property to prove.")
    problems = [
        f"{test['name']} is not proved: {FAILURES.get(test['exitcode'], 'it failed')}"
        for test in properties
        if test["exitcode"]
    ]
    figures = {"properties": len(properties), "proved": len(properties) - len(problems)}
    return ToolReport("halmos", problems, figures, time.perf_counter() - started)


TOOLS: Mapping[str, Callable[[], ToolReport]] = {"slither": slither, "halmos": halmos}


def forge() -> Path:
    """Foundry's forge: the npm package's, else the one on PATH.

    Raises:
        EngineError: There is none.
    """
    if packaged := next(PROOFS.glob("node_modules/@foundry-rs/forge-*/bin/forge"), None):
        packaged.chmod(0o755)
        return packaged
    if on_path := shutil.which("forge"):
        return Path(on_path)
    raise EngineError(f"forge is missing: {INSTALL}, or put Foundry's own on PATH.")


def _run_tool(name: str, options: Sequence[str], report_option: str) -> dict[str, Any]:
    """Builds the proofs, runs the tool, and returns its JSON report."""
    program = _installed(name)
    build = _call([str(forge()), "build", "--quiet"])
    if build.returncode:
        raise EngineError(f"forge can't build the proofs: {_last_line(build)}")
    with TemporaryDirectory() as folder:
        report = Path(folder) / f"{name}.json"
        process = _call([str(program), *options, report_option, str(report)])
        if not report.exists():
            raise EngineError(f"{name} fails: {_last_line(process)}")
        content: dict[str, Any] = json.loads(report.read_text())
    return content


def _installed(name: str) -> Path:
    program = PROOFS / f".{name}" / "bin" / name
    if checkout() is None:
        raise EngineError(f"{name} runs only in a checkout of stakesim, as the wheel does not have its set-up.")
    if not program.exists():
        raise EngineError(f"{name} is missing: {INSTALL}.")
    return program


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(forge().parent), os.environ.get("PATH", ""), str(CONTRACTS.parent / ".venv" / "bin")])
    return subprocess.run(
        command, cwd=CONTRACTS, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )


def _last_line(process: subprocess.CompletedProcess[str]) -> str:
    output = (process.stderr or process.stdout).strip().splitlines() or ["no output"]
    return output[-1]

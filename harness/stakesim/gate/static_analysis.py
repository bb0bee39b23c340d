"""Second opinions on `EventStake`: slither, which looks for known mistakes, and halmos, which proves properties for any
price and any attendance. Both run as programs, in environments of their own (`make -C contracts/proofs`)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.errors import EngineError
from stakesim.paths import checkout

PROOFS = CONTRACTS / "proofs"
TRIAGE = PROOFS / "slither_triage.json"
INSTALL = "install it with `make -C contracts/proofs`"
OURS_ALONE = "node_modules|proofs|test|adversaries|support"
"""Files that slither's findings are not asked of."""
SOLVER_SECONDS = 120
"""For one assertion of a proof."""
_EXIT_PASS = 0


@dataclass(frozen=True)
class Opinion:
    """problems: sentences; none where all is well. figures: what was looked at, by name."""

    name: str
    problems: Sequence[str]
    figures: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def slither() -> Opinion:
    """Its findings against the committed triage. Raises `EngineError` where it is not installed, or fails."""
    began = time.perf_counter()
    program = _installed("slither")
    _build()
    with TemporaryDirectory() as folder:
        report = Path(folder) / "slither.json"
        options = ["--ignore-compile", "--foundry-out-directory", "proofs/out", "--filter-paths", OURS_ALONE]
        done = _call([str(program), ".", *options, "--json", str(report)])
        if not report.exists():
            raise EngineError(f"slither fails: {_last(done)}")
        told: dict[str, Any] = json.loads(report.read_text())
    if not told["success"]:
        raise EngineError(f"slither fails: {told['error']}")
    found = [finding_key(one) for one in told["results"].get("detectors", [])]
    known = [row["finding"] for row in json.loads(TRIAGE.read_text())]
    return Opinion(
        "slither",
        compare(found, known),
        {"findings": len(found), "of them triaged": len(set(found) & set(known))},
        time.perf_counter() - began,
    )


def finding_key(detected: Mapping[str, Any]) -> str:
    """What is found, and where, without line numbers."""
    first = detected["description"].splitlines()[0]
    where = re.match(r"(?:Variable |Function |Parameter )?(\S+)", first)
    return f"{detected['check']}: {where[1] if where else first}"


def compare(found: Sequence[str], known: Sequence[str]) -> list[str]:
    """What nobody has looked at yet, and what was triaged and is there no more."""
    fresh = [f"slither finds {one}: mend it, or say in {TRIAGE.name} why not" for one in found if one not in known]
    return fresh + [f"{one} is found no more: take it out of {TRIAGE.name}" for one in known if one not in found]


def halmos() -> Opinion:
    """What it proves. Raises `EngineError` where it is not installed, or proves nothing."""
    began = time.perf_counter()
    program = _installed("halmos")
    _build()
    with TemporaryDirectory() as folder:
        report = Path(folder) / "halmos.json"
        options = ["--forge-build-out", "proofs/out", "--loop", "4", "--json-output", str(report)]
        done = _call([str(program), "--root", ".", *options, "--solver-timeout-assertion", str(SOLVER_SECONDS * 1000)])
        if not report.exists():
            raise EngineError(f"halmos fails: {_last(done)}")
        told: dict[str, Any] = json.loads(report.read_text())
    tests = [test for of_contract in told["test_results"].values() for test in of_contract]
    if not tests:
        raise EngineError("halmos found no property to prove.")
    failed = [
        f"{test['name']} is not proved: {OUTCOMES.get(test['exitcode'], 'it failed')}"
        for test in tests
        if test["exitcode"] != _EXIT_PASS
    ]
    figures = {"properties": len(tests), "proved": len(tests) - len(failed)}
    return Opinion("halmos", failed, figures, time.perf_counter() - began)


OUTCOMES = {1: "there is a counterexample", 2: "the solver took too long", 3: "not all paths could be followed"}
"""halmos's exit code of a property."""


def forge() -> Path:
    """Foundry's forge: that of npm, or that on PATH. Raises `EngineError`."""
    if found := next(PROOFS.glob("node_modules/@foundry-rs/forge-*/bin/forge"), None):
        found.chmod(0o755)
        return found
    if on_path := shutil.which("forge"):
        return Path(on_path)
    raise EngineError(f"forge is missing: {INSTALL}, or put Foundry's own on PATH.")


def _build() -> None:
    done = _call([str(forge()), "build", "--quiet"])
    if done.returncode:
        raise EngineError(f"forge can't build the proofs: {_last(done)}")


def _installed(name: str) -> Path:
    program = PROOFS / f".{name}" / "bin" / name
    if checkout() is None:
        raise EngineError(f"{name} is asked in a checkout of stakesim, which has its set-up; the wheel has not.")
    if not program.exists():
        raise EngineError(f"{name} is missing: {INSTALL}.")
    return program


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(forge().parent), os.environ.get("PATH", ""), str(CONTRACTS.parent / ".venv" / "bin")])
    return subprocess.run(
        command, cwd=CONTRACTS, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )


def _last(done: subprocess.CompletedProcess[str]) -> str:
    said = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
    return said[-1]

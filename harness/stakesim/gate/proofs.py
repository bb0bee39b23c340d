"""Proofs of `EventStake` by halmos, on the code that is deployed, and the faults that show that each proof can fail.

A property is a function `check_...` of `contracts/proofs/*.t.sol`. halmos follows all its paths through the contract's
bytecode, with symbols in place of arguments and state. Contracts named `Long...` hold what takes half a minute or more.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.errors import EngineError
from stakesim.gate.proof_tools import PROOFS, build, installed, last_line, run
from stakesim.json_text import parse_json

FAULTS = PROOFS / "faults.json"
"""Faulty contracts: edits of `EventStake.sol`, and the properties that each must refute."""
SOLVER_SECONDS = 120
"""Time limit of the solver for one assertion of one path."""
SEARCH_SECONDS = 20
"""The same for a faulty contract, where the counterexample of one path is enough: hard paths are left for easy ones."""
LOOPS = 8
"""How often a loop is followed. A property with a longer loop is not proved."""
PROVED = "proved"
REFUTED = "there is a counterexample"
TIME_WAS_UP = "the time was up"
VERDICTS = {
    0: PROVED,
    1: REFUTED,
    2: "the solver took too long",
    3: "not all paths could be followed",
    4: "no path gets to its end, so it says nothing",
}
"""What halmos's exit code of a property means."""
_PROPERTY = re.compile(r"^contract (\w+)|^    function (check_\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Property:
    """A property as it stands in a source file.

    Attributes:
        name: Its function's name.
        contract: The contract that it is in.
        file: Name of the file below `contracts/proofs/`.
    """

    name: str
    contract: str
    file: str

    @property
    def is_long(self) -> bool:
        """Whether it is for the release profile only."""
        return self.contract.startswith("Long")


@dataclass(frozen=True)
class Proof:
    """What halmos says of one property.

    Attributes:
        name: The property's name.
        verdict: `PROVED`, or why it is not.
        seconds: Time that halmos took.
    """

    name: str
    verdict: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it is proved."""
        return self.verdict == PROVED


@dataclass(frozen=True)
class Fault:
    """A faulty contract.

    Attributes:
        name: What is wrong with it.
        edits: Texts of `EventStake.sol` that occur once, and what takes their place.
        refutes: Names of the properties that don't hold for it.
    """

    name: str
    edits: Sequence[Sequence[str]]
    refutes: Sequence[str]


def properties() -> list[Property]:
    """Returns all properties, in the order of the files."""
    found = []
    for path in sorted(PROOFS.glob("*.t.sol")):
        contract = ""
        for match in _PROPERTY.finditer(path.read_text()):
            contract = match[1] or contract
            if match[2]:
                found.append(Property(match[2], contract, path.name))
    return found


def prove(*, long: bool = False, seconds: float = inf) -> Iterator[Proof]:
    """Runs halmos on all properties, or all but the long ones; the long ones last, each for itself.

    Those of a contract come as soon as all of them are proved or not.

    Args:
        long: Whether to prove the long ones.
        seconds: Time for all of them. What is not proved by then has the verdict `TIME_WAS_UP`.

    Raises:
        EngineError: halmos is not installed, fails, or leaves a property out.
    """
    ends = time.monotonic() + seconds

    def left() -> float | None:
        return None if ends == inf else max(0.0, ends - time.monotonic())

    batches = deque(_batches(long=long))
    try:
        build(CONTRACTS, left())
        while batches:
            contract, names = batches[0]
            # by its whole name, as forge's folder may hold others, of earlier builds
            options = ["--match-contract", f"^{contract}$", *_functions(names)]
            proved = _halmos(CONTRACTS, options, limit=left())
            if missing := sorted(set(names) - {proof.name for proof in proved}):
                raise EngineError(f"halmos leaves out {', '.join(missing)}.")
            batches.popleft()
            yield from proved
    except subprocess.TimeoutExpired:
        yield from (Proof(name, TIME_WAS_UP, 0.0) for _, names in batches for name in names)


def _batches(*, long: bool) -> list[tuple[str, list[str]]]:
    """What one run of halmos proves: all properties of a contract, or a long one."""
    quick = groupby((each for each in properties() if not each.is_long), key=lambda each: each.contract)
    batches = [(contract, [each.name for each in of_contract]) for contract, of_contract in quick]
    return batches + [(each.contract, [each.name]) for each in properties() if long and each.is_long]


def _functions(names: Sequence[str]) -> list[str]:
    """Options of halmos for these properties."""
    return ["--function", f"({'|'.join(names)})\\("]


def faults() -> list[Fault]:
    """Returns the faulty contracts."""
    return [Fault(**row) for row in parse_json(FAULTS.read_text())]


def refute(fault: Fault) -> list[Proof]:
    """Runs halmos on a faulty contract, for the properties that it must refute; those still `ok` show nothing.

    Raises:
        EngineError: halmos is not installed or fails, or a text to edit does not occur exactly once.
    """
    in_files = {each.name: each.file for each in properties()}
    with TemporaryDirectory() as folder:
        project = Path(folder)
        copy_project(project, {in_files[name] for name in fault.refutes}, fault.edits)
        build(project)
        return _halmos(project, ["--early-exit", *_functions(fault.refutes)], SEARCH_SECONDS)


def copy_project(project: Path, proof_files: set[str], edits: Sequence[Sequence[str]]) -> None:
    """Copies what forge builds into another folder, with an edited contract.

    Raises:
        EngineError: A text to edit does not occur exactly once.
    """
    for name in ("foundry.toml", "IEventStake.sol"):
        shutil.copy(CONTRACTS / name, project)
    for name in ("solc", "node_modules"):
        (project / name).symlink_to(CONTRACTS / name)
    (project / "proofs").mkdir()
    for path in PROOFS.glob("*.sol"):
        if path.name in proof_files or not path.name.endswith(".t.sol"):
            shutil.copy(path, project / "proofs")
    (project / "EventStake.sol").write_text(edited((CONTRACTS / "EventStake.sol").read_text(), edits))


def edited(source: str, edits: Sequence[Sequence[str]]) -> str:
    """Returns a source with texts replaced.

    Raises:
        EngineError: A text does not occur exactly once.
    """
    for old, new in edits:
        if source.count(old) != 1:
            raise EngineError(f"This text occurs {source.count(old)} times in EventStake.sol, not once: {old.strip()}")
        source = source.replace(old, new)
    return source


def _halmos(
    project: Path, options: Sequence[str], solver_seconds: int = SOLVER_SECONDS, limit: float | None = None
) -> list[Proof]:
    program = installed("halmos")
    with TemporaryDirectory() as folder:
        report = Path(folder) / "halmos.json"
        command = [str(program), "--root", ".", "--forge-build-out", "proofs/out", "--loop", str(LOOPS)]
        command += ["--solver-timeout-assertion", f"{solver_seconds}s", "--solver-threads", "1"]
        process = run([*command, "--no-status", *options, "--json-output", str(report)], project, limit)
        if not report.exists():
            raise EngineError(f"halmos fails: {last_line(process)}")
        results = parse_json(report.read_text())["test_results"]
    if not any(results.values()):
        raise EngineError("halmos found no property to prove.")
    return [_proof(test) for tests in results.values() for test in tests]


def _proof(test: dict[str, Any]) -> Proof:
    verdict = VERDICTS.get(test["exitcode"], "halmos fails")
    if verdict == PROVED and test["num_bounded_loops"]:
        verdict = f"a loop runs more than {LOOPS} times"
    return Proof(test["name"].split("(")[0], verdict, round(test["time"][0], 1))

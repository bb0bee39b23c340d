"""Time to find bugs that are 3 to 25 calls deep: stakesim's search beside forge's invariant runner, as CSV.

    python -m benchmarks.yardstick.compare --seconds 60 --seeds 10 --out reports/yardstick.csv

Each search has one process and one core, starts with nothing, and stops at its first finding.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import typer
from stakesim.evm.compiler import CONTRACTS

from benchmarks.searching import GRACE_S, alone, fuzz
from tests.harness.planted_bugs import planted, write, yardstick

HERE = Path(__file__).parent


class Search(NamedTuple):
    """One search for one bug.

    Attributes:
        finder: Name of the program.
        contract: Name of the bug.
        actions: Calls that the bug needs.
        seed: Of its random choices.
        seconds: When it was found, since the search began, without compiling; None if it was not.
        processor_seconds: What the whole search took of a core, which is less where others use the machine.
        calls: How many calls were made; None where the program does not say.
        length: Calls of what was found; None where the program does not say.
    """

    finder: str
    contract: str
    actions: int
    seed: int
    seconds: float | None
    processor_seconds: float
    calls: int | None
    length: int | None


Outcome = tuple[float | None, int | None, int | None]
"""Seconds, calls and length of a `Search`."""


def forge(project: Path, seed: int, limit: int, *, guided: bool = True) -> Outcome:
    """Runs forge's invariant runner, with a corpus (guided by edges) or without (random)."""
    for name in ("cache/corpus", "cache/failures"):
        shutil.rmtree(project / name, ignore_errors=True)
    environment = {
        "FOUNDRY_OFFLINE": "true",
        "FOUNDRY_FUZZ_SEED": hex(seed + 1),
        "FOUNDRY_INVARIANT_TIMEOUT": str(limit),
        "FOUNDRY_INVARIANT_FAILURE_PERSIST_DIR": "cache/failures",
    }
    if guided:
        environment["FOUNDRY_INVARIANT_CORPUS_DIR"] = "cache/corpus"
    started = time.perf_counter()
    command = [find_forge(), "test", "--json", "--threads", "1", "--match-contract", "YardstickTest"]
    try:
        done = subprocess.run(
            alone(command),
            cwd=project,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=limit + GRACE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:  # it looks at the clock between runs only, and others had the core
        return None, None, None
    seconds = round(time.perf_counter() - started, 2)
    try:
        [suite] = json.loads(done.stdout.strip().splitlines()[-1]).values()
        [test] = suite["test_results"].values()
        calls = test["kind"]["Invariant"]["calls"]
    except (ValueError, IndexError, KeyError):
        raise SystemExit(f"forge says: {(done.stderr or done.stdout).strip()[-600:]}") from None
    if test["status"] == "Success":
        return None, calls, None
    found = test["counterexample"]["Sequence"]
    return seconds, calls, len(found[-1] if isinstance(found[-1], list) else found)


def forge_random(project: Path, seed: int, limit: int) -> Outcome:
    """Runs forge's invariant runner without a corpus."""
    return forge(project, seed, limit, guided=False)


def stakesim(project: Path, seed: int, limit: int) -> Outcome:
    """Runs `stakesim fuzz` until its first finding."""
    with closing(fuzz(f"{project / 'src' / 'EventStake.sol'}:EventStake", seed, limit)) as findings:
        first = next(findings, None)
    return (first["seconds"], None, first["actions"]) if first else (None, None, None)


FINDERS: dict[str, Callable[[Path, int, int], Outcome]] = {
    "stakesim": stakesim,
    "forge": forge,
    "forge-random": forge_random,
}


def find_forge() -> str:
    """Returns forge: the one of npm, else the one on PATH."""
    packaged = next((CONTRACTS / "proofs").glob("node_modules/@foundry-rs/forge-*/bin/forge"), None)
    program = str(packaged) if packaged else shutil.which("forge")
    if program is None:
        raise SystemExit("There is no forge: run `make -C benchmarks/peers forge`, or put Foundry's own on PATH.")
    return program


def processor_seconds() -> float:
    """Returns the processor time of all programs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def prepare(folder: Path, name: str) -> Path:
    """Writes a contract with its forge project, and shows that the calls which the bug needs reveal it."""
    project = folder / name
    shutil.copytree(HERE / "forge", project, ignore=shutil.ignore_patterns("src", "out", "cache"))
    write(project / "src", planted(name))
    for shared in ("node_modules", "solc"):
        if not (folder / shared).exists():
            (folder / shared).symlink_to((CONTRACTS / shared).resolve())
    known = [find_forge(), "test", "--offline", "--match-test", rf"^test_{yardstick()[name].actions}\("]
    tested = subprocess.run(known, cwd=project, capture_output=True, text=True, check=False)
    if "1 tests passed" not in tested.stdout:
        raise SystemExit(f"forge says: {(tested.stderr or tested.stdout).strip()[-600:]}")
    return project


def main(
    seconds: Annotated[int, typer.Option(help="Time for each search.")] = 60,
    seeds: Annotated[int, typer.Option(help="Searches for each bug, with the seeds 0, 1, ...")] = 3,
    finder: Annotated[list[str] | None, typer.Option(help="stakesim, forge or forge-random; all by default.")] = None,
    bug: Annotated[list[str] | None, typer.Option(help="Names of bugs; all by default.")] = None,
    out: Annotated[Path, typer.Option(help="The CSV file.")] = Path("reports/yardstick.csv"),
) -> None:
    """Searches for each bug with each finder and each seed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder, out.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(Search._fields)
        for name in bug or yardstick():
            project = prepare(Path(folder), name)
            for each in finder or FINDERS:
                for seed in range(seeds):
                    before = processor_seconds()
                    found_after, calls, length = FINDERS[each](project, seed, seconds)
                    used = round(processor_seconds() - before, 2)
                    row = Search(each, name, yardstick()[name].actions, seed, found_after, used, calls, length)
                    table.writerow(row)
                    file.flush()
                    typer.echo(" ".join(map(str, row)))


if __name__ == "__main__":
    typer.run(main)

"""`python -m mutants`: puts small faults into the code that `[tool.mutants]` names, and lists what no test finds."""

from __future__ import annotations

import hashlib
import importlib
import os
import random
import secrets
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from rich.console import Console
from stakesim.gate.mutation_result import MutantStatus

from mutants import results
from mutants.judge import UNREACHED, Cold, Outcome, Warm
from mutants.making import PythonMutant, mutants_of, names_in
from mutants.order import Order
from mutants.reach import Observer, Reach, uses_in

SEED = "STAKESIM_TEST_SEED"
"""Environment variable with the seed of the tests, which must be the same for all mutants."""

QUIET = ("-qq", "--disable-warnings", "--tb=native")
"""Options of pytest. Other tracebacks take longer to make than most tests take."""


@dataclass(frozen=True)
class Settings:
    """The table `[tool.mutants]`.

    Attributes:
        root: Folder of the packages.
        package: The package that tests are observed in.
        files: Files of which mutants are made, below the folder.
        money: Files, and `file::function`, that compute or move money.
        states: Names of the tuples of strings that are all states of something.
        tests: Files and folders of tests.
        options: Options of pytest.
        equivalent: File with the reviewed equivalent mutants.
        unshared: Fixtures of a session that each mutant needs for itself, such as a process with a state of its own.
        least_limit_s: Time limit of a test, beside 20 times the seconds that it takes without a mutant.
    """

    root: str
    package: str
    files: list[str]
    money: list[str]
    tests: list[str]
    equivalent: str
    states: list[str]
    options: list[str]
    least_limit_s: float
    unshared: list[str]


class Project:
    """The code, its tests and its mutants."""

    def __init__(self, settings: Settings, work: Path) -> None:
        """Takes the settings, and the folder for what is kept from one run to the next."""
        self.settings, self._work = settings, work
        self.root = Path(settings.root).resolve()
        self.code = [str(file.relative_to(self.root)) for file in sorted((self.root / settings.package).rglob("*.py"))]
        unknown = [
            name
            for name in [*settings.files, *(name.partition("::")[0] for name in settings.money)]
            if name not in self.code
        ]
        if unknown:
            raise SystemExit(f"[tool.mutants] names {unknown[0]}, which is not in {settings.root}/{settings.package}.")
        names = names_in([self.root / file for file in self.code], settings.states)
        self.mutants = [
            mutant for file in settings.files for mutant in mutants_of(self.root, file, names, settings.money)
        ]
        self.equivalents = results.equivalents_in(Path(settings.equivalent))
        folders = [Path(name) for name in settings.tests]
        tests = {file for name in folders for file in (name.rglob("test_*.py") if name.is_dir() else [name])}
        self._tests = {str(file): results.hash_of([file]) for file in sorted(tests)}
        helpers = {file for name in folders for file in (name if name.is_dir() else name.parent).rglob("*.py")}
        helpers = {file for file in helpers if not file.name.startswith("test_")}
        self._helpers = {str(file): results.hash_of([file]) for file in sorted(helpers)}
        self._hashes = {file: results.hash_of([self.root / file]) for file in self.code}

    @property
    def fingerprint(self) -> str:
        """Hash of all code and all tests."""
        parts = [*self._helpers.values(), *self._hashes.values(), *self._tests.values()]
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]

    def verdicts(self, out: Path, tests_for: float) -> results.VerdictFile:
        """The file of verdicts, of which those on survivors are for tests of so many seconds."""
        return results.VerdictFile(out, self._hashes, self._tests, f"{self.fingerprint} {tests_for:g} s")

    def observe(self) -> Reach:
        """Finds out which tests reach what. Where neither they nor what they reach changed, it is known already."""
        kept = self._work / "reach.json"
        reach = Reach.read(kept, self._helpers)
        if changed := reach.forget_changed(self._tests, self._hashes):
            observer = Observer(self.root, self.code, self._tests, reach, lambda: reach.write(kept))
            in_fork(lambda: pytest.main([*self.settings.options, *QUIET, *changed], plugins=[observer]))
            reach = Reach.read(kept, self._helpers)
            if left := reach.forget_changed(self._tests, self._hashes):
                reach.files |= {name: self._tests[name] for name in left}  # without any test that is run here
        return reach

    def judge(self, mutants: list[PythonMutant], order: Order, told: Callable[[PythonMutant, Outcome], None]) -> None:
        """Judges mutants, first those that can be put into a process that has imported the project."""
        uses = uses_in(self.root, self.code)
        reached: list[tuple[PythonMutant, list[str]]] = []
        for mutant in sorted(mutants, key=lambda mutant: not order.is_killed(mutant)):
            named = order.reach.with_names(mutant, uses)
            tests = order.reach.of(named, uses)
            if tests or named.names:
                reached.append((named, tests))
            else:
                told(mutant, {"status": MutantStatus.SURVIVED, "reason": UNREACHED})
        left = self._work / "left.txt"
        left.write_text("")

        def told_or_left(mutant: PythonMutant, outcome: Outcome | None) -> None:
            if outcome is not None:
                told(mutant, outcome)
            else:
                with left.open("a") as file:
                    file.write(mutant.key + "\n")

        if files := sorted({test.partition("::")[0] for _, tests in reached for test in tests}):
            settings = self.settings
            plugin = Warm(
                self.root, settings.package, order, reached, told_or_left, settings.least_limit_s, settings.unshared
            )
            in_fork(lambda: pytest.main([*settings.options, *QUIET, *files], plugins=[plugin]))
        keys = set(left.read_text().splitlines())
        if keys:
            for name in order.reach.imported:
                try:
                    importlib.import_module(name)
                except Exception as error:  # noqa: BLE001 - only makes what follows slower
                    print(f"{name} is not imported beforehand: {error}", file=sys.stderr)  # noqa: T201
        judge = Cold(self.root, [*self.settings.options, *QUIET], order, self.settings.least_limit_s)
        for mutant, tests in reached:
            if mutant.key in keys:
                told(mutant, judge.judge(mutant, tests))


def in_fork(job: Callable[[], int]) -> None:
    """Does a job in a fork of this process, which shall not import the project. It returns 0 if all went well."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = int(job())
        finally:
            sys.stdout.flush()
            os._exit(status)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("The tests can't be run to the end: see above. The same command goes on from there.")


def main(
    only: Annotated[str, typer.Option(help="Only mutants whose key contains this text.")] = "",
    money: Annotated[bool, typer.Option("--money", help="Only mutants on lines that move money.")] = False,
    sample: Annotated[int | None, typer.Option(help="Only so many mutants, drawn by --seed.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sample; a fresh one by default.")] = None,
    out: Annotated[
        Path, typer.Option(help="Verdicts, a line of JSON each, as they come. The same command goes on.")
    ] = Path(".stakesim/mutants/verdicts.jsonl"),
    tests_for: Annotated[
        float,
        typer.Option(help="Processor time of the tests that a mutant gets at most, in seconds.", min=0),
    ] = 60,
    known: Annotated[bool, typer.Option("--known", help="Only show the verdicts that there are.")] = False,
) -> None:
    """Puts small faults into the backend's code, one at a time, and lists those that no test finds."""
    os.environ.setdefault(SEED, "1")
    table = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutants"]
    project = Project(Settings(**table), out.parent)
    console = Console(highlight=False, soft_wrap=True)
    chosen = [mutant for mutant in project.mutants if only in mutant.key and (mutant.moves_money or not money)]
    seed = secrets.randbits(32) if seed is None else seed
    console.print(f"{len(project.mutants)} mutants, seed {seed}")
    random.Random(seed).shuffle(chosen)
    chosen = chosen[:sample]
    file = project.verdicts(out, tests_for)
    done = file.read(project.mutants)
    if known:
        chosen = [mutant for mutant in chosen if mutant.key in done or mutant.key in project.equivalents]
    else:
        todo = [mutant for mutant in chosen if mutant.key not in done and mutant.key not in project.equivalents]
        count = 0

        def told(mutant: PythonMutant, outcome: Outcome) -> None:
            nonlocal count
            count += 1
            file.write(mutant, outcome)
            if outcome["status"] != MutantStatus.KILLED or count % 50 == 0:
                console.print(f"{count} of {len(todo)}: {outcome['status']} {mutant.key}", markup=False)

        if todo:
            reach = project.observe()
            for test in reach.failed:
                console.print(f"fails without any mutant, so it judges none: {test}", markup=False)
            project.judge(todo, Order(reach, tests_for, file.kills(project.mutants)), told)
        done = file.read(project.mutants)
    equivalent = {
        mutant.key: results.Verdict(mutant, MutantStatus.EQUIVALENT, project.equivalents[mutant.key])
        for mutant in chosen
        if mutant.key in project.equivalents
    }
    verdicts = [
        verdict
        for mutant in sorted(chosen, key=lambda mutant: (mutant.file, mutant.mutant.start))
        if (verdict := equivalent.get(mutant.key) or done.get(mutant.key)) is not None
    ]
    stale = sorted(project.equivalents.keys() - {mutant.key for mutant in project.mutants})
    raise SystemExit(0 if results.show(verdicts, len(project.mutants), stale, console) else 1)


if __name__ == "__main__":
    typer.run(main)

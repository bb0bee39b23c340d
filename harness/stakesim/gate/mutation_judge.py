"""Judges one mutant after another: by the contract lane, then by the scenarios, then by the tests.

The lane tells most mutants from the contract in a fraction of a second. What it can't tell is compiled as for a deploy
before the tests run: code that is the contract's own there is proven to do the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from stakesim.errors import NotInstalled
from stakesim.evm.compiler import Artifact, Compiler
from stakesim.evm.errors import EngineError
from stakesim.gate.contract_tests import TESTS_LIMIT_S, first_failing_test
from stakesim.gate.errors import UnsoundContract
from stakesim.gate.hashes import code_hash
from stakesim.gate.mutant import Mutant
from stakesim.gate.mutation_result import Build, MutantStatus, Stage, Verdict
from stakesim.gate.plain_build import DEPLOYED_SETTINGS, PLAIN_SETTINGS, compile_contract
from stakesim.lane.judge import LaneJudge, learn
from stakesim.lane.knowledge import Knowledge
from stakesim.runner.environment import Environment, open_environment
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import Scenario
from stakesim.search.contract_search import confirm, open_search
from stakesim.workers.time_limit import NeverEnds

SETTINGS: Mapping[Build, Mapping[str, Any]] = {Build.PLAIN: PLAIN_SETTINGS, Build.DEPLOYED: DEPLOYED_SETTINGS}
"""Compiler settings by build."""


class LaneBudget(NamedTuple):
    """How much the contract lane does.

    Attributes:
        kept: Sequences of the search of the sound contract, whose corpus each mutant is played.
        fresh: New sequences that are played on a mutant that the corpus does not tell from the contract.
        seed: Seed of the search.
    """

    kept: int = 4_000
    fresh: int = 300
    seed: int = 1


@dataclass(frozen=True)
class SoundContract:
    """The contract itself, and how mutants are told from it.

    Attributes:
        build: How it is compiled.
        sources: Source code by name.
        file: Name of its file.
        artifact: The contract.
        proves: Whether a mutant that nothing but tests could kill is compared with it as it is deployed.
        engine: Engine of the scenarios.
        suite: The scenarios.
        tests: File or folder of tests.
        known: What a search of it by the contract lane knows; None if the lane can't judge it.
        fresh: See `LaneBudget`.
        ends: When the time for judging is up, in seconds of `time.time`, which all processes share.
    """

    build: Build
    sources: Mapping[str, str]
    file: str
    artifact: Artifact
    proves: bool
    engine: str
    suite: Sequence[Scenario]
    tests: Path | None
    known: Knowledge | None
    fresh: int
    ends: float = inf

    @property
    def time_is_up(self) -> bool:
        """Whether nothing is judged any more."""
        return time.time() >= self.ends

    def check(self) -> None:
        """Checks that no scenario fails. A test is checked when it kills a mutant.

        Raises:
            UnsoundContract: One does.
        """
        if not self.suite:
            return
        with closing(open_environment(self.engine, self.artifact)) as environment:
            for scenario in self.suite:
                if self.time_is_up:
                    return
                findings = run_scenario(environment, scenario).findings
                if findings:
                    raise UnsoundContract(
                        f"{self.artifact.name} itself has findings, so that no mutant could be told from it: "
                        f"{scenario.name}, {findings[0].id}, {findings[0].message.rstrip('.')}. "
                        "Fix it first: stakesim run.",
                        findings,
                    )


def search_sound(contract: Artifact, budget: LaneBudget | None, ends: float = inf) -> Knowledge | None:
    """Searches the sound contract in the lane, until a moment of `time.time`; returns None if the lane can't judge it.

    Raises:
        UnsoundContract: The search has findings.
    """
    if budget is None:
        return None
    try:
        search = open_search(contract, budget.seed)
    except (EngineError, NotInstalled):
        return None
    search.run(sequences=budget.kept, watch=lambda: not search.findings and time.time() < ends)
    for finding in search.findings.values():
        raise UnsoundContract(
            f"{contract.name} itself has findings, so that no mutant could be told from it: {finding.difference.text}. "
            "Fix it first: stakesim fuzz.",
            [each for found in confirm(search) for each in found.findings],
        )
    return learn(contract, search)


# ------------------------------------------------------------------------------------------- in a worker process


_TESTS_FIRST = 3


class MutantWorker:
    """What a worker process keeps between mutants."""

    def __init__(self, sound: SoundContract) -> None:
        """Starts a compiler. An environment for scenarios is opened when a mutant needs it."""
        self.sound, self._suite = sound, list(sound.suite)
        self._failed_tests: list[str] = []
        self._sound_tests: set[str] = set()
        self._stack = ExitStack()
        self.compiler = self._stack.enter_context(Compiler())
        self.close = self._stack.close
        known = sound.known
        self._lane = None if known is None else LaneJudge(sound.artifact, known, sound.fresh)

    def judge(self, mutant: Mutant, artifact: Artifact) -> Verdict:
        """Judges a mutant."""
        sound, started = self.sound, time.perf_counter()
        try:
            found = self._judged_by_lane(artifact) or self._judged_by_scenarios(artifact)
        except EngineError as error:
            return Verdict(mutant, MutantStatus.INVALID, reason=str(error), build=sound.build)
        if found is None and self._is_sound_when_deployed(mutant, artifact):
            found = _Found(MutantStatus.DUPLICATE, reason="the contract, compiled as for a deploy")
        found = found or self._judged_by_tests(artifact) or _Found(MutantStatus.SURVIVED)
        return Verdict(
            mutant,
            found.status,
            found.killed_by,
            found.shown_by,
            time.perf_counter() - started,
            found.reason,
            found.stage,
            code_hash(artifact.bytecode),
            sound.build,
        )

    def judge_listed(self, mutant: Mutant, artifact: Artifact, argument: str) -> Verdict:
        """Judges a mutant that is listed as equivalent: so it is, unless the contract lane tells it quickly."""
        started = time.perf_counter()
        try:
            found = self._judged_by_lane(artifact, quickly=True)
        except EngineError:  # it can't be driven, which its argument may be about
            found = None
        status, by, shown_by, reason, stage = found or _Found(MutantStatus.EQUIVALENT, reason=argument)
        seconds, code = time.perf_counter() - started, code_hash(artifact.bytecode)
        return Verdict(mutant, status, by, shown_by, seconds, reason, stage, code, self.sound.build)

    def _judged_by_lane(self, artifact: Artifact, *, quickly: bool = False) -> _Found | None:
        kill = None if self._lane is None else self._lane.judge(artifact, quickly=quickly)
        return None if kill is None else _Found(MutantStatus.KILLED, (kill.kind,), kill.shown_by, stage=Stage.LANE)

    def _judged_by_scenarios(self, artifact: Artifact) -> _Found | None:
        """Runs the scenarios, the one that killed the previous mutant first."""
        if not self._suite:
            return None
        environment = self._environment
        environment.set_contract(artifact)
        for scenario in list(self._suite):
            if self.sound.time_is_up:
                return _NOT_JUDGED
            findings = tuple(each.id for each in run_scenario(environment, scenario).findings if each.id != "CRASH")
            if findings:
                self._suite.remove(scenario)
                self._suite.insert(0, scenario)
                return _Found(MutantStatus.KILLED, findings, scenario.name, stage=Stage.SCENARIOS)
        return None

    def _judged_by_tests(self, artifact: Artifact) -> _Found | None:
        """Runs the tests, those that killed a mutant before first."""
        sound = self.sound
        if sound.tests is None:
            return None
        left = min(TESTS_LIMIT_S, sound.ends - time.time())
        if left <= 0:
            return _NOT_JUDGED
        first = self._failed_tests[:_TESTS_FIRST]
        try:
            failed = first_failing_test(artifact, sound.tests, sound.engine, first=first, limit=left)
        except NeverEnds as error:
            if sound.time_is_up:
                return _NOT_JUDGED
            return _Found(MutantStatus.KILLED, ("HANG",), str(error), stage=Stage.TESTS)
        if failed is None:
            return None
        self._check_test(failed)
        name = failed.partition("[")[0]
        self._failed_tests = [name, *(each for each in self._failed_tests if each != name)]
        return _Found(MutantStatus.KILLED, ("EXPECTATION",), failed, stage=Stage.TESTS)

    def _check_test(self, test: str) -> None:
        """Checks that a test which fails with a mutant passes with the contract."""
        sound = self.sound
        if test not in self._sound_tests and first_failing_test(sound.artifact, test, sound.engine):
            name = sound.artifact.name
            raise UnsoundContract(f"{name} itself fails {test}, so that no mutant could be told from it: fix it first.")
        self._sound_tests.add(test)

    def _is_sound_when_deployed(self, mutant: Mutant, artifact: Artifact) -> bool:
        if not self.sound.proves:
            return False
        deployed = artifact if self.sound.build is Build.DEPLOYED else self.compile(mutant, Build.DEPLOYED)
        return deployed is not None and code_hash(deployed.bytecode) == self.deployed_code

    @cached_property
    def deployed_code(self) -> str:
        """Hash of the contract's own code, compiled as for a deploy; empty if it does not compile so."""
        sound = self.sound
        artifact: Artifact | None = sound.artifact
        if sound.build is Build.PLAIN:
            artifact = compile_contract(
                self.compiler, sound.sources, sound.file, sound.artifact.name, DEPLOYED_SETTINGS
            )
        return "" if artifact is None else code_hash(artifact.bytecode)

    def compile(self, mutant: Mutant, build: Build) -> Artifact | None:
        """Compiles a mutant; returns None if it does not compile."""
        sound = self.sound
        file = mutant.file or sound.file
        mutated = {**sound.sources, file: mutant.apply(sound.sources[file])}
        return compile_contract(self.compiler, mutated, sound.file, sound.artifact.name, SETTINGS[build])

    @cached_property
    def _environment(self) -> Environment:
        return self._stack.enter_context(closing(open_environment(self.sound.engine, self.sound.artifact)))


class _Found(NamedTuple):
    status: MutantStatus
    killed_by: tuple[str, ...] = ()
    shown_by: str = ""
    reason: str = ""
    stage: Stage | None = None


_NOT_JUDGED = _Found(MutantStatus.NOT_JUDGED)


def compile_mutant(worker: MutantWorker, mutant: Mutant) -> Artifact | None:
    """Compiles a mutant in a worker, as its contract is; returns None if it does not compile, or the time is up."""
    return None if worker.sound.time_is_up else worker.compile(mutant, worker.sound.build)


def judge_mutant(worker: MutantWorker, mutant: Mutant, artifact: Artifact) -> Verdict:
    """Judges a mutant in a worker."""
    return not_judged(mutant, worker.sound.build) if worker.sound.time_is_up else worker.judge(mutant, artifact)


def judge_listed(worker: MutantWorker, mutant: Mutant, artifact: Artifact, argument: str) -> Verdict:
    """Judges a mutant that is listed as equivalent in a worker; without time for it, the list is believed."""
    if worker.sound.time_is_up:
        return listed(mutant, argument)
    return worker.judge_listed(mutant, artifact, argument)


def compile_and_judge(worker: MutantWorker, mutant: Mutant) -> Verdict:
    """Compiles and judges a mutant in a worker."""
    if worker.sound.time_is_up:
        return not_judged(mutant, worker.sound.build)
    artifact = worker.compile(mutant, worker.sound.build)
    if artifact is None:
        return Verdict(mutant, MutantStatus.INVALID, reason=DOES_NOT_COMPILE, build=worker.sound.build)
    if worker.sound.build is Build.DEPLOYED and code_hash(artifact.bytecode) == worker.deployed_code:
        reason = "the contract, compiled as for a deploy"
        return Verdict(mutant, MutantStatus.DUPLICATE, reason=reason, build=worker.sound.build)
    return worker.judge(mutant, artifact)


def listed(mutant: Mutant, argument: str) -> Verdict:
    """The verdict on a mutant that is believed to be equivalent, as the reviewed list says."""
    return Verdict(mutant, MutantStatus.EQUIVALENT, reason=argument)


def not_judged(mutant: Mutant, build: Build) -> Verdict:
    """The verdict on a mutant for which there was no time."""
    return Verdict(mutant, MutantStatus.NOT_JUDGED, build=build)


DOES_NOT_COMPILE = "does not compile"
"""Why a mutant is invalid."""

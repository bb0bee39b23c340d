"""Mutation testing: how many small faults in a contract the scenarios, the model and the invariants find.

Each mutant is played until the first finding. A mutant that does not compile, or can't be deployed, is no kill and no
survivor: there is no contract to test. An error that nobody foresaw is no kill either.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from difflib import unified_diff
from functools import partial
from pathlib import Path

from stakesim.evm.compiler import CONTRACTS, Artifact, Compiler, artifacts_from_output
from stakesim.evm.errors import EngineError
from stakesim.gate.mutation_operators import Mutant, mutants
from stakesim.gate.plain_build import Built, build, compiled, failing_test
from stakesim.generate.random_scenario import generate, load_profile
from stakesim.runner import scenario_files
from stakesim.runner.environment import open_environment
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import Scenario, load
from stakesim.search.walks import walk
from stakesim.workers.pool import worker_pool

EQUIVALENT = CONTRACTS / "equivalent_mutants.json"
"""Reviewed: mutants that no test can tell from the contract, by their key, with the reason."""
WALKS = 12
LEAST = 0.98
MONEY = re.compile(r"price|payment|stake|refund|fee|forfeit|payout|escrow|credit|amount|compensation|_push|_send", re.I)
"""On a line that computes or moves money."""
Progress = Callable[["Verdict"], None]


@dataclass(frozen=True)
class Verdict:
    """status: killed, survived, equivalent, duplicate (of another mutant, or of the contract), or invalid.

    by: what killed it: ids of findings, and the scenario. seconds: it took.
    """

    mutant: Mutant
    status: str
    by: tuple[str, ...] = ()
    scenario: str = ""
    seconds: float = 0.0
    reason: str = ""


@dataclass
class Mutation:
    """What came of all mutants of one contract, in the order of its source."""

    verdicts: list[Verdict] = field(default_factory=list)
    seconds: float = 0.0

    def of(self, status: str) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.status == status]

    @property
    def score(self) -> float:
        """Share of killed ones among those that could be."""
        killed, survived = len(self.of("killed")), len(self.of("survived"))
        return killed / (killed + survived) if killed + survived else 0.0

    @property
    def passed(self) -> bool:
        """At least 98% are killed, and all of those on lines that compute or move money."""
        return self.score >= LEAST and not any(MONEY.search(verdict.mutant.text) for verdict in self.of("survived"))

    @property
    def killers(self) -> Counter[str]:
        """How many mutants each invariant, or expectation, found."""
        return Counter(id for verdict in self.of("killed") for id in set(verdict.by))


def mutate(
    source: Path,
    contract: str,
    engine: str = "revm",
    jobs: int = 1,
    only: str = "",
    tests: Path | None = None,
    progress: Progress | None = None,
    dask: str | None = None,
) -> Mutation:
    """Makes and plays all mutants of a contract.

    source: a Solidity file. only: those whose key has this in it. tests: what is run for those that all scenarios pass,
    see `failing_test`. progress: called with each verdict. jobs, dask: as for `worker_pool`; the status of a mutant
    is the same whoever plays it, but not what kills it first, as a worker tries that first which killed its last one.
    Raises `CompileError`, and `EngineError` where the contract itself has findings or there are no mutants.
    """
    began = time.perf_counter()
    built = build(source, contract)
    sound = built.artifact
    made = mutants(built.source, built.tree, contract)
    made = [mutant for mutant in made if only in mutant.key]
    if not made:
        raise EngineError(f"There is no mutant of {contract} to play: choose another `--only`.")
    suite = scenarios()
    with closing(open_environment(engine)) as environment:
        environment.set_contract(sound)
        environment.foreign = True
        for scenario in suite:
            findings = run_scenario(environment, scenario).findings
            if findings:
                raise EngineError(
                    f"{contract} itself has findings, so that no mutant could be told from it: "
                    f"{scenario.name}, {findings[0].id}, {findings[0].message}. Mend it first: stakesim run."
                )
    if tests and (failed := failing_test(sound, tests, engine)):
        raise EngineError(f"{contract} itself fails {failed}, so that no mutant could be told from it: mend it first.")
    known = {row["mutant"]: row["reason"] for row in json.loads(EQUIVALENT.read_text())} if EQUIVALENT.exists() else {}
    result = Mutation()
    for verdict in _verdicts(made, built, suite, known, engine, tests, jobs, dask):
        result.verdicts.append(verdict)
        if progress:
            progress(verdict)
    result.verdicts.sort(key=lambda verdict: (verdict.mutant.start, verdict.mutant.end, verdict.mutant.new))
    result.seconds = time.perf_counter() - began
    return result


def scenarios() -> list[Scenario]:
    """What mutants are played in: all scripted ones, the regressions, and some walks and lifecycles of each profile."""
    files = [*scenario_files.scripted(everything=True), *scenario_files.regressions()]
    profiles = [load_profile(file) for file in scenario_files.profiles().values()]
    drawn = [generate(profile, 1, index) for profile in profiles for index in range(3)]
    hostile = next(profile for profile in profiles if profile.name == "hostile")
    return [*(load(file) for file in files), *drawn, *(walk(hostile, 1, index, 40) for index in range(WALKS))]


def diff(source: str, mutant: Mutant, name: str = "EventStake.sol") -> str:
    """What is changed, as a patch with one line around it."""
    lines = unified_diff(source.splitlines(), mutant.apply(source).splitlines(), name, name, lineterm="", n=1)
    return "\n".join(list(lines)[2:])


def _verdicts(
    made: Sequence[Mutant],
    built: Built,
    suite: Sequence[Scenario],
    known: Mapping[str, str],
    engine: str,
    tests: Path | None,
    jobs: int,
    dask: str | None,
) -> Iterator[Verdict]:
    seen = {_digest(built.artifact): "the contract"}
    with worker_pool(jobs, dask=dask, open_resource=partial(_Bench, engine, suite)) as submit:
        compiling = [submit(_compile, mutant, built.sources, built.file, built.artifact.name) for mutant in made]
        playing = []
        for mutant, done in zip(made, compiling, strict=True):
            artifact = done.result()
            if artifact is None:
                yield Verdict(mutant, "invalid", reason="does not compile")
            elif mutant.key in known:
                yield Verdict(mutant, "equivalent", reason=known[mutant.key])
            elif (digest := _digest(artifact)) in seen:
                yield Verdict(mutant, "duplicate", reason=seen[digest])
            else:
                seen[digest] = mutant.key
                playing.append(submit(_judge, mutant, artifact, tests))
        for judged in as_completed(playing):
            yield judged.result()


def _digest(artifact: Artifact) -> str:
    return hashlib.sha256(artifact.bytecode.encode()).hexdigest()


class _Bench:
    """What a worker plays mutants with. suite: the scenario that killed last comes first."""

    def __init__(self, engine: str, suite: Sequence[Scenario]) -> None:
        self.suite = list(suite)
        with ExitStack() as opened:
            self.compiler = opened.enter_context(Compiler())
            self.environment = opened.enter_context(closing(open_environment(engine)))
            self.close = opened.pop_all().close
        self.environment.foreign = True


def _compile(bench: _Bench, mutant: Mutant, sources: Mapping[str, str], file: str, contract: str) -> Artifact | None:
    mutated = {**sources, file: mutant.apply(sources[file])}
    output = compiled(bench.compiler, mutated, file)
    if any(error["severity"] == "error" for error in output.get("errors", ())):
        return None
    return artifacts_from_output(output, mutated)[contract]


def _judge(bench: _Bench, mutant: Mutant, artifact: Artifact, tests: Path | None) -> Verdict:
    environment, suite = bench.environment, bench.suite
    began = time.perf_counter()
    environment.set_contract(artifact)
    for scenario in list(suite):
        try:
            played = run_scenario(environment, scenario)
        except EngineError as error:
            return Verdict(mutant, "invalid", reason=str(error))
        ids = tuple(finding.id for finding in played.findings if finding.id != "CRASH")
        if ids:
            with suppress(ValueError):
                suite.remove(scenario)
            suite.insert(0, scenario)
            return Verdict(mutant, "killed", ids, scenario.name, time.perf_counter() - began)
    failed = failing_test(artifact, tests, environment.engine.name) if tests else None
    by = ("EXPECTATION",) if failed else ()
    return Verdict(mutant, "killed" if failed else "survived", by, failed or "", time.perf_counter() - began)

"""Mutation testing: how many small faults in a contract the scenarios, the model and the invariants find.

Each mutant runs until the first finding. A mutant that does not compile, or can't be deployed, neither counts as killed
nor as survived, as there is no contract to test. An unexpected exception (CRASH) kills no mutant.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from difflib import unified_diff
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from stakesim.evm.compiler import CONTRACTS, Artifact, Compiler, artifacts_from_output
from stakesim.evm.errors import EngineError
from stakesim.gate.contract_tests import first_failing_test
from stakesim.gate.mutation_operators import Mutant, generate_mutants
from stakesim.gate.plain_build import PlainBuild, build, compile_plain
from stakesim.gate.scenario_suite import scenario_suite
from stakesim.runner.environment import open_environment
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import Scenario
from stakesim.workers.pool import worker_pool

EQUIVALENT = CONTRACTS / "equivalent_mutants.json"
"""Reviewed list of mutants that behave as the contract does: key of the mutant, and the reason."""
MIN_SCORE = 0.98
"""Share of mutants that must be killed."""
MONEY = re.compile(r"price|payment|stake|refund|fee|forfeit|payout|escrow|credit|amount|compensation|_push|_send", re.I)
"""Matches lines that compute or move money: all mutants on them must be killed."""


class MutantStatus(StrEnum):
    """What became of a mutant.

    Attributes:
        KILLED: A scenario or a test fails.
        SURVIVED: Everything passes.
        EQUIVALENT: It is in the reviewed list of equivalent mutants.
        DUPLICATE: Its code is that of another mutant, or of the contract.
        INVALID: It does not compile, or can't be deployed.
    """

    KILLED = "killed"
    SURVIVED = "survived"
    EQUIVALENT = "equivalent"
    DUPLICATE = "duplicate"
    INVALID = "invalid"


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant, and why.

    Attributes:
        mutant: The mutant.
        status: What became of it.
        killed_by: Ids of the findings that killed it; EXPECTATION for a test.
        scenario: Name of the scenario, or id of the test, that killed it.
        seconds: Wall-clock time that it ran.
        reason: Why it is equivalent, which mutant it duplicates, or why it is invalid.
    """

    mutant: Mutant
    status: MutantStatus
    killed_by: tuple[str, ...] = ()
    scenario: str = ""
    seconds: float = 0.0
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """The verdict as `stakesim mutate --out` writes it."""
        return {
            "mutant": self.mutant.key,
            "operator": self.mutant.operator,
            "line": self.mutant.line,
            "status": self.status,
            "by": self.killed_by,
            "scenario": self.scenario,
            "reason": self.reason,
        }


@dataclass
class MutationResult:
    """Verdicts on all mutants of one contract.

    Attributes:
        source: Source code of the contract's file.
        verdicts: In the order of the source.
        seconds: Wall-clock time.
    """

    source: str = ""
    verdicts: list[Verdict] = field(default_factory=list)
    seconds: float = 0.0

    def with_status(self, status: MutantStatus) -> list[Verdict]:
        """Verdicts with this status."""
        return [verdict for verdict in self.verdicts if verdict.status == status]

    @property
    def score(self) -> float:
        """Share of killed mutants among the killed and the survivors; 0 if there are none."""
        killed, survived = len(self.with_status(MutantStatus.KILLED)), len(self.with_status(MutantStatus.SURVIVED))
        return killed / (killed + survived) if killed + survived else 0.0

    @property
    def passed(self) -> bool:
        """Whether enough mutants are killed, and all of those on lines that compute or move money."""
        survivors = self.with_status(MutantStatus.SURVIVED)
        return self.score >= MIN_SCORE and not any(MONEY.search(verdict.mutant.text) for verdict in survivors)

    @property
    def killers(self) -> Counter[str]:
        """Number of killed mutants by id of the invariant or expectation."""
        return Counter(name for verdict in self.with_status(MutantStatus.KILLED) for name in set(verdict.killed_by))

    def statuses_by_operator(self) -> dict[str, Counter[MutantStatus]]:
        """Number of mutants of each status, by mutation operator."""
        counts: dict[str, Counter[MutantStatus]] = {}
        for verdict in self.verdicts:
            counts.setdefault(verdict.mutant.operator, Counter())[verdict.status] += 1
        return counts


def mutate(
    contract: str | Path | None = None,
    engine: str = "revm",
    *,
    jobs: int = 1,
    only: str = "",
    tests: Path | None = None,
    progress: Callable[[Verdict], None] | None = None,
    dask: str | None = None,
) -> MutationResult:
    """Generates and runs all mutants of a contract.

    The status of a mutant does not depend on `jobs` and `dask`. What kills it first does, as a worker begins with the
    scenario that killed its previous mutant.

    Args:
        contract: FILE.sol, or FILE.sol:Name; by default the packaged `EventStake`.
        engine: Engine to run on.
        jobs: Number of processes.
        only: Only mutants whose key contains this text.
        tests: File or folder of tests for mutants that survive all scenarios, see `first_failing_test`.
        progress: Called with each verdict.
        dask: Address of a Dask scheduler, whose workers run the mutants instead.

    Raises:
        CompileError: The contract can't be compiled.
        EngineError: The contract itself has findings, or there are no mutants.
    """
    started = time.perf_counter()
    plain = build(contract)
    mutants = generate_mutants(plain.source, plain.tree, plain.artifact.name)
    mutants = [mutant for mutant in mutants if only in mutant.key]
    if not mutants:
        raise EngineError(f"There is no mutant of {plain.artifact.name} to run: choose another `--only`.")
    suite = scenario_suite()
    _check_unchanged_contract(plain.artifact, suite, engine, tests)
    result = MutationResult(plain.source)
    for verdict in _verdicts(mutants, plain, suite, engine, tests, jobs, dask):
        result.verdicts.append(verdict)
        if progress:
            progress(verdict)
    result.verdicts.sort(key=lambda verdict: (verdict.mutant.start, verdict.mutant.end, verdict.mutant.new))
    result.seconds = time.perf_counter() - started
    return result


def diff(source: str, mutant: Mutant, name: str = "EventStake.sol") -> str:
    """The fault as a patch of the source, with one line of context."""
    lines = unified_diff(source.splitlines(), mutant.apply(source).splitlines(), name, name, lineterm="", n=1)
    return "\n".join(list(lines)[2:])


def _check_unchanged_contract(artifact: Artifact, suite: Sequence[Scenario], engine: str, tests: Path | None) -> None:
    """Raises `EngineError` if a scenario or test fails without any mutation."""
    with closing(open_environment(engine, artifact)) as environment:
        for scenario in suite:
            findings = run_scenario(environment, scenario).findings
            if findings:
                raise EngineError(
                    f"{artifact.name} itself has findings, so that no mutant could be told from it: "
                    f"{scenario.name}, {findings[0].id}, {findings[0].message}. Fix it first: stakesim run."
                )
    if tests and (failed := first_failing_test(artifact, tests, engine)):
        raise EngineError(
            f"{artifact.name} itself fails {failed}, so that no mutant could be told from it: fix it first."
        )


def _verdicts(
    mutants: Sequence[Mutant],
    plain: PlainBuild,
    suite: Sequence[Scenario],
    engine: str,
    tests: Path | None,
    jobs: int,
    dask: str | None,
) -> Iterator[Verdict]:
    reviewed = json.loads(EQUIVALENT.read_text()) if EQUIVALENT.exists() else []
    equivalent = {row["mutant"]: row["reason"] for row in reviewed}
    known_code = {_code_hash(plain.artifact): "the contract"}
    with worker_pool(jobs, dask=dask, open_resource=partial(_Worker, engine, suite, plain.artifact)) as submit:
        compiling = [submit(_compile, mutant, plain.sources, plain.file, plain.artifact.name) for mutant in mutants]
        running = []
        for mutant, compiled in zip(mutants, compiling, strict=True):
            artifact = compiled.result()
            if artifact is None:
                yield Verdict(mutant, MutantStatus.INVALID, reason="does not compile")
            elif mutant.key in equivalent:
                yield Verdict(mutant, MutantStatus.EQUIVALENT, reason=equivalent[mutant.key])
            elif (code := _code_hash(artifact)) in known_code:
                yield Verdict(mutant, MutantStatus.DUPLICATE, reason=known_code[code])
            else:
                known_code[code] = mutant.key
                running.append(submit(_judge, mutant, artifact, tests))
        for future in as_completed(running):
            yield future.result()


def _code_hash(artifact: Artifact) -> str:
    return hashlib.sha256(artifact.bytecode.encode()).hexdigest()


# ------------------------------------------------------------------------------------------- in a worker process


class _Worker:
    """What a worker process keeps between mutants.

    Attributes:
        suite: Scenarios in the order in which they run: the one that killed the previous mutant comes first.
        compiler: An open compiler.
        environment: An open environment, for a contract other than the packaged one.
    """

    def __init__(self, engine: str, suite: Sequence[Scenario], contract: Artifact) -> None:
        self.suite = list(suite)
        with ExitStack() as stack:
            self.compiler = stack.enter_context(Compiler())
            self.environment = stack.enter_context(closing(open_environment(engine, contract)))
            self.close = stack.pop_all().close


def _compile(worker: _Worker, mutant: Mutant, sources: Mapping[str, str], file: str, contract: str) -> Artifact | None:
    mutated = {**sources, file: mutant.apply(sources[file])}
    output = compile_plain(worker.compiler, mutated, file)
    if any(error["severity"] == "error" for error in output.get("errors", ())):
        return None
    return artifacts_from_output(output, mutated)[contract]


def _judge(worker: _Worker, mutant: Mutant, artifact: Artifact, tests: Path | None) -> Verdict:
    environment, suite = worker.environment, worker.suite
    started = time.perf_counter()
    environment.set_contract(artifact)
    for scenario in list(suite):
        try:
            result = run_scenario(environment, scenario)
        except EngineError as error:
            return Verdict(mutant, MutantStatus.INVALID, reason=str(error))
        findings = tuple(finding.id for finding in result.findings if finding.id != "CRASH")
        if findings:
            suite.remove(scenario)
            suite.insert(0, scenario)
            return Verdict(mutant, MutantStatus.KILLED, findings, scenario.name, time.perf_counter() - started)
    failed = first_failing_test(artifact, tests, environment.engine.name) if tests else None
    seconds = time.perf_counter() - started
    if failed:
        return Verdict(mutant, MutantStatus.KILLED, ("EXPECTATION",), failed, seconds)
    return Verdict(mutant, MutantStatus.SURVIVED, seconds=seconds)

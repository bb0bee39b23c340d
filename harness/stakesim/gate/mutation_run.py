"""Mutation testing: how many small faults in a contract the contract lane, the scenarios and the tests find.

Each mutant runs until the first finding. A mutant that does not compile, or can't be deployed, neither counts as killed
nor as survived, as there is no contract to test. An unexpected exception (CRASH) kills no mutant.

All mutants are judged on a plain build, which compiles in a fifth of a second. Then the survivors and a sample of the
killed are judged as they would be deployed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from difflib import unified_diff
from functools import cached_property, partial
from math import inf
from pathlib import Path
from random import Random

from stakesim.evm.compiler import Artifact, CompileError, Compiler, source_hash
from stakesim.evm.errors import EngineError
from stakesim.gate.equivalent_mutants import load_equivalents, not_made
from stakesim.gate.hashes import code_hash
from stakesim.gate.mutant import Mutant
from stakesim.gate.mutation_judge import (
    DOES_NOT_COMPILE,
    LaneBudget,
    MutantWorker,
    SoundContract,
    compile_and_judge,
    compile_mutant,
    judge_listed,
    judge_mutant,
    listed,
    not_judged,
    search_sound,
)
from stakesim.gate.mutation_operators import all_mutants
from stakesim.gate.mutation_result import Build, MutantStatus, MutationResult, Verdict
from stakesim.gate.plain_build import DEPLOYED_SETTINGS, PlainBuild, build, compile_contract
from stakesim.gate.scenario_suite import scenario_suite
from stakesim.gate.verdict_file import VerdictFile
from stakesim.workers.pool import worker_pool

DEPLOYED_SAMPLE = 40
"""Killed mutants that are judged again as they would be deployed."""
_AHEAD = 64
"""Mutants that are compiled before they are judged, and that wait for their verdict."""


def mutate(
    contract: str | Path | None = None,
    engine: str = "revm",
    *,
    jobs: int = 1,
    only: str = "",
    sample: int | None = None,
    seed: int = 1,
    tests: Path | None = None,
    lane: LaneBudget | None = LaneBudget(),  # noqa: B008 - it is a constant
    deployed: int | None = None,
    seconds: float | None = None,
    out: Path | None = None,
    progress: Callable[[Verdict], None] | None = None,
    dask: str | None = None,
    interruptible: bool = False,
) -> MutationResult:
    """Generates and runs all mutants of a contract, its bases, and other code of the project that it uses.

    The status of a mutant does not depend on `jobs` and `dask`. What kills it first does, as a worker begins with the
    sequence or scenario that killed a mutant before.

    Args:
        contract: FILE.sol, or FILE.sol:Name; by default the packaged `EventStake`.
        engine: Engine to run scenarios and tests on.
        jobs: Number of processes.
        only: Only mutants whose key contains this text.
        sample: Only so many of them, drawn by `seed`; None: all.
        seed: Seed of the samples.
        tests: File or folder of tests for mutants that survive all scenarios, see `first_failing_test`.
        lane: How much the contract lane does; None: it is not used.
        deployed: How many killed mutants are judged once more, with all survivors, compiled as for a deploy; None:
            none, and no survivors either.
        seconds: Time after which nothing is judged any more. Mutants are then judged in an order that `seed` draws.
        out: File that each verdict is appended to. Mutants on which it has a verdict are not run again if the sources
            are the same.
        progress: Called with each verdict.
        dask: Address of a Dask scheduler, whose workers run the mutants instead.
        interruptible: Ctrl-C ends it and gives the verdicts so far; otherwise it is raised.

    Raises:
        CompileError: The contract can't be compiled.
        UnsoundContract: The contract itself has findings, or fails a test.
        MalformedList: The list of equivalent mutants can't be read.
        EngineError: There are no mutants, or `out` is another kind of file.
        OSError: `out` can't be written.
    """
    started, ends = time.perf_counter(), inf if seconds is None else time.time() + seconds
    plain = build(contract)
    everything = all_mutants(plain)
    mutants = choose_mutants(everything, only, sample, seed)
    if not mutants:
        raise EngineError(f"There is no mutant of {plain.artifact.name} to run: choose another `--only`.")
    equivalents = load_equivalents(plain.path, plain.artifact.name)
    stale = not_made(equivalents, (mutant.key for mutant in everything))
    result = MutationResult(plain.source, stale=stale if not only else [], sources=plain.sources)
    result.left_out = plain.left_out
    if seconds is not None:
        Random(seed).shuffle(mutants)
    about = {"contract": plain.artifact.name, "sources": source_hash(plain.sources), "engine": engine}
    with VerdictFile(out, about) as file:

        def judged(verdicts: Iterator[Verdict], into: list[Verdict]) -> None:
            for verdict in verdicts:
                into.append(verdict)
                if progress:
                    progress(verdict)

        run = _Run(plain, engine, tests, lane, jobs, dask, file, ends, proves=deployed is not None)
        try:
            judged(run.plain_verdicts(mutants, equivalents), result.verdicts)
            if deployed is not None:
                result.verdicts.sort(key=_position)  # the sample depends on the order
                judged(run.deployed_verdicts(_to_deploy(result, deployed, seed)), result.deployed)
        except KeyboardInterrupt:
            if not interruptible:
                raise
            result.interrupted = True
        result.verdicts.sort(key=_position)
        result.deployed.sort(key=_position)
        killed = (each.mutant.key for each in result.with_status(MutantStatus.KILLED))
        result.refuted = [key for key in killed if key in equivalents]
    result.seconds = time.perf_counter() - started
    return result


def choose_mutants(mutants: Sequence[Mutant], only: str, sample: int | None, seed: int) -> list[Mutant]:
    """Chooses mutants, in their order; see `mutate`."""
    chosen = [mutant for mutant in mutants if only in mutant.key]
    if sample is None or sample >= len(chosen):
        return chosen
    drawn = set(Random(seed).sample(range(len(chosen)), sample))
    return [mutant for number, mutant in enumerate(chosen) if number in drawn]


def diff(source: str, mutant: Mutant, name: str = "EventStake.sol") -> str:
    """The fault as a patch of the source, with one line of context."""
    lines = unified_diff(source.splitlines(), mutant.apply(source).splitlines(), name, name, lineterm="", n=1)
    return "\n".join(list(lines)[2:])


def _position(verdict: Verdict) -> tuple[bool, str, int, int, str]:
    mutant = verdict.mutant
    return bool(mutant.unit), mutant.file, mutant.start, mutant.end, mutant.new


def _to_deploy(result: MutationResult, sample: int, seed: int) -> list[Mutant]:
    """The survivors, and a sample of the killed."""
    killed = result.with_status(MutantStatus.KILLED)
    drawn = Random(seed).sample(killed, min(sample, len(killed)))
    return [verdict.mutant for verdict in (*result.with_status(MutantStatus.SURVIVED), *drawn)]


class _Run:
    """One run: the contract, the workers, and the file of verdicts."""

    def __init__(
        self,
        plain: PlainBuild,
        engine: str,
        tests: Path | None,
        lane: LaneBudget | None,
        jobs: int,
        dask: str | None,
        file: VerdictFile,
        ends: float,
        *,
        proves: bool,
    ) -> None:
        self._plain, self._engine, self._tests, self._lane = plain, engine, tests, lane
        self._jobs, self._dask, self._file, self._ends, self._proves = jobs, dask, file, ends, proves
        self._suite = scenario_suite()

    def plain_verdicts(self, mutants: Sequence[Mutant], equivalents: dict[str, str]) -> Iterator[Verdict]:
        """Judges mutants on the plain build."""
        done = self._file.known(mutants, Build.PLAIN)
        known_code = {code_hash(self._plain.artifact.bytecode): "the contract"}
        known_code |= {each.code: key for key, each in done.items() if each.code}
        waiting = []
        for mutant in mutants:
            argument = equivalents.get(mutant.key)
            if mutant.key in done and (argument is None or done[mutant.key].status is MutantStatus.KILLED):
                yield done[mutant.key]
            elif argument is not None and self._lane is None:
                yield listed(mutant, argument)
            else:
                waiting.append(mutant)
        if time.time() >= self._ends:
            yield from (_without_time(mutant, equivalents) for mutant in waiting)
            return
        if not waiting:
            return
        sound = self._sound(Build.PLAIN, self._plain.artifact)
        sound.check()
        with worker_pool(self._jobs, dask=self._dask, open_resource=partial(MutantWorker, sound)) as submit:
            compiling: deque[tuple[Mutant, Future[Artifact | None]]] = deque()
            running: set[Future[Verdict]] = set()
            left = iter(waiting)
            while True:
                for mutant in left:
                    compiling.append((mutant, submit(compile_mutant, mutant)))
                    if len(compiling) >= _AHEAD:
                        break
                if not compiling:
                    break
                mutant, future = compiling.popleft()
                artifact, argument = future.result(), equivalents.get(mutant.key)
                if argument is not None:
                    if artifact is None:
                        yield listed(mutant, argument)
                    else:
                        running.add(submit(judge_listed, mutant, artifact, argument))
                elif sound.time_is_up:
                    yield not_judged(mutant, Build.PLAIN)
                elif artifact is None:
                    yield self._kept(Verdict(mutant, MutantStatus.INVALID, reason=DOES_NOT_COMPILE))
                elif (code := code_hash(artifact.bytecode)) in known_code:
                    yield self._kept(Verdict(mutant, MutantStatus.DUPLICATE, reason=known_code[code]))
                else:
                    known_code[code] = mutant.key
                    running.add(submit(judge_mutant, mutant, artifact))
                ready = wait(running, return_when=FIRST_COMPLETED).done if len(running) >= _AHEAD else _done(running)
                running -= ready
                yield from (self._kept(each.result()) for each in ready)
            yield from (self._kept(each.result()) for each in as_completed(running))

    def deployed_verdicts(self, mutants: Sequence[Mutant]) -> Iterator[Verdict]:
        """Judges mutants compiled as for a deploy."""
        done = self._file.known(mutants, Build.DEPLOYED)
        yield from done.values()
        waiting = [mutant for mutant in mutants if mutant.key not in done]
        if not waiting or time.time() >= self._ends:
            return
        sound = self._sound(Build.DEPLOYED, self._as_deployed)
        with worker_pool(self._jobs, dask=self._dask, open_resource=partial(MutantWorker, sound)) as submit:
            running = [submit(compile_and_judge, mutant) for mutant in waiting]
            judged = (self._kept(each.result()) for each in as_completed(running))
            yield from (verdict for verdict in judged if verdict.status is not MutantStatus.NOT_JUDGED)

    def _sound(self, how: Build, artifact: Artifact) -> SoundContract:
        return SoundContract(
            build=how,
            sources=self._plain.sources,
            file=self._plain.file,
            artifact=artifact,
            proves=self._proves,
            engine=self._engine,
            suite=self._suite,
            tests=self._tests,
            known=search_sound(artifact, self._lane, self._ends),
            fresh=0 if self._lane is None else self._lane.fresh,
            ends=self._ends,
        )

    @cached_property
    def _as_deployed(self) -> Artifact:
        plain = self._plain
        with Compiler() as compiler:
            artifact = compile_contract(compiler, plain.sources, plain.file, plain.artifact.name, DEPLOYED_SETTINGS)
        if artifact is None:
            raise CompileError(f"{plain.file} does not compile as for a deploy: stakesim compile says why.")
        return artifact

    def _kept(self, verdict: Verdict) -> Verdict:
        if verdict.status not in (MutantStatus.NOT_JUDGED, MutantStatus.EQUIVALENT):  # the list says what is equivalent
            self._file.add(verdict)
        return verdict


def _without_time(mutant: Mutant, equivalents: dict[str, str]) -> Verdict:
    """The verdict on a mutant for which there is no time: the list of equivalent ones is believed."""
    if (argument := equivalents.get(mutant.key)) is not None:
        return listed(mutant, argument)
    return not_judged(mutant, Build.PLAIN)


def _done(running: Iterable[Future[Verdict]]) -> set[Future[Verdict]]:
    return {each for each in running if each.done()}

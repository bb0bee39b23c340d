"""Parts of the gate that need the contract's source: coverage, and mutants.

They measure the gate's scenarios, searches and tests. What these leave open of a contract, somebody reviews. Without
such a list, as for most contracts that were written elsewhere, it is told and not judged.
"""

from __future__ import annotations

from pathlib import Path

from stakesim.evm.compiler import CONTRACTS, CompileError
from stakesim.evm.errors import EngineError
from stakesim.gate.coverage import OutOfTime, measure_coverage
from stakesim.gate.equivalent_mutants import EQUIVALENT
from stakesim.gate.errors import MalformedList, UnsoundContract
from stakesim.gate.mutant import Mutant
from stakesim.gate.mutation_result import MIN_SCORE, MutantStatus
from stakesim.gate.mutation_run import DEPLOYED_SAMPLE, mutate
from stakesim.gate.result import GatePart, GateResult, PartVerdict
from stakesim.gate.reviewed import reviewed_folder
from stakesim.gate.unreached import UNREACHED, gaps, load_reasons, reached_again


def coverage_part(gate: GateResult, part: GatePart) -> None:
    """Runs scenarios, and in a large profile the tests, and lists what they do not reach."""
    if not _has_source(gate):
        part.not_tried("Not measured: it needs the source, and an artifact has none.")
        return
    tests = _contract_tests(gate) if gate.effort.whole else None
    try:
        reasons = load_reasons(gate.file, gate.artifact.name)
        coverage = measure_coverage(gate.contract, tests, seconds=part.seconds_left)
    except OutOfTime:
        part.out_of_time("not all scenarios and tests", "before all scenarios and tests had run")
        return
    except (CompileError, EngineError) as error:
        _could_not_run(gate, part, "Not measured", error)
        return
    gate.coverage = coverage
    part.left_out += coverage.left_out
    missing = gaps(coverage)
    part.problems = [gap.text for gap in missing if gap.key not in reasons]
    if tests is None:
        part.problems += [f"reached, and still in {UNREACHED}: {key}" for key in reached_again(missing, reasons)]
    part.figures = {"lines": coverage.line_count, "branches": coverage.branch_count}
    gate.reviewed = {gap.text: reasons[gap.key] for gap in missing if gap.key in reasons}
    if gate.reviewed:
        part.figures["unreached with a reviewed reason"] = len(gate.reviewed)
    _judge(gate, part, UNREACHED, ok=not part.problems)
    if not any(each.lines for each in coverage.files) and part.verdict is PartVerdict.PASS:
        part.verdict = PartVerdict.VACUOUS
        part.problems.append("No line of the contract's code is the project's own, so that nothing was measured.")


def mutants_part(gate: GateResult, part: GatePart) -> None:
    """Judges all mutants, or a sample of them, within the part's time."""
    if not _has_source(gate):
        part.not_tried("No mutants: they need the source, and an artifact has none.")
        return
    tests, effort = _contract_tests(gate), gate.effort
    if gate.is_own and tests is None:
        part.not_tried("No mutants: some are told by tests alone, which only a checkout of stakesim has.")
        return
    part.seeds = [gate.seed]
    try:
        result = mutate(
            gate.contract,
            gate.engine,
            jobs=gate.jobs,
            sample=effort.mutants,
            seed=gate.seed,
            tests=tests,
            deployed=DEPLOYED_SAMPLE if effort.whole else 0,
            seconds=part.seconds_left,
            interruptible=True,
        )
    except (CompileError, EngineError) as error:
        _could_not_run(gate, part, "No mutants", error)
        return
    gate.mutation = result
    part.left_out += result.left_out
    counts = {status: len(result.with_status(status)) for status in MutantStatus}
    part.figures["mutants"] = len(result.final)
    part.figures |= {str(status): count for status, count in counts.items() if count}
    if result.differ:
        part.figures["of those that differ are killed"] = f"{result.score:.1%}"
    survivors = result.with_status(MutantStatus.SURVIVED)
    part.problems = [f"listed as equivalent, and not made: {key}" for key in result.stale]
    part.problems += [f"listed as equivalent, and told from the contract: {key}" for key in result.refuted]
    part.problems += [f"{_place(each.mutant)}: nothing tells this mutant: {each.mutant.key}" for each in survivors]
    if survivors and not result.passed:
        part.problems.insert(
            0,
            f"{result.score:.1%} of {result.differ} mutants are killed, and {result.money_text}: {MIN_SCORE:.0%} and "
            "100% must be.",
        )
    _judge(gate, part, EQUIVALENT, ok=result.passed or not part.problems)
    if survivors and part.verdict is PartVerdict.PASS:
        what = "1 mutant" if len(survivors) == 1 else f"{len(survivors)} mutants"
        part.left_out.append(f"{what} that nothing tells from the contract")
    if result.interrupted:
        raise KeyboardInterrupt
    if not result.differ and part.verdict is PartVerdict.PASS:
        part.verdict = PartVerdict.VACUOUS
        if not counts[MutantStatus.NOT_JUDGED]:
            part.problems.append("No mutant was killed, and none survived, which says nothing of the scenarios.")
    part.played(len(result.final) - counts[MutantStatus.NOT_JUDGED], len(result.final), "mutants")


def _judge(gate: GateResult, part: GatePart, reviewed: str, *, ok: bool) -> None:
    """The verdict. What is left open of a contract is not judged if nobody has a list of what is all right."""
    part.passes_if(ok)
    if not ok and reviewed_folder(gate.file) is None:
        part.verdict = PartVerdict.NOT_TRIED
        part.problems.insert(
            0,
            "Not judged, as the scenarios were not written for this contract, and nobody has reviewed what they leave "
            f"open: a folder with {reviewed}, named as `reviewed` in [tool.stakesim], has the reasons.",
        )


def _place(mutant: Mutant) -> str:
    return f"{mutant.file}:{mutant.line}" if mutant.file else f"line {mutant.line}"


def _has_source(gate: GateResult) -> bool:
    return gate.file.suffix == ".sol"


def _contract_tests(gate: GateResult) -> Path | None:
    """This repository's tests of its own contract, in a checkout."""
    tests = CONTRACTS.parent / "tests" / "contracts"
    return tests if gate.is_own and tests.is_dir() else None


def _could_not_run(gate: GateResult, part: GatePart, what: str, error: CompileError | EngineError) -> None:
    """Fails the part if the contract, or a reviewed list, is wrong, and always for the project's own contract."""
    part.not_tried(f"{what}: {error}")
    if isinstance(error, UnsoundContract):
        part.findings = error.findings
    if gate.is_own or isinstance(error, UnsoundContract | MalformedList):
        part.verdict = PartVerdict.FAIL

"""`stakesim mutate`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stakesim.commands.options import (
    JOBS,
    ContractSource,
    Dask,
    Engine,
    Jobs,
    Seed,
    Tests,
    contract_or_default,
    reports,
)
from stakesim.commands.terminal import console, finish, print_finding, progress_bar

if TYPE_CHECKING:
    from stakesim.gate.mutation_result import MutationResult, Verdict


@reports
def mutate(
    contract: ContractSource = None,
    engine: Engine = "revm",
    jobs: Jobs = JOBS,
    dask: Dask = None,
    only: Annotated[str, typer.Option(help="Only mutants whose line or function contains this text.")] = "",
    sample: Annotated[int | None, typer.Option(help="Only so many mutants, drawn by --seed.", min=1)] = None,
    seed: Seed = 0,
    tests: Tests = None,
    deployed: Annotated[
        int,
        typer.Option(
            help="So many killed mutants, and all survivors, are judged once more, compiled as for a deploy. -1: none.",
            min=-1,
        ),
    ] = 40,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File for the verdicts, a line of JSON each, as they come. The same command goes on from there."
        ),
    ] = None,
) -> None:
    """Insert small faults into the contract, one at a time, and count how many are found.

    With --tests, tests judge what survives all scenarios.
    """
    from stakesim.gate import mutation_run
    from stakesim.gate.mutation_result import MIN_SCORE, MutantStatus

    statuses: Counter[str] = Counter()
    with progress_bar("searching the contract") as advance:

        def judged(verdict: Verdict) -> None:
            statuses[verdict.status] += 1
            advance(description=", ".join(f"{count} {status}" for status, count in statuses.items()))

        result = mutation_run.mutate(
            contract_or_default(contract),
            engine,
            jobs=jobs,
            only=only,
            sample=sample,
            seed=seed,
            tests=tests,
            deployed=None if deployed < 0 else deployed,
            out=out,
            progress=judged,
            dask=dask,
            interruptible=True,
        )
    _show(result)
    killed, survived = len(result.with_status(MutantStatus.KILLED)), len(result.with_status(MutantStatus.SURVIVED))
    verdict = "pass" if result.passed else "missed"
    if result.interrupted:
        kept = f"the same command goes on from {out}" if out else "nothing is kept without --out"
        verdict = f"interrupted: {kept}"
    console().print(
        f"{killed} of {killed + survived} mutants killed, {result.score:.1%}, and {result.money_text}, "
        f"in {result.seconds / 60:.1f} min; required are {MIN_SCORE:.0%} and 100%: "
        f"{verdict}",
        markup=False,
    )
    finish(
        ok=result.passed or (result.interrupted and not survived),
        interrupted=result.interrupted,
        killed=killed,
        survived=survived,
        score=round(result.score, 4),
        money_score=None if result.money_score is None else round(result.money_score, 4),
        seconds=round(result.seconds, 1),
    )


def _show(result: MutationResult) -> None:
    from rich.table import Table

    from stakesim.gate.mutation_result import MutantStatus, Stage
    from stakesim.gate.mutation_run import diff

    others = [status for status in MutantStatus if status is not MutantStatus.KILLED]
    table = Table("operator", "made", *(f"killed by {stage}" for stage in Stage), *others)
    for operator, counts in sorted(result.by_operator().items()):
        made = str(counts.statuses.total())
        stages = (str(counts.stages[stage]) for stage in Stage)
        table.add_row(operator, made, *stages, *(str(counts.statuses[status]) for status in others))
    output = console()
    output.print(table)
    output.print("found by: " + ", ".join(f"{name} {count}" for name, count in result.killers.most_common()))
    if result.deployed:
        deployed = Counter(verdict.status for verdict in result.deployed)
        output.print("as deployed: " + ", ".join(f"{count} {status}" for status, count in deployed.items()))
    arguments = Counter(verdict.reason for verdict in result.with_status(MutantStatus.EQUIVALENT))
    for argument, count in arguments.most_common():
        output.print(f"equivalent, {count}: {argument}", markup=False)
    for left_out in result.left_out:
        output.print(f"not tried: {left_out}", markup=False)
    for key in result.stale:
        output.print(f"listed as equivalent, and not made: {key}", markup=False)
    for key in result.refuted:
        console(findings=True).print(f"listed as equivalent, and told from the contract: {key}", markup=False)
        print_finding("not equivalent", key)
    for verdict in result.with_status(MutantStatus.SURVIVED):
        change = diff(result.source_of(verdict.mutant), verdict.mutant)
        console(findings=True).print(f"\nsurvived: {verdict.mutant.key}\n{change}", markup=False)
        print_finding("survived", change, mutant=verdict.mutant.key)

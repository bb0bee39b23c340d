"""`stakesim mutate`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stakesim.commands.options import ContractSource, Dask, Engine, Jobs, contract_or_default
from stakesim.commands.terminal import console, finish, progress_bar

if TYPE_CHECKING:
    from stakesim.gate.mutation_run import MutationResult, Verdict


def mutate(
    contract: ContractSource = None,
    engine: Engine = "revm",
    jobs: Jobs = 2,
    dask: Dask = None,
    only: Annotated[str, typer.Option(help="Only mutants whose line or function contains this text.")] = "",
    tests: Annotated[
        Path | None,
        typer.Option(
            help="File or folder of pytest tests that take --stakesim-contract, for mutants that survive all scenarios."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the verdict on each mutant.")] = None,
) -> None:
    """Insert small faults into the contract, one at a time, and count how many are found."""
    from stakesim.gate import mutation_run
    from stakesim.gate.mutation_run import MutantStatus

    statuses: Counter[str] = Counter()
    with progress_bar("compiling") as advance:

        def judged(verdict: Verdict) -> None:
            statuses[verdict.status] += 1
            advance(description=", ".join(f"{count} {status}" for status, count in statuses.items()))

        result = mutation_run.mutate(
            contract_or_default(contract), engine, jobs=jobs, only=only, tests=tests, progress=judged, dask=dask
        )
    _show(result)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps([verdict.as_json() for verdict in result.verdicts], indent=1) + "\n")
    killed, survived = len(result.with_status(MutantStatus.KILLED)), len(result.with_status(MutantStatus.SURVIVED))
    console().print(
        f"{killed} of {killed + survived} mutants killed, {result.score:.1%}, in {result.seconds:.0f} s; required are "
        f"{mutation_run.MIN_SCORE:.0%}, and all on lines that compute or move money: "
        f"{'pass' if result.passed else 'missed'}"
    )
    finish(ok=result.passed)


def _show(result: MutationResult) -> None:
    from rich.table import Table

    from stakesim.gate.mutation_run import MutantStatus, diff

    table = Table("operator", "mutants", *MutantStatus)
    for operator, counts in sorted(result.statuses_by_operator().items()):
        table.add_row(operator, str(counts.total()), *(str(counts[status]) for status in MutantStatus))
    output = console()
    output.print(table)
    output.print("found by: " + ", ".join(f"{name} {count}" for name, count in result.killers.most_common()))
    for verdict in result.with_status(MutantStatus.SURVIVED):
        output.print(f"\nsurvived: {verdict.mutant.key}\n{diff(result.source, verdict.mutant)}", markup=False)

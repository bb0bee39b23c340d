"""`stakesim coverage`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stakesim.commands.options import ContractSource, contract_or_default
from stakesim.commands.terminal import console, finish, progress_bar


def coverage(
    contract: ContractSource = None,
    tests: Annotated[
        Path | None, typer.Option(help="File or folder of pytest tests that take --stakesim-contract, to run as well.")
    ] = None,
    lcov: Annotated[Path | None, typer.Option(help="Tracefile to write, for genhtml or an editor.")] = None,
) -> None:
    """Run all scenarios on py-evm, and list the lines and branches of the contract that none of them reaches."""
    from stakesim.gate.coverage import measure_coverage

    with progress_bar("running") as advance:
        reached = measure_coverage(
            contract_or_default(contract), tests, progress=lambda result: advance(description=result.scenario.name[:28])
        )
    output, file = console(), Path(reached.file).name
    lines = Path(reached.file).read_text().splitlines()
    for line in reached.missed_lines:
        output.print(f"{file}:{line}: did not run: {lines[line - 1].strip()}", markup=False)
    for branch in reached.missed_branches:
        taken = "one way only" if branch.taken else "never reached"
        output.print(f"{file}:{branch.line}: {taken}: {' '.join(branch.condition.split())}", markup=False)
    if lcov:
        lcov.parent.mkdir(parents=True, exist_ok=True)
        lcov.write_text(reached.lcov())
    output.print(f"{reached.line_count} lines, {reached.branch_count} branches")
    finish(ok=not reached.missed_lines and not reached.missed_branches)

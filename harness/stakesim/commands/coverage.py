"""`stakesim coverage`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stakesim.commands.options import ContractSource, Tests, contract_or_default, reports
from stakesim.commands.terminal import console, finish, print_finding, progress_bar


@reports
def coverage(
    contract: ContractSource = None,
    tests: Tests = None,
    lcov: Annotated[Path | None, typer.Option(help="Tracefile to write, for genhtml or an editor.")] = None,
) -> None:
    """Run all scenarios on py-evm, and list the lines and branches of the contract that none of them reaches.

    Those that the reviewed list `unreached.json` has are listed with their reason, and are no failure.
    """
    from stakesim.evm.contract_file import ContractPath
    from stakesim.gate.coverage import measure_coverage
    from stakesim.gate.unreached import UNREACHED, gaps, load_reasons, reached_again

    contract = contract_or_default(contract)
    with progress_bar("running") as advance:
        reached = measure_coverage(
            contract, tests, progress=lambda result: advance(description=result.scenario.name[:28])
        )
    output, file = console(), Path(reached.file)
    reasons = load_reasons(file, ContractPath.parse(contract).name if contract else None)
    missing = gaps(reached)
    for gap in missing:
        place, reason = f"{gap.file or file.name}:{gap.line}", reasons.get(gap.key)
        console(findings=reason is None).print(f"{place}: {gap.what}: {gap.key}", markup=False)
        if reason is None:
            print_finding(gap.what, gap.key, place=place)
        else:
            output.print(f"  reviewed: {reason}", markup=False)
    if lcov:
        lcov.parent.mkdir(parents=True, exist_ok=True)
        lcov.write_text(reached.lcov())
    gone = reached_again(missing, reasons) if tests is None else []
    for key in gone:
        console(findings=True).print(f"reached, and still listed in {UNREACHED}: {key}", markup=False)
        print_finding("reached", key)
    for left_out in reached.left_out:
        output.print(f"not tried: {left_out}", markup=False)
    output.print(f"{reached.line_count} lines, {reached.branch_count} branches")
    ok = not gone and all(gap.key in reasons for gap in missing)
    finish(ok=ok, lines=reached.line_count, branches=reached.branch_count)

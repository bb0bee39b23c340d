"""`stakesim replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stakesim.commands.campaigns import load_artifact, suspend_garbage_collection
from stakesim.commands.options import Contract, Driver, EngineOfDriver, Hardfork, reports
from stakesim.commands.terminal import console, finish, print_scenario_finding


@reports
def replay(
    file: Annotated[Path, typer.Argument(help="Scenario file.")],
    engine: EngineOfDriver = None,
    hardfork: Hardfork = None,
    driver: Driver = None,
    contract: Contract = None,
) -> None:
    """Run one scenario, and show it step by step."""
    suspend_garbage_collection()
    from stakesim.campaign import campaign
    from stakesim.campaign.report import show_steps
    from stakesim.evm.engines import engine_with_rules

    engine = engine_with_rules(engine, hardfork)
    result = campaign.run(file, engine=engine, driver=driver, contract=load_artifact(contract), probing=False)
    show_steps(result, console(), console(findings=not result.ok))
    for finding in result.findings:
        print_scenario_finding(finding)
    finish(ok=result.ok, **result.figures())

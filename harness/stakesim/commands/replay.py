"""`stakesim replay`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from stakesim.commands.campaigns import load_artifact, suspend_garbage_collection
from stakesim.commands.options import Contract, Driver, EngineOfDriver, Hardfork, option_text, reports
from stakesim.commands.terminal import console, finish, print_scenario_finding
from stakesim.evm.quick_import import import_web3


@reports
def replay(
    file: Annotated[Path, typer.Argument(help="Scenario file.")],
    engine: EngineOfDriver = None,
    hardfork: Hardfork = None,
    driver: Driver = None,
    contract: Contract = None,
    html: Annotated[Path | None, typer.Option(help="File for a page that tells and draws it.")] = None,
) -> None:
    """Run one scenario, and show it step by step."""
    suspend_garbage_collection()
    import_web3()
    from stakesim.campaign import campaign
    from stakesim.campaign.report import show_steps
    from stakesim.evm.engines import engine_with_rules

    engine = engine_with_rules(engine, hardfork)
    result = campaign.run(file, engine=engine, driver=driver, contract=load_artifact(contract), probing=False)
    show_steps(result, console(), console(findings=not result.ok))
    for finding in result.findings:
        print_scenario_finding(finding)
    if html is not None:
        from stakesim.campaign.html_report import scenario_page, write_page

        command = (
            f"stakesim replay {shlex.quote(str(file))}{option_text(engine=engine, driver=driver, contract=contract)}"
        )
        write_page(scenario_page(result, command), html)
        console().print(f"page: {html}")
    finish(ok=result.ok, **result.figures())

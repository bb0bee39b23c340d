"""`stakesim run`."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from stakesim.commands.campaigns import report, run_campaign, suspend_garbage_collection
from stakesim.commands.options import (
    JOBS,
    CampaignOut,
    Contract,
    Dask,
    Driver,
    EngineOfDriver,
    For,
    Hardfork,
    Jobs,
    Keep,
    Seed,
    check_folder,
    duration,
    option_text,
    reports,
)
from stakesim.evm.quick_import import import_web3


@reports
def run(
    items: Annotated[
        list[str] | None,
        typer.Argument(
            help="Scenarios, profiles and populations: names, files, or folders of scenarios.",
            metavar="[SCENARIOS|PROFILES]",
            show_default="all scenarios and every profile",
        ),
    ] = None,
    engine: EngineOfDriver = None,
    hardfork: Hardfork = None,
    runs: Annotated[int, typer.Option(help="Scenarios to draw from each profile or population.", min=1)] = 5,
    for_: For = None,
    seed: Seed = 0,
    jobs: Jobs = JOBS,
    dask: Dask = None,
    out: CampaignOut = None,
    driver: Driver = None,
    contract: Contract = None,
    keep: Keep = False,
) -> None:
    """Run scenarios, and check every payout to the wei.

    Failures are kept outside the project, and replayed first when scenarios are drawn the next time. An action that has
    not ended after 2 minutes is a finding.
    """
    if keep and contract:
        raise typer.BadParameter("--keep is for failures of the project's own contract: leave out --contract.")
    check_folder(out)
    suspend_garbage_collection()
    import_web3()
    from stakesim.evm.engines import engine_with_rules

    engine = engine_with_rules(engine, hardfork)
    result = run_campaign(
        items or _all_items(driver),
        engine=engine,
        runs=runs,
        seed=seed,
        jobs=jobs,
        dask=dask,
        driver=driver,
        contract=contract,
        seconds=duration(for_),
    )
    how_many = f"--for {for_}" if for_ else f"--runs {runs}"
    options = f"{how_many} --seed {seed}{option_text(engine=engine, driver=driver)}"
    report(
        result,
        out,
        command=f"stakesim run {shlex.join(items or [])} {options}",
        contract=contract,
        driver=driver,
        keeps=keep,
    )


def _all_items(driver: str | None) -> list[str]:
    """All scenarios and profiles; where a backend is driven, also the scenarios of failing clients and networks."""
    from stakesim.project import current_project
    from stakesim.runner import scenario_files

    has_backend = current_project().backend is not None and driver != "contract"
    for_backends = scenario_files.for_backends() if has_backend else []
    return [*map(str, (*for_backends, *scenario_files.scripted())), *scenario_files.profiles()]

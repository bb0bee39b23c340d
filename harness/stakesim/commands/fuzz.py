"""`stakesim fuzz`."""

from __future__ import annotations

from typing import Annotated

import typer

from stakesim.commands.campaigns import report, run_campaign, suspend_garbage_collection
from stakesim.commands.options import CampaignOut, Contract, Dask, Driver, EngineOfDriver, Jobs, Seed, option_text


def fuzz(
    profile: Annotated[str, typer.Option(help="Profile with the people, terms, market and mischief.")] = "hostile",
    steps: Annotated[int, typer.Option(help="Actions in each walk.", min=1)] = 30,
    runs: Annotated[int, typer.Option(help="Number of walks.", min=1)] = 100,
    engine: EngineOfDriver = None,
    seed: Seed = 0,
    jobs: Jobs = 1,
    dask: Dask = None,
    out: CampaignOut = None,
    driver: Driver = None,
    contract: Contract = None,
) -> None:
    """Run long random walks over all possible actions, and shrink each failure to the shortest scenario."""
    suspend_garbage_collection()
    result = run_campaign(
        [profile],
        engine=engine,
        runs=runs,
        seed=seed,
        jobs=jobs,
        dask=dask,
        driver=driver,
        steps=steps,
        contract=contract,
    )
    command = f"stakesim fuzz --profile {profile} --steps {steps} --runs {runs} --seed {seed}"
    report(result, out, command=command + option_text(engine=engine, driver=driver), contract=contract)

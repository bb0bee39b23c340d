"""What `stakesim run`, `fuzz` and `replay` share: the campaign with its progress bar, and its report."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from stakesim.commands.options import contract_or_default, option_text
from stakesim.commands.terminal import (
    ExitCode,
    console,
    end,
    print_error,
    print_scenario_finding,
    progress_bar,
    uninterrupted,
)

if TYPE_CHECKING:
    from stakesim.campaign.result import CampaignResult
    from stakesim.evm.compiler import Artifact
    from stakesim.runner.scenario_result import ScenarioResult

SCENARIOS_A_PROCESS = 50
"""Scenarios that take clearly longer than a process takes to start."""


def suspend_garbage_collection() -> None:
    """Stops the garbage collector while modules are imported, which saves half a second.

    `run_campaign` starts it again after the first scenario.
    """
    gc.disable()


def run_campaign(
    items: list[str],
    *,
    runs: int,
    contract: str | None,
    driver: str | None,
    seed: int,
    jobs: int,
    dask: str | None = None,
    seconds: int | None = None,
    **options: Any,
) -> CampaignResult:
    """Runs a campaign with a progress bar.

    One that draws scenarios replays the user's kept failures first, and draws on if it reaches too little by chance.

    Args:
        items: Scenario files or names, profiles and populations.
        runs: Scenarios to draw from each profile or population.
        contract: As `--contract`.
        driver: As `--driver`.
        seed: Of the draws.
        jobs: As `--jobs`. A process is started only for `SCENARIOS_A_PROCESS` scenarios or more.
        dask: As `--dask`.
        seconds: Draw for this time instead of `runs` scenarios.
        options: More of `stakesim.campaign.campaign.run`.
    """
    from stakesim.campaign import campaign
    from stakesim.campaign.failure_cache import FailureCache
    from stakesim.campaign.selection import is_drawn
    from stakesim.runner import scenario_files

    artifact = load_artifact(contract_or_default(contract))
    files = {item: scenario_files.find_scenarios(item) for item in items}
    draws = [item for item in items if not files[item]]
    failures = FailureCache(contract, driver).scenarios() if draws else []
    if failures:
        console().print(f"{len(failures)} kept failures are replayed first")
    drawn = len(draws) * runs
    total = len(failures) + sum(map(len, files.values())) + drawn if seconds is None else None
    if total is not None and dask is None:
        jobs = max(1, min(jobs, total // SCENARIOS_A_PROCESS))
    with progress_bar("running", total) as advance:

        def scenario_finished(scenario_result: ScenarioResult) -> None:
            if not gc.isenabled():
                gc.freeze()
                gc.enable()
            advance(description=scenario_result.scenario.name[:28])

        def draw(drawn_seed: int) -> CampaignResult:
            first = drawn_seed == seed
            return campaign.run(
                [*failures, *items] if first else draws,
                runs=runs,
                contract=artifact,
                driver=driver,
                progress=scenario_finished,
                seconds=seconds,
                seed=drawn_seed,
                jobs=jobs,
                dask=dask,
                probing=first,
                interruptible=True,
                **options,
            )

        result = campaign.draw_on(draw, seed, artifact, lambda: bool(draws) and seconds is None)
    if seconds is not None:
        drawn = sum(is_drawn(each.scenario) for each in result.results)
        console().print(f"{drawn} scenarios drawn in {result.seconds:.0f} s\n")
    return result


def load_artifact(contract: str | None) -> Artifact | None:
    """The contract of `--contract`; None if the option is left out."""
    from stakesim.evm.contract_file import load_contract

    return load_contract(contract) if contract else None


@uninterrupted()
def report(
    result: CampaignResult,
    out: Path | None,
    *,
    command: str,
    contract: str | None,
    driver: str | None = None,
    keeps: bool = False,
) -> NoReturn:
    """Shows the result, saves failing scenarios, writes the report, and ends the command.

    Args:
        result: Of the campaign.
        out: Folder for the report. None: failing scenarios are kept for the next run, and nothing else is written.
        command: Command that gives the same result again.
        contract: As `--contract`. Failing scenarios of another contract do not belong to the project.
        driver: As `--driver`.
        keeps: Make regressions of the project of the failing scenarios.
    """
    from stakesim.campaign.failure_cache import FailureCache, keep
    from stakesim.campaign.report import save_failures, show, write_report
    from stakesim.project import current_project

    code = ExitCode.PASS if result.ok else ExitCode.VACUOUS if result.is_vacuous else ExitCode.FINDINGS
    if result.interrupted and code is not ExitCode.FINDINGS:
        code = ExitCode.INTERRUPTED
    mended: list[str] = []
    try:
        mended = FailureCache(contract, driver).update(result)
        if out:
            save_failures(result, out / "failures", contract)
        if keeps:
            keep(result, current_project().failures)
    except OSError as error:  # the findings are shown all the same
        print_error(f"the failing scenarios can't be saved: {error}")
    show(result, console(), console(findings=not result.ok))
    for finding in result.findings:
        print_scenario_finding(finding)
    for name in mended:
        console().print(f"fails no longer, and is forgotten: {name}", markup=False)
    try:
        if out:
            from stakesim.campaign.html_report import page, write_page

            command += option_text(contract=contract)
            write_report(result, out, command)
            write_page(page(result, command), out / "report.html")
            console().print(f"report: {out / 'report.html'}, ledger: {out / 'ledger.csv'}")
    except OSError as error:
        print_error(f"the report can't be written: {error}")
        code = code or ExitCode.TROUBLE
    end(code, **result.figures(), report=str(out) if out else None)

"""`stakesim faults`."""

from __future__ import annotations

import secrets
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stakesim.commands.options import JOBS, SEED_BITS, For, FreshSeed, Jobs, check_folder, duration, reports
from stakesim.commands.terminal import console, fail, finish, print_error, print_finding, progress_bar

if TYPE_CHECKING:
    from rich.table import Table

    from stakesim.faults.campaign import FaultCampaignResult
    from stakesim.faults.protocol import EpisodeResult, FaultCampaign


@reports
def faults(
    runs: Annotated[
        int, typer.Option(help="Size of the campaign: the project plans how many episodes of each kind.", min=1)
    ] = 50,
    seed: FreshSeed = None,
    jobs: Jobs = JOBS,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Run only this episode, as network:3 or kill:7, and show its log. Repeatable."),
    ] = None,
    for_: For = None,
    replay: Annotated[
        Path | None, typer.Option(help="Run the episode of a file that a campaign saved, and show its log.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for report.html.")] = None,
) -> None:
    """Inject faults between service, node and database, and check that nothing is lost or paid twice.

    A violation is shrunk to the fewest faults that show it, and saved as a file that --replay runs again. An episode
    that has not ended after 5 minutes is one, too. Ctrl-C ends the campaign, and shows what was found so far.
    """
    from stakesim.faults import campaign

    check_folder(out)
    project_campaign = campaign.project_campaign()
    if replay is not None:
        _replay(replay, project_campaign)
    output = console()
    seed = secrets.randbits(SEED_BITS) if seed is None else seed
    output.print(f"seed {seed}")
    result = _run(project_campaign, runs, seed, jobs, only, duration(for_))
    if only:
        for episode in result.episodes:
            output.print(f"{episode.name} of seed {seed}", *episode.log, sep="\n  ", markup=False)
    output.print(_table(result))
    for narrative in result.narratives():
        console(findings=True).print(narrative, markup=False)
    for episode in result.episodes:
        for violation in episode.violations:
            print_finding(violation.invariant, violation.message, episode=episode.name, seed=result.seed)
    if not (only or result.is_cut) and result.rows_not_injected:
        rows = ", ".join(map(str, result.rows_not_injected))
        output.print(f"no fault of these rows happened: {rows}; run more episodes, or for longer")
    output.print(_summary(result))
    if not result.is_cut:
        _save_violations(result)
    if out is not None:
        _write_page(result, out, _command(runs, seed, only, for_))
    figures: dict[str, Any] = {
        "seed": result.seed,
        "seconds": round(result.seconds, 1),
        "episodes": len(result.episodes),
    }
    if result.trouble:
        if result.ok:
            fail(result.trouble)
        print_error(result.trouble)
    finish(ok=result.ok, **figures, faults=result.injected.total(), interrupted=result.interrupted)


def _run(
    project_campaign: FaultCampaign, runs: int, seed: int, jobs: int, only: list[str] | None, seconds: int | None
) -> FaultCampaignResult:
    from stakesim.faults import campaign

    planned = only or campaign.plan(runs, project_campaign)
    names = planned if only or seconds is None else campaign.endless(project_campaign)
    total: Counter[str] = Counter()
    with progress_bar("0 faults", len(planned) if seconds is None else None) as advance:

        def episode_finished(episode: EpisodeResult) -> None:
            total.update(episode.counts)
            advance(description=f"{total.total()} faults")

        return campaign.run(
            names, seed, jobs=jobs, seconds=seconds, progress=episode_finished, campaign=project_campaign
        )


def _replay(file: Path, project_campaign: FaultCampaign) -> None:
    from stakesim.faults import regressions
    from stakesim.faults.limited_runner import statements

    result = regressions.replay_file(file, project_campaign)
    output = console()
    output.print(f"{file}", *result.log, sep="\n  ", markup=False)
    for violation in result.violations:
        statement = statements(project_campaign)[violation.invariant]
        console(findings=True).print(f"{violation.invariant} ({statement}): {violation.message}", markup=False)
        print_finding(violation.invariant, violation.message, replay=str(file))
    output.print(f"{result.counts.total()} faults: {'violated' if result.violations else 'no violation'}")
    finish(ok=not result.violations)


def _command(runs: int, seed: int, only: list[str] | None, for_: str | None) -> str:
    """The command that runs the same episodes again."""
    chosen = [f"--only {name}" for name in only] if only else [f"--for {for_}" if for_ else f"--runs {runs}"]
    return " ".join(["stakesim faults", f"--seed {seed}", *chosen])


def _write_page(result: FaultCampaignResult, out: Path, command: str) -> None:
    from stakesim.campaign.faults_page import fault_page
    from stakesim.campaign.html_report import write_page

    file = write_page(fault_page(result, command, _summary(result)), out / "report.html")
    console().print(f"report: {file}", markup=False)


def _save_violations(result: FaultCampaignResult) -> None:
    from stakesim.faults import regressions

    output = console(findings=True)
    for file in regressions.save_violations(result, lambda text: output.print(text, markup=False)):
        output.print(f"saved; replay it: stakesim faults --replay {file}", markup=False)


def _summary(result: FaultCampaignResult) -> str:
    failed = sum(1 for episode in result.episodes if episode.violations)
    verdict = f"{failed} episodes with violations" if failed else "no violation"
    return (
        f"{result.injected.total()} faults in {len(result.episodes)} episodes of seed {result.seed}, "
        f"{result.seconds:.0f} s{', interrupted' if result.is_cut else ''}: {verdict}"
    )


def _table(result: FaultCampaignResult) -> Table:
    from rich.table import Table

    from stakesim.faults.campaign import rows_by_fault
    from stakesim.faults.catalogue import ROWS

    table = Table("row", "kind of fault", "fault", "injected", "survived")
    injected, survived = result.injected, result.survived
    for name, row in sorted(rows_by_fault(result.campaign).items(), key=lambda item: item[1]):
        table.add_row(str(row), ROWS[row], name, str(injected[name]), str(survived[name]))
    return table

"""`stakesim faults`: the fault campaign on the command line."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stakesim.faults.campaign import FaultCampaignResult

PASS, FINDINGS = 0, 1


def faults(
    runs: Annotated[int, typer.Option(help="Episodes of the network; those with processes in proportion.", min=1)] = 50,
    seed: Annotated[int, typer.Option(help="The same seed injects the same faults.", min=0)] = 0,
    jobs: Annotated[int, typer.Option("-j", "--jobs", help="Processes to play in.", min=1)] = 2,
    only: Annotated[list[str] | None, typer.Option(help="Episodes to play instead, as network:3 or kill:7.")] = None,
) -> None:
    """Inject faults between service, node and database, and check that nothing is lost or paid twice."""
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    result = _with_progress(runs, only, seed, jobs)
    if only:
        for outcome in result.episodes:
            console.print(f"{outcome.name} of seed {seed}", *outcome.log, sep="\n  ", markup=False)
    _table(console, result)
    for story in result.narratives():
        console.print(story, markup=False)
    failed = sum(1 for outcome in result.episodes if outcome.violations)
    verdict = f"{failed} episodes with violations" if failed else "no violation"
    console.print(
        f"{result.injected.total()} faults in {len(result.episodes)} episodes of seed {seed}, "
        f"{result.seconds:.0f} s: {verdict}"
    )
    raise typer.Exit(PASS if result.ok else FINDINGS)


def _with_progress(runs: int, only: list[str] | None, seed: int, jobs: int) -> FaultCampaignResult:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from stakesim.faults import campaign
    from stakesim.faults.protocol import EpisodeResult

    under_test = campaign.project_campaign()
    names = only or campaign.plan(runs, under_test)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, done = bar.add_task("0 faults", total=len(names)), Counter[str]()

        def advance(outcome: EpisodeResult) -> None:
            done.update(outcome.counts)
            bar.update(task, advance=1, description=f"{done.total()} faults")

        return campaign.run(names, seed, jobs=jobs, progress=advance, campaign=under_test)


def _table(console: object, result: FaultCampaignResult) -> None:
    from rich.console import Console
    from rich.table import Table

    from stakesim.faults.campaign import rows_by_fault
    from stakesim.faults.catalogue import ROWS

    assert isinstance(console, Console)
    table = Table("row", "of the table", "fault", "injected", "survived")
    injected, survived = result.injected, result.survived
    for name, row in sorted(rows_by_fault(result.campaign).items(), key=lambda item: item[1]):
        table.add_row(str(row), ROWS[row], name, str(injected[name]), str(survived[name]))
    console.print(table)

"""`stakesim faults`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from stakesim.commands.options import Jobs, Seed
from stakesim.commands.terminal import console, finish, progress_bar

if TYPE_CHECKING:
    from rich.table import Table

    from stakesim.faults.campaign import FaultCampaignResult
    from stakesim.faults.protocol import EpisodeResult


def faults(
    runs: Annotated[
        int, typer.Option(help="Size of the campaign: the project plans how many episodes of each kind.", min=1)
    ] = 50,
    seed: Seed = 0,
    jobs: Jobs = 2,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Run only this episode, as network:3 or kill:7, and show its log. Repeatable."),
    ] = None,
) -> None:
    """Inject faults between service, node and database, and check that nothing is lost or paid twice."""
    from stakesim.faults import campaign

    project_campaign = campaign.project_campaign()
    names = only or campaign.plan(runs, project_campaign)
    total: Counter[str] = Counter()
    with progress_bar("0 faults", len(names)) as advance:

        def episode_finished(episode: EpisodeResult) -> None:
            total.update(episode.counts)
            advance(description=f"{total.total()} faults")

        result = campaign.run(names, seed, jobs=jobs, progress=episode_finished, campaign=project_campaign)
    output = console()
    if only:
        for episode in result.episodes:
            output.print(f"{episode.name} of seed {seed}", *episode.log, sep="\n  ", markup=False)
    output.print(_table(result))
    for narrative in result.narratives():
        output.print(narrative, markup=False)
    failed = sum(1 for episode in result.episodes if episode.violations)
    verdict = f"{failed} episodes with violations" if failed else "no violation"
    output.print(
        f"{result.injected.total()} faults in {len(result.episodes)} episodes of seed {seed}, "
        f"{result.seconds:.0f} s: {verdict}"
    )
    finish(ok=result.ok)


def _table(result: FaultCampaignResult) -> Table:
    from rich.table import Table

    from stakesim.faults.campaign import rows_by_fault
    from stakesim.faults.catalogue import ROWS

    table = Table("row", "kind of fault", "fault", "injected", "survived")
    injected, survived = result.injected, result.survived
    for name, row in sorted(rows_by_fault(result.campaign).items(), key=lambda item: item[1]):
        table.add_row(str(row), ROWS[row], name, str(injected[name]), str(survived[name]))
    return table

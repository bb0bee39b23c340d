"""The fault campaign: plans episodes, plays them in one process or several, and collects what came of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import closing
from dataclasses import dataclass

from stakesim.evm.errors import EngineError
from stakesim.faults.chain_faults import CHAIN_FAULTS
from stakesim.faults.protocol import EpisodePlayer, EpisodeResult, FaultCampaign
from stakesim.faults.rpc_faults import FAULTS
from stakesim.project import ProjectError, current_project
from stakesim.workers.pool import worker_pool


@dataclass(frozen=True)
class CampaignResult:
    """What came of a campaign.

    Attributes:
        campaign: Whose episodes they are.
        seconds: Wall-clock time.
    """

    campaign: FaultCampaign
    seed: int
    outcomes: list[EpisodeResult]
    seconds: float

    @property
    def ok(self) -> bool:
        return not any(outcome.violations for outcome in self.outcomes)

    @property
    def injected(self) -> Counter[str]:
        """How often each fault happened."""
        return sum((outcome.counts for outcome in self.outcomes), Counter())

    @property
    def survived(self) -> Counter[str]:
        """How often each fault happened in episodes without violations."""
        return sum((outcome.counts for outcome in self.outcomes if not outcome.violations), Counter())

    def stories(self) -> Iterator[str]:
        """Of each episode with violations: what happened, what is wrong, and the command that plays it again."""
        for outcome in self.outcomes:
            if outcome.violations:
                statements = self.campaign.statements
                yield "\n".join(
                    [
                        f"{outcome.name} of seed {self.seed}",
                        *(f"    {line}" for line in outcome.log),
                        *(f"  {v.invariant} ({statements[v.invariant]}): {v.message}" for v in outcome.violations),
                        f"  again: stakesim faults --seed {self.seed} --only {outcome.name}",
                    ]
                )


def project_campaign() -> FaultCampaign:
    """The campaign that the project of the working directory names.

    Raises:
        ProjectError: It names none, or one that can't be imported.
    """
    project = current_project()
    if project.faults is None:
        raise ProjectError(
            "There is no service to inject faults into: name the object that plays its episodes in pyproject.toml, as "
            '`[tool.stakesim] faults = "my_adapter.faults:campaign"`; stakesim.faults.protocol says what it offers.'
        )
    campaign: FaultCampaign = project.load(project.faults)
    return campaign


def rows_of(campaign: FaultCampaign) -> dict[str, int]:
    """Row of the catalogue by the name of each fault, the library's first."""
    return {fault.name: fault.row for fault in FAULTS} | CHAIN_FAULTS | dict(campaign.faults)


def plan(runs: int, campaign: FaultCampaign | None = None) -> list[str]:
    """Names of the episodes of a campaign of this size, as `network:3`.

    Args:
        campaign: The project's if left out.

    Raises:
        ProjectError: As `project_campaign`.
    """
    counts = (campaign or project_campaign()).plan(runs)
    return [f"{kind}:{number}" for kind, count in counts.items() for number in range(count)]


def run(
    names: Sequence[str],
    seed: int = 0,
    jobs: int = 1,
    progress: Callable[[EpisodeResult], None] | None = None,
    campaign: FaultCampaign | None = None,
) -> CampaignResult:
    """Plays episodes.

    Args:
        names: As `plan` gives them.
        seed: The same seed and name give the same episode.
        jobs: Processes to play in.
        progress: Called with each result as it comes.
        campaign: The project's if left out.

    Raises:
        EngineError: A name is none of an episode, or there is no node to play on.
        StakesimError: As `project_campaign` and `FaultCampaign.open`.
    """
    began = time.perf_counter()
    campaign = campaign or project_campaign()
    kinds = campaign.plan(1)
    for name in names:
        kind, _, number = name.partition(":")
        if kind not in kinds or not number.isdecimal():
            raise EngineError(f"{name} is no episode: give {', '.join(kinds)}, a colon and a number, as network:3.")
    done = []
    for outcome in _play_all(campaign, names, seed, jobs):
        done.append(outcome)
        if progress:
            progress(outcome)
    order = {name: at for at, name in enumerate(names)}
    done.sort(key=lambda outcome: order[outcome.name])
    return CampaignResult(campaign, seed, done, time.perf_counter() - began)


def _play_all(campaign: FaultCampaign, names: Sequence[str], seed: int, jobs: int) -> Iterator[EpisodeResult]:
    if jobs <= 1 or len(names) == 1:
        with closing(campaign.open()) as player:
            for name in names:
                yield _play(player, name, seed)
        return
    with worker_pool(min(jobs, len(names)), open_resource=campaign.open) as submit:
        for done in as_completed([submit(_play, name, seed) for name in names]):
            yield done.result()


def _play(player: EpisodePlayer, name: str, seed: int) -> EpisodeResult:
    kind, _, number = name.partition(":")
    return player.play(kind, seed, int(number))

"""The fault campaign: plans episodes, runs them in one process or several, and collects the results."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, islice

from stakesim.errors import StakesimError
from stakesim.evm.errors import EngineError
from stakesim.faults.contract_actions import SURROUNDINGS
from stakesim.faults.limited_runner import LimitedRunner, statements
from stakesim.faults.protocol import EpisodeResult, EpisodeRunner, FaultCampaign
from stakesim.faults.rpc_faults import FAULTS
from stakesim.project import ProjectError, current_project
from stakesim.workers.pool import worker_pool

PLAN_UNIT = 20
"""Size of the plans of which an endless campaign consists."""


@dataclass(frozen=True)
class FaultCampaignResult:
    """Results of a fault campaign.

    Attributes:
        campaign: The campaign that the episodes belong to.
        seed: Of the campaign.
        episodes: One result for each episode that ended: in the order of the names, or in the order in which they ended
            if the campaign was given a time or was interrupted.
        seconds: Wall-clock time.
        interrupted: Whether Ctrl-C ended the campaign.
        trouble: Why it ended before all episodes had run, if not by Ctrl-C or as its time was up.
    """

    campaign: FaultCampaign
    seed: int
    episodes: list[EpisodeResult]
    seconds: float
    interrupted: bool = False
    trouble: str = ""

    @property
    def is_cut(self) -> bool:
        """Whether Ctrl-C or trouble ended it before all episodes had run."""
        return self.interrupted or bool(self.trouble)

    @property
    def ok(self) -> bool:
        """Whether no episode has violations."""
        return not any(episode.violations for episode in self.episodes)

    @property
    def injected(self) -> Counter[str]:
        """How often each fault happened, by name."""
        return sum((episode.counts for episode in self.episodes), Counter())

    @property
    def survived(self) -> Counter[str]:
        """How often each fault happened in episodes without violations, by name."""
        return sum((episode.counts for episode in self.episodes if not episode.violations), Counter())

    @property
    def rows_not_injected(self) -> list[int]:
        """Rows of the catalogue that a campaign injects, and this one did not."""
        injected, rows = self.injected, rows_by_fault(self.campaign)
        return sorted(set(rows.values()) - {rows[name] for name in injected if name in rows})

    def narratives(self) -> Iterator[str]:
        """For each episode with violations: its log, the violations, and the command that runs it again."""
        texts = statements(self.campaign)
        for episode in self.episodes:
            if episode.violations:
                yield "\n".join(
                    [
                        f"{episode.name} of seed {self.seed}",
                        *(f"    {line}" for line in episode.log),
                        *(f"  {v.invariant} ({texts[v.invariant]}): {v.message}" for v in episode.violations),
                        f"  again: stakesim faults --seed {self.seed} --only {episode.name}",
                    ]
                )


def project_campaign() -> FaultCampaign:
    """Loads the campaign that the project of the working directory names.

    Raises:
        ProjectError: The project names no campaign, or one that can't be imported.
    """
    project = current_project()
    if project.faults is None:
        raise ProjectError(
            "There is no service to inject faults into: name the object that runs its episodes in pyproject.toml, as "
            '`[tool.stakesim] faults = "my_adapter.faults:campaign"`; stakesim.faults.protocol documents its methods.'
        )
    campaign: FaultCampaign = project.load(project.faults)
    return campaign


def rows_by_fault(campaign: FaultCampaign) -> dict[str, int]:
    """Row of the catalogue by name of the fault, the library's faults first."""
    return {f.name: f.row for f in FAULTS} | {f.name: f.row for f in SURROUNDINGS} | dict(campaign.faults)


def plan(runs: int, campaign: FaultCampaign | None = None) -> list[str]:
    """Names of the episodes of a campaign, as `network:3`.

    Args:
        runs: Size of the campaign; `FaultCampaign.plan` decides what it means.
        campaign: By default the project's.

    Raises:
        ProjectError: There is no campaign, see `project_campaign`.
    """
    counts = (campaign or project_campaign()).plan(runs)
    return [f"{kind}:{number}" for kind, count in counts.items() for number in range(count)]


def endless(campaign: FaultCampaign) -> Iterator[str]:
    """Names of episodes of all kinds without end, in the proportions of a plan."""
    counts = campaign.plan(PLAN_UNIT)
    for round_number in count():
        for kind, of_kind in counts.items():
            yield from (f"{kind}:{round_number * of_kind + number}" for number in range(of_kind))


def run(
    names: Iterable[str],
    seed: int = 0,
    *,
    jobs: int = 1,
    seconds: float | None = None,
    progress: Callable[[EpisodeResult], None] | None = None,
    campaign: FaultCampaign | None = None,
) -> FaultCampaignResult:
    """Runs episodes. Ctrl-C, or an episode that can't be run, ends the campaign, with the results so far.

    Args:
        names: Episodes, named as by `plan`.
        seed: The same seed and name give the same episode.
        jobs: Number of processes.
        seconds: Time after which no episode is begun any more, except the first one.
        progress: Called with each result as soon as it is there.
        campaign: By default the project's.

    Raises:
        EngineError: There is no episode of such a name.
        StakesimError: See `project_campaign` and `FaultCampaign.open`; or the first episode can't be run.
    """
    started = time.perf_counter()
    campaign = campaign or project_campaign()
    begun: list[str] = []
    if isinstance(names, Sequence):  # before the first of them runs
        for name in names:
            _check_name(name, campaign)

    def checked_names() -> Iterator[str]:
        for name in names:
            if begun and seconds is not None and time.perf_counter() - started > seconds:
                return
            _check_name(name, campaign)
            begun.append(name)
            yield name

    episodes, interrupted, trouble = list[EpisodeResult](), False, ""
    try:
        for episode in _run_all(campaign, checked_names(), seed, jobs):
            episodes.append(episode)
            if progress:
                progress(episode)
    except KeyboardInterrupt:
        interrupted = True
    except StakesimError as error:
        if not episodes:
            raise
        trouble = str(error)
    positions = {name: position for position, name in enumerate(begun)}
    episodes.sort(key=lambda episode: positions[episode.name])
    return FaultCampaignResult(campaign, seed, episodes, time.perf_counter() - started, interrupted, trouble)


def _check_name(name: str, campaign: FaultCampaign) -> None:
    kinds = campaign.plan(1)
    kind, _, number = name.partition(":")
    if kind not in kinds or not (number.isdecimal() and len(number) < 10):
        raise EngineError(f"{name} is no episode: give {', '.join(kinds)}, a colon and a number, as network:3.")


def _run_all(campaign: FaultCampaign, names: Iterator[str], seed: int, jobs: int) -> Iterator[EpisodeResult]:
    first = list(islice(names, 2 * jobs if jobs > 1 else 0))  # never more than that wait, as names may have no end
    if len(first) <= 1:
        with closing(LimitedRunner(campaign)) as runner:
            for name in chain(first, names):
                yield _run_episode(runner, name, seed)
        return
    with worker_pool(min(jobs, len(first)), open_resource=partial(LimitedRunner, campaign)) as submit:
        running = {submit(_run_episode, name, seed) for name in first}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {submit(_run_episode, name, seed) for name in islice(names, len(done))}
            yield from (future.result() for future in done)


def _run_episode(runner: EpisodeRunner, name: str, seed: int) -> EpisodeResult:
    kind, _, number = name.partition(":")
    return runner.run_episode(kind, seed, int(number))

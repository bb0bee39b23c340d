"""Violations as files: shrinks the episodes that a campaign found, saves and replays them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from stakesim.faults.campaign import FaultCampaignResult
from stakesim.faults.episode_script import EpisodeScript, load_script, save_script
from stakesim.faults.limited_runner import LimitedRunner
from stakesim.faults.protocol import EpisodeResult, EpisodeRunner, FaultCampaign
from stakesim.faults.shrink_script import MAX_REPLAYS, shrink
from stakesim.project import current_project

MAX_FILES = 3
"""Number of violations of a campaign that are saved, each of another invariant."""
NOT_REPLAYABLE = (
    "The episode runs in several processes, or went differently from its script: it is run again from seed and number, "
    "and may pass. Replay it several times."
)
"""As `EpisodeScript.story` ends if only seed and number could be saved."""


def folder() -> Path:
    """Folder of the project's saved episodes."""
    return current_project().failures / "faults"


def saved_scripts() -> list[Path]:
    """Files of all saved episodes."""
    return sorted(folder().glob("*.yaml"))


def save_violations(
    result: FaultCampaignResult, progress: Callable[[str], None] = lambda text: None, max_replays: int = MAX_REPLAYS
) -> Iterator[Path]:
    """Shrinks and saves the first violation of each invariant, of up to `MAX_FILES` invariants.

    Args:
        result: Of a campaign.
        progress: Called with a sentence before each of them.
        max_replays: Number of episodes that are run to shrink one.

    Yields:
        The file of each.
    """
    first: dict[str, EpisodeResult] = {}
    for episode in result.episodes:
        for violation in episode.violations:
            first.setdefault(violation.invariant, episode)
    if not first:
        return
    with closing(LimitedRunner(result.campaign)) as runner:
        for invariant, episode in list(first.items())[:MAX_FILES]:
            progress(f"shrinking {episode.name} to the fewest faults that violate {invariant}")
            script = shrunk(episode, invariant, result.seed, runner, max_replays)
            file = folder() / f"{script.kind}-{invariant.lower()}-{result.seed}-{script.number}.yaml"
            save_script(script, file)
            yield file


def shrunk(
    episode: EpisodeResult, invariant: str, seed: int, runner: EpisodeRunner, max_replays: int = MAX_REPLAYS
) -> EpisodeScript:
    """Returns the shortest script found that violates the invariant; one without steps if it can't be replayed.

    Args:
        episode: Has a violation of the invariant.
        invariant: Id of the invariant.
        seed: Of the campaign.
        runner: Replays episodes.
        max_replays: Number of episodes that are run.
    """
    if episode.script is not None:
        script = shrink(episode.script.model_copy(update={"invariant": invariant}), runner.replay, max_replays)
        if script is not None:
            return script
    kind, _, number = episode.name.partition(":")
    message = next(violation.message for violation in episode.violations if violation.invariant == invariant)
    story = f"{message}. {NOT_REPLAYABLE}"
    return EpisodeScript(kind=kind, seed=seed, number=int(number), invariant=invariant, story=story)


def replay_file(file: Path, campaign: FaultCampaign) -> EpisodeResult:
    """Runs the episode of a saved script.

    Raises:
        InputError: The file can't be read, or is not valid.
        StakesimError: See `FaultCampaign.open`.
    """
    script = load_script(file)
    with closing(LimitedRunner(campaign)) as runner:
        return replay(script, runner)


def replay(script: EpisodeScript, runner: EpisodeRunner) -> EpisodeResult:
    """Runs the episode of a script; from seed and number if it has no steps."""
    return runner.replay(script) if script.steps else runner.run_episode(script.kind, script.seed, script.number)

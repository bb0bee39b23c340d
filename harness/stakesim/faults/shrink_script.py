"""Shrinks the script of an episode to the fewest steps and events that violate the same invariant.

Delta debugging: halves are left out, then quarters, down to single ones, again and again until nothing more can go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from stakesim.faults.episode_script import EpisodeScript, Step
from stakesim.faults.protocol import EpisodeResult

MAX_REPLAYS = 400
"""Number of episodes after which shrinking ends with the shortest script so far."""
Item = TypeVar("Item")


def shrink(
    script: EpisodeScript, replay: Callable[[EpisodeScript], EpisodeResult], max_replays: int = MAX_REPLAYS
) -> EpisodeScript | None:
    """Returns the shortest script found that violates `script.invariant`.

    Args:
        script: The script of an episode with a violation of that invariant.
        replay: Runs an episode from a script.
        max_replays: Number of episodes after which the search ends.

    Returns:
        None if the script itself does not violate the invariant again.
    """
    search = _Search(script, replay, max_replays)
    if not search.keep_if_failing(script):
        return None
    before = None
    while before is not search.best and search.replays_left:
        before = search.best
        search.leave_out(_steps_left_out)
        search.leave_out(_events_left_out)
    return search.best


class _Search:
    """The shortest script so far, and how many episodes may still be run."""

    def __init__(
        self, script: EpisodeScript, replay: Callable[[EpisodeScript], EpisodeResult], max_replays: int
    ) -> None:
        self.best, self.replays_left = script, max_replays
        self._replay = replay
        self._tried: set[str] = set()

    def keep_if_failing(self, candidate: EpisodeScript) -> bool:
        """Runs the candidate, and keeps it if it violates the invariant; without the events that did not happen."""
        identity = candidate.model_dump_json(exclude={"story"})
        if identity in self._tried or not self.replays_left:
            return False
        self._tried.add(identity)
        self.replays_left -= 1
        result = self._replay(candidate)
        story = next((v.message for v in result.violations if v.invariant == candidate.invariant), None)
        if story is None:
            return False
        steps = candidate.steps if result.script is None else result.script.steps
        self.best = candidate.model_copy(update={"steps": steps, "story": story})
        return True

    def leave_out(self, without: Callable[[EpisodeScript, range], EpisodeScript | None]) -> None:
        """Leaves out parts, large ones first.

        Args:
            without: Returns the script without the parts of these numbers; None if there are none of them.
        """
        size = 64
        while size:
            start = 0
            while self.replays_left:
                candidate = without(self.best, range(start, start + size))
                if candidate is None:
                    break
                if not self.keep_if_failing(candidate):
                    start += size
            size //= 2


def _steps_left_out(script: EpisodeScript, numbers: range) -> EpisodeScript | None:
    if numbers.start >= len(script.steps):
        return None
    return script.model_copy(update={"steps": _without(script.steps, numbers)})


def _events_left_out(script: EpisodeScript, numbers: range) -> EpisodeScript | None:
    """As `_steps_left_out`; events are numbered through all steps."""
    steps: list[Step] = []
    first = 0
    for step in script.steps:
        of_step = range(numbers.start - first, numbers.stop - first)
        steps.append(step.model_copy(update={"events": _without(step.events, of_step)}))
        first += len(step.events)
    return None if numbers.start >= first else script.model_copy(update={"steps": tuple(steps)})


def _without(items: Sequence[Item], numbers: range) -> tuple[Item, ...]:
    return tuple(item for number, item in enumerate(items) if number not in numbers)

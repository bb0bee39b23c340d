"""An `EpisodeRunner` whose episodes all end: one that goes on for too long is a violation."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from stakesim.faults.episode_script import EpisodeScript
from stakesim.faults.protocol import EpisodeResult, EpisodeRunner, FaultCampaign, Violation
from stakesim.workers.time_limit import NeverEnds, time_limit

EPISODE_LIMIT_S = 300
"""Seconds within which an episode ends; ten times as long as the longest ones take."""
CLOSE_LIMIT_S = 30
"""Seconds within which a testbed is closed in which something never ended."""
ENDS = "ENDS"
"""Id of the statement about all episodes, whatever the service."""
_log = logging.getLogger(__name__)


def statements(campaign: FaultCampaign) -> dict[str, str]:
    """What must hold in the episodes of a campaign, by id: the project's own statements and `ENDS`."""
    return {ENDS: f"every operation ends: an episode takes at most {EPISODE_LIMIT_S} s"} | dict(campaign.statements)


class LimitedRunner:
    """Implements `EpisodeRunner` by those that a campaign opens. After an episode that never ended it opens another."""

    def __init__(self, campaign: FaultCampaign) -> None:
        """Opens a testbed.

        Raises:
            StakesimError: See `FaultCampaign.open`.
        """
        self._campaign = campaign
        self._runner: EpisodeRunner | None = campaign.open()

    def run_episode(self, kind: str, seed: int, number: int) -> EpisodeResult:
        """See `EpisodeRunner.run_episode`."""
        return self._run(f"{kind}:{number}", lambda runner: runner.run_episode(kind, seed, number))

    def replay(self, script: EpisodeScript) -> EpisodeResult:
        """See `EpisodeRunner.replay`."""
        return self._run(f"{script.kind}:{script.number}", lambda runner: runner.replay(script))

    def close(self) -> None:
        """See `EpisodeRunner.close`."""
        if self._runner is not None:
            self._runner.close()

    def _run(self, name: str, episode: Callable[[EpisodeRunner], EpisodeResult]) -> EpisodeResult:
        runner = self._runner = self._runner or self._campaign.open()
        began = time.perf_counter()
        try:
            with time_limit(EPISODE_LIMIT_S):
                return episode(runner)
        except NeverEnds as error:
            self._abandon(runner)
            violation = Violation(ENDS, f"the episode never ends: {error}")
            return EpisodeResult(name, Counter(), [violation], [], time.perf_counter() - began)

    def _abandon(self, runner: EpisodeRunner) -> None:
        """Closes a testbed that may not let itself be closed."""
        self._runner = None
        try:
            with time_limit(CLOSE_LIMIT_S):
                runner.close()
        except (Exception, NeverEnds) as error:  # noqa: BLE001 - consequences of the violation; logged
            _log.warning("the testbed of the episode can't be closed: %s", error)

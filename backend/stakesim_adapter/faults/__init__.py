"""The fault campaign of this backend: `[tool.stakesim] faults = "stakesim_adapter.faults:campaign"`.

`episodes`, `processes` and `wire` run the six kinds of episodes, `clients` sends their requests, for which `payers`
pays. `watch`, `checks`, `row_checks`, `limit_checks` and `payment_checks` check what came of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from app.services.transactions.sender import TransactionSender
from stakesim.errors import StakesimError
from stakesim.faults.episode_script import EpisodeScript
from stakesim.faults.protocol import EpisodeResult

from stakesim_adapter.errors import as_backend_error
from stakesim_adapter.faults import processes, wire
from stakesim_adapter.faults.checks import STATEMENTS
from stakesim_adapter.faults.clients import CLIENT_FAULTS
from stakesim_adapter.faults.episodes import replay_episode, run_episode
from stakesim_adapter.faults.failover import FAILOVER_FAULTS, run_failover_episode
from stakesim_adapter.faults.poolers import find_pgbouncer
from stakesim_adapter.faults.testbed import BackendTestbed


@dataclass(frozen=True)
class BackendCampaign:
    """Implements `stakesim.faults.protocol.FaultCampaign`.

    Attributes:
        sender: Class that sends the services' transactions in episodes `network`. A test passes a broken one, to show
            that its faults are found.
    """

    sender: type[TransactionSender] = TransactionSender

    @property
    def statements(self) -> Mapping[str, str]:
        """The statements that must hold in every episode, by id."""
        return STATEMENTS

    @property
    def faults(self) -> Mapping[str, int]:
        """Faults of this backend's episodes, with their row in the catalogue."""
        of_processes = processes.KILL_FAULTS | processes.STOP_FAULTS | processes.WORKER_FAULTS | processes.POOLER_FAULTS
        return CLIENT_FAULTS | of_processes | wire.WIRE_FAULTS | FAILOVER_FAULTS

    def plan(self, runs: int) -> Mapping[str, int]:
        """Returns `runs` episodes each of the kinds `network` and `kill`, and fewer of the kinds that take longer.

        There are none of the kind `pooler` where pgbouncer is not installed.
        """
        return {
            "network": runs,
            "kill": runs,
            "workers": -(-runs // 20),
            "database": -(-runs // 50),
            "wire": -(-runs // 25),
            "failover": -(-runs // 50),
            "pooler": 2 * -(-runs // 50) if find_pgbouncer() else 0,
        }

    def open(self) -> BackendEpisodeRunner:
        """Opens a testbed."""
        return BackendEpisodeRunner(self.sender)


class BackendEpisodeRunner:
    """Implements `stakesim.faults.protocol.EpisodeRunner` on one anvil and one database.

    Args:
        sender: As in `BackendCampaign`.
        testbed: An open testbed, which stays open; a new one if None.

    Raises:
        EngineError: There is no anvil.
        BackendError: No database answers.
    """

    def __init__(
        self, sender: type[TransactionSender] = TransactionSender, testbed: BackendTestbed | None = None
    ) -> None:
        logging.getLogger("app").addHandler(logging.NullHandler())  # expected errors would fill the terminal
        self._sender = sender
        with as_backend_error():
            self.testbed = testbed or BackendTestbed()
        self._owns_testbed = testbed is None
        self._episodes: Mapping[str, Callable[[int, int], EpisodeResult]] = {
            "network": partial(run_episode, self.testbed, sender=sender),
            "kill": partial(processes.run_kill_episode, self.testbed),
            "workers": partial(processes.run_workers_episode, self.testbed),
            "database": processes.run_database_episode,
            "pooler": partial(processes.run_pooler_episode, self.testbed),
            "wire": partial(wire.run_wire_episode, self.testbed),
            "failover": run_failover_episode,
        }

    def run_episode(self, kind: str, seed: int, number: int) -> EpisodeResult:
        """Runs one episode.

        Raises:
            StakesimError: There is no such kind.
            BackendError: The node or the database has stopped.
        """
        if kind not in self._episodes:
            raise StakesimError(f"There are no episodes of the kind {kind}: choose {', '.join(self._episodes)}.")
        with as_backend_error():
            return self._episodes[kind](seed, number)

    def replay(self, script: EpisodeScript) -> EpisodeResult:
        """Runs an episode `network` from its script."""
        with as_backend_error():
            return replay_episode(self.testbed, script, self._sender)

    def close(self) -> None:
        """Stops the anvil, and drops the database."""
        if self._owns_testbed:
            self.testbed.close()


campaign = BackendCampaign()

"""The fault campaign of this backend: `[tool.stakesim] faults = "stakesim_adapter.faults:campaign"`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from app.services.transactions.sender import TransactionSender
from stakesim.errors import StakesimError
from stakesim.faults.protocol import EpisodeResult

from stakesim_adapter.errors import as_backend_error
from stakesim_adapter.faults import episodes, processes
from stakesim_adapter.faults.checks import STATEMENTS
from stakesim_adapter.faults.testbed import BackendTestbed


@dataclass(frozen=True)
class BackendCampaign:
    """Episodes in which the backend's services work while everything goes wrong.

    Attributes:
        sender: What the services send transactions with in episodes of the network; another one than production's is
            for tests that a broken sender is found.
    """

    sender: type[TransactionSender] = TransactionSender

    @property
    def statements(self) -> Mapping[str, str]:
        return STATEMENTS

    @property
    def faults(self) -> Mapping[str, int]:
        return episodes.BY_CLIENTS | processes.KILLS | processes.STOPS | processes.WORKERS

    def plan(self, runs: int) -> Mapping[str, int]:
        """`runs` episodes of the network and of kills, and in proportion those that take longer."""
        return {"network": runs, "kill": runs, "workers": -(-runs // 20), "database": -(-runs // 50)}

    def open(self) -> BackendPlayer:
        return BackendPlayer(self.sender)


class BackendPlayer:
    """Plays episodes on one anvil and one database.

    Raises:
        EngineError: There is no anvil.
        BackendError: No database answers.
    """

    def __init__(self, sender: type[TransactionSender] = TransactionSender) -> None:
        logging.getLogger("app").addHandler(logging.NullHandler())  # trouble is what is wanted
        self._sender = sender
        with as_backend_error():
            self.testbed = BackendTestbed()

    def run_episode(self, kind: str, seed: int, number: int) -> EpisodeResult:
        with as_backend_error():
            match kind:
                case "network":
                    return episodes.play(self.testbed, seed, number, self._sender)
                case "kill":
                    return processes.kill(self.testbed, seed, number)
                case "workers":
                    return processes.workers(self.testbed, seed, number)
                case "database":
                    return processes.database(seed, number)
        raise StakesimError(f"There are no episodes of the kind {kind}: choose network, kill, workers or database.")

    def close(self) -> None:
        self.testbed.close()


campaign = BackendCampaign()

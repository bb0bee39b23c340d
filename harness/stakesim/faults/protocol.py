"""What a project offers so that `stakesim faults` can play episodes against its service.

A project names an object with the attributes of `FaultCampaign` in its `pyproject.toml`:

    [tool.stakesim]
    faults = "my_adapter.faults:campaign"

An episode is one short script of requests to the service while faults happen, and a check at its end. Its kind, its
number and the campaign's seed decide all that is random in it, so that it can be played again alone. The library has
the testbed (`stakesim.faults.testbed`), the faults of requests (`rpc_faults`) and of the chain (`chain_faults`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Violation(NamedTuple):
    """Something that must hold and did not.

    Attributes:
        invariant: One of the keys of `FaultCampaign.statements`.
        message: What is wrong, with ids and amounts.
    """

    invariant: str
    message: str


@dataclass
class EpisodeResult:
    """What happened in one episode.

    Attributes:
        name: Kind and number, as `network:3`.
        counts: How often each fault happened, by its name.
        violations: Empty where all that must hold held.
        log: What happened, in order.
        seconds: Wall-clock time.
    """

    name: str
    counts: Counter[str]
    violations: list[Violation]
    log: list[str]
    seconds: float = 0.0


class EpisodePlayer(Protocol):
    """A testbed with the service on it, for one episode after another."""

    def play(self, kind: str, seed: int, number: int) -> EpisodeResult:
        """Plays one episode. kind: one of the keys of `FaultCampaign.plan`.

        Raises:
            StakesimError: It can't be played: a node or database is gone that no fault took away.
        """
        ...

    def close(self) -> None: ...


class FaultCampaign(Protocol):
    """The episodes of a service under test. It is pickled for other processes, so it must be picklable."""

    @property
    def statements(self) -> Mapping[str, str]:
        """What must hold whatever goes wrong, in words, by the id of the invariant."""
        ...

    @property
    def faults(self) -> Mapping[str, int]:
        """Faults of the project's own, by name, each with its row of `stakesim.faults.catalogue`."""
        ...

    def plan(self, runs: int) -> Mapping[str, int]:
        """How many episodes of each kind are in a campaign of this size. They are numbered from 0."""
        ...

    def open(self) -> EpisodePlayer:
        """Opens what episodes are played on; called once in each process.

        Raises:
            StakesimError: A node or database can't be had, or something is not installed.
        """
        ...

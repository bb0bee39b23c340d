"""Protocols for a project that lets `stakesim faults` test its service.

A project names an object with the attributes of `FaultCampaign` in its `pyproject.toml`:

    [tool.stakesim]
    faults = "my_adapter.faults:campaign"

An episode is one short script of operations of the service while faults happen, and a check at its end. The kind and
number of the episode and the seed of the campaign determine everything random in it, so one episode can be run again
alone. The library provides the testbed (`stakesim.faults.testbed`) and faults of requests (`rpc_faults`) and of the
chain (`chain_actions`). An episode whose random choices are all made by an `EventSource` is also a script: it can be
replayed without random numbers, and shrunk.

An episode that takes longer than `limited_runner.EPISODE_LIMIT_S` is stopped, and is a violation; its runner is closed,
and another one is opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from stakesim.faults.episode_script import EpisodeScript


class Violation(NamedTuple):
    """A statement that does not hold.

    Attributes:
        invariant: Key of the statement in `FaultCampaign.statements`.
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
        violations: Empty if all statements hold.
        log: What happened, in order, one line an event.
        seconds: Wall-clock time.
        script: What happened, as data; None if the episode can't be replayed from data.
    """

    name: str
    counts: Counter[str]
    violations: list[Violation]
    log: list[str]
    seconds: float = 0.0
    script: EpisodeScript | None = None


class EpisodeRunner(Protocol):
    """A testbed with the service on it, for one episode after another."""

    def run_episode(self, kind: str, seed: int, number: int) -> EpisodeResult:
        """Runs one episode.

        Args:
            kind: One of the keys of `FaultCampaign.plan`.
            seed: Seed of the campaign.
            number: Number of the episode within its kind, from 0.

        Raises:
            StakesimError: The episode can't be run: a node or database is missing that no fault took away.
        """
        ...

    def replay(self, script: EpisodeScript) -> EpisodeResult:
        """Runs an episode from its script. Called only with scripts that have steps.

        Raises:
            StakesimError: As `run_episode`.
        """
        ...

    def close(self) -> None:
        """Closes the testbed."""
        ...


class FaultCampaign(Protocol):
    """The episodes of a service under test. Must be picklable, as worker processes get a copy."""

    @property
    def statements(self) -> Mapping[str, str]:
        """What must hold despite all faults, in words, by the id of the invariant."""
        ...

    @property
    def faults(self) -> Mapping[str, int]:
        """The project's own faults: name and row in `stakesim.faults.catalogue`."""
        ...

    def plan(self, runs: int) -> Mapping[str, int]:
        """Number of episodes of each kind in a campaign of this size. Episodes are numbered from 0."""
        ...

    def open(self) -> EpisodeRunner:
        """Opens a testbed; called once in each process.

        Raises:
            StakesimError: A node, a database or a package is missing.
        """
        ...

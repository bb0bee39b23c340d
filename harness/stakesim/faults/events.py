"""Decides what happens around the requests of a service, at random or by a script, and records it as a script.

All random choices of an episode are made here, or with `EventSource.choose`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from stakesim.faults.episode_script import BLOCK, OTHER_WORKER, Event, Step

T = TypeVar("T")
P = ParamSpec("P")
FOR_GOOD = 1_000_000
"""Number of requests for which a fault goes on that lasts until all faults are stopped."""
LONGEST_SPELL = 20
"""Number of requests below which a fault goes on that lasts for a while."""


class RequestAddress(NamedTuple):
    """A request by its method, and its number among those with this method in the step."""

    method: str
    nth: int


@dataclass(eq=False)
class _RecordedEvent:
    at: RequestAddress
    name: str
    choices: dict[str, Any]


@dataclass
class _RecordedStep:
    do: str
    args: Mapping[str, Any]
    events: list[_RecordedEvent] = field(default_factory=list)


class EventSource:
    """Records the steps and events of an episode. Subclasses decide which events happen.

    Attributes:
        quiet: Whether no further event is decided. Lasting faults go on.
    """

    def __init__(self) -> None:
        self.quiet = False
        self._steps: list[_RecordedStep] = [_RecordedStep("start", {})]
        self._requests: Counter[str] = Counter()
        self._in_progress: list[_RecordedEvent] = []

    @property
    def steps(self) -> tuple[Step, ...]:
        """What happened so far."""
        return tuple(
            Step(do=step.do, args=dict(step.args), events=tuple(_as_event(event) for event in step.events))
            for step in self._steps
            if step.events or step.do != "start"
        )

    def begin_step(self, do: str, args: Mapping[str, Any]) -> None:
        """Begins a step; the service's requests are counted anew."""
        self._steps.append(_RecordedStep(do, args))
        self._requests.clear()

    def begin_request(self, method: str) -> RequestAddress:
        """Counts a request of the service, and returns its address."""
        self._requests[method] += 1
        return RequestAddress(method, self._requests[method])

    def attempt(self, at: RequestAddress, name: str, action: Callable[[], T | None]) -> T | None:
        """Lets an event happen, and records it unless it did not apply.

        Args:
            at: The request.
            name: Name of the event.
            action: Returns None, without effects, if the event does not apply now. May call `choose`.
        """
        event = _RecordedEvent(at, name, self._given_choices(at, name))
        recorded = self._steps[-1].events
        recorded.append(event)
        result = self._during(event, action)
        if result is None:
            recorded.remove(event)
        return result

    def repeatable(self, action: Callable[P, T]) -> Callable[P, T]:
        """Returns the action of the event in progress, to be repeated later with the same choices."""
        event = self._in_progress[-1]
        return lambda *args, **options: self._during(event, lambda: action(*args, **options))

    def lasts(self) -> int:
        """Returns for how many further requests the fault in progress goes on, and records it."""
        event = self._in_progress[-1]
        if (requests := self._lasts(event)) > 0:
            event.choices["lasts"] = requests
        return requests

    def choose(self, name: str, options: Sequence[T]) -> T:
        """Chooses one of the options for the event in progress, and records it as a choice with this name."""
        choices = self._in_progress[-1].choices
        for option in options:
            if name in choices and _as_json(option) == choices[name]:
                return option
        chosen = self._choose(options)
        choices[name] = _as_json(chosen)
        return chosen

    def around(self, at: RequestAddress, names: Sequence[str], *, after: bool) -> Iterator[str]:
        """Yields the names of events that happen before or after a request.

        Args:
            at: The request.
            names: Faults that can happen then.
            after: Whether the request is over.
        """
        raise NotImplementedError

    def faults_of(self, at: RequestAddress, names: Sequence[str], counts: Mapping[str, int]) -> Sequence[str]:
        """Returns the names of faults of the request itself, to be tried in this order until one applies.

        Args:
            at: The request.
            names: Faults that can happen to it.
            counts: How often each fault has happened.
        """
        raise NotImplementedError

    def _given_choices(self, at: RequestAddress, name: str) -> dict[str, Any]:
        return {}

    def _choose(self, options: Sequence[T]) -> T:
        raise NotImplementedError

    def _lasts(self, event: _RecordedEvent) -> int:
        return int(event.choices.get("lasts", 0))

    def _during(self, event: _RecordedEvent, action: Callable[[], T]) -> T:
        self._in_progress.append(event)
        try:
            return action()
        finally:
            self._in_progress.remove(event)


def _as_json(value: Any) -> Any:
    """The value as a file has it: a list for a tuple."""
    return list(value) if isinstance(value, tuple) else value


def _as_event(event: _RecordedEvent) -> Event:
    return Event(request=event.at.method, nth=event.at.nth, event=event.name, choices=event.choices)


@dataclass(frozen=True)
class Swarm:
    """Which events an episode has, and how often. An episode with few kinds of faults has more of each.

    Attributes:
        block: Probabilities of a block before a request; each step has one of them.
        chain: Probability of a fault of the chain before a request.
        rpc: Probability of a fault of the request itself.
        worker: Probability of a round of another worker before a request.
        left_out: Names of faults that do not happen.
        first: Names of faults that happen as soon as they apply, before all others.
        lasting: Names of faults that go on until all faults are stopped.
        spell: Probability that another fault that may last goes on for some requests.
    """

    block: tuple[float, ...] = (0.0,)
    chain: float = 0.0
    rpc: float = 0.0
    worker: float = 0.0
    left_out: frozenset[str] = frozenset()
    first: tuple[str, ...] = ()
    lasting: frozenset[str] = frozenset()
    spell: float = 0.0


class RandomEvents(EventSource):
    """Draws events.

    Args:
        rng: Source of all choices.
        swarm: Which events, and how often.
    """

    def __init__(self, rng: np.random.Generator | None = None, swarm: Swarm | None = None) -> None:
        super().__init__()
        self._rng = np.random.default_rng(0) if rng is None else rng
        self.swarm = swarm or Swarm()
        self._first = list(self.swarm.first)
        self._block_rate = self.swarm.block[0]

    def begin_step(self, do: str, args: Mapping[str, Any]) -> None:
        """Begins a step, in which blocks come at one of the swarm's rates."""
        super().begin_step(do, args)
        self._block_rate = self._choose(self.swarm.block)

    def force(self, *names: str) -> None:
        """Lets each of these faults happen once, as soon as it applies."""
        self._first += names

    def around(self, at: RequestAddress, names: Sequence[str], *, after: bool) -> Iterator[str]:
        """Yields a fault of the chain, a round of the other worker and a block, each by its probability."""
        if self.quiet:
            return
        forced = [name for name in self._first if name in names]
        if forced or self._rng.random() < self.swarm.chain:
            options = forced or [name for name in names if name not in self.swarm.left_out]
            if options:
                yield self._choose(options)
        if not after and self._rng.random() < self.swarm.worker:
            yield OTHER_WORKER
        if not after and self._rng.random() < self._block_rate:
            yield BLOCK

    def faults_of(self, at: RequestAddress, names: Sequence[str], counts: Mapping[str, int]) -> Sequence[str]:
        """The forced ones, else those that happened least often first."""
        if self.quiet:
            return ()
        forced = [name for name in self._first if name in names]
        if forced:
            return forced
        if not self.swarm.rpc or self._rng.random() >= self.swarm.rpc:
            return ()
        options = [name for name in names if name not in self.swarm.left_out]
        shuffled = (options[i] for i in self._rng.permutation(len(options)))
        return sorted(shuffled, key=lambda name: counts.get(name, 0))

    def attempt(self, at: RequestAddress, name: str, action: Callable[[], T | None]) -> T | None:
        """As in `EventSource`; a forced fault that happens is not forced any more."""
        forced = name in self._first
        if forced:
            self._first.remove(name)  # before the action, which may raise
        result = super().attempt(at, name, action)
        if result is None and forced:
            self._first.insert(0, name)
        return result

    def _choose(self, options: Sequence[T]) -> T:
        return options[int(self._rng.integers(len(options)))]

    def _lasts(self, event: _RecordedEvent) -> int:
        if event.name in self.swarm.lasting:
            return FOR_GOOD
        if self.swarm.spell and self._rng.random() < self.swarm.spell:
            return int(self._rng.integers(2, LONGEST_SPELL))
        return 0


class ScriptedEvents(EventSource):
    """Takes events from a script.

    Args:
        steps: The script; `begin_step` must be called once for each of its steps, in order.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        self._script = list(steps)
        self._due: dict[RequestAddress, list[Event]] = {}
        if steps and steps[0].do == "start":
            self._take_step()

    def begin_step(self, do: str, args: Mapping[str, Any]) -> None:
        """Begins the script's next step."""
        super().begin_step(do, args)
        self._take_step()

    def _take_step(self) -> None:
        self._due = {}
        for event in self._script.pop(0).events if self._script else ():
            self._due.setdefault(RequestAddress(event.request, event.nth), []).append(event)

    def around(self, at: RequestAddress, names: Sequence[str], *, after: bool) -> Iterator[str]:
        """Yields the script's events."""
        if self.quiet:
            return
        possible = set(names) if after else {*names, BLOCK, OTHER_WORKER}
        yield from (event.event for event in self._due.get(at, ()) if event.event in possible)

    def faults_of(self, at: RequestAddress, names: Sequence[str], counts: Mapping[str, int]) -> Sequence[str]:
        """The script's faults of this request."""
        return () if self.quiet else [event.event for event in self._due.get(at, ()) if event.event in names]

    def _given_choices(self, at: RequestAddress, name: str) -> dict[str, Any]:
        return next((dict(event.choices) for event in self._due.get(at, ()) if event.event == name), {})

    def _choose(self, options: Sequence[T]) -> T:
        return options[0]

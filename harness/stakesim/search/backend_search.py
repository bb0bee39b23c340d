"""Guided search for faults of a backend: sequences of actions, mutated from those that reached something new.

What is new steers: branches of the backend's own code (`branches.py`) together with the action and the outcome in which
they ran, changes of rows, and the states in which actions were tried with which options. Everything that is played is a
scenario with all invariants after each action, so a finding replays exactly. The search goes on after a finding, and
reports each distinct cause once, in the shortest scenario that shows it.
"""

from __future__ import annotations

import re
import time
from ast import literal_eval
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stakesim.generate.terms_draws import usual_or_other
from stakesim.model.state import State
from stakesim.paths import state_dir
from stakesim.runner import scenario_files
from stakesim.runner.environment import Environment
from stakesim.runner.findings import Finding
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.scenario_run import ScenarioRun, run_scenario
from stakesim.runner.step import Step
from stakesim.scenario.actions import Action, Terms
from stakesim.scenario.scenario import Scenario, load
from stakesim.search.backend_diagnosis import classify
from stakesim.search.branches import Branches
from stakesim.search.corpus import Corpus
from stakesim.search.mutations import MAX_ACTIONS, disturb, fresh, mutate
from stakesim.search.shrink import shrink, without
from stakesim.search.stateful import ACTORS
from stakesim.search.variants import Tried, options_of

if TYPE_CHECKING:
    from numpy.random import Generator

_OTHER_TERMS = 0.5
"""Probability that a fresh sequence has other terms than the usual ones."""
SHRINK_RUNS = 120
"""Scenarios that are run at most to make a finding short."""


@dataclass
class Found:
    """A distinct cause of failures.

    Attributes:
        cause: Invariant, kind and place.
        result: The failure, in the shortest scenario that was found.
        seconds: Since the search began, when it was found, before it was made short.
        actions: Number of actions that had been played by then.
        replays: Whether the scenario fails again, as it must.
        times: How many sequences failed in this way.
    """

    cause: str
    result: ScenarioResult
    seconds: float
    actions: int
    replays: bool = True
    times: int = 1


@dataclass
class SearchProgress:
    """What a search has done so far.

    Attributes:
        seed: Its seed.
        seconds: How long it has run.
        actions: Actions that were played and checked, without those to make findings short.
        sequences: Sequences that were played.
        branches: Branches of the backend's code that ran.
        branches_in_all: Branches that the code has.
        reached: Number of different things that were reached; see `reached_by`.
        corpus: Sequences in the corpus.
        found: What was found.
        unreadable: Files of the corpus that are no valid scenarios.
        interrupted: Whether Ctrl-C ended it.
    """

    seed: int
    seconds: float = 0.0
    actions: int = 0
    sequences: int = 0
    branches: int = 0
    branches_in_all: int = 0
    reached: int = 0
    corpus: int = 0
    found: list[Found] = field(default_factory=list)
    unreadable: Sequence[Path] = ()
    interrupted: bool = False


def search(
    environment: Environment,
    *,
    seconds: float,
    seed: int | None = None,
    corpus: Path | None = None,
    report: Callable[[SearchProgress], bool] = lambda progress: True,
    most_actions: int | None = None,
    scenarios: Sequence[Scenario] | None = None,
    shrink_runs: int = SHRINK_RUNS,
) -> SearchProgress:
    """Searches a backend for faults.

    Args:
        environment: Engine, contract and backend.
        seconds: How long to search; a finding is made short beyond that.
        seed: Of all random choices; None: one from the clock. The same seed, corpus and number of actions give the same
            sequences.
        corpus: Folder of the corpus, which is read and written; None: one in the state directory.
        report: Called after each sequence; says whether to go on.
        most_actions: How many actions to play at most; None: no limit.
        scenarios: Scenarios to begin with, beside the corpus; None: those of the project.
        shrink_runs: Scenarios that are run at most to make one finding short.

    Returns:
        What was searched and found; Ctrl-C ends the search, and loses none of it.

    Raises:
        EngineError: The engine can't do what is needed.
        BackendError: The backend can't start a scenario.
    """
    from numpy.random import default_rng

    progress = SearchProgress(seed=time.time_ns() % 2**32 if seed is None else seed)
    branches = Branches()
    kept = Corpus(corpus or state_dir() / "corpus" / environment.driver)
    begin: list[tuple[Path | None, Scenario]] = [*kept.stored().items()]
    begin += [(None, _plain(scenario)) for scenario in (_project_scenarios() if scenarios is None else scenarios)]
    progress.unreadable = kept.unreadable
    with branches.observed(getattr(environment.backend, "packages", ())):
        progress.branches_in_all = branches.total
        searching = _Search(
            environment, default_rng(progress.seed), branches, kept, progress, time.monotonic() + seconds, most_actions
        )
        try:
            searching.run(begin, report, shrink_runs)
        except KeyboardInterrupt:
            progress.interrupted = True
    return progress


def _project_scenarios() -> Iterator[Scenario]:
    for file in (*scenario_files.scripted(include_shipped=True), *scenario_files.for_backends()):
        yield load(file)


def _plain(scenario: Scenario) -> Scenario:
    """A scenario without what it expects: the model alone decides what must happen."""
    actions = tuple(action.model_copy(update={"at": at, "fails": None}) for at, action in scenario.timeline())
    return scenario.model_copy(update={"actions": actions[:MAX_ACTIONS], "strict": False, "received": {}})


@dataclass
class _Search:
    environment: Environment
    rng: Generator
    branches: Branches
    corpus: Corpus
    progress: SearchProgress
    deadline: float
    most_actions: int | None
    tried: Tried = field(default_factory=Counter)
    seen_branches: set[int] = field(default_factory=set)
    found: dict[str, Found] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def run(
        self,
        begin: Sequence[tuple[Path | None, Scenario]],
        report: Callable[[SearchProgress], bool],
        shrink_runs: int,
    ) -> None:
        """Plays sequences until the time is over.

        Args:
            begin: Scenarios to begin with, each with its file in the corpus, if it has one.
            report: Called after each sequence; says whether to go on.
            shrink_runs: As in `search`.
        """
        waiting = [begin[index] for index in self.rng.permutation(len(begin))]
        waiting.sort(key=lambda one: -len(one[1].actions))  # the short ones first: they tell most for the time
        rest: Scenario | None = None
        while not self.is_over():
            result, reached = self._play(rest or self._next(waiting))
            rest = _past_failure(result)
            self.progress.sequences += 1
            if reached:
                self.corpus.add(result.scenario, reached)
            if result.findings:
                self._note(result, shrink_runs)
            self._update()
            if not report(self.progress):
                return

    def is_over(self) -> bool:
        """Whether the time is over and something was played, or all actions are played."""
        has_played_all = self.most_actions is not None and self.progress.actions >= self.most_actions
        return has_played_all or (self.progress.actions > 0 and time.monotonic() >= self.deadline)

    def _next(self, waiting: list[tuple[Path | None, Scenario]]) -> Scenario:
        """Now and then a given or a new sequence, mostly a mutated one of the corpus."""
        rng = self.rng
        if waiting and (not len(self.corpus) or rng.random() < 0.5):
            file, scenario = waiting.pop()
            if file is not None:
                file.unlink(missing_ok=True)
            return scenario if file is not None or rng.random() < 0.5 else disturb(rng, scenario, self.tried)
        if not len(self.corpus) or rng.random() < 0.1:
            base = Scenario(
                name="search",
                story="Found by guided search.",
                terms=usual_or_other(rng, Terms(), _OTHER_TERMS),
                strict=False,
                actors=ACTORS,
                actions=(),
            )
            return fresh(rng, base, int(rng.integers(3, 20)), self.tried)
        return mutate(rng, self.corpus.choose(rng), self.corpus.choose(rng), self.tried)

    def _play(self, scenario: Scenario) -> tuple[ScenarioResult, dict[Hashable, int]]:
        """Plays a sequence to its end, or to the first finding.

        Returns:
            The result, and what was reached before the finding, with the number of the action by which it was.
        """
        scenario = scenario.model_copy(update={"name": "search", "story": "Found by guided search.", "origin": None})
        run, reached = ScenarioRun(self.environment, scenario), dict[Hashable, int]()
        self.branches.take()
        for number, (at, action) in enumerate(scenario.timeline(), start=1):
            if self.is_over():
                scenario = scenario.model_copy(update={"actions": scenario.actions[: number - 1]})
                break
            before, is_sound = run.last_step, run.act(at, action)
            self.progress.actions += 1
            ran = self.branches.take()
            self.seen_branches |= ran
            if not is_sound:
                self.tried.update(options_of(action))  # rather others from now on
                break
            if run.last_step is not None and run.last_step is not before:
                for one in reached_by(run.last_step, ran):
                    reached.setdefault(one, number)
                if run.last_step.ok or getattr(action, "payment", "in_time") != "in_time":
                    self.tried.update(options_of(action))
        run.end()
        run.result.scenario = run.result.scenario.model_copy(update={"actions": scenario.actions, "seed": 0})
        return run.result, reached

    def _note(self, result: ScenarioResult, shrink_runs: int) -> None:
        """Counts a failure of a known cause; makes that of a new one short."""
        cause = cause_of(result)
        if cause in self.found:
            self.found[cause].times += 1
            return
        seconds, actions = time.monotonic() - self.began, self.progress.actions
        try:
            shortest = shrink(self.environment, result, max_runs=shrink_runs, name=cause_of)
            replays = shortest is not result or not run_scenario(self.environment, result.scenario).ok
        except KeyboardInterrupt:  # told as long as it is
            self._add(Found(cause, result, seconds, actions))
            raise
        self._add(Found(cause, shortest, seconds, actions, replays))
        self.branches.take()

    def _add(self, found: Found) -> None:
        result, number = found.result, len(self.found) + 1
        last = result.scenario.actions[-1].do if result.scenario.actions else "end"
        scenario = result.scenario.model_copy(update={"name": f"found-{number}-{last.replace('_', '-')}"})
        weakness = classify(result)
        result.findings = [
            replace(finding, scenario=scenario, weakness=weakness or finding.weakness) for finding in result.findings
        ]
        result.scenario = scenario
        self.found[found.cause] = found
        self.progress.found.append(found)

    def _update(self) -> None:
        progress = self.progress
        progress.seconds = time.monotonic() - self.began
        progress.branches, progress.reached, progress.corpus = (
            len(self.seen_branches),
            self.corpus.reached,
            len(self.corpus),
        )


def _past_failure(result: ScenarioResult) -> Scenario | None:
    """The sequence without the action that failed, so that it does not hide the next failure; None: nothing is left."""
    step, actions = result.findings[0].step if result.findings else 0, result.scenario.actions
    if not 0 < step < len(actions):
        return None
    left = list(without(actions, {step - 1}))
    if left and getattr(left[-1], "pending", False):  # nothing comes after it
        left[-1] = left[-1].model_copy(update={"pending": False})
    return result.scenario.model_copy(update={"actions": tuple(left)}) if left else None


# What a step reached


def reached_by(step: Step, branches: frozenset[int]) -> Iterator[Hashable]:
    """What one action reached: each of these is new or known.

    - A branch of the backend, with the action and its outcome.
    - A change of rows, with the action.
    - An action with each of its options, its kind of actor, and its outcome.
    - An action in a state of its run or booking, at a certain time of the run, with its outcome.
    """
    action, outcome = step.action, (step.action.do, step.actual.status, step.actual.error)
    yield from (("branch", branch, action.do, step.actual.status) for branch in branches)
    yield ("rows", *outcome, _changes(step.model_before, step.model))
    yield ("actor", *outcome, _kind_of_actor(step))
    yield from (("option", *outcome, option) for option in options_of(action))
    yield ("state", *outcome, _phase(action, step.model_before, step.model.now))


def _changes(before: State, after: State) -> Hashable:
    """From which status to which runs, bookings and payments went."""
    changes: set[Hashable] = set()
    for old, new in ((before.runs, after.runs), (before.bookings, after.bookings)):
        for label, one in new.items():
            was: Any = old.get(label)
            if was is not one:
                changes.add((type(one).__name__, was and was.status, one.status))
    for number, payment in enumerate(after.payments):
        known = before.payments[number] if number < len(before.payments) else None
        if known != payment:
            changes.add(("payment", payment.purpose, known and known.status, payment.status, payment.to_custody))
    return frozenset(changes)


def _kind_of_actor(step: Step) -> Hashable:
    actor = step.model.actors.get(step.expected.actor or "")
    return actor and (actor.pays, actor.wallet, actor.receiver)


def _phase(action: Action, model: State, now: int) -> Hashable:
    """Status of the action's run and booking, how full the run is, and between which of its deadlines it is."""
    booking = model.bookings.get(getattr(action, "booking", ""))
    run = model.runs.get(booking.run if booking else getattr(action, "run", ""))
    if run is None:
        return None
    edges = (run.start - model.terms.cancellation_cutoff, run.start, run.start + model.terms.completion_grace)
    statuses = frozenset((one.status, one.direct) for one in model.bookings_of(run))
    return run.status, run.direct, booking and booking.status, statuses, tuple((now > e) - (now < e) for e in edges)


# What two failures have in common


def cause_of(result: ScenarioResult) -> str:
    """Invariant, kind and place of a failure: two failures of the same cause are reported once."""
    finding = result.findings[0]
    action = result.scenario.actions[finding.step - 1].do if 0 < finding.step <= len(result.scenario.actions) else ""
    return f"{finding.id} {action}: {_kind_of(finding)}"


_COMPARED = re.compile(r"says (\(.*\)|None), the (\w+) (\(.*\)|None)$")
_VALUES = re.compile(r"\([^()]*\)|\[[^\]]*\]|'[^']*'|-?\d[\d,.]*")


def _kind_of(finding: Finding) -> str:
    """The message without ids, amounts and names; of what was compared, which parts differ."""
    message, scenario = finding.message, finding.scenario
    if finding.id == "CRASH":
        return message.partition(":")[0] + message[message.rfind(" ") :]
    parts = ""
    if compared := _COMPARED.search(message):
        parts = f"{compared[2]}: {_differing(compared[1], compared[3])}"
        message = message[: compared.start()]
    for name in scenario.actors if scenario is not None else ():
        message = re.sub(rf"\b{re.escape(name)}\b", "@", message)
    return _VALUES.sub("#", message) + parts


def _differing(one: str, other: str) -> str:
    """Positions at which two tuples differ; which one is missing."""
    if "None" in (one, other):
        return f"missing {'here' if other == 'None' else 'there'}"
    try:
        pairs = zip(literal_eval(one), literal_eval(other), strict=True)
        return str([position for position, (left, right) in enumerate(pairs) if left != right])
    except (ValueError, SyntaxError):
        return "differs"

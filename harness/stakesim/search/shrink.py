"""Shrinks a failing scenario, as long as it still fails in the same way.

Actions are left out, actors become ordinary, times and amounts become plain. The search is delta debugging over the
actions (A. Zeller, R. Hildebrandt, Simplifying and Isolating Failure-Inducing Input, 2002), then one field at a time,
again and again until nothing gets simpler.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from pydantic import ValidationError

from stakesim.prices.price_models import Constant
from stakesim.runner.environment import Environment
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.actions import ACTOR_FIELDS, Action, Actor, Book, Complete, CreateRun, ForceEther, Terms
from stakesim.scenario.scenario import PAUSE, Scenario
from stakesim.units import DAY, HOUR, MINUTE

MAX_RUNS = 600
"""Scenarios that a search runs at most; it then ends with the shortest one so far."""
MAX_ACTIONS = 20_000
"""Actions of all these scenarios together: one of 200 actions takes seconds, and is not run 600 times."""
Edit: TypeAlias = dict[str, Any]
"""New values for fields of a scenario."""


def shrink(
    environment: Environment,
    result: ScenarioResult,
    *,
    max_runs: int = MAX_RUNS,
    name: Callable[[ScenarioResult], Hashable] = lambda _: "",
) -> ScenarioResult:
    """Finds a shorter scenario with the same failure: see `ScenarioResult.kind`.

    Args:
        environment: What scenarios are run in.
        result: The failure.
        max_runs: How many scenarios are run at most.
        name: What else the same failure has in common, as its name.

    Returns:
        The shortest failure found; `result` itself if it does not fail again in this environment.
    """
    search = _Search(environment, result, max_runs, lambda one: (one.kind, name(one)))
    previous = None
    while previous is not search.best and search.may_go_on:
        previous = search.best
        search.drop_actions()
        for simplifications in (_simpler_actors, _simpler_times, _simpler_amounts, _simpler_conditions):
            search.apply_all(simplifications)
    search.keep_if_failing(_numbered_labels(search.best.scenario))
    return search.best


class _Search:
    """The shortest failure so far, and how much work is left.

    Attributes:
        best: The shortest failure so far.
        runs_left: How many scenarios may still be run.
        actions_left: How many actions they may have together; the last one may have more.
    """

    def __init__(
        self,
        environment: Environment,
        result: ScenarioResult,
        max_runs: int,
        identity: Callable[[ScenarioResult], Hashable],
    ) -> None:
        self._environment, self._identity, self._wanted = environment, identity, identity(result)
        self._tried: set[str] = set()
        self.best, self.runs_left, self.actions_left = result, max_runs, MAX_ACTIONS
        scenario = result.scenario
        actions = scenario.actions[: result.findings[0].step]
        origin = {**(scenario.origin or {}), "shrunk_from": f"{scenario.name}, {len(scenario.actions)} actions"}
        self.keep_if_failing({"actions": actions, "strict": False, "received": {}, "origin": origin})

    @property
    def may_go_on(self) -> bool:
        """Whether another scenario may be run."""
        return self.runs_left > 0 and self.actions_left > 0

    def keep_if_failing(self, edit: Edit) -> bool:
        """Runs the best scenario with a change, and keeps it if the scenario still fails in the same way.

        Returns:
            Whether it was kept.
        """
        candidate = self._edited(edit)
        if candidate is None or not self.may_go_on:
            return False
        identity = candidate.model_dump_json(exclude={"origin", "name", "story"})
        if identity in self._tried:
            return False
        self._tried.add(identity)
        self.runs_left -= 1
        self.actions_left -= len(candidate.actions)
        result = run_scenario(self._environment, candidate)
        if not self._fails_alike(result):
            return False
        actions = candidate.actions[: result.findings[0].step]
        if len(actions) < len(candidate.actions):  # it fails sooner
            result = run_scenario(self._environment, candidate.model_copy(update={"actions": actions}))
            if not self._fails_alike(result):
                return False
        self.best = result
        return True

    def drop_actions(self) -> None:
        """Leaves out half of the actions at a time, then quarters, down to single ones."""
        size = len(self.best.scenario.actions) // 2 or 1
        while self.may_go_on:
            start = 0
            while start < len(self.best.scenario.actions):
                actions = self.best.scenario.actions
                rest = without(actions, range(start, min(start + size, len(actions))))
                if not rest or not self.keep_if_failing({"actions": rest}):
                    start += size
            if size == 1:
                return
            size //= 2

    def apply_all(self, simplifications: Callable[[Scenario], Iterator[Edit]]) -> None:
        """Tries the proposed edits on the best scenario, and starts anew after each that helps."""
        helped = True
        while helped and self.may_go_on:
            helped = any(self.keep_if_failing(edit) for edit in simplifications(self.best.scenario))

    def _edited(self, edit: Edit) -> Scenario | None:
        """The best scenario with the change, and without actors that do nothing in it; None if it is invalid."""
        scenario = self.best.scenario
        if "actions" in edit:
            edit = {"actors": _acting(edit["actions"], edit.get("actors", scenario.actors)), **edit}
        try:
            return Scenario.model_validate({**dict(scenario), **edit})
        except ValidationError:
            return None

    def _fails_alike(self, result: ScenarioResult) -> bool:
        return bool(result.findings) and self._identity(result) == self._wanted


def without(actions: Sequence[Action], dropped: Collection[int]) -> tuple[Action, ...]:
    """Leaves out the actions at these positions, and those about a run or booking that then does not exist.

    The others keep their times.
    """
    timed = Scenario.model_construct(actions=tuple(actions)).timeline()
    kept = [action.model_copy(update={"at": at}) for i, (at, action) in enumerate(timed) if i not in dropped]
    kept = _about_existing(kept, "run", CreateRun)
    kept = _about_existing(kept, "booking", Book)
    bookings = {action.booking for action in kept if isinstance(action, Book)}
    return tuple(_with_attendance_of(action, bookings) for action in kept)


def _about_existing(actions: Sequence[Action], field: str, creator: type[CreateRun | Book]) -> list[Action]:
    existing = {getattr(action, field) for action in actions if isinstance(action, creator)}
    return [action for action in actions if not hasattr(action, field) or getattr(action, field) in existing]


def _with_attendance_of(action: Action, bookings: Collection[str]) -> Action:
    if not isinstance(action, Complete):
        return action
    return action.model_copy(update={"attended": tuple(booking for booking in action.attended if booking in bookings)})


def _acting(actions: Sequence[Action], actors: Mapping[str, Actor]) -> dict[str, Actor]:
    """Actors that an action names."""
    names = {getattr(action, field, None) for action in actions for field in ACTOR_FIELDS}
    return {name: actor for name, actor in actors.items() if name in names}


# What is simpler: each function proposes edits, the simplest first


def _simpler_actors(scenario: Scenario) -> Iterator[Edit]:
    """Ordinary actors instead of others; earlier actors instead of later ones."""
    for name, actor in scenario.actors.items():
        if actor != Actor():
            yield {"actors": {**scenario.actors, name: Actor()}}
    names = list(scenario.actors)
    for index, action in enumerate(scenario.actions):
        by = getattr(action, "by", None)
        if by in names:
            for other in names[: names.index(by)]:
                yield _with_action(scenario, index, by=other)


def _simpler_times(scenario: Scenario) -> Iterator[Edit]:
    """Pauses of a minute, or of whole days, hours or minutes; runs that start after a day or a week."""
    timed = scenario.timeline()
    previous_at = -PAUSE
    for index, (at, _) in enumerate(timed):
        pause = at - previous_at
        for simpler in (PAUSE, *(pause // unit * unit for unit in (DAY, HOUR, MINUTE))):
            if PAUSE <= simpler < pause:
                yield _moved_forward(scenario, index, at, pause - simpler)
        previous_at = at
    for index, action in enumerate(scenario.actions):
        if isinstance(action, CreateRun):
            for starts in (DAY, 7 * DAY):
                if starts < action.starts:
                    yield _with_action(scenario, index, starts=starts)
    without_default_times = _without_default_times(timed)
    if without_default_times != scenario.actions:
        yield {"actions": without_default_times}


def _moved_forward(scenario: Scenario, index: int, since: int, seconds: int) -> Edit:
    """All actions from `index` on, and starts from the time `since` on, are so many seconds sooner."""
    timed: list[tuple[int, Action]] = []
    for number, (at, action) in enumerate(scenario.timeline()):
        new_at = at - seconds if number >= index else at
        edit: Edit = {"at": new_at}
        if isinstance(action, CreateRun) and action.starts >= since:
            edit["starts"] = max(action.starts - seconds, 0)
        timed.append((new_at, action.model_copy(update=edit)))
    return {"actions": _without_default_times(timed)}


def _without_default_times(timed: Sequence[tuple[int, Action]]) -> tuple[Action, ...]:
    """The actions, with a time only where it is not the default: a pause after the action before."""
    previous_at, actions = -PAUSE, []
    for at, action in timed:
        actions.append(action.model_copy(update={"at": None if at == previous_at + PAUSE else at}))
        previous_at = at
    return tuple(actions)


_PLAIN_VALUES: Mapping[str, tuple[Any, ...]] = {
    "price_inr": (Decimal(20_000), Decimal(2_000)),
    "seats": (1, 2),
    "value_off": (1, -1),
    "wei": (1,),
    "age": (0,),
    "retried": (False,),
    "answer_lost": (False,),
    "feed_moves": (False,),
    "reorganised": (None,),
    "pending": (False,),
    "direct": (False,),
    "payment": ("in_time",),
    "fails": (None,),
}
"""Values by field of an action, the plainest first."""


def _simpler_amounts(scenario: Scenario) -> Iterator[Edit]:
    """Plain values; fewer seats and wei; fewer attendees who attended."""
    for index, action in enumerate(scenario.actions):
        for field in _PLAIN_VALUES:
            yield from (_with_action(scenario, index, **{field: value}) for value in _plainer_values(action, field))
        yield from (_with_action(scenario, index, **edit) for edit in _reductions(action))


def _plainer_values(action: Action, field: str) -> Sequence[Any]:
    """Values that are plainer than the field's own; none for a field that is missing or off."""
    value, plain = getattr(action, field, None), _PLAIN_VALUES[field]
    if value is None or value is False:
        return ()
    return plain[: plain.index(value)] if value in plain else plain


def _reductions(action: Action) -> Iterator[Edit]:
    """Smaller values of an action's numbers and lists."""
    if isinstance(action, Book | CreateRun) and action.seats > 1:
        yield {"seats": action.seats // 2}
        yield {"seats": action.seats - 1}
    if isinstance(action, ForceEther) and action.wei > 1:
        yield {"wei": action.wei // 2}
    if isinstance(action, Complete):
        for dropped in range(len(action.attended)):
            yield {"attended": action.attended[:dropped] + action.attended[dropped + 1 :]}


def _simpler_conditions(scenario: Scenario) -> Iterator[Edit]:
    """A constant price; default terms."""
    if scenario.price != Constant():
        yield {"price": Constant()}
    defaults = Terms()
    for name in Terms.model_fields:
        default = getattr(defaults, name)
        if getattr(scenario.terms, name) != default:
            yield {"terms": scenario.terms.model_copy(update={name: default})}


def _numbered_labels(scenario: Scenario) -> Edit:
    """Labels `run1`, `run2`, `booking1` and so on, in the order in which runs and bookings are made."""
    new_labels: dict[str, str] = {}
    for kind, field in ((CreateRun, "run"), (Book, "booking")):
        labels = [getattr(action, field) for action in scenario.actions if isinstance(action, kind)]
        new_labels |= {label: f"{field}{number}" for number, label in enumerate(labels, start=1)}
    actions = []
    for action in scenario.actions:
        edit: Edit = {
            field: new_labels[getattr(action, field)] for field in ("run", "booking") if hasattr(action, field)
        }
        if isinstance(action, Complete):
            edit["attended"] = tuple(new_labels[label] for label in action.attended)
        actions.append(action.model_copy(update=edit))
    return {"actions": tuple(actions)}


def _with_action(scenario: Scenario, index: int, **fields: Any) -> Edit:
    """The action at this position with other values."""
    action = scenario.actions[index].model_copy(update=fields)
    return {"actions": (*scenario.actions[:index], action, *scenario.actions[index + 1 :])}

"""The shortest story of a failure: actions are left out, people made ordinary, times and amounts made plain, as long as
the same thing that must hold still does not.

The search is delta debugging over the actions (A. Zeller, R. Hildebrandt, Simplifying and Isolating Failure-Inducing
Input, 2002), then one field at a time, again and again until nothing gets simpler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from stakesim.prices.price_models import Constant
from stakesim.runner.environment import Environment
from stakesim.runner.scenario_run import Played, run_scenario
from stakesim.scenario.actions import Action, Actor, Book, Complete, CreateRun, ForceEther, Terms
from stakesim.scenario.scenario import PAUSE, Scenario
from stakesim.schema.fields import UNITS

MOST_PLAYS = 600
"""A search ends here, with the shortest found so far."""
Edit = dict[str, Any]


def broken(played: Played) -> str:
    """Id of the first invariant that does not hold."""
    return played.findings[0].id


def shrunk(
    environment: Environment, played: Played, plays: int = MOST_PLAYS, same: Callable[[Played], str] = broken
) -> Played:
    """The shortest scenario found that breaks the same invariant as this one, played. plays: at most so many tries.
    same: what else a failure has to have in common with it.

    A scenario that does not fail again in this environment is given back as it is.
    """
    search = _Search(environment, played, plays, same)
    before = None
    while before is not search.best and search.left:
        before = search.best
        search.drop_actions()
        for simpler in (_people, _times, _amounts, _frame):
            search.all_of(simpler)
    search.keep(_renamed(search.best.scenario))
    return search.best


class _Search:
    def __init__(self, environment: Environment, played: Played, plays: int, same: Callable[[Played], str]) -> None:
        self._environment, self._same, self.left = environment, same, plays
        self._wanted = same(played)
        self._tried: set[str] = set()
        self.best = played
        first = played.scenario
        cut = first.actions[: played.findings[0].step]
        origin = {**(first.origin or {}), "shrunk_from": f"{first.name}, {len(first.actions)} actions"}
        self.keep({"actions": cut, "strict": False, "received": {}, "origin": origin})

    def keep(self, edit: Edit) -> bool:
        """Whether the scenario fails as it did with this change too, which then stays."""
        scenario = self.best.scenario
        if "actions" in edit:
            edit = {"actors": _those_in(edit["actions"], edit.get("actors", scenario.actors)), **edit}
        try:
            candidate = Scenario.model_validate({**dict(scenario), **edit})
        except ValidationError:
            return False
        key = candidate.model_dump_json(exclude={"origin", "name", "story"})
        if key in self._tried or not self.left:
            return False
        self._tried.add(key)
        self.left -= 1
        played = run_scenario(self._environment, candidate)
        if not self._fails_so(played):
            return False
        actions = candidate.actions[: played.findings[0].step]
        if len(actions) < len(candidate.actions):  # it fails sooner
            cut = candidate.model_copy(update={"actions": actions})
            played = run_scenario(self._environment, cut)
        if self._fails_so(played):
            self.best = played
            return True
        return False

    def _fails_so(self, played: Played) -> bool:
        return bool(played.findings) and self._same(played) == self._wanted

    def drop_actions(self) -> None:
        """Halves first, then quarters, down to single ones; what speaks of a run or booking goes with it."""
        size = len(self.best.scenario.actions) // 2 or 1
        while self.left:
            at = 0
            while at < len(self.best.scenario.actions):
                actions = self.best.scenario.actions
                rest = _without(actions, range(at, min(at + size, len(actions))))
                if not rest or not self.keep({"actions": rest}):
                    at += size
            if size == 1:
                return
            size //= 2

    def all_of(self, simpler: Callable[[Scenario], Iterator[Edit]]) -> None:
        """Tries what it proposes, each time anew from the best there is, until nothing of it helps."""
        helped = True
        while helped and self.left:
            helped = any(self.keep(edit) for edit in simpler(self.best.scenario))


def _without(actions: Sequence[Action], gone: range) -> tuple[Action, ...]:
    """Times stay as they are."""
    timed = Scenario.model_construct(actions=tuple(actions)).timeline()
    kept = [action.model_copy(update={"at": at}) for i, (at, action) in enumerate(timed) if i not in gone]
    runs = {action.run for action in kept if isinstance(action, CreateRun)}
    kept = [a for a in kept if not hasattr(a, "run") or a.run in runs]
    bookings = {action.booking for action in kept if isinstance(action, Book)}
    kept = [a for a in kept if not hasattr(a, "booking") or a.booking in bookings]
    return tuple(
        a.model_copy(update={"attended": tuple(b for b in a.attended if b in bookings)})
        if isinstance(a, Complete)
        else a
        for a in kept
    )


def _those_in(actions: Sequence[Action], actors: Any) -> dict[str, Actor]:
    named = {getattr(action, field, None) for action in actions for field in ("by", "to")}
    return {name: actor for name, actor in actors.items() if name in named}


# What is simpler. Each proposes edits; the first that keeps the failure is taken, and it is asked again.


def _people(scenario: Scenario) -> Iterator[Edit]:
    for name, actor in scenario.actors.items():
        if actor != Actor():
            yield {"actors": {**scenario.actors, name: Actor()}}
    names = list(scenario.actors)
    for index, action in enumerate(scenario.actions):
        by = getattr(action, "by", None)
        if by in names:
            for other in names[: names.index(by)]:
                yield _changed(scenario, index, by=other)


def _times(scenario: Scenario) -> Iterator[Edit]:
    """Pauses are made a minute, or whole days, hours or minutes; all that comes later comes sooner by as much."""
    timed = scenario.timeline()
    at_before = -PAUSE
    for index, (at, _) in enumerate(timed):
        pause = at - at_before
        plain = [PAUSE, *(pause // unit * unit for unit in (UNITS["d"], UNITS["h"], UNITS["m"]))]
        for wanted in plain:
            if PAUSE <= wanted < pause:
                yield _sooner(scenario, index, at, pause - wanted)
        at_before = at
    for index, action in enumerate(scenario.actions):
        if isinstance(action, CreateRun):
            for starts in (UNITS["d"], 7 * UNITS["d"]):
                if starts < action.starts:
                    yield _changed(scenario, index, starts=starts)
    plain_actions = _untimed(timed)
    if plain_actions != scenario.actions:
        yield {"actions": plain_actions}


def _sooner(scenario: Scenario, index: int, since: int, by: int) -> Edit:
    actions: list[Action] = []
    for number, (at, action) in enumerate(scenario.timeline()):
        edit: Edit = {"at": at - by if number >= index else at}
        if isinstance(action, CreateRun) and action.starts >= since:
            edit["starts"] = max(action.starts - by, 0)
        actions.append(action.model_copy(update=edit))
    return {"actions": _untimed(list(zip((a.at or 0 for a in actions), actions, strict=True)))}


def _untimed(timed: Sequence[tuple[int, Action]]) -> tuple[Action, ...]:
    """Without the times that a scenario has anyway."""
    before, actions = -PAUSE, []
    for at, action in timed:
        actions.append(action.model_copy(update={"at": None if at == before + PAUSE else at}))
        before = at
    return tuple(actions)


def _amounts(scenario: Scenario) -> Iterator[Edit]:
    for index, action in enumerate(scenario.actions):
        for field, plain in _PLAIN:
            now = getattr(action, field, None)
            if now is None or now is False or now in plain[:1]:
                continue
            for value in plain:
                if value == now:
                    break
                yield _changed(scenario, index, **{field: value})
        if isinstance(action, Book | CreateRun) and action.seats > 1:
            yield _changed(scenario, index, seats=action.seats // 2)
            yield _changed(scenario, index, seats=action.seats - 1)
        if isinstance(action, ForceEther) and action.wei > 1:
            yield _changed(scenario, index, wei=action.wei // 2)
        if isinstance(action, Complete):
            for gone in range(len(action.attended)):
                yield _changed(scenario, index, attended=action.attended[:gone] + action.attended[gone + 1 :])


_PLAIN: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("price_inr", (Decimal(20_000), Decimal(2_000))),
    ("seats", (1, 2)),
    ("value_off", (1, -1)),
    ("wei", (1,)),
    ("age", (0,)),
    ("retried", (False,)),
    ("answer_lost", (False,)),
    ("pending", (False,)),
    ("direct", (False,)),
    ("fails", (None,)),
)
"""Values of a field, the plainest first."""


def _frame(scenario: Scenario) -> Iterator[Edit]:
    if scenario.price != Constant():
        yield {"price": Constant()}
    for name in Terms.model_fields:
        plain = getattr(Terms(), name)
        if getattr(scenario.terms, name) != plain:
            yield {"terms": scenario.terms.model_copy(update={name: plain})}


def _renamed(scenario: Scenario) -> Edit:
    """Runs and bookings are numbered."""
    names: dict[str, str] = {}
    for kind, field, what in ((CreateRun, "run", "run"), (Book, "booking", "booking")):
        made = [getattr(action, field) for action in scenario.actions if isinstance(action, kind)]
        names |= {label: f"{what}{number}" for number, label in enumerate(made, start=1)}
    actions = []
    for action in scenario.actions:
        edit: Edit = {field: names[getattr(action, field)] for field in ("run", "booking") if hasattr(action, field)}
        if isinstance(action, Complete):
            edit["attended"] = tuple(names[label] for label in action.attended)
        actions.append(action.model_copy(update=edit))
    return {"actions": tuple(actions)}


def _changed(scenario: Scenario, index: int, **fields: Any) -> Edit:
    action = scenario.actions[index].model_copy(update=fields)
    return {"actions": (*scenario.actions[:index], action, *scenario.actions[index + 1 :])}

"""Stateful search with Hypothesis: a rule-based machine whose rules are the moves of `stakesim.generate.moves`.

Hypothesis chooses rules, times, people and amounts; every step goes through the services, the model and all invariants.
What fails is shrunk by `stakesim.search.shrink`, whose stories are scenarios.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from stakesim.generate.moves import MOVES, Move, next_action_time
from stakesim.runner.environment import Environment
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.scenario_run import ScenarioRun
from stakesim.scenario.actions import Action, Actor, Reentry, Terms, Wait
from stakesim.scenario.scenario import Scenario
from stakesim.schema.fields import UNITS
from stakesim.search.shrink import shrink

T = TypeVar("T")

CAST = {
    "host": Actor(),
    "guest": Actor(),
    "payer": Actor(pays="self"),
    "walletless": Actor(wallet="none"),
    "refuser": Actor(receiver="refuses"),
    "burner": Actor(receiver="burns_gas"),
    "flooder": Actor(receiver="floods"),
    "reenterer": Actor(receiver="reenters", reenter=Reentry(call="cancelEvent")),
    "outsider": Actor(pays="self"),
}
TERMS = (
    Terms(),
    Terms(forfeit_to_host_bps=5_000),
    Terms(stake_bps=3_333, fee_bps=333, forfeit_to_host_bps=3_333, cancellation_cutoff=0, completion_grace=UNITS["h"]),
    Terms(stake_bps=0, fee_bps=0),
)


class _Failed(Exception):
    """Something that must hold does not."""


class _Drawn:
    """Choices that Hypothesis makes."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def integer(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))

    def choice(self, items: Sequence[T]) -> T:
        return self._data.draw(st.sampled_from(items))


class _Machine(RuleBasedStateMachine):
    """environment: to play in. failed: the last one that did, with all its actions."""

    environment: Environment
    failed: list[ScenarioResult]

    def __init__(self) -> None:
        super().__init__()
        self._actions: list[Action] = []

    @initialize(terms=st.sampled_from(TERMS))
    def begin(self, terms: Terms) -> None:
        self._scenario = Scenario(
            name="search", story="Found by stateful search.", terms=terms, strict=False, actors=CAST, actions=()
        )
        self._run = ScenarioRun(self.environment, self._scenario)

    def move(self, move: Move, data: st.DataObject) -> None:
        chance, state = _Drawn(data), self._run.model
        at = next_action_time(chance, state)
        seen = replace(state, now=state.epoch + at)
        if move.possible(seen):  # it was before the time passed
            self._act(move.make(chance, seen).model_copy(update={"at": at}))

    def teardown(self) -> None:
        if self._actions and not self._run.result.findings:
            self._act(Wait(at=(self._actions[-1].at or 0) + 60), last=True)

    def _act(self, action: Action, last: bool = False) -> None:
        self._actions.append(action)
        if self._run.act(action.at or 0, action, last=last):
            return
        played = self._run.result
        played.scenario = self._scenario.model_copy(update={"actions": tuple(self._actions)})
        self.failed.append(played)
        raise _Failed(played.findings[0].message)


def _rule(move: Move) -> Callable[..., None]:
    def step(self: _Machine, data: st.DataObject) -> None:
        self.move(move, data)

    step.__name__ = move.name
    return precondition(lambda self: move.possible(self._run.model))(rule(data=st.data())(step))


def search(
    environment: Environment, examples: int, steps: int, number: int = 0, hostile: bool = True
) -> ScenarioResult | None:
    """So many examples of so many steps each; the shortest story of the first failure, or None.

    number: the seed; the same one searches the same way. hostile: also what the rules forbid.
    Raises `EngineError` when the engine can't do what is needed.
    """
    moves = [move for move in MOVES if hostile or not move.hostile]
    rules: dict[str, Any] = {f"{m.name}_{copy}": _rule(m) for m in moves for copy in range(m.weight)}
    failed: list[ScenarioResult] = []
    machine = seed(number)(type("Machine", (_Machine,), {**rules, "environment": environment, "failed": failed}))
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    try:
        run_state_machine_as_test(machine, settings=chosen)
    except _Failed:
        return shrink(environment, failed[-1])
    return None

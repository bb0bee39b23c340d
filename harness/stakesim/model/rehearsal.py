"""A scenario played by the reference model alone: what it comes to by the rules, before any chain is asked."""

from collections.abc import Iterator
from dataclasses import dataclass

from stakesim.model.reference import ExpectedOutcome, State, apply, initial_state
from stakesim.scenario.actions import Action
from stakesim.scenario.scenario import Scenario


@dataclass(frozen=True, slots=True)
class RehearsedStep:
    """One action, what it came to, and the state after it. at: seconds from the scenario's start."""

    at: int
    action: Action
    outcome: ExpectedOutcome
    state: State


def rehearse(scenario: Scenario, epoch: int = 0) -> list[RehearsedStep]:
    """Every action in its order. epoch: time of the scenario's second 0, in seconds since 1970."""
    state = initial_state(scenario.terms, scenario.actors, epoch)
    rate_at = scenario.rate_path()
    steps = []
    for at, action in scenario.timeline():
        state, outcome = apply(state, action, epoch + at, rate_at(at))
        steps.append(RehearsedStep(at, action, outcome, state))
    return steps


def disagreements(scenario: Scenario) -> Iterator[str]:
    """Where the scenario's own expectations (`fails`, `strict`, `received`) are not what the rules say."""
    steps = rehearse(scenario)
    for index, step in enumerate(steps):
        happened = step.outcome.error or step.outcome.status
        expected = step.action.fails or ("ok" if scenario.strict else happened)
        if happened != expected:
            where = f"{scenario.name}, actions[{index}] ({step.action.do})"
            yield f"{where}: expected {expected}, the model says {happened}"
    for name, wei in scenario.received.items():
        got = steps[-1].state.received.get(name, 0) if steps else 0
        if got != wei:
            yield f"{scenario.name}, received.{name}: expected {wei} wei, the model says {got}"

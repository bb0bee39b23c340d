"""A scenario carried out by the reference model alone, without a chain."""

from collections.abc import Iterator
from dataclasses import dataclass

from stakesim.model.reference import apply
from stakesim.model.state import ExpectedOutcome, State, initial_state
from stakesim.scenario.actions import Action
from stakesim.scenario.scenario import Scenario
from stakesim.schema.errors import FieldPath


@dataclass(frozen=True, slots=True)
class RehearsedStep:
    """One action of a rehearsed scenario.

    Attributes:
        at: Seconds from the scenario's start.
        action: The action.
        outcome: The outcome that it must have.
        state: The state after it.
    """

    at: int
    action: Action
    outcome: ExpectedOutcome
    state: State


def rehearse(scenario: Scenario, epoch: int = 0, *, takes_payments: bool = True) -> list[RehearsedStep]:
    """Carries out every action of a scenario in the model.

    Args:
        scenario: The scenario.
        epoch: Time of the scenario's second 0, in seconds since 1970.
        takes_payments: Whether people pay INR for what the platform sends.
    """
    state = initial_state(scenario.terms, scenario.actors, epoch, takes_payments=takes_payments)
    rate_at = scenario.rate_path()
    steps = []
    for at, action in scenario.timeline():
        state, outcome = apply(state, action, epoch + at, rate_at(at))
        steps.append(RehearsedStep(at, action, outcome, state))
    return steps


def disagreements(scenario: Scenario) -> Iterator[tuple[FieldPath, str]]:
    """Each expectation of the scenario (`fails`, `strict`, `received`) that the rules contradict.

    Yields:
        The field, and what it expects and the model says.
    """
    steps = rehearse(scenario)
    for index, step in enumerate(steps):
        actual = step.outcome.error or step.outcome.status
        expected = step.action.fails or ("ok" if scenario.strict else actual)
        if actual != expected:
            path = ("actions", index, "fails") if step.action.fails else ("actions", index)
            yield path, f"{step.action.do}: expected {expected}, the model says {actual}"
    for name, expected_wei in scenario.received.items():
        wei = steps[-1].state.received.get(name, 0) if steps else 0
        if wei != expected_wei:
            yield ("received", name), f"expected {expected_wei} wei, the model says {wei}"

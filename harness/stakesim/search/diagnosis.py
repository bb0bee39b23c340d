"""What both diagnoses share: a failure without what it does not need, under its name, shrunk if the name is new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from stakesim.runner.environment import Environment
from stakesim.runner.findings import Finding
from stakesim.runner.known_faults import Name
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import Scenario
from stakesim.search.shrink import shrink

OWN_EXPECTATION = "EXPECTATION"
"""Id of a finding that says that the scenario itself is mistaken. Nobody else can be blamed for it."""


Classifier = Callable[[ScenarioResult], Name]
"""Names the fault or weakness that a failure shows."""


def simplify(
    environment: Environment, result: ScenarioResult, changes: Sequence[Callable[[Scenario], Scenario]]
) -> ScenarioResult:
    """Leaves out of a failing scenario what the same failure does not need.

    Args:
        environment: What it is run in.
        result: The failure.
        changes: Each returns the scenario without something. They are tried in this order.

    Returns:
        The last failure of the same kind.
    """
    result = _rerun(environment, result, _until_failure(result))
    for change in (_without_expectations, *changes):
        simpler = change(result.scenario)
        if simpler != result.scenario:
            result = _rerun(environment, result, simpler)
    return result


def _rerun(environment: Environment, result: ScenarioResult, simpler: Scenario) -> ScenarioResult:
    """The result of the simpler scenario, if it has the same failure."""
    rerun = run_scenario(environment, simpler)
    return rerun if rerun.findings and rerun.kind == result.kind else result


def label(
    environment: Environment,
    result: ScenarioResult,
    classify: Classifier,
    known: set[Name],
    *,
    shrinks: bool,
) -> ScenarioResult:
    """Labels a failure's findings with the name of what is wrong, and shrinks it if the name is new.

    Args:
        environment: What it is run in.
        result: The failure.
        classify: Names it.
        known: Names of failures that were shrunk already; the new name is added.
        shrinks: Whether it is to be shrunk.

    Returns:
        The failure; unchanged if it has no name.
    """
    name = classify(result)
    if not name.text:
        return result
    if name not in known:
        known.add(name)
        if shrinks:
            result = shrink(environment, result, name=classify)
    result.findings = [replace(finding, weakness=name.text, place=name.place) for finding in result.findings]
    return result


def shortest_findings(results: Sequence[ScenarioResult]) -> list[Finding]:
    """Findings of a campaign: for each name, those of the shortest scenario that has it; and all without a name."""
    shortest: dict[Name | int, ScenarioResult] = {}
    for number, result in enumerate(results):
        if not result.findings:
            continue
        first = result.findings[0]
        name = Name(first.weakness, first.place) if first.weakness else number
        if name not in shortest or len(result.scenario.actions) < len(shortest[name].scenario.actions):
            shortest[name] = result
    return [finding for result in shortest.values() for finding in result.findings]


def _until_failure(failure: ScenarioResult) -> Scenario:
    """Ends at the failing action: as the last one, after it the whole contract is read, and every exit is tried."""
    actions = failure.scenario.actions[: failure.findings[0].step]
    return failure.scenario.model_copy(update={"actions": actions})


def _without_expectations(scenario: Scenario) -> Scenario:
    """Expects nothing of its own, as that would no longer fit what else is left out."""
    actions = tuple(action.model_copy(update={"fails": None}) for action in scenario.actions)
    return scenario.model_copy(update={"actions": actions, "strict": False, "received": {}})

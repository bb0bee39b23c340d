"""What both diagnoses share: a failure without what it does not need, under its name, shrunk if the name is new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from stakesim.runner.environment import Environment
from stakesim.runner.findings import Finding
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import Scenario
from stakesim.search.shrink import shrink

Classifier = Callable[[ScenarioResult], str]
"""Names the fault or weakness that a failure shows; empty where it has no name."""


def simplify(
    environment: Environment, result: ScenarioResult, changes: Sequence[Callable[[Scenario], Scenario]]
) -> ScenarioResult:
    """Leaves out of a failing scenario what it fails without.

    Args:
        environment: What it is run in.
        result: The failure.
        changes: Each returns the scenario without something. They are tried in this order.

    Returns:
        The last failure.
    """
    for change in changes:
        simpler = change(result.scenario)
        if simpler != result.scenario and (rerun := run_scenario(environment, simpler)).findings:
            result = rerun
    return result


def label(
    environment: Environment,
    result: ScenarioResult,
    classify: Classifier,
    known: set[str],
    *,
    shrunk_mark: str,
) -> ScenarioResult:
    """Labels a failure's findings with the name of what is wrong, and shrinks it if the name is new.

    Args:
        environment: What it is run in.
        result: The failure.
        classify: Names it.
        known: Names of failures that were shrunk already; the new name is added.
        shrunk_mark: Key in a scenario's `origin` that says that it is as short as it can be.

    Returns:
        The failure; unchanged if it has no name.
    """
    name = classify(result)
    if not name:
        return result
    if name not in known:
        known.add(name)
        if shrunk_mark not in (result.scenario.origin or {}):
            result = shrink(environment, result, key=classify)
    result.findings = [replace(finding, weakness=name) for finding in result.findings]
    return result


def shortest_findings(results: Sequence[ScenarioResult]) -> list[Finding]:
    """Findings of a campaign: for each name, those of the shortest scenario that has it; and all without a name."""
    shortest: dict[str, ScenarioResult] = {}
    for number, result in enumerate(results):
        if not result.findings:
            continue
        name = result.findings[0].weakness or str(number)
        if name not in shortest or len(result.scenario.actions) < len(shortest[name].scenario.actions):
            shortest[name] = result
    return [finding for result in shortest.values() for finding in result.findings]

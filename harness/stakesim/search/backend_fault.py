"""What is wrong with a backend, in words: the faults that backends are known to have.

The scenarios in `scenarios/backend` provoke them. A failure is called by one of these names only if it does not come
about when the disturbance is left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stakesim.runner.drivers import CONTRACT
from stakesim.runner.environment import Environment
from stakesim.runner.fault_names import DONE_TWICE, FALSE_FAILURE, GUESSED_ID, INEXACT_WEI, NONCE_TWICE, TOO_SOON
from stakesim.runner.invariants import INEXACT
from stakesim.runner.scenario_run import Played, run_scenario
from stakesim.scenario.actions import PLATFORM, Action, Book, CreateRun
from stakesim.scenario.scenario import Scenario
from stakesim.search.shrink import shrunk

_DISTURBANCES: tuple[dict[str, Any], ...] = ({"retried": False}, {"answer_lost": False}, {"pending": False})


def fault(played: Played) -> str:
    """Name of the fault that a failure shows; empty where it is none of those known."""
    first = played.findings[0]
    if played.driver == CONTRACT or first.step < 1:
        return ""
    actions = played.scenario.actions[: first.step]
    last, before = actions[-1], actions[-2] if len(actions) > 1 else None
    said = " ".join(finding.message for finding in played.findings)
    if getattr(last, "answer_lost", False):
        return FALSE_FAILURE
    if getattr(last, "retried", False):
        return DONE_TWICE
    if before is not None and getattr(before, "pending", False):
        return _overtaken(played, before, last, said)
    if isinstance(last, CreateRun | Book) and not last.direct and INEXACT in said:
        return INEXACT_WEI
    return ""


def _overtaken(played: Played, before: Action, last: Action, said: str) -> str:
    if "must succeed and was" in said:
        alike = getattr(before, "by", None) == _signer(played.scenario, last)
        return NONCE_TWICE if alike else ""
    came_to = [row.outcome for row in played.rows if row.step == played.findings[0].step and row.action == last.do]
    if "reverted" in came_to or "must fail with" in said:
        return TOO_SOON
    return GUESSED_ID if "database" in said else ""


def _signer(scenario: Scenario, action: Action) -> str:
    """Whose key signs an action through the backend."""
    by = getattr(action, "by", None)
    if by is None:
        kind, label = (Book, "booking") if hasattr(action, "booking") else (CreateRun, "run")
        made = {getattr(a, label): a.by for a in scenario.actions if isinstance(a, kind)}
        by = made.get(getattr(action, label, ""), PLATFORM)
    return by if by != PLATFORM and scenario.actors[by].pays == "self" else PLATFORM


def tell_fault(environment: Environment, played: Played, known: set[str]) -> Played:
    """The failure under the name of its fault, if it has one of those known; of one that was not known yet, the
    shortest story. Else the failure, without the disturbances that it does not need."""
    for plain in _DISTURBANCES:
        candidate = _without(played.scenario, plain)
        if candidate != played.scenario and (again := run_scenario(environment, candidate)).findings:
            played = again  # it was not for these
    name = fault(played)
    if not name:
        return played
    if name not in known:
        known.add(name)
        if "shrunk_from" not in (played.scenario.origin or {}):
            played = shrunk(environment, played, same=fault)
    played.findings = [replace(finding, weakness=name) for finding in played.findings]
    return played


def _without(scenario: Scenario, plain: dict[str, Any]) -> Scenario:
    actions = tuple(
        action.model_copy(update={field: value for field, value in plain.items() if hasattr(action, field)})
        for action in scenario.actions
    )
    return scenario if actions == scenario.actions else scenario.model_copy(update={"actions": actions})

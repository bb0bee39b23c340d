"""Names the fault that a failure of a backend shows.

The scenarios in `scenarios/backend` disturb clients and network to provoke the known faults. A failure is named after a
disturbance only if it does not happen without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from stakesim.runner.causes import Cause
from stakesim.runner.drivers import CONTRACT
from stakesim.runner.environment import Environment
from stakesim.runner.known_faults import BackendFault, Name
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.scenario.actions import PLATFORM, Action, Book, CreateRun
from stakesim.scenario.scenario import Scenario
from stakesim.search.diagnosis import OWN_EXPECTATION, label, simplify

_DISTURBANCES = ("retried", "answer_lost", "pending")
"""Options of actions."""


def diagnose_backend(environment: Environment, result: ScenarioResult, known: set[Name]) -> ScenarioResult:
    """Leaves out the disturbances that a failure does not need, names its fault, and shrinks it if the name is new.

    Args:
        environment: What it is run in.
        result: The failure.
        known: Names of failures that were shrunk already; the new name is added.
    """
    if result.findings[0].id == OWN_EXPECTATION:
        return result
    changes = [partial(_without_disturbance, option=option) for option in _DISTURBANCES]
    result = simplify(environment, result, changes)
    shrinks = "shrunk_from" not in (result.scenario.origin or {})
    return label(environment, result, lambda failure: Name(classify(failure)), known, shrinks=shrinks)


def classify(result: ScenarioResult) -> str:
    """The `BackendFault` that a failure shows; empty where it is none of them."""
    step = result.findings[0].step
    if result.driver == CONTRACT or step < 1:
        return ""
    *_, previous, last = (None, *result.scenario.actions[:step])
    assert last is not None
    if getattr(last, "answer_lost", False):
        return BackendFault.FALSE_FAILURE
    if getattr(last, "retried", False):
        return BackendFault.DONE_TWICE
    if previous is not None and getattr(previous, "pending", False):
        return _fault_with_pending(result, previous, last)
    causes = {finding.cause for finding in result.findings}
    if isinstance(last, CreateRun | Book) and not last.direct and Cause.INEXACT_PRICE in causes:
        return BackendFault.INEXACT_WEI
    return ""


def _fault_with_pending(result: ScenarioResult, pending: Action, last: Action) -> str:
    """The fault shown while another transaction was pending."""
    causes = {finding.cause for finding in result.findings}
    if Cause.REFUSED in causes:
        same_sender = getattr(pending, "by", None) == _signer(result.scenario, last)
        return BackendFault.REUSED_NONCE if same_sender else ""
    step = result.findings[0].step
    reverted = any(row.outcome == "reverted" for row in result.rows if row.step == step and row.action == last.do)
    if reverted or causes & {Cause.WRONG_REFUSAL, Cause.NOT_REFUSED}:
        return BackendFault.EARLY_STATUS
    return BackendFault.GUESSED_ID if Cause.DATABASE_DIFFERS in causes else ""


def _signer(scenario: Scenario, action: Action) -> str:
    """Name of the actor whose key signs an action through the backend."""
    actor = getattr(action, "by", None) or _creator(scenario.actions, action)
    return actor if actor != PLATFORM and scenario.actors[actor].pays == "self" else PLATFORM


def _creator(actions: Sequence[Action], action: Action) -> str:
    """Who made the booking, or else the run, that the action is about."""
    if (booking := getattr(action, "booking", None)) is not None:
        return next((a.by for a in actions if isinstance(a, Book) and a.booking == booking), PLATFORM)
    run = getattr(action, "run", None)
    return next((a.by for a in actions if isinstance(a, CreateRun) and a.run == run), PLATFORM)


def _without_disturbance(scenario: Scenario, option: str) -> Scenario:
    actions = tuple(
        action.model_copy(update={option: False}) if hasattr(action, option) else action for action in scenario.actions
    )
    return scenario if actions == scenario.actions else scenario.model_copy(update={"actions": actions})

"""Makes findings of what goes wrong in a scenario."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from stakesim.errors import place_of
from stakesim.evm.errors import AbiError, CallReverted, CannotPay, MistakenCall
from stakesim.model.state import ExpectedOutcome
from stakesim.runner.findings import Finding
from stakesim.runner.invariants import INVARIANTS, Invariant, Violation, violations
from stakesim.runner.ledger import received
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.step import Step
from stakesim.scenario.actions import Action
from stakesim.scenario.scenario import Scenario
from stakesim.workers.time_limit import NeverEnds

_EXPECTATION = ("EXPECTATION", "the scenario's own expectations are met")
_CRASH = ("CRASH", "whatever fails, fails with a typed error")
_HANG = ("HANG", "every operation ends")


def step_findings(result: ScenarioResult, step: Step, number: int, rate: Decimal) -> Iterator[Finding]:
    """Evaluates all invariants, and what the scenario itself expects, after a step.

    Args:
        result: Result of the scenario so far.
        step: The step.
        number: Number of the step, from 1.
        rate: INR per ETH.
    """
    at_stake = max(step.before.balance, step.after.balance)
    for invariant, violation in violations(step):
        yield result.finding(*_statement(invariant), violation, step=number, rate=rate, at_stake=at_stake)
    if unmet := _unmet_expectation(step.action, step.expected, result.scenario):
        yield result.finding(*_EXPECTATION, Violation(unmet), step=number, rate=rate, at_stake=at_stake)


def receipt_findings(result: ScenarioResult) -> Iterator[Finding]:
    """Compares the scenario's `received` with the payouts in the ledger."""
    paid_out = received(result.rows)
    for actor, wei in (result.scenario.received or {}).items():
        if paid_out[actor] != wei:
            violation = Violation(f"{actor} received another amount over the whole scenario", wei, paid_out[actor])
            yield result.finding(*_EXPECTATION, violation, step=result.steps)


def exception_finding(result: ScenarioResult, error: BaseException, number: int, rate: Decimal) -> Finding:
    """Makes a finding of an exception in a step.

    Args:
        result: Of the scenario.
        error: `MistakenCall` and `CannotPay` are the scenario file's mistakes, `CallReverted` and `AbiError` are views
            that the contract does not answer, `NeverEnds` is an action that takes too long; anything else is a crash of
            the system under test.
        number: Number of the step, from 1.
        rate: INR per ETH.
    """
    if isinstance(error, MistakenCall):
        return result.finding(*_EXPECTATION, Violation(f"the scenario calls what is not there: {error}"), step=number)
    if isinstance(error, CannotPay):
        return result.finding(*_EXPECTATION, Violation(str(error)), step=number)
    if isinstance(error, CallReverted | AbiError):
        violation = Violation(f"the contract does not say what it holds, a view fails: {error}")
        return result.finding(*_statement(INVARIANTS["INV-16"]), violation, step=number, rate=rate)
    if isinstance(error, NeverEnds):
        return result.finding(*_HANG, Violation(f"the action never ends: {error}"), step=number, rate=rate)
    kind, place = type(error).__name__, place_of(error)
    violation = Violation(f"{kind}: {error}{place}", about=f"{kind}{place}")
    return result.finding(*_CRASH, violation, step=number, rate=rate)


def not_run_finding(scenario: Scenario) -> Finding:
    """Makes a finding of a scenario that can't be run, as something in its environment never ended."""
    return Finding(*_HANG, "it is not run: an action of an earlier scenario in this environment never ended", scenario)


def _statement(invariant: Invariant) -> tuple[str, str]:
    return invariant.id, f"{invariant.title}: {invariant.statement}"


def _unmet_expectation(action: Action, expected: ExpectedOutcome, scenario: Scenario) -> str | None:
    """Says where the scenario expects another outcome than the model."""
    outcome = expected.error or expected.status
    if action.fails and outcome != action.fails:
        return f"the scenario says this fails with {action.fails}; by the rules it is {outcome}"
    if scenario.strict and not action.fails and expected.status != "ok":
        return f"the scenario says nothing of a failure here; by the rules it is {outcome} (add `fails: {outcome}`)"
    return None

"""Runs a scenario: start reading at `run_scenario`.

The system under test and the reference model carry out each action. Then all invariants are evaluated, on what
chain, database, events and model say.
"""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal

from stakesim.evm.errors import CannotPay, EngineError
from stakesim.model.rates import current_rate
from stakesim.model.state import State, initial_state
from stakesim.runner.environment import Environment
from stakesim.runner.legacy_interface import adapt_action, adapt_scenario
from stakesim.runner.observer import Observer, TimedAction
from stakesim.runner.scenario_result import CHECKED_AT_END, ScenarioResult
from stakesim.runner.session import EPOCH
from stakesim.runner.step import Step
from stakesim.runner.step_findings import exception_finding, not_run_finding, receipt_findings, step_findings
from stakesim.scenario.actions import Action, Wait
from stakesim.scenario.administration import Administration
from stakesim.scenario.scenario import Scenario
from stakesim.workers.rare_collection import rare_collection
from stakesim.workers.time_limit import NeverEnds, time_limit

ACTION_LIMIT_S = 120
"""Seconds within which an action ends; no engine takes a tenth of that for the largest one."""
PRICE_SWING = Decimal("1.10")
"""A price has swung when the highest rate in a scenario is at least this many times the lowest."""


def run_scenario(environment: Environment, scenario: Scenario, number: int = 0) -> ScenarioResult:
    """Runs a scenario to its end, or to the first step with a finding.

    Args:
        environment: Engine, contract and driver.
        scenario: Actors, terms, prices and actions.
        number: Number of the scenario within its campaign, for the ledger.

    Returns:
        Ledger, counts and findings. It has no findings if everything that must hold held. An action that never ends is
        a finding; `environment.hangs` is true from then on, and all later scenarios in it fail at once.

    Raises:
        EngineError: The engine can't do what the scenario needs.
        BackendError: The backend can't start the scenario.
    """
    began = time.perf_counter()
    if environment.hangs:
        return ScenarioResult(scenario, environment.engine.name, environment.driver, [not_run_finding(scenario)])
    with rare_collection():
        run = ScenarioRun(environment, scenario, number)
        timeline = run.result.scenario.timeline()
        for index, (at, action) in enumerate(timeline, start=1):
            if not run.act(at, action, last=index == len(timeline)):
                break
        else:
            run.result.findings += receipt_findings(run.result)
        run.end()
    run.result.seconds = time.perf_counter() - began
    return run.result


class ScenarioRun:
    """A scenario while it is run. Ignores `scenario.actions`: the caller passes actions to `act`.

    Attributes:
        result: Ledger, counts and findings so far.
        last_step: The last step that was carried out; None before the first.
    """

    def __init__(self, environment: Environment, scenario: Scenario, number: int = 0) -> None:
        """Prepares chain, backend and model; see `run_scenario`."""
        contract = environment.contract
        scenario, unsupported = adapt_scenario(scenario, contract)
        session = environment.prepare(scenario)
        self.result = ScenarioResult(scenario, environment.engine.name, environment.driver)
        self.result.reached.update(f"not supported: {name}" for name in unsupported)
        self._number, self._market_rate_at = number, scenario.rate_path()
        model = initial_state(
            scenario.terms,
            scenario.actors,
            EPOCH,
            full_interface=contract.full_interface,
            takes_payments=session.driver.takes_payments,
            max_seats=contract.traits.max_seats,
            pays_by_credit=contract.traits.pays_by_credit,
            fees_by_credit=contract.traits.fees_by_credit,
        )
        self._observer = Observer(session, model, has_gas_budgets=not environment.foreign)
        self._driver, self._has_roles = session.driver, contract.has_roles
        self._adapted_actions: list[Action] = []
        self._pending: TimedAction | None = None
        self._rates: list[Decimal] = []
        self.last_step: Step | None = None

    @property
    def model(self) -> State:
        """State of the model after the last action."""
        return self._observer.model

    def act(self, at: int, action: Action, *, last: bool = False) -> bool:
        """Carries out an action. A `pending` one waits until the next action, and is carried out together with it.

        Args:
            at: Time of its block, in seconds from the scenario's start.
            action: The action.
            last: It is the last action: the whole contract is read, and every exit is tried.

        Returns:
            Whether there is no finding so far.

        Raises:
            EngineError: The engine can't do what the action needs.
        """
        timed = TimedAction(self._supported(at, action), EPOCH + at, self._market_rate_at(at))
        pending, self._pending = self._pending, None
        if pending is not None and not self._driver.uses_backend(timed.action):  # nothing to send meanwhile
            if not self._carry_out(pending, last=False):
                return False
            pending = None
        if pending is None and not last and self._observer.can_stay_pending(timed.action):
            self._pending = timed
            return True
        return self._carry_out(timed, last=last, pending=pending)

    def end(self) -> None:
        """Completes the result: replaces the scenario's actions by the adapted ones, and counts a price swing."""
        if self._adapted_actions:
            scenario = self.result.scenario.model_copy(update={"actions": tuple(self._adapted_actions)})
            self.result.scenario = scenario
            self.result.findings = [replace(finding, scenario=scenario) for finding in self.result.findings]
        rates = [rate for rate in self._rates if rate.is_finite() and rate > 0]
        if rates and max(rates) >= PRICE_SWING * min(rates):
            self.result.reached["price swing"] += 1

    def _supported(self, at: int, action: Action) -> Action:
        """Adapts the action to contract and backend; replaces it by a `Wait` if they do not support it."""
        if not self.model.full_interface:
            adapted = adapt_action(action, self.model)
            if adapted is None:
                paid = " paid by another" if getattr(action, "paid_by", None) else ""
                self.result.reached[f"not supported: {action.do}{paid}"] += 1
                adapted = Wait()
            action = adapted.model_copy(update={"at": at})
            self._adapted_actions.append(action)
        if self._driver.is_unsupported(action) or (isinstance(action, Administration) and not self._has_roles):
            self.result.reached[f"not supported: {action.do}"] += 1
            action = Wait(at=at)
        if not self._driver.takes_payments and (payment := getattr(action, "payment", "in_time")) != "in_time":
            self.result.reached[f"not supported: {action.do} paid {payment}"] += 1
            action = Wait(at=at)
        return action

    def _carry_out(self, timed: TimedAction, *, last: bool, pending: TimedAction | None = None) -> bool:
        """Carries out an action, and the pending one before it. Findings of both are reported at the later one."""
        step_number = self.result.steps + (1 if pending is None else 2)
        try:
            with time_limit(ACTION_LIMIT_S):
                if pending is None:
                    steps = [self._observer.step(timed, last=last)]
                else:
                    steps = self._observer.steps_with_pending(pending, timed, last=last)
            rates = [self._quoted_rate(step.model, timed) for step in steps]
            findings = [
                finding
                for step, rate in zip(steps, rates, strict=True)
                for finding in step_findings(self.result, step, step_number, rate)
            ]
        except EngineError:
            raise
        except CannotPay as error:
            if self.result.scenario.strict:
                rate = self._quoted_rate(self.model, timed)
                self.result.findings.append(exception_finding(self.result, error, step_number, rate))
                return False
            self.result.reached[f"not supported: {timed.action.do} of more wei than its sender has"] += 1
            return self._carry_out(timed._replace(action=Wait(at=timed.action.at)), last=last)
        except (Exception, SystemExit, NeverEnds) as error:  # noqa: BLE001 - whatever it is, it becomes a finding
            rate = self._quoted_rate(self.model, timed)
            self.result.findings.append(exception_finding(self.result, error, step_number, rate))
            return False
        for step, rate in zip(steps, rates, strict=True):
            self._rates.append(rate)
            self.result.record(step, self._number, rate)
        self.last_step = steps[-1]
        # those count only if nothing else is wrong, as a scenario cut short would otherwise fail in another way
        at_any_step = [finding for finding in findings if finding.id not in CHECKED_AT_END]
        self.result.findings += at_any_step or findings
        return self.result.ok

    @staticmethod
    def _quoted_rate(model: State, timed: TimedAction) -> Decimal:
        return current_rate(model, timed.market_rate).rate

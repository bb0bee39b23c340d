"""Plays a scenario: each action goes to the backend's services and to the reference model, and after each all
invariants are evaluated on what the chain, the database, the events and the model say.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from harness.runner.invariants import violations
from harness.runner.ledger import Row
from harness.runner.step import Observed, Step
from harness.runner.story import Finding
from harness.runner.world import EPOCH, World
from harness.scenario.actions import Action, SetPrice, Withdraw
from harness.scenario.model import Outcome, State, apply, initial, quoted
from harness.scenario.scenario import Scenario

SWING = Decimal("1.10")
"""A price has swung when the highest rate a scenario saw is at least this many times the lowest."""


@dataclass
class Played:
    """What came of one scenario. reached: how often each action, outcome, status and error occurred."""

    scenario: Scenario
    engine: str
    findings: list[Finding] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    transactions: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.findings


def play(world: World, scenario: Scenario, number: int = 0) -> Played:
    """Plays the scenario to its end, or to the first step after which something that must hold does not.

    number: of the scenario within its campaign, for the ledger.
    Raises `EngineError` when the engine can't do what the scenario needs.
    """
    began = time.perf_counter()
    played = Played(scenario, world.engine.name)
    world.stage(scenario)
    model = initial(scenario.terms, scenario.actors, EPOCH)
    rate_at = scenario.rate_path()
    timeline = scenario.timeline()
    rates: list[Decimal] = []
    for index, (at, action) in enumerate(timeline, start=1):
        market = rate_at(at)
        before = model
        model, expected = apply(model, action, EPOCH + at, market)
        rate, as_of = quoted(model, market)
        rates.append(rate)
        try:
            step = world.take(action, expected, before, model, rate, as_of, last=index == len(timeline))
        except Exception as crash:  # noqa: BLE001 - whatever the services raise unforeseen is a finding, with its story
            played.findings.append(_crash(played, index, rate, crash))
            break
        played.steps += 1
        played.transactions += len(step.sent)
        played.rows += _rows(step, number, scenario, index, rate)
        _count(played.reached, step)
        played.findings += _findings(step, played, index, rate)
        if played.findings:
            break
    else:
        played.findings += _unmet_receipts(played, model)
    usable = [rate for rate in rates if rate.is_finite() and rate > 0]
    if usable and max(usable) >= SWING * min(usable):
        played.reached["price swing"] += 1
    played.seconds = time.perf_counter() - began
    return played


def _findings(step: Step, played: Played, index: int, rate: Decimal) -> Iterator[Finding]:
    common: dict[str, Any] = {"scenario": played.scenario, "engine": played.engine, "step": index, "rate": rate}
    for invariant, v in violations(step):
        statement = f"{invariant.title}: {invariant.statement}"
        yield Finding(invariant.id, statement, v.message, expected=v.expected, found=v.found, **common)
    unmet = _unmet(step.action, step.expected, played.scenario)
    if unmet:
        yield Finding("EXPECTATION", "the scenario's own expectations are met", unmet, **common)


def _unmet(action: Action, expected: Outcome, scenario: Scenario) -> str | None:
    """Where the scenario expects something else than the model."""
    came_to = expected.error or expected.status
    if action.fails and came_to != action.fails:
        return f"the scenario says this fails with {action.fails}; by the rules it is {came_to}"
    if scenario.strict and not action.fails and expected.status != "ok":
        return f"the scenario says nothing of a failure here; by the rules it is {came_to} (add `fails: {came_to}`)"
    return None


def _unmet_receipts(played: Played, model: State) -> Iterator[Finding]:
    """The scenario's `received` against what the ledger saw paid out."""
    got: Counter[str] = Counter()
    for row in played.rows:
        if row.outcome != "withdrawn":  # it was received when it became a credit
            got[row.actor] += row.wei_out
    for actor, wei in (played.scenario.received or {}).items():
        if got[actor] != wei:
            yield Finding(
                "EXPECTATION",
                "the scenario's own expectations are met",
                f"{actor} received another amount over the whole scenario",
                scenario=played.scenario,
                engine=played.engine,
                step=played.steps,
                expected=wei,
                found=got[actor],
            )


def _crash(played: Played, index: int, rate: Decimal, crash: Exception) -> Finding:
    where = crash.__traceback__
    while where and where.tb_next:
        where = where.tb_next
    place = f" ({Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno})" if where else ""
    return Finding(
        "CRASH",
        "whatever fails, fails with a typed error",
        f"{type(crash).__name__}: {crash}{place}",
        scenario=played.scenario,
        engine=played.engine,
        step=index,
        rate=rate,
    )


def _rows(step: Step, number: int, scenario: Scenario, index: int, rate: Decimal) -> Iterator[Row]:
    sent = step.sent[-1] if step.sent else None
    action = Row(
        run=number,
        scenario=scenario.name,
        seed=scenario.seed,
        step=index,
        time=step.model.now,
        action=step.action.do,
        actor=step.expected.actor or "",
        outcome=step.observed.status,
        error=step.observed.error,
        wei_in=step.expected.paid_in if step.ok else 0,
        wei_out=0,
        gas=sum(s.gas_used for s in step.sent),
        rate=str(rate),
        tx_hash=sent.hash if sent else None,
    )
    yield action
    if not step.ok:
        return
    taken = "withdrawn" if isinstance(step.action, Withdraw) else "pushed"
    for party in step.after.wallets:
        into_wallet = step.wallet_gain(party) + (action.wei_in if party == step.expected.signer else 0)
        into_credit = step.after.credits[party] - step.before.credits[party]
        for wei, outcome in ((into_wallet, taken), (into_credit, "deferred")):
            if wei > 0:
                yield action._replace(action="payout", actor=party, outcome=outcome, wei_in=0, wei_out=wei, gas=0)


def _count(reached: Counter[str], step: Step) -> None:
    reached[f"action {step.action.do}"] += 1
    if not isinstance(step.action, SetPrice):
        reached[step.observed.status] += 1
    if step.observed.error:
        reached[f"error {step.observed.error}"] += 1
    for kind, event in _TELLING.items():
        reached[kind] += len(step.events(event))


_TELLING = {
    "runs": "EventRunCreated",
    "bookings": "BookingCreated",
    "came": "BookingCompleted",
    "no-shows": "BookingNoShow",
    "bookings cancelled": "BookingCancelled",
    "runs completed": "EventCompleted",
    "runs cancelled": "EventCancelled",
    "runs expired": "EventExpired",
    "payouts deferred": "PaymentDeferred",
}

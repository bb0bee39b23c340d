"""Runs a scenario: each action goes to the system under test and to the reference model, and after each all invariants
are evaluated on what the chain, the database, the events and the model say.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple, cast

from stakesim.errors import place_of
from stakesim.evm.client import TransactionReceipt
from stakesim.evm.errors import AbiError, CallReverted, EngineError, MistakenCall
from stakesim.evm.required_abi import stake_abi
from stakesim.model.reference import ExpectedOutcome, State, apply, current_rate, initial_state
from stakesim.paths import package_data
from stakesim.runner.environment import EPOCH, Environment, Session
from stakesim.runner.findings import Finding
from stakesim.runner.invariants import INVARIANTS, violations
from stakesim.runner.ledger import Row, received
from stakesim.runner.legacy_interface import adapted, adapted_action
from stakesim.runner.liveness import blocked_exits
from stakesim.runner.network import PendingTransaction
from stakesim.runner.observe import ContractState, EventReplay
from stakesim.runner.step import ActualOutcome, MinedTransaction, Step
from stakesim.scenario.actions import PLATFORM, Action, CancelRun, Complete, Expire, SetPrice, Wait, Withdraw
from stakesim.scenario.scenario import Scenario

SWING = Decimal("1.10")
"""A price has swung when the highest rate a scenario saw is at least this many times the lowest."""


@dataclass
class Played:
    """What came of one scenario. reached: how often each action, outcome, status and error occurred."""

    scenario: Scenario
    engine: str
    driver: str
    findings: list[Finding] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    transactions: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.findings


def run_scenario(environment: Environment, scenario: Scenario, number: int = 0) -> Played:
    """Runs the scenario to its end, or to the first step after which something that must hold does not.

    Args:
        number: Of the scenario within its campaign, for the ledger.

    Raises:
        EngineError: The engine can't do what the scenario needs.
    """
    began = time.perf_counter()
    run = ScenarioRun(environment, scenario, number)
    timeline = scenario.timeline()
    for index, (at, action) in enumerate(timeline, start=1):
        if not run.act(at, action, last=index == len(timeline)):
            break
    else:
        run.played.findings += _unmet_receipts(run.played)
    run.end()
    run.played.seconds = time.perf_counter() - began
    return run.played


class ScenarioRun:
    """A scenario while it is run. Ignores `scenario.actions`; the caller passes actions to `act`."""

    def __init__(self, environment: Environment, scenario: Scenario, number: int = 0) -> None:
        contract = environment.contract
        scenario, lacking = adapted(scenario, contract.full_interface, contract.takes_terms)
        session = environment.prepare(scenario)
        self.played = Played(scenario, environment.engine.name, environment.driver)
        self.played.reached.update(f"not supported: {what}" for what in lacking)
        self._number, self._rate_at = number, scenario.rate_path()
        model = initial_state(scenario.terms, scenario.actors, EPOCH, contract.full_interface)
        self._observer = Observer(session, model, has_gas_budgets=not environment.foreign)
        self._driver = session.driver
        self._done: list[Action] = []
        self._pending: Timed | None = None
        self._rates: list[Decimal] = []

    @property
    def model(self) -> State:
        """By the rules, after the last action."""
        return self._observer.model

    def act(self, at: int, action: Action, last: bool = False) -> bool:
        """Carries it out at this time, in seconds from the scenario's start; whether all that must hold holds.

        last: then everything is looked at, and every exit tried. A shut exit is told where nothing else is wrong, so
        that a failure is the same one wherever its scenario is cut.
        """
        played = self.played
        if not self.model.full_interface:
            possible = adapted_action(action, self.model)
            if possible is None:
                played.reached[f"not supported: {action.do}"] += 1
                possible = Wait()
            action = possible.model_copy(update={"at": at})
            self._done.append(action)
        if self._driver.lacks(action):
            played.reached[f"not supported: {action.do}"] += 1
            action = Wait(at=at)
        timed = Timed(action, EPOCH + at, self._rate_at(at))
        pending, self._pending = self._pending, None
        if pending is not None and not self._driver.asks_backend(action):
            if not self._carry_out(pending, False):
                return False
            pending = None
        if pending is None and not last and self._observer.can_wait(action):
            self._pending = timed
            return True
        return self._carry_out(timed, last, pending)

    def _carry_out(self, timed: Timed, last: bool, pending: Timed | None = None) -> bool:
        """pending: waits in the mempool meanwhile. What is found in its step is told of the step that it waited for."""
        played, number = self.played, self.played.steps + (1 if pending is None else 2)
        try:
            if pending is None:
                steps = [self._observer.step(timed, last)]
            else:
                steps = self._observer.overtaken(pending, timed, last)
            rates = [current_rate(step.model, timed.market)[0] for step in steps]
            found = [
                finding
                for step, rate in zip(steps, rates, strict=True)
                for finding in _findings(step, played, number, rate)
            ]
            found = [finding for finding in found if finding.id != "INV-11"] or found
        except EngineError:
            raise
        except MistakenCall as error:
            played.findings.append(_mistaken(played, number, error))
            return False
        except (CallReverted, AbiError) as error:
            played.findings.append(_mute(played, current_rate(self.model, timed.market)[0], number, error))
            return False
        except (Exception, SystemExit) as crash:  # noqa: BLE001 - a finding, whatever it is, told with its story
            played.findings.append(_crash(played, current_rate(self.model, timed.market)[0], number, crash))
            return False
        for step, rate in zip(steps, rates, strict=True):
            played.steps += 1
            self._rates.append(rate)
            played.transactions += len(step.sent)
            played.rows += _rows(step, self._number, played.scenario, played.steps, rate)
            _count(played.reached, step)
        played.findings += found
        return not played.findings

    def end(self) -> None:
        """Notes whether the price swung."""
        if self._done:
            played = self.played.scenario.model_copy(update={"actions": tuple(self._done)})
            self.played.scenario = played
            self.played.findings = [replace(finding, scenario=played) for finding in self.played.findings]
        usable = [rate for rate in self._rates if rate.is_finite() and rate > 0]
        if usable and max(usable) >= SWING * min(usable):
            self.played.reached["price swing"] += 1


class Timed(NamedTuple):
    """An action, the time of its block (seconds since 1970), and the market's rate at that time (INR per ETH)."""

    action: Action
    now: int
    market: Decimal


class Observer:
    """Carries actions out one by one, and sees for each what it did to model, chain, events and database."""

    def __init__(self, session: Session, model: State, has_gas_budgets: bool) -> None:
        self.session, self.model, self._has_gas_budgets = session, model, has_gas_budgets
        self._first = self._state = session.reader.read(None, (), (), (), list(session.parties.addresses))
        self._hostile = [name for name, actor in model.actors.items() if actor.is_contract]
        self._names = session.parties.names()
        self._replay = EventReplay()
        self._fees: Counter[str] = Counter()
        self._runs = self._bookings = 0

    def can_wait(self, action: Action) -> bool:
        """Whether its transaction waits in the mempool for the next action's."""
        return getattr(action, "pending", False) and self.session.network is not None

    def overtaken(self, pending: Timed, timed: Timed, last: bool) -> list[Step]:
        """Two actions, of which the first is mined when the second's transaction reaches the node. If the second sends
        nothing, the first is left out.

        Raises:
            Exception: Whatever was raised when the first was mined, in the middle of the backend's work.
        """
        network = self.session.network
        assert network is not None
        steps: list[Step] = []
        trouble: list[Exception] = []

        def carry_out(observed: ActualOutcome | None = None) -> None:
            try:
                step = self.step(pending, False, observed, looks_at_rows=False)
                steps.append(replace(step, books=deepcopy(step.books), fees=dict(step.fees)))  # both go on
                self._set_scene(self.model, timed, sends=True)
            except Exception as error:  # noqa: BLE001 - not the backend's to handle
                trouble.append(error)

        def replaced() -> None:
            carry_out(ActualOutcome("rejected", "Replaced", (), "another transaction took its nonce"))

        def settle() -> None:
            if trouble:
                raise trouble[0]
            if network.withdraw():
                nothing = pending._replace(action=Wait(at=pending.action.at))
                steps.append(self.step(nothing, False, looks_at_rows=False))

        _, expected = apply(self.model, *pending)
        if expected.status == "skipped":
            return [self.step(pending, False), self.step(timed, last)]
        account = self.session.parties.accounts[expected.actor or PLATFORM]
        network.hold(PendingTransaction(account.address, carry_out, replaced))
        step = self.step(timed, last, settle=settle)
        return [*steps, step]

    def _set_scene(self, model: State, timed: Timed, sends: bool) -> None:
        """Clock and price feed and, where something is to be sent, the time of the next block."""
        session = self.session
        rate, as_of = current_rate(model, timed.market)
        session.clock.now, session.price_feed.inr_per_eth, session.price_feed.as_of = timed.now, rate, as_of
        if sends:
            session.engine.set_next_timestamp(timed.now)

    def step(
        self,
        timed: Timed,
        last: bool,
        observed: ActualOutcome | None = None,
        settle: Callable[[], None] = lambda: None,
        looks_at_rows: bool = True,
    ) -> Step:
        """One action.

        Args:
            last: Then everything is looked at.
            observed: What it came to, where that is known; else it is carried out.
            settle: Called when it was carried out.
            looks_at_rows: False while the backend is at work.
        """
        session, action, now = self.session, timed.action, timed.now
        model_before = self.model
        model, expected = apply(model_before, *timed)
        if observed is None:
            self._set_scene(model, timed, sends=expected.signer is not None)
            observed = session.driver.perform(action, expected, model_before)
            settle()
            if self.model is not model_before:  # something else came before it
                model_before = self.model
                model, expected = apply(model_before, *timed)
        self.model, before = model, self._state
        if expected.optional and observed.status in ("rejected", "reverted"):
            self.model = replace(model_before, now=now)
            expected = ExpectedOutcome(
                "rejected", expected.actor, expected.signer, cast(Any, observed.error), observed.args
            )
        sent = [self._entered(receipt) for receipt in session.chain.take_receipts()]
        for index, one in enumerate(sent):
            sent[index] = one = one._replace(events=tuple(self._replay.enter(one.events)))
            self._fees[one.sender] += one.fee
            self._runs += sum(event.name == "EventRunCreated" for event in one.events)
            self._bookings += sum(event.name == "BookingCreated" for event in one.events)
        if sent and not last:
            self._state = self._look(action, expected)
        self._state = self._said(self._state)
        if last or (sent and not self._adds_up()):
            self._state = self._said(self._look_everywhere())
        return Step(
            action=action,
            expected=expected,
            observed=observed,
            sent=sent,
            model_before=model_before,
            model=self.model,
            first=self._first,
            before=before,
            after=self._state,
            books=self._replay,
            rows=session.driver.rows() if looks_at_rows else None,
            fees=self._fees,
            budget=_budget(action, before, model_before) if self._has_gas_budgets else None,
            blocked=blocked_exits(session, self._state) if last else (),
            own_errors=session.contract.own_errors,
        )

    def _said(self, picture: ContractState) -> ContractState:
        """With what a contract without views for it has to owe, by the rules."""
        if self.model.full_interface:
            return picture
        credits = {party: self.model.credits.get(party, 0) for party in picture.credits}
        return replace(picture, platform_balance=self.model.platform_balance, credits=credits)

    def _look_everywhere(self) -> ContractState:
        runs, bookings = range(1, self._runs + 1), range(1, self._bookings + 1)
        parties = list(self.session.parties.addresses)
        return self.session.reader.read(self._state, runs, bookings, parties, parties)

    def _adds_up(self) -> bool:
        """Whether the wallets last seen and the contract explain where all wei are, and the contract what it owes. A
        wei that went where nobody looked shows here."""
        now, first = self._state, self._first
        explained = now.into_wallets(first, self._fees) + now.balance == first.balance
        return explained and now.balance == now.owed + self.model.forced

    def _look(self, action: Action, expected: ExpectedOutcome) -> ContractState:
        """At what the action is about: its run, its booking, or all bookings of the run it closes, and the wallets of
        those concerned."""
        known = self._state
        new_runs = [id for id in range(1, self._runs + 1) if id not in known.runs]
        new_bookings = [id for id in range(1, self._bookings + 1) if id not in known.bookings]
        booking = self.model.bookings.get(getattr(action, "booking", ""))
        run = self.model.runs.get(booking.run if booking else getattr(action, "run", ""))
        runs_seen = {*new_runs, *([run.id] if run and run.id <= self._runs else [])}
        about = [booking.id] if booking and booking.id <= self._bookings else []
        if run and isinstance(action, Complete | CancelRun | Expire):
            about = [b.id for b in known.bookings_of(run.id)]
        seen = sorted({*new_bookings, *about})
        wallets = {
            PLATFORM,
            expected.signer or PLATFORM,
            *(known.bookings[id].user for id in about if id in known.bookings),
        }
        wallets |= {run.host} if run else set()
        wallets |= {payout.to for payout in expected.payouts}
        wallets &= self.session.parties.addresses.keys()
        return self.session.reader.read(known, sorted(runs_seen), seen, self._hostile, sorted(wallets), lists=False)

    def _entered(self, receipt: TransactionReceipt) -> MinedTransaction:
        """A receipt, with accounts called by their party."""
        events = (
            event._replace(args={k: self._names.get(v, v) if isinstance(v, str) else v for k, v in event.args.items()})
            for event in stake_abi().events(receipt.logs, self.session.contract_address)
        )
        return MinedTransaction(
            hash=receipt.hash,
            sender=self._names.get(receipt.sender, receipt.sender),
            ok=receipt.ok,
            gas_used=receipt.gas_used,
            fee=receipt.gas_used * receipt.gas_price,
            events=tuple(events),
        )


@cache
def _budgets() -> dict[str, dict[str, int]]:
    budgets: dict[str, dict[str, int]] = json.loads(package_data("gas_budget.json").read_text())["actions"]
    return budgets


def _budget(action: Action, before: ContractState, model: State) -> int | None:
    """Gas that the action may use; None for one that a hostile contract makes, whose own gas is in it."""
    budget = _budgets().get(action.do)
    if budget is None or getattr(action, "direct", False) or isinstance(action, Withdraw):
        return None
    run = model.runs.get(getattr(action, "run", ""))
    return budget["base"] + budget["each"] * (len(before.active_bookings_of(run.id)) if run else 0)


def _findings(step: Step, played: Played, index: int, rate: Decimal) -> Iterator[Finding]:
    at_stake = max(step.before.balance, step.after.balance)
    common: dict[str, Any] = {
        "scenario": played.scenario,
        "engine": played.engine,
        "driver": played.driver,
        "step": index,
        "rate": rate,
        "at_stake": at_stake,
    }
    for invariant, v in violations(step):
        statement = f"{invariant.title}: {invariant.statement}"
        yield Finding(invariant.id, statement, v.message, expected=v.expected, found=v.found, **common)
    unmet = _unmet(step.action, step.expected, played.scenario)
    if unmet:
        yield Finding("EXPECTATION", "the scenario's own expectations are met", unmet, **common)


def _unmet(action: Action, expected: ExpectedOutcome, scenario: Scenario) -> str | None:
    """Where the scenario expects something else than the model."""
    came_to = expected.error or expected.status
    if action.fails and came_to != action.fails:
        return f"the scenario says this fails with {action.fails}; by the rules it is {came_to}"
    if scenario.strict and not action.fails and expected.status != "ok":
        return f"the scenario says nothing of a failure here; by the rules it is {came_to} (add `fails: {came_to}`)"
    return None


def _unmet_receipts(played: Played) -> Iterator[Finding]:
    """The scenario's `received` against what the ledger saw paid out."""
    got = received(played.rows)
    for actor, wei in (played.scenario.received or {}).items():
        if got[actor] != wei:
            yield Finding(
                "EXPECTATION",
                "the scenario's own expectations are met",
                f"{actor} received another amount over the whole scenario",
                scenario=played.scenario,
                engine=played.engine,
                driver=played.driver,
                step=played.steps,
                expected=wei,
                found=got[actor],
            )


def _mistaken(played: Played, step: int, error: Exception) -> Finding:
    """A call that only the scenario's file can be blamed for."""
    return Finding(
        "EXPECTATION",
        "the scenario's own expectations are met",
        f"the scenario calls what is not there: {error}",
        scenario=played.scenario,
        engine=played.engine,
        driver=played.driver,
        step=step,
    )


def _mute(played: Played, rate: Decimal, step: int, error: Exception) -> Finding:
    """A view that every contract answers was not answered."""
    invariant = INVARIANTS["INV-16"]
    return Finding(
        invariant.id,
        f"{invariant.title}: {invariant.statement}",
        f"the contract does not say what it holds, a view fails: {error}",
        scenario=played.scenario,
        engine=played.engine,
        driver=played.driver,
        step=step,
        rate=rate,
    )


def _crash(played: Played, rate: Decimal, step: int, crash: BaseException) -> Finding:
    return Finding(
        "CRASH",
        "whatever fails, fails with a typed error",
        f"{type(crash).__name__}: {crash}{place_of(crash)}",
        scenario=played.scenario,
        engine=played.engine,
        driver=played.driver,
        step=step,
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

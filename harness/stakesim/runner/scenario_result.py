"""The result of one scenario: ledger rows, counts and findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import zip_longest

from stakesim.model.payments import totals
from stakesim.runner.causes import Cause
from stakesim.runner.findings import FailureKind, Finding
from stakesim.runner.invariants import Violation
from stakesim.runner.ledger import NO_INR, LedgerRow
from stakesim.runner.reached import COUNTED_EVENTS, Reached
from stakesim.runner.step import BlockedExit, Step
from stakesim.scenario.actions import CallFunction, SetPrice, Withdraw
from stakesim.scenario.scenario import Scenario

CHECKED_AT_END = ("INV-11", "INV-23")
"""Liveness and views: checked at a scenario's last action alone, whatever that is."""


@dataclass
class ScenarioResult:
    """The result of one scenario.

    Attributes:
        scenario: The scenario as it was run: adapted if the contract lacks something that it uses.
        engine: Name of the engine.
        driver: Name of the driver.
        findings: Broken invariants, unmet expectations and exceptions.
        rows: The ledger.
        reached: How often each action, outcome, status and error occurred.
        steps: Number of actions that were carried out.
        transactions: Number of transactions that were mined.
        blocked_exits: Exits that were blocked at the end, also where they are no finding as something else is wrong.
        seconds: Wall-clock time.
    """

    scenario: Scenario
    engine: str
    driver: str
    findings: list[Finding] = field(default_factory=list)
    rows: list[LedgerRow] = field(default_factory=list)
    reached: Reached = field(default_factory=Reached)
    steps: int = 0
    transactions: int = 0
    blocked_exits: Sequence[BlockedExit] = ()
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether there are no findings."""
        return not self.findings

    @property
    def kind(self) -> FailureKind:
        """What two failures have in common if they are the same one. There must be a finding.

        That an action was refused, or was not, is the cause of what else is wrong after it.
        """
        outcomes = [one for one in self.findings if one.cause in (Cause.REFUSED, Cause.NOT_REFUSED)]
        finding = (outcomes or self.findings)[0]
        action = self.scenario.actions[finding.step - 1]
        place = f"{action.do} {action.function}" if isinstance(action, CallFunction) else action.do
        if finding.id in CHECKED_AT_END:
            place = ""  # it happens to be the last action
        return FailureKind(finding.id, finding.cause, finding.about, place)

    def record(self, step: Step, run: int, rate: Decimal) -> None:
        """Adds a step to ledger and counts.

        Args:
            step: The step.
            run: Number of the scenario within its campaign.
            rate: INR per ETH.
        """
        self.steps += 1
        self.transactions += len(step.transactions)
        self.blocked_exits = step.blocked_exits
        self.rows += _ledger_rows(step, run, self.scenario, self.steps, rate)
        self._count(step)

    def finding(
        self,
        finding_id: str,
        statement: str,
        violation: Violation,
        *,
        step: int,
        rate: Decimal | None = None,
        at_stake: int = 0,
    ) -> Finding:
        """Makes a finding of this scenario; see `Finding` for the arguments."""
        return Finding(
            finding_id,
            statement,
            **vars(violation),
            scenario=self.scenario,
            engine=self.engine,
            driver=self.driver,
            step=step,
            rate=rate,
            at_stake=at_stake,
        )

    def _count(self, step: Step) -> None:
        names = [f"action {step.action.do}", *_payment_outcomes(step)]
        if not isinstance(step.action, SetPrice):
            names.append(step.actual.status)
        if step.actual.error:
            names.append(f"error {step.actual.error}")
        self.reached.update(names)
        self.reached.update({name: len(step.events(event)) for name, event in COUNTED_EVENTS.items()})


def _payment_outcomes(step: Step) -> Iterator[str]:
    """What became of payments in INR in this step."""
    for before, after in zip_longest(step.model_before.payments, step.model.payments):
        if before == after:
            continue
        if before is None and after.captured:
            yield "payments captured"
        if after.status == "expired":
            yield "payments expired"
        if after.refunded:
            yield "payments refunded"
        if after.disputed:
            yield "payments disputed"


def _ledger_rows(step: Step, run: int, scenario: Scenario, number: int, rate: Decimal) -> Iterator[LedgerRow]:
    """A row for the action, and one for each payout that it caused."""
    captured, refunded = (
        f"{Decimal(after - before).scaleb(-2):.2f}"
        for before, after in zip(totals(step.model_before), totals(step.model), strict=True)
    )
    action = LedgerRow(
        run=run,
        scenario=scenario.name,
        seed=scenario.seed,
        step=number,
        time=step.model.now,
        action=step.action.do,
        actor=step.expected.actor or "",
        outcome=step.actual.status,
        error=step.actual.error,
        wei_in=step.expected.paid_in if step.ok else 0,
        wei_out=0,
        gas=sum(transaction.gas_used for transaction in step.transactions),
        rate=str(rate),
        inr_captured=captured,
        inr_refunded=refunded,
        tx_hash=step.transactions[-1].hash if step.transactions else None,
    )
    yield action
    if not step.ok:
        return
    to_wallet = "withdrawn" if isinstance(step.action, Withdraw) else "pushed"
    for party in step.after.wallets:
        into_wallet = step.wallet_gain(party) + (action.wei_in if party == step.expected.signer else 0)
        into_credit = step.after.credits[party] - step.before.credits[party]
        for wei, outcome in ((into_wallet, to_wallet), (into_credit, "deferred")):
            if wei > 0:
                payout = action._replace(action="payout", actor=party, outcome=outcome, wei_in=0, wei_out=wei, gas=0)
                yield payout._replace(inr_captured=NO_INR, inr_refunded=NO_INR)

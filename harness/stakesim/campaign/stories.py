"""Failures as stories: what is wrong in words, who loses how much, and who paid whom, step by step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, TypeAlias

from stakesim.runner.findings import Finding
from stakesim.runner.ledger import LedgerRow
from stakesim.runner.narrative import (
    by_scenario,
    describe_action,
    format_time,
    format_wei,
    narrate,
    paise_of,
    people,
    told_steps,
)
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.scenario.scenario import Scenario
from stakesim.units import WEI_PER_ETH, format_inr

CONTRACT = "the contract"
"""Who has the money between two steps."""
_IN_WEI = WEI_PER_ETH
"""INR per ETH of a story whose prices are in wei, as those that `stakesim fuzz` finds."""


class Transfer(NamedTuple):
    """Money that moves in a step.

    Attributes:
        payer: Who pays; `CONTRACT` or a party.
        payee: Who is paid.
        wei: How much.
        told: How much, in words: INR, or wei where a rate is missing or it is less than a paisa.
        deferred: Whether the payee refused it, and can withdraw it now.
    """

    payer: str
    payee: str
    wei: int
    told: str
    deferred: bool = False


class StoryStep(NamedTuple):
    """A step of a story.

    Attributes:
        number: Its number in the scenario; 0 for several that are left out.
        time: Since the beginning.
        text: What is done.
        outcome: What came of it, with the error; empty if that is unknown.
        transfers: What was paid.
        fails: Whether it is the step that shows what is wrong.
    """

    number: int
    time: str = ""
    text: str = ""
    outcome: str = ""
    transfers: Sequence[Transfer] = ()
    fails: bool = False


@dataclass(frozen=True)
class Story:
    """One cause of findings.

    Attributes:
        title: The weakness or fault, else what must hold.
        meaning: What that means for people, in a sentence; may be empty.
        losses: Who loses or gains how much.
        people: Who is no ordinary account.
        steps: What leads there.
        technical: All of it in the words of the terminal.
        also: How many other scenarios fail for the same cause.
    """

    title: str
    meaning: str
    losses: Sequence[str]
    people: Sequence[str]
    steps: Sequence[StoryStep]
    technical: str
    also: int = 0

    @property
    def transfers(self) -> list[tuple[StoryStep, Transfer]]:
        """All transfers, with their steps."""
        return [(step, transfer) for step in self.steps for transfer in step.transfers]


def stories(findings: Sequence[Finding], rows: Iterable[LedgerRow]) -> list[Story]:
    """One story for each cause, in the order in which they were found.

    Args:
        findings: Of a campaign or a part of a gate.
        rows: The ledger of their scenarios; steps that it does not have are told without outcome and transfers.
    """
    if not findings:
        return []
    steps = _by_step(rows)
    by_title: dict[str, list[list[Finding]]] = {}
    for group in by_scenario(findings):
        by_title.setdefault(_title(group[0]), []).append(group)
    return [_story(title, alike, steps) for title, alike in by_title.items()]


def whole_story(result: ScenarioResult) -> Story:
    """All of a scenario that was carried out, whatever came of it."""
    scenario, rows = result.scenario, _by_step(result.rows)[result.scenario.name, result.scenario.seed]
    failing = max((finding.step for finding in result.findings), default=0)
    return Story(
        title=scenario.name,
        meaning=scenario.story,
        losses=(),
        people=list(people(scenario, result.steps)),
        steps=_steps(scenario, result.steps, rows, failing),
        technical="",
    )


_RowsByStep: TypeAlias = Mapping[int, Sequence[LedgerRow]]


def _by_step(rows: Iterable[LedgerRow]) -> Mapping[tuple[str, int], _RowsByStep]:
    """Rows by name and seed of their scenario, and by step."""
    steps: dict[tuple[str, int], dict[int, list[LedgerRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        steps[row.scenario, row.seed][row.step].append(row)
    return steps


def _story(title: str, alike: Sequence[Sequence[Finding]], steps: Mapping[tuple[str, int], _RowsByStep]) -> Story:
    group = alike[0]
    first, last = group[0], group[-1]
    scenario = last.scenario
    told = _steps(scenario, last.step, steps[scenario.name, scenario.seed], last.step) if scenario else []
    return Story(
        title=title,
        meaning=getattr(first.weakness, "meaning", "") or (first.message if first.weakness else ""),
        losses=list(_losses(group)),
        people=list(people(scenario, last.step)) if scenario else (),
        steps=[_with_message(step, last) for step in told],
        technical=narrate(group),
        also=len(alike) - 1,
    )


def _with_message(step: StoryStep, finding: Finding) -> StoryStep:
    """The step that shows what is wrong also says it, where no weakness does."""
    if not step.fails or finding.weakness:
        return step
    return step._replace(outcome="; ".join(filter(None, (step.outcome, finding.message))))


def _steps(scenario: Scenario, count: int, rows: _RowsByStep, failing: int) -> list[StoryStep]:
    """The steps to tell of a scenario's first ones, with the rows of the ledger by step."""
    timed = scenario.timeline()
    told = []
    for number in told_steps(scenario, count):
        if number is None:
            told.append(StoryStep(0))
            continue
        at, action = timed[number - 1]
        step = StoryStep(number, format_time(at), describe_action(action), fails=number == failing)
        if number in rows:
            done, *payouts = rows[number]
            outcome = done.outcome if done.error is None else f"{done.outcome}: {done.error}"
            step = step._replace(outcome=outcome, transfers=list(_transfers(done, payouts)))
        told.append(step)
    return told


def _title(finding: Finding) -> str:
    place = f", at {finding.place}" if finding.place else ""
    text = f"{finding.weakness}{place}" if finding.weakness else finding.statement
    return text[:1].upper() + text[1:]


def _losses(findings: Sequence[Finding]) -> Iterator[str]:
    """Who has too little or too much, each once; without any, what is at stake."""
    differences = {
        (finding.party, finding.actual - finding.expected): finding.rate
        for finding in findings
        if finding.party and finding.actual is not None and finding.expected is not None
    }
    for (party, wei), rate in sorted(differences.items(), key=lambda difference: difference[0][1] > 0):
        yield f"{party} {'loses' if wei < 0 else 'gains'} {_money(abs(wei), rate)}"
    if not differences and findings[0].at_stake:
        yield f"{format_wei(findings[0].at_stake, findings[0].rate)} are in the contract at that time"


def _transfers(done: LedgerRow, payouts: Sequence[LedgerRow]) -> Iterator[Transfer]:
    rate = Decimal(done.rate)
    if done.wei_in:
        yield Transfer(done.actor, CONTRACT, done.wei_in, _money(done.wei_in, rate))
    for row in payouts:
        deferred = row.outcome == "deferred"
        yield Transfer(CONTRACT, row.actor, row.wei_out, _money(row.wei_out, rate), deferred)


def _money(wei: int, rate: Decimal | None) -> str:
    """An amount in INR; in wei if it is worth less than a paisa, or nobody knows, or the story counts in wei."""
    is_market = rate is not None and rate.is_finite() and rate < _IN_WEI
    paise = paise_of(wei, rate) if rate is not None and is_market else 0
    return format_inr(paise) if paise else f"{wei:,} wei"

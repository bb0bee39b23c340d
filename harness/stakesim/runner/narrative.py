"""Findings, actions, amounts and times in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from stakesim.evm.abi import printable
from stakesim.runner.findings import Finding
from stakesim.runner.known_faults import BackendFault
from stakesim.scenario.actions import (
    ACTOR_FIELDS,
    Action,
    Actor,
    Book,
    CallFunction,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    ForceEther,
    ScriptReceiver,
    SetIds,
    SetPrice,
    Terms,
    Wait,
    Withdraw,
    WithdrawFees,
)
from stakesim.scenario.administration import AcceptOwnership, Pause, SetOperator, TransferOwnership, Unpause
from stakesim.scenario.base_action import PaymentBehaviour
from stakesim.scenario.scenario import Scenario
from stakesim.units import DAY, HOUR, WEI_PER_ETH, format_inr

_LONG = 12
"""Actions or names beyond which not all are told."""


def narrate(findings: Sequence[Finding]) -> str:
    """Describes the findings of one step: what is broken, the actions that led to it, and the command to replay it.

    Args:
        findings: At least one; all of the same step.
    """
    first, last = findings[0], findings[-1]
    lines = [*_diagnosis(first), *_broken(findings)]
    if last.scenario is not None:
        lines += _where(last, last.scenario)
        lines += (f"     {line}" for line in people(last.scenario, last.step))
        lines += _actions_until(last.scenario, last.step)
    if last.saved:
        lines.append(f"  replay it: {_replay_command(last, last.saved)}")
    return "\n".join(lines)


def narratives(findings: Sequence[Finding]) -> list[str]:
    """Describes findings of many scenarios: one text per scenario that failed, one per finding of a whole campaign."""
    return [narrate(group) for group in by_scenario(findings)]


def by_scenario(findings: Sequence[Finding]) -> list[list[Finding]]:
    """The findings of each scenario together; one of a whole campaign alone."""
    groups: dict[int, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(id(finding.scenario or finding), []).append(finding)
    return list(groups.values())


def describe_amounts(finding: Finding) -> str:
    """Expected and actual amount in wei, ETH and INR; empty if the finding is about no amount."""
    if finding.expected is None or finding.actual is None:
        return ""
    return f"expected {format_wei(finding.expected, finding.rate)}, found {format_wei(finding.actual, finding.rate)}"


def _diagnosis(finding: Finding) -> Iterator[str]:
    if finding.weakness:
        kind = "FAULT" if isinstance(finding.weakness, BackendFault) else "WEAKNESS"
        amount = f" ({format_wei(finding.at_stake, finding.rate)} in the contract)" if finding.at_stake else ""
        place = f", at {finding.place}" if finding.place else ""
        yield f"{kind}: {finding.weakness}{amount}{place}"


def _broken(findings: Sequence[Finding]) -> Iterator[str]:
    """The statement of each invariant once, then the message and amounts of each finding."""
    previous_id = ""
    for finding in findings:
        if finding.id != previous_id:
            what = "(nothing is broken, but too little was tried):" if finding.id == "VACUOUS" else "is broken:"
            yield f"{finding.id} {what} {finding.statement}"
        previous_id = finding.id
        yield f"  {finding.message}"
        if amounts := describe_amounts(finding):
            yield f"  {amounts}"


def _where(finding: Finding, scenario: Scenario) -> Iterator[str]:
    driver = f", driver {finding.driver}" if finding.driver else ""
    yield f"  in {scenario.name} (seed {scenario.seed}), engine {finding.engine}{driver}, at step {finding.step}:"
    defaults = Terms()
    unusual = [f"{name} {value}" for name, value in scenario.terms if value != getattr(defaults, name)]
    if unusual:
        yield f"     terms: {', '.join(unusual)}"


def people(scenario: Scenario, count: int) -> Iterator[str]:
    """Who among those in the first `count` actions, or in what they are about, is no ordinary account."""
    actions = scenario.actions[:count]
    named = {getattr(action, field, None) for action in actions for field in ACTOR_FIELDS}
    names: dict[str, list[str]] = {}
    for name, actor in scenario.actors.items():
        if name in named and (what := _describe_actor(actor)):
            names.setdefault(what, []).append(name)
    for what, alike in names.items():
        yield f"{_list(alike)}: {what}"


def _list(names: Sequence[str]) -> str:
    """Names joined by commas; of very many, the first ones."""
    return ", ".join(names if len(names) <= _LONG else [*names[:2], f"and {len(names) - 2} more"])


def _describe_actor(actor: Actor) -> str:
    if actor.wallet == "none":
        return "no wallet, entered as the platform"
    if actor.reenter is not None:
        return f"a contract that calls {actor.reenter.call}, of {actor.reenter.id}, back when it is paid"
    return "" if actor.receiver == "accepts" else f"a contract that {_WHEN_PAID[actor.receiver]}"


def _replay_command(finding: Finding, file: str) -> str:
    driver = f" --driver {finding.driver}" if finding.driver not in ("", "services") else ""
    engine = "" if finding.engine == "py-evm" else f" --engine {finding.engine}"
    return f"stakesim replay {file}{driver}{engine}"


def _actions_until(scenario: Scenario, count: int) -> Iterator[str]:
    """The first `count` actions. Of three or more like bookings in a row, only the first and the last are shown.

    In a long story, those of different people are alike too.
    """
    timed = scenario.timeline()[:count]
    for number in told_steps(scenario, count):
        if number is None:
            yield "         ..."
            continue
        at, action = timed[number - 1]
        mark = ">" if number == count else " "
        yield f"  {mark} {number:2}. {format_time(at)}  {describe_action(action)}"


def told_steps(scenario: Scenario, count: int) -> Iterator[int | None]:
    """Numbers of the steps to tell of the first `count`; None for several that are left out, see `_actions_until`."""
    timed = scenario.timeline()[:count]
    alike = ("run", "seats", "value_off", *(() if count > _LONG else ("by",)))
    repeats = [False, *(_is_like_booking(timed[i - 1][1], timed[i][1], alike) for i in range(1, len(timed))), False]
    for number in range(1, len(timed) + 1):
        if repeats[number - 1] and repeats[number]:  # neither the first nor the last of its row
            if not repeats[number - 2]:
                yield None
        else:
            yield number


def _is_like_booking(previous: Action, action: Action, fields: Sequence[str]) -> bool:
    if not (isinstance(previous, Book) and isinstance(action, Book)):
        return False
    return all(getattr(previous, name) == getattr(action, name) for name in fields)


def format_wei(wei: int, rate: Decimal | None = None) -> str:
    """Formats wei, as exact ETH where that is shorter, and as INR to the paisa.

    Args:
        wei: The amount.
        rate: INR per ETH; without a finite one, INR are left out.
    """
    eth = f"{wei} wei"
    if abs(wei) >= 10**12:
        eth = f"{Decimal(wei).scaleb(-18).normalize():f} ETH ({wei} wei)"
    if rate is None or not rate.is_finite():
        return eth
    paise = paise_of(wei, rate)
    return f"{eth}, {format_inr(paise)}" if paise else eth


def paise_of(wei: int, rate: Decimal) -> int:
    """What wei are worth in INR x 100, to the nearest paisa.

    Args:
        wei: The amount.
        rate: INR per ETH; finite.
    """
    return round(Fraction(wei) * Fraction(rate) * 100 / WEI_PER_ETH)


def format_time(at: int) -> str:
    """Formats seconds from the scenario's start as days and a time of day: `6d 23:59:59`."""
    days, rest = divmod(at, DAY)
    return f"{days}d {rest // HOUR:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def describe_action(action: Action) -> str:
    """Describes one action in one sentence."""
    options = [text for name, text in _OPTIONS.items() if getattr(action, name, False)]
    if reorganised := getattr(action, "reorganised", None):
        options.append(f"(a reorganisation: the transaction is {reorganised})")
    value_off, payer = getattr(action, "value_off", 0), getattr(action, "paid_by", None)
    payment: PaymentBehaviour = getattr(action, "payment", "in_time")
    return " ".join(
        [
            _SENTENCES[type(action)](action),
            *([f"paid by {payer}"] if payer else []),
            *([f"(pays {_PAYMENTS[payment]})"] if payment != "in_time" else []),
            *options,
            *([f"with {value_off:+} wei"] if value_off else []),
            *([f"(must fail: {action.fails})"] if action.fails else []),
        ]
    )


def _opens(action: CreateRun) -> str:
    starts = format_time(action.starts)
    return f"{action.by} opens {action.run}: {action.seats} seats at {action.price_inr} INR, starting {starts}"


def _completes(action: Complete) -> str:
    attended = _list(action.attended) or "nobody"
    return f"{action.by or 'the host'} completes {action.run}; attended: {attended}"


_SENTENCES: Mapping[type[Any], Callable[[Any], str]] = {
    CreateRun: _opens,
    Book: lambda a: f"{a.by} books {a.seats} of {a.run} ({a.booking})",
    CancelBooking: lambda a: f"{a.by or 'the attendee'} cancels booking {a.booking}",
    CancelRun: lambda a: f"{a.by or 'the host'} calls {a.run} off",
    Complete: _completes,
    Expire: lambda a: f"{a.by} lets {a.run} expire",
    Withdraw: lambda a: f"{a.by} withdraws the credit" + (f" to {a.to}" if a.to else ""),
    WithdrawFees: lambda a: f"{a.by} withdraws the platform's fees",
    SetOperator: lambda a: f"{a.by} lets {a.operator} act for the platform" + ("" if a.allowed else " no longer"),
    Pause: lambda a: f"{a.by} pauses new runs and bookings",
    Unpause: lambda a: f"{a.by} allows new runs and bookings again",
    TransferOwnership: lambda a: f"{a.by} offers the ownership to {a.to}",
    AcceptOwnership: lambda a: f"{a.by} accepts the ownership",
    ForceEther: lambda a: f"{a.by} forces {format_wei(a.wei)} into the contract",
    CallFunction: lambda a: f"{a.by} {_called(a)}{_call_options(a)}",
    ScriptReceiver: lambda a: f"from now on {a.by} {_WHEN_PAID[a.how]}" + _first_call(a),
    SetIds: lambda a: f"the contract's last ids are set to {a.runs} (runs) and {a.bookings} (bookings)",
    SetPrice: lambda a: f"the feed says {a.inr_per_eth} INR/ETH" + (f", {a.age} s old" if a.age else ""),
    Wait: lambda a: "time passes",
}
_WHEN_PAID: Mapping[str, str] = {
    "accepts": "accepts ether",
    "refuses": "refuses ether",
    "burns_gas": "burns all its gas when it is paid",
    "floods": "reverts with very much data when it is paid",
    "spends_little": "uses 20,000 gas when it is paid",
    "spends_much": "uses 100,000 gas when it is paid",
    "needs_stipend": "refuses ether that comes with less than a push's gas",
    "scripted": "does with ether what the story tells it",
}
"""What a contract does with ether."""
_OPTIONS: Mapping[str, str] = {
    "direct": "past the backend",
    "pending": "(waits in the mempool until the next is sent)",
    "answer_lost": "(the node's answer is lost)",
    "retried": "(asks twice, with the same key)",
    "feed_moves": "(the feed moves between two readings)",
}
"""Words for the options of an action that are set."""
_PAYMENTS: Mapping[PaymentBehaviour, str] = {
    "never": "no INR",
    "late": "after the quote expired",
    "twice": "twice",
    "too_little": "a paisa too little",
    "other_currency": "in another currency",
    "forged": "no INR, and a forged webhook says otherwise",
    "webhook_late": "in time, and the webhook comes late",
    "charged_back": "and has the bank take the INR back",
}
"""Words for how somebody pays."""


def _called(action: CallFunction) -> str:
    nothing = {"receive": "sends plain ether, and calls nothing", "fallback": "calls a function that does not exist"}
    how = " with {}" if "(" in action.function else "({})"
    return nothing.get(action.function) or f"calls {action.function}{how.format(_arguments(action.args))}"


def _arguments(args: Sequence[Any]) -> str:
    """Arguments of a call; a text that a terminal can't show, with escapes."""
    return ", ".join(map(printable, args))


def _call_options(action: CallFunction) -> str:
    """What is said of a call beside its arguments."""
    options = [f"{action.value} wei"] if action.value else []
    options += [f"gas {action.gas}"] if action.gas else []
    options += [f"signed by {action.signed_by}"] if action.signed_by else []
    return f", {', '.join(options)}" if options else ""


def _first_call(action: ScriptReceiver) -> str:
    if action.looks_at is not None:
        return f", and looks at {action.looks_at.function}({_arguments(action.looks_at.args)}) while it is paid"
    if action.calls is None:
        return ""
    return f", and first calls {action.calls.function}({_arguments(action.calls.args)})"

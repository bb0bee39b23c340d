"""Scenarios and findings in words a person understands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from stakesim.runner.fault_names import BACKEND_FAULTS
from stakesim.scenario.actions import (
    Action,
    Book,
    CallFunction,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    ForceEther,
    SetPrice,
    Terms,
    Withdraw,
    WithdrawFees,
)
from stakesim.scenario.scenario import Scenario

WEI_PER_ETH = 10**18


@dataclass(frozen=True)
class Finding:
    """Something that must hold and does not.

    id: of the invariant, or EXPECTATION for what the scenario itself says, CRASH for an error nobody foresaw, VACUOUS
    for a campaign that reached too little. expected, found: wei. rate: INR per ETH at that moment. saved: the file that
    replays it, and the contract. weakness: its name, where a backend or a contract written elsewhere has it. at_stake:
    wei that were in the contract.
    """

    id: str
    statement: str
    message: str
    scenario: Scenario | None = None
    engine: str = "py-evm"
    driver: str = ""
    step: int = 0
    expected: int | None = None
    found: int | None = None
    rate: Decimal | None = None
    saved: str | None = None
    weakness: str = ""
    at_stake: int = 0

    def amounts(self) -> str:
        """Expected and found in wei, ETH and INR; empty where no amount is concerned."""
        if self.expected is None or self.found is None:
            return ""
        return f"expected {money(self.expected, self.rate)}, found {money(self.found, self.rate)}"

    def story(self) -> str:
        """The whole finding: what is broken, how it came about, and how to see it again."""
        return tell([self])


def tell(findings: Sequence[Finding]) -> str:
    """Findings of one step: everything that is broken, then how it came about, and how to see it again."""
    lines: list[str] = []
    if first := findings[0].weakness:
        held = f" ({money(findings[0].at_stake, findings[0].rate)} in the contract)" if findings[0].at_stake else ""
        lines.append(f"{'FAULT' if first in BACKEND_FAULTS else 'WEAKNESS'}: {first}{held}")
    broken = ""
    for finding in findings:
        if finding.id != broken:
            lines.append(f"{finding.id} is broken: {finding.statement}")
        broken = finding.id
        lines.append(f"  {finding.message}")
        if finding.amounts():
            lines.append(f"  {finding.amounts()}")
    last = findings[-1]
    if last.scenario is not None:
        lines.append(
            f"  in {last.scenario.name} (seed {last.scenario.seed}), engine {last.engine}"
            f"{f', driver {last.driver}' if last.driver else ''}, at step {last.step}:"
        )
        unusual = [f"{name} {value}" for name, value in last.scenario.terms if value != getattr(Terms(), name)]
        lines += [f"     terms: {', '.join(unusual)}"] if unusual else []
        lines += _steps(last.scenario, last.step)
    if last.saved:
        flag = f" --driver {last.driver}" if last.driver not in ("", "services") else ""
        flag += "" if last.engine == "py-evm" else f" --engine {last.engine}"
        lines.append(f"  replay it: stakesim replay {last.saved}{flag}")
    return "\n".join(lines)


def _steps(scenario: Scenario, count: int) -> Iterator[str]:
    """The scenario's first steps; of many bookings in a row by the same person, the first and the last."""
    timed = scenario.timeline()[:count]
    alike = [_alike(timed[i - 1][1], timed[i][1]) if i else False for i in range(len(timed))] + [False]
    for number, (at, action) in enumerate(timed, start=1):
        if alike[number - 1] and alike[number]:
            if number > 1 and not alike[number - 2]:
                yield "         ..."
            continue
        mark = ">" if number == count else " "
        yield f"  {mark} {number:2}. {clock(at)}  {describe(action)}"


def _alike(before: Action, action: Action) -> bool:
    if not (isinstance(before, Book) and isinstance(action, Book)):
        return False
    return (before.by, before.run, before.seats, before.value_off) == (
        action.by,
        action.run,
        action.seats,
        action.value_off,
    )


def stories(findings: Sequence[Finding]) -> list[str]:
    """One story for each scenario that failed, and one for each finding of the campaign as a whole."""
    groups: dict[int, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(id(finding.scenario or finding), []).append(finding)
    return [tell(group) for group in groups.values()]


def money(wei: int, rate: Decimal | None = None) -> str:
    """Wei as exact ETH, and as INR to the paisa where a rate is known."""
    eth = f"{wei} wei"
    if abs(wei) >= 10**12:
        eth = f"{Decimal(wei).scaleb(-18).normalize():f} ETH ({wei} wei)"
    if rate is None or not rate.is_finite():
        return eth
    paise = round(Fraction(wei) * Fraction(rate) * 100 / WEI_PER_ETH)
    return f"{eth}, {paise / Decimal(100):,.2f} INR" if paise else eth


def clock(at: int) -> str:
    """Seconds from the scenario's start as days and a time: `6d 23:59:59`."""
    days, rest = divmod(at, 86_400)
    return f"{days}d {rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def describe(action: Action) -> str:
    """One action as a sentence."""
    return " ".join(_words(action))


def _words(action: Action) -> Iterator[str]:
    match action:
        case CreateRun():
            yield f"{action.by} opens {action.run}: {action.seats} seats at {action.price_inr} INR,"
            yield f"starting {clock(action.starts)}"
        case Book():
            yield f"{action.by} books {action.seats} of {action.run} ({action.booking})"
        case CancelBooking():
            yield f"{action.by or 'the attendee'} cancels booking {action.booking}"
        case CancelRun():
            yield f"{action.by or 'the host'} calls {action.run} off"
        case Complete():
            attended = ", ".join(action.attended) or "nobody"
            yield f"{action.by or 'the host'} completes {action.run}; attended: {attended}"
        case Expire():
            yield f"{action.by} lets {action.run} expire"
        case Withdraw():
            yield f"{action.by} withdraws the credit" + (f" to {action.to}" if action.to else "")
        case WithdrawFees():
            yield f"{action.by} withdraws the platform's fees"
        case ForceEther():
            yield f"{action.by} forces {money(action.wei)} into the contract"
        case CallFunction():
            yield f"{action.by} calls {action.function}({', '.join(map(str, action.args))})"
        case SetPrice():
            yield f"the feed says {action.inr_per_eth} INR/ETH" + (f", {action.age} s old" if action.age else "")
        case _:
            yield "time passes"
    if getattr(action, "direct", False):
        yield "past the backend"
    if getattr(action, "pending", False):
        yield "(waits in the mempool until the next is sent)"
    if getattr(action, "answer_lost", False):
        yield "(the node's answer is lost)"
    if getattr(action, "retried", False):
        yield "(asks twice, with the same key)"
    if value_off := getattr(action, "value_off", 0):
        yield f"with {value_off:+} wei"
    if action.fails:
        yield f"(must fail: {action.fails})"

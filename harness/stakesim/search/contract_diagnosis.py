"""Names the weakness that a failure of a contract written elsewhere shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stakesim.runner.causes import Cause
from stakesim.runner.environment import Environment
from stakesim.runner.findings import Finding
from stakesim.runner.known_faults import ContractWeakness, Name
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.scenario.actions import (
    PLATFORM,
    Action,
    Actor,
    Book,
    CallFunction,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    ForceEther,
    Wait,
    WithdrawFees,
)
from stakesim.scenario.scenario import Scenario
from stakesim.search.diagnosis import OWN_EXPECTATION, label, simplify
from stakesim.search.probes import CROWD, PROBE

_W = ContractWeakness


def diagnose_contract(environment: Environment, result: ScenarioResult, known: set[Name]) -> ScenarioResult:
    """Leaves out calls and hostile actors that a failure does not need, names it, and shrinks it if the name is new.

    Args:
        environment: What it is run in.
        result: The failure.
        known: Names of failures that were shrunk already; the new name is added.
    """
    if result.findings[0].id == OWN_EXPECTATION:
        return result
    is_crowd = _is_crowd(result)  # its size is what fails
    if not is_crowd:
        result = simplify(environment, result, [_without_calls, _without_hostile_actors])
    return label(environment, result, classify, known, shrinks=not is_crowd)


def classify(result: ScenarioResult) -> Name:
    """The `ContractWeakness` that a failure shows, and where it is.

    A failure that is none of them is named by the title of the first broken invariant.
    """
    failure = _Failure.of(result)
    for weakness, applies in _RULES:
        if applies(failure):
            return Name(weakness, failure.place_of(weakness))
    return Name(result.findings[0].statement.partition(":")[0], failure.place_of(None))


@dataclass(frozen=True)
class _Failure:
    """What the rules ask about a failure.

    Attributes:
        result: The failure.
        actions: Those up to the failing one.
        last: The failing action.
        ids: Of the broken invariants.
        causes: Of the findings.
    """

    result: ScenarioResult
    actions: Sequence[Action]
    last: Action
    ids: frozenset[str]
    causes: frozenset[Cause | None]

    @classmethod
    def of(cls, result: ScenarioResult) -> _Failure:
        actions = result.scenario.actions[: result.findings[0].step]
        ids = frozenset(finding.id for finding in result.findings)
        return cls(result, actions, actions[-1], ids, frozenset(finding.cause for finding in result.findings))

    # Ways out

    @property
    def blocks(self) -> frozenset[str]:
        """Kinds of exits that are blocked at the end: see `BlockedExit.way`."""
        return frozenset(finding.about for finding in self.result.findings if finding.id == "INV-11")

    @property
    def refuses_closing(self) -> bool:
        """A run could not be closed that must be."""
        return Cause.REFUSED in self.causes and isinstance(self.last, Complete | CancelRun | Expire)

    @property
    def keeps_run_open(self) -> bool:
        """A run can't be closed in a way in which it must."""
        return bool(self.blocks & {"complete", "cancel", "expire"}) or self.refuses_closing

    @property
    def locks_run(self) -> bool:
        """Nobody but perhaps its host can close some run in any way."""
        return any(shut.locks_run for shut in self.result.blocked_exits)

    @property
    def is_crowd(self) -> bool:
        """A run of very many bookings fails, and one of few does not."""
        return _is_crowd(self.result)

    @property
    def is_hostile(self) -> bool:
        """Some actor is a hostile contract."""
        return any(actor.is_contract for actor in self.result.scenario.actors.values())

    # Functions that only this contract has

    @property
    def functions(self) -> tuple[str, ...]:
        """Functions that were called and that only this contract has."""
        return tuple(dict.fromkeys(action.function for action in self.actions if isinstance(action, CallFunction)))

    @property
    def function_took_escrow(self) -> bool:
        """A call moved money that is owed to somebody: the contract owes more than it holds, or its caller gains."""
        if not isinstance(self.last, CallFunction) or self.blocks:
            return False
        return Cause.INSOLVENT in self.causes or self.gain_of(self.last.by) > self.forced_wei

    @property
    def changes_terms(self) -> bool:
        """After a call that changed no money, something costs or pays another amount."""
        return bool(self.functions) and (self.has_amounts or "INV-10" in self.ids)

    # Amounts

    @property
    def has_amounts(self) -> bool:
        """Some amount is another one."""
        return any(finding.expected is not None for finding in self.result.findings)

    @property
    def withdraws_fees(self) -> bool:
        """The platform withdraws its fees, in the last action or at the end."""
        return isinstance(self.last, WithdrawFees) or "fees" in self.blocks

    @property
    def accepted_value_off(self) -> int:
        """Wei too many, or too few if negative, with which an action was done."""
        return getattr(self.last, "value_off", 0) if Cause.NOT_REFUSED in self.causes else 0

    @property
    def forced_wei(self) -> int:
        """Wei that were forced in."""
        return sum(action.wei for action in self.actions if isinstance(action, ForceEther))

    @property
    def takes_forced_ether(self) -> bool:
        """The caller got more than is due, and no more than was forced in: nobody lost anything."""
        caller = getattr(self.last, "by", None) or PLATFORM
        pays_caller = isinstance(self.last, CallFunction | WithdrawFees) and Cause.INSOLVENT not in self.causes
        return pays_caller and 0 < self.gain_of(caller) <= self.forced_wei

    def gain_of(self, party: str) -> int:
        """Wei that this party got beyond what is due; negative: too few."""
        return max((self._difference(finding) for finding in self._amounts(party)), key=abs, default=0)

    def gains(self, role: str | None, sign: int) -> bool:
        """Whether somebody in this role got too much (sign 1) or too little (-1)."""
        return any(
            self._difference(finding) * sign > 0
            for finding in self._amounts()
            if role is None or self._role(finding.party) == role
        )

    def _amounts(self, party: str | None = None) -> list[Finding]:
        return [
            finding
            for finding in self.result.findings
            if finding.party is not None and party in (None, finding.party) and finding.expected is not None
        ]

    def _difference(self, finding: Finding) -> int:
        return (finding.actual or 0) - (finding.expected or 0)

    def _role(self, party: str | None) -> str:
        if party == PLATFORM:
            return "platform"
        if any(isinstance(action, CreateRun) and action.by == party for action in self.actions):
            return "host"
        return "attendee" if any(isinstance(a, Book) and a.by == party for a in self.actions) else "stranger"

    @property
    def leaves_no_shows(self) -> bool:
        """Somebody did not attend a run that was completed."""
        bookings = [action for action in self.actions if isinstance(action, Book)]
        return any(
            booking.run == action.run and booking.booking not in action.attended
            for action in self.actions
            if isinstance(action, Complete)
            for booking in bookings
        )

    # Where

    def place_of(self, weakness: ContractWeakness | None) -> str:
        """Where the weakness is, for those that a contract may have in several places."""
        if self.functions:
            return ", ".join(self.functions)
        if weakness is _W.EXIT_SHUT:
            return self.last.do if self.refuses_closing else ", ".join(sorted(self.blocks))
        if weakness is None or weakness in _IN_SEVERAL_PLACES:
            kind = self.result.kind
            return " ".join(part for part in (kind.place, kind.about) if part)
        return ""


_RULES: Sequence[tuple[ContractWeakness, Callable[[_Failure], Any]]] = (
    (_W.OWNER_TAKES_ESCROW, lambda f: f.function_took_escrow and getattr(f.last, "by", "") == PLATFORM),
    (_W.ANYBODY_TAKES_ESCROW, lambda f: f.function_took_escrow),
    (_W.FORCED_ETHER_TAKEN, lambda f: f.takes_forced_ether),
    (_W.OWNER_SHUTS_EXITS, lambda f: f.functions and (f.blocks or f.refuses_closing)),
    (_W.TERMS_CHANGE, lambda f: f.changes_terms and ("INV-10" in f.ids or not isinstance(f.last, CallFunction))),
    (_W.DUES_CHANGE, lambda f: isinstance(f.last, CallFunction)),
    (_W.OVERPAYMENT_KEPT, lambda f: f.accepted_value_off > 0),
    (_W.UNDERPAYMENT_TAKEN, lambda f: f.accepted_value_off < 0),
    (_W.RUN_TOO_LARGE, lambda f: f.keeps_run_open and f.is_crowd),
    (_W.RECEIVER_BLOCKS_ALL, lambda f: f.keeps_run_open and f.is_hostile),
    (_W.RUN_TOO_LARGE, lambda f: f.keeps_run_open and Cause.OUT_OF_GAS in f.causes),
    (_W.FUNDS_LOCKED, lambda f: f.keeps_run_open and f.locks_run),
    (_W.EXIT_SHUT, lambda f: f.keeps_run_open),
    (_W.PAID_TWICE, lambda f: "credit" in f.blocks and f.gains(None, 1)),
    (_W.PAYOUT_KEPT, lambda f: "credit" in f.blocks),
    (_W.OWNER_TAKES_ESCROW, lambda f: f.withdraws_fees and f.gain_of(PLATFORM) > 0),
    (_W.FORFEITS_UNCLAIMABLE, lambda f: f.withdraws_fees and f.gain_of(PLATFORM) < 0 and f.leaves_no_shows),
    (_W.FEES_LOCKED, lambda f: f.withdraws_fees and ("fees" in f.blocks or Cause.REFUSED in f.causes)),
    (_W.NO_AUTHORITY_NEEDED, lambda f: "INV-14" in f.ids),
    (_W.NOT_REFUSED, lambda f: Cause.NOT_REFUSED in f.causes),
    (_W.REFUSED, lambda f: Cause.REFUSED in f.causes),
    (_W.WRONG_COST, lambda f: isinstance(f.last, Book | CreateRun) and f.has_amounts),
    (_W.ATTENDEE_LOSES, lambda f: f.gains("attendee", -1)),
    (_W.HOST_LOSES, lambda f: f.gains("host", -1)),
    (_W.PLATFORM_LOSES, lambda f: f.gains("platform", -1)),
    (_W.STRANGER_GAINS, lambda f: f.gains("stranger", 1)),
    (_W.ATTENDEE_GAINS, lambda f: f.gains("attendee", 1)),
    (_W.HOST_GAINS, lambda f: f.gains("host", 1)),
    (_W.PLATFORM_GAINS, lambda f: f.gains("platform", 1)),
)
"""The first rule that applies names the failure."""
_IN_SEVERAL_PLACES = frozenset(
    {
        _W.NO_AUTHORITY_NEEDED,
        _W.NOT_REFUSED,
        _W.REFUSED,
        _W.WRONG_COST,
        _W.ATTENDEE_LOSES,
        _W.HOST_LOSES,
        _W.PLATFORM_LOSES,
        _W.STRANGER_GAINS,
        _W.ATTENDEE_GAINS,
        _W.HOST_GAINS,
        _W.PLATFORM_GAINS,
    }
)
"""Weaknesses that are told for each kind of action and of difference that shows them."""


def _is_crowd(result: ScenarioResult) -> bool:
    return (result.scenario.origin or {}).get(PROBE) == CROWD


def _without_calls(scenario: Scenario) -> Scenario:
    actions = tuple(Wait(at=action.at) if isinstance(action, CallFunction) else action for action in scenario.actions)
    return scenario.model_copy(update={"actions": actions})


def _without_hostile_actors(scenario: Scenario) -> Scenario:
    actors = {name: Actor() if actor.is_contract else actor for name, actor in scenario.actors.items()}
    return scenario.model_copy(update={"actors": actors})

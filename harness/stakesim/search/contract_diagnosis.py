"""Names the weakness that a failure of a contract written elsewhere shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stakesim.runner.causes import Cause
from stakesim.runner.environment import Environment
from stakesim.runner.known_faults import ContractWeakness
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.scenario.actions import (
    PLATFORM,
    Action,
    Actor,
    CallFunction,
    CancelRun,
    Complete,
    Expire,
    Wait,
    WithdrawFees,
)
from stakesim.scenario.scenario import Scenario
from stakesim.search.diagnosis import label, simplify
from stakesim.search.probes import PROBE


def diagnose_contract(environment: Environment, result: ScenarioResult, known: set[str]) -> ScenarioResult:
    """Leaves out calls and hostile actors that a failure does not need, names it, and shrinks it if the name is new.

    Args:
        environment: What it is run in.
        result: The failure.
        known: Names of failures that were shrunk already; the new name is added.
    """
    result = simplify(environment, result, [_without_calls, _without_hostile_actors])
    return label(environment, result, classify, known, shrunk_mark=PROBE)


def classify(result: ScenarioResult) -> str:
    """The `ContractWeakness` that a failure shows; the title of the first broken invariant where it is none of them."""
    failure = _Failure.of(result)
    for weakness, applies in _RULES:
        if applies(failure):
            return weakness
    return result.findings[0].statement.partition(":")[0]


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

    @property
    def blocks_exit(self) -> bool:
        return "INV-11" in self.ids

    @property
    def is_hostile(self) -> bool:
        """Some actor is a hostile contract."""
        return any(actor.is_contract for actor in self.result.scenario.actors.values())

    @property
    def refuses_closing(self) -> bool:
        """A run could not be closed that must be."""
        return Cause.REFUSED in self.causes and isinstance(self.last, Complete | CancelRun | Expire)

    @property
    def calls_function(self) -> bool:
        """A function was called that only this contract has."""
        return any(isinstance(action, CallFunction) for action in self.actions)

    @property
    def function_moved_money(self) -> bool:
        return isinstance(self.last, CallFunction) and not self.blocks_exit

    @property
    def accepted_value_off(self) -> int:
        """Wei too many, or too few if negative. If an exit is blocked, the value was refused, as it must be."""
        return 0 if self.blocks_exit else getattr(self.last, "value_off", 0)

    @property
    def platform_got_more(self) -> bool:
        """The platform got more wei than it is due."""
        return any(
            finding.actual > finding.expected
            for finding in self.result.findings
            if finding.party == PLATFORM and finding.expected is not None and finding.actual is not None
        )


_RULES: Sequence[tuple[ContractWeakness, Callable[[_Failure], bool]]] = (
    (ContractWeakness.OWNER_TAKES_ESCROW, lambda f: f.function_moved_money and getattr(f.last, "by", "") == PLATFORM),
    (ContractWeakness.ANYBODY_TAKES_ESCROW, lambda f: f.function_moved_money),
    (ContractWeakness.OWNER_SHUTS_EXITS, lambda f: f.calls_function and f.ids == {"INV-11"}),
    (ContractWeakness.TERMS_CHANGE, lambda f: f.calls_function),
    (ContractWeakness.OVERPAYMENT_KEPT, lambda f: f.accepted_value_off > 0),
    (ContractWeakness.UNDERPAYMENT_TAKEN, lambda f: f.accepted_value_off < 0),
    (ContractWeakness.RECEIVER_BLOCKS_ALL, lambda f: (f.blocks_exit or f.refuses_closing) and f.is_hostile),
    (ContractWeakness.RUN_TOO_LARGE, lambda f: f.blocks_exit and Cause.OUT_OF_GAS in f.causes),
    (ContractWeakness.FUNDS_LOCKED, lambda f: f.blocks_exit or f.refuses_closing),
    (ContractWeakness.OWNER_TAKES_ESCROW, lambda f: isinstance(f.last, WithdrawFees) and f.platform_got_more),
    (ContractWeakness.FORFEITS_UNCLAIMABLE, lambda f: isinstance(f.last, WithdrawFees)),
)
"""The first rule that applies names the failure."""


def _without_calls(scenario: Scenario) -> Scenario:
    actions = tuple(Wait(at=action.at) if isinstance(action, CallFunction) else action for action in scenario.actions)
    return scenario.model_copy(update={"actions": actions})


def _without_hostile_actors(scenario: Scenario) -> Scenario:
    actors = {name: Actor() if actor.is_contract else actor for name, actor in scenario.actors.items()}
    return scenario.model_copy(update={"actors": actors})

"""The committed gas budget of each action of `EventStake`."""

from __future__ import annotations

import json
from functools import cache

from stakesim.model.reference import State
from stakesim.paths import package_data
from stakesim.runner.observe import ContractState
from stakesim.scenario.actions import Action, Withdraw


def gas_budget(action: Action, before: ContractState, model: State) -> int | None:
    """Units of gas that a transaction of the action may use: a base, and an amount for each active booking of its run.

    Args:
        action: The action.
        before: The contract's state before it.
        model: The model before it.

    Returns:
        None for an action without a budget, or one that a hostile contract may send, whose own gas is in it.
    """
    budget = _budgets().get(action.do)
    if budget is None or getattr(action, "direct", False) or isinstance(action, Withdraw):
        return None
    run = model.runs.get(getattr(action, "run", ""))
    return budget["base"] + budget["each"] * (len(before.active_bookings_of(run.id)) if run else 0)


@cache
def _budgets() -> dict[str, dict[str, int]]:
    budgets: dict[str, dict[str, int]] = json.loads(package_data("gas_budget.json").read_text())["actions"]
    return budgets

"""What is wrong with a contract written elsewhere, in words: the weaknesses that such contracts are known to have.

The scenarios find most of them; what no scenario of ours can know is tried here: functions that only this contract has,
and runs as large as it takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import product
from typing import Any

from stakesim.evm.abi import Abi
from stakesim.evm.chain_spec import TRANSACTION_GAS_CAP
from stakesim.runner.environment import Environment
from stakesim.runner.findings import Finding
from stakesim.runner.scenario_run import Played, run_scenario
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
    Wait,
    WithdrawFees,
)
from stakesim.scenario.scenario import Scenario
from stakesim.schema.fields import UNITS
from stakesim.search.shrink import shrunk

OWNER_TAKES = "the owner can take escrow"
ANYBODY_TAKES = "anybody can take escrow"
SHUTS_EXITS = "the owner can shut the exits"
TERMS_CHANGE = "terms change under a booked run"
OVERPAID = "overpayment is kept"
UNDERPAID = "underpayment is taken"
TOO_LARGE = "a full run doesn't fit in a transaction"
BLOCKED = "one hostile receiver blocks everybody"
LOCKED = "funds stay locked for ever"
NOBODYS = "no-shows' stakes belong to nobody"

_OWNERSHIP = ("transferOwnership", "renounceOwnership", "acceptOwnership")
_NUMBERS = (1, 50, 10_000, 10**16)
"""A truth value, a percentage, basis points, wei."""
_CROWD = (10, 30)
"""Bookings of the runs whose settlement is measured."""
_MOST_BOOKINGS = 2_000
"""In the largest run that is played; a contract in which more fit is said to hold."""


def named(played: Played) -> str:
    """The weakness that a failure shows, or else what must hold and does not."""
    first = played.findings[0]
    actions = played.scenario.actions[: first.step]
    last = actions[-1]
    calls = [action for action in actions if isinstance(action, CallFunction)]
    ids = {finding.id for finding in played.findings}
    if isinstance(last, CallFunction) and "INV-11" not in ids:
        return OWNER_TAKES if last.by == PLATFORM else ANYBODY_TAKES
    if calls:
        return SHUTS_EXITS if ids == {"INV-11"} else TERMS_CHANGE
    if (off := getattr(last, "value_off", 0)) and "INV-11" not in ids:  # else it was refused, as it must be
        return OVERPAID if off > 0 else UNDERPAID
    hostile = any(actor.is_contract for actor in played.scenario.actors.values())
    if "INV-11" in ids:
        gas = any("gas" in finding.message.lower() for finding in played.findings)
        return TOO_LARGE if gas and not hostile else BLOCKED if hostile else LOCKED
    refused = any("must succeed" in finding.message for finding in played.findings)
    if refused and isinstance(last, Complete | CancelRun | Expire):
        return BLOCKED if hostile else LOCKED
    if isinstance(last, WithdrawFees):
        took = [finding for finding in played.findings if finding.expected is not None and finding.found is not None]
        more = any((f.found or 0) > (f.expected or 0) for f in took if PLATFORM in f.message)
        return OWNER_TAKES if more else NOBODYS
    return first.statement.partition(":")[0]


def tell_weakness(environment: Environment, played: Played, known: set[str]) -> Played:
    """The failure under its name; of one that was not known yet, the shortest story."""
    for plainer in (_without_calls, _with_ordinary_people):
        candidate = plainer(played.scenario)
        if candidate != played.scenario and (again := run_scenario(environment, candidate)).findings:
            played = again  # it was not for these
    name = named(played)
    if name not in known:
        known.add(name)
        if "probe" not in (played.scenario.origin or {}):
            played = shrunk(environment, played, same=named)
    played.findings = [replace(finding, weakness=name) for finding in played.findings]
    return played


def _without_calls(scenario: Scenario) -> Scenario:
    actions = tuple(Wait(at=action.at) if isinstance(action, CallFunction) else action for action in scenario.actions)
    return scenario.model_copy(update={"actions": actions})


def _with_ordinary_people(scenario: Scenario) -> Scenario:
    actors = {name: Actor() if actor.is_contract else actor for name, actor in scenario.actors.items()}
    return scenario.model_copy(update={"actors": actors})


def weakest(played: Sequence[Played]) -> list[Finding]:
    """Of the failures that have a name, one for each name: that with the shortest story. All others."""
    best: dict[str, Played] = {}
    for number, one in enumerate(played):
        if not one.findings:
            continue
        name = one.findings[0].weakness or str(number)
        if name not in best or len(one.scenario.actions) < len(best[name].scenario.actions):
            best[name] = one
    return [finding for one in best.values() for finding in one.findings]


def probes(extras: Abi) -> Iterator[Scenario]:
    """Scenarios in which functions that only this contract has are called while money is in it, by the owner and by
    somebody else; whatever they do, afterwards everybody gets what is due. extras: of its ABI."""
    for function in extras:
        name, types = function["name"], [given["type"] for given in function["inputs"]]
        if name in _OWNERSHIP:
            continue
        numbers = any(kind.startswith("uint") for kind in types)
        for number, args in enumerate(_arguments(types)):
            for by in (PLATFORM, "outsider"):
                call = CallFunction(function=name, args=tuple(by if arg == "address" else arg for arg in args), by=by)
                said = re.sub(r"[^a-z0-9]+", "-", re.sub(r"([A-Z])", r"-\1", name).lower()).strip("-")
                yield _with_money_in_it(f"{said}-by-{by}-{number}", call, numbers)


def _arguments(types: Sequence[str]) -> Iterator[tuple[bool | int | str, ...]]:
    """Some values for these types; none where a type is not among the plain ones."""
    values: dict[str, Sequence[bool | int | str]] = {"address": ["address"], "bool": [True, False], "string": ["x"]}
    given = [_NUMBERS if kind.startswith("uint") else values.get(kind, ()) for kind in types]
    yield from list(product(*given))[:16]


def _with_money_in_it(name: str, call: CallFunction, numbers: bool) -> Scenario:
    """numbers: whether the call gives some, which may be terms: then somebody books after it. Where it does not, it may
    be a pause, which new bookings have to respect."""
    actors = {
        "host": Actor(pays="self"),
        "came": Actor(pays="self"),
        "no_show": Actor(pays="self"),
        "outsider": Actor(pays="self"),
    }
    booked: list[Action] = [
        CreateRun(run="run1", by="host", price_inr=Decimal(20_000), seats=3, starts=2 * UNITS["d"]),
        Book(booking="booking1", run="run1", by="came", seats=1),
        Book(booking="booking2", run="run1", by="no_show", seats=1),
    ]
    later = [Book(booking="booking3", run="run1", by="outsider", seats=1)] if numbers else []
    settled: list[Action] = [Complete(at=2 * UNITS["d"], run="run1", attended=("booking1",)), WithdrawFees()]
    return Scenario(
        name=f"probe-{name}",
        story="A function of the contract is called while money is in it.",
        strict=False,
        actors=actors,
        actions=(*booked, call, *later, *settled),
    )


def crowd(environment: Environment) -> Played:
    """A run that takes more gas to settle than a transaction may have, if the contract opens one so large.

    How large it must be follows from what settling two smaller ones takes; then it is played.
    """
    measured = []
    for seats in _CROWD:
        gas = {}
        for settle in (Complete, CancelRun):
            played = run_scenario(environment, _crowded(seats, settle))
            gas[settle] = max(row.gas for row in played.rows)
            if played.findings:
                return played
        measured.append(max(gas.values()))
    each = max((measured[1] - measured[0]) // (_CROWD[1] - _CROWD[0]), 1)
    seats = (TRANSACTION_GAS_CAP - measured[0]) // each + _CROWD[0] + 1
    seats += seats // 50  # what is called needs a little less than what is sent
    opened = run_scenario(environment, _crowded(seats, None, bookings=0))
    if seats > _MOST_BOOKINGS or opened.findings or not opened.reached["runs"]:
        return opened
    return run_scenario(environment, _crowded(seats, None))


def _crowded(seats: int, settle: Any, bookings: int | None = None) -> Scenario:
    count = seats if bookings is None else bookings
    labels = tuple(f"booking{number}" for number in range(1, count + 1))
    starts = (seats + 10) * UNITS["m"]
    actions: list[Action] = [CreateRun(run="run1", by="host", price_inr=Decimal(20_000), seats=seats, starts=starts)]
    actions += [Book(booking=label, run="run1", by="guest", seats=1) for label in labels]
    if settle is Complete:
        actions.append(Complete(at=starts, run="run1", attended=labels))
    else:
        actions.append(Wait() if settle is None else CancelRun(run="run1"))
    return Scenario(
        name=f"probe-crowd-of-{seats}",
        story="A full run, one booking a seat.",
        strict=False,
        actors={"host": Actor(pays="self"), "guest": Actor(pays="self")},
        actions=tuple(actions),
        origin={"probe": "crowd"},
    )

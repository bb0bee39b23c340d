"""Scenarios that depend on the contract at hand: calls of functions that only it has, and the largest run it opens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import product

from stakesim.evm.abi import Abi
from stakesim.evm.chain_spec import TRANSACTION_GAS_CAP
from stakesim.runner.environment import Environment
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.actions import (
    PLATFORM,
    Action,
    Actor,
    Book,
    CallFunction,
    CancelRun,
    Complete,
    CreateRun,
    Wait,
    WithdrawFees,
)
from stakesim.scenario.scenario import Scenario
from stakesim.units import DAY, MINUTE

PROBE = "probe"
"""Key in the `origin` of scenarios that are not to be shrunk, as their size is what fails."""
CROWD = "crowd"
"""Its value for a run that fails only as it is so large."""
_OWNERSHIP = ("transferOwnership", "renounceOwnership", "acceptOwnership")
_UINT_VALUES = (1, 50, 10_000, 10**16)
"""A truth value, a percentage, basis points, wei."""
_MAX_ARGUMENT_LISTS = 16
_MEASURED_BOOKINGS = (10, 30)
"""Bookings of the two runs whose settlement is measured."""
_MAX_BOOKINGS = 2_000
"""A run that needs more bookings than this to be too large is not run."""


def function_probes(functions: Abi) -> Iterator[Scenario]:
    """Makes scenarios that call a function while money is in the contract, by the owner and by an outsider.

    Whatever the function does, afterwards everybody must get what is due.

    Args:
        functions: ABI entries of functions that only this contract has.
    """
    for function in functions:
        name, types = function["name"], [argument["type"] for argument in function["inputs"]]
        if name in _OWNERSHIP:
            continue
        takes_numbers = any(kind.startswith("uint") for kind in types)
        for number, args in enumerate(_argument_lists(types)):
            for by in (PLATFORM, "outsider"):
                call = CallFunction(function=name, args=tuple(by if arg == "address" else arg for arg in args), by=by)
                scenario_name = f"probe-{_kebab_case(name)}-by-{by}-{number}"
                yield _with_money_in_it(scenario_name, call, books_afterwards=takes_numbers)


def largest_run_probe(environment: Environment) -> ScenarioResult:
    """Runs a scenario whose run takes more gas to settle than a transaction may have, if the contract opens it.

    How large the run must be follows from the gas that settling two smaller ones takes.

    Returns:
        The first failure; else the last scenario that was run.
    """
    measured = []
    for seats in _MEASURED_BOOKINGS:
        most_gas = 0
        for settle in (Complete, CancelRun):
            result = run_scenario(environment, _full_run(seats, settle))
            if result.findings:
                return result
            most_gas = max(most_gas, *(row.gas for row in result.rows))
        measured.append(most_gas)
    seats = bookings_above_gas_cap(*measured)
    opened = run_scenario(environment, _full_run(seats, None, bookings=0))
    if seats > _MAX_BOOKINGS or opened.findings or not opened.reached["runs"]:
        return opened
    return run_scenario(environment, _full_run(seats, None))


def bookings_above_gas_cap(few_gas: int, many_gas: int) -> int:
    """Returns how many bookings need more gas than a transaction may have, and at most 2% more than the least number.

    Args:
        few_gas: Gas that settling the smaller of the two measured runs takes.
        many_gas: Gas that settling the larger one takes.
    """
    few, many = _MEASURED_BOOKINGS
    gas_per_booking = max((many_gas - few_gas) // (many - few), 1)
    bookings = few + (TRANSACTION_GAS_CAP - few_gas) // gas_per_booking + 1
    return bookings + bookings // 50  # a call needs a little less gas than the transaction


def _kebab_case(name: str) -> str:
    """`setStakePercentage` as `set-stake-percentage`."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"([A-Z])", r"-\1", name).lower()).strip("-")


def _argument_lists(types: Sequence[str]) -> Iterator[tuple[bool | int | str, ...]]:
    """Lists of values for these types; none if there is a type that has no values here."""
    values: dict[str, Sequence[bool | int | str]] = {"address": ["address"], "bool": [True, False], "string": ["x"]}
    choices = [_UINT_VALUES if kind.startswith("uint") else values.get(kind, ()) for kind in types]
    yield from list(product(*choices))[:_MAX_ARGUMENT_LISTS]


def _with_money_in_it(name: str, call: CallFunction, *, books_afterwards: bool) -> Scenario:
    """A scenario with a call between booking and completion.

    Args:
        name: Of the scenario.
        call: Between booking and completion.
        books_afterwards: Somebody books after the call, as its numbers may have changed the terms. Without numbers it
            may be a pause, which stops new bookings.
    """
    booked: list[Action] = [
        CreateRun(run="run1", by="host", price_inr=Decimal(20_000), seats=3, starts=2 * DAY),
        Book(booking="booking1", run="run1", by="attendee", seats=1),
        Book(booking="booking2", run="run1", by="no_show", seats=1),
    ]
    later = [Book(booking="booking3", run="run1", by="outsider", seats=1)] if books_afterwards else []
    settled: list[Action] = [Complete(at=2 * DAY, run="run1", attended=("booking1",)), WithdrawFees()]
    return Scenario(
        name=name,
        story="A function of the contract is called while money is in it.",
        strict=False,
        actors={name: Actor(pays="self") for name in ("host", "attendee", "no_show", "outsider")},
        actions=(*booked, call, *later, *settled),
    )


def _full_run(seats: int, settle: type[Complete | CancelRun] | None, bookings: int | None = None) -> Scenario:
    """A full run with one booking a seat.

    Args:
        seats: Of the run.
        settle: How it is closed; None: it is left open.
        bookings: How many bookings there are; None: one for each seat.
    """
    labels = tuple(f"booking{number}" for number in range(1, (seats if bookings is None else bookings) + 1))
    starts = (seats + 10) * MINUTE
    closing: Action = Wait()
    if settle is Complete:
        closing = Complete(at=starts, run="run1", attended=labels)
    elif settle is CancelRun:
        closing = CancelRun(run="run1")
    return Scenario(
        name=f"probe-crowd-of-{seats}",
        story="A full run, one booking a seat.",
        strict=False,
        actors={"host": Actor(pays="self"), "guest": Actor(pays="self")},
        actions=(
            CreateRun(run="run1", by="host", price_inr=Decimal(20_000), seats=seats, starts=starts),
            *(Book(booking=label, run="run1", by="guest", seats=1) for label in labels),
            closing,
        ),
        origin={PROBE: "crowd"},
    )

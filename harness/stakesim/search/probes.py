"""Scenarios that depend on the contract at hand: calls of functions that only it has, and the largest run it opens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice, product
from typing import TypeAlias

from stakesim.evm.abi import Abi, AbiItem
from stakesim.evm.chain_spec import TRANSACTION_GAS_CAP
from stakesim.evm.required_abi import functions_of
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
    Expire,
    Reentry,
    Terms,
    WithdrawFees,
)
from stakesim.scenario.scenario import Scenario
from stakesim.units import DAY, MINUTE

_Settlement: TypeAlias = Complete | CancelRun | Expire
PROBE = "probe"
"""Key in the `origin` of full runs."""
CROWD = "crowd"
"""Its value for a run of very many bookings."""
FEW = "few"
"""Its value for the same run with few bookings."""
_OWNERSHIP = ("transferOwnership", "renounceOwnership", "acceptOwnership")
_UINT_VALUES = (1, 50, 10_000, 10**16)
"""A truth value, a percentage, basis points, wei."""
_MAX_ARGUMENT_LISTS = 16
_FEW = 8
"""Bookings of a run that shows whether hostile people do any harm at all."""
_HOSTILE_GUESTS = 36
"""Hostile contracts at most; an engine has few more funded accounts."""
_MEASURED_BOOKINGS = (10, 30)
"""Bookings of the two runs whose settlement is measured."""
_MAX_SEATS_UNMEASURED = 256
"""A contract that opens no larger runs is played with its largest one, however little gas that takes."""
_MAX_BOOKINGS = 1_000
"""Bookings of the largest run that is played: a settlement that does something for each needs too much gas by then."""


def function_probes(functions: Mapping[str, AbiItem]) -> Iterator[Scenario]:
    """Makes scenarios that call a function while money is in the contract, by the owner and by an outsider.

    Whatever the function does, afterwards everybody must get what is due.

    Args:
        functions: ABI entries of functions that only this contract has, by name or signature.
    """
    for name, function in functions.items():
        if name in _OWNERSHIP:
            continue
        takes_numbers = any(argument["type"].startswith("uint") for argument in function["inputs"])
        for number, calls in enumerate(_calls_of(name, function)):
            for call in calls:
                scenario_name = f"probe-{_kebab_case(name)}-by-{call.by}-{number}"
                yield _with_money_in_it(scenario_name, call, books_afterwards=takes_numbers)


def view_probe(abi: Abi) -> Scenario:
    """Makes a scenario that sends transactions to each function that is a view: nothing but the ABI says that it is."""
    views = [each for each in functions_of(abi).items() if each[1]["stateMutability"] in ("view", "pure")]
    calls = [call for view in views for calls in islice(_calls_of(*view), 1) for call in calls]
    return _with_money_in_it("probe-views", *calls, books_afterwards=True)


def _calls_of(name: str, function: AbiItem) -> Iterator[list[CallFunction]]:
    """By list of arguments, a call by the owner and one by an outsider."""
    types = [argument["type"] for argument in function["inputs"]]
    for args in _argument_lists(types):
        lists = {by: tuple(by if arg == "address" else arg for arg in args) for by in (PLATFORM, "outsider")}
        yield [CallFunction(function=name, args=own, by=by) for by, own in lists.items()]


def largest_run_probes(environment: Environment) -> list[ScenarioResult]:
    """Settles the largest run that the contract opens in every way, with one booking a seat, of hostile people.

    - A run of a few hostile people comes first. If it fails, the largest one is full of ordinary people, who must not
      fail where they are few.
    - If the contract opens runs of any size, the run takes more gas to settle than a transaction may have, as far as
      that follows from two smaller ones.

    Returns:
        Every failure; else the last scenario that was run.
    """
    seats, results = _most_seats(environment)
    for settle in _ways(environment) if seats else ():
        for hostile in (True, False):
            few = run_scenario(environment, _full_run(min(_FEW, seats), settle, hostile=hostile))
            results.append(few)
            if not few.findings:
                results.append(run_scenario(environment, _full_run(seats, settle, hostile=hostile)))
                break
    return [result for result in results if result.findings] or results[-1:]


def _ways(environment: Environment) -> Sequence[type[_Settlement]]:
    """How the contract's runs can be closed."""
    return (Complete, CancelRun, Expire) if environment.contract.full_interface else (Complete, CancelRun)


def _most_seats(environment: Environment) -> tuple[int, list[ScenarioResult]]:
    """Seats of the largest run to settle, and the results of the runs that were measured for it.

    The number is 0 if a measured run failed, so that nothing follows from it.
    """
    limit = environment.contract.traits.max_seats
    if limit <= _MAX_SEATS_UNMEASURED:
        return limit, []
    results, most_gas = [], []
    for bookings in _MEASURED_BOOKINGS:
        settled = [run_scenario(environment, _full_run(bookings, settle)) for settle in _ways(environment)]
        results += settled
        most_gas.append(max(row.gas for result in settled for row in result.rows))
    if any(result.findings for result in results):
        return 0, results
    return min(limit, bookings_above_gas_cap(*most_gas), _MAX_BOOKINGS), results


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


def _with_money_in_it(name: str, *calls: CallFunction, books_afterwards: bool) -> Scenario:
    """A scenario with calls between booking and completion.

    Args:
        name: Of the scenario.
        calls: Between booking and completion.
        books_afterwards: Somebody books after the calls, as their numbers may have changed the terms. One without
            numbers may be a pause, which stops new bookings.
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
        actions=(*booked, *calls, *later, *settled),
    )


def _full_run(seats: int, settle: type[_Settlement], *, hostile: bool = False) -> Scenario:
    """A full run with one booking a seat.

    Args:
        seats: Of the run.
        settle: How it is closed.
        hostile: The attendees are hostile contracts; else one of them books all seats.
    """
    guests = _hostile_guests(min(seats, _HOSTILE_GUESTS)) if hostile else {"guest": Actor(pays="self")}
    labels = {f"booking{number + 1}": [*guests][number % len(guests)] for number in range(seats)}
    starts = (seats + 10) * MINUTE
    closings: dict[type[_Settlement], Action] = {
        Complete: Complete(at=starts, run="run1", attended=tuple(labels)),
        CancelRun: CancelRun(run="run1"),
        Expire: Expire(at=starts + Terms().completion_grace, run="run1"),
    }
    who = "of hostile contracts" if hostile else "of one account"
    return Scenario(
        name=f"probe-crowd-of-{seats}-{_kebab_case(settle.__name__)}",
        story=f"A full run, one booking a seat, {who}.",
        strict=False,
        actors={"host": Actor(pays="self"), **guests},
        actions=(
            CreateRun(run="run1", by="host", price_inr=Decimal(20_000), seats=seats, starts=starts),
            *(Book(booking=label, run="run1", by=guest, seats=1) for label, guest in labels.items()),
            closings[settle],
        ),
        origin={PROBE: CROWD if seats > max(_MEASURED_BOOKINGS) else FEW},
    )


def _hostile_guests(count: int) -> dict[str, Actor]:
    kinds = (
        Actor(receiver="burns_gas"),
        Actor(receiver="floods"),
        Actor(receiver="refuses"),
        Actor(receiver="reenters", reenter=Reentry(call="cancelEvent")),
    )
    return {f"guest{number + 1}": kinds[number % len(kinds)] for number in range(count)}

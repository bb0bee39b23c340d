"""Gas and data of the platform's transactions, measured by running scenarios on an EVM in this process.

The gas of any run is computed from that of single transactions; `compare_gas_with_chain` shows how exact this is.
`python -m stakesim.studies.gas_costs` writes the file that sweeps read; a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from eth_account import Account

from stakesim import gas_table
from stakesim.campaign import campaign
from stakesim.economics.gas import COSTS_FILE, IDS_PER_SLOT, DataSizes, GasCosts, gas_used
from stakesim.evm.abi import ContractAbi, checksummed
from stakesim.evm.compiler import compile_contracts, compiler_version
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import first_runs
from stakesim.population.to_scenario import to_scenario
from stakesim.scenario.actions import Action, Actor, Book, CancelBooking, CancelRun, Complete, CreateRun, Expire
from stakesim.scenario.scenario import Scenario
from stakesim.units import DAY

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.population.population import PopulationChunk

FEW, MANY = 4, 18
"""Bookings of the measured runs. Between the two, gas is nearly linear in the number of bookings."""
START = 9 * DAY
"""When the measured runs start."""


class _Plan(NamedTuple):
    """A scenario to measure: how its runs end, and of the middle run the bookings and how many of them attended."""

    ending: str
    bookings: int
    attended: int = 0


_PLANS = (
    _Plan("complete", FEW),
    _Plan("complete", MANY),
    _Plan("complete", MANY, MANY),
    _Plan("cancel_run", FEW),
    _Plan("cancel_run", MANY),
    _Plan("expire", FEW),
    _Plan("expire", MANY),
    _Plan("cancel_booking", MANY),
)


def measure_gas(engine: str = "py-evm") -> GasCosts:
    """Measures the gas of single transactions.

    Each scenario has three runs, of which the middle one is measured: a contract in use has had runs before, and has
    others open.

    Raises:
        ValueError: An invariant is violated.
    """
    result = campaign.run([_measured_scenario(plan) for plan in _PLANS], engine)
    if result.findings:
        raise ValueError(f"the gas can't be measured: {result.findings[0].message}")
    gas_by_action: dict[tuple[_Plan, str], list[int]] = {}
    for plan, scenario_result in zip(_PLANS, result.results, strict=True):
        for row in scenario_result.rows:
            if row.action != "payout":
                gas_by_action.setdefault((plan, row.action), []).append(row.gas)
    complete, complete_each = _linear_closing_gas(gas_by_action, "complete")
    cancel, cancel_each = _linear_closing_gas(gas_by_action, "cancel_run")
    expire, expire_each = _linear_closing_gas(gas_by_action, "expire")
    all_attended, nobody_attended = (
        _closing_gas(gas_by_action, _Plan("complete", MANY, attended)) for attended in (MANY, 0)
    )
    first_create, create, _ = gas_by_action[_Plan("complete", MANY), "create_run"]
    bookings = gas_by_action[_Plan("complete", MANY), "book"][1:-1]  # of the middle run
    cancelled_bookings = gas_by_action[_Plan("cancel_booking", MANY), "cancel_booking"]
    first_complete, _, last_complete = gas_by_action[_Plan("complete", MANY), "complete"]
    return GasCosts(
        create=create,
        first_booking=bookings[0],
        booking=bookings[1],
        new_slot=bookings[IDS_PER_SLOT] - bookings[1],
        cancel_booking=round(sum(cancelled_bookings) / len(cancelled_bookings)),
        complete=complete,
        complete_each=complete_each,
        complete_attended=round((all_attended - nobody_attended) / MANY),
        cancel=cancel,
        cancel_each=cancel_each,
        expire=expire,
        expire_each=expire_each,
        first_create=first_create - create,
        first_fee=first_complete - last_complete,
    )


def _closing_gas(gas_by_action: Mapping[tuple[_Plan, str], list[int]], plan: _Plan) -> int:
    """Gas of closing the middle run, which is closed last but one."""
    return gas_by_action[plan, plan.ending][-2]


def _linear_closing_gas(gas_by_action: Mapping[tuple[_Plan, str], list[int]], ending: str) -> tuple[int, int]:
    """Gas of closing a run without bookings, and the additional gas of each booking, by a line through two points."""
    few, many = (_closing_gas(gas_by_action, _Plan(ending, bookings)) for bookings in (FEW, MANY))
    each = round((many - few) / (MANY - FEW))
    return few - FEW * each, each


def _measured_scenario(plan: _Plan) -> Scenario:
    """The middle run b has the plan's bookings; the runs a and c have one guest each, who does not attend."""
    runs, actions = ("a", "b", "c"), list[Action]()
    guests = ["a0", *(f"b{number}" for number in range(plan.bookings)), "c0"]
    for run in runs:
        actions.append(CreateRun(run=run, by=f"host-{run}", price_inr=Decimal(1_000), seats=40, starts=START))
    actions += [Book(at=DAY, booking=guest, run=guest[0], by=guest, seats=2) for guest in guests]
    for run in runs:
        guests_of_run = [guest for guest in guests if guest[0] == run]
        attended = tuple(guests_of_run[: plan.attended]) if run == "b" else ()
        match plan.ending:
            case "complete":
                actions.append(Complete(at=START, run=run, attended=attended))
            case "cancel_run":
                actions.append(CancelRun(at=2 * DAY, run=run))
            case "expire" if run == "a":  # completed, so that there is a fee, as in a contract in use
                actions.append(Complete(at=START, run=run, attended=()))
            case "expire":
                actions.append(Expire(at=START + 7 * DAY, run=run))
            case _:
                actions += [CancelBooking(at=2 * DAY, booking=guest) for guest in guests_of_run[1::4]]
    actors = {name: Actor() for name in (*(f"host-{run}" for run in runs), *guests)}
    return Scenario(
        name=f"gas-{plan.ending}-{plan.bookings}-{plan.attended}".replace("_", "-"),
        story="Gas of single transactions.",
        strict=False,
        actors=actors,
        actions=tuple(actions),
    )


def measure_data() -> DataSizes:
    """Measures the bytes that a rollup publishes for each transaction, as the rules since Ecotone estimate them.

    Signed as the platform does, with a run and a booking in the tens of thousands, a price near 0.01 ETH and an
    experience id of 36 characters. A byte that is zero counts a quarter.
    """
    abi = ContractAbi(compile_contracts()["EventStake"].abi)
    person, run, first_booking, wei = "0x" + "b7" * 20, 54_321, 43_210, 12_345_678_901_234_567

    def size(function: str, *arguments: Any, value: int = 0) -> int:
        signed = Account.sign_transaction(
            {
                "chainId": 8_453,
                "nonce": 54_321,
                "to": checksummed("0x" + "a5" * 20),
                "value": value,
                "data": abi.encode(function, *arguments),
                "gas": 150_000,
                "maxFeePerGas": 20_000_000,
                "maxPriorityFeePerGas": 1_000_000,
            },
            "0x" + "11" * 32,
        ).raw_transaction
        zeros = bytes(signed).count(0)
        return -(-(4 * zeros + 16 * (len(signed) - zeros)) // 16)

    def completed(attended: int) -> int:
        return size("completeEvent", run, [first_booking + number for number in range(attended)])

    return DataSizes(
        create=size("createEventRunFor", person, "f" * 36, wei, 40, 4_102_444_800),
        booking=size("bookEventFor", person, run, 2, value=2 * wei * 12 // 10),
        cancel_booking=size("cancelBooking", first_booking),
        complete=completed(0),
        complete_attended=-(-(completed(20) - completed(0)) // 20),
        cancel=size("cancelEvent", run),
        expire=size("expireEvent", run),
    )


def costs_file(engine: str = "py-evm") -> str:
    """Returns the content of the file that sweeps read: gas, data and the compiler of the contract."""
    costs = {"compiler": compiler_version(), "gas": asdict(measure_gas(engine)), "data": asdict(measure_data())}
    return json.dumps(costs, indent=2) + "\n"


def compare_with_reviewed(costs: GasCosts) -> pd.DataFrame:
    """Compares measured gas with the reviewed gas of `tests/gas.json`, which is of a contract's only run.

    Returns:
        A row for each transaction: `measured` in a contract in use, `of an only run`, and `reviewed`, which is empty
        where the reviewed gas is of another compiler.
    """
    import pandas as pd

    reviewed = gas_table.reviewed()
    nobody = costs.complete + 10 * costs.complete_each
    everybody = nobody + 10 * costs.complete_attended
    rows = [
        (costs.create, costs.first_create, "the platform opens a run for a host"),
        (costs.first_booking, 0, "the platform books a seat for an attendee, the first one of the run"),
        (costs.booking, 0, "the platform books another seat for another attendee"),
        (costs.cancel_booking, 0, "a booking is cancelled"),
        (everybody, costs.first_fee, "a run of ten bookings is completed, everybody came"),
        (nobody, costs.first_fee, "a run of ten bookings is completed, nobody came"),
        (costs.cancel + 10 * costs.cancel_each, 0, "a run of ten bookings is cancelled"),
        (costs.expire + 10 * costs.expire_each, 0, "a run of ten bookings expires"),
    ]
    table = pd.DataFrame(rows, columns=["measured", "of an only run", "transaction"]).set_index("transaction")
    table["of an only run"] += table["measured"]
    table["reviewed"] = [reviewed.get(transaction) for transaction in table.index]
    return table


def compare_gas_with_chain(chunk: PopulationChunk, count: int, costs: GasCosts, engine: str = "py-evm") -> pd.DataFrame:
    """Compares computed gas with that of the first `count` runs of a chunk, each run on a chain of its own.

    Raises:
        ValueError: An invariant is violated.
    """
    import pandas as pd

    result = campaign.run([to_scenario(chunk, index) for index in range(count)], engine)
    if result.findings:
        raise ValueError(f"the runs can't be compared: {result.findings[0].message}")
    state = first_runs(chunk, count)
    computed = gas_used(state, resolve_outcomes(state), costs, only_run=True)
    on_chain = [
        sum(row.gas for row in scenario_result.rows if row.action not in ("payout", "withdraw_fees"))
        for scenario_result in result.results
    ]
    table = pd.DataFrame({"gas on the chain": on_chain, "gas reckoned": computed})
    table["off by, %"] = 100 * (table["gas reckoned"] / table["gas on the chain"] - 1)
    return table.rename_axis("run")


if __name__ == "__main__":
    COSTS_FILE.write_text(costs_file(), encoding="utf-8")

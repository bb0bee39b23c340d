"""What the platform's transactions cost, measured: runs are played through the services on an EVM in this process.

From single transactions follows the gas of any run, and whole runs that are played show how well.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from stakesim.campaign import campaign
from stakesim.gate import gas
from stakesim.model.state import RunStatus
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import select_runs
from stakesim.population.to_scenario import to_scenario
from stakesim.scenario.actions import Action, Actor, Book, CancelBooking, CancelRun, Complete, CreateRun, Expire
from stakesim.scenario.scenario import Scenario
from stakesim.schema.fields import UNITS

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.population.outcomes import Outcomes
    from stakesim.population.population import PopulationChunk
    from stakesim.population.state import Ints, PopulationState

IDS_IN_A_SLOT = 8
"""Of bookings, in the contract's lists: 32 bits each."""
FEW, MANY = 4, 18
"""Bookings of the runs that are measured; between them gas is nearly a straight line."""
_DAY = UNITS["d"]


@dataclass(frozen=True)
class Costs:
    """Gas of the platform's transactions: by run, and by each of its bookings still standing (`_each`), or each whose
    people came. new_slot: what each booking costs more that begins a storage slot of ids. first_create, first_fee: what
    the first run of a contract costs more, and its first fee; last_close: what it costs more to close the only run that
    is open, less than nothing."""

    create: int
    first_booking: int
    booking: int
    new_slot: int
    cancel_booking: int
    complete: int
    complete_each: int
    complete_came: int
    cancel: int
    cancel_each: int
    expire: int
    expire_each: int
    first_create: int
    first_fee: int
    last_close: int


def measure(engine: str = "py-evm") -> Costs:
    """Plays runs through the services, three in each scenario, and takes the second one: a contract in use has had runs
    before, and has others open.
    Raises `ValueError` where the contract does not do what it must."""
    plans = [("complete", n, attended) for n, attended in ((FEW, 0), (MANY, 0), (MANY, MANY))]
    plans += [(end, n, 0) for end in ("cancel_run", "expire") for n in (FEW, MANY)] + [("cancel_booking", MANY, 0)]
    result = campaign.run([_story(*plan) for plan in plans], engine)
    if result.findings:
        raise ValueError(f"the gas can't be measured: {result.findings[0].message}")
    spent: dict[tuple[str, int, int, str], list[int]] = {}
    for plan, played in zip(plans, result.results, strict=True):
        for row in played.rows:
            if row.action != "payout":
                spent.setdefault((*plan, row.action), []).append(row.gas)

    def ends(end: str, bookings: int, attended: int = 0) -> int:
        return spent[end, bookings, attended, end][-2]

    def line(end: str) -> tuple[int, int]:
        each = round((ends(end, MANY) - ends(end, FEW)) / (MANY - FEW))
        return ends(end, FEW) - FEW * each, each

    a_run = ("complete", MANY, 0)
    opened, second = spent[*a_run, "create_run"], spent[*a_run, "book"][1:-1]
    (complete, complete_each), (cancel, cancel_each), (expire, expire_each) = map(
        line, ("complete", "cancel_run", "expire")
    )
    cancelled = spent["cancel_booking", MANY, 0, "cancel_booking"]
    cancels, completes = spent["cancel_run", FEW, 0, "cancel_run"], spent[*a_run, "complete"]
    last_close = cancels[2] - cancels[0]
    return Costs(
        create=opened[1],
        first_booking=second[0],
        booking=second[1],
        new_slot=second[IDS_IN_A_SLOT] - second[1],
        cancel_booking=round(sum(cancelled) / len(cancelled)),
        complete=complete,
        complete_each=complete_each,
        complete_came=round((ends("complete", MANY, MANY) - ends("complete", MANY)) / MANY),
        cancel=cancel,
        cancel_each=cancel_each,
        expire=expire,
        expire_each=expire_each,
        first_create=opened[0] - opened[1],
        first_fee=completes[0] - completes[2] + last_close,
        last_close=last_close,
    )


def _story(end: str, bookings: int, attended: int) -> Scenario:
    """A run of so many guests, closed between two others of one guest, who does not come."""
    runs, actions = ("a", "b", "c"), list[Action]()
    starts = 9 * _DAY
    guests = ["a0", *(f"b{number}" for number in range(bookings)), "c0"]
    for run in runs:
        actions.append(CreateRun(run=run, by=f"host-{run}", price_inr=Decimal(1_000), seats=40, starts=starts))
    actions += [Book(at=_DAY, booking=guest, run=guest[0], by=guest, seats=2) for guest in guests]
    for run in runs:
        own = [guest for guest in guests if guest[0] == run]
        match end:
            case "complete":
                actions.append(Complete(at=starts, run=run, attended=tuple(own[:attended] if run == "b" else ())))
            case "cancel_run":
                actions.append(CancelRun(at=2 * _DAY, run=run))
            case "expire" if run == "a":  # so that there is a fee, as in a contract in use
                actions.append(Complete(at=starts, run=run, attended=()))
            case "expire":
                actions.append(Expire(at=starts + 7 * _DAY, run=run))
            case _:
                actions += [CancelBooking(at=2 * _DAY, booking=guest) for guest in own[1::4]]
    actors = {name: Actor() for name in (*(f"host-{run}" for run in runs), *guests)}
    return Scenario(
        name=f"gas-{end}-{bookings}-{attended}".replace("_", "-"),
        story="What it costs.",
        strict=False,
        actors=actors,
        actions=tuple(actions),
    )


def used(state: PopulationState, outcomes: Outcomes, costs: Costs, alone: bool = False) -> Ints:
    """Gas of all the platform's transactions for each run. alone: the only run that the contract ever had."""
    import numpy as np

    made, active = outcomes.accepted.sum(axis=0), outcomes.active.sum(axis=0)
    spent: Ints = costs.create + costs.first_booking * (made > 0) + costs.booking * np.maximum(made - 1, 0)
    spent += costs.new_slot * (np.maximum(made - 1, 0) // IDS_IN_A_SLOT)
    spent += costs.cancel_booking * outcomes.cancelled.sum(axis=0) + ends(state, outcomes, costs)
    if not alone:
        return spent
    earned = (outcomes.final_status == RunStatus.COMPLETED) & (active > 0)
    closed = outcomes.final_status != RunStatus.ACTIVE
    spent += costs.first_create + costs.first_fee * earned + costs.last_close * closed
    return spent


def ends(state: PopulationState, outcomes: Outcomes, costs: Costs) -> Ints:
    """Gas of the transaction that closes each run."""
    import numpy as np

    active = outcomes.active.sum(axis=0)
    attended = (outcomes.active & state.intents.reported_attended).sum(axis=0)
    spent: Ints = np.select(
        [outcomes.final_status == status for status in (RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.EXPIRED)],
        [
            costs.complete + costs.complete_each * active + costs.complete_came * attended,
            costs.cancel + costs.cancel_each * active,
            costs.expire + costs.expire_each * active,
        ],
        0,
    )
    return spent


def beside_reviewed(costs: Costs) -> pd.DataFrame:
    """What was measured in a contract in use, what the same is of a contract's only run, and the reviewed gas of such a
    one in `tests/gas.json`; empty where that was of another compiler."""
    import pandas as pd

    reviewed = gas.committed()
    nobody = costs.complete + 10 * costs.complete_each
    everybody = nobody + 10 * costs.complete_came
    rows = [
        (costs.create, costs.first_create, "the platform opens a run for a host"),
        (costs.first_booking, 0, "the platform books a seat for an attendee, the first one of the run"),
        (costs.booking, 0, "the platform books another seat for another attendee"),
        (costs.cancel_booking, 0, "a booking is cancelled"),
        (everybody, costs.first_fee + costs.last_close, "a run of ten bookings is completed, everybody came"),
        (nobody, costs.first_fee + costs.last_close, "a run of ten bookings is completed, nobody came"),
        (costs.cancel + 10 * costs.cancel_each, costs.last_close, "a run of ten bookings is cancelled"),
        (costs.expire + 10 * costs.expire_each, costs.last_close, "a run of ten bookings expires"),
    ]
    table = pd.DataFrame(rows, columns=["measured", "of an only run", "transaction"]).set_index("transaction")
    table["of an only run"] += table["measured"]
    table["reviewed"] = [reviewed.get(sentence) for sentence in table.index]
    return table


def played(drawn: PopulationChunk, count: int, costs: Costs, engine: str = "py-evm") -> pd.DataFrame:
    """The first runs of a chunk, played through the services on a chain: gas that they used, and as reckoned here."""
    import numpy as np
    import pandas as pd

    result = campaign.run([to_scenario(drawn, index) for index in range(count)], engine)
    if result.findings:
        raise ValueError(f"the runs can't be compared: {result.findings[0].message}")
    state = select_runs(drawn, np.arange(count))
    reckoned = used(state, resolve_outcomes(state), costs, alone=True)
    rows = [sum(row.gas for row in one.rows if row.action not in ("payout", "withdraw_fees")) for one in result.results]
    table = pd.DataFrame({"gas on the chain": rows, "gas reckoned": reckoned})
    table["off by, %"] = 100 * (table["gas reckoned"] / table["gas on the chain"] - 1)
    return table.rename_axis("run")

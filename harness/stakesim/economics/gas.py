"""The cost of the platform's transactions: gas, and the data that a rollup publishes.

The gas of any run is computed from that of single transactions, which `stakesim.studies.gas_costs` measures on an EVM.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from stakesim.model.state import RunStatus
from stakesim.paths import package_data
from stakesim.population.exact_int import as_python_ints, fits_int64, wei_to_paise
from stakesim.population.population import DAYS_AFTER, Population, on_calendar
from stakesim.population.state import NEVER
from stakesim.population.streams import stream
from stakesim.prices.gas_models import GasModel, simulate
from stakesim.units import DAY, WEI_PER_GWEI

if TYPE_CHECKING:
    from stakesim.population.outcomes import Outcomes
    from stakesim.population.state import Ints, PopulationState, Wei

IDS_PER_SLOT = 8
"""Booking ids of 32 bits in a storage slot of the contract's lists."""
COSTS_FILE = package_data("gas_costs.json")


@dataclass(frozen=True)
class GasCosts:
    """Gas of the platform's transactions.

    Attributes:
        create: Creating a run.
        first_booking: The first booking of a run.
        booking: Any other booking.
        new_slot: Additional gas of a booking whose id begins a storage slot.
        cancel_booking: Cancelling a booking.
        complete: Completing a run.
        complete_each: Additional gas for each active booking.
        complete_attended: Additional gas for each booking that attended.
        cancel: Cancelling a run.
        cancel_each: Additional gas for each active booking.
        expire: Expiring a run.
        expire_each: Additional gas for each active booking.
        first_create: Additional gas of creating a contract's first run.
        first_fee: Additional gas of a contract's first fee.
    """

    create: int
    first_booking: int
    booking: int
    new_slot: int
    cancel_booking: int
    complete: int
    complete_each: int
    complete_attended: int
    cancel: int
    cancel_each: int
    expire: int
    expire_each: int
    first_create: int
    first_fee: int


@dataclass(frozen=True)
class DataSizes:
    """Bytes of the platform's transactions that a rollup publishes, compressed, see `stakesim.prices.gas_models`.

    Attributes:
        create: Creating a run.
        booking: A booking.
        cancel_booking: Cancelling a booking.
        complete: Completing a run of which nobody attended.
        complete_attended: Additional bytes for each booking that attended.
        cancel: Cancelling a run.
        expire: Expiring a run.
    """

    create: int
    booking: int
    cancel_booking: int
    complete: int
    complete_attended: int
    cancel: int
    expire: int


class TransactionCosts(NamedTuple):
    """What transactions of the packaged contract cost."""

    gas: GasCosts
    data: DataSizes


@lru_cache
def measured_costs() -> TransactionCosts:
    """Returns the costs that were measured and come with the library."""
    costs = json.loads(COSTS_FILE.read_text(encoding="utf-8"))
    return TransactionCosts(GasCosts(**costs["gas"]), DataSizes(**costs["data"]))


def gas_used(state: PopulationState, outcomes: Outcomes, costs: GasCosts, *, only_run: bool = False) -> Ints:
    """Returns the gas of all the platform's transactions for each run, shape (runs,).

    Args:
        state: The runs.
        outcomes: How they ended.
        costs: Gas of single transactions.
        only_run: Whether each run is the only one that its contract ever has.
    """
    import numpy as np

    bookings, active = outcomes.accepted.sum(axis=0), outcomes.active.sum(axis=0)
    more_bookings = np.maximum(bookings - 1, 0)
    used: Ints = costs.create + costs.first_booking * (bookings > 0) + costs.booking * more_bookings
    used += costs.new_slot * (more_bookings // IDS_PER_SLOT)
    used += costs.cancel_booking * outcomes.cancelled.sum(axis=0) + closing_gas(state, outcomes, costs)
    if only_run:
        has_fee = (outcomes.final_status == RunStatus.COMPLETED) & (active > 0)
        used += costs.first_create + costs.first_fee * has_fee
    return used


def closing_gas(state: PopulationState, outcomes: Outcomes, costs: GasCosts) -> Ints:
    """Returns the gas of the transaction that closes each run, 0 for an open one; shape (runs,)."""
    import numpy as np

    active = outcomes.active.sum(axis=0)
    attended = (outcomes.active & state.intents.reported_attended).sum(axis=0)
    gas_by_status = {
        RunStatus.COMPLETED: costs.complete + costs.complete_each * active + costs.complete_attended * attended,
        RunStatus.CANCELLED: costs.cancel + costs.cancel_each * active,
        RunStatus.EXPIRED: costs.expire + costs.expire_each * active,
    }
    used: Ints = np.select(
        [outcomes.final_status == status for status in gas_by_status], list(gas_by_status.values()), 0
    )
    return used


def booking_gas(outcomes: Outcomes, costs: GasCosts) -> Ints:
    """Returns the gas of each booking by its position in the order of its run's bookings; shape (places, runs)."""
    import numpy as np

    booked_at = np.where(outcomes.accepted, outcomes.booked_at, NEVER)
    position = np.argsort(np.argsort(booked_at, axis=0, kind="stable"), axis=0)
    begins_slot = (position > 0) & (position % IDS_PER_SLOT == 0)
    gas: Ints = np.where(position == 0, costs.first_booking, costs.booking) + costs.new_slot * begins_slot
    return gas


def draw_gas_prices(population: Population, gas: GasModel, seed: int, chunk: int) -> Ints:
    """Draws the gas prices of a chunk's runs: one path for each run, or for each platform.

    Returns:
        Wei per gas on each day from the run's creation, shape (days + 1, `population.chunk_size`).
    """
    rng = stream(seed, chunk, "gas")
    days = population.lead_time[1] // DAY + DAYS_AFTER
    prices: Ints = on_calendar(population, seed, chunk, days, lambda paths, days: simulate(gas, rng, paths, days + 1))
    return prices[:, : population.chunk_size]


def costs_in_paise(
    state: PopulationState, outcomes: Outcomes, costs: TransactionCosts, prices: Ints, gas: GasModel
) -> Ints:
    """Returns what the platform's transactions cost, each at the gas price and the rate of ETH of its day.

    Args:
        state: The runs.
        outcomes: How they ended.
        costs: Costs of single transactions.
        prices: Wei per gas on each day, shape (days, runs).
        gas: The model, for its price of data.

    Returns:
        Paise of each run, shape (runs,).
    """
    import numpy as np

    units, sizes = costs
    status, zero = outcomes.final_status, np.zeros(state.run_count, np.int64)
    attended = (outcomes.active & state.intents.reported_attended).sum(axis=0)
    closing_size = np.select(
        [status == RunStatus.COMPLETED, status == RunStatus.CANCELLED, status == RunStatus.EXPIRED],
        [sizes.complete + sizes.complete_attended * attended, zero + sizes.cancel, zero + sizes.expire],
        0,
    )
    byte_wei = int((gas.data_gwei or 0) * WEI_PER_GWEI)

    every = np.arange(state.run_count)

    def paise(used: Ints, size: Ints | int, at: Ints, run: Ints = every) -> Ints:
        days = at // DAY
        price = prices[np.clip(days, 0, len(prices) - 1), run]
        highest = int(price.max(initial=0))
        if not fits_int64(int(used.max(initial=0)) * highest + int(np.max(size, initial=0)) * byte_wei):
            used, price = as_python_ints(used), as_python_ints(price)
        wei: Wei = used * price + size * byte_wei * (used > 0)
        return wei_to_paise(wei, state.rates[np.clip(days, 0, len(state.rates) - 1), run])

    bookings = paise(booking_gas(outcomes, units) * outcomes.accepted, sizes.booking, outcomes.booked_at)
    total: Ints = paise(zero + units.create, sizes.create, zero) + bookings.sum(axis=0)
    total = total + paise(closing_gas(state, outcomes, units), closing_size, outcomes.closed_at)
    place, run = np.nonzero(outcomes.cancelled)  # few of all bookings
    used = np.full(len(run), units.cancel_booking)
    cancellations = paise(used, sizes.cancel_booking, outcomes.cancelled_at[place, run], run)
    total = total.astype(np.result_type(total, cancellations))
    np.add.at(total, run, cancellations)
    return total

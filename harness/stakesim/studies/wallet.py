"""The float of the platform's wallet: how much money it needs so that it seldom runs dry between two refills.

The wallet pays every host's stake, every attendee's payment and stake, and the gas; people pay INR to the platform.
Payouts of the contract to people without an address of their own return to the wallet; all others leave it.

At regular intervals the wallet is refilled to its float, in INR at the rate of the day, and any surplus is withdrawn.
So are the platform's earnings in the contract. The wallet runs dry if, between two refills, more has flowed out than
was in it. That is the finite-time ruin of a compound Poisson process (S. Asmussen, H. Albrecher, Ruin Probabilities,
2010, chapter V), here by simulation. On each day, money flows out before any returns.

Amounts are whole gwei: outflows rounded up, returns rounded down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from stakesim.economics.gas import GasCosts, booking_gas, closing_gas
from stakesim.economics.intervals import wilson_interval
from stakesim.economics.risk import TAIL, tail_risk
from stakesim.economics.settle import settle
from stakesim.population.exact_int import fits_int64
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import DAYS_AFTER, Population, draw, first_runs
from stakesim.population.state import NEVER
from stakesim.population.streams import stream
from stakesim.prices.gas_models import GasModel
from stakesim.prices.gas_models import simulate as simulate_gas_prices
from stakesim.prices.market import simulate
from stakesim.prices.price_models import Constant, PriceModel
from stakesim.studies.break_even import completed_seats, scaled_income
from stakesim.units import BPS, DAY, WEI_PER_GWEI

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.population.state import Bools, Ints, Wei
    from stakesim.scenario.actions import Terms

DAYS_PER_YEAR = 364
"""Whole weeks, so that weekly refills divide the year."""
GWEI_PER_MICROETHER = 1_000
_Rounding: TypeAlias = Callable[["Ints", int, "Ints"], "Ints"]


@dataclass(frozen=True)
class RunFlows:
    """What each run takes from and returns to the wallet on each day after its creation.

    Attributes:
        paid_in: Gwei paid into the contract, shape (days, runs).
        returned: Gwei paid back, if nobody has an address of their own; shape (days, runs).
        gas: Units of gas, shape (days, runs).
        seats_sold: Seats of each run if it was completed, else 0; shape (runs,).
        seats_forfeited: The no-shows' seats among them, shape (runs,).
        rate_paise: Paise per ETH at which INR became wei.
    """

    paid_in: Ints
    returned: Ints
    gas: Ints
    seats_sold: Ints
    seats_forfeited: Ints
    rate_paise: int


@dataclass(frozen=True)
class WalletFlows:
    """Flows of simulated wallets, each of which has a year of days.

    Attributes:
        out: Gwei that flow out, the cost of gas included; shape (days, years).
        returned: Gwei that return, shape (days, years).
        gas_cost: The cost of gas in gwei, shape (days, years).
        rates_paise: Paise per ETH, shape (days, years).
    """

    out: Ints
    returned: Ints
    gas_cost: Ints
    rates_paise: Ints


def run_flows(population: Population, runs: int, seed: int, costs: GasCosts) -> RunFlows:
    """Computes the flows of at most a chunk of runs, all at one rate.

    A run that is created at another rate has proportionally more or less wei.
    """
    import numpy as np

    price = population.price if isinstance(population.price, Constant) else Constant()
    state = first_runs(draw(population, seed, price=price), runs)
    outcomes = resolve_outcomes(state)
    settlement = settle(state, outcomes)
    shape = (population.lead_time[1] // DAY + DAYS_AFTER, state.run_count)
    created_at, all_runs = np.zeros(state.run_count, np.int64), np.ones(state.run_count, np.bool_)
    closed = outcomes.closed_at < NEVER
    paid_in = _sum_by_day(
        shape,
        (created_at, _to_gwei_rounded_up(settlement.host_stake), all_runs),
        (outcomes.booked_at, _to_gwei_rounded_up(settlement.paid), outcomes.accepted),
    )
    returned = _sum_by_day(
        shape,
        (outcomes.cancelled_at, settlement.received // WEI_PER_GWEI, outcomes.cancelled),
        (outcomes.closed_at, settlement.received // WEI_PER_GWEI, outcomes.active & closed),
        (outcomes.closed_at, settlement.host // WEI_PER_GWEI, closed),
    )
    gas = _sum_by_day(
        shape,
        (created_at, costs.create, all_runs),
        (outcomes.booked_at, booking_gas(outcomes, costs), outcomes.accepted),
        (outcomes.cancelled_at, costs.cancel_booking, outcomes.cancelled),
        (outcomes.closed_at, closing_gas(state, outcomes, costs), closed),
    )
    return RunFlows(paid_in, returned, gas, *completed_seats(state, outcomes), int(state.rates[0, 0]))


def _sum_by_day(shape: tuple[int, int], *entries: tuple[Ints, Any, Bools]) -> Ints:
    """Sums amounts by the day of each run.

    Args:
        shape: Shape of the sums, (days, runs).
        entries: Times in seconds, amounts, and which of these to count: arrays that broadcast to the shape of the last
            one, (runs,) or (places, runs).
    """
    import numpy as np

    days, runs = shape
    sums = np.zeros(shape, np.int64)
    for times, amounts, counted in entries:
        day = np.clip(np.broadcast_to(times, counted.shape) // DAY, 0, days - 1)
        run = np.broadcast_to(np.arange(runs), counted.shape)
        np.add.at(sums, (day[counted], run[counted]), np.broadcast_to(amounts, counted.shape)[counted])
    return sums


def _to_gwei_rounded_up(wei: Wei) -> Wei:
    gwei: Wei = -(-wei // WEI_PER_GWEI)
    return gwei


def wallet_flows(
    pool: RunFlows,
    runs_a_day: float,
    price: PriceModel,
    gas_price: GasModel,
    years: int,
    seed: int,
    *,
    addresses_bps: int = 0,
) -> WalletFlows:
    """Simulates the wallets of platforms that have been in operation for at least the lifetime of a run.

    Args:
        pool: Runs to draw from.
        runs_a_day: Mean of the Poisson number of runs created on a day.
        price: The market of ETH.
        gas_price: The market of gas.
        years: Number of simulated wallets, each for a year.
        seed: Seed of all random numbers.
        addresses_bps: Share of payouts, in basis points, that goes to people's own addresses.

    Raises:
        ValueError: The amounts of a day exceed int64.
    """
    import numpy as np

    run_rng, rate_rng, gas_rng = (stream(seed, "wallets", part) for part in ("runs", "rates", "gas prices"))
    lifetime, pool_size = pool.paid_in.shape
    days = lifetime + DAYS_PER_YEAR
    counts = run_rng.poisson(runs_a_day, (days, years))
    drawn_runs = run_rng.integers(pool_size, size=int(counts.sum()))
    rates = np.maximum(np.rint(simulate(price, rate_rng, years, days - 1) * 100), 1).astype(np.int64)

    def totals(table: Ints, rounding: _Rounding | None) -> Ints:
        """Sums a table of the pool over all runs of each day, converted to the rate of the day of creation."""
        total = np.zeros((days, years), np.int64)
        for age in range(lifetime):
            created = _sums_of_groups(table[age, drawn_runs], counts)[: days - age]
            total[age:] += created if rounding is None else rounding(created, pool.rate_paise, rates[: days - age])
        return total[lifetime:]

    gas_cost = _gas_cost_gwei(totals(pool.gas, None), simulate_gas_prices(gas_price, gas_rng, years, DAYS_PER_YEAR))
    returned = totals(pool.returned, _rescale_down) * (BPS - addresses_bps) // BPS
    return WalletFlows(totals(pool.paid_in, _rescale_up) + gas_cost, returned, gas_cost, rates[lifetime:])


def _sums_of_groups(values: Ints, counts: Ints) -> Ints:
    """Sums consecutive groups of `values`, one for each count, in the shape of `counts`."""
    import numpy as np

    sums = np.concatenate([[0], np.cumsum(values)])
    ends = np.cumsum(counts.ravel())
    groups: Ints = (sums[ends] - sums[ends - counts.ravel()]).reshape(counts.shape)
    return groups


def _rescale_up(gwei: Ints, rate: int, new_rates: Ints) -> Ints:
    """Gwei of the same INR at new rates, rounded up."""
    _require_int64(gwei, rate)
    rescaled: Ints = -(-gwei * rate // new_rates)
    return rescaled


def _rescale_down(gwei: Ints, rate: int, new_rates: Ints) -> Ints:
    """Gwei of the same INR at new rates, rounded down."""
    _require_int64(gwei, rate)
    return gwei * rate // new_rates


def _gas_cost_gwei(gas: Ints, wei_per_gas: Ints) -> Ints:
    """The cost of gas, rounded up. The price is split, as 16 million gas at 600 gwei would exceed int64 in wei."""
    gwei, wei = wei_per_gas // WEI_PER_GWEI, wei_per_gas % WEI_PER_GWEI
    _require_int64(gas, max(int(gwei.max()), int(wei.max())))
    cost: Ints = gas * gwei - (-gas * wei // WEI_PER_GWEI)
    return cost


def _require_int64(amounts: Ints, factor: int) -> None:
    """Raises `ValueError` if a product may exceed int64."""
    if not fits_int64(int(amounts.max(initial=0)) * factor):
        raise ValueError("so much goes through the wallet on one day that it can't be counted; take fewer runs a day")


def required_floats(flows: WalletFlows, refill_days: int) -> Ints:
    """Returns the least float with which each wallet does not run dry in its year.

    Args:
        flows: From `wallet_flows`.
        refill_days: Days between two refills.

    Returns:
        Paise, rounded up, shape (years,).

    Raises:
        ValueError: There is no refill in a year.
    """
    import numpy as np

    days = len(flows.out) // refill_days * refill_days
    if not days:
        raise ValueError(f"a wallet that is filled up every {refill_days} days is not within a year; fill it up sooner")
    out, returned = (table[:days].reshape(-1, refill_days, table.shape[1]) for table in (flows.out, flows.returned))
    returned_before = np.cumsum(returned, axis=1) - returned
    shortfall = np.maximum((np.cumsum(out, axis=1) - returned_before).max(axis=1), 0)
    rates = flows.rates_paise[:days:refill_days]
    microether = shortfall // GWEI_PER_MICROETHER  # a coarser unit, so that the product fits int64
    _require_int64(microether, int(rates.max()))
    paise = -(-(microether + 1) * rates // (WEI_PER_GWEI // GWEI_PER_MICROETHER))
    required: Ints = paise.max(axis=0)
    return required


def ruin_probabilities(required: Ints, floats_inr: Sequence[float]) -> pd.DataFrame:
    """Estimates the probability that the wallet runs dry within a year.

    Args:
        required: Paise of float, from `required_floats`.
        floats_inr: Floats in INR.

    Returns:
        A row for each float, with the 95% interval.
    """
    import pandas as pd

    rows = []
    for inr in floats_inr:
        ruined = int((required > round(inr * 100)).sum())
        low, high = wilson_interval(ruined, len(required))
        rows.append({"float": inr, "chance": ruined / len(required), "low": low, "high": high})
    return pd.DataFrame(rows).set_index("float")


def float_table(cases: Mapping[str, WalletFlows], refill_days: Sequence[int], *, tail: float = TAIL) -> pd.DataFrame:
    """Estimates the float with which the wallet runs dry with a probability of at most `tail` in a year.

    Returns:
        A row for each case and number of days between refills: INR of float with its 95% interval, and the float in
        days of mean outflow.
    """
    import pandas as pd

    rows = []
    for case, flows in cases.items():
        outflow_inr_a_day = float((flows.out / WEI_PER_GWEI * flows.rates_paise / 100).mean())
        for days in refill_days:
            risk = tail_risk(required_floats(flows, days) / 100, tail=tail)
            rows.append(
                {
                    "case": case,
                    "filled up every": days,
                    "float": risk.var,
                    "from": risk.var_low,
                    "to": risk.var_high,
                    "in days of outflow": risk.var / outflow_inr_a_day,
                }
            )
    return pd.DataFrame(rows).set_index(["case", "filled up every"])


def loss_making_runs(
    flows: RunFlows,
    gas_prices: Mapping[str, GasModel],
    tickets_inr: Sequence[float],
    rate_inr: int,
    terms: Terms,
    seed: int,
) -> pd.DataFrame:
    """Computes the share of runs with any income whose gas costs more than that. Each run has its own gas price path.

    Args:
        flows: The runs.
        gas_prices: Markets of gas by name.
        tickets_inr: Ticket prices in INR.
        rate_inr: INR per ETH.
        terms: Terms of the contract.
        seed: Seed of the gas prices.

    Returns:
        Percent of the runs: a row for each ticket price, a column for each market of gas.
    """
    import pandas as pd
    from numpy.random import default_rng

    income = scaled_income(terms, flows.seats_sold, flows.seats_forfeited)
    has_income = income > 0
    columns = {}
    for name, gas_price in gas_prices.items():
        days, runs = flows.gas.shape
        path = simulate_gas_prices(gas_price, default_rng(seed), runs, days)
        cost_inr = (flows.gas * (path / WEI_PER_GWEI)).sum(axis=0)[has_income] / WEI_PER_GWEI * rate_inr
        break_even = cost_inr / (income[has_income] / BPS**2)
        columns[name] = [100 * float((break_even > ticket).mean()) for ticket in tickets_inr]
    return pd.DataFrame(columns, index=pd.Index(tickets_inr, name="ticket, INR"))

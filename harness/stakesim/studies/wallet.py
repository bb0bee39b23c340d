"""The platform's wallet: how large a float it needs, so that it seldom runs dry before it is filled up again.

The wallet pays in every host's stake, every attendee's payment and stake, and the gas; people pay INR to the platform.
What the contract pays to people without an address of their own comes back to the wallet, all else goes to the people.
Every so many days the wallet is filled up to the float, in INR at that day's rate, and what is above it is taken out.
It runs dry when between two fillings more has gone out than was in it: the finite-time ruin of a compound Poisson
process (S. Asmussen, H. Albrecher, Ruin Probabilities, 2010, chapter V), here by simulation. On each day money goes out
before any comes back. What the platform earns is taken out of the contract at the fillings.

Amounts are whole gwei, what goes out rounded up, what comes back down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stakesim.economics.risk import interval, risk
from stakesim.economics.settle import settle
from stakesim.population.exact_int import BPS, fits_int64
from stakesim.population.outcomes import resolve_outcomes, timeline
from stakesim.population.population import DAYS_AFTER, Population, draw, select_runs
from stakesim.population.state import DAY, NEVER
from stakesim.prices.market import simulate
from stakesim.prices.price_models import Constant, PriceModel
from stakesim.studies.break_even import sales, weight
from stakesim.studies.gas_costs import IDS_IN_A_SLOT, Costs, ends
from stakesim.studies.gas_prices import WEI_PER_GWEI, GasPrice
from stakesim.studies.gas_prices import simulate as simulate_gas

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.population.state import Ints, Wei
    from stakesim.scenario.actions import Terms

YEAR = 364
"""Days: whole weeks."""


@dataclass(frozen=True)
class Profiles:
    """What runs do to the wallet on each day of their lives, shape (days, runs). paid_in: gwei; back: gwei that come
    back if nobody has an address of their own; gas: units. sold, forfeited: seats of each run that was completed, and
    those of its no-shows. rate: paise for one ETH at which the wei are reckoned."""

    paid_in: Ints
    back: Ints
    gas: Ints
    sold: Ints
    forfeited: Ints
    rate: int


@dataclass(frozen=True)
class Flows:
    """Gwei of whole wallets by the day, shape (days, years), and the rates of ETH in paise."""

    out: Ints
    back: Ints
    gas: Ints
    rates: Ints


def profiles(population: Population, runs: int, seed: int, costs: Costs) -> Profiles:
    """Some runs of a population (at most a chunk), all at one rate: a run that is created at another one has as many
    times more or less wei."""
    import numpy as np

    price = population.price if isinstance(population.price, Constant) else Constant()
    drawn = draw(population, seed, price=price)
    state = select_runs(drawn, np.arange(runs))
    outcomes, when = resolve_outcomes(state), timeline(state)
    settled = settle(state, outcomes)
    runs = state.runs
    days = population.lead_time[1] // DAY + DAYS_AFTER
    paid_in, back, gas = (np.zeros((days, runs), np.int64) for _ in range(3))
    every = np.broadcast_to(np.arange(runs), state.shape)
    start = np.zeros(runs, np.int64)

    def put(table: Ints, at: Ints, amounts: Any, which: Any) -> None:
        on = np.clip(np.broadcast_to(at, which.shape) // DAY, 0, days - 1)
        column = every if which.ndim == 2 else every[0]
        np.add.at(table, (on[which], column[which]), np.broadcast_to(amounts, which.shape)[which])

    everywhere, closed = np.ones(runs, np.bool_), outcomes.closed_at < NEVER
    put(paid_in, start, _gwei_up(settled.host_stake), everywhere)
    put(paid_in, outcomes.booked_at, _gwei_up(settled.paid), outcomes.accepted)
    put(back, when.cancels_at, settled.received // WEI_PER_GWEI, outcomes.cancelled)
    put(back, outcomes.closed_at, settled.received // WEI_PER_GWEI, outcomes.active & closed)
    put(back, outcomes.closed_at, settled.host // WEI_PER_GWEI, closed)
    # which booking of its run each one is, in their order, so that the first of a storage slot costs what it does
    turn = np.argsort(np.argsort(np.where(outcomes.accepted, outcomes.booked_at, NEVER), axis=0, kind="stable"), axis=0)
    booking = np.where(turn == 0, costs.first_booking, costs.booking)
    booking = booking + costs.new_slot * ((turn > 0) & (turn % IDS_IN_A_SLOT == 0))
    put(gas, start, costs.create, everywhere)
    put(gas, outcomes.booked_at, booking, outcomes.accepted)
    put(gas, when.cancels_at, costs.cancel_booking, outcomes.cancelled)
    put(gas, outcomes.closed_at, ends(state, outcomes, costs), closed)
    return Profiles(paid_in, back, gas, *sales(state, outcomes), int(state.rates[0, 0]))


def _gwei_up(wei: Wei) -> Wei:
    up: Wei = -(-wei // WEI_PER_GWEI)
    return up


def flows(
    of: Profiles,
    runs_a_day: float,
    price: PriceModel,
    gas_price: GasPrice,
    years: int,
    seed: int,
    addresses_bps: int = 0,
) -> Flows:
    """Years of a platform on which so many runs are created a day, a Poisson number on each; it has been at it for as
    long as a run lives. addresses_bps: part of what is paid out that goes to addresses of people's own."""
    import numpy as np
    from numpy.random import SeedSequence, default_rng

    of_runs, of_rates, of_gas = (default_rng(each) for each in SeedSequence([seed, 0xF10A7]).spawn(3))
    length, pool = of.paid_in.shape
    days = length + YEAR
    counts = of_runs.poisson(runs_a_day, (days, years))
    picks = of_runs.integers(pool, size=int(counts.sum()))
    rates = np.maximum(np.rint(simulate(price, of_rates, years, days - 1) * 100), 1).astype(np.int64)
    last = np.cumsum(counts.ravel())
    totals = {}
    for name in ("paid_in", "back", "gas"):
        table, total = getattr(of, name), np.zeros((days, years), np.int64)
        for day in range(length):
            sums = np.concatenate([[0], np.cumsum(table[day, picks])])
            created = (sums[last] - sums[last - counts.ravel()]).reshape(days, years)[: days - day]
            total[day:] += created if name == "gas" else _at_rate(created, of.rate, rates[: days - day], name)
        totals[name] = total[length:]
    gwei = _gas_gwei(totals["gas"], simulate_gas(gas_price, of_gas, years, YEAR))
    back = totals["back"] * (BPS - addresses_bps) // BPS
    return Flows(totals["paid_in"] + gwei, back, gwei, rates[length:])


def _gas_gwei(gas: Ints, wei: Ints) -> Ints:
    """What gas costs, rounded up; split, since the product would not fit at 16 million gas and 600 gwei."""
    whole, rest = wei // WEI_PER_GWEI, wei % WEI_PER_GWEI
    _check(gas, max(int(whole.max()), int(rest.max())))
    cost: Ints = gas * whole - (-gas * rest // WEI_PER_GWEI)
    return cost


def _check(amounts: Ints, factor: int) -> None:
    """Raises `ValueError` where a product would not fit int64."""
    if not fits_int64(int(amounts.max(initial=0)) * factor):
        raise ValueError("so much goes through the wallet on one day that it can't be counted; take fewer runs a day")


def _at_rate(gwei: Ints, was: int, now: Ints, name: str) -> Ints:
    """The gwei of runs that were created at another rate: up where they go out, down where they come back."""
    _check(gwei, was)
    scaled = -(-gwei * was // now) if name == "paid_in" else gwei * was // now
    return scaled


def needs(of: Flows, every: int) -> Ints:
    """Paise of float with which each year's wallet, filled up every so many days, would just not have run dry."""
    import numpy as np

    days = len(of.out) // every * every
    if not days:
        raise ValueError(f"a wallet that is filled up every {every} days is not within a year; fill it up sooner")
    out, back = (flow[:days].reshape(-1, every, flow.shape[1]) for flow in (of.out, of.back))
    before = np.cumsum(back, axis=1) - back
    short = np.maximum((np.cumsum(out, axis=1) - before).max(axis=1), 0)
    rates = of.rates[:days:every]
    _check(short // 1_000, int(rates.max()))
    paise = -(-(short // 1_000 + 1) * rates // (WEI_PER_GWEI // 1_000))  # by the microether, so that int64 holds it
    worst: Ints = paise.max(axis=0)
    return worst


def ruin(needed: Ints, floats_inr: Sequence[float]) -> pd.DataFrame:
    """Chance that the wallet runs dry at least once in a year, with its 95% interval: a row for each float."""
    import pandas as pd

    rows = []
    for inr in floats_inr:
        hits = int((needed > round(inr * 100)).sum())
        low, high = interval(hits, len(needed))
        rows.append({"float": inr, "chance": hits / len(needed), "low": low, "high": high})
    return pd.DataFrame(rows).set_index("float")


def floats(cases: Mapping[str, Flows], every: Sequence[int], tail: float = 0.05) -> pd.DataFrame:
    """INR of float with which the wallet runs dry in at most `tail` of the years, with its 95% interval: a row for each
    case and number of days between fillings; beside it the INR that are paid in on a day."""
    import pandas as pd

    rows = []
    for name, flow in cases.items():
        a_day = float((flow.out / WEI_PER_GWEI * flow.rates / 100).mean())
        for days in every:
            needed = risk(needs(flow, days) / 100, tail)
            rows.append(
                {"case": name, "filled up every": days, "float": needed.var, "from": needed.var_low}
                | {"to": needed.var_high, "in days of outflow": needed.var / a_day}
            )
    return pd.DataFrame(rows).set_index(["case", "filled up every"])


def losing(
    of: Profiles,
    gas_prices: Mapping[str, GasPrice],
    tickets_inr: Sequence[float],
    rate_inr: int,
    terms: Terms,
    seed: int,
) -> pd.DataFrame:
    """Percent of the runs that earn anything whose gas costs more than that, by ticket price: each has a path of
    gas prices of its own. rate_inr: INR for one ETH."""
    import pandas as pd
    from numpy.random import default_rng

    weights = weight(terms, of.sold, of.forfeited)
    earns = weights > 0
    select_runs = {}
    for name, price in gas_prices.items():
        path = simulate_gas(price, default_rng(seed), of.gas.shape[1], len(of.gas))
        cost = (of.gas * (path / WEI_PER_GWEI)).sum(axis=0)[earns] / WEI_PER_GWEI * rate_inr
        needed = cost / (weights[earns] / BPS**2)
        select_runs[name] = [100 * float((needed > ticket).mean()) for ticket in tickets_inr]
    return pd.DataFrame(select_runs, index=pd.Index(tickets_inr, name="ticket, INR"))

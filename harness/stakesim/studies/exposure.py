"""Exposure to moves of ETH in INR while money is in the contract, under three ways to price a seat.

A run is listed in INR and settled in wei. A party's gain is

    (INR received - INR paid, each amount at the rate of its moment) - (the same if the run were settled in INR)

The subtracted amount is what the INR list promised: the contract's rules applied to INR. Amounts are whole paise;
floats are used for shares and statistics only. Gas is not counted here, but in `stakesim.studies.break_even`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from stakesim.economics.intervals import wilson_interval
from stakesim.economics.risk import tail_risk
from stakesim.economics.settle import Settlement, settle, settle_runs
from stakesim.economics.spot_check import compare_with_chain
from stakesim.model.state import RunStatus
from stakesim.population.behaviours import Cancel, HostCancels, NoShow
from stakesim.population.exact_int import paise_to_wei, wei_to_paise
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import Population, draw, draw_runs
from stakesim.prices.market import simulate
from stakesim.prices.price_models import Bootstrap, Garch, Gbm, Merton, PriceModel
from stakesim.studies.price_statistics import HORIZONS, MOVE
from stakesim.units import DAY

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.population.outcomes import Outcomes
    from stakesim.population.state import Ints, PopulationState, Wei

PRICINGS = {
    "wei-fixed": "The INR price becomes wei once, when the run is created: the contract's rule.",
    "re-quoted": "The INR price becomes wei anew at each booking, and these wei are then fixed.",
    "INR-fixed": "As re-quoted, and the platform pays or keeps the difference to the INR amounts at each payout.",
}
POSITIONS = ("attendees", "host's revenue", "host's stake", "platform")

INR_PER_ETH = Decimal(200_000)
MARKETS: Mapping[str, PriceModel] = {
    "GBM": Gbm(inr_per_eth=INR_PER_ETH, annual_volatility=0.805, step=DAY),
    "Merton": Merton(inr_per_eth=INR_PER_ETH),
    "bootstrap, 7 days": Bootstrap(inr_per_eth=INR_PER_ETH, block_days=7),
    "bootstrap, 20 days": Bootstrap(inr_per_eth=INR_PER_ETH),
    "GARCH": Garch(inr_per_eth=INR_PER_ETH),
}
"""Each model is calibrated to ETH as far as possible, but has no drift, as nobody can rely on one. The bootstraps have
the drift of their series."""
LEADS = HORIZONS
"""Days from a run's creation to its start."""


def population_with_lead(days: int = 30) -> Population:
    """Returns a population of 20-seat runs that start `days` days after creation, with no-shows and cancellations."""
    return Population(
        name=f"lead-{days}",
        story=f"Runs that start {days} days after they are created.",
        seats=(20, 20),
        price_inr=(Decimal(300), Decimal(5_000)),
        lead_time=(days * DAY, days * DAY),
        behaviours=(NoShow(), Cancel(), HostCancels()),
    )


def gains(state: PopulationState, outcomes: Outcomes) -> dict[str, dict[str, Ints]]:
    """Returns what each party gained above what was promised.

    Returns:
        For each of `PRICINGS` and `POSITIONS` paise of shape (runs,), exact but for the rounding of each amount to a
        paisa.
    """
    import numpy as np

    promised_net = _net_receipts(state, outcomes, promised(state, outcomes), in_paise=True)

    def above_promised(settlement: Settlement) -> dict[str, Ints]:
        net = _net_receipts(state, outcomes, settlement)
        return {position: net[position] - promised_net[position] for position in POSITIONS}

    nothing = np.zeros(state.run_count, np.int64)
    wei_fixed = above_promised(settle(state, outcomes))
    requoted = above_promised(settle(state, outcomes, quotes=booking_quotes(state, outcomes)))
    inr_fixed = dict.fromkeys(POSITIONS, nothing) | {"platform": sum(requoted.values(), nothing)}
    return {"wei-fixed": wei_fixed, "re-quoted": requoted, "INR-fixed": inr_fixed}


def booking_quotes(state: PopulationState, outcomes: Outcomes) -> Wei:
    """Returns the price of a seat in wei at the rate when each booking was made, shape (places, runs)."""
    import numpy as np

    prices = np.broadcast_to(state.price_paise, state.shape)
    return paise_to_wei(prices, state.rate_at(outcomes.booked_at))


def promised(state: PopulationState, outcomes: Outcomes) -> Settlement:
    """Settles the runs by the contract's rules with INR prices: all amounts are paise."""
    intents = state.intents
    return settle_runs(state.terms, state.price_paise, state.seats, intents.seats, outcomes, intents.reported_attended)


def _net_receipts(
    state: PopulationState, outcomes: Outcomes, settlement: Settlement, *, in_paise: bool = False
) -> dict[str, Ints]:
    """Paise received less paise paid of each position, each amount at the rate of its moment.

    Args:
        state: The runs.
        outcomes: How they ended.
        settlement: Amounts in wei or paise.
        in_paise: Whether the amounts are paise.
    """
    import numpy as np

    def value(amounts: Wei, times: Ints) -> Ints:
        paise = amounts if in_paise else wei_to_paise(amounts, state.rate_at(times))
        return paise.astype(np.int64)

    refunded_at = np.where(outcomes.cancelled, outcomes.cancelled_at, outcomes.closed_at)
    bookings = value(settlement.received, refunded_at) - value(settlement.paid, outcomes.booked_at)
    by_host = state.intents.by_host
    created_at = np.zeros(state.run_count, np.int64)
    active_seats = (state.intents.seats * outcomes.active).sum(axis=0)
    stake_is_returned = (
        (outcomes.final_status == RunStatus.COMPLETED)
        | (outcomes.final_status == RunStatus.CANCELLED)
        | ((outcomes.final_status == RunStatus.EXPIRED) & (active_seats == 0))
    )
    returned_stake = settlement.host_stake * stake_is_returned
    host_bookings = (bookings * by_host).sum(axis=0)
    return {
        "attendees": (bookings * ~by_host).sum(axis=0),
        "host's revenue": value(settlement.host - returned_stake, outcomes.closed_at) + host_bookings,
        "host's stake": value(returned_stake, outcomes.closed_at) - value(settlement.host_stake, created_at),
        "platform": value(settlement.platform, outcomes.closed_at),
    }


def exposures(
    population: Population, price: PriceModel, runs: int, seed: int, *, spot_check: int = 0, engine: str = "py-evm"
) -> pd.DataFrame:
    """Computes the gains of many runs.

    Args:
        population: The runs and people.
        price: The market.
        runs: Number of runs.
        seed: Seed of all random numbers.
        spot_check: Runs to carry out on a chain first, whose payouts must equal those of the wei-fixed pricing.
        engine: EVM engine of the spot check.

    Returns:
        A row for each run and pricing. Columns, in paise: `sales`, the INR price of the seats that are booked at the
        end; `promised`, the host's promised revenue, 0 where the run was not completed; the gain of each of
        `POSITIONS`.

    Raises:
        MismatchError: The spot check found a difference.
    """
    import pandas as pd

    if spot_check:
        chunk = draw(population, seed, price=price)
        compare_with_chain([(chunk, index) for index in range(min(spot_check, runs))], engine)
    parts = []
    for state in draw_runs(population, seed, runs, price=price):
        outcomes = resolve_outcomes(state)
        promised_paise = promised(state, outcomes)
        completed = outcomes.final_status == RunStatus.COMPLETED
        totals = {
            "sales": state.price_paise * (state.intents.seats * outcomes.active).sum(axis=0),
            "promised": (promised_paise.host - promised_paise.host_stake) * completed,
        }
        parts += [
            pd.DataFrame({"pricing": pricing, **totals, **gain_by_position})
            for pricing, gain_by_position in gains(state, outcomes).items()
        ]
    return pd.concat(parts, ignore_index=True)


def gains_by_position(frame: pd.DataFrame) -> pd.DataFrame:
    """Summarises gains in percent of the run's sales; runs without sales are left out.

    Args:
        frame: From `exposures`.

    Returns:
        A row for each pricing and position: mean, quantiles, VaR and ES of the loss, and the ES in INR a run.
    """
    import pandas as pd

    rows = []
    for pricing in PRICINGS:
        sold = frame[(frame.pricing == pricing) & (frame.sales > 0)]
        for position in POSITIONS:
            percent = 100 * sold[position] / sold.sales
            risk = tail_risk(0 - percent)
            rows.append(
                {"pricing": pricing, "position": position, "mean": percent.mean()}
                | {f"{level}%": percent.quantile(level / 100) for level in (5, 25, 50, 75, 95)}
                | {"VaR 5%": risk.var, "ES 5%": risk.es, "INR a run, ES 5%": tail_risk(0 - sold[position] / 100).es}
            )
    return pd.DataFrame(rows).set_index(["pricing", "position"])


def host_revenue_risk(markets: Mapping[str, PriceModel], leads: Sequence[int], runs: int, seed: int) -> pd.DataFrame:
    """Estimates by how much the host's revenue falls short of the promised one in the worst 5% of completed runs.

    Returns:
        A row for each market, lead time and pricing: the fields of `TailRisk`, in percent of the promised revenue.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for market, price in markets.items():
        for lead in leads:
            frame = exposures(population_with_lead(lead), price, runs, seed)
            for pricing in PRICINGS:
                completed = frame[(frame.pricing == pricing) & (frame.promised > 0)]
                risk = tail_risk(0 - 100 * completed["host's revenue"] / completed.promised)
                rows.append({"market": market, "lead": lead, "pricing": pricing, **risk._asdict()})
    return pd.DataFrame(rows)


def revenue_quantiles(price: PriceModel, runs: int, days: int, seed: int) -> pd.DataFrame:
    """Returns what 100 INR are worth after they became wei: quantiles, and what is left at the 5% VaR and ES.

    Returns:
        A row for each day from 0 to `days`.
    """
    import numpy as np
    import pandas as pd
    from numpy.random import default_rng

    rates = simulate(price, default_rng(seed), runs, days)
    inr = 100 * rates / rates[0]
    levels = (5, 25, 50, 75, 95)
    table = pd.DataFrame(
        np.quantile(inr, [level / 100 for level in levels], axis=1).T, columns=[f"{level}%" for level in levels]
    )
    risks = [tail_risk(100 - inr_of_day) for inr_of_day in inr]
    table["left at VaR 5%"] = [100 - risk.var for risk in risks]
    table["left at ES 5%"] = [100 - risk.es for risk in risks]
    return table.rename_axis("days")


def move_frequencies(
    markets: Mapping[str, PriceModel], runs: int, seed: int, *, leads: Sequence[int] = LEADS, size: float = MOVE
) -> pd.DataFrame:
    """Computes how often ETH moves by more than `size`, a share of the rate at the beginning.

    Returns:
        A row for each market and lead time, in percent of the paths: moves of the rate on the last day (`at the event`)
        and at any daily close until then (`before it`), down and up; `within` is half the width of the widest 95%
        interval of the row.
    """
    import pandas as pd
    from numpy.random import default_rng

    rows: list[dict[str, Any]] = []
    for market, price in markets.items():
        rates = simulate(price, default_rng(seed), runs, max(leads))
        relative_rates = rates / rates[0]
        for lead in leads:
            path = relative_rates[1 : lead + 1]
            shares = {
                "down, at the event": (path[-1] < 1 - size).mean(),
                "up, at the event": (path[-1] > 1 + size).mean(),
                "down, before it": (path.min(axis=0) < 1 - size).mean(),
                "up, before it": (path.max(axis=0) > 1 + size).mean(),
            }
            widths = [high - low for low, high in (wilson_interval(share * runs, runs) for share in shares.values())]
            rows.append(
                {"market": market, "days": lead}
                | {name: 100 * share for name, share in shares.items()}
                | {"within": 100 * max(widths) / 2}
            )
    return pd.DataFrame(rows).set_index(["market", "days"])

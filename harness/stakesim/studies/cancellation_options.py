"""The value of the options to cancel that attendees and hosts hold.

S(t) is the rate of ETH in INR at time t, and a ticket was bought at S(0) for its INR price P.

An attendee may cancel until the cutoff T. The refund is a fixed number of wei, now worth P S(T) / S(0), and the ticket
is worth P. The stake comes back either way. So the option pays P max(S(T) / S(0) - 1, 0): a call on ETH at the money,
written by the host, who loses the booking.

A host may cancel the run until its start T. That saves what it costs to hold the run, a share c of its price P, and
gives up wei worth P S(T) / S(0). So the option pays P max(c - S(T) / S(0), 0): a put, written by the attendees, who get
cheap wei back.

Both are European options: without interest or dividends, early exercise is never better (R. Merton 1973).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log, nan, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

from stakesim.economics.intervals import mean_half_width
from stakesim.population.streams import stream
from stakesim.prices.market import simulate
from stakesim.prices.price_models import Bootstrap, Garch, Gbm, Merton, PriceModel
from stakesim.units import DAY, YEAR

if TYPE_CHECKING:
    import pandas as pd

VOLATILITIES = (0.4, 0.7, 1.0)
LEADS = (7, 14, 30, 60)
"""Days from booking to the start."""
CUTOFF = 1
"""Days before the start until which attendees may cancel."""
_RATE: dict[str, Any] = {"inr_per_eth": "200000"}
MARKETS: Mapping[str, PriceModel] = {
    **{f"GBM, {volatility:.0%}": Gbm(annual_volatility=volatility, **_RATE) for volatility in VOLATILITIES},
    "Merton": Merton(**_RATE),
    "GARCH": Garch(**_RATE),
    "bootstrap": Bootstrap(**_RATE),
}


class OptionValue(NamedTuple):
    """Value of an option as a share of the price, with its 95% interval, and the probability of exercise."""

    value: float
    low: float
    high: float
    exercised: float


def margrabe_value(given_up: float, received: float, volatility: float, years: float) -> float:
    """Returns the value of the option to exchange one asset for another, without interest (W. Margrabe 1978).

    Args:
        given_up: Present value of the asset to give up. If its price is constant, this is the strike of a call, and the
            value that of F. Black and M. Scholes (1973).
        received: Present value of the asset to receive.
        volatility: Of the ratio of both prices a year: sqrt(v1^2 + v2^2 - 2 r v1 v2), r their correlation.
        years: Time to exercise.
    """
    deviation = volatility * sqrt(years)
    if deviation == 0:
        return max(received - given_up, 0.0)
    d1 = log(received / given_up) / deviation + deviation / 2
    return received * NormalDist().cdf(d1) - given_up * NormalDist().cdf(d1 - deviation)


def simulated_value(
    price: PriceModel, lead: int, runs: int, seed: int, *, holding_cost: float | None = None
) -> OptionValue:
    """Returns the value of an option by simulation.

    The paths are scaled so that S(T) has mean S(0), as in the closed form. So the market's drift is not part of the
    value (moment matching: P. Boyle, M. Broadie, P. Glasserman 1997). The interval ignores that this also reduces the
    noise, and is somewhat too wide.

    Args:
        price: The market.
        lead: Days from booking to the start.
        runs: Simulated paths.
        seed: Seed of all random numbers.
        holding_cost: For a host, the cost of holding the run as a share of its price. None for an attendee.
    """
    import numpy as np

    days = _days_to_exercise(lead, holding_cost)
    rates = simulate(price, stream(seed, "options"), runs, days)[-1]
    relative_rates = rates / rates.mean()
    payoff = np.maximum(relative_rates - 1 if holding_cost is None else holding_cost - relative_rates, 0)
    value, half_width = float(payoff.mean()), mean_half_width(payoff)
    return OptionValue(value, value - half_width, value + half_width, float((payoff > 0).mean()))


def closed_form_value(price: Gbm, lead: int, *, holding_cost: float | None = None) -> float:
    """Returns the value of an option on a geometric Brownian motion; for the arguments see `simulated_value`."""
    years = _days_to_exercise(lead, holding_cost) * DAY / YEAR
    return margrabe_value(1.0, 1.0 if holding_cost is None else holding_cost, price.annual_volatility, years)


def _days_to_exercise(lead: int, holding_cost: float | None) -> int:
    return lead - CUTOFF if holding_cost is None else lead


def attendee_options(runs: int, seed: int, *, leads: Sequence[int] = LEADS) -> pd.DataFrame:
    """Values attendees' options in percent of the ticket: a row for each market and lead time.

    The column `closed form` is nan for markets without one.
    """
    import pandas as pd

    rows = []
    for market, price in MARKETS.items():
        for lead in leads:
            value = simulated_value(price, lead, runs, seed)
            exact = closed_form_value(price, lead) if isinstance(price, Gbm) else nan
            percent = {name: 100 * share for name, share in value._asdict().items()}
            rows.append({"market": market, "lead": lead, **percent, "closed form": 100 * exact})
    return pd.DataFrame(rows)


def host_options(
    runs: int, seed: int, *, lead: int = 30, holding_costs: Sequence[float] = (0.5, 0.8, 1.0)
) -> pd.DataFrame:
    """Values hosts' options in percent of the run's price: a row for each market, a column for each cost of holding."""
    import pandas as pd

    values = {
        market: {
            f"it costs {cost:.0%}": 100 * simulated_value(price, lead, runs, seed, holding_cost=cost).value
            for cost in holding_costs
        }
        for market, price in MARKETS.items()
    }
    return pd.DataFrame(values).T.rename_axis("market")

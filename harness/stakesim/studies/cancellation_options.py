"""What the option to walk away is worth.

Until the cutoff an attendee's refund is a fixed number of wei, and the ticket is worth its INR price P, at which those
wei were bought at the rate S(0). The stake comes back either way. So at the cutoff T whoever may cancel gets
P max(S(T) / S(0) - 1, 0) more than who may not: a call on ETH at the money, written by the host, who loses the booking.
A host may call the run off until its start T, and by that saves what it costs to hold, as a share c of P, for wei that
are worth P S(T) / S(0): P max(c - S(T) / S(0), 0), a put, written by the attendees, who are given back cheap wei.
Both are European options: without interest or dividends none is worth exercising early (R. Merton 1973).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import erf, log, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

from stakesim.economics.metrics import Z95
from stakesim.population.state import DAY
from stakesim.prices.market import simulate
from stakesim.prices.price_models import YEAR, Bootstrap, Garch, Gbm, Merton, PriceModel

if TYPE_CHECKING:
    import pandas as pd

VOLATILITIES = (0.4, 0.7, 1.0)
LEADS = (7, 14, 30, 60)
"""Days from booking to the start."""
CUTOFF = 1
"""Days before the start until which attendees may cancel."""
_RATE: dict[str, Any] = {"inr_per_eth": "200000"}
MARKETS: Mapping[str, PriceModel] = {
    **{f"GBM, {vol:.0%}": Gbm(annual_volatility=vol, **_RATE) for vol in VOLATILITIES},
    "Merton": Merton(**_RATE),
    "GARCH": Garch(**_RATE),
    "bootstrap": Bootstrap(**_RATE),
}


class Worth(NamedTuple):
    """As shares of the ticket's price, with a 95% interval; exercised: chance."""

    value: float
    low: float
    high: float
    exercised: float


def margrabe(has: float, gets: float, volatility: float, years: float) -> float:
    """The option to give something worth `has` for something worth `gets` (W. Margrabe 1978); without interest.

    volatility: of the ratio of the two, sqrt(v1^2 + v2^2 - 2 r v1 v2) with their correlation r. Where what is given
    has none, it is the call of F. Black and M. Scholes (1973) with `has` as its strike.
    """
    spread = volatility * sqrt(years)
    if spread == 0:
        return max(gets - has, 0.0)
    d1 = log(gets / has) / spread + spread / 2
    return gets * _normal(d1) - has * _normal(d1 - spread)


def _normal(x: float) -> float:
    return (1 + erf(x / sqrt(2))) / 2


def worth(price: PriceModel, lead: int, runs: int, seed: int, cost: float | None = None) -> Worth:
    """By simulation. lead: days from booking to the start. cost: None for an attendee; for a host what holding the run
    costs, as a share of its price.

    Paths are scaled so that the mean of S(T) is S(0), as the closed form has it: no market's drift is counted as the
    option's worth (moment matching: P. Boyle, M. Broadie, P. Glasserman 1997). The interval does not count what that
    takes from the noise, so that it is rather too wide.
    """
    import numpy as np
    from numpy.random import SeedSequence, default_rng

    days = lead - CUTOFF if cost is None else lead
    rates = simulate(price, default_rng(SeedSequence([seed, 0x0CA11])), runs, days)[-1]
    relative = rates / rates.mean()
    gain = np.maximum(relative - 1 if cost is None else cost - relative, 0)
    mean, half = float(gain.mean()), Z95 * float(gain.std(ddof=1)) / sqrt(runs)
    return Worth(mean, mean - half, mean + half, float((gain > 0).mean()))


def closed_form(price: Gbm, lead: int, cost: float | None = None) -> float:
    """The same for a GBM, by `margrabe`."""
    years = (lead - CUTOFF if cost is None else lead) * DAY / YEAR
    has, gets = (1.0, 1.0) if cost is None else (1.0, cost)
    return margrabe(has, gets, price.annual_volatility, years)


def attendees(runs: int, seed: int, leads: Sequence[int] = LEADS) -> pd.DataFrame:
    """A row for each market and lead time, in per cent of the ticket; the closed form where there is one."""
    import pandas as pd

    rows = []
    for name, price in MARKETS.items():
        for lead in leads:
            found = worth(price, lead, runs, seed)
            exact = closed_form(price, lead) if isinstance(price, Gbm) else float("nan")
            percent = {key: 100 * value for key, value in found._asdict().items()}
            rows.append({"market": name, "lead": lead, **percent, "closed form": 100 * exact})
    return pd.DataFrame(rows)


def hosts(runs: int, seed: int, lead: int = 30, costs: Sequence[float] = (0.5, 0.8, 1.0)) -> pd.DataFrame:
    """A host's option, in per cent of the run's price: markets down, costs of holding it across."""
    import pandas as pd

    table = {
        name: {f"it costs {cost:.0%}": 100 * worth(price, lead, runs, seed, cost).value for cost in costs}
        for name, price in MARKETS.items()
    }
    return pd.DataFrame(table).T.rename_axis("market")

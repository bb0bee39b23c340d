"""Who bears the risk that ETH moves in INR while money lies in the contract, under three ways to price a seat.

A run is listed in INR and settled in wei. What a party gains or loses is what it got less what it paid, each amount in
INR at the rate of its moment, less the same of a run settled in INR by the contract's rules: what the list promised.
All of it in whole paise; floats begin where gains are shares, and with them the statistics.

Gas is left out; `stakesim.studies.break_even` counts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from math import sqrt
from typing import TYPE_CHECKING, Any

from stakesim.economics.metrics import Z95
from stakesim.economics.risk import risk
from stakesim.economics.settle import Settlement, settle, settle_runs
from stakesim.economics.spot_check import compare
from stakesim.model.state import RunStatus
from stakesim.population.behaviours import Cancel, HostCancels, NoShow
from stakesim.population.exact_int import paise_to_wei, wei_to_paise
from stakesim.population.outcomes import resolve_outcomes, timeline
from stakesim.population.population import CHUNK_SIZE, Population, draw, select_runs
from stakesim.prices.market import simulate
from stakesim.prices.price_models import Bootstrap, Garch, Gbm, Merton, PriceModel
from stakesim.schema.fields import UNITS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from stakesim.population.outcomes import Outcomes
    from stakesim.population.state import Ints, PopulationState, Wei

    Floats = NDArray[np.float64]

PRICINGS = {
    "wei-fixed": "INR become wei once, when the run is created: the contract's rule",
    "re-quoted": "INR become wei anew at each booking, and stay these wei",
    "INR-fixed": "as re-quoted, and the platform makes good in INR whatever the wei are worth when they are paid out",
}
POSITIONS = ("attendees", "host's revenue", "host's stake", "platform")

INR_PER_ETH = Decimal(200_000)
MARKETS: Mapping[str, PriceModel] = {
    "GBM": Gbm(inr_per_eth=INR_PER_ETH, annual_volatility=0.805, step=UNITS["d"]),
    "Merton": Merton(inr_per_eth=INR_PER_ETH),
    "bootstrap, 7 days": Bootstrap(inr_per_eth=INR_PER_ETH, block_days=7),
    "bootstrap, 20 days": Bootstrap(inr_per_eth=INR_PER_ETH),
    "GARCH": Garch(inr_per_eth=INR_PER_ETH),
}
"""As near to ETH as each of them comes, but for the drift: none, as nobody can count on one, but in the bootstraps,
which have their series'."""
LEADS = (7, 14, 30, 60)
"""Days from a run's creation to its start."""
MOVE = 0.2
"""The stake, as a share of the ticket."""

KNOWN_MOVES = {"down": (3.7, 8.4, 16.4, 26.7), "up": (5.8, 14.0, 24.2, 35.9)}
"""Percent of the days from 2015-08 to 2026-01, LEADS days after which ETH closed more than 20% lower or higher; 3,804
daily closes."""


def market_of_runs(lead: int = 30) -> Population:
    """Runs of 20 seats that start `lead` days after they are created, with some no-shows and cancellations."""
    time = lead * UNITS["d"]
    return Population(
        name=f"lead-{lead}",
        story=f"Runs that start {lead} days after they are created.",
        seats=(20, 20),
        price_inr=(Decimal(300), Decimal(5_000)),
        lead_time=(time, time),
        behaviours=(NoShow(), Cancel(), HostCancels()),
    )


def gains(state: PopulationState, outcomes: Outcomes) -> dict[str, dict[str, Ints]]:
    """Paise above what was promised, of each pricing, position and run. Rounding leaves a paisa or so an amount."""
    import numpy as np

    was_promised = _net(state, outcomes, promised(state, outcomes), in_inr=True)

    def above(settled: Settlement) -> dict[str, Ints]:
        return {who: net - was_promised[who] for who, net in _net(state, outcomes, settled).items()}

    nothing = np.zeros(state.runs, np.int64)
    fixed, requoted = above(settle(state, outcomes)), above(settle(state, outcomes, quotes(state, outcomes)))
    made_good = dict.fromkeys(POSITIONS, nothing) | {"platform": sum(requoted.values(), nothing)}
    return dict(zip(PRICINGS, (fixed, requoted, made_good), strict=True))


def quotes(state: PopulationState, outcomes: Outcomes) -> Wei:
    """Wei a seat at the rate of each booking's moment."""
    import numpy as np

    prices = np.broadcast_to(state.price_paise, state.shape)
    return paise_to_wei(prices, state.rate_at(outcomes.booked_at))


def promised(state: PopulationState, outcomes: Outcomes) -> Settlement:
    """The run in INR: the contract's rules, with paise for wei."""
    return settle_runs(
        state.terms,
        state.price_paise,
        state.seats,
        state.intents.seats,
        outcomes,
        reported_attended=state.intents.reported_attended,
    )


def _net(state: PopulationState, outcomes: Outcomes, settled: Settlement, in_inr: bool = False) -> dict[str, Ints]:
    """Paise got less paise paid, each at the rate of its moment. in_inr: the settlement has paise already."""
    import numpy as np

    def worth(amounts: Wei, at: Ints) -> Ints:
        inr = amounts if in_inr else wei_to_paise(amounts, state.rate_at(at))
        return inr.astype(np.int64)

    back_at = np.where(outcomes.cancelled, timeline(state).cancels_at, outcomes.closed_at)
    bookings = worth(settled.received, back_at) - worth(settled.paid, outcomes.booked_at)
    own = state.intents.by_host
    begins = np.zeros(state.runs, np.int64)
    booked = (state.intents.seats * outcomes.active).sum(axis=0)
    returned = (
        (outcomes.final_status == RunStatus.COMPLETED)
        | (outcomes.final_status == RunStatus.CANCELLED)
        | ((outcomes.final_status == RunStatus.EXPIRED) & (booked == 0))
    )
    stake_back = settled.host_stake * returned
    return {
        "attendees": (bookings * ~own).sum(axis=0),
        "host's revenue": worth(settled.host - stake_back, outcomes.closed_at) + (bookings * own).sum(axis=0),
        "host's stake": worth(stake_back, outcomes.closed_at) - worth(settled.host_stake, begins),
        "platform": worth(settled.platform, outcomes.closed_at),
    }


def exposures(
    population: Population, price: PriceModel, runs: int, seed: int, *, spot_check: int = 0, engine: str = "py-evm"
) -> pd.DataFrame:
    """A row for each run and pricing: `sales`, the INR price of the seats booked at the end; `promised`, of which the
    host's revenue (nothing where the run did not take place); the gain of each position. All in paise.

    spot_check: so many runs are played through the services on `engine`, where what everybody gets under the wei-fixed
    pricing must be what was counted with here. Raises `Mismatch` where it is not.
    """
    import numpy as np
    import pandas as pd

    parts = []
    for first in range(0, runs, CHUNK_SIZE):
        drawn = draw(population, seed, first // CHUNK_SIZE, price=price)
        if first == 0 and spot_check:
            compare([(drawn, index) for index in range(min(spot_check, runs))], engine)
        state = select_runs(drawn, np.arange(min(CHUNK_SIZE, runs - first)))
        outcomes = resolve_outcomes(state)
        in_inr = promised(state, outcomes)
        took_place = outcomes.final_status == RunStatus.COMPLETED
        told = {
            "sales": state.price_paise * (state.intents.seats * outcomes.active).sum(axis=0),
            "promised": (in_inr.host - in_inr.host_stake) * took_place,
        }
        parts += [pd.DataFrame({"pricing": how, **told, **gained}) for how, gained in gains(state, outcomes).items()]
    return pd.concat(parts, ignore_index=True)


def bearers(frame: pd.DataFrame) -> pd.DataFrame:
    """What each position gains, in percent of the run's sales: mean, quantiles, and what the worst 5% lose (VaR, ES).
    A row for each pricing and position; runs that sold nothing are left out. frame: from `exposures`."""
    import pandas as pd

    rows = []
    for pricing in PRICINGS:
        sold = frame[(frame.pricing == pricing) & (frame.sales > 0)]
        for position in POSITIONS:
            shares = 100 * sold[position] / sold.sales
            worst = risk(0 - shares)
            rows.append(
                {"pricing": pricing, "position": position, "mean": shares.mean()}
                | {f"{level}%": shares.quantile(level / 100) for level in (5, 25, 50, 75, 95)}
                | {"VaR 5%": worst.var, "ES 5%": worst.es, "INR a run, ES 5%": risk(0 - sold[position] / 100).es}
            )
    return pd.DataFrame(rows).set_index(["pricing", "position"])


def at_risk(markets: Mapping[str, PriceModel], leads: Sequence[int], runs: int, seed: int) -> pd.DataFrame:
    """How much less than promised the host's revenue is in the worst 5% of runs that took place, in percent of what was
    promised: a row for each market, lead time and pricing."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for market, price in markets.items():
        for lead in leads:
            frame = exposures(market_of_runs(lead), price, runs, seed)
            for pricing in PRICINGS:
                paid = frame[(frame.pricing == pricing) & (frame.promised > 0)]
                worst = risk(0 - 100 * paid["host's revenue"] / paid.promised)
                rows.append({"market": market, "lead": lead, "pricing": pricing, **worst._asdict()})
    return pd.DataFrame(rows)


def fan(price: PriceModel, runs: int, days: int, seed: int) -> pd.DataFrame:
    """What 100 INR of revenue are worth so many days after they became wei: quantiles, and the 5% VaR and ES as what is
    left. A row a day."""
    import numpy as np
    import pandas as pd
    from numpy.random import default_rng

    rates = simulate(price, default_rng(seed), runs, days)
    worth = 100 * rates / rates[0]
    table = pd.DataFrame(
        np.quantile(worth, [0.05, 0.25, 0.5, 0.75, 0.95], axis=1).T, columns=["5%", "25%", "50%", "75%", "95%"]
    )
    worst = [risk(100 - day) for day in worth]
    table["left at VaR 5%"] = [100 - one.var for one in worst]
    table["left at ES 5%"] = [100 - one.es for one in worst]
    return table.rename_axis("days")


def moves(
    markets: Mapping[str, PriceModel], runs: int, seed: int, leads: Sequence[int] = LEADS, beyond: float = MOVE
) -> pd.DataFrame:
    """How often, in percent, ETH stands `beyond` lower or higher than at the beginning after so many days (`at the
    event`), or did at any daily close until then (`before it`); `within` is half of the widest 95% interval."""
    import pandas as pd
    from numpy.random import default_rng

    rows: list[dict[str, Any]] = []
    for market, price in markets.items():
        rates = simulate(price, default_rng(seed), runs, max(leads))
        relative = rates / rates[0]
        for lead in leads:
            path = relative[1 : lead + 1]
            shares = {
                "down, at the event": (path[-1] < 1 - beyond).mean(),
                "up, at the event": (path[-1] > 1 + beyond).mean(),
                "down, before it": (path.min(axis=0) < 1 - beyond).mean(),
                "up, before it": (path.max(axis=0) > 1 + beyond).mean(),
            }
            within = max(Z95 * sqrt(share * (1 - share) / runs) for share in shares.values())
            rows.append(
                {"market": market, "days": lead}
                | {name: 100 * share for name, share in shares.items()}
                | {"within": 100 * within}
            )
    return pd.DataFrame(rows).set_index(["market", "days"])

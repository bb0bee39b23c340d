"""Is the fee enough to pay the gas? What the platform's transactions cost by measurement, and the ticket price at which
fee and forfeits pay for them.

The platform sends every transaction and pays its gas. What it gets of a run is in proportion to the price of a ticket;
what it pays is not, so that there is a price below which runs lose money.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from stakesim.model.state import RunStatus
from stakesim.population.behaviours import Cancel, HostCancels, NoShow
from stakesim.population.exact_int import BPS, WEI_PER_ETH
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import CHUNK_SIZE, Population, draw, select_runs
from stakesim.prices.price_models import Constant
from stakesim.studies.gas_costs import Costs, used
from stakesim.studies.gas_prices import WEI_PER_GWEI

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.population.outcomes import Outcomes
    from stakesim.population.state import Ints, PopulationState
    from stakesim.scenario.actions import Terms

_Seats = TypeVar("_Seats", int, "Ints")

USUAL = Population(
    name="usual",
    story="Runs of 10 to 40 seats, with some no-shows and cancellations, at one rate.",
    price_inr=(Decimal(300), Decimal(5_000)),
    behaviours=(NoShow(), Cancel(), HostCancels()),
    price=Constant(),
)


@dataclass(frozen=True)
class Load:
    """Of some runs together: gas; seats of completed runs, and those of their no-shows."""

    runs: int
    gas: int
    sold: int
    forfeited: int


def load(population: Population, runs: int, seed: int, costs: Costs) -> Load:
    """What `runs` of a population use and sell."""
    import numpy as np

    parts = []
    for first in range(0, runs, CHUNK_SIZE):
        state = select_runs(draw(population, seed, first // CHUNK_SIZE), np.arange(min(CHUNK_SIZE, runs - first)))
        outcomes = resolve_outcomes(state)
        sold, forfeited = sales(state, outcomes)
        parts.append((int(used(state, outcomes, costs).sum()), int(sold.sum()), int(forfeited.sum())))
    return Load(runs, *(sum(column) for column in zip(*parts, strict=True)))


def sales(state: PopulationState, outcomes: Outcomes) -> tuple[Ints, Ints]:
    """Seats of each run that was completed, and those of them that were no-shows'."""
    finished = outcomes.active & (outcomes.final_status == RunStatus.COMPLETED)
    seats = state.intents.seats
    return (seats * finished).sum(axis=0), (seats * (finished & ~state.intents.reported_attended)).sum(axis=0)


def weight(terms: Terms, sold: _Seats, forfeited: _Seats) -> _Seats:
    """What the platform earns in prices of a seat, times BPS x BPS; before the contract rounds down by a wei or two."""
    return terms.fee_bps * sold * BPS + terms.stake_bps * (BPS - terms.forfeit_to_host_bps) * forfeited


def break_even(of: Load, gas_wei: int, rate_paise: int, terms: Terms, forfeits: bool = True) -> int:
    """The lowest ticket price, in paise, at which what the platform earns pays for the gas. gas_wei: price of a unit of
    gas. forfeits: whether stakes of no-shows are counted, or the fee has to do it alone.

    Raises `ValueError` where nothing is earned at any price.
    """
    earned = weight(terms, of.sold, of.forfeited if forfeits else 0)
    if not earned:
        raise ValueError("nothing is earned at any price: take a fee above 0, and runs that are completed")
    return -(-of.gas * gas_wei * rate_paise * BPS * BPS // (WEI_PER_ETH * earned))


def break_evens(of: Load, gwei: Sequence[float], rates_inr: Sequence[int], terms: Terms) -> pd.DataFrame:
    """Break-even tickets in INR: a row for each gas price, a column for each rate of ETH."""
    import pandas as pd

    prices = [
        [break_even(of, round(price * WEI_PER_GWEI), 100 * rate, terms) / 100 for rate in rates_inr] for price in gwei
    ]
    return pd.DataFrame(prices, index=pd.Index(gwei, name="gwei"), columns=pd.Index(rates_inr, name="INR for one ETH"))


def by_gas_price(of: Load, gwei: Sequence[float], rate_inr: int, terms: Terms) -> pd.DataFrame:
    """INR of gas a run and a seat, and the break-even ticket by the fee alone and with forfeits: a row a gas price."""
    import pandas as pd

    rows = []
    for price in gwei:
        wei = round(price * WEI_PER_GWEI)
        cost = of.gas * wei * rate_inr / WEI_PER_ETH
        rows.append(
            {
                "gwei": price,
                "gas, INR a run": cost / of.runs,
                "gas, INR a seat sold": cost / of.sold,
                "break-even by fee, INR": break_even(of, wei, 100 * rate_inr, terms, forfeits=False) / 100,
                "with forfeits, INR": break_even(of, wei, 100 * rate_inr, terms) / 100,
            }
        )
    return pd.DataFrame(rows).set_index("gwei")

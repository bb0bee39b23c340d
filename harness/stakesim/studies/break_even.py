"""Break-even ticket prices: does the platform's income pay for the gas of its transactions?

The platform sends every transaction and pays its gas. Its income, fee and forfeits, is proportional to the ticket
price, and gas is not. So below some price runs lose money.

A stake that works earns less: the more people it brings, the fewer forfeit it. How many it brings is unknown, so the
break-even is a range, from the elasticity of no-shows at which it brings nobody to the one at which it brings half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from stakesim.economics.gas import GasCosts, gas_used
from stakesim.model.state import RunStatus
from stakesim.population.behaviours import Cancel, HostCancels, NoShow
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import Population, draw_runs
from stakesim.prices.price_models import Constant
from stakesim.studies.no_shows import NO_SHOW_ELASTICITIES
from stakesim.units import BPS, WEI_PER_ETH, WEI_PER_GWEI

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.population.outcomes import Outcomes
    from stakesim.population.state import Ints, PopulationState
    from stakesim.scenario.actions import Terms

_Seats = TypeVar("_Seats", int, "Ints")


def usual_population(elasticity: float) -> Population:
    """Returns runs of which without a stake 13.5% of the attendees are no-shows, with some cancellations.

    Args:
        elasticity: How strongly the stake deters from staying away, see `stakesim.population.behaviours.NoShow`.
    """
    return Population(
        name="usual",
        story="Runs of 10 to 40 seats, with some no-shows and cancellations, at one rate.",
        price_inr=(Decimal(300), Decimal(5_000)),
        behaviours=(NoShow(elasticity=elasticity), Cancel(elasticity=elasticity), HostCancels()),
        price=Constant(),
    )


POPULATION = usual_population(NO_SHOW_ELASTICITIES["low"])


@dataclass(frozen=True)
class RunTotals:
    """Totals of some runs.

    Attributes:
        runs: Number of runs.
        gas: Gas of all transactions.
        seats_sold: Seats of completed runs.
        seats_forfeited: The no-shows' seats among them.
    """

    runs: int
    gas: int
    seats_sold: int
    seats_forfeited: int


def totals_by_elasticity(runs: int, seed: int, costs: GasCosts) -> dict[str, RunTotals]:
    """Sums gas and seats over the same runs of `usual_population` under each of `NO_SHOW_ELASTICITIES`."""
    return {
        name: run_totals(usual_population(elasticity), runs, seed, costs)
        for name, elasticity in NO_SHOW_ELASTICITIES.items()
    }


def run_totals(population: Population, runs: int, seed: int, costs: GasCosts) -> RunTotals:
    """Sums gas and seats over `runs` runs of a population."""
    gas, seats_sold, seats_forfeited = 0, 0, 0
    for state in draw_runs(population, seed, runs):
        outcomes = resolve_outcomes(state)
        sold, forfeited = completed_seats(state, outcomes)
        gas += int(gas_used(state, outcomes, costs).sum())
        seats_sold += int(sold.sum())
        seats_forfeited += int(forfeited.sum())
    return RunTotals(runs, gas, seats_sold, seats_forfeited)


def completed_seats(state: PopulationState, outcomes: Outcomes) -> tuple[Ints, Ints]:
    """Returns the seats of each completed run and the no-shows' seats among them, each of shape (runs,)."""
    completed = outcomes.active & (outcomes.final_status == RunStatus.COMPLETED)
    no_shows = completed & ~state.intents.reported_attended
    seats = state.intents.seats
    return (seats * completed).sum(axis=0), (seats * no_shows).sum(axis=0)


def scaled_income(terms: Terms, seats_sold: _Seats, seats_forfeited: _Seats) -> _Seats:
    """Returns the platform's income in prices of a seat, times BPS squared.

    The income is fee x seats sold + stake x (1 - the host's share of forfeits) x seats forfeited. It is exact but for
    the contract's rounding, which takes a wei or two of a run.
    """
    forfeits = terms.stake_bps * (BPS - terms.forfeit_to_host_bps) * seats_forfeited
    return terms.fee_bps * seats_sold * BPS + forfeits


def break_even_ticket(
    totals: RunTotals, gas_price_wei: int, rate_paise: int, terms: Terms, *, with_forfeits: bool = True
) -> int:
    """Returns the lowest ticket price in paise at which the platform's income pays for the gas.

    Args:
        totals: Gas and seats.
        gas_price_wei: Wei per gas.
        rate_paise: Paise per ETH.
        terms: Terms of the contract.
        with_forfeits: Whether forfeits count as income, besides the fee.

    Raises:
        ValueError: The income is 0 at any price.
    """
    income = scaled_income(terms, totals.seats_sold, totals.seats_forfeited if with_forfeits else 0)
    if not income:
        raise ValueError("nothing is earned at any price: take a fee above 0, and runs that are completed")
    return -(-totals.gas * gas_price_wei * rate_paise * BPS * BPS // (WEI_PER_ETH * income))  # rounded up


def break_even_grid(
    totals: RunTotals, gas_prices_gwei: Sequence[float], rates_inr: Sequence[int], terms: Terms
) -> pd.DataFrame:
    """Returns break-even tickets in INR: a row for each gas price in gwei, a column for each rate in INR per ETH."""
    import pandas as pd

    tickets = [
        [break_even_ticket(totals, round(gwei * WEI_PER_GWEI), 100 * rate, terms) / 100 for rate in rates_inr]
        for gwei in gas_prices_gwei
    ]
    return pd.DataFrame(
        tickets,
        index=pd.Index(gas_prices_gwei, name="gwei"),
        columns=pd.Index(rates_inr, name="INR for one ETH"),
    )


def break_even_by_gas_price(
    totals_by_elasticity: Mapping[str, RunTotals], gas_prices_gwei: Sequence[float], rate_inr: int, terms: Terms
) -> pd.DataFrame:
    """Returns the cost of gas and break-even tickets, in INR at `rate_inr` INR per ETH: a row for each gas price.

    Args:
        totals_by_elasticity: From `totals_by_elasticity`. Each has a column of break-even tickets with forfeits; all
            others are of the first one.
        gas_prices_gwei: Gas prices.
        rate_inr: INR for one ETH.
        terms: Terms of the contract.
    """
    import pandas as pd

    totals = next(iter(totals_by_elasticity.values()))
    rows = []
    for gwei in gas_prices_gwei:
        wei = round(gwei * WEI_PER_GWEI)
        gas_inr = totals.gas * wei * rate_inr / WEI_PER_ETH
        by_fee = break_even_ticket(totals, wei, 100 * rate_inr, terms, with_forfeits=False)
        rows.append(
            {
                "gwei": gwei,
                "gas, INR a run": gas_inr / totals.runs,
                "gas, INR a seat sold": gas_inr / totals.seats_sold,
                "break-even by fee, INR": by_fee / 100,
            }
            | {
                f"with forfeits, elasticity {name}": break_even_ticket(each, wei, 100 * rate_inr, terms) / 100
                for name, each in totals_by_elasticity.items()
            }
        )
    return pd.DataFrame(rows).set_index("gwei")

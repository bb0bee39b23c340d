"""The effect of an attack: the same runs, people and market with and without it.

So every difference comes from the attack. Differences are exact in wei.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from stakesim.economics import DEFAULT_POPULATION
from stakesim.economics.intervals import mean_half_width
from stakesim.economics.settle import settle
from stakesim.model.state import RunStatus
from stakesim.population.behaviours import NoShow
from stakesim.population.exact_int import as_python_ints, exact_sum, floor_bps, wei_to_paise
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import Population, draw_runs
from stakesim.prices.price_models import Constant
from stakesim.units import BPS, YEAR

if TYPE_CHECKING:
    from stakesim.population.outcomes import Outcomes
    from stakesim.population.state import Behaviour, PopulationState, Wei
    from stakesim.scenario.actions import Terms

HONEST = DEFAULT_POPULATION.model_copy(update={"name": "honest", "behaviours": (NoShow(),), "price": Constant()})
"""13.5% of honest people are no-shows. The rate is constant, so that only the attack changes amounts."""
PARTIES = ("host", "attendees", "outsider", "platform")
INTEREST_BPS = 700
"""Interest a year on locked money, an assumption: what a deposit in rupees would bring."""


class MeanGain(NamedTuple):
    """Mean gain of a party in a run.

    Attributes:
        wei: The exact sum over all runs, divided by their number and rounded down.
        inr: The mean in INR.
        half_width: Half-width in INR of its paired 95% interval.
    """

    wei: int
    inr: float
    half_width: float


@dataclass(frozen=True)
class AttackEffect:
    """What an attack changes in the mean over runs.

    Attributes:
        gains: Gain of each of `PARTIES` from the contract.
        bookings: Additional bookings of honest attendees; less than 0 where they lose bookings.
        interest: INR of interest lost on the attacker's own money while it is locked.
        fees: INR of fees that a host pays on bookings of the own run.
        honest_profit: INR that the host earns without the attack.
    """

    gains: Mapping[str, MeanGain]
    bookings: float
    interest: float
    fees: float
    honest_profit: float


def net_receipts(state: PopulationState, outcomes: Outcomes) -> dict[str, Wei]:
    """Returns the wei that each party receives less what it pays in, for each of `PARTIES` an array of shape (runs,).

    The outsider is whoever books without any interest in the event and is not the host.
    """
    settlement = settle(state, outcomes)
    by_host, interested = state.intents.by_host, state.intents.interested
    net = settlement.received - settlement.paid
    return {
        "host": settlement.host - settlement.host_stake + (net * by_host).sum(axis=0),
        "attendees": (net * interested).sum(axis=0),
        "outsider": (net * ~(by_host | interested)).sum(axis=0),
        "platform": settlement.platform,
    }


def measure_attack(
    attack: Behaviour, runs: int, seed: int, *, terms: Terms | None = None, population: Population = HONEST
) -> AttackEffect:
    """Settles the same runs with and without an attack.

    Args:
        attack: The behaviour that is added to those of the population.
        runs: Number of runs.
        seed: Seed of all random numbers.
        terms: Terms of the contract. Default: the population's.
        population: The honest population.
    """
    terms = terms or population.terms
    gains_wei: dict[str, list[Wei]] = {party: [] for party in PARTIES}
    gains_paise: dict[str, list[Wei]] = {party: [] for party in PARTIES}
    bookings, interest, fees, honest_profit = 0, 0, 0, 0
    honest_runs, attacked_runs = (
        draw_runs(population, seed, runs, terms, behaviours)
        for behaviours in (population.behaviours, (*population.behaviours, attack))
    )
    for honest, attacked in zip(honest_runs, attacked_runs, strict=True):
        honest_outcomes, attacked_outcomes = resolve_outcomes(honest), resolve_outcomes(attacked)
        before, after = net_receipts(honest, honest_outcomes), net_receipts(attacked, attacked_outcomes)
        honest_rate = honest.rate_at(honest_outcomes.closed_at)
        attacked_rate = attacked.rate_at(attacked_outcomes.closed_at)
        for party in PARTIES:
            gain = after[party] - before[party]
            gains_wei[party].append(gain)
            gains_paise[party].append(wei_to_paise(gain, honest_rate))
        bookings += _honest_bookings(attacked, attacked_outcomes) - _honest_bookings(honest, honest_outcomes)
        interest += exact_sum(wei_to_paise(interest_wei(attacked, attacked_outcomes), attacked.rates[0]))
        fees += exact_sum(wei_to_paise(self_booking_fees(attacked, attacked_outcomes), attacked_rate))
        honest_profit += exact_sum(wei_to_paise(before["host"], honest_rate))
    gains = {party: _mean_gain(gains_wei[party], gains_paise[party]) for party in PARTIES}
    return AttackEffect(gains, bookings / runs, *(paise / 100 / runs for paise in (interest, fees, honest_profit)))


def _honest_bookings(state: PopulationState, outcomes: Outcomes) -> int:
    return int((outcomes.accepted & state.intents.interested).sum())


def _mean_gain(wei: Sequence[Wei], paise: Sequence[Wei]) -> MeanGain:
    import numpy as np

    inr = np.concatenate(paise).astype(np.float64) / 100
    return MeanGain(sum(exact_sum(chunk) for chunk in wei) // len(inr), float(inr.mean()), mean_half_width(inr))


def interest_wei(state: PopulationState, outcomes: Outcomes) -> Wei:
    """Returns the interest that the attacker loses on payment and stake, from booking to refund.

    Money comes back when the booking is cancelled, otherwise when the run is closed.

    Returns:
        Wei rounded down, shape (runs,).
    """
    import numpy as np

    settlement = settle(state, outcomes)
    booked_by_attacker = ~state.intents.interested & outcomes.accepted
    refunded_at = np.where(outcomes.cancelled, state.intents.cancels_at, outcomes.closed_at)
    seconds = np.where(booked_by_attacker, refunded_at - state.intents.books_at, 0)
    locked = as_python_ints(settlement.paid) * as_python_ints(seconds)
    interest: Wei = (locked * INTEREST_BPS).sum(axis=0) // (BPS * YEAR)
    return interest


def self_booking_fees(state: PopulationState, outcomes: Outcomes) -> Wei:
    """Returns the fees in wei that hosts of completed runs pay on their own bookings, shape (runs,)."""
    completed = state.intents.by_host & outcomes.active & (outcomes.final_status == RunStatus.COMPLETED)
    fees: Wei = floor_bps(state.price_wei * (state.intents.seats * completed).sum(axis=0), state.terms.fee_bps)
    return fees

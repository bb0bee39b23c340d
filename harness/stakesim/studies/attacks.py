"""What an attack changes: the same runs, people and market with it and without, so that the differences are the
attack's alone, exactly in wei."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

from stakesim.economics.metrics import Z95
from stakesim.economics.settle import settle
from stakesim.economics.sweeps import DEFAULT_POPULATION
from stakesim.model.state import RunStatus
from stakesim.population.behaviours import NoShow
from stakesim.population.exact_int import BPS, as_python_ints, exact_sum, floor_bps, wei_to_paise
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import CHUNK_SIZE, Population, draw, select_runs
from stakesim.prices.price_models import YEAR, Constant

if TYPE_CHECKING:
    from stakesim.population.outcomes import Outcomes
    from stakesim.population.state import Behaviour, PopulationState, Wei
    from stakesim.scenario.actions import Terms

HONEST = DEFAULT_POPULATION.model_copy(update={"name": "honest", "behaviours": (NoShow(),), "price": Constant()})
"""13.5% stay away, and one rate for ever, so that nothing but the attack moves an amount."""
PARTIES = ("host", "attendees", "outsider", "platform")
INTEREST_BPS = 700
"""A year's, on money that is locked in: what a deposit in rupees would bring, an assumption."""


class Mean(NamedTuple):
    """Of a run. wei: the exact sum over runs, divided, rounded down. inr: with its 95% interval, paired."""

    wei: int
    inr: float
    low: float
    high: float


@dataclass(frozen=True)
class Attack:
    """What an attack changes a run. gains: of each party, by the contract. bookings: of attendees. locked: INR of
    interest on the attacker's own money. fees: INR that the platform takes of own bookings. profit: the host's, in INR,
    without the attack."""

    gains: Mapping[str, Mean]
    bookings: float
    locked: float
    fees: float
    profit: float


def gains(state: PopulationState, outcomes: Outcomes) -> dict[str, Wei]:
    """Wei that each party gets less what it pays in, of each run. outsider: who books without wanting to come."""
    settled = settle(state, outcomes)
    own, wants = state.intents.by_host, state.intents.interested
    net = settled.received - settled.paid
    return {
        "host": settled.host - settled.host_stake + (net * own).sum(axis=0),
        "attendees": (net * wants).sum(axis=0),
        "outsider": (net * ~(own | wants)).sum(axis=0),
        "platform": settled.platform,
    }


def attack(how: Behaviour, runs: int, seed: int, terms: Terms | None = None, of: Population = HONEST) -> Attack:
    """The same runs with an attack and without."""
    import numpy as np

    terms = terms or of.terms
    differences: dict[str, list[Wei]] = {party: [] for party in PARTIES}
    in_paise: dict[str, list[Wei]] = {party: [] for party in PARTIES}
    lost, locked, fees, profit = 0, 0, 0, 0
    for first in range(0, runs, CHUNK_SIZE):
        some = np.arange(min(CHUNK_SIZE, runs - first))
        fair, foul = (
            select_runs(draw(of, seed, first // CHUNK_SIZE, terms, behaviours), some)
            for behaviours in (of.behaviours, (*of.behaviours, how))
        )
        fair_lives, foul_lives = resolve_outcomes(fair), resolve_outcomes(foul)
        before, after = gains(fair, fair_lives), gains(foul, foul_lives)
        for party in PARTIES:
            change = after[party] - before[party]
            differences[party].append(change)
            in_paise[party].append(wei_to_paise(change, fair.rate_at(fair_lives.closed_at)))
        lost += _bookings(foul, foul_lives) - _bookings(fair, fair_lives)
        locked += exact_sum(wei_to_paise(interest(foul, foul_lives), foul.rates[0]))
        fees += exact_sum(wei_to_paise(own_fees(foul, foul_lives), foul.rate_at(foul_lives.closed_at)))
        profit += exact_sum(wei_to_paise(before["host"], fair.rate_at(fair_lives.closed_at)))
    means = {party: _mean(differences[party], in_paise[party]) for party in PARTIES}
    return Attack(means, lost / runs, *(paise / 100 / runs for paise in (locked, fees, profit)))


def _bookings(state: PopulationState, outcomes: Outcomes) -> int:
    return int((outcomes.accepted & state.intents.interested).sum())


def _mean(wei: Sequence[Wei], paise: Sequence[Wei]) -> Mean:
    import numpy as np

    inr = np.concatenate(paise).astype(np.float64) / 100
    half = Z95 * float(inr.std(ddof=1)) / sqrt(len(inr)) if len(inr) > 1 else float("nan")
    mean = float(inr.mean())
    return Mean(sum(exact_sum(part) for part in wei) // len(inr), mean, mean - half, mean + half)


def interest(state: PopulationState, outcomes: Outcomes) -> Wei:
    """Wei of each run that its attacker's payment and stake would have brought elsewhere, from booking until they come
    back: who cancels, at the cancellation; a host who books, at the end of the run."""
    import numpy as np

    settled = settle(state, outcomes)
    booked = ~state.intents.interested & outcomes.accepted
    until = np.where(outcomes.cancelled, state.intents.cancels_at, outcomes.closed_at)
    seconds = np.where(booked, until - state.intents.books_at, 0)
    amounts: Wei = (as_python_ints(settled.paid) * as_python_ints(seconds) * INTEREST_BPS).sum(axis=0) // (BPS * YEAR)
    return amounts


def own_fees(state: PopulationState, outcomes: Outcomes) -> Wei:
    """Wei of each completed run that its host pays in fees for its own bookings."""
    own = state.intents.by_host & outcomes.active & (outcomes.final_status == RunStatus.COMPLETED)
    fees: Wei = floor_bps(state.price_wei * (state.intents.seats * own).sum(axis=0), state.terms.fee_bps)
    return fees

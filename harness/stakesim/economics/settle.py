"""Settlement of many runs at once: who is paid how many wei, exactly by the rules of `stakesim.model.rules`.

With all divisions rounded down once:

    host stake = price x max seats x stake_bps / 10,000        payment = price x seats
    stake      = payment x stake_bps / 10,000                  fee     = revenue x fee_bps / 10,000

- A completed run pays the stake back to each attendee, the revenue less the fee and the own stake to the host, and fee
  and forfeits (the stakes of no-shows) to the platform. The host gets forfeit_to_host_bps / 10,000 of the forfeits.
- A cancelled run refunds every booking and the host's stake.
- An expired run refunds every booking and divides the host's stake among them by seats; the platform gets the
  remainder. Without an active booking, the host gets the stake back.
- A cancelled booking is refunded, however the run ends. An open run has paid nothing else yet.

Amounts are arrays of int64 where no intermediate result can overflow, else `WideInts`, and from 2^96 wei on, which the
contract can't hold, arrays of Python integers. The numbers are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stakesim.model.state import RunStatus
from stakesim.population.exact_int import as_large_as, floor_bps, floor_fraction

if TYPE_CHECKING:
    from stakesim.population.outcomes import Outcomes
    from stakesim.population.state import Bools, Ints, PopulationState, Wei
    from stakesim.scenario.actions import Terms


@dataclass(frozen=True)
class Settlement:
    """What each run and each booking paid and received, in the unit of the prices: wei, or paise.

    Attributes:
        host_stake: The host's stake, shape (runs,).
        host: What the host is paid, shape (runs,).
        platform: What the platform earns, shape (runs,).
        revenue: Payments of the bookings of a completed run, else 0; shape (runs,).
        forfeits: Stakes of the no-shows of a completed run, else 0; shape (runs,).
        paid: Payment and stake of each booking, shape (places, runs).
        received: What each booking was paid back, shape (places, runs).
    """

    host_stake: Wei
    host: Wei
    platform: Wei
    revenue: Wei
    forfeits: Wei
    paid: Wei
    received: Wei


def settle(state: PopulationState, outcomes: Outcomes, *, quotes: Wei | None = None) -> Settlement:
    """Settles the runs of a population; see `settle_runs`."""
    intents = state.intents
    return settle_runs(
        state.terms, state.price_wei, state.seats, intents.seats, outcomes, intents.reported_attended, quotes=quotes
    )


def settle_runs(
    terms: Terms,
    price: Wei,
    max_seats: Ints,
    seats: Ints,
    outcomes: Outcomes,
    reported_attended: Bools,
    *,
    quotes: Wei | None = None,
) -> Settlement:
    """Settles runs.

    Args:
        terms: Terms of all runs.
        price: Price of a seat, shape (runs,).
        max_seats: Seats of each run, shape (runs,).
        seats: Seats of each booking, shape (places, runs).
        outcomes: Which bookings were accepted or cancelled, and how each run ended.
        reported_attended: Which bookings the host reports as attended, shape (places, runs).
        quotes: Price of a seat for each booking, shape (places, runs), for rules other than the contract's. In the
            contract, all bookings have the run's price.
    """
    import numpy as np

    accepted, active = outcomes.accepted, outcomes.active
    booked_seats = seats * accepted
    # No sum over a run exceeds 3 prices a seat, counting each booking that was ever accepted.
    most_seats = int(np.maximum(max_seats, booked_seats.sum(axis=0)).max(initial=0))
    largest = 3 * most_seats * max(int(each.max(initial=0)) for each in (price, quotes) if each is not None)
    price = as_large_as(largest, price)
    host_stake = floor_bps(price * max_seats, terms.stake_bps)
    payment = (price if quotes is None else as_large_as(largest, quotes)) * booked_seats
    stake = floor_bps(payment, terms.stake_bps)
    paid = payment + stake

    completed, cancelled, expired = (
        outcomes.final_status == status for status in (RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.EXPIRED)
    )
    active_seats = (seats * active).sum(axis=0)
    revenue = (price * active_seats if quotes is None else (payment * active).sum(axis=0)) * completed
    returned_stakes = stake * (active & reported_attended & completed)
    forfeits = (stake * (active & completed)).sum(axis=0) - returned_stakes.sum(axis=0)
    fee = floor_bps(revenue, terms.fee_bps)
    forfeits_to_host = floor_bps(forfeits, terms.forfeit_to_host_bps)
    refunded = accepted & ~(active & completed) & (~active | (outcomes.final_status != RunStatus.ACTIVE))
    received = paid * refunded + returned_stakes
    platform = fee + forfeits - forfeits_to_host
    gets_stake_back = completed | cancelled | (expired & (active_seats == 0))
    host = revenue - fee + forfeits_to_host + host_stake * gets_stake_back

    shared = np.flatnonzero(expired & (active_seats > 0))
    if len(shared):
        whole = host_stake[shared]
        compensation = floor_fraction(whole, seats[:, shared], active_seats[shared]) * active[:, shared]
        received[:, shared] = received[:, shared] + compensation
        platform[shared] = platform[shared] + whole - compensation.sum(axis=0)
    return Settlement(host_stake, host, platform, revenue, forfeits, paid, received)

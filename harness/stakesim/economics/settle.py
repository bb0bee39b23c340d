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

Amounts are int64 arrays where no intermediate result can overflow, and arrays of Python integers otherwise. The numbers
are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeAlias

from stakesim.model.state import RunStatus
from stakesim.population.exact_int import as_python_ints, fits_int64, floor_bps, floor_fraction

if TYPE_CHECKING:
    import numpy as np

    from stakesim.population.outcomes import Outcomes
    from stakesim.population.state import Bools, Ints, PopulationState, Wei
    from stakesim.scenario.actions import Terms

    AmountType: TypeAlias = type[np.int64] | type[object]


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

    runs = _Runs(
        price, max_seats, seats, outcomes.accepted, outcomes.active, outcomes.final_status, reported_attended, quotes
    )
    # No sum over a run exceeds 3 prices a seat, counting each booking that was ever accepted.
    paid_seats = np.maximum(max_seats, (seats * runs.accepted).sum(axis=0))
    highest_price = price if quotes is None else np.maximum(price, quotes.max(axis=0))
    if highest_price.dtype != object and fits_int64(
        3 * int(highest_price.max(initial=0)) * int(paid_seats.max(initial=0))
    ):
        return _settle(terms, runs)
    small = np.array(
        [fits_int64(3 * int(wei) * int(count)) for wei, count in zip(highest_price, paid_seats, strict=True)]
    )
    large_settlement = _settle(terms, runs.select(~small, object))
    if not small.any():
        return large_settlement
    return _merge(small, _settle(terms, runs.select(small, np.int64)), large_settlement)


@dataclass(frozen=True)
class _Runs:
    """The arguments of `settle_runs`, arrays of shape (runs,) or (places, runs)."""

    price: Wei
    max_seats: Ints
    seats: Ints
    accepted: Bools
    active: Bools
    final_status: Ints
    reported_attended: Bools
    quotes: Wei | None

    def select(self, selected: Bools, amount_type: AmountType) -> _Runs:
        """Some of the runs, with prices of another type."""
        return _Runs(
            self.price[selected].astype(amount_type),
            self.max_seats[selected],
            self.seats[:, selected],
            self.accepted[:, selected],
            self.active[:, selected],
            self.final_status[selected],
            self.reported_attended[:, selected],
            None if self.quotes is None else self.quotes[:, selected].astype(amount_type),
        )


def _settle(terms: Terms, runs: _Runs) -> Settlement:
    """Settles runs in the type of their prices, unchecked against overflow."""
    import numpy as np

    completed, cancelled, expired = (
        runs.final_status == status for status in (RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.EXPIRED)
    )
    seats, accepted, active = runs.seats, runs.accepted, runs.active
    host_stake = floor_bps(runs.price * runs.max_seats, terms.stake_bps)
    payment = (runs.price if runs.quotes is None else runs.quotes) * seats
    stake = floor_bps(payment, terms.stake_bps)
    paid = (payment + stake) * accepted

    active_seats = (seats * active).sum(axis=0)
    revenue = (runs.price * active_seats if runs.quotes is None else (payment * active).sum(axis=0)) * completed
    returned_stakes = stake * (active & runs.reported_attended & completed)
    forfeits = (stake * (active & completed)).sum(axis=0) - returned_stakes.sum(axis=0)
    fee = floor_bps(revenue, terms.fee_bps)
    forfeits_to_host = floor_bps(forfeits, terms.forfeit_to_host_bps)
    refunded = accepted & ~(active & completed) & (~active | (runs.final_status != RunStatus.ACTIVE))
    received = paid * refunded + returned_stakes
    host = revenue - fee + forfeits_to_host
    platform = fee + forfeits - forfeits_to_host
    host += host_stake * (completed | cancelled | (expired & (active_seats == 0)))

    shared = np.flatnonzero(expired & (active_seats > 0))
    if len(shared):
        compensation = floor_fraction(host_stake[shared], seats[:, shared], active_seats[shared]) * active[:, shared]
        received[:, shared] += compensation
        platform[shared] += host_stake[shared] - compensation.sum(axis=0)
    return Settlement(host_stake, host, platform, revenue, forfeits, paid, received)


def _merge(is_small: Bools, small: Settlement, large: Settlement) -> Settlement:
    """Puts the runs of both settlements in their places, with amounts as Python integers."""
    import numpy as np

    merged = {}
    for field in fields(Settlement):
        small_amounts, large_amounts = getattr(small, field.name), getattr(large, field.name)
        amounts = np.empty((*small_amounts.shape[:-1], len(is_small)), object)
        amounts[..., is_small], amounts[..., ~is_small] = as_python_ints(small_amounts), large_amounts
        merged[field.name] = amounts
    return Settlement(**merged)

"""What each run pays to whom, exactly in wei, for many runs at once: the rules of `stakesim.model.rules`.

Runs whose amounts could overflow int64 are settled apart, in Python integers; the results are the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from stakesim.model.state import RunStatus
from stakesim.population.exact_int import as_python_ints, fits_int64, floor_bps, floor_fraction

if TYPE_CHECKING:
    import numpy as np

    from stakesim.population.outcomes import Outcomes
    from stakesim.population.state import Bools, Ints, PopulationState, Wei
    from stakesim.scenario.actions import Terms


@dataclass(frozen=True)
class Settlement:
    """Wei. Of each run: host_stake; host: what the host is paid; platform: what the platform earns; revenue, forfeits:
    of a completed run. Of each person, shape (places, runs): paid: payment and stake; received: what came back."""

    host_stake: Wei
    host: Wei
    platform: Wei
    revenue: Wei
    forfeits: Wei
    paid: Wei
    received: Wei


def settle(state: PopulationState, outcomes: Outcomes, quotes: Wei | None = None) -> Settlement:
    """Every run as it ended; one that nobody closed has paid nothing back but cancelled bookings."""
    return settle_runs(
        state.terms,
        state.price_wei,
        state.seats,
        state.intents.seats,
        outcomes,
        state.intents.reported_attended,
        quotes,
    )


def settle_runs(
    terms: Terms,
    price: Wei,
    max_seats: Ints,
    seats: Ints,
    outcomes: Outcomes,
    reported_attended: Bools,
    quotes: Wei | None = None,
) -> Settlement:
    """price: wei a seat; max_seats: of each run; seats: of each person; reported_attended: whom the host reports as
    attended. quotes: wei a seat of each booking, under rules that are not the contract's: there all bookings have the
    run's price."""
    import numpy as np

    active = outcomes.active
    # all that goes in or out for a run is below 3 prices a seat, counting each booking that was ever made
    seats_paid = np.maximum(max_seats, (seats * outcomes.accepted).sum(axis=0))
    highest = price if quotes is None else np.maximum(price, quotes.max(axis=0))
    if highest.dtype != object and fits_int64(3 * int(highest.max(initial=0)) * int(seats_paid.max(initial=0))):
        return _settle(
            terms, price, max_seats, seats, outcomes.accepted, active, outcomes.final_status, reported_attended, quotes
        )
    small = np.array([fits_int64(3 * int(p) * int(s)) for p, s in zip(highest, seats_paid, strict=True)])
    if not small.any():
        bookings = None if quotes is None else as_python_ints(quotes)
        return _settle(
            terms,
            as_python_ints(price),
            max_seats,
            seats,
            outcomes.accepted,
            active,
            outcomes.final_status,
            reported_attended,
            bookings,
        )
    parts = [
        _settle(
            terms,
            price[which].astype(kind),
            max_seats[which],
            seats[:, which],
            outcomes.accepted[:, which],
            active[:, which],
            outcomes.final_status[which],
            reported_attended[:, which],
            None if quotes is None else quotes[:, which].astype(kind),
        )
        for which, kind in ((small, np.int64), (~small, object))
    ]
    return _merge(small, parts)


def _settle(
    terms: Terms,
    price: Wei,
    max_seats: Ints,
    seats: Ints,
    made: Bools,
    active: Bools,
    ends: Ints,
    reported_attended: Bools,
    quotes: Wei | None,
) -> Settlement:
    import numpy as np

    completed, cancelled, expired = (
        ends == status for status in (RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.EXPIRED)
    )
    host_stake = floor_bps(price * max_seats, terms.stake_bps)
    payment = (price if quotes is None else quotes) * seats
    stake = floor_bps(payment, terms.stake_bps)
    paid = (payment + stake) * made

    # completed: who came gets the stake, the host all but the fee, the platform the fee and the forfeits
    booked = (seats * active).sum(axis=0)
    revenue = (price * booked if quotes is None else (payment * active).sum(axis=0)) * completed
    attended = active & reported_attended & completed
    stakes_back = stake * attended
    forfeits = (stake * (active & completed)).sum(axis=0) - stakes_back.sum(axis=0)
    fee = floor_bps(revenue, terms.fee_bps)
    to_host = floor_bps(forfeits, terms.forfeit_to_host_bps)
    received = paid * (made & ~(active & completed) & (~active | (ends != RunStatus.ACTIVE))) + stakes_back

    # expired: everybody is refunded, and shares the host's stake by seats; the remainder is the platform's
    host = revenue - fee + to_host
    platform = fee + forfeits - to_host
    host += host_stake * (completed | cancelled | (expired & (booked == 0)))
    which = np.flatnonzero(expired & (booked > 0))
    if len(which):
        shares = floor_fraction(host_stake[which], seats[:, which], booked[which]) * active[:, which]
        received[:, which] += shares
        platform[which] += host_stake[which] - shares.sum(axis=0)
    return Settlement(host_stake, host, platform, revenue, forfeits, paid, received)


def _merge(small: np.ndarray, parts: list[Settlement]) -> Settlement:
    """Amounts of both kinds of runs in their places, as Python integers."""
    import numpy as np

    merged = {}
    for field in fields(Settlement):
        narrow, broad = (getattr(part, field.name) for part in parts)
        whole = np.empty((*narrow.shape[:-1], len(small)), object)
        whole[..., small], whole[..., ~small] = as_python_ints(narrow), broad
        merged[field.name] = whole
    return Settlement(**merged)

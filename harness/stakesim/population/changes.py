"""What several behaviours share: changes of intents, and what people weigh."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stakesim.population.state import NEVER, Intents, PopulationState
from stakesim.units import DAY

if TYPE_CHECKING:
    from decimal import Decimal

    from stakesim.population.state import Bools, Floats, Ints


def relative_stake(state: PopulationState, observed_inr: Decimal | None, at: Ints) -> Floats | float:
    """A seat's stake as a share of the ticket or, with `observed_inr`, its INR at some times as a share of that."""
    if observed_inr is None:
        return state.stake_share
    worth: Floats = state.stake_share * state.price_paise * (state.rate_at(at) / state.rates[0])
    return worth / float(100 * observed_inr)


def relative_loss(state: PopulationState, observed_inr: Decimal | None) -> Floats | float:
    """A no-show's loss for a seat, ticket and stake, in tickets or, with `observed_inr`, in tickets of that price."""
    if observed_inr is None:
        return 1 + state.stake_share
    ticket: Floats = state.price_paise / float(100 * observed_inr)
    return ticket + relative_stake(state, observed_inr, state.start)


def stay_away(state: PopulationState, stays_away: Bools) -> Intents:
    """Some people, of shape (places, runs), do not attend, and are not reported as attended."""
    intents = state.intents
    intends_to_attend = intents.intends_to_attend & ~stays_away
    return replace(
        intents,
        intends_to_attend=intends_to_attend,
        reported_attended=intents.reported_attended & intends_to_attend,
    )


def cancel_runs(state: PopulationState, times: Ints, hosts: Bools) -> Intents:
    """Some hosts, of shape (runs,), cancel their runs at these times, or earlier if they intended to."""
    import numpy as np

    earliest = np.minimum(state.intents.cancels_run_at, times)
    return replace(state.intents, cancels_run_at=np.where(hosts, earliest, state.intents.cancels_run_at))


def first_after_booking(pays: Bools, books_at: Ints, second_of_day: int) -> Ints:
    """When each person who looks once a day first sees that cancelling pays, after booking; NEVER if it never does.

    Args:
        pays: Whether it pays on a day, shape (days, runs).
        books_at: When each person books, shape (places, runs).
        second_of_day: When people look.
    """
    import numpy as np

    days, runs = pays.shape
    next_time = np.full((days + 1, runs), NEVER)  # of each day: the first time from that day on
    for day in range(days - 1, -1, -1):
        next_time[day] = np.where(pays[day], day * DAY + second_of_day, next_time[day + 1])
    day_after_booking = np.clip((books_at - second_of_day) // DAY + 1, 0, days)
    return next_time[day_after_booking, np.arange(runs)]


def add_person(
    state: PopulationState,
    books_at: Ints,
    seats: Ints | int,
    cancels_at: Ints,
    *,
    by_host: bool,
    intends_to_attend: bool,
) -> Intents:
    """Adds a person to each run, in a new first place. Arrays have the shape (runs,)."""
    import numpy as np

    def prepend(row: Any, rows: Any) -> Any:
        return np.concatenate([np.broadcast_to(row, (1, state.run_count)), rows])

    intents = state.intents
    return replace(
        intents,
        interested=prepend(False, intents.interested),
        books_at=prepend(books_at, intents.books_at),
        seats=prepend(seats, intents.seats),
        cancels_at=prepend(cancels_at, intents.cancels_at),
        intends_to_attend=prepend(intends_to_attend, intents.intends_to_attend),
        reported_attended=prepend(intends_to_attend, intents.reported_attended),
        by_host=prepend(by_host, intents.by_host),
    )

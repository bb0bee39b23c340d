"""What becomes of everybody's intents: who gets a seat, what is refused, how each run ends. No money is moved here.

The rules are those of `stakesim.model.rules`, and of the price check in `stakesim.model.rates`, for one run at a
time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stakesim.model.rates import PRICE_MAX_JUMP
from stakesim.model.state import RunStatus
from stakesim.population.state import DAY, NEVER, PopulationState

if TYPE_CHECKING:
    from stakesim.population.state import Bools, Ints

_INDEX_BITS = 10
"""Of a sorting key: which of a run's events it is. Two for each place and three for the run; MAX_SEATS is 200."""
MAX_PLACES = (2**_INDEX_BITS - 3) // 2


@dataclass(frozen=True)
class Outcomes:
    """made: bookings that the contract took. cancelled: those among them that were cancelled in time. ends: a
    `RunStatus` of each run, ACTIVE where nobody closed it; ended: when. booked_at: when a booking was asked for."""

    accepted: Bools
    cancelled: Bools
    final_status: Ints
    closed_at: Ints
    booked_at: Ints

    @property
    def active(self) -> Bools:
        """Bookings that still stood when the run ended."""
        return self.accepted & ~self.cancelled


@dataclass(frozen=True)
class Timeline:
    """When each thing happens, one at a time: what is not later than the one before it lands one second after it, as in
    `Scenario.timeline`. order: indices of a run's events, shape (events, runs): place p books: p; cancels: places + p;
    the run is cancelled, completed, expires: 2 places, + 1, + 2."""

    order: Ints
    at: Ints
    books_at: Ints
    cancels_at: Ints
    cancels_run_at: Ints
    completes_run_at: Ints
    expires_run_at: Ints


def timeline(state: PopulationState) -> Timeline:
    import numpy as np

    intents = state.intents
    places, runs = state.shape
    if places > MAX_PLACES:
        raise ValueError(f"{places} people for a run are more than {MAX_PLACES}; make the population smaller")
    wanted = np.empty((runs, 2 * places + 3), np.int64)  # a run's events side by side: what is sorted lies together
    wanted[:, :places] = intents.books_at.T
    wanted[:, places : 2 * places] = intents.cancels_at.T
    for offset, times in enumerate((intents.cancels_run_at, intents.completes_run_at, intents.expires_run_at)):
        wanted[:, 2 * places + offset] = times
    keys = (wanted << _INDEX_BITS) | np.arange(2 * places + 3)
    keys.sort(axis=1)
    order = keys & (2**_INDEX_BITS - 1)
    counted = np.arange(2 * places + 3)
    sorted_at = np.maximum.accumulate((keys >> _INDEX_BITS) - counted, axis=1) + counted
    at = np.empty_like(sorted_at)
    np.put_along_axis(at, order, sorted_at, axis=1)
    at = at.T
    return Timeline(
        order.T,
        sorted_at.T,
        books_at=at[:places],
        cancels_at=at[places : 2 * places],
        cancels_run_at=at[2 * places],
        completes_run_at=at[2 * places + 1],
        expires_run_at=at[2 * places + 2],
    )


def resolve_outcomes(state: PopulationState) -> Outcomes:
    """Every run from its creation to its end."""
    import numpy as np

    intents, when = state.intents, timeline(state)
    closed_early = when.cancels_run_at < state.start
    stop = np.where(closed_early, when.cancels_run_at, NEVER)
    completed = ~closed_early & (when.completes_run_at >= state.start) & (when.completes_run_at < state.deadline)
    expired = ~closed_early & ~completed & (when.expires_run_at >= state.deadline) & (when.expires_run_at < NEVER)
    ends = np.select(
        [closed_early, completed, expired],
        [int(RunStatus.CANCELLED), int(RunStatus.COMPLETED), int(RunStatus.EXPIRED)],
        int(RunStatus.ACTIVE),
    )
    ended = np.select([closed_early, completed, expired], [stop, when.completes_run_at, when.expires_run_at], NEVER)
    may_book = (intents.seats > 0) & (when.books_at < np.minimum(state.start, stop))
    may_cancel = (when.cancels_at > when.books_at) & (when.cancels_at <= state.cutoff) & (when.cancels_at < stop)
    made = may_book.copy()
    contested = _contested(state, may_book)
    if len(contested):
        made[:, contested] = _one_after_another(state, when, may_book, may_cancel, contested)
    return Outcomes(made, made & may_cancel, ends, ended, when.books_at)


def _contested(state: PopulationState, may_book: Bools) -> Ints:
    """Runs in which it matters who comes first: more seats are wanted than there are, or the rate moved so far that the
    service may have refused a quote."""
    import numpy as np

    wanted = np.where(may_book, state.intents.seats, 0).sum(axis=0)
    sold = state.rates[: int(state.start.max()) // DAY + 1]
    return np.flatnonzero((wanted > state.seats) | (sold.max(axis=0) > PRICE_MAX_JUMP * sold.min(axis=0)))


def _one_after_another(state: PopulationState, when: Timeline, may_book: Bools, may_cancel: Bools, runs: Ints) -> Bools:
    """Which bookings are made, in the order in which people ask, for some of the runs."""
    import numpy as np

    places = len(may_book)
    column = np.arange(len(runs))
    order, at = when.order[:, runs], when.at[:, runs]
    seats, may_book, may_cancel = state.intents.seats[:, runs], may_book[:, runs], may_cancel[:, runs]
    rates = state.rates[:, runs]
    free, last_rate = state.seats[runs].copy(), rates[0].copy()
    made = np.zeros_like(may_book)
    for which, second in zip(order, at, strict=True):
        if (second >= NEVER).all():
            break
        place = which % places
        books, cancels = which < places, (which >= places) & (which < 2 * places)
        wanted = seats[place, column]
        rate = rates[np.clip(second // DAY, 0, len(rates) - 1), column]
        quoted = np.maximum(rate, last_rate) <= PRICE_MAX_JUMP * np.minimum(rate, last_rate)
        last_rate = np.where(books & quoted, rate, last_rate)
        taken = books & quoted & may_book[place, column] & (wanted <= free)
        given_back = cancels & may_cancel[place, column] & made[place, column]
        made[place, column] |= taken
        free += np.where(given_back, wanted, 0) - np.where(taken, wanted, 0)
    return made

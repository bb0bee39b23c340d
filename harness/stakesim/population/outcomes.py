"""The outcomes of everybody's intents: who gets a seat, which bookings are cancelled, and how each run ends.

The rules are those of `stakesim.model.rules`, and of the price check in `stakesim.model.rates`, for one run at a time.
They are written twice: here with NumPy, and in `compiled_outcomes` as a loop that numba compiles where it is installed.
`stakesim.economics.settle` computes the payments.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any

from stakesim.model.rates import PRICE_MAX_JUMP
from stakesim.model.state import RunStatus
from stakesim.population.state import INDEX_BITS, NEVER, PopulationState
from stakesim.units import DAY

if TYPE_CHECKING:
    from stakesim.population.state import Bools, Ints

MAX_PLACES = (2**INDEX_BITS - 3) // 2
"""Places of a run that the index has room for."""
SWITCH = "STAKESIM_NUMBA"
"""Environment variable: 0 to work without numba even where it is installed."""
RUNS_IN_NUMPY = 400_000
"""Runs of a process before compiled code is loaded, which takes as long as it saves on them."""
_runs_seen = 0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcomes:
    """How bookings and runs end.

    Attributes:
        accepted: Whether the contract accepted the booking.
        cancelled: Whether the booking was accepted and cancelled in time.
        final_status: The `RunStatus` of each run; ACTIVE if nobody closed it.
        closed_at: When each run was closed; NEVER if nobody closed it.
        booked_at: When each booking was asked for.
        cancelled_at: When each person wanted to cancel.
    """

    accepted: Bools
    cancelled: Bools
    final_status: Ints
    closed_at: Ints
    booked_at: Ints
    cancelled_at: Ints

    @property
    def active(self) -> Bools:
        """Whether the booking was still active when the run was closed."""
        return self.accepted & ~self.cancelled


class EventKind(Enum):
    """What a person or a host may do once in a run."""

    BOOK = "book"
    CANCEL_BOOKING = "cancel_booking"
    CANCEL_RUN = "cancel_run"
    COMPLETE = "complete"
    EXPIRE = "expire"


def event_of(index: int, places: int) -> tuple[EventKind, int]:
    """The kind and the place of a run's event.

    Indices 0 to places - 1 are the bookings of the places, the next so many their cancellations; then come the run's
    cancellation, completion and expiry, whose place means nothing.
    """
    group, place = divmod(index, places)
    if group < 2:
        return (EventKind.BOOK, EventKind.CANCEL_BOOKING)[group], place
    return (EventKind.CANCEL_RUN, EventKind.COMPLETE, EventKind.EXPIRE)[index - 2 * places], 0


@dataclass(frozen=True)
class Timeline:
    """When each event happens, one at a time.

    Like in `Scenario.timeline`, an event that is not later than the one before it happens one second after it.

    Attributes:
        order: Indices of each run's events (see `event_of`) in the order of their times, shape (events, runs).
        at: Times of the events in that order, shape (events, runs).
        books_at: When each person books, shape (places, runs), as the other times of people.
        cancels_at: When each person cancels.
        cancels_run_at: When each run is cancelled, shape (runs,), as the other times of runs.
        completes_run_at: When each run is completed.
        expires_run_at: When each run expires.
    """

    order: Ints
    at: Ints
    books_at: Ints
    cancels_at: Ints
    cancels_run_at: Ints
    completes_run_at: Ints
    expires_run_at: Ints


def sorted_keys(state: PopulationState) -> Ints:
    """Each run's events in the order of their times: a time and an index (see `event_of`) each; shape (runs, events).

    Raises:
        ValueError: The population has more than MAX_PLACES places.
    """
    import numpy as np

    intents = state.intents
    places, runs = state.shape
    if places > MAX_PLACES:
        raise ValueError(f"{places} people for a run are more than {MAX_PLACES}; make the population smaller")
    intended = np.empty((runs, 2 * places + 3), np.int64)  # transposed: sorting is faster on contiguous memory
    intended[:, :places] = intents.books_at.T
    intended[:, places : 2 * places] = intents.cancels_at.T
    for offset, times in enumerate((intents.cancels_run_at, intents.completes_run_at, intents.expires_run_at)):
        intended[:, 2 * places + offset] = times
    intended <<= INDEX_BITS
    intended |= np.arange(2 * places + 3)
    intended.sort(axis=1)
    return intended


def timeline(state: PopulationState) -> Timeline:
    """Puts everybody's intents in the order of their times.

    Raises:
        ValueError: The population has more than MAX_PLACES places.
    """
    import numpy as np

    keys, places = sorted_keys(state), state.shape[0]
    order = keys & (2**INDEX_BITS - 1)
    # An event that is not later than the one before it happens one second after it.
    positions = np.arange(2 * places + 3)
    sorted_at = np.maximum.accumulate((keys >> INDEX_BITS) - positions, axis=1) + positions
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
    """Decides how every booking and every run ends."""
    if compiled := _compiled(state):
        return Outcomes(*compiled(state, sorted_keys(state))[:-1])
    return resolve_in_numpy(state)


def have_same_outcomes(one: PopulationState, other: PopulationState) -> bool:
    """Whether the same runs end alike, as everybody intends to do the same; if not, they may still do so."""
    import numpy as np

    intents = ("books_at", "seats", "cancels_at", "cancels_run_at", "completes_run_at", "expires_run_at")
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("start", "seats", "rates")]
    pairs += [(getattr(one.intents, name), getattr(other.intents, name)) for name in intents]
    terms, others = one.terms, other.terms
    return (
        terms.cancellation_cutoff == others.cancellation_cutoff
        and terms.completion_grace == others.completion_grace
        and all(a is b or np.array_equal(a, b) for a, b in pairs)
    )


def with_waiting_list(state: PopulationState) -> PopulationState:
    """The same runs with a waiting list: whoever gets a seat that somebody gave up asks for it when it is free."""
    compiled = _compiled(state)
    books_at = compiled(state, sorted_keys(state), waiting_list=True)[-1] if compiled else served_in_numpy(state)
    return replace(state, intents=replace(state.intents, books_at=books_at))


def _compiled(state: PopulationState) -> Callable[..., tuple[Any, ...]] | None:
    """Compiled code that resolves runs; None without it, or as long as this process had too few runs for it to pay."""
    global _runs_seen
    _runs_seen += state.run_count
    return _load_compiled() if _runs_seen > RUNS_IN_NUMPY else None


@cache
def _load_compiled() -> Callable[..., tuple[Any, ...]] | None:
    """Loads compiled code; None if numba is not installed, can't be used, or is switched off."""
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        from stakesim.population import compiled_outcomes
    except ImportError as error:
        if getattr(error, "name", None) != "numba":  # such as: NumPy is newer than it knows
            _log.warning("numba can't be used, so sweeps take longer: %s", error)
        return None
    return compiled_outcomes.resolve


def resolve_in_numpy(state: PopulationState) -> Outcomes:
    """Decides how every booking and every run ends, without compiled code."""
    import numpy as np

    intents, times = state.intents, timeline(state)
    cancelled_run = times.cancels_run_at < state.start
    stop = np.where(cancelled_run, times.cancels_run_at, NEVER)
    completed = ~cancelled_run & (times.completes_run_at >= state.start) & (times.completes_run_at < state.deadline)
    expired = ~cancelled_run & ~completed & (times.expires_run_at >= state.deadline) & (times.expires_run_at < NEVER)
    final_status = np.select(
        [cancelled_run, completed, expired],
        [int(RunStatus.CANCELLED), int(RunStatus.COMPLETED), int(RunStatus.EXPIRED)],
        int(RunStatus.ACTIVE),
    )
    closed_at = np.select(
        [cancelled_run, completed, expired], [stop, times.completes_run_at, times.expires_run_at], NEVER
    )
    may_book = (intents.seats > 0) & (times.books_at < np.minimum(state.start, stop))
    may_cancel = (times.cancels_at > times.books_at) & (times.cancels_at <= state.cutoff) & (times.cancels_at < stop)
    accepted = may_book.copy()
    for contested, moves_far in _contested_runs(state, may_book):
        accepted[:, contested] = _accepted_in_order(
            state, times, may_book, may_cancel, contested, may_be_refused=moves_far
        )
    return Outcomes(accepted, accepted & may_cancel, final_status, closed_at, times.books_at, times.cancels_at)


def _contested_runs(state: PopulationState, may_book: Bools) -> Iterator[tuple[Ints, bool]]:
    """Indices of the runs in which the order of bookings matters, and whether the rate of these moves far.

    In these runs more seats are asked for than there are, or the rate moved so far that a quote may have been refused.
    """
    import numpy as np

    seats_asked = np.where(may_book, state.intents.seats, 0).sum(axis=0)
    rates = state.rates[: int(state.start.max()) // DAY + 1]
    far = rates.max(axis=0) > PRICE_MAX_JUMP * rates.min(axis=0)
    for runs, moves_far in ((np.flatnonzero((seats_asked > state.seats) & ~far), False), (np.flatnonzero(far), True)):
        if len(runs):
            yield runs, moves_far


def served_in_numpy(state: PopulationState) -> Ints:
    """When each person asks for a booking that can be accepted if there is a waiting list, without compiled code."""
    import numpy as np

    intents, times = state.intents, timeline(state)
    stop = np.where(times.cancels_run_at < state.start, times.cancels_run_at, state.start)
    may_book = (intents.seats > 0) & (times.books_at < stop)
    may_cancel = (times.cancels_at > times.books_at) & (times.cancels_at <= state.cutoff) & (times.cancels_at < stop)
    books_at = intents.books_at.copy()
    for contested, moves_far in _contested_runs(state, may_book):
        waiting_list = _WaitingList(intents.seats[:, contested], intents.books_at[:, contested])
        _accepted_in_order(state, times, may_book, may_cancel, contested, waiting_list, may_be_refused=moves_far)
        books_at[:, contested] = waiting_list.books_at
    return books_at


class _WaitingList:
    """Who waits for seats in some runs.

    Attributes:
        books_at: When each person asks for a booking that can be accepted, shape (places, runs).
    """

    def __init__(self, seats: Ints, asked_at: Ints) -> None:
        import numpy as np

        self._seats, self._asked_at = seats, asked_at
        self._waits = np.zeros(seats.shape, np.bool_)
        self.books_at = asked_at.copy()

    def join(self, place: Ints, refused: Bools) -> None:
        """Enters the person in a place of each run, where they were refused."""
        runs = refused.nonzero()[0]
        self._waits[place[runs], runs] = True

    def leave(self, place: Ints, gone: Bools) -> None:
        """Strikes off the person in a place of each run, where they lost interest."""
        runs = gone.nonzero()[0]
        self._waits[place[runs], runs] = False

    def serve(self, freed: Bools, second: Ints, free_seats: Ints, accepted: Bools) -> None:
        """Where seats became free in a second, those book who waited longest and have room: one after another."""
        import numpy as np

        runs = freed.nonzero()[0]
        while len(runs):
            fits = self._waits[:, runs] & (self._seats[:, runs] <= free_seats[runs])
            first = np.where(fits, self._asked_at[:, runs], NEVER).argmin(axis=0)
            served = fits[first, np.arange(len(runs))]
            runs, first = runs[served], first[served]
            self._waits[first, runs], accepted[first, runs] = False, True
            self.books_at[first, runs] = second[runs] + 1
            free_seats[runs] -= self._seats[first, runs]


def _accepted_in_order(
    state: PopulationState,
    times: Timeline,
    may_book: Bools,
    may_cancel: Bools,
    runs: Ints,
    waiting_list: _WaitingList | None = None,
    *,
    may_be_refused: bool,
) -> Bools:
    """Which bookings of some runs are accepted if they are made one after another, shape (places, len(runs)).

    `may_be_refused` says whether the rate moves so far that the price check may refuse it.
    """
    import numpy as np

    places = len(may_book)
    column = np.arange(len(runs))
    order, at = times.order[:, runs], times.at[:, runs]
    seats, may_book, may_cancel = state.intents.seats[:, runs], may_book[:, runs], may_cancel[:, runs]
    rates = state.rates[:, runs]
    free_seats, last_accepted_rate = state.seats[runs].copy(), rates[0].copy()
    is_quoted: Bools | bool = True
    accepted = np.zeros_like(may_book)
    for event, second in zip(order, at, strict=True):
        if (second >= NEVER).all():
            break
        place = event % places
        is_booking, is_cancellation = event < places, (event >= places) & (event < 2 * places)
        seats_asked = seats[place, column]
        if may_be_refused:
            rate = rates[np.clip(second // DAY, 0, len(rates) - 1), column]
            # The price check refuses a rate that is too far from the last accepted one.
            is_quoted = np.maximum(rate, last_accepted_rate) <= PRICE_MAX_JUMP * np.minimum(rate, last_accepted_rate)
            last_accepted_rate = np.where(is_booking & is_quoted, rate, last_accepted_rate)
        is_accepted = is_booking & is_quoted & may_book[place, column] & (seats_asked <= free_seats)
        is_cancelled = is_cancellation & may_cancel[place, column] & accepted[place, column]
        accepted[place, column] |= is_accepted
        free_seats += np.where(is_cancelled, seats_asked, 0) - np.where(is_accepted, seats_asked, 0)
        if waiting_list:
            waiting_list.join(place, is_booking & is_quoted & may_book[place, column] & ~is_accepted)
            waiting_list.leave(place, is_cancellation)
            waiting_list.serve(is_cancelled, second, free_seats, accepted)
    return accepted

"""Many event runs at once as arrays: what everybody can see, and what everybody intends to do.

Arrays of people have the shape (places, runs): a place of a run is one person who may want to book, or is empty. Arrays
of runs have the shape (runs,), so that they broadcast over all places. Times are whole seconds from the run's creation,
prices and rates whole paise, amounts wei.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from stakesim.population.policy import Policy
from stakesim.units import BPS, DAY

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    Ints: TypeAlias = NDArray[np.int64]
    Bools: TypeAlias = NDArray[np.bool_]
    Floats: TypeAlias = NDArray[np.float64]
    Wei: TypeAlias = NDArray[Any]
    """int64 where nothing can overflow, Python integers elsewhere."""

NEVER = 2**44
"""A time that does not come."""
INDEX_BITS = 10
"""Bits of a sorting key that hold the event's index: two events for each place, and three for the run."""


@dataclass(frozen=True)
class Intents:
    """What each person and each host intends to do. `outcomes.resolve_outcomes` decides which intents succeed.

    Attributes:
        interested: Whether there is an attendee in the place; False for empty places, for a host's own bookings, and
            for whoever books only to harm.
        books_at: When the person asks for a booking; NEVER if they do not.
        seats: How many seats the person asks for.
        cancels_at: When the person cancels the booking; NEVER if they do not.
        intends_to_attend: Whether the person turns up at the event.
        reported_attended: Whether the host reports the person as attended; a host may report falsely.
        by_host: Whether the host books the place for themselves.
        cancels_run_at: When the host cancels the run.
        completes_run_at: When the host completes the run.
        expires_run_at: When somebody lets the run expire.
    """

    interested: Bools
    books_at: Ints
    seats: Ints
    cancels_at: Ints
    intends_to_attend: Bools
    reported_attended: Bools
    by_host: Bools
    cancels_run_at: Ints
    completes_run_at: Ints
    expires_run_at: Ints


@dataclass(frozen=True)
class PopulationState:
    """Event runs, their market, and what everybody intends to do.

    Attributes:
        terms: The terms of the contract, and how the platform sells.
        seats: Seats of each run that are sold.
        room: Seats of each run that there are: fewer than are sold if it is overbooked.
        start: Start of each run.
        price_paise: Price of a seat in paise, of each run.
        price_wei: Price of a seat in wei, fixed when the run is created, of each run.
        rates: Paise for one ETH on each day, shape (days + 1, runs).
        intents: What everybody intends to do.
    """

    terms: Policy
    seats: Ints
    room: Ints
    start: Ints
    price_paise: Ints
    price_wei: Wei
    rates: Ints
    intents: Intents

    @property
    def run_count(self) -> int:
        """How many runs there are."""
        return len(self.seats)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of arrays of people: (places, runs)."""
        places, runs = self.intents.books_at.shape
        return places, runs

    @property
    def cutoff(self) -> Ints:
        """The last second at which a booking can be cancelled, of each run."""
        return self.start - self.terms.cancellation_cutoff

    @property
    def deadline(self) -> Ints:
        """The first second at which a run can expire, and can't be completed any more, of each run."""
        return self.start + self.terms.completion_grace

    @property
    def stake_share(self) -> float:
        """The stake as a share of the ticket's price."""
        return self.terms.stake_bps / BPS

    def rate_at(self, times: Ints) -> Ints:
        """Paise for one ETH at a time of each run, shape (runs,), or of each person, shape (places, runs)."""
        import numpy as np

        days = np.clip(times // DAY, 0, len(self.rates) - 1)
        return self.rates[days, np.arange(self.run_count)]


class Behaviour(Protocol):
    """How some of the people behave.

    A behaviour may look at the whole state, and returns changed intents. To make policies comparable it draws the same
    random numbers for all terms, and lets the terms decide only what follows from them.
    """

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        """Everybody's intents as the behaviour changes them."""

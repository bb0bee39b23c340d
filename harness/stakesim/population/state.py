"""Many event runs at once, as arrays: what everybody can see, and what everybody means to do.

Arrays of people have the shape (places, runs): place p of run r is one person who may want to book it, or nobody. Times
are whole seconds from the run's creation, rates and prices whole paise, amounts wei. A run is one column, so that what
holds for the run is a row that fits all its places.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from stakesim.scenario.actions import Terms

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    Ints: TypeAlias = NDArray[np.int64]
    Bools: TypeAlias = NDArray[np.bool_]
    Wei: TypeAlias = NDArray[Any]
    """int64 where nothing can overflow, Python integers elsewhere."""

HOUR, DAY = 3_600, 86_400
NEVER = 2**44
"""A time that does not come."""


@dataclass(frozen=True)
class Intents:
    """What each person and each host intends to do. `outcomes.resolve_outcomes` decides which intents succeed.

    Arrays of people have the shape (places, runs), arrays of runs the shape (runs,).

    Attributes:
        interested: Whether an attendee stands in this place; False for empty places and for a host's own bookings.
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

    def but(self, **changes: Any) -> Intents:
        """The same with some of it changed."""
        return replace(self, **changes)


@dataclass(frozen=True)
class PopulationState:
    """What everybody can see, and what they mean to do so far.

    seats, start: of each run. price_paise, price_wei: of a seat; the wei are fixed when the run is created. rates:
    paise for one ETH on each day, shape (days + 1, runs), as `scenario.market.simulate` has them.
    """

    terms: Terms
    seats: Ints
    start: Ints
    price_paise: Ints
    price_wei: Wei
    rates: Ints
    intents: Intents

    @property
    def runs(self) -> int:
        return len(self.seats)

    @property
    def shape(self) -> tuple[int, int]:
        """Places and runs."""
        places, runs = self.intents.books_at.shape
        return places, runs

    @property
    def cutoff(self) -> Ints:
        """The last second to cancel a booking."""
        return self.start - self.terms.cancellation_cutoff

    @property
    def deadline(self) -> Ints:
        """The first second at which a run can't be completed any more, but can expire."""
        return self.start + self.terms.completion_grace

    @property
    def stake(self) -> float:
        """As a share of the ticket."""
        return self.terms.stake_bps / 10_000

    def rate_at(self, times: Ints) -> Ints:
        """Paise for one ETH at a time of each run, or of each person."""
        import numpy as np

        days = np.clip(times // DAY, 0, len(self.rates) - 1)
        return self.rates[days, np.arange(self.runs)]


class Behaviour(Protocol):
    """How some of the people are. It may look at all of the state, and changes what they mean to do.

    To compare policies, draw as much chance whatever the terms are, and let the terms decide what to make of it.
    """

    def __call__(self, rng: Generator, state: PopulationState) -> Intents: ...

"""How people are. A behaviour is data and a function: `NoShow(base=0.15)(rng, state)` returns everybody's intents with
what these people mean to do changed. They are applied in their order, each with chance of its own.

Shares and chances are from 0 to 1; times are seconds. How much chance is drawn never depends on the terms, so that the
same people meet each policy (common random numbers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field

from stakesim.generate.profiles import Probability
from stakesim.population.state import DAY, HOUR, NEVER, Intents, PopulationState
from stakesim.schema.fields import Seconds, StrictModel

if TYPE_CHECKING:
    from numpy.random import Generator

    from stakesim.population.state import Bools, Ints

Elasticity: TypeAlias = Annotated[float, Field(ge=0, le=20)]


class NoShow(StrictModel):
    """Whoever booked stays away with the chance base x (1 + stake) ** -elasticity, stake as a share of the ticket.

    base: without a stake. Of paid events 0.10 to 0.17 stay away, of free ones 0.28 to 0.40. What a no-show loses is
    ticket and stake, so 1 + stake is what staying away costs, in tickets; elasticity 0: stakes change nothing.
    """

    do: Literal["no_show"] = "no_show"
    base: Probability = 0.135
    elasticity: Elasticity = 0.0

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        stays_away = rng.random(state.shape) < self.base * (1 + state.stake) ** -self.elasticity
        return _absent(state, stays_away)


class LostToStake(StrictModel):
    """Of those who would have booked, (1 + stake) ** -elasticity still do: constant elasticity of demand in what has to
    be paid up front. 0: nobody minds, as the stake comes back."""

    do: Literal["lost_to_stake"] = "lost_to_stake"
    elasticity: Elasticity = 0.5

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        import numpy as np

        goes = rng.random(state.shape) >= (1 + state.stake) ** -self.elasticity
        return state.intents.but(books_at=np.where(goes, NEVER, state.intents.books_at))


class Weather(StrictModel):
    """No-shows that come together: on a bad day, which each run has with `chance`, of those who would have come
    `stay_away` do not."""

    do: Literal["weather"] = "weather"
    chance: Probability = 0.1
    stay_away: Probability = 0.3

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        bad_day = rng.random(state.runs) < self.chance
        return _absent(state, (rng.random(state.shape) < self.stay_away) & bad_day)


class Cancel(StrictModel):
    """Attendees cancel with a hazard of `daily` a day, and of `daily_near` in the last `near` seconds before the start.

    Time to cancellation is exponential with a hazard of two steps (the piecewise exponential model, M. Friedman 1982).
    Who means to cancel after the cutoff can't any more, and stays away.
    """

    do: Literal["cancel"] = "cancel"
    daily: Annotated[float, Field(ge=0, le=1)] = 0.01
    daily_near: Annotated[float, Field(ge=0, le=1)] = 0.05
    near: Seconds = 3 * DAY

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        import numpy as np

        books = state.intents.books_at
        risk = rng.standard_exponential(state.shape)
        near_from = np.maximum(state.start - self.near, books)
        before = self.daily * (near_from - books) / DAY
        with np.errstate(divide="ignore", invalid="ignore"):
            far = books + risk / self.daily * DAY if self.daily else np.full(state.shape, np.inf)
            near = near_from + (risk - before) / self.daily_near * DAY if self.daily_near else np.inf
            wanted = np.where(risk < before, far, near)
        wanted = np.where(wanted < state.start, wanted, NEVER).astype(np.int64)
        cancels = np.where(books < NEVER, np.minimum(state.intents.cancels_at, np.maximum(wanted, books + 1)), NEVER)
        too_late = (cancels > state.cutoff) & (cancels < NEVER)
        return _absent(state, too_late).but(cancels_at=np.where(too_late, NEVER, cancels))


class HostCancels(StrictModel):
    """The host calls a run off with `chance`, at any moment before its start."""

    do: Literal["host_cancels"] = "host_cancels"
    chance: Probability = 0.05

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        return _called_off(state, _time_within(rng, state), rng.random(state.runs) < self.chance)


class WalkAway(StrictModel):
    """People use the option that a free cancellation is, on the first day on which it pays.

    An attendee's refund is in wei, fixed when the run was created, and the ticket is worth its INR price: they cancel,
    by the cutoff, once the wei are worth more than (1 + threshold) x that. A host's revenue is in the same wei: hosts
    call the run off once it is worth less than (1 - threshold) x its price. share: of those who look.
    """

    do: Literal["walk_away"] = "walk_away"
    who: Literal["attendees", "hosts"] = "attendees"
    threshold: Annotated[float, Field(ge=0, lt=10)] = 0.2
    share: Probability = 1.0

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        import numpy as np

        relative = state.rates / state.rates[0]
        days = np.arange(len(state.rates))[:, None]
        look = days * DAY + HOUR
        if self.who == "hosts":
            pays = (relative < 1 - self.threshold) & (look < state.start)
            first = np.where(pays.any(axis=0), pays.argmax(axis=0) * DAY + HOUR, NEVER)
            return _called_off(state, first, rng.random(state.runs) < self.share)
        pays = (relative > 1 + self.threshold) & (look <= state.cutoff)
        looks = rng.random(state.shape) < self.share
        when = _first_from(pays, state.intents.books_at, look_at=HOUR)
        cancels = np.where(looks, np.minimum(state.intents.cancels_at, when), state.intents.cancels_at)
        return state.intents.but(cancels_at=np.where(state.intents.books_at < NEVER, cancels, NEVER))


class FalseNoShows(StrictModel):
    """A host says of `share` of those who came that they did not; it pays where the host gets part of the forfeits."""

    do: Literal["false_no_shows"] = "false_no_shows"
    share: Probability = 0.5
    hosts: Probability = 1.0

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        false = (rng.random(state.shape) < self.share) & (rng.random(state.runs) < self.hosts)
        return state.intents.but(
            reported_attended=state.intents.reported_attended & ~false & ~state.intents.by_host | state.intents.by_host
        )


class SelfBook(StrictModel):
    """Hosts book `seats` of their own run as soon as it is open, so that it looks wanted, and tick themselves off."""

    do: Literal["self_book"] = "self_book"
    seats: Annotated[int, Field(strict=True, ge=1)] = 1
    hosts: Probability = 1.0

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        import numpy as np

        books = np.where(rng.random(state.runs) < self.hosts, HOUR, NEVER)
        return _joined(state, books, self.seats, np.full(state.runs, NEVER), by_host=True)


class Grief(StrictModel):
    """Somebody books every seat that a run has, as soon as it is open, and cancels in the last second that is allowed:
    others find it full, and it costs nothing but gas."""

    do: Literal["grief"] = "grief"
    runs: Probability = 1.0
    seats: Annotated[int, Field(strict=True, ge=1)] | None = None

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        import numpy as np

        hit = rng.random(state.runs) < self.runs
        seats = state.seats if self.seats is None else np.minimum(state.seats, self.seats)
        return _joined(
            state,
            np.where(hit, 60, NEVER),
            seats,
            np.where(hit, np.maximum(state.cutoff, 61), NEVER),
            intends_to_attend=False,
        )


class CompleteLate(StrictModel):
    """Runs that nobody completes (`never`), or only after the grace period (`late`), so that they expire."""

    do: Literal["complete_late"] = "complete_late"
    late: Probability = 0.02
    never: Probability = 0.02

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        import numpy as np

        draw, after = rng.random(state.runs), rng.integers(0, DAY, state.runs)
        completes = np.where(draw < self.late, state.deadline + after, state.intents.completes_run_at)
        return state.intents.but(
            completes_run_at=np.where((draw >= self.late) & (draw < self.late + self.never), NEVER, completes)
        )


AnyBehaviour: TypeAlias = Annotated[
    NoShow | LostToStake | Weather | Cancel | HostCancels | WalkAway | FalseNoShows | SelfBook | Grief | CompleteLate,
    Field(discriminator="do"),
]


# What several behaviours share


def _absent(state: PopulationState, stays_away: Bools) -> Intents:
    intents = state.intents
    comes = intents.intends_to_attend & ~stays_away
    return intents.but(intends_to_attend=comes, reported_attended=intents.reported_attended & comes)


def _called_off(state: PopulationState, when: Ints, hosts: Bools) -> Intents:
    import numpy as np

    earlier = np.minimum(state.intents.cancels_run_at, when)
    return state.intents.but(cancels_run_at=np.where(hosts, earlier, state.intents.cancels_run_at))


def _time_within(rng: Generator, state: PopulationState) -> Ints:
    """A second between an hour after a run's creation and its start."""
    import numpy as np

    return (HOUR + rng.random(state.runs) * (state.start - HOUR - 1)).astype(np.int64)


def _first_from(pays: Bools, books: Ints, look_at: int) -> Ints:
    """When each person first sees that it pays, after booking: days are looked at once, at `look_at` seconds."""
    import numpy as np

    days, runs = pays.shape
    following = np.full((days + 1, runs), NEVER)
    for day in range(days - 1, -1, -1):
        following[day] = np.where(pays[day], day * DAY + look_at, following[day + 1])
    day_after = np.clip((books - look_at) // DAY + 1, 0, days)
    return following[day_after, np.arange(runs)]


def _joined(
    state: PopulationState,
    books: Ints,
    seats: Ints | int,
    cancels: Ints,
    by_host: bool = False,
    intends_to_attend: bool = True,
) -> Intents:
    """One more person for each run, in the first place."""
    import numpy as np

    def first(row: Any, rows: Any) -> Any:
        return np.concatenate([np.broadcast_to(row, (1, state.runs)), rows])

    intents = state.intents
    return intents.but(
        interested=first(False, intents.interested),
        books_at=first(books, intents.books_at),
        seats=first(seats, intents.seats),
        cancels_at=first(cancels, intents.cancels_at),
        intends_to_attend=first(intends_to_attend, intents.intends_to_attend),
        reported_attended=first(intends_to_attend, intents.reported_attended),
        by_host=first(by_host, intents.by_host),
    )

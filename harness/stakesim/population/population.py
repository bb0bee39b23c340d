"""Populations: what runs there are, who may want to book, how people behave, and the market.

One file is one population. `draw` makes CHUNK_SIZE of its runs at once. Run number i of a seed is the same however many
runs are drawn, so that one of a million can be run on a chain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from stakesim.model.rules import MAX_SEATS
from stakesim.population.behaviours import Behaviours
from stakesim.population.outcomes import MAX_PLACES, with_waiting_list
from stakesim.population.policy import Policy, as_policy
from stakesim.population.state import NEVER, Behaviour, Intents, PopulationState
from stakesim.population.streams import stream
from stakesim.prices.price_models import Gbm, PriceModel, data_hash
from stakesim.scenario.actions import Terms
from stakesim.schema import yaml_file
from stakesim.schema.errors import FieldError, InputError
from stakesim.schema.fields import Count, Inr, Probability, Seconds, StrictModel, Whole
from stakesim.units import BPS, DAY, HOUR

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from stakesim.population.state import Ints

CHUNK_SIZE = 4_096
"""Runs drawn at once: enough that NumPy's overhead is small, few enough that their arrays stay in the CPU's cache."""
DAYS_AFTER = 10
"""Days of the market after the last start, more than the usual grace period. Later the last rate holds."""
_PLACES_FOR_BEHAVIOURS = 10
"""Places of a run that are left for people whom behaviours add."""


class Platform(StrictModel):
    """Runs of one platform, which share one path of ETH, and one of gas.

    Attributes:
        runs: How many runs a platform has.
        over: Seconds within which they are created, each at midnight of a random day.
    """

    runs: Annotated[Whole, Field(ge=1, le=CHUNK_SIZE)]
    over: Seconds = 0


class Population(StrictModel):
    """What runs, people and a market are like.

    Two numbers are the ends of a range, both included; each value is equally likely, except that prices are drawn
    log-uniformly. People book at any moment before the start, attend, and are reported as attended, and the host
    completes the run within a day; behaviours change that. Each run has a market of its own, unless it is one of a
    platform's.

    Attributes:
        name: Name of the population and of its file.
        story: What it is, in a sentence.
        terms: The terms of the contract, and how the platform sells.
        seats: Seats of a run.
        price_inr: Price of a seat in INR.
        lead_time: Seconds from a run's creation to its start.
        attendees: How many people would book a run.
        seats_wanted: Seats that each of them would book.
        booking_curve: When they book: points of a cumulative distribution, straight between them. Each is the share of
            the time from a run's creation to its start, and the share of bookings that are made by then.
        runs_like: Runs as they were: seats, price of a seat in INR and seconds from creation to start. If there are
            any, each run is like one of them, and the ranges of these three only have to hold them.
        behaviours: How people behave; applied in their order.
        price: The market's price model.
        platform: How many runs share one market; None: each has its own.
    """

    name: str
    story: str
    terms: Annotated[Policy, BeforeValidator(lambda terms: as_policy(terms) if isinstance(terms, Terms) else terms)] = (
        Policy()
    )
    seats: tuple[Count, Count] = (10, 40)
    price_inr: tuple[Inr, Inr]
    lead_time: tuple[Seconds, Seconds] = (7 * DAY, 30 * DAY)
    attendees: tuple[Count, Count] = (5, 20)
    seats_wanted: tuple[Count, Count] = (1, 3)
    booking_curve: tuple[tuple[Probability, Probability], ...] = ((0.0, 0.0), (1.0, 1.0))
    runs_like: tuple[tuple[Count, Inr, Seconds], ...] = ()
    behaviours: Behaviours = ()
    price: PriceModel = Gbm(inr_per_eth=Decimal(200_000), annual_volatility=0.7)
    platform: Platform | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for field in ("seats", "price_inr", "lead_time", "attendees", "seats_wanted"):
            low, high = getattr(self, field)
            if low > high:
                raise FieldError((field,), f"the range ends before it begins; write [{high}, {low}]")
        if self.seats[0] < 1 or self.seats[1] > MAX_SEATS:
            raise FieldError(("seats",), f"a run has 1 to {MAX_SEATS} seats; stay within")
        if self.seats_wanted[0] < 1:
            raise FieldError(("seats_wanted",), "somebody who books wants a seat; begin with 1")
        most = MAX_PLACES - _PLACES_FOR_BEHAVIOURS
        if self.attendees[1] > most:
            raise FieldError(("attendees",), f"a run has at most {most} people who want to come; ask fewer")
        for number, (seats, price, lead) in enumerate(self.runs_like):
            in_seats, in_price = (
                self.seats[0] <= seats <= self.seats[1],
                self.price_inr[0] <= price <= self.price_inr[1],
            )
            if not (in_seats and in_price and self.lead_time[0] <= lead <= self.lead_time[1]):
                raise FieldError(("runs_like", number), "is outside of seats, price_inr or lead_time; widen that range")
        if self.lead_time[0] < 3 * HOUR:
            raise FieldError(("lead_time",), "people need time to book; begin with 3h")
        curve = self.booking_curve
        rises = all(a[0] <= b[0] and a[1] < b[1] for a, b in pairwise(curve))
        if [*curve[:1], *curve[-1:]] != [(0.0, 0.0), (1.0, 1.0)] or not rises:
            raise FieldError(("booking_curve",), "it rises from [0, 0] to [1, 1]; write [[0, 0], [0.5, 0.2], [1, 1]]")
        return self

    @property
    def chunk_size(self) -> int:
        """Runs that are drawn at once: CHUNK_SIZE, or as many as whole platforms have."""
        return CHUNK_SIZE // self.platform.runs * self.platform.runs if self.platform else CHUNK_SIZE


def load_population(file: str | Path) -> Population:
    """Reads a population from a YAML file that has the population's name.

    Raises:
        InputError: The file can't be read, or is no valid population.
    """
    return yaml_file.load_named(file, Population, "population")


@dataclass(frozen=True)
class PopulationChunk:
    """Runs of a population with everybody's intents.

    Attributes:
        population: The population's name.
        seed: The seed.
        number: Number of the chunk; its run i is run number x `chunk_size` + i of the population.
        state: The runs.
    """

    population: str
    seed: int
    number: int
    state: PopulationState


def draw(
    population: Population,
    seed: int,
    chunk: int = 0,
    terms: Terms | None = None,
    behaviours: Sequence[Behaviour] | None = None,
    price: PriceModel | None = None,
) -> PopulationChunk:
    """Draws the runs of a chunk of a population, as many as its `chunk_size`.

    Runs, market and each behaviour have independent streams of random numbers, which depend on the seed and the chunk
    alone: another policy meets the same runs, people and market. A behaviour's stream has the name of its kind, and a
    number among those of that kind. So it draws the same whichever others are before it.

    Args:
        population: The population.
        seed: The seed.
        chunk: Number of the chunk.
        terms: Terms to use instead of the population's.
        behaviours: Behaviours to use instead of the population's.
        price: A price model to use instead of the population's.
    """
    import numpy as np

    policy = as_policy(population.terms if terms is None else terms)
    behaviours = population.behaviours if behaviours is None else behaviours
    price = price or population.price
    honest = _draw_honest(population, seed, chunk, price, data_hash(price), policy.completion_grace)
    state = replace(honest, terms=policy)
    if policy.overbooking_bps:
        state = replace(state, seats=np.minimum(state.room + state.room * policy.overbooking_bps // BPS, MAX_SEATS))
    kinds: Counter[str] = Counter()
    for behaviour in behaviours:
        kind = getattr(behaviour, "__qualname__", type(behaviour).__qualname__)
        state = replace(state, intents=behaviour(stream(seed, chunk, "behaviour", kind, kinds[kind]), state))
        kinds[kind] += 1
    if policy.waiting_list:
        state = with_waiting_list(state)
    if population.chunk_size < CHUNK_SIZE:
        state = _select(state, slice(population.chunk_size))
    return PopulationChunk(population.name, seed, chunk, state)


@lru_cache(maxsize=2)
def _draw_honest(
    population: Population, seed: int, chunk: int, price: PriceModel, price_data: str, grace: int
) -> PopulationState:
    """The runs, the market, and honest intents without any behaviour.

    Cached, as every policy begins with it; `price_data` is part of the cache's key, so that a changed file is read.
    """
    import numpy as np

    from stakesim.population.exact_int import paise_to_wei
    from stakesim.prices.market import simulate

    rng = stream(seed, chunk, "runs")
    seats = _draw_between(rng, population.seats, CHUNK_SIZE)
    start = _draw_between(rng, population.lead_time, CHUNK_SIZE)
    price_paise = _draw_prices(rng, population.price_inr)
    if population.runs_like:
        kinds = [(seats, int(price * 100), lead) for seats, price, lead in population.runs_like]
        seats, price_paise, start = np.array(kinds, np.int64)[rng.integers(len(kinds), size=CHUNK_SIZE)].T
    attendees = _draw_between(rng, population.attendees, CHUNK_SIZE)
    shape = (max(population.attendees[1], 1), CHUNK_SIZE)
    interested = np.arange(shape[0])[:, None] < attendees
    pause = HOUR  # nobody books in the last hour, so that a booking that is delayed by seconds is not too late
    booked = rng.random(shape)
    if len(population.booking_curve) > 2:
        elapsed, made = zip(*population.booking_curve, strict=True)
        booked = np.interp(booked, made, elapsed)
    books_at = (60 + booked * (start - 60 - pause)).astype(np.int64)
    days = population.lead_time[1] // DAY + DAYS_AFTER
    market_rng = stream(seed, chunk, "market")
    market = on_calendar(population, seed, chunk, days, lambda paths, days: simulate(price, market_rng, paths, days))
    market *= 100  # in place, as it is the largest array
    rates = np.maximum(np.rint(market, out=market), 1, out=market).astype(np.int64)
    intents = Intents(
        interested=interested,
        books_at=np.where(interested, books_at, NEVER),
        seats=_draw_between(rng, population.seats_wanted, shape),
        cancels_at=np.full(shape, NEVER),
        intends_to_attend=np.ones(shape, np.bool_),
        reported_attended=np.ones(shape, np.bool_),
        by_host=np.zeros(shape, np.bool_),
        cancels_run_at=np.full(CHUNK_SIZE, NEVER),
        completes_run_at=start + _draw_between(rng, (HOUR, DAY), CHUNK_SIZE) % max(grace // 2, 1),
        expires_run_at=start + grace + _draw_between(rng, (0, 2 * DAY), CHUNK_SIZE),
    )
    price_wei = paise_to_wei(price_paise, rates[0])
    return PopulationState(population.terms, seats, seats, start, price_paise, price_wei, rates, intents)


def on_calendar(
    population: Population, seed: int, chunk: int, days: int, simulated: Callable[[int, int], NDArray[Any]]
) -> NDArray[Any]:
    """What a market does on each day of each run, counted from the run's creation.

    Args:
        population: The population.
        seed: The seed.
        chunk: Number of the chunk.
        days: Days of each run.
        simulated: Simulates so many paths of so many days, and returns an array of shape (days + 1, paths).

    Returns:
        An array of shape (days + 1, CHUNK_SIZE): a path for each run, or for each platform, whose runs begin on the day
        on which they are created.
    """
    import numpy as np

    platform = population.platform
    if platform is None:
        return simulated(CHUNK_SIZE, days)
    over = platform.over // DAY
    created = stream(seed, chunk, "created").integers(0, over, CHUNK_SIZE, endpoint=True)
    paths = simulated(-(-CHUNK_SIZE // platform.runs), days + over)
    values: NDArray[Any] = paths[np.arange(days + 1)[:, None] + created, np.arange(CHUNK_SIZE) // platform.runs]
    return values


def _draw_between(rng: Generator, ends: tuple[int, int], shape: int | tuple[int, int]) -> Ints:
    import numpy as np

    return rng.integers(ends[0], ends[1], shape, np.int64, endpoint=True)


def _draw_prices(rng: Generator, ends: tuple[Decimal, Decimal]) -> Ints:
    """Prices of a seat in paise, log-uniform between two prices in INR, shape (CHUNK_SIZE,)."""
    import numpy as np

    low, high = (np.log(float(end * 100)) for end in ends)
    return np.rint(np.exp(rng.uniform(low, high, CHUNK_SIZE))).astype(np.int64)


def require_whole(name: str, number: object, *, least: int) -> None:
    """Checks an argument.

    Raises:
        InputError: It is no whole number, or less than `least`.
    """
    if isinstance(number, bool) or not isinstance(number, Integral) or int(number) < least:
        raise InputError(f"{name} is {number!r}; give a whole number from {least}")


def chunks_of(population: Population, runs: int) -> Iterator[tuple[int, int]]:
    """The chunks of the first `runs` runs: the number of each, and how many of the runs are in it.

    Raises:
        InputError: There are no runs, or not of whole platforms.
    """
    require_runs(population, runs)
    size = population.chunk_size
    for first in range(0, runs, size):
        yield first // size, min(size, runs - first)


def require_runs(population: Population, runs: object) -> None:
    """Checks a number of runs of a population.

    Raises:
        InputError: It is no whole number, less than 1, or not of whole platforms.
    """
    require_whole("runs", runs, least=1)
    if (platform := population.platform) and int(str(runs)) % platform.runs:
        raise InputError(f"runs is {runs}; give a multiple of {platform.runs}, as a platform has so many")


def draw_runs(
    population: Population,
    seed: int,
    runs: int,
    terms: Terms | None = None,
    behaviours: Sequence[Behaviour] | None = None,
    price: PriceModel | None = None,
) -> Iterator[PopulationState]:
    """Draws the first `runs` runs of a population, one chunk at a time; for the other arguments see `draw`."""
    for number, count in chunks_of(population, runs):
        yield first_runs(draw(population, seed, number, terms, behaviours, price), count)


def first_runs(chunk: PopulationChunk, count: int) -> PopulationState:
    """The state of the first runs of a chunk."""
    import numpy as np

    return chunk.state if count >= chunk.state.run_count else select_runs(chunk, np.arange(count))


def select_runs(chunk: PopulationChunk, indices: Ints) -> PopulationState:
    """The state of some of a chunk's runs.

    Args:
        chunk: The chunk.
        indices: Numbers of the runs within the chunk, shape (selected runs,).
    """
    return _select(chunk.state, indices)


def _select(state: PopulationState, indices: Ints | slice) -> PopulationState:
    intents = Intents(**{name: values[..., indices] for name, values in vars(state.intents).items()})
    return PopulationState(
        state.terms,
        state.seats[indices],
        state.room[indices],
        state.start[indices],
        state.price_paise[indices],
        state.price_wei[indices],
        state.rates[:, indices],
        intents,
    )

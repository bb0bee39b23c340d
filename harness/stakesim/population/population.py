"""A population: what runs there are, who may want to come, how they are, and the market. One file is one population.

`draw` makes `CHUNK` of its runs at once; run number i of a seed is the same however many are asked for, so that one
that was drawn among a million can be played on a chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from stakesim.generate.profiles import Count
from stakesim.model.rules import MAX_SEATS
from stakesim.population.behaviours import AnyBehaviour
from stakesim.population.outcomes import MAX_PLACES
from stakesim.population.state import DAY, HOUR, NEVER, Behaviour, Intents, PopulationState
from stakesim.prices.price_models import Gbm, PriceModel
from stakesim.scenario.actions import Terms
from stakesim.schema import yaml_file
from stakesim.schema.fields import UNITS, Inr, Seconds, StrictModel
from stakesim.schema.yaml_file import FieldError

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator

    from stakesim.population.state import Ints

CHUNK_SIZE = 4_096
"""Runs that are drawn at once: so many that NumPy is busy, so few that their arrays stay in the cache."""


class Population(StrictModel):
    """Two numbers are the ends of a range, both included, each value equally likely; prices by order of magnitude.

    attendees: people who would book each run. seats_wanted: by each. They book at any moment, come, and are ticked off;
    the host completes within a day; behaviours change that.
    """

    name: str
    story: str
    terms: Terms = Terms()
    seats: tuple[Count, Count] = (10, 40)
    price_inr: tuple[Inr, Inr]
    lead_time: tuple[Seconds, Seconds] = (7 * UNITS["d"], 30 * UNITS["d"])
    attendees: tuple[Count, Count] = (5, 20)
    seats_wanted: tuple[Count, Count] = (1, 3)
    behaviours: tuple[AnyBehaviour, ...] = ()
    price: PriceModel = Gbm(inr_per_eth=Decimal(200_000), annual_volatility=0.7)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for field in ("seats", "price_inr", "lead_time", "attendees", "seats_wanted"):
            low, high = getattr(self, field)
            if low > high:
                raise FieldError((field,), f"the range ends before it begins; write [{high}, {low}]")
        if not self.seats[0] >= 1 or self.seats[1] > MAX_SEATS:
            raise FieldError(("seats",), f"a run has 1 to {MAX_SEATS} seats; stay within")
        if self.seats_wanted[0] < 1:
            raise FieldError(("seats_wanted",), "somebody who books wants a seat; begin with 1")
        if self.attendees[1] > MAX_PLACES - 10:
            raise FieldError(("attendees",), f"a run has at most {MAX_PLACES - 10} people who want to come; ask fewer")
        if self.lead_time[0] < 3 * HOUR:
            raise FieldError(("lead_time",), "people need time to book; begin with 3h")
        return self


DAYS_AFTER = 10
"""Days of the market after the last start: past the usual grace period. The last rate holds from then on."""


def load_population(file: str | Path) -> Population:
    """The population in a file. Raises ScenarioError."""
    return yaml_file.load_named(file, Population, "population")


@dataclass(frozen=True)
class PopulationChunk:
    """A chunk of runs with everybody's intents. seed, chunk: which; run i of it is number chunk x CHUNK + i."""

    population: str
    seed: int
    chunk: int
    state: PopulationState


def draw(
    population: Population,
    seed: int,
    chunk: int = 0,
    terms: Terms | None = None,
    behaviours: Sequence[Behaviour] | None = None,
    price: PriceModel | None = None,
) -> PopulationChunk:
    """CHUNK runs of a population. terms, behaviours, price: instead of the population's own.

    Each of them has chance of its own, from the seed and the chunk: another policy meets the same runs, people and
    market.
    """
    terms = population.terms if terms is None else terms
    behaviours = population.behaviours if behaviours is None else behaviours
    state = replace(_scene(population, seed, chunk, price or population.price, terms.completion_grace), terms=terms)
    for index, behaviour in enumerate(behaviours):
        state = replace(state, intents=behaviour(_rng(seed, chunk, 10 + index), state))
    return PopulationChunk(population.name, seed, chunk, state)


def _rng(seed: int, chunk: int, what: int) -> Generator:
    from numpy.random import SeedSequence, default_rng

    return default_rng(SeedSequence([seed, chunk, what]))


@lru_cache(maxsize=2)
def _scene(population: Population, seed: int, chunk: int, price: PriceModel, grace: int) -> PopulationState:
    """The runs, the market, and everybody at their best. Kept, as each policy begins with it."""
    import numpy as np

    from stakesim.population.exact_int import paise_to_wei
    from stakesim.prices.market import simulate

    rng = _rng(seed, chunk, 0)
    seats = _between(rng, population.seats, CHUNK_SIZE)
    start = _between(rng, population.lead_time, CHUNK_SIZE)
    price_paise = _log_uniform(rng, population.price_inr)
    attendees = _between(rng, population.attendees, CHUNK_SIZE)
    shape = (max(population.attendees[1], 1), CHUNK_SIZE)
    present = np.arange(shape[0])[:, None] < attendees
    last = HOUR  # before the start in which nobody books, so that who comes a second later than meant is not too late
    books = (60 + rng.random(shape) * (start - 60 - last)).astype(np.int64)
    days = population.lead_time[1] // DAY + DAYS_AFTER
    rates = np.maximum(np.rint(simulate(price, _rng(seed, chunk, 1), CHUNK_SIZE, days) * 100), 1).astype(np.int64)
    intents = Intents(
        interested=present,
        books_at=np.where(present, books, NEVER),
        seats=_between(rng, population.seats_wanted, shape),
        cancels_at=np.full(shape, NEVER),
        intends_to_attend=np.ones(shape, np.bool_),
        reported_attended=np.ones(shape, np.bool_),
        by_host=np.zeros(shape, np.bool_),
        cancels_run_at=np.full(CHUNK_SIZE, NEVER),
        completes_run_at=start + _between(rng, (HOUR, DAY), CHUNK_SIZE) % max(grace // 2, 1),
        expires_run_at=start + grace + _between(rng, (0, 2 * DAY), CHUNK_SIZE),
    )
    return PopulationState(
        population.terms, seats, start, price_paise, paise_to_wei(price_paise, rates[0]), rates, intents
    )


def _between(rng: Generator, ends: tuple[int, int], shape: int | tuple[int, int]) -> Ints:
    import numpy as np

    return rng.integers(ends[0], ends[1], shape, np.int64, endpoint=True)


def _log_uniform(rng: Generator, ends: tuple[Decimal, Decimal]) -> Ints:
    """Prices in whole paise."""
    import numpy as np

    low, high = (np.log(float(end * 100)) for end in ends)
    return np.rint(np.exp(rng.uniform(low, high, CHUNK_SIZE))).astype(np.int64)


def select_runs(drawn: PopulationChunk, runs: np.ndarray) -> PopulationState:
    """Some of the runs of a chunk: numbers within it."""
    state = drawn.state
    intents = Intents(**{name: values[..., runs] for name, values in vars(state.intents).items()})
    return PopulationState(
        state.terms,
        state.seats[runs],
        state.start[runs],
        state.price_paise[runs],
        state.price_wei[runs],
        state.rates[:, runs],
        intents,
    )

"""One run of a population as a scenario, which can be run on any chain."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache

import numpy as np

from stakesim.population.outcomes import EventKind, event_of, resolve_outcomes, timeline
from stakesim.population.population import Population, PopulationChunk, draw, select_runs
from stakesim.population.state import NEVER, PopulationState
from stakesim.prices.price_models import PriceStep, Steps, data_hash
from stakesim.scenario.actions import (
    PLATFORM,
    Action,
    Actor,
    Book,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    WithdrawFees,
)
from stakesim.scenario.scenario import Scenario
from stakesim.units import DAY

RUN, HOST = "run", "host"


def guest_name(place: int) -> str:
    """The name of the person in a place, which is also the label of their booking."""
    return f"guest{place + 1}"


def to_scenario(chunk: PopulationChunk, index: int) -> Scenario:
    """A run of a chunk as a scenario, at whose end the platform withdraws its fees.

    Args:
        chunk: The chunk.
        index: The run's number within it.
    """
    state = select_runs(chunk, np.array([index]))
    intents = state.intents
    opening = CreateRun(
        at=0,
        run=RUN,
        by=HOST,
        price_inr=Decimal(int(state.price_paise[0])) / 100,
        seats=int(state.seats[0]),
        starts=int(state.start[0]),
    )
    actions = list(_intended_actions(state))
    last = max((action.at or 0 for action in actions), default=0)
    bookers = [place for place in range(state.shape[0]) if intents.books_at[place, 0] < NEVER]
    number = chunk.number * chunk.state.run_count + index
    return Scenario(
        name=f"{chunk.population}-{chunk.seed}-{number}",
        story=f"Run {number} of the population {chunk.population} under seed {chunk.seed}.",
        terms=state.terms.contract_terms(),
        price=_market(state.rates[:, 0].tolist(), last),
        seed=chunk.seed,
        strict=False,
        actors={HOST: Actor()} | {guest_name(place): Actor() for place in bookers if not intents.by_host[place, 0]},
        actions=(opening, *actions, WithdrawFees(at=last + DAY, by=PLATFORM)),
        origin={"profile": chunk.population, "seed": chunk.seed, "index": number},
    )


def _intended_actions(state: PopulationState) -> Iterator[Action]:
    """What the people and the host of the state's only run intend to do, in the order of the times."""
    intents, cancelled = state.intents, resolve_outcomes(state).cancelled
    places = state.shape[0]
    books_at = intents.books_at[:, 0].tolist()
    times = [
        *books_at,
        *intents.cancels_at[:, 0].tolist(),
        int(intents.cancels_run_at[0]),
        int(intents.completes_run_at[0]),
        int(intents.expires_run_at[0]),
    ]
    for event in timeline(state).order[:, 0].tolist():
        at = times[event]
        if at >= NEVER:
            return
        kind, place = event_of(event, places)
        guest = guest_name(place)
        match kind:
            case EventKind.BOOK:
                by = HOST if intents.by_host[place, 0] else guest
                yield Book(at=at, booking=guest, run=RUN, by=by, seats=int(intents.seats[place, 0]))
            case EventKind.CANCEL_BOOKING:
                if books_at[place] < NEVER:
                    yield CancelBooking(at=at, booking=guest)
            case EventKind.CANCEL_RUN:
                yield CancelRun(at=at, run=RUN)
            case EventKind.COMPLETE:
                reported = intents.reported_attended[:, 0] & ~cancelled[:, 0] & (intents.books_at[:, 0] < NEVER)
                attended = tuple(guest_name(place) for place in np.flatnonzero(reported).tolist())
                yield Complete(at=at, run=RUN, attended=attended)
            case EventKind.EXPIRE:
                yield Expire(at=at, run=RUN)


def _market(paise: list[int], last: int) -> Steps:
    """A step for each day, up to the day after the last action, on which the rate changes.

    Args:
        paise: Paise for one ETH on each day.
        last: Time of the last action, in seconds.
    """
    days = range(min(last // DAY + 2, len(paise)))
    return Steps(
        rates=tuple(
            PriceStep(at=day * DAY, inr_per_eth=Decimal(paise[day]) / 100)
            for day in days
            if day == 0 or paise[day] != paise[day - 1]
        )
    )


@lru_cache(maxsize=1)
def _chunk(population: Population, seed: int, number: int, price_data: str) -> PopulationChunk:
    """A chunk; `price_data` is part of the cache's key."""
    return draw(population, seed, number)


def generate(population: Population, seed: int, index: int) -> Scenario:
    """Run number `index` of a population under a seed as a scenario.

    `stakesim.generate.random_scenario.generate` does the same for a profile.
    """
    number, index = divmod(index, population.chunk_size)
    return to_scenario(_chunk(population, seed, number, data_hash(population.price)), index)

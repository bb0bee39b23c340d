"""One run of a population as a scenario like any other: it is played through the services, on any chain."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

import numpy as np

from stakesim.population.outcomes import resolve_outcomes, timeline
from stakesim.population.population import CHUNK_SIZE, Population, PopulationChunk, draw, select_runs
from stakesim.population.state import DAY, NEVER
from stakesim.prices.price_models import PriceStep, Steps
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

RUN, HOST = "run", "host"


def guest_name(place: int) -> str:
    """Name of the person in a place, and of their booking."""
    return f"guest{place + 1}"


def to_scenario(drawn: PopulationChunk, index: int) -> Scenario:
    """Run `index` of a chunk. At the end the platform takes out what it earned."""
    state = select_runs(drawn, np.array([index]))
    intents, outcomes, when = state.intents, resolve_outcomes(state), timeline(state)
    places = state.shape[0]
    people = [place for place in range(places) if intents.books_at[place, 0] < NEVER]
    attended = [
        guest_name(place)
        for place in people
        if intents.reported_attended[place, 0] and not outcomes.cancelled[place, 0]
    ]
    actions: list[tuple[int, Action]] = []
    meant = [
        *intents.books_at[:, 0],
        *intents.cancels_at[:, 0],
        *intents.cancels_run_at,
        *intents.completes_run_at,
        *intents.expires_run_at,
    ]
    for event in when.order[:, 0].tolist():
        at, place = int(meant[event]), event % places
        if at >= NEVER:
            break
        by = HOST if event < 2 * places and intents.by_host[place, 0] else guest_name(place)
        if event < places:
            seats = int(intents.seats[place, 0])
            actions.append((at, Book(at=at, booking=guest_name(place), run=RUN, by=by, seats=seats)))
        elif event < 2 * places and intents.books_at[place, 0] < NEVER:
            actions.append((at, CancelBooking(at=at, booking=guest_name(place))))
        elif event == 2 * places:
            actions.append((at, CancelRun(at=at, run=RUN)))
        elif event == 2 * places + 1:
            actions.append((at, Complete(at=at, run=RUN, attended=tuple(attended))))
        elif event == 2 * places + 2:
            actions.append((at, Expire(at=at, run=RUN)))
    last = max((at for at, _ in actions), default=0)
    number = drawn.chunk * CHUNK_SIZE + index
    opening = CreateRun(
        at=0,
        run=RUN,
        by=HOST,
        price_inr=Decimal(int(state.price_paise[0])) / 100,
        seats=int(state.seats[0]),
        starts=int(state.start[0]),
    )
    return Scenario(
        name=f"{drawn.population}-{drawn.seed}-{number}",
        story=f"Run {number} of the population {drawn.population} under seed {drawn.seed}.",
        terms=state.terms,
        price=_market(state.rates[:, 0].tolist(), last),
        seed=drawn.seed,
        strict=False,
        actors={HOST: Actor()} | {guest_name(place): Actor() for place in people if not intents.by_host[place, 0]},
        actions=(opening, *(action for _, action in actions), WithdrawFees(at=last + DAY, by=PLATFORM)),
        origin={"profile": drawn.population, "seed": drawn.seed, "index": number},
    )


def _market(paise: list[int], last: int) -> Steps:
    """Each day's rate, where it is another one than the day before."""
    days = range(min(last // DAY + 2, len(paise)))
    steps = [
        PriceStep(at=day * DAY, inr_per_eth=Decimal(paise[day]) / 100)
        for day in days
        if day == 0 or paise[day] != paise[day - 1]
    ]
    return Steps(rates=tuple(steps))


@lru_cache(maxsize=1)
def _chunk(population: Population, seed: int, chunk: int) -> PopulationChunk:
    return draw(population, seed, chunk)


def generate(population: Population, seed: int, index: int) -> Scenario:
    """Run number `index` of a seed, as `stakesim.generate.random_scenario.generate` does it for profiles."""
    return to_scenario(_chunk(population, seed, index // CHUNK_SIZE), index % CHUNK_SIZE)

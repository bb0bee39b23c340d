"""Actors, times and short constructors for tests of the reference model."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from stakesim.model.reference import (
    ExpectedOutcome,
    State,
    apply,
    initial_state,
)
from stakesim.scenario.actions import (
    Action,
    Actor,
    Book,
    CreateRun,
    Reentry,
    Terms,
)

EPOCH = 4_102_444_800
DAY = 86_400
START = 7 * DAY
GRACE = 7 * DAY
RATE = Decimal(200_000)
ETH = 10**18
ACTORS = {
    "host": Actor(),
    "a": Actor(pays="self"),
    "b": Actor(),
    "walletless": Actor(wallet="none"),
    "outsider": Actor(pays="self"),
    "self_host": Actor(pays="self"),
    "troll": Actor(receiver="refuses"),
    "burner": Actor(receiver="burns_gas"),
    "flooder": Actor(receiver="floods"),
    "thief": Actor(receiver="reenters", reenter=Reentry(call="withdraw")),
}

Timed = tuple[int, Action]


def apply_all(
    actions: Sequence[Timed], terms: Terms | None = None, rate: Decimal = RATE
) -> tuple[State, list[ExpectedOutcome]]:
    state, outcomes = initial_state(terms or Terms(), ACTORS, EPOCH), []
    for at, action in actions:
        state, outcome = apply(state, action, EPOCH + at, rate)
        outcomes.append(outcome)
    return state, outcomes


def last_outcome(*actions: Timed, terms: Terms | None = None) -> ExpectedOutcome:
    return apply_all(actions, terms)[1][-1]


def create(run: str = "gig", by: str = "host", seats: int = 4, inr: str = "20000", **more: Any) -> CreateRun:
    return CreateRun(run=run, by=by, price_inr=Decimal(inr), seats=seats, starts=START, **more)


def book(booking: str, by: str, seats: int = 2, run: str = "gig", **more: Any) -> Book:
    return Book(booking=booking, run=run, by=by, seats=seats, **more)

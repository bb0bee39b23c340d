"""Random walks: scenarios made of moves that are drawn one after another, each from what is possible at that moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from stakesim.generate.moves import MOVES, next_action_time
from stakesim.generate.random_scenario import OUTSIDER, random_actor, random_market
from stakesim.model.reference import apply, initial_state
from stakesim.prices.price_paths import rate_path
from stakesim.scenario.actions import Action, Actor
from stakesim.scenario.scenario import Scenario
from stakesim.schema.fields import DAY

if TYPE_CHECKING:
    from numpy.random import Generator

    from stakesim.generate.profiles import Profile

T = TypeVar("T")


@dataclass(frozen=True)
class _RandomChoices:
    rng: Generator

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high, endpoint=True))

    def choice(self, items: Sequence[T]) -> T:
        return items[int(self.rng.integers(len(items)))]


def walk(profile: Profile, seed: int, index: int, steps: int) -> Scenario:
    """Walk number `index` of a profile under a seed: so many actions, by the profile's people, terms and market."""
    from numpy.random import SeedSequence, default_rng

    rng = default_rng(SeedSequence([seed, index, steps]))
    choices = _RandomChoices(rng)
    names = ("host1", "host2", *(f"guest{number}" for number in range(1, 7)))
    actors = {name: random_actor(rng, profile) for name in names} | {OUTSIDER: Actor(pays="self")}
    price = random_market(rng, profile, steps * DAY)
    state, rate_at = initial_state(profile.terms, actors, 0), rate_path(price)
    actions: list[Action] = []
    for _ in range(steps):
        at = next_action_time(choices, state) if actions else 0
        seen = replace(state, now=at)
        hostile = bool(rng.random() < profile.mischief / (profile.mischief + 8))
        possible = [move for move in MOVES if move.hostile == hostile and move.possible(seen)]
        chosen = choices.choice([move for move in possible for _ in range(move.weight)])
        action = chosen.make(choices, seen).model_copy(update={"at": at})
        state, _ = apply(state, action, at, rate_at(at))
        actions.append(action)
    return Scenario(
        name=f"walk-{profile.name}-{seed}-{index}",
        story=f"Walk {index} of {steps} steps of the profile {profile.name} under seed {seed}.",
        terms=profile.terms,
        price=price,
        seed=seed,
        strict=False,
        actors=actors,
        actions=tuple(actions),
        origin={"profile": profile.name, "seed": seed, "index": index, "steps": steps},
    )

"""Random walks: scenarios made of moves that are drawn one after another, each from what is possible at that moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from stakesim.generate.agents import OUTSIDER
from stakesim.generate.draws import pick
from stakesim.generate.moves import MOVES, Move, next_action_time
from stakesim.generate.random_scenario import random_actor, random_market, random_rate
from stakesim.generate.seeds import seed_word
from stakesim.generate.terms_draws import usual_or_other
from stakesim.model.reference import apply
from stakesim.model.state import State, initial_state
from stakesim.prices.price_paths import rate_path
from stakesim.scenario.actions import Action, Actor, Wait
from stakesim.scenario.scenario import Scenario
from stakesim.units import DAY

if TYPE_CHECKING:
    from numpy.random import Generator

    from stakesim.generate.profiles import Profile


def random_action(rng: Generator, moves: Sequence[Move], state: State) -> Action:
    """Draws an action from the moves that are possible, by weight; a `Wait` if none is."""
    possible = [move for move in moves if move.possible(state)]
    if not possible:
        return Wait()
    return pick(rng, [move for move in possible for _ in range(move.weight)]).make(rng, state)


def walk(profile: Profile, seed: int, index: int, steps: int) -> Scenario:
    """Draws a walk.

    Args:
        profile: What actors, terms and market are drawn from.
        seed: Of the campaign.
        index: Number of the walk within the campaign.
        steps: Number of actions.
    """
    from numpy.random import SeedSequence, default_rng

    rng = default_rng(SeedSequence([seed_word(seed), index, steps]))
    terms_rng = default_rng(SeedSequence([seed_word(seed), index, steps], spawn_key=(1,)))
    terms = usual_or_other(terms_rng, profile.terms, profile.other_terms)
    names = ("host1", "host2", *(f"guest{number}" for number in range(1, 7)))
    actors = {name: random_actor(rng, profile) for name in names} | {OUTSIDER: Actor(pays="self")}
    price = random_market(rng, profile, random_rate(rng, profile), steps * DAY)
    state, rate_at = initial_state(terms, actors, 0), rate_path(price)
    actions: list[Action] = []
    for _ in range(steps):
        at = next_action_time(rng, state) if actions else 0
        later = replace(state, now=at)
        hostile = bool(rng.random() < profile.mischief / (profile.mischief + 8))
        moves = [move for move in MOVES if move.hostile == hostile]
        action = random_action(rng, moves, later).model_copy(update={"at": at})
        state, _ = apply(state, action, at, rate_at(at))
        actions.append(action)
    return Scenario(
        name=f"walk-{profile.name}-{seed}-{index}",
        story=f"Walk {index} of {steps} steps of the profile {profile.name} under seed {seed}.",
        terms=terms,
        price=price,
        seed=seed,
        strict=False,
        actors=actors,
        actions=tuple(actions),
        origin={"profile": profile.name, "seed": seed, "index": index, "steps": steps},
    )

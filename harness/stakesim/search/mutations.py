"""Changes sequences of actions: inserts, drops, repeats, swaps and splices them, and moves them in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from stakesim.generate.draws import draw_between, pick
from stakesim.prices.price_models import Constant, Crash, Gbm
from stakesim.scenario.actions import ACTOR_FIELDS, Action, Actor
from stakesim.scenario.scenario import Scenario
from stakesim.search.sequence_builder import Gene, build
from stakesim.search.stateful import ACTORS
from stakesim.search.variants import Tried
from stakesim.units import DAY, HOUR

if TYPE_CHECKING:
    from numpy.random import Generator

MAX_ACTIONS = 24
"""Actions of a child at most."""
MARKETS = (
    Constant(),
    Gbm(inr_per_eth=Decimal(200_000), annual_volatility=0.9, seed=1),
    Crash(inr_per_eth=Decimal(250_000), at=3 * DAY, drop_percent=40, recover_over=None),
)
_SIGNER = {"outsider": ACTORS["outsider"]}
"""Somebody with a key of their own, whom some moves need."""
_RECAST = 0.15
"""Probability that a change makes an actor one of another kind."""
_SPLICE = 0.07
"""Probability that a change splices in a part of another sequence."""


def mutate(rng: Generator, parent: Scenario, other: Scenario, tried: Tried) -> Scenario:
    """Changes a scenario in one to four ways.

    Args:
        rng: The source of randomness.
        parent: The scenario.
        other: Another one, of which a part may be spliced in.
        tried: How often each option of each kind of action was tried. Options are drawn by rarity.
    """
    genes = [Gene(at, action) for at, action in parent.timeline()]
    actors = ACTORS | parent.actors | _SIGNER
    for _ in range(pick(rng, (1, 1, 2, 2, 3, 4))):
        if rng.random() < _RECAST:
            actors = _recast(rng, actors, parent)
        elif rng.random() < _SPLICE:
            genes, actors = _spliced(rng, genes, actors, other)
        else:
            genes = pick(rng, _CHANGES)(rng, genes)
    price = pick(rng, MARKETS) if rng.random() < 0.1 else parent.price
    return build(rng, parent.model_copy(update={"actors": actors, "price": price}), genes[:MAX_ACTIONS], tried)


def disturb(rng: Generator, scenario: Scenario, tried: Tried) -> Scenario:
    """Changes the options of all actions of a scenario, and the kind of an actor."""
    genes = [Gene(at, action) for at, action in scenario.timeline()]
    actors = _recast(rng, scenario.actors, scenario)
    return build(rng, scenario.model_copy(update={"actors": actors}), _change_all(rng, genes), tried)


def fresh(rng: Generator, base: Scenario, length: int, tried: Tried) -> Scenario:
    """Draws a new sequence of this length for the actors and terms of a scenario."""
    return build(rng, base.model_copy(update={"price": pick(rng, MARKETS)}), [Gene(None, None)] * length, tried)


# Changes of a sequence


def _insert(rng: Generator, genes: list[Gene]) -> list[Gene]:
    at = draw_between(rng, 0, len(genes))
    return [*genes[:at], *[Gene(None, None)] * draw_between(rng, 1, 3), *genes[at:]]


def _append(rng: Generator, genes: list[Gene]) -> list[Gene]:
    """Goes on where a part of the sequence ends."""
    end = len(genes) if rng.random() < 0.5 else draw_between(rng, 0, len(genes))
    return [*genes[:end], *[Gene(None, None)] * draw_between(rng, 1, 6)]


def _drop(rng: Generator, genes: list[Gene]) -> list[Gene]:
    first = draw_between(rng, 0, len(genes))
    return genes[:first] + genes[first + draw_between(rng, 1, 3) :]


def _repeat(rng: Generator, genes: list[Gene]) -> list[Gene]:
    """The same action once more, at once or later."""
    if not genes:
        return genes
    index = draw_between(rng, 0, len(genes) - 1)
    to = draw_between(rng, index + 1, len(genes))
    return [*genes[:to], genes[index]._replace(at=None), *genes[to:]]


def _swap(rng: Generator, genes: list[Gene]) -> list[Gene]:
    if not genes:
        return genes
    genes, one, two = [*genes], *(draw_between(rng, 0, len(genes) - 1) for _ in range(2))
    genes[one], genes[two] = genes[two]._replace(at=genes[one].at), genes[one]._replace(at=genes[two].at)
    return genes


def _tweak(rng: Generator, genes: list[Gene]) -> list[Gene]:
    """Changes arguments, options or time of an action."""
    if not genes:
        return genes
    index, genes = draw_between(rng, 0, len(genes) - 1), [*genes]
    names = pick(rng, (("argument",), ("argument",), ("option",), ("option",), ("time",), ("argument", "option")))
    genes[index] = genes[index]._replace(tweaks=(*genes[index].tweaks, *names))
    return genes


def _change_all(rng: Generator, genes: list[Gene]) -> list[Gene]:
    """Changes the options of all actions: what is wrong with one use case then shows in a sequence that has it."""
    return [gene._replace(tweaks=(*gene.tweaks, "option")) for gene in genes]


def _delay(rng: Generator, genes: list[Gene]) -> list[Gene]:
    """Moves all actions from one on in time."""
    index = draw_between(rng, 0, len(genes))
    seconds = pick(rng, (1, 60, HOUR, DAY, 7 * DAY, -60, -HOUR, -DAY))
    moved = [gene if gene.at is None else gene._replace(at=max(gene.at + seconds, 0)) for gene in genes[index:]]
    return genes[:index] + moved


def _spliced(
    rng: Generator, genes: list[Gene], actors: dict[str, Actor], other: Scenario
) -> tuple[list[Gene], dict[str, Actor]]:
    """The first part of a sequence, and then a part of another one."""
    names = {name: _name_for(name, actor, actors) for name, actor in other.actors.items()}
    part = other.timeline()
    first = draw_between(rng, 0, len(part))
    cut = draw_between(rng, 0, len(genes))
    added = [Gene(None, _with_names(action, names)) for _, action in part[first : first + draw_between(rng, 1, 8)]]
    rest = genes[cut:] if rng.random() < 0.5 else []
    return [*genes[:cut], *added, *rest], actors | {names[name]: actor for name, actor in other.actors.items()}


def _recast(rng: Generator, actors: Mapping[str, Actor], scenario: Scenario) -> dict[str, Actor]:
    """The actors, of which one that takes part is of another kind."""
    names = [name for name in scenario.actors if name not in _SIGNER]
    return {**actors, pick(rng, names): pick(rng, [*ACTORS.values()])} if names else dict(actors)


def _name_for(name: str, actor: Actor, taken: Mapping[str, Actor]) -> str:
    while taken.get(name, actor) != actor:
        name = f"{name}2"
    return name


def _with_names(action: Action, names: Mapping[str, str]) -> Action:
    fields = {field: getattr(action, field, None) for field in ACTOR_FIELDS}
    return action.model_copy(update={field: names[name] for field, name in fields.items() if name and name in names})


_CHANGES: Sequence[Callable[[Generator, list[Gene]], list[Gene]]] = (
    *(_insert, _insert, _append, _append, _drop, _repeat, _swap),
    *(_tweak, _tweak, _tweak, _tweak, _change_all, _change_all, _delay),
)

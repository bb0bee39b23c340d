"""Which scenarios a campaign runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

from stakesim.generate.profiles import load_profile
from stakesim.generate.random_scenario import generate
from stakesim.runner import scenario_files
from stakesim.scenario.actions import Terms
from stakesim.scenario.scenario import Scenario, load
from stakesim.schema.errors import InputError
from stakesim.search.walks import walk

Item: TypeAlias = str | Path | Scenario
"""A scenario, or the file or name of one, or the name of a profile or a population."""
Draw: TypeAlias = Callable[[int, int], Scenario]
"""Draws a random scenario, given a seed and its number."""


class Selection(NamedTuple):
    """The scenarios of a campaign, in order, and how many of them were drawn at random."""

    scenarios: list[Scenario]
    drawn: int


def select(items: Sequence[Item], *, runs: int, seed: int, steps: int | None, terms: Terms | None) -> Selection:
    """Loads and draws the scenarios of a campaign.

    Args:
        items: What to run.
        runs: How many scenarios to draw from each profile or population.
        seed: What they are drawn from.
        steps: Draw walks of so many actions from a profile, instead of lifecycles of a run or two.
        terms: The usual terms of the contract in drawn scenarios; None: those of the profile or population. Some
            scenarios of a profile have other ones.

    Raises:
        InputError: A file can't be read, or nothing has that name.
    """
    scenarios: list[Scenario] = []
    drawn = 0
    for item in items:
        if isinstance(item, Scenario):
            scenarios.append(item)
        elif file := scenario_files.find_scenario_file(str(item)):
            scenarios.append(load(file))
        else:
            draw = _generator(str(item), steps, terms)
            scenarios += [draw(seed, index) for index in range(runs)]
            drawn += runs
    return Selection(scenarios, drawn)


def _generator(name: str, steps: int | None, terms: Terms | None) -> Draw:
    """What draws scenarios of the profile or population of that name."""
    profiles, populations = scenario_files.profiles(), scenario_files.populations()
    if name in populations:
        return _population_generator(populations[name], steps, terms)
    if name not in profiles:
        raise InputError(
            f"{name} is neither a scenario file (.yaml) nor its name, nor a profile ({', '.join(profiles)}), nor a "
            f"population ({', '.join(populations)})"
        )
    profile = load_profile(profiles[name])
    if terms:
        profile = profile.model_copy(update={"terms": terms})
    return partial(walk, profile, steps=steps) if steps else partial(generate, profile)


def _population_generator(file: Path, steps: int | None, terms: Terms | None) -> Draw:
    from stakesim.population import to_scenario
    from stakesim.population.population import load_population

    if steps:
        raise InputError(f"{file.stem} is a population, and takes no walks: name a profile instead")
    population = load_population(file)
    if terms:
        population = population.model_copy(update={"terms": terms})
    return partial(to_scenario.generate, population)

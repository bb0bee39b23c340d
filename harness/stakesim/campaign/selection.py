"""Which scenarios a campaign runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeAlias

from stakesim.runner import scenario_files
from stakesim.scenario.actions import Terms
from stakesim.scenario.scenario import Scenario, load
from stakesim.schema.errors import ErrorCollector, InputError

Item: TypeAlias = str | Path | Scenario
"""A scenario, or the file or name of one, or the name of a profile or a population."""
Draw: TypeAlias = Callable[[int, int], Scenario]
"""Draws a random scenario, given a seed and its number."""


class Selection(NamedTuple):
    """The scenarios of a campaign.

    Attributes:
        scenarios: In order.
        drawn: How many of them were drawn at random.
        draws: What draws more of them, by profile and population.
    """

    scenarios: list[Scenario]
    drawn: int
    draws: list[Draw]

    def draw_for(self, seconds: float, seed: int) -> Iterator[Scenario]:
        """Draws the first scenario of each profile and population, then the second of each, and so on, for this time.

        The first one of all is drawn even when the time is up, as when it took that long to start a backend.

        Raises:
            InputError: There is no profile or population.
        """
        if not self.draws:
            raise InputError("there is nothing to draw scenarios from for a time: name a profile or a population")
        return self._draw_until(time.monotonic() + seconds, seed)

    def _draw_until(self, moment: float, seed: int) -> Iterator[Scenario]:
        drawn = False
        for index in count():
            for draw in self.draws:
                if time.monotonic() >= moment and drawn:
                    return
                drawn = True
                yield draw(seed, index)


def is_drawn(scenario: Scenario) -> bool:
    """Whether a scenario was drawn at random, and is no saved failure of one that was."""
    origin = scenario.origin or {}
    return "index" in origin and "scenario" not in origin


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
        InputError: Files can't be read, or nothing has that name. It has the errors of all of them.
    """
    scenarios: list[Scenario] = []
    draws: list[Draw] = []
    errors = ErrorCollector()
    for item in items:
        with errors.collect():
            if isinstance(item, Scenario):
                scenarios.append(item)
            elif files := scenario_files.find_scenarios(str(item)):
                for file in files:
                    with errors.collect():
                        scenarios.append(load(file))
            else:
                draw = _generator(str(item), steps, terms)
                scenarios += [draw(seed, index) for index in range(runs)]
                draws.append(draw)
    errors.raise_errors()
    return Selection(scenarios, runs * len(draws), draws)


def _generator(name: str, steps: int | None, terms: Terms | None) -> Draw:
    """What draws scenarios of the profile or population of that name, or in that file."""
    from stakesim.generate.profiles import load_profile
    from stakesim.generate.random_scenario import generate
    from stakesim.search.walks import walk

    if population := scenario_files.find_drawn(name, "populations"):
        return _population_generator(population, steps, terms)
    file = scenario_files.find_drawn(name, "profiles")
    if file is None:
        raise scenario_files.unknown(name)
    profile = load_profile(file)
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

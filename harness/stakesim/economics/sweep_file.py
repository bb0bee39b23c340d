"""A sweep as a file: which policies, people and markets, how many runs, and the question that it is to answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from stakesim.population.behaviours import AnyBehaviour
from stakesim.population.population import Population, load_population
from stakesim.prices.price_models import PriceModel
from stakesim.runner import scenario_files
from stakesim.schema import yaml_file
from stakesim.schema.fields import StrictModel
from stakesim.schema.yaml_file import ScenarioError, nearest


class Sweep(StrictModel):
    """policies: values of each of the contract's terms; each combination is a policy, and the others are compared
    with the first one. population: name of a file in `scenarios/populations`. behaviours, prices: kinds of people and
    of markets by name; the population's own where there are none. runs: of each combination. spot_check: how many runs
    are played on a chain, too.
    """

    name: str
    question: str
    population: str
    policies: dict[str, tuple[Any, ...]] = Field(min_length=1)
    behaviours: dict[str, tuple[AnyBehaviour, ...]] = Field(default_factory=dict)
    prices: dict[str, PriceModel] = Field(default_factory=dict)
    runs: Annotated[int, Field(strict=True, ge=2)] = 100_000
    seed: Annotated[int, Field(strict=True, ge=0)] = 0
    spot_check: Annotated[int, Field(strict=True, ge=0)] = 3


def load_sweep(file: str | Path) -> Sweep:
    """The sweep in a file. Raises `ScenarioError`."""
    return yaml_file.load_named(file, Sweep, "sweep")


def population_of(sweep: Sweep) -> Population:
    """Raises `ScenarioError` where there is none of that name."""
    known = scenario_files.populations()
    if sweep.population not in known:
        raise ScenarioError(f"there is no population {sweep.population!r}; {nearest(sweep.population, list(known))}")
    return load_population(known[sweep.population])

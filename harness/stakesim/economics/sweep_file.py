"""Sweeps as YAML files: policies, groups of people, markets, the number of runs, and the question they answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from stakesim.population.behaviours import AnyBehaviour, Behaviours
from stakesim.population.population import Population, load_population
from stakesim.prices.gas_models import GasModel
from stakesim.prices.price_models import PriceModel
from stakesim.runner import scenario_files
from stakesim.schema import yaml_file
from stakesim.schema.errors import InputError, suggestion
from stakesim.schema.fields import Count, Probability, StrictModel, Whole
from stakesim.schema.validation import explain, format_path


class SweepFile(StrictModel):
    """The contents of a sweep file.

    Attributes:
        name: Name of the sweep, which is also the name of its file.
        question: Heading of the report.
        population: Name of a file in `scenarios/populations`.
        change: Fields of the population that have other values here, such as `price_inr: ["500", "500"]`.
        policies: Values of terms and of the platform's own rules, see `stakesim.population.policy.Policy`. Every
            combination is a policy. The others are compared with the first one.
        behaviours: Groups of people by name. Default: the population's own behaviours.
        prices: Markets by name. Default: the population's own.
        gas: Markets of gas by name. Default: gas is not counted.
        quantiles: Levels of quantiles over runs, or over platforms if runs share a market.
        runs: Runs for each group and market; every policy meets the same ones.
        seed: Seed of all random numbers.
        spot_check: Runs that are also carried out on a chain.
    """

    name: str
    question: str
    population: str
    change: dict[str, Any] = Field(default_factory=dict)
    policies: dict[str, tuple[Any, ...]] = Field(min_length=1)
    behaviours: dict[str, Behaviours] = Field(default_factory=dict)
    prices: dict[str, PriceModel] = Field(default_factory=dict)
    gas: dict[str, GasModel] = Field(default_factory=dict)
    quantiles: tuple[Probability, ...] = ()
    runs: Annotated[Whole, Field(ge=2)] = 100_000
    seed: Count = 0
    spot_check: Count = 3


def load_sweep(file: str | Path) -> SweepFile:
    """Reads a sweep file.

    Raises:
        InputError: The file is missing or not valid.
    """
    return yaml_file.load_named(file, SweepFile, "sweep")


def population_of(sweep: SweepFile) -> Population:
    """Loads the population that a sweep names, with what it changes.

    Raises:
        InputError: No population has that name, or a change is not valid.
    """
    files = scenario_files.populations()
    if sweep.population not in files:
        raise InputError(f"there is no population {sweep.population!r}; {suggestion(sweep.population, list(files))}")
    population = load_population(files[sweep.population])
    fields = [name for name in Population.model_fields if name not in ("name", "story")]
    if unknown := [name for name in sweep.change if name not in fields]:
        raise InputError(f"change: a population has no {unknown[0]!r}; {suggestion(unknown[0], fields)}")
    try:
        return Population.model_validate(population.model_dump() | sweep.change)
    except ValidationError as error:
        path, explanation = next(explain(error.errors()[0], sweep.change, Population))
        raise InputError(f"change, {format_path(path)}: {explanation}") from None


def groups_and_markets(
    sweep: SweepFile, population: Population
) -> tuple[dict[str, tuple[AnyBehaviour, ...]], dict[str, PriceModel]]:
    """Returns the groups of people and the markets by name: the sweep's, or else the population's own."""
    groups = sweep.behaviours or {population.name: population.behaviours}
    return groups, sweep.prices or {population.price.path: population.price}

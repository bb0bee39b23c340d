"""What a sweep is asked for, checked: its policies, and the cells of groups of people and markets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias, get_args

from pydantic import BaseModel, ValidationError

from stakesim.economics.blocks import Block, split_into_blocks
from stakesim.population.behaviours import in_order
from stakesim.population.policy import Policy, as_policy
from stakesim.population.population import Population, require_runs, require_whole
from stakesim.population.state import Behaviour
from stakesim.prices.gas_models import GasModel
from stakesim.prices.price_models import PriceModel
from stakesim.scenario.actions import Terms
from stakesim.schema.errors import InputError, suggestion

Policies: TypeAlias = Mapping[str, Sequence[Any]] | Sequence[Terms]
"""Values of some of the contract's terms, of which every combination is a policy; or the policies themselves."""
Groups: TypeAlias = Mapping[str, Sequence[Behaviour]] | Sequence[Behaviour]
"""Groups of people by name, or a single group."""
Markets: TypeAlias = Mapping[str, PriceModel] | PriceModel
"""Markets by name, or a single market."""
Gases: TypeAlias = Mapping[str, GasModel] | GasModel | None
"""Markets of gas by name, or a single one; None: gas is not counted."""


@dataclass(frozen=True)
class Cell:
    """One group of people on one market, and one of gas: the name of each, and the runs."""

    people: str
    market: str
    blocks: tuple[Block, ...]
    gas: str = ""


def policy_grid(policies: Policies, default_terms: Terms) -> tuple[Policy, ...]:
    """Returns every combination of the given values as policies; all other terms are those of `default_terms`.

    Raises:
        InputError: A term does not exist, a value is out of its range, or there is no policy, or one of them twice.
    """
    given = _combinations(policies, default_terms) if isinstance(policies, Mapping) else tuple(policies)
    if not all(isinstance(terms, Terms) for terms in given):
        raise InputError("policies are neither values of terms nor `Terms`; write {'stake_bps': [2000, 0]}")
    grid = tuple(as_policy(terms) for terms in given)
    if not grid:
        raise InputError("there is no policy; give each term at least one value")
    if twice := next((terms for number, terms in enumerate(grid) if terms in grid[:number]), None):
        raise InputError(f"the policy with {_differences(twice, default_terms)} is there twice; give each value once")
    return grid


def _differences(policy: Policy, default_terms: Terms) -> str:
    """The values in which a policy differs from the usual one; all if they do not."""
    usual = as_policy(default_terms)
    values = {name: value for name, value in policy if value != getattr(usual, name)} or dict(policy)
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _combinations(policies: Mapping[str, Sequence[Any]], default_terms: Terms) -> tuple[Policy, ...]:
    if unknown_names := [name for name in policies if name not in Policy.model_fields]:
        raise InputError(f"there is no term {unknown_names[0]!r}; {suggestion(unknown_names[0], Policy.model_fields)}")
    for name, values in policies.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise InputError(f"policies, {name}: {values!r} is no list of values; write [{values!r}]")
    combinations = [dict(zip(policies, values, strict=True)) for values in product(*policies.values())]
    try:
        return tuple(Policy(**(default_terms.model_dump() | combination)) for combination in combinations)
    except ValidationError as error:
        fault = error.errors()[0]
        raise InputError(f"policies, {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


def cells_of(
    population: Population,
    policies: Policies,
    behaviours: Groups,
    prices: Markets,
    runs: int,
    seed: int,
    gas: Gases = None,
    *,
    has_quantiles: bool = False,
) -> list[Cell]:
    """Returns a cell for each group of people, market and market of gas, with every policy.

    Raises:
        InputError: There are no policies, groups, markets or runs, or one of them is not valid.
    """
    require_runs(population, runs)
    require_whole("seed", seed, least=0)
    grid = policy_grid(policies, population.terms)
    groups = behaviours if isinstance(behaviours, Mapping) else {"people": behaviours}
    markets = prices if isinstance(prices, Mapping) else {getattr(prices, "path", "price"): prices}
    for kind, named in (("group of people", groups), ("market", markets)):
        if not named:
            raise InputError(f"there is no {kind}; give at least one")
    for group in groups.values():
        _check_group(group)
    for market, price in markets.items():
        if not isinstance(price, get_args(get_args(PriceModel)[0])):
            raise InputError(f"{market}: {price!r} is no price model; give one of `stakesim.prices.price_models`")
    gases: Mapping[str, GasModel | None] = (
        {"": None} if gas is None else gas if isinstance(gas, Mapping) else {getattr(gas, "path", "gas"): gas}
    )
    if not gases:
        raise InputError("there is no market of gas; give at least one, or none at all")
    for name, gas_price in gases.items():
        if gas_price is not None and not isinstance(gas_price, get_args(get_args(GasModel)[0])):
            raise InputError(f"{name}: {gas_price!r} is no model of gas; give one of `stakesim.prices.gas_models`")
    return [
        Cell(
            people,
            market,
            split_into_blocks(
                population, grid, tuple(group), price, runs, seed, gas_price, has_quantiles=has_quantiles
            ),
            gas_name,
        )
        for people, group in groups.items()
        for market, price in markets.items()
        for gas_name, gas_price in gases.items()
    ]


def _check_group(group: object) -> None:
    """Raises `InputError` if a group of people is no list of behaviours."""
    if isinstance(group, BaseModel) or not isinstance(group, Sequence) or isinstance(group, str):
        raise InputError(f"{group!r} is no list of behaviours; write [{group!r}]")
    for behaviour in group:
        if isinstance(behaviour, type):
            raise InputError(f"{behaviour.__name__} is a class and no behaviour; write {behaviour.__name__}()")
        if not callable(behaviour):
            raise InputError(f"{behaviour!r} is no behaviour; see `stakesim.population.behaviours`")
    try:
        in_order(group)
    except ValueError as error:
        raise InputError(str(error)) from None

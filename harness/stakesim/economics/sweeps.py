"""Sweeps: every policy against every group of people and every market, on the same runs, with confidence intervals.

from stakesim.economics import sweep
sweep({"stake_bps": [0, 1000, 2000]}, {"elastic": [NoShow(elasticity=1)]}, {"gbm": Gbm(...)}, runs=100_000, seed=1)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from pydantic import BaseModel, ValidationError

from stakesim.economics import metrics
from stakesim.economics.blocks import Block, combine_chunks, compute_blocks, split_into_blocks
from stakesim.economics.metrics import METRICS, is_share
from stakesim.economics.output import whole_file
from stakesim.population.population import CHUNK_SIZE, Population, PopulationChunk, require_whole
from stakesim.population.state import Behaviour
from stakesim.population.streams import stream
from stakesim.prices.price_models import PriceModel
from stakesim.runner.tables import read_parquet, write_parquet
from stakesim.scenario.actions import Terms
from stakesim.schema.errors import InputError, suggestion

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.economics.blocks import BlockResult, Progress

DEFAULT_POPULATION = Population(name="usual", story="Runs of 10 to 40 seats.", price_inr=(Decimal(300), Decimal(5_000)))

Policies: TypeAlias = Mapping[str, Sequence[Any]] | Sequence[Terms]
"""Values of some of the contract's terms, of which every combination is a policy; or the policies themselves."""

_EXACT_COLUMNS = ("numerator", "denominator")
"""Columns of Python integers."""


@dataclass(frozen=True)
class _Cell:
    """One group of people on one market: the name of each, and the runs."""

    people: str
    market: str
    blocks: tuple[Block, ...]


def sweep(
    policies: Policies,
    behaviours: Mapping[str, Sequence[Behaviour]] | Sequence[Behaviour],
    prices: Mapping[str, PriceModel] | PriceModel,
    runs: int,
    seed: int,
    population: Population = DEFAULT_POPULATION,
    *,
    spot_check: int = 0,
    engine: str = "py-evm",
    jobs: int = 1,
    dask: str | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Settles many runs under every policy and estimates all metrics.

    Args:
        policies: Values of terms, or a list of `Terms`. Changes are counted from the first policy.
        behaviours: Groups of people by name, or a single group.
        prices: Markets by name, or a single market.
        runs: Runs for each group and market; every policy meets the same ones.
        seed: Seed of all random numbers.
        population: The runs, and the people before their behaviours apply.
        spot_check: Runs to carry out on a chain first, whose payouts must equal the model's to the wei.
        engine: EVM engine of the spot check.
        jobs: Processes on this machine.
        dask: Address of a Dask scheduler whose workers are used instead of processes.
        out: Folder for `sweep.parquet` and for finished blocks, from which an interrupted sweep resumes.
        progress: Called with the number of runs that were finished.

    Returns:
        A row for each policy, group, market and metric, with all parameters and the seed.

    Raises:
        MismatchError: The spot check found a difference.
        InputError: The contract does not accept a policy; a list is empty, or has a policy twice; there are no runs;
            a behaviour is none; or `out` is given with behaviours that are not data.
        NotInstalled: `out` is given, and pyarrow is missing.
    """
    import pandas as pd

    for name, number, least in (("runs", runs, 1), ("seed", seed, 0), ("spot_check", spot_check, 0), ("jobs", jobs, 1)):
        require_whole(name, number, least=least)
    cells = _cells(population, policy_grid(policies, population.terms), behaviours, prices, runs, seed)
    blocks = [block for cell in cells for block in cell.blocks]
    checked_runs = _spot_check(blocks, spot_check, seed, engine)
    folder = Path(out) if out else None
    saved = folder / "parts" if folder else None
    results = iter(compute_blocks(blocks, jobs=jobs, dask=dask, saved=saved, progress=progress))
    rows = [row for cell in cells for row in _rows(cell, [next(results) for _ in cell.blocks], checked_runs)]
    frame = pd.DataFrame(rows)
    texts = [name for name, value in rows[0].items() if isinstance(value, str)]
    frame = frame.astype(dict.fromkeys(_EXACT_COLUMNS, object) | dict.fromkeys(texts, "category"))
    if folder:
        with whole_file(folder / "sweep.parquet") as unfinished:
            write_parquet(frame, unfinished)
    return frame


def policy_grid(policies: Policies, default_terms: Terms) -> tuple[Terms, ...]:
    """Returns every combination of the given values as terms; all other terms are those of `default_terms`.

    Raises:
        InputError: A term does not exist, a value is out of its range, or there is no policy, or one of them twice.
    """
    grid = _combinations(policies, default_terms) if isinstance(policies, Mapping) else tuple(policies)
    if not all(isinstance(terms, Terms) for terms in grid):
        raise InputError("policies are neither values of terms nor `Terms`; write {'stake_bps': [2000, 0]}")
    if not grid:
        raise InputError("there is no policy; give each term at least one value")
    if twice := next((terms for number, terms in enumerate(grid) if terms in grid[:number]), None):
        raise InputError(f"the policy with {_differences(twice, default_terms)} is there twice; give each value once")
    return grid


def _differences(terms: Terms, default_terms: Terms) -> str:
    """The values in which terms differ from the usual ones; all if they do not."""
    values = {name: value for name, value in terms if value != getattr(default_terms, name)} or dict(terms)
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _combinations(policies: Mapping[str, Sequence[Any]], default_terms: Terms) -> tuple[Terms, ...]:
    if unknown_names := [name for name in policies if name not in Terms.model_fields]:
        raise InputError(f"there is no term {unknown_names[0]!r}; {suggestion(unknown_names[0], Terms.model_fields)}")
    for name, values in policies.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise InputError(f"policies, {name}: {values!r} is no list of values; write [{values!r}]")
    combinations = [dict(zip(policies, values, strict=True)) for values in product(*policies.values())]
    try:
        return tuple(Terms(**(default_terms.model_dump() | combination)) for combination in combinations)
    except ValidationError as error:
        fault = error.errors()[0]
        raise InputError(f"policies, {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


def _cells(
    population: Population,
    policies: tuple[Terms, ...],
    behaviours: Mapping[str, Sequence[Behaviour]] | Sequence[Behaviour],
    prices: Mapping[str, PriceModel] | PriceModel,
    runs: int,
    seed: int,
) -> list[_Cell]:
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
    return [
        _Cell(people, market, split_into_blocks(population, policies, tuple(group), price, runs, seed))
        for people, group in groups.items()
        for market, price in markets.items()
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


def _spot_check(blocks: Sequence[Block], count: int, seed: int, engine: str) -> int:
    """Compares randomly picked runs of all blocks and policies with the chain, and returns how many.

    Raises:
        MismatchError: An amount differs.
    """
    if not count:
        return 0
    from stakesim.economics.spot_check import compare_with_chain  # loads the EVM, which workers of a sweep do not need

    rng = stream(seed, "spot check")
    picked: list[tuple[PopulationChunk, int]] = []
    for number in range(count):
        block = blocks[int(rng.integers(len(blocks)))]
        terms = block.policies[int(rng.integers(len(block.policies)))]
        chunk, index = divmod(int(rng.integers(block.runs)), CHUNK_SIZE)
        drawn = block.draw(block.first_chunk + chunk, terms)
        picked.append((replace(drawn, population=f"check{number}"), index))
    return compare_with_chain(picked, engine).runs


def _rows(cell: _Cell, results: Sequence[BlockResult], checked_runs: int) -> Iterator[dict[str, Any]]:
    """A row for each policy and metric of a cell."""
    first_block = cell.blocks[0]
    parameters = {
        "population": first_block.population.name,
        "behaviours": cell.people,
        "price": cell.market,
        "runs": sum(block.runs for block in cell.blocks),
        "seed": first_block.seed,
        "spot_checked": checked_runs,
        "population_parameters": first_block.population.model_dump_json(),
        "behaviours_parameters": json.dumps(
            [part.model_dump() if isinstance(part, BaseModel) else repr(part) for part in first_block.behaviours]
        ),
        "price_parameters": first_block.price.model_dump_json(),
    }
    sums = combine_chunks(results)
    estimates = {metric: metrics.estimate(sums[metric], is_share=is_share(metric)) for metric in METRICS}
    for number, terms in enumerate(first_block.policies):
        for metric, unit in METRICS.items():
            yield {
                **dict(terms),
                **parameters,
                "metric": metric,
                "unit": unit,
                "numerator": sums[metric].numerators[number],
                "denominator": sums[metric].denominators[number],
                **asdict(estimates[metric][number]),
            }


def read_sweep(file: str | Path) -> pd.DataFrame:
    """Reads the `sweep.parquet` of a sweep into the table that `sweep` returned.

    Raises:
        NotInstalled: pyarrow is missing.
    """
    return read_parquet(Path(file))

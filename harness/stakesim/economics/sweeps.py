"""Sweeps: every policy against every group of people and every market, on the same runs, with confidence intervals.

from stakesim.economics import sweep
sweep({"stake_bps": [0, 1000, 2000]}, {"elastic": [NoShow(elasticity=1)]}, {"gbm": Gbm(...)}, runs=100_000, seed=1)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from stakesim.economics import metrics
from stakesim.economics.blocks import Block, combine_chunks, compute_blocks
from stakesim.economics.cells import Cell, Gases, Groups, Markets, Policies, cells_of
from stakesim.economics.metrics import METRICS, MetricSums, is_share
from stakesim.economics.output import whole_file
from stakesim.economics.quantiles import quantile
from stakesim.population.population import Population, PopulationChunk, require_whole
from stakesim.population.streams import stream
from stakesim.runner.tables import read_parquet, write_parquet
from stakesim.schema.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.economics.blocks import BlockResult, Progress

DEFAULT_POPULATION = Population(name="usual", story="Runs of 10 to 40 seats.", price_inr=(Decimal(300), Decimal(5_000)))

_EXACT_COLUMNS = ("numerator", "denominator")
"""Columns of Python integers."""


def sweep(
    policies: Policies,
    behaviours: Groups,
    prices: Markets,
    runs: int,
    seed: int,
    population: Population = DEFAULT_POPULATION,
    *,
    gas: Gases = None,
    quantiles: Sequence[float] = (),
    spot_check: int = 0,
    engine: str = "py-evm",
    jobs: int = 1,
    dask: str | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Settles many runs under every policy and estimates all metrics.

    Args:
        policies: Values of the fields of `stakesim.population.policy.Policy`, or a list of `Policy` or `Terms`. Changes
            are counted from the first policy.
        behaviours: Groups of people by name, or a single group.
        prices: Markets by name, or a single market.
        runs: Runs for each group and market; every policy meets the same ones.
        seed: Seed of all random numbers.
        population: The runs, and the people before their behaviours apply.
        gas: Markets of gas by name, or a single one: adds what the platform's transactions cost. None: not counted.
        quantiles: Levels of quantiles over runs, such as 0.05; over the means of platforms if runs share a market.
        spot_check: Runs to carry out on a chain first, whose payouts must equal the model's to the wei.
        engine: EVM engine of the spot check.
        jobs: Processes on this machine.
        dask: Address of a Dask scheduler whose workers are used instead of processes.
        out: Folder for `sweep.parquet` and for finished blocks, from which an interrupted sweep resumes.
        progress: Called with the number of runs that were finished.

    Returns:
        A row for each policy, group, market and metric, with all parameters and the seed. A quantile of 0.05 adds the
        columns `q5`, `q5_low` and `q5_high`, and `q5_beyond`: see `stakesim.economics.quantiles.Quantile`.

    Raises:
        MismatchError: The spot check found a difference.
        InputError: The contract does not accept a policy; a list is empty, or has a policy twice; there are no runs;
            a behaviour is none; or `out` is given with behaviours that are not data.
        NotInstalled: `out` is given, and pyarrow is missing.
    """
    import pandas as pd

    require_whole("spot_check", spot_check, least=0)
    require_whole("jobs", jobs, least=1)
    if wrong := [level for level in quantiles if not 0 <= level <= 1]:
        raise InputError(f"quantiles: {wrong[0]!r} is no share; give levels from 0 to 1, such as 0.05")
    cells = cells_of(population, policies, behaviours, prices, runs, seed, gas, has_quantiles=bool(quantiles))
    blocks = [block for cell in cells for block in cell.blocks]
    checked_runs = _spot_check(blocks, spot_check, seed, engine)
    folder = Path(out) if out else None
    saved = folder / "parts" if folder else None
    results = iter(compute_blocks(blocks, jobs=jobs, dask=dask, saved=saved, progress=progress))
    rows = [row for cell in cells for row in _rows(cell, [next(results) for _ in cell.blocks], checked_runs, quantiles)]
    frame = pd.DataFrame(rows)
    texts = [name for name, value in rows[0].items() if isinstance(value, str)]
    frame = frame.astype(dict.fromkeys(_EXACT_COLUMNS, object) | dict.fromkeys(texts, "category"))
    if folder:
        with whole_file(folder / "sweep.parquet") as unfinished:
            write_parquet(frame, unfinished)
    return frame


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
        chunk, index = divmod(int(rng.integers(block.runs)), block.population.chunk_size)
        drawn = block.draw(block.first_chunk + chunk, terms)
        picked.append((replace(drawn, population=f"check{number}"), index))
    return compare_with_chain(picked, engine).runs


def _rows(
    cell: Cell, results: Sequence[BlockResult], checked_runs: int, quantiles: Sequence[float]
) -> Iterator[dict[str, Any]]:
    """A row for each policy and metric of a cell."""
    first_block = cell.blocks[0]
    parameters = {
        "population": first_block.population.name,
        "behaviours": cell.people,
        "price": cell.market,
        **({"gas": cell.gas} if cell.gas else {}),
        "runs": sum(block.runs for block in cell.blocks),
        "seed": first_block.seed,
        "spot_checked": checked_runs,
        "population_parameters": first_block.population.model_dump_json(),
        "behaviours_parameters": json.dumps(
            [
                part.model_dump(mode="json") if isinstance(part, BaseModel) else repr(part)
                for part in first_block.behaviours
            ]
        ),
        "price_parameters": first_block.price.model_dump_json(),
        **({"gas_parameters": first_block.gas.model_dump_json()} if first_block.gas else {}),
    }
    sums = combine_chunks(results)
    estimates = {metric: metrics.estimate(sums[metric], is_share=is_share(metric)) for metric in first_block.metrics}
    for number, terms in enumerate(first_block.policies):
        for metric in first_block.metrics:
            yield {
                **dict(terms),
                **parameters,
                "metric": metric,
                "unit": METRICS[metric],
                "numerator": sums[metric].numerators[number],
                "denominator": sums[metric].denominators[number],
                **asdict(estimates[metric][number]),
                **_quantile_columns(sums[metric], number, quantiles, is_share=is_share(metric)),
            }


def _quantile_columns(sums: MetricSums, number: int, levels: Sequence[float], *, is_share: bool) -> dict[str, float]:
    """The columns of a metric's quantiles under the policy of this number."""
    columns = {}
    for level in levels:
        for part, value in quantile(sums.buckets[number], level)._asdict().items():
            name = f"q{100 * level:.10g}" + ("" if part == "value" else f"_{part}")
            columns[name] = min(value, 1.0) if is_share else value
    return columns


def read_sweep(file: str | Path) -> pd.DataFrame:
    """Reads the `sweep.parquet` of a sweep into the table that `sweep` returned.

    Raises:
        NotInstalled: pyarrow is missing.
    """
    return read_parquet(Path(file))

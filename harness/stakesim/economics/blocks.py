"""The work of a sweep in blocks: what one process computes at a time, and what an interrupted sweep need not repeat."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import logging
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel

from stakesim.economics import metrics
from stakesim.economics.gas import costs_in_paise, draw_gas_prices, measured_costs
from stakesim.economics.metrics import METRICS, MetricSums, MetricValues
from stakesim.economics.output import whole_file
from stakesim.economics.settle import settle
from stakesim.json_text import parse_json
from stakesim.population.outcomes import have_same_outcomes, resolve_outcomes
from stakesim.population.policy import as_policy
from stakesim.population.population import Population, PopulationChunk, chunks_of, draw, first_runs
from stakesim.population.state import Behaviour
from stakesim.prices.gas_models import GasModel, gas_data_hash
from stakesim.prices.price_models import PriceModel, data_hash
from stakesim.scenario.actions import Terms
from stakesim.schema.errors import InputError
from stakesim.workers.code_version import library_hash
from stakesim.workers.pool import worker_pool

if TYPE_CHECKING:
    from stakesim.population.outcomes import Outcomes
    from stakesim.population.state import Ints, PopulationState

CHUNKS_PER_BLOCK = 16
_log = logging.getLogger(__name__)

BlockResult: TypeAlias = dict[str, MetricSums]
"""The sums of every metric under the block's policies."""
Progress: TypeAlias = Callable[[int], None]
"""Called with the number of runs that were finished."""


@dataclass(frozen=True)
class Block:
    """Some runs of one group of people on one market, under every policy.

    Attributes:
        population: The runs, and the people before their behaviours apply.
        policies: Terms of the contract.
        behaviours: How the people behave.
        price: The market.
        seed: Seed of the sweep.
        price_data: Hash of the data that the market reads from a file, see `stakesim.prices.price_models.data_hash`.
        people_code: Hash of the code of each behaviour that is not the library's, see `_code_hash`.
        first_chunk: Number of the first chunk of runs.
        runs: Number of runs, from the first run of the first chunk.
        gas: The market of gas; None: gas is not counted.
        gas_data: Hash of the data that it reads from a file.
        has_quantiles: Whether values are counted for quantiles.
    """

    population: Population
    policies: tuple[Terms, ...]
    behaviours: tuple[Behaviour, ...]
    price: PriceModel
    price_data: str
    people_code: tuple[str, ...]
    seed: int
    first_chunk: int
    runs: int
    gas: GasModel | None = None
    gas_data: str = ""
    has_quantiles: bool = False

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics that are computed."""
        return metrics.metrics_of(has_gas=self.gas is not None)

    @property
    def runs_together(self) -> int:
        """How many runs share a market."""
        return self.population.platform.runs if self.population.platform else 1

    def draw(self, number: int, terms: Terms) -> PopulationChunk:
        """Draws a chunk, counted from the population's first, under a policy."""
        return draw(self.population, self.seed, number, terms, self.behaviours, self.price)

    def digest(self) -> str:
        """Returns a hash of all that the block's result depends on: it names the result's file.

        Raises:
            InputError: A behaviour is a function, which has no parameters to hash, or its code can't be read.
        """
        parameters = {
            "code": [library_hash(), version("numpy")],
            "seed": self.seed,
            "first": self.first_chunk,
            "runs": self.runs,
            "population": self.population.model_dump_json(),
            "policies": [terms.model_dump_json() for terms in self.policies],
            "behaviours": [_identity(behaviour) for behaviour in self.behaviours],
            "people_code": self.people_code,
            "price": [self.price.model_dump_json(), self.price_data],
            "gas": [self.gas.model_dump_json() if self.gas else "", self.gas_data],
            "metrics": [*METRICS, self.has_quantiles],
        }
        return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:24]


def _identity(behaviour: Behaviour) -> list[str]:
    """What makes a behaviour another one, besides its code: its class and its parameters.

    Raises:
        InputError: It is a function, or its code can't be read.
    """
    if not isinstance(behaviour, BaseModel):
        raise InputError(f"{behaviour!r} is not data, so its results can't be saved: leave out `out`")
    kind = type(behaviour)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if _code_hash(behaviour) is None:
        raise InputError(
            f"the code of {name} can't be read, so its results can't be saved: put it into a module, or leave out `out`"
        )
    return [name, behaviour.model_dump_json()]


def _code_hash(behaviour: Behaviour) -> str | None:
    """Returns a hash of the module that a behaviour is from; empty for the library's, None if it can't be read."""
    kind = behaviour if inspect.isfunction(behaviour) else type(behaviour)
    return "" if kind.__module__.startswith("stakesim.") else _module_hash(kind)


@functools.cache  # of what this process has imported, whatever becomes of the file
def _module_hash(kind: Any) -> str | None:
    try:
        code = inspect.getsource(inspect.getmodule(kind) or kind)
    except (OSError, TypeError):
        return None
    return hashlib.sha256(code.encode()).hexdigest()[:24]


def split_into_blocks(
    population: Population,
    policies: tuple[Terms, ...],
    behaviours: tuple[Behaviour, ...],
    price: PriceModel,
    runs: int,
    seed: int,
    gas: GasModel | None = None,
    *,
    has_quantiles: bool = False,
) -> tuple[Block, ...]:
    """Splits `runs` runs into blocks of `CHUNKS_PER_BLOCK` chunks; the last block has the rest."""
    size = CHUNKS_PER_BLOCK * population.chunk_size
    code = tuple(_code_hash(behaviour) or "" for behaviour in behaviours)
    whole = Block(
        population,
        policies,
        behaviours,
        price,
        data_hash(price),
        code,
        seed,
        0,
        runs,
        gas,
        gas_data_hash(gas),
        has_quantiles,
    )
    return tuple(
        replace(whole, first_chunk=first // population.chunk_size, runs=min(size, runs - first))
        for first in range(0, runs, size)
    )


def compute_block(block: Block) -> BlockResult:
    """Settles all runs of a block under every policy. Memory holds the runs of one chunk at a time.

    Raises:
        InputError: The file of the market has not the content that the sweep began with.
    """
    chunks: list[BlockResult] = []
    for values_by_policy in measured(block):
        chunks.append(
            {
                name: metrics.sum_runs(
                    [values[name] for values in values_by_policy],
                    together=block.runs_together,
                    with_buckets=block.has_quantiles,
                )
                for name in block.metrics
            }
        )
    return combine_chunks(chunks)


def measured(block: Block) -> Iterator[list[MetricValues]]:
    """Yields the metrics of the runs of each chunk of a block, under each of its policies.

    Raises:
        InputError: The file of the market, or the code of a behaviour, is not the one that the sweep began with.
    """
    _check_same(block)
    for number, count in chunks_of(block.population, block.runs):
        chunk = block.first_chunk + number
        prices = draw_gas_prices(block.population, block.gas, block.seed, chunk)[:, :count] if block.gas else None
        values: dict[Terms, MetricValues] = {}
        known: tuple[PopulationState, Outcomes] | None = None
        for terms in sorted(block.policies, key=_order):
            state = first_runs(block.draw(chunk, terms), count)
            outcomes = known[1] if known and have_same_outcomes(state, known[0]) else resolve_outcomes(state)
            values[terms] = _metric_values(state, outcomes, block.gas, prices)
            known = state, outcomes
        yield [values[terms] for terms in block.policies]
    _check_same(block)


def _order(terms: Terms) -> list[int]:
    """Sorts policies so that those come together under which people may well do the same."""
    values = dict(as_policy(terms))
    first = ("cancellation_cutoff", "completion_grace", "overbooking_bps", "waiting_list", "stake_bps")
    return [*(values.pop(name) for name in first), *values.values()]


def _check_same(block: Block) -> None:
    """Raises `InputError` if files of this worker give other results than those where the sweep began."""
    if data_hash(block.price) != block.price_data:
        raise InputError(
            f"{getattr(block.price, 'file', '')}: has another content on {platform.node()} than where the sweep began; "
            "copy the file to every worker, and do not change it meanwhile"
        )
    if gas_data_hash(block.gas) != block.gas_data:
        raise InputError(
            f"{getattr(block.gas, 'file', '')}: has another content on {platform.node()} than where the sweep began; "
            "copy the file to every worker, and do not change it meanwhile"
        )
    for behaviour, code in zip(block.behaviours, block.people_code, strict=True):
        module = type(behaviour).__module__
        # a script's own module is another one in each process, and is sent along
        if code and module not in ("__main__", "__mp_main__") and _code_hash(behaviour) not in (code, None):
            raise InputError(
                f"{module}: has another code on {platform.node()} than where the sweep began; copy it to every worker"
            )


def _metric_values(
    state: PopulationState, outcomes: Outcomes, gas: GasModel | None, prices: Ints | None
) -> MetricValues:
    """The metrics of runs."""
    costs = None
    if gas is not None and prices is not None:
        costs = costs_in_paise(state, outcomes, measured_costs(), prices, gas)
    return metrics.measure(state, outcomes, settle(state, outcomes), costs)


def combine_chunks(parts: Sequence[BlockResult]) -> BlockResult:
    """Adds the sums of several chunks or blocks, for each metric."""
    return {name: metrics.combine([sums[name] for sums in parts]) for name in parts[0]}


def compute_blocks(
    blocks: Sequence[Block], *, jobs: int, dask: str | None, saved: Path | None, progress: Progress | None
) -> list[BlockResult]:
    """Computes all blocks, but for those whose result was saved before, and returns the results in their order.

    Args:
        blocks: The work.
        jobs: Processes on this machine.
        dask: Address of a Dask scheduler whose workers are used instead.
        saved: Folder of results, a JSON file for each block.
        progress: Called with the number of runs of each block as it is finished.
    """
    files = [saved / f"{block.digest()}.json" for block in blocks] if saved else []
    results = {number: result for number, file in enumerate(files) if (result := _load(file, blocks[number].metrics))}
    for number in results:
        _note(progress, blocks[number])
    waiting = [number for number in range(len(blocks)) if number not in results]
    for number, result in _compute(blocks, waiting, jobs, dask):
        if files:
            _save(result, files[number])
        results[number] = result
        _note(progress, blocks[number])
    return [results[number] for number in range(len(blocks))]


def _note(progress: Progress | None, block: Block) -> None:
    if progress:
        progress(block.runs)


def _compute(
    blocks: Sequence[Block], numbers: Sequence[int], jobs: int, dask: str | None
) -> Iterator[tuple[int, BlockResult]]:
    """Computes the blocks with these numbers, in any order."""
    if dask is None and (jobs <= 1 or len(numbers) <= 1):
        yield from ((number, compute_block(blocks[number])) for number in numbers)
        return
    with worker_pool(jobs, dask=dask) as submit:
        waiting = {submit(compute_block, blocks[number]): number for number in numbers}
        for future in as_completed(waiting):
            yield waiting.pop(future), future.result()


def _save(result: BlockResult, file: Path) -> None:
    data = {name: sums.to_json() for name, sums in result.items()}
    with whole_file(file) as unfinished:
        unfinished.write_text(json.dumps(data), encoding="utf-8")


def _load(file: Path, names: Sequence[str]) -> BlockResult | None:
    """The result in a file; None if there is none, or the file is damaged, so that it is computed again."""
    try:
        data = parse_json(file.read_text(encoding="utf-8"))
        return {name: MetricSums.from_json(data[name]) for name in names}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        _log.warning("%s is damaged; its runs are computed again", file)
        return None

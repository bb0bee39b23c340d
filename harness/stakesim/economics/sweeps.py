"""Sweeps: every policy against every kind of people and market, on the same runs, with confidence intervals.

from stakesim.economics import sweep
sweep({"stake_bps": [0, 1000, 2000]}, {"elastic": [NoShow(elasticity=1)]}, {"gbm": Gbm(...)}, runs=100_000, seed=1)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel, ValidationError

from stakesim.economics import metrics
from stakesim.economics.metrics import METRICS, Sums
from stakesim.economics.settle import settle
from stakesim.errors import NotInstalled
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import CHUNK_SIZE, Population, PopulationChunk, draw, select_runs
from stakesim.population.state import Behaviour
from stakesim.prices.price_models import PriceModel
from stakesim.scenario.actions import Terms
from stakesim.schema.yaml_file import ScenarioError, nearest
from stakesim.workers.pool import pool

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.economics.metrics import Measured

DEFAULT_POPULATION = Population(name="usual", story="Runs of 10 to 40 seats.", price_inr=(Decimal(300), Decimal(5_000)))
_EXACT = ("numerator", "denominator")
BLOCK = 16
"""Chunks that a process takes at a time, and that a sweep which goes on later finds done."""

Policies: TypeAlias = Mapping[str, Sequence[Any]] | Sequence[Terms]
Progress = Callable[[int], None]
Result: TypeAlias = list[dict[str, Sums]]
"""Of each policy, the sums of each metric."""


@dataclass(frozen=True)
class Unit:
    """Some runs of one kind of people and market, under every policy. first: chunk; runs: how many, from its first
    on."""

    population: Population
    policies: tuple[Terms, ...]
    behaviours: tuple[Behaviour, ...]
    price: PriceModel
    seed: int
    first: int
    runs: int

    def digest(self) -> str:
        """What its result is kept under. Raises `ScenarioError` for a behaviour that is not data."""
        for behaviour in self.behaviours:
            if not isinstance(behaviour, BaseModel):
                raise ScenarioError(f"{behaviour!r} is not data, so that its results can't be kept: leave out `out`")
        told = {
            "seed": self.seed,
            "first": self.first,
            "runs": self.runs,
            "population": self.population.model_dump_json(),
            "policies": [terms.model_dump_json() for terms in self.policies],
            "behaviours": [b.model_dump_json() for b in self.behaviours if isinstance(b, BaseModel)],
            "price": self.price.model_dump_json(),
            "metrics": list(METRICS),
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:24]


def sweep(
    policies: Policies,
    behaviours: Mapping[str, Sequence[Behaviour]] | Sequence[Behaviour],
    prices: Mapping[str, PriceModel] | PriceModel,
    runs: int,
    seed: int,
    population: Population | None = None,
    *,
    spot_check: int = 0,
    engine: str = "py-evm",
    jobs: int = 1,
    dask: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """A row for each policy, kind of people, market and metric; every parameter and the seed are on each row.

    policies: values of each of the contract's terms, every combination of which is a policy; or the terms themselves.
    The first policy is the one that `change` counts from. behaviours, prices: by name. runs: of each combination, the
    same ones for every policy. population: the runs and the people before their behaviours. spot_check: so many runs
    are played through the services on `engine` and compared to the wei, before anything else. jobs: processes. dask:
    address of a scheduler, instead. out: folder for `sweep.parquet`, and for what is done, from which a sweep that was
    stopped goes on. progress: called with the number of bookings' runs that were done.
    Raises `Mismatch` where the spot check differs, `ScenarioError` for policies that the contract does not take.
    """
    population = population or DEFAULT_POPULATION
    terms = grid(policies, population.terms)
    people = behaviours if isinstance(behaviours, Mapping) else {"people": behaviours}
    markets: Mapping[str, PriceModel] = prices if isinstance(prices, Mapping) else {prices.path: prices}
    cells = [(who, market) for who in people for market in markets]
    units = {
        cell: list(_units(population, terms, tuple(people[cell[0]]), markets[cell[1]], runs, seed)) for cell in cells
    }
    everything = [unit for cell in cells for unit in units[cell]]
    checked = check(everything, spot_check, seed, engine)
    results = _carry_out(everything, jobs, dask, out, progress)
    rows: list[dict[str, Any]] = []
    for who, market in cells:
        given = {
            "population": population.name,
            "behaviours": who,
            "price": market,
            "runs": runs,
            "seed": seed,
            "spot_checked": checked,
            "population_parameters": population.model_dump_json(),
            "behaviours_parameters": json.dumps([_told(behaviour) for behaviour in people[who]]),
            "price_parameters": markets[market].model_dump_json(),
        }
        rows += _rows(given, terms, [results[unit] for unit in units[who, market]])
    frame = _frame(rows)
    if out:
        _write(frame, out / "sweep.parquet")
    return frame


def grid(policies: Policies, terms: Terms) -> tuple[Terms, ...]:
    """Every combination of the values given, as terms; what is not given is as in `terms`. Raises `ScenarioError`."""
    if not isinstance(policies, Mapping):
        return tuple(policies)
    if unknown := [name for name in policies if name not in Terms.model_fields]:
        raise ScenarioError(f"there is no term {unknown[0]!r}; {nearest(unknown[0], Terms.model_fields)}")
    combined = [dict(zip(policies, values, strict=True)) for values in product(*policies.values())]
    try:
        return tuple(Terms(**(terms.model_dump() | changed)) for changed in combined)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ScenarioError(f"policies, {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


def check(units: Sequence[Unit], count: int, seed: int, engine: str = "py-evm") -> int:
    """Plays `count` runs, picked from all of the sweep, on a chain. Returns how many it compared. Raises `Mismatch`
    where a wei differs."""
    from numpy.random import SeedSequence, default_rng

    if not count:
        return 0
    from stakesim.economics.spot_check import compare  # it needs a chain and the services: workers are up without

    rng = default_rng(SeedSequence([seed, 0xC4EC]))
    picked: list[tuple[PopulationChunk, int]] = []
    for _ in range(count):
        unit = units[int(rng.integers(len(units)))]
        terms = unit.policies[int(rng.integers(len(unit.policies)))]
        chunk, index = divmod(int(rng.integers(unit.runs)), CHUNK_SIZE)
        drawn = draw(unit.population, unit.seed, unit.first + chunk, terms, unit.behaviours, unit.price)
        picked.append((replace(drawn, population=f"check{len(picked)}"), index))
    return compare(picked, engine).runs


def _units(
    population: Population,
    terms: tuple[Terms, ...],
    people: tuple[Behaviour, ...],
    price: PriceModel,
    runs: int,
    seed: int,
) -> Iterator[Unit]:
    for first in range(0, runs, BLOCK * CHUNK_SIZE):
        yield Unit(population, terms, people, price, seed, first // CHUNK_SIZE, min(BLOCK * CHUNK_SIZE, runs - first))


def carry_out(unit: Unit) -> Result:
    """The sums of a unit, chunk after chunk: memory holds one chunk at a time."""
    parts: list[Result] = []
    for before in range(0, unit.runs, CHUNK_SIZE):
        measured = [
            _measured(
                draw(unit.population, unit.seed, unit.first + before // CHUNK_SIZE, terms, unit.behaviours, unit.price),
                unit.runs - before,
            )
            for terms in unit.policies
        ]
        parts.append([{name: metrics.sums(one[name], measured[0][name]) for name in one} for one in measured])
    return _together(parts)


def _measured(drawn: PopulationChunk, runs: int) -> Measured:
    """Of the first so many runs."""
    import numpy as np

    state = drawn.state if runs >= CHUNK_SIZE else select_runs(drawn, np.arange(runs))
    outcomes = resolve_outcomes(state)
    return metrics.measure(state, outcomes, settle(state, outcomes))


def _together(parts: Sequence[Result]) -> Result:
    return [
        {name: metrics.added([part[policy][name] for part in parts]) for name in METRICS}
        for policy in range(len(parts[0]))
    ]


def _carry_out(
    units: Sequence[Unit], jobs: int, dask: str | None, out: Path | None, progress: Progress | None
) -> dict[Unit, Result]:
    """Every unit's sums, those that are kept in `out` from there."""
    kept = {unit: out / "parts" / f"{unit.digest()}.json" for unit in units} if out else {}
    results: dict[Unit, Result] = {}

    def take(unit: Unit, result: Result) -> None:
        results[unit] = result
        if progress:
            progress(unit.runs)

    for unit in units:
        if unit in kept and kept[unit].exists():
            take(unit, _read(kept[unit]))
    missing = [unit for unit in units if unit not in results]
    for unit, result in _computed(missing, jobs, dask):
        if out:
            _keep(result, kept[unit])
        take(unit, result)
    return results


def _computed(units: Sequence[Unit], jobs: int, dask: str | None) -> Iterator[tuple[Unit, Result]]:
    if dask is None and (jobs <= 1 or len(units) <= 1):
        yield from ((unit, carry_out(unit)) for unit in units)
        return
    with pool(jobs, dask) as submit:
        waiting = {submit(carry_out, unit): unit for unit in units}
        for done in as_completed(waiting):
            yield waiting.pop(done), done.result()


def _keep(result: Result, file: Path) -> None:
    """Whole or not at all, whenever it is stopped."""
    file.parent.mkdir(parents=True, exist_ok=True)
    data = [{name: metrics.as_data(one) for name, one in policy.items()} for policy in result]
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(data), encoding="utf-8")
    unfinished.replace(file)


def _read(file: Path) -> Result:
    data = json.loads(file.read_text(encoding="utf-8"))
    return [{name: metrics.from_data(one) for name, one in policy.items()} for policy in data]


def _told(behaviour: Behaviour) -> Any:
    return behaviour.model_dump() if isinstance(behaviour, BaseModel) else repr(behaviour)


def _rows(given: Mapping[str, Any], policies: Sequence[Terms], parts: Sequence[Result]) -> Iterator[dict[str, Any]]:
    whole = _together(parts)
    for terms, policy in zip(policies, whole, strict=True):
        for name, unit in METRICS.items():
            estimate = metrics.estimate(policy[name], whole[0][name])
            numerator, denominator = policy[name].sums
            yield {
                **dict(terms),
                **given,
                "metric": name,
                "unit": unit,
                "numerator": numerator,
                "denominator": denominator,
                **asdict(estimate),
            }


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows).astype(dict.fromkeys(_EXACT, object))


def _write(frame: pd.DataFrame, file: Path) -> None:
    """As Parquet, with exact sums as decimal128. Raises `ScenarioError` where pyarrow is missing."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise NotInstalled("Writing Parquet", "pyarrow", "economics") from None
    table = pa.Table.from_pandas(frame.drop(columns=list(_EXACT)), preserve_index=False)
    for name in _EXACT:
        table = table.append_column(name, pa.array(frame[name].tolist(), pa.decimal128(38, 0)))
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.select(list(frame.columns)), file)

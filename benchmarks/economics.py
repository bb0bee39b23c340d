"""Bookings per second: the vectorised model, the reference model, the chain, and an agent-based peer side by side.

python -m benchmarks.economics [--mesa benchmarks/peers/.mesa/bin/python]      # after make -C benchmarks/peers mesa
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer
from stakesim.campaign import campaign
from stakesim.economics import sweep
from stakesim.economics.settle import settle
from stakesim.model.rehearsal import rehearse
from stakesim.population.behaviours import Cancel, LostToStake, NoShow
from stakesim.population.outcomes import Outcomes, resolve_outcomes
from stakesim.population.population import CHUNK_SIZE, Population, PopulationChunk, draw
from stakesim.population.to_scenario import to_scenario
from stakesim.prices.price_models import Gbm

MESA_SCRIPT = Path(__file__).parent / "peers" / "mesa_bookings.py"
BEHAVIOURS = (LostToStake(elasticity=0.3), NoShow(elasticity=1.0), Cancel())
MARKET = Gbm(inr_per_eth="200000", annual_volatility=0.8)
PEOPLE_PER_RUN = 15
POPULATION = Population(
    name="bench", story="Fifteen people a run.", price_inr=("300", "5000"), attendees=(PEOPLE_PER_RUN,) * 2
)
CHAIN = "services, database and chain (revm)"


def main(mesa: Path | None = None, chunks: int = 320) -> None:
    """Measures and prints all rates. mesa: Python of an environment with Mesa; chunks: size of the sweep."""
    drawn = [draw(POPULATION, 1, chunk, behaviours=BEHAVIOURS, price=MARKET) for chunk in range(4)]
    outcomes = [resolve_outcomes(chunk.state) for chunk in drawn]
    rates = {"settled alone, one core (best of 7)": settlement_rate(drawn, outcomes)}
    for name, rate in sweep_rates(chunks * CHUNK_SIZE):
        rates[name] = max(rates.get(name, 0.0), rate)
    largest_kib = max(resource.getrusage(scope).ru_maxrss for scope in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    scenarios = [to_scenario(drawn[0], index) for index in range(200)]
    began = time.perf_counter()
    for scenario in scenarios:
        rehearse(scenario)
    rates["reference model"] = outcomes[0].accepted[:, :200].sum() / (time.perf_counter() - began)

    began = time.perf_counter()
    result = campaign.run(scenarios[:20], "revm")
    assert result.ok
    rates[CHAIN] = outcomes[0].accepted[:, :20].sum() / (time.perf_counter() - began)

    if mesa:
        process = subprocess.run([mesa, MESA_SCRIPT, str(PEOPLE_PER_RUN)], capture_output=True, text=True, check=True)
        rates["mesa, the toy question in floats"] = float(process.stdout)

    for name, rate in rates.items():
        sys.stdout.write(f"{name:72} {rate:14,.0f} bookings/s {rate / rates[CHAIN]:12,.0f} x\n")
    sys.stdout.write(
        f"largest process: {largest_kib / 1024:,.0f} MiB, over {2 * chunks * CHUNK_SIZE:,} runs in chunks of "
        f"{CHUNK_SIZE:,}\n"
    )


def settlement_rate(drawn: Sequence[PopulationChunk], outcomes: Sequence[Outcomes]) -> float:
    """Returns the settled bookings per second, the best of 7."""
    bookings = sum(int(of_chunk.accepted.sum()) for of_chunk in outcomes)
    settle(drawn[0].state, outcomes[0])  # warm-up
    best = 0.0
    for _ in range(7):
        began = time.perf_counter()
        for chunk, of_chunk in zip(drawn, outcomes, strict=True):
            settle(chunk.state, of_chunk)
        best = max(best, bookings / (time.perf_counter() - began))
    return best


def sweep_rates(runs: int) -> Iterator[tuple[str, float]]:
    """Yields the bookings per second of a sweep with one and two processes, twice each in turns."""
    for jobs in (1, 2, 1, 2):
        began = time.perf_counter()
        frame = sweep({"stake_bps": [2_000, 0]}, BEHAVIOURS, MARKET, runs, 1, POPULATION, jobs=jobs)
        bookings = frame[frame.metric == "bookings"].numerator.sum()
        name = f"sweep: drawn, resolved, settled, measured; {jobs} process{'es' * (jobs > 1)} (best of 2)"
        yield name, bookings / (time.perf_counter() - began)


if __name__ == "__main__":
    typer.run(main)

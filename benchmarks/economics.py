"""Bookings per second: the vectorised model, the reference model, the chain, and an agent-based peer side by side.

python -m benchmarks.economics [--mesa benchmarks/peers/.mesa/bin/python]      # after make -C benchmarks/peers mesa
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import typer
from stakesim.bench.sweeps import BEHAVIOURS, LARGE, MARKET, POLICIES, SMALL, settle_bookings
from stakesim.campaign import campaign
from stakesim.economics import sweep
from stakesim.model.rehearsal import rehearse
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import CHUNK_SIZE, draw
from stakesim.population.to_scenario import to_scenario

MESA_SCRIPT = Path(__file__).parent / "peers" / "mesa_bookings.py"
PEOPLE_PER_RUN = SMALL.attendees[1]
CHAIN = "services, database and chain (revm)"


def main(mesa: Path | None = None, chunks: int = 320) -> None:
    """Measures and prints all rates. mesa: Python of an environment with Mesa; chunks: size of the sweep."""
    rates = {
        f"settled alone, one core, {population.name} runs": bookings / seconds
        for population in (SMALL, LARGE)
        for bookings, seconds in [settle_bookings(population, 500)]
    }
    for name, rate in sweep_rates(chunks * CHUNK_SIZE):
        rates[name] = max(rates.get(name, 0.0), rate)
    largest_kib = max(resource.getrusage(scope).ru_maxrss for scope in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    drawn = draw(SMALL, 1, behaviours=BEHAVIOURS, price=MARKET)
    accepted = resolve_outcomes(drawn.state).accepted
    scenarios = [to_scenario(drawn, index) for index in range(200)]
    began = time.perf_counter()
    for scenario in scenarios:
        rehearse(scenario)
    rates["reference model"] = accepted[:, :200].sum() / (time.perf_counter() - began)

    began = time.perf_counter()
    result = campaign.run(scenarios[:20], "revm")
    assert result.ok
    rates[CHAIN] = accepted[:, :20].sum() / (time.perf_counter() - began)

    if mesa:
        process = subprocess.run([mesa, MESA_SCRIPT, str(PEOPLE_PER_RUN)], capture_output=True, text=True, check=True)
        rates["mesa, the toy question in floats"] = float(process.stdout)

    for name, rate in rates.items():
        sys.stdout.write(f"{name:72} {rate:14,.0f} bookings/s {rate / rates[CHAIN]:12,.0f} x\n")
    sys.stdout.write(
        f"largest process: {largest_kib / 1024:,.0f} MiB, over {2 * chunks * CHUNK_SIZE:,} runs in chunks of "
        f"{CHUNK_SIZE:,}\n"
    )


def sweep_rates(runs: int) -> Iterator[tuple[str, float]]:
    """Yields the bookings per second of a sweep with one and two processes, twice each in turns."""
    for jobs in (1, 2, 1, 2):
        began = time.perf_counter()
        frame = sweep(POLICIES, BEHAVIOURS, MARKET, runs, 1, SMALL, jobs=jobs)
        bookings = frame[frame.metric == "bookings"].numerator.sum()
        name = f"sweep: drawn, resolved, settled, measured; {jobs} process{'es' * (jobs > 1)} (best of 2)"
        yield name, bookings / (time.perf_counter() - began)


if __name__ == "__main__":
    typer.run(main)

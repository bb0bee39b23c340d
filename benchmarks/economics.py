"""How many bookings a second: the fast model, the reference model, the chain, and an agent-based peer, side by side.

python -m benchmarks.economics [--mesa benchmarks/peers/.mesa/bin/python]      # after make -C benchmarks/peers mesa
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import typer
from stakesim.campaign import campaign
from stakesim.economics.settle import settle
from stakesim.economics.sweeps import sweep
from stakesim.model.rehearsal import rehearse
from stakesim.population.behaviours import Cancel, LostToStake, NoShow
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import CHUNK_SIZE, Population, draw
from stakesim.population.to_scenario import to_scenario
from stakesim.prices.price_models import Gbm

PEER = Path(__file__).parent / "peers" / "mesa_bookings.py"
PEOPLE = (LostToStake(elasticity=0.3), NoShow(elasticity=1.0), Cancel())
MARKET = Gbm(inr_per_eth="200000", annual_volatility=0.8)
PEOPLE_A_RUN = 15


def main(mesa: Path | None = None, chunks: int = 320) -> None:
    population = Population(
        name="bench", story="Fifteen people a run.", price_inr=("300", "5000"), attendees=(PEOPLE_A_RUN,) * 2
    )
    drawn = [draw(population, 1, chunk, behaviours=PEOPLE, price=MARKET) for chunk in range(4)]
    outcomes = [resolve_outcomes(one.state) for one in drawn]
    rates: dict[str, float] = {}

    bookings = sum(int(one.accepted.sum()) for one in outcomes)
    settle(drawn[0].state, outcomes[0])
    best = 0.0
    for _ in range(7):
        began = time.perf_counter()
        for one, life in zip(drawn, outcomes, strict=True):
            settle(one.state, life)
        best = max(best, bookings / (time.perf_counter() - began))
    rates["settled alone, one core (best of 7)"] = best

    runs = chunks * CHUNK_SIZE
    for jobs in (1, 2, 1, 2):
        began = time.perf_counter()
        frame = sweep({"stake_bps": [2_000, 0]}, PEOPLE, MARKET, runs, 1, population, jobs=jobs)
        made = frame[frame.metric == "bookings"].numerator.sum() / (time.perf_counter() - began)
        name = f"sweep: drawn, lived, settled, measured; {jobs} process{'es' * (jobs > 1)} (best of 2)"
        rates[name] = max(rates.get(name, 0.0), made)
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024

    stories = [to_scenario(drawn[0], index) for index in range(200)]
    began = time.perf_counter()
    for story in stories:
        rehearse(story)
    rates["reference model"] = outcomes[0].accepted[:, :200].sum() / (time.perf_counter() - began)

    began = time.perf_counter()
    result = campaign.run(stories[:20], "revm")
    assert result.ok
    rates["services, database and chain (revm)"] = outcomes[0].accepted[:, :20].sum() / (time.perf_counter() - began)

    if mesa:
        done = subprocess.run([mesa, PEER, str(PEOPLE_A_RUN)], capture_output=True, text=True, check=True)
        rates["mesa, the toy question in floats"] = float(done.stdout)

    slowest = rates["services, database and chain (revm)"]
    for name, rate in rates.items():
        sys.stdout.write(f"{name:72} {rate:14,.0f} bookings/s {rate / slowest:12,.0f} x\n")
    sys.stdout.write(f"largest process: {memory:,.0f} MiB, over {2 * runs:,} runs in chunks of {CHUNK_SIZE:,}\n")


if __name__ == "__main__":
    typer.run(main)

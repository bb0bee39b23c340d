"""The speed of a sweep and of its settlement: bookings a second on one core.

As a program it is a contender of `stakesim bench`, and prints its figures as a line of JSON. A lifecycle is a chunk of
runs, and seconds are those of the processor:

    python -m stakesim.bench.sweeps large --lifecycles 50
"""

from __future__ import annotations

import argparse
import json
import time
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from stakesim.economics import sweep
from stakesim.economics.settle import settle
from stakesim.errors import require
from stakesim.population import outcomes
from stakesim.population.behaviours import Cancel, LostToStake, NoShow
from stakesim.population.population import CHUNK_SIZE, Population, draw
from stakesim.prices.price_models import Gbm

BEHAVIOURS = (LostToStake(elasticity=0.3), NoShow(elasticity=1.0), Cancel())
MARKET = Gbm(inr_per_eth=Decimal(200_000), annual_volatility=0.8)
SMALL = Population(
    name="small", story="15 people, up to 1 ETH a run.", price_inr=(Decimal(300), Decimal(5_000)), attendees=(15, 15)
)
LARGE = SMALL.model_copy(update={"name": "large", "price_inr": (Decimal(300_000), Decimal(5_000_000))})
"""The same people, and runs that are all above the 1.54 ETH up to which their wei are int64."""
POLICIES = {"stake_bps": [2_000, 0]}


def sweep_bookings(chunks: int) -> tuple[int, float]:
    """Draws, resolves, settles and measures runs under two policies; returns their bookings, and the seconds."""
    outcomes.RUNS_IN_NUMPY = 0
    sweep(POLICIES, BEHAVIOURS, MARKET, CHUNK_SIZE, 0, SMALL)  # loads compiled code
    started = time.process_time()
    frame = sweep(POLICIES, BEHAVIOURS, MARKET, chunks * CHUNK_SIZE, 1, SMALL)
    seconds = time.process_time() - started
    return int(frame[frame.metric == "bookings"].numerator.sum()), seconds


def settle_bookings(population: Population, chunks: int) -> tuple[int, float]:
    """Settles runs, in turns with drawing and resolving them; returns their bookings, and the seconds of settling."""
    bookings, seconds = 0, 0.0
    for number in range(chunks + 1):
        state = draw(population, 1, number, behaviours=BEHAVIOURS, price=MARKET).state
        resolved = outcomes.resolve_outcomes(state)
        started = time.process_time()
        settle(state, resolved)
        if number:  # the first one warms up
            seconds += time.process_time() - started
            bookings += int(resolved.accepted.sum())
    return bookings, seconds


def measure(what: str, chunks: int) -> dict[str, Any]:
    """Measures one of `compiled`, `numpy`, `small` and `large`.

    Returns:
        `transactions`, which are bookings, `seconds` and `versions`, as `stakesim.bench.contenders` reads them.

    Raises:
        NotInstalled: numba is missing.
    """
    if what == "compiled":
        require("The compiled sweep", "fast", "numba")
    packages = ("stakesim", "numpy", *(["numba"] if what == "compiled" else []))
    populations = {"small": SMALL, "large": LARGE}
    bookings, seconds = settle_bookings(populations[what], chunks) if what in populations else sweep_bookings(chunks)
    return {"transactions": bookings, "seconds": seconds, "versions": {name: version(name) for name in packages}}


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["compiled", "numpy", "small", "large"])
    parser.add_argument("--lifecycles", type=int, default=20)
    options = parser.parse_args()
    print(json.dumps(measure(options.what, options.lifecycles)))  # noqa: T201


if __name__ == "__main__":
    main()

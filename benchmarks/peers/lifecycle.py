"""The lifecycle of `scenarios/bench/lifecycle.yaml` for programs without the library: amounts, contract, measuring."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ETH = 10**18
PRICE, SEATS, ATTENDED = ETH // 10, 6, 5
STAKE = PRICE // 5
HOST_STAKE, FEE = STAKE * SEATS, PRICE * SEATS // 20
HOST_GETS = PRICE * SEATS - FEE + HOST_STAKE
PLATFORM_GETS = FEE + STAKE * (SEATS - ATTENDED)
"""All amounts are in wei."""
LEAD = 7 * 86_400
"""Seconds from the creation of a run to its start."""
TRANSACTIONS = 2 + SEATS
TERMS = (2_000, 500, 0, 86_400, 7 * 86_400)
"""Stake, fee, host's share of forfeits (basis points), cutoff and grace (seconds)."""
ARTIFACT: dict[str, Any] = json.loads((Path(__file__).parents[2] / "backend/app/contracts/EventStake.json").read_text())


def options(*more: tuple[str, dict[str, Any]]) -> argparse.Namespace:
    """Options of the command line: `--lifecycles`, and these, each with arguments of `add_argument`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lifecycles", type=int, default=20)
    for name, settings in more:
        parser.add_argument(name, **settings)
    return parser.parse_args()


def timed(lifecycle: Callable[[], None], count: int, *packages: str, calls: bool = False) -> None:
    """Runs the lifecycle once unmeasured, then `count` times, and prints the figures as a line of JSON.

    Function calls, of Python and of C, are counted instead of seconds if `calls` is set.
    """
    counted: Counter[str] = Counter()
    lifecycle()
    started = time.perf_counter()
    if calls:
        sys.setprofile(lambda frame, event, argument: counted.update([event]))
    for _ in range(count):
        lifecycle()
    sys.setprofile(None)
    spent = {"calls": counted["call"] + counted["c_call"]} if calls else {"seconds": time.perf_counter() - started}
    versions = {name: version(name) for name in packages}
    print(json.dumps({"transactions": TRANSACTIONS * count, **spent, "versions": versions}))  # noqa: T201


def check(attended: list[int], no_shows: list[int], host: int, platform: int) -> None:
    """Ends the program if the payouts, in wei, are not those of the rules."""
    payouts = (attended, no_shows, host, platform)
    due = ([STAKE] * ATTENDED, [0] * (SEATS - ATTENDED), HOST_GETS, PLATFORM_GETS)
    if payouts != due:
        raise SystemExit(f"the payouts are {payouts}, not {due}")

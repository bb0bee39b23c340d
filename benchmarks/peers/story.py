"""The lifecycle of `benchmarks/lifecycle.yaml`, for tools that play it without the backend: its amounts, its contract,
and how a peer says what it took."""

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ETH = 10**18
PRICE, SEATS, CAME = ETH // 10, 6, 5
STAKE = PRICE // 5
HOST_STAKE, FEE = STAKE * SEATS, PRICE * SEATS // 20
HOST_GETS = PRICE * SEATS - FEE + HOST_STAKE
PLATFORM_GETS = FEE + STAKE * (SEATS - CAME)
"""wei"""
LEAD = 7 * 86_400
"""seconds"""
TRANSACTIONS = 2 + SEATS
TERMS = (2_000, 500, 0, 86_400, 7 * 86_400)
"""Stake, fee, host's share of forfeits (basis points), cutoff and grace (seconds)."""
ARTIFACT: dict[str, Any] = json.loads((Path(__file__).parents[2] / "backend/app/contracts/EventStake.json").read_text())


def options(*more: tuple[str, dict[str, Any]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lifecycles", type=int, default=20)
    for name, given in more:
        parser.add_argument(name, **given)
    return parser.parse_args()


def timed(lifecycle: Callable[[], None], count: int, *packages: str) -> None:
    """Plays it once unmeasured, then so many times, and prints the figures as a line of JSON."""
    lifecycle()
    began = time.perf_counter()
    for _ in range(count):
        lifecycle()
    seconds = time.perf_counter() - began
    told = {"transactions": TRANSACTIONS * count, "seconds": seconds}
    print(json.dumps(told | {"versions": {name: version(name) for name in packages}}))  # noqa: T201


def check(came: list[int], absent: list[int], host: int, platform: int) -> None:
    """What everybody got since the bookings were made, in wei."""
    got, due = (came, absent, host, platform), ([STAKE] * CAME, [0] * (SEATS - CAME), HOST_GETS, PLATFORM_GETS)
    if got != due:
        raise SystemExit(f"the payouts are {got}, not {due}")

"""The full path, measured: services, database, reference model and all invariants.

    python -m stakesim.bench.full_path revm --lifecycles 50          the contender of `stakesim bench`

Figures are dictionaries, printed as one line of JSON by a process of their own.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from eth_account.signers.local import LocalAccount
from web3.middleware import Web3Middleware

from stakesim.evm.client import RpcClient
from stakesim.evm.engines import open_engine
from stakesim.paths import shipped
from stakesim.runner import observer, scenario_run, step_findings
from stakesim.runner.drivers.backend import BackendDriver
from stakesim.runner.environment import Environment, open_environment
from stakesim.runner.observe import StateReader
from stakesim.scenario.actions import Book
from stakesim.scenario.scenario import Scenario, load

LIFECYCLE = shipped("scenarios") / "bench" / "lifecycle.yaml"


def played(environment: Environment, scenario: Scenario) -> tuple[int, float]:
    """Transactions and seconds of one play. Raises `AssertionError` where anything is not as it must be."""
    began = time.perf_counter()
    result = scenario_run.run_scenario(environment, scenario)
    took = time.perf_counter() - began
    assert not result.findings, result.findings
    return result.transactions, took


def warm(environment: Environment, scenario: Scenario) -> None:
    """Compiled, connected, deployed; and what was made for good is not looked through for garbage."""
    for _ in range(2):
        played(environment, scenario)
    gc.collect()
    gc.freeze()


def lifecycles(engine: str, count: int, driver: str | None = None) -> dict[str, Any]:
    """So many lifecycles, one after another."""
    environment, scenario = open_environment(engine, driver=driver), load(LIFECYCLE)
    try:
        warm(environment, scenario)
        each = [played(environment, scenario) for _ in range(count)]
    finally:
        environment.close()
    versions = {"stakesim": version("stakesim")}
    return {"transactions": sum(n for n, _ in each), "seconds": sum(s for _, s in each), "versions": versions}


# --------------------------------------------------------------------------------------------------------- growth


def by_length(engine: str, transactions: int, window: int = 100) -> list[tuple[int, float]]:
    """A campaign in one environment: transactions until then, and milliseconds a transaction of the window before."""
    environment, scenario = open_environment(engine), load(LIFECYCLE)
    points, done, since, took = [], 0, 0, 0.0
    try:
        warm(environment, scenario)
        while done < transactions:
            n, seconds = played(environment, scenario)
            done, took = done + n, took + seconds
            if done - since >= window:
                points.append((done, 1_000 * took / (done - since)))
                since, took = done, 0.0
    finally:
        environment.close()
    return points


def by_attendees(engine: str, sizes: list[int]) -> list[tuple[int, float]]:
    """One run with so many bookings: milliseconds a transaction."""
    environment, points = open_environment(engine), []
    try:
        for size in sizes:
            scenario = _crowd(size)
            warm(environment, scenario)
            n, seconds = (sum(both) for both in zip(*(played(environment, scenario) for _ in range(2)), strict=True))
            points.append((size, 1_000 * seconds / n))
    finally:
        environment.close()
    return points


def by_height(engine: str, heights: list[int], count: int = 10) -> list[tuple[int, float]]:
    """On a chain of so many blocks: milliseconds a transaction."""
    points = []
    for height in heights:
        chain = open_engine(engine)
        for _ in range(height):
            chain.mine()
        environment, scenario = open_environment(chain), load(LIFECYCLE)
        try:
            warm(environment, scenario)
            each = [played(environment, scenario) for _ in range(count)]
        finally:
            environment.close()
        points.append((height, 1_000 * sum(s for _, s in each) / sum(n for n, _ in each)))
    return points


def _crowd(size: int) -> Scenario:
    """The lifecycle with this many bookings, by its six attendees in turn."""
    base = load(LIFECYCLE)
    create, book, complete = base.actions[0], base.actions[1], base.actions[-1]
    names, people = [f"b{n}" for n in range(size)], [name for name in base.actors if name != "host"]
    books = [book.model_copy(update={"booking": b, "by": people[n % len(people)]}) for n, b in enumerate(names)]
    seats, attended = {"seats": size}, {"attended": tuple(names[:-1])}
    actions = (create.model_copy(update=seats), *books, complete.model_copy(update=attended))
    return base.model_copy(update={"actions": actions, "received": {}})


# ------------------------------------------------------------------------------------------- where the time goes


class Clock:
    """Time by what for, each moment counted once: what is timed inside something is taken off it."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0.0])
        self.on = False
        self._inner: list[float] = []

    def begin(self) -> float:
        self._inner.append(0.0)
        return time.perf_counter()

    def end(self, what: str, since: float) -> None:
        took = time.perf_counter() - since
        own = took - self._inner.pop()
        if self.on:
            self.spent[what][0] += 1
            self.spent[what][1] += own
        if self._inner:
            self._inner[-1] += took

    def around(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            since = self.begin()
            try:
                return function(*args, **kwargs)
            finally:
                self.end(what, since)

        return timed


def profile(engine: str, count: int) -> dict[str, tuple[float, float]]:
    """Where the time of a booking goes: times and microseconds a booking, by what for, the largest first.

    The clocks are put around the parts for this one measurement, and cost some microseconds a part themselves.
    """
    environment, scenario, clock = open_environment(engine), load(LIFECYCLE), Clock()
    bookings = count * (len(scenario.actions) - 2)

    class Clocked(Web3Middleware):
        def wrap_make_request(self, make_request: Any) -> Any:
            return lambda method, params: clock.around(f"node: {method}", make_request)(method, params)

    parts: list[tuple[Any, str, str]] = [
        (LocalAccount, "sign_transaction", "signing"),
        *getattr(environment.backend, "timed_parts", ()),
        (BackendDriver, "rows", "harness: rows of all tables"),
        (RpcClient, "sent", "harness: receipts"),
        (BackendDriver, "perform", "services and web3: all else"),
        (observer, "apply", "harness: reference model"),
        (step_findings, "violations", "harness: invariants"),
        (StateReader, "read", "harness: pictures of the contract"),
        (observer.Observer, "step", "harness: all else"),
    ]
    olds = [getattr(owner, name) for owner, name, _ in parts]
    try:
        warm(environment, scenario)
        environment.engine.w3.middleware_onion.add(Clocked)
        for (owner, name, what), old in zip(parts, olds, strict=True):
            setattr(owner, name, clock.around(what, old))
        step = observer.Observer.step

        def booking_only(watching: Any, timed: Any, *args: Any, **named: Any) -> Any:
            clock.on = isinstance(timed.action, Book)
            return step(watching, timed, *args, **named)

        setattr(observer.Observer, "step", booking_only)  # noqa: B010 - mypy knows that it is a method
        for _ in range(count):
            played(environment, scenario)
            clock.on = False
    finally:
        for (owner, name, _), old in zip(parts, olds, strict=True):
            setattr(owner, name, old)
        environment.close()
    each = {what: (times / bookings, 1e6 * seconds / bookings) for what, (times, seconds) in clock.spent.items()}
    return dict(sorted(each.items(), key=lambda part: -part[1][1]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engine")
    parser.add_argument("--lifecycles", type=int, default=20)
    parser.add_argument("--driver")
    options = parser.parse_args()
    print(json.dumps(lifecycles(options.engine, options.lifecycles, options.driver)))  # noqa: T201


if __name__ == "__main__":
    main()

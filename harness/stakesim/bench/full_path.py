"""Measures the full path: services, database, reference model and all invariants.

As a program it is a contender of `stakesim bench`, and prints its figures as a line of JSON:

    python -m stakesim.bench.full_path revm --lifecycles 50

With `--calls` it counts function calls instead of seconds.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, closing
from importlib.metadata import version
from typing import Any, NamedTuple

from web3.middleware import Web3Middleware

from stakesim.bench.call_count import count_calls
from stakesim.evm.client import RpcClient
from stakesim.evm.engines import open_engine
from stakesim.model.reference import apply
from stakesim.paths import shipped
from stakesim.runner import observer, scenario_run, step_findings
from stakesim.runner.drivers.backend import BackendDriver
from stakesim.runner.environment import Environment, open_environment
from stakesim.runner.invariants import violations
from stakesim.runner.observe import StateReader
from stakesim.scenario.actions import Book
from stakesim.scenario.scenario import Scenario, load

LIFECYCLE = shipped("scenarios") / "bench" / "lifecycle.yaml"


class Point(NamedTuple):
    """A point of a growth curve.

    Attributes:
        size: Bookings, blocks or transactions.
        milliseconds: Wall-clock time per transaction.
    """

    size: int
    milliseconds: float


class TimePerBooking(NamedTuple):
    """Time of one part of a booking.

    Attributes:
        calls: How often the part ran per booking.
        microseconds: Wall-clock time per booking.
    """

    calls: float
    microseconds: float


class _Timing(NamedTuple):
    transactions: int
    seconds: float

    @property
    def milliseconds(self) -> float:
        return 1_000 * self.seconds / self.transactions


def run_timed(environment: Environment, scenario: Scenario, times: int = 1) -> _Timing:
    """Runs a scenario, and returns the number of transactions and the seconds that they took.

    Raises:
        AssertionError: The scenario has findings.
    """
    transactions, seconds = 0, 0.0
    for _ in range(times):
        started = time.perf_counter()
        result = scenario_run.run_scenario(environment, scenario)
        seconds += time.perf_counter() - started
        assert not result.findings, result.findings
        transactions += result.transactions
    return _Timing(transactions, seconds)


def warm_up(environment: Environment, scenario: Scenario) -> None:
    """Compiles, connects and deploys, and then exempts all live objects from garbage collection."""
    run_timed(environment, scenario, times=2)
    gc.collect()
    gc.freeze()


def lifecycles(engine: str, count: int, driver: str | None = None, *, calls: bool = False) -> dict[str, Any]:
    """Runs lifecycles one after another.

    Args:
        engine: Engine to run on.
        count: Number of lifecycles.
        driver: By default the backend's first.
        calls: Whether function calls are counted, which takes longer.

    Returns:
        `transactions`, `versions`, and `seconds` or `calls`, as `stakesim.bench.contenders` reads them.
    """
    scenario = load(LIFECYCLE)
    with ExitStack() as stack:
        calls_so_far = stack.enter_context(count_calls()) if calls else lambda: 0
        environment = stack.enter_context(closing(open_environment(engine, driver=driver)))
        warm_up(environment, scenario)
        before = calls_so_far()
        transactions, seconds = run_timed(environment, scenario, count)
        spent = {"calls": calls_so_far() - before} if calls else {"seconds": seconds}
    return {"transactions": transactions, **spent, "versions": {"stakesim": version("stakesim")}}


# --------------------------------------------------------------------------------------------------------- growth


def by_length(engine: str, transactions: int, window: int = 100) -> list[Point]:
    """Time of a transaction by transactions that ran before in the same environment.

    Args:
        engine: Engine to run on.
        transactions: Transactions in all.
        window: Transactions that each point is the mean of.
    """
    scenario, points = load(LIFECYCLE), list[Point]()
    total, in_window, seconds = 0, 0, 0.0
    with closing(open_environment(engine)) as environment:
        warm_up(environment, scenario)
        while total < transactions:
            timing = run_timed(environment, scenario)
            total += timing.transactions
            in_window += timing.transactions
            seconds += timing.seconds
            if in_window >= window:
                points.append(Point(total, 1_000 * seconds / in_window))
                in_window, seconds = 0, 0.0
    return points


def by_attendees(engine: str, sizes: list[int]) -> list[Point]:
    """Time of a transaction by the number of bookings of one run."""
    points = []
    with closing(open_environment(engine)) as environment:
        for size in sizes:
            scenario = _crowd(size)
            warm_up(environment, scenario)
            points.append(Point(size, run_timed(environment, scenario, times=2).milliseconds))
    return points


def by_height(engine: str, heights: list[int], count: int = 10) -> list[Point]:
    """Time of a transaction by the number of blocks that the chain has before.

    Args:
        engine: Engine to run on.
        heights: Numbers of blocks.
        count: Lifecycles that each point is the mean of.
    """
    scenario, points = load(LIFECYCLE), []
    for height in heights:
        chain = open_engine(engine)
        for _ in range(height):
            chain.mine()
        with closing(open_environment(chain)) as environment:
            warm_up(environment, scenario)
            points.append(Point(height, run_timed(environment, scenario, count).milliseconds))
    return points


def _crowd(size: int) -> Scenario:
    """The lifecycle with this many bookings, made by its six attendees in turns. All but the last attend."""
    lifecycle = load(LIFECYCLE)
    create, book, complete = lifecycle.actions[0], lifecycle.actions[1], lifecycle.actions[-1]
    attendees = [name for name in lifecycle.actors if name != "host"]
    bookings = [f"b{number}" for number in range(size)]
    actions = (
        create.model_copy(update={"seats": size}),
        *(
            book.model_copy(update={"booking": booking, "by": attendees[number % len(attendees)]})
            for number, booking in enumerate(bookings)
        ),
        complete.model_copy(update={"attended": tuple(bookings[:-1])}),
    )
    return lifecycle.model_copy(update={"actions": actions, "received": {}})


# ------------------------------------------------------------------------------------------- where the time goes


class Clock:
    """Measures time by part. Time inside an inner part does not count for the outer part.

    Attributes:
        spent: Number of calls and seconds, by part.
        on: Whether calls are counted.
    """

    def __init__(self) -> None:
        self.spent: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0.0])
        self.on = False
        self._inner: list[float] = []
        """Seconds spent in inner parts, for each open part."""

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps a function, so that its calls count for the part."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._end(part, time.perf_counter() - started)

        return call

    def _end(self, part: str, seconds: float) -> None:
        own = seconds - self._inner.pop()
        if self.on:
            self.spent[part][0] += 1
            self.spent[part][1] += own
        if self._inner:
            self._inner[-1] += seconds


def profile(engine: str, count: int) -> dict[str, TimePerBooking]:
    """Time of a booking by part, the largest first.

    The clock is patched into the parts for this measurement, and itself costs some microseconds a part.

    Args:
        engine: Engine to run on.
        count: Number of lifecycles.
    """
    scenario, clock = load(LIFECYCLE), Clock()
    bookings = count * (len(scenario.actions) - 2)
    with closing(open_environment(engine)) as environment, ExitStack() as patches:
        warm_up(environment, scenario)
        environment.engine.w3.middleware_onion.add(_request_timer(clock))
        for owner, name, part in _parts(environment):
            patches.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, clock.timed(part, getattr(owner, name)))
        _count_only_bookings(clock)
        run_timed(environment, scenario, count)
    times = {
        part: TimePerBooking(calls / bookings, 1e6 * seconds / bookings)
        for part, (calls, seconds) in clock.spent.items()
    }
    return dict(sorted(times.items(), key=lambda item: -item[1].microseconds))


def _parts(environment: Environment) -> list[tuple[Any, str, str]]:
    """What is timed: class or module, name of its function, and name of the part."""
    functions: list[tuple[Any, Callable[..., Any], str]] = [
        (RpcClient, RpcClient.take_receipts, "harness: receipts"),
        (BackendDriver, BackendDriver.rows, "harness: rows of all tables"),
        (BackendDriver, BackendDriver.perform, "services and web3: all else"),
        (observer, apply, "harness: reference model"),
        (step_findings, violations, "harness: invariants"),
        (StateReader, StateReader.read, "harness: reads of the contract's state"),
        (observer.Observer, observer.Observer.step, "harness: all else"),
    ]
    return [
        *getattr(environment.backend, "timed_parts", ()),
        *((owner, function.__name__, part) for owner, function, part in functions),
    ]


def _request_timer(clock: Clock) -> type[Web3Middleware]:
    """A web3 middleware that times each request to the node."""

    class RequestTimer(Web3Middleware):
        def wrap_make_request(self, make_request: Any) -> Any:
            return lambda method, params: clock.timed(f"node: {method}", make_request)(method, params)

    return RequestTimer


def _count_only_bookings(clock: Clock) -> None:
    """Turns the clock on for steps that book, and off for all others."""
    step = observer.Observer.step

    def count_bookings(self: Any, timed: Any, *args: Any, **kwargs: Any) -> Any:
        clock.on = isinstance(timed.action, Book)
        return step(self, timed, *args, **kwargs)

    setattr(observer.Observer, "step", count_bookings)  # noqa: B010 - mypy rejects assigning to a method


def main() -> None:
    """Prints the figures of lifecycles."""
    parser = argparse.ArgumentParser()
    parser.add_argument("engine")
    parser.add_argument("--lifecycles", type=int, default=20)
    parser.add_argument("--driver")
    parser.add_argument("--calls", action="store_true")
    options = parser.parse_args()
    figures = lifecycles(options.engine, options.lifecycles, options.driver, calls=options.calls)
    print(json.dumps(figures))  # noqa: T201


if __name__ == "__main__":
    main()

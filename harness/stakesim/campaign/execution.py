"""Runs the scenarios of a campaign, in this process or in several, and diagnoses and shrinks those that fail."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import NamedTuple, TypeAlias

from stakesim.backend import BackendError
from stakesim.campaign.selection import is_drawn
from stakesim.evm.compiler import Artifact
from stakesim.runner.drivers import CONTRACT
from stakesim.runner.environment import Environment, open_environment
from stakesim.runner.findings import Finding
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.actions import Terms
from stakesim.scenario.scenario import Scenario
from stakesim.workers.pool import worker_pool

BATCH = 4
"""Scenarios that a worker takes at a time."""
CLUSTER_BATCHES = 1_000
"""Batches that a cluster of any size is given at a time."""

Progress: TypeAlias = Callable[[ScenarioResult], None]
"""Called with each result, in the order in which scenarios finish."""
Numbered: TypeAlias = tuple[int, ScenarioResult]
"""Number of a scenario within the campaign, and its result."""


log = logging.getLogger(__name__)


class Setup(NamedTuple):
    """What scenarios are run in: arguments of `open_environment`."""

    engine: str | None
    contract: Artifact | None
    driver: str | None
    terms: Terms | None = None

    def open(self) -> Environment:
        """Opens the environment."""
        return open_environment(self.engine, self.contract, self.driver, terms=self.terms)


class Environments:
    """The environment that a worker runs scenarios in, and another one once something in it never ended."""

    def __init__(self, setup: Setup) -> None:
        """Opens the first one.

        Raises:
            StakesimError: See `open_environment`.
        """
        self._setup = setup
        self._environment = setup.open()

    def current(self) -> Environment:
        """Returns the environment for the next scenario."""
        if (last := self._environment).hangs:
            last.close()
            self._environment = self._setup.open()
            self._environment.scenarios_run = last.scenarios_run
            self._environment.known_weaknesses = last.known_weaknesses
        return self._environment

    def close(self) -> None:
        """Closes the environment."""
        self._environment.close()


def run_all(
    scenarios: Iterable[Scenario],
    setup: Setup,
    *,
    jobs: int,
    dask: str | None,
    progress: Progress | None,
    probes_largest_run: bool,
    keeps_all: bool = True,
    interruptible: bool = False,
) -> tuple[list[ScenarioResult], bool]:
    """Runs scenarios.

    Args:
        scenarios: Numbered in this order. Taken one by one as they are run: there may be more than can be run.
        setup: What they are run in.
        jobs: Number of processes.
        dask: Address of a Dask scheduler, whose workers run them instead.
        progress: Called with each result.
        probes_largest_run: Also run the largest run that the contract opens.
        keeps_all: Keep actions and ledger of drawn scenarios that pass, too: 100,000 of them fill a machine's memory.
        interruptible: Ctrl-C ends it, and what was done is kept; otherwise it is raised.

    Returns:
        Results in the order of the scenarios, and whether it was interrupted.
    """
    progress, numbered = progress or _ignore, enumerate(scenarios)
    batches = iter(lambda: list(islice(numbered, BATCH)), [])
    first = list(islice(batches, 2)) if dask or jobs > 1 else []
    if dask or len(first) > 1:
        results = _run_in_pool(
            chain(first, batches), setup, jobs, dask, progress, probes_largest_run=probes_largest_run
        )
    else:
        results = _run_here(chain(*first, numbered), setup, progress, probes_largest_run=probes_largest_run)
    kept: list[Numbered] = []
    interrupted = False
    try:
        for number, result in results:
            kept.append((number, result if keeps_all else _without_details(result)))
    except KeyboardInterrupt:
        if not interruptible:
            raise
        interrupted = True
    return [result for _, result in sorted(kept, key=lambda numbered: numbered[0])], interrupted


def _ignore(result: ScenarioResult) -> None:
    pass


def _without_details(result: ScenarioResult) -> ScenarioResult:
    if not result.ok or not is_drawn(result.scenario):
        return result
    return replace(result, rows=[], scenario=result.scenario.model_copy(update={"actions": (), "actors": {}}))


def _run_here(
    numbered: Iterable[tuple[int, Scenario]], setup: Setup, progress: Progress, *, probes_largest_run: bool
) -> Iterator[Numbered]:
    with closing(Environments(setup)) as environments:
        for number, scenario in numbered:
            result = _run_and_diagnose(environments.current(), scenario, number)
            progress(result)
            yield number, result
        if probes_largest_run:
            yield from _probe_largest_run(environments, setup)


def _run_in_pool(
    batches: Iterator[Sequence[tuple[int, Scenario]]],
    setup: Setup,
    jobs: int,
    dask: str | None,
    progress: Progress,
    *,
    probes_largest_run: bool,
) -> Iterator[Numbered]:
    first = list(islice(batches, 2 * jobs if dask is None else CLUSTER_BATCHES))  # there may be more without end
    with worker_pool(min(jobs, len(first)), dask=dask, open_resource=partial(Environments, setup)) as submit:
        probe = submit(_probe_largest_run, setup) if probes_largest_run else None
        running: set[Future[list[Numbered]]] = {submit(_run_batch, batch) for batch in first}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {submit(_run_batch, batch) for batch in islice(batches, len(done))}
            for call in done:
                for number, result in call.result():
                    progress(result)
                    yield number, result
        if probe is not None:
            yield from probe.result()


def _run_batch(environments: Environments, batch: Sequence[tuple[int, Scenario]]) -> list[Numbered]:
    return [(number, _run_and_diagnose(environments.current(), scenario, number)) for number, scenario in batch]


def _run_and_diagnose(environment: Environment, scenario: Scenario, number: int) -> ScenarioResult:
    """Runs a scenario, and makes its failure short."""
    try:
        result = run_scenario(environment, scenario, number)
    except BackendError as error:
        if not environment.scenarios_run:  # the first scenario: no result would be lost
            raise
        return _backend_crash(environment, scenario, error)
    environment.scenarios_run += 1
    if result.ok or environment.hangs:
        return result
    try:
        return _diagnose(environment, result)
    except BackendError as error:  # it does not start again: what was found is told as it is
        log.warning("a failure could not be played again: %s", error)
        return result


def _diagnose(environment: Environment, result: ScenarioResult) -> ScenarioResult:
    """Names and shrinks a failure that a backend or a contract written elsewhere can be blamed for.

    Any other failure is shrunk if its scenario was drawn at random.
    """
    from stakesim.search.backend_diagnosis import diagnose_backend
    from stakesim.search.contract_diagnosis import diagnose_contract
    from stakesim.search.shrink import shrink

    scenario = result.scenario
    if environment.network is not None:
        result = diagnose_backend(environment, result, environment.known_weaknesses)
        if result.findings[0].weakness:
            return result
    if environment.foreign:
        return diagnose_contract(environment, result, environment.known_weaknesses)
    if is_drawn(scenario):
        return shrink(environment, result)
    return result


def _backend_crash(environment: Environment, scenario: Scenario, error: BackendError) -> ScenarioResult:
    message = f"the backend could not start the scenario: {error}"
    finding = Finding("CRASH", "whatever fails, fails with a typed error", message, scenario, step=1)
    return ScenarioResult(scenario, environment.engine.name, environment.driver, findings=[finding])


def _probe_largest_run(environments: Environments, setup: Setup) -> list[Numbered]:
    """Runs the probes on the contract alone, and on the fastest engine: they have thousands of steps."""
    from stakesim.search.contract_diagnosis import diagnose_contract
    from stakesim.search.probes import largest_run_probes

    known = environments.current().known_weaknesses
    with closing(open_environment(None, setup.contract, CONTRACT, terms=setup.terms)) as alone:
        results = [
            diagnose_contract(alone, result, known) if result.findings and not alone.hangs else result
            for result in largest_run_probes(alone)
        ]
    return [(sys.maxsize, result) for result in results]

"""Runs the scenarios of a campaign, in this process or in several, and diagnoses and shrinks those that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import closing
from typing import NamedTuple, TypeAlias

from stakesim.backend import BackendError
from stakesim.evm.compiler import Artifact
from stakesim.runner.drivers import CONTRACT
from stakesim.runner.environment import Environment, open_environment
from stakesim.runner.findings import Finding
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.actions import Terms
from stakesim.scenario.scenario import Scenario
from stakesim.search.backend_diagnosis import diagnose_backend
from stakesim.search.contract_diagnosis import diagnose_contract
from stakesim.search.probes import largest_run_probes
from stakesim.search.shrink import shrink
from stakesim.workers.pool import worker_pool

BATCH = 4
"""Scenarios that a worker takes at a time."""

Progress: TypeAlias = Callable[[ScenarioResult], None]
"""Called with each result, in the order in which scenarios finish."""
Numbered: TypeAlias = tuple[int, ScenarioResult]
"""Number of a scenario within the campaign, and its result."""


class Setup(NamedTuple):
    """What scenarios are run in: arguments of `open_environment`."""

    engine: str | None
    contract: Artifact | None
    driver: str | None
    terms: Terms | None = None

    def open(self) -> Environment:
        """Opens the environment."""
        return open_environment(self.engine, self.contract, self.driver, terms=self.terms)


def run_all(
    scenarios: Sequence[Scenario],
    setup: Setup,
    *,
    jobs: int,
    dask: str | None,
    progress: Progress | None,
    probes_largest_run: bool,
) -> list[ScenarioResult]:
    """Runs scenarios.

    Args:
        scenarios: Numbered in this order.
        setup: What they are run in.
        jobs: Number of processes.
        dask: Address of a Dask scheduler, whose workers run them instead.
        progress: Called with each result.
        probes_largest_run: Also run the largest run that the contract opens.

    Returns:
        Results in the order of the scenarios.
    """
    numbered, progress = list(enumerate(scenarios)), progress or _ignore
    if dask or (jobs > 1 and len(scenarios) > BATCH):
        results = _run_in_pool(numbered, setup, jobs, dask, progress, probes_largest_run=probes_largest_run)
    else:
        results = _run_here(numbered, setup, progress, probes_largest_run=probes_largest_run)
    return [result for _, result in sorted(results, key=lambda numbered: numbered[0])]


def _ignore(result: ScenarioResult) -> None:
    pass


def _run_here(
    numbered: Sequence[tuple[int, Scenario]], setup: Setup, progress: Progress, *, probes_largest_run: bool
) -> Iterator[Numbered]:
    with closing(setup.open()) as environment:
        for number, scenario in numbered:
            result = _run_and_diagnose(environment, scenario, number)
            progress(result)
            yield number, result
        if probes_largest_run:
            yield from _probe_largest_run(environment, setup, len(numbered))


def _run_in_pool(
    numbered: Sequence[tuple[int, Scenario]],
    setup: Setup,
    jobs: int,
    dask: str | None,
    progress: Progress,
    *,
    probes_largest_run: bool,
) -> Iterator[Numbered]:
    batches = [numbered[i : i + BATCH] for i in range(0, len(numbered), BATCH)]
    with worker_pool(min(jobs, len(batches)), dask=dask, open_resource=setup.open) as submit:
        calls = [submit(_run_batch, batch) for batch in batches]
        if probes_largest_run:
            calls.append(submit(_probe_largest_run, setup, len(numbered)))
        for call in as_completed(calls):
            for number, result in call.result():
                if number < len(numbered):  # not the probe
                    progress(result)
                yield number, result


def _run_batch(environment: Environment, batch: Sequence[tuple[int, Scenario]]) -> list[Numbered]:
    return [(number, _run_and_diagnose(environment, scenario, number)) for number, scenario in batch]


def _run_and_diagnose(environment: Environment, scenario: Scenario, number: int) -> ScenarioResult:
    """Runs a scenario, and makes its failure short.

    A failure that a backend or a contract written elsewhere can be blamed for is named and shrunk. Any other is shrunk
    if its scenario was drawn at random.
    """
    try:
        result = run_scenario(environment, scenario, number)
    except BackendError as error:
        if not environment.scenarios_run:  # the first scenario: no result would be lost
            raise
        return _backend_crash(environment, scenario, error)
    environment.scenarios_run += 1
    if result.ok:
        return result
    if environment.network is not None:
        result = diagnose_backend(environment, result, environment.known_weaknesses)
        if result.findings[0].weakness:
            return result
    if environment.foreign:
        return diagnose_contract(environment, result, environment.known_weaknesses)
    if scenario.origin and "index" in scenario.origin:
        return shrink(environment, result)
    return result


def _backend_crash(environment: Environment, scenario: Scenario, error: BackendError) -> ScenarioResult:
    message = f"the backend could not start the scenario: {error}"
    finding = Finding("CRASH", "whatever fails, fails with a typed error", message, scenario, step=1)
    return ScenarioResult(scenario, environment.engine.name, environment.driver, findings=[finding])


def _probe_largest_run(environment: Environment, setup: Setup, number: int) -> list[Numbered]:
    """Runs the probes on the contract alone, and on the fastest engine: they have thousands of steps."""
    with closing(open_environment(None, setup.contract, CONTRACT, terms=setup.terms)) as alone:
        results = [
            diagnose_contract(alone, result, environment.known_weaknesses) if result.findings else result
            for result in largest_run_probes(alone)
        ]
    return [(number + place, result) for place, result in enumerate(results)]

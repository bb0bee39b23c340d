"""Many scenarios: scripted files, random campaigns, or both; in one process or several.

from stakesim import run
run("scenarios/no-show.yaml").ledger
run("hostile", runs=100, seed=7, engine="py-evm", jobs=2)
"""

from __future__ import annotations

import html
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from stakesim.backend import BackendError
from stakesim.evm.compiler import Artifact
from stakesim.evm.contract_file import load_contract
from stakesim.evm.required_abi import missing_extension, own_transactions
from stakesim.generate.random_scenario import generate, load_profile
from stakesim.project import current_project
from stakesim.runner import ledger, scenario_files
from stakesim.runner.environment import Environment, default_engine, open_environment
from stakesim.runner.findings import Finding, stories
from stakesim.runner.scenario_run import Played, run_scenario
from stakesim.scenario.actions import Terms
from stakesim.scenario.scenario import Scenario, ScenarioError, load
from stakesim.search.backend_fault import tell_fault
from stakesim.search.diagnosis import crowd, probes, tell_weakness, weakest
from stakesim.search.shrink import shrunk
from stakesim.search.walks import walk
from stakesim.workers.pool import worker_pool

if TYPE_CHECKING:
    import pandas as pd

MUST_REACH = {
    "no-shows": "no no-show",
    "bookings cancelled": "no cancelled booking",
    "runs cancelled": "no cancelled run",
    "rejected or reverted": "no rejected action",
    "price swing": "no price swing",
}
BATCH = 4
"""Scenarios a worker takes at a time."""

Progress = Callable[[Played], None]


@dataclass
class Result:
    """What came of a run. findings are empty when everything that must hold did."""

    played: list[Played]
    findings: list[Finding]
    reached: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def rows(self) -> list[ledger.Row]:
        return [row for played in self.played for row in played.rows]

    @property
    def ledger(self) -> pd.DataFrame:
        """Every action and payout; see `stakesim.runner.ledger.Row` for the columns."""
        return ledger.to_frame(self.rows)

    @property
    def transactions(self) -> int:
        return sum(played.transactions for played in self.played)

    def summary(self) -> str:
        """One sentence."""
        verdict = "everything that must hold held" if self.ok else f"{len(self.findings)} findings"
        return (
            f"{len(self.played)} scenarios, {sum(p.steps for p in self.played)} steps, "
            f"{self.transactions} transactions in {self.seconds:.1f} s: {verdict}"
        )

    def __repr__(self) -> str:
        return f"<Result {self.summary()}>"

    def _repr_html_(self) -> str:
        """For notebooks: the verdict, the findings' stories, and what was reached."""
        told = "".join(f"<pre>{html.escape(story)}</pre>" for story in stories(self.findings))
        cells = "".join(f"<tr><td>{html.escape(k)}</td><td>{n}</td></tr>" for k, n in sorted(self.reached.items()))
        colour = "#1a7f37" if self.ok else "#b42318"
        return (
            f'<p style="color:{colour}"><b>{"PASS" if self.ok else "FINDINGS"}</b> {html.escape(self.summary())}</p>'
            f"{told}<details><summary>reached</summary><table>{cells}</table></details>"
        )


def run(
    what: str | Path | Scenario | Iterable[str | Path | Scenario],
    engine: str | None = None,
    runs: int = 1,
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
    driver: str | None = None,
    steps: int | None = None,
    contract: Artifact | None = None,
    terms: Terms | None = None,
    dask: str | None = None,
    probing: bool = True,
) -> Result:
    """Plays scenarios and returns what came of them. Of a random one that fails, the shortest story is told.

    Args:
        what: A scenario, a scenario file or its name, the name of a profile or of a population, or several of these.
        engine: "py-evm", "revm", "anvil" or "rpc:URL"; None: py-evm, or revm for the contract driver where it is
            installed.
        runs: How many scenarios to draw from each profile or population.
        seed: From which seed they are drawn.
        jobs: Processes to run them in.
        progress: Called with each scenario that was run, in the order they finish.
        driver: "contract" for the contract alone, or a way to call the project's backend, as "services" or "api";
            None: the backend's first, or "contract" where there is none.
        steps: Draw walks of so many actions from a profile, instead of lifecycles of a run or two.
        contract: What is deployed (`stakesim.evm.contract_file.load_contract`); None: the project's contract, else the
            packaged `EventStake`. Each weakness of another one is told once, and each fault of a backend.
        terms: Of the contract, in the drawn scenarios.
        dask: Address of a Dask scheduler, whose workers run them instead (docs/CLUSTER.md).
        probing: Of another contract than `EventStake`, also try its own functions and its largest run.

    Raises:
        ScenarioError: A file can't be read, or there is no such profile.
        EngineError: The engine or the workers can't be had, or the contract can't be driven.
        ProjectError: There is no such driver, or the backend that `[tool.stakesim]` names can't be loaded.
        BackendError: The backend can't be opened.
    """
    began = time.perf_counter()
    if contract is None and (own := current_project().contract):
        contract = load_contract(own)
    items = [what] if isinstance(what, str | Path | Scenario) else list(what)
    scenarios, drawn = _scenarios(items, runs, seed, steps, terms)
    if contract and probing:
        scenarios += probes(own_transactions(contract.abi))
    played = sorted(
        _play_all(scenarios, (engine, contract, driver), jobs, dask, progress, probing),
        key=lambda numbered: numbered[0],
    )
    plays = [p for _, p in played]
    result = Result(plays, weakest(plays))
    for one in result.played:
        result.reached += one.reached
    result.reached["rejected or reverted"] = result.reached["rejected"] + result.reached["reverted"]
    lacking = {"bookings cancelled"} if contract and "cancelBooking" in missing_extension(contract.abi) else set()
    missing = [said for key, said in MUST_REACH.items() if not result.reached[key] and key not in lacking]
    if drawn > 1 and missing:
        message = f"the campaign reached {', '.join(missing)}: draw more scenarios (--runs) or another profile"
        statement = "a campaign reaches what it is to test"
        result.findings.append(Finding("VACUOUS", statement, message, engine=engine or default_engine(driver or "")))
    left_out = sorted(key for key in result.reached if key.startswith("not supported: "))
    if left_out and not result.transactions:
        names = ", ".join(key.removeprefix("not supported: ") for key in left_out)
        message = f"nothing was played, as contract or backend have no {names}"
        result.findings.append(Finding("VACUOUS", "a campaign reaches what it is to test", message))
    result.seconds = time.perf_counter() - began
    return result


def _scenarios(
    items: Sequence[str | Path | Scenario], runs: int, seed: int, steps: int | None, terms: Terms | None
) -> tuple[list[Scenario], int]:
    """All scenarios in order, and how many of them were drawn at random."""
    scenarios: list[Scenario] = []
    drawn = 0
    for item in items:
        if isinstance(item, Scenario):
            scenarios.append(item)
        elif file := scenario_files.file_of(str(item)):
            scenarios.append(load(file))
        else:
            draw = _draw(str(item), steps, terms)
            scenarios += [draw(seed, index) for index in range(runs)]
            drawn += runs
    return scenarios, drawn


def _draw(name: str, steps: int | None, terms: Terms | None) -> Callable[[int, int], Scenario]:
    """Scenario number `index` of a seed, by the profile or the population of that name."""
    profiles, populations = scenario_files.profiles(), scenario_files.populations()
    if name in populations:
        from stakesim.population import to_scenario
        from stakesim.population.population import load_population

        if steps:
            raise ScenarioError(f"{name} is a population, and takes no walks: name a profile instead")
        population = load_population(populations[name])
        return partial(to_scenario.generate, population.model_copy(update={"terms": terms}) if terms else population)
    if name not in profiles:
        raise ScenarioError(
            f"{name} is neither a scenario file (.yaml) nor its name, nor a profile ({', '.join(profiles)}), nor a "
            f"population ({', '.join(populations)})"
        )
    profile = load_profile(profiles[name])
    profile = profile.model_copy(update={"terms": terms}) if terms else profile
    return partial(partial(walk, steps=steps) if steps else generate, profile)


Where: TypeAlias = tuple[str | None, Artifact | None, str | None]
"""Engine, contract and driver."""


def _play_all(
    scenarios: Sequence[Scenario],
    where: Where,
    jobs: int,
    dask: str | None,
    progress: Progress | None,
    probing: bool,
) -> Iterator[tuple[int, Played]]:
    numbered = list(enumerate(scenarios))
    if not dask and (jobs <= 1 or len(scenarios) <= BATCH):
        with closing(open_environment(*where)) as environment:
            for number, scenario in numbered:
                played = _play(environment, scenario, number)
                if progress:
                    progress(played)
                yield number, played
            if environment.foreign and probing:
                yield from _play_last(environment, len(numbered))
        return
    batches = [numbered[i : i + BATCH] for i in range(0, len(numbered), BATCH)]
    with worker_pool(min(jobs, len(batches)), dask=dask, open_resource=partial(open_environment, *where)) as submit:
        calls = [submit(_play_batch, batch) for batch in batches]
        if where[1] is not None and probing:
            calls.append(submit(_play_last, len(numbered)))
        for done in as_completed(calls):
            for number, played in done.result():
                if progress and number < len(numbered):
                    progress(played)
                yield number, played


def _play_batch(environment: Environment, batch: Sequence[tuple[int, Scenario]]) -> list[tuple[int, Played]]:
    return [(number, _play(environment, scenario, number)) for number, scenario in batch]


def _play(environment: Environment, scenario: Scenario, number: int) -> Played:
    try:
        played = run_scenario(environment, scenario, number)
    except BackendError as error:
        if not environment.scenarios:  # nothing would be lost
            raise
        message = f"the backend could not start the scenario: {error}"
        finding = Finding("CRASH", "whatever fails, fails with a typed error", message, scenario, step=1)
        return Played(scenario, environment.engine.name, environment.driver, findings=[finding])
    environment.scenarios += 1
    if played.findings and environment.network is not None:
        played = tell_fault(environment, played, environment.weaknesses)
        if played.findings[0].weakness:
            return played
    if played.findings and environment.foreign:
        return tell_weakness(environment, played, environment.weaknesses)
    if played.findings and scenario.origin and "index" in scenario.origin:
        return shrunk(environment, played)
    return played


def _play_last(environment: Environment, number: int) -> list[tuple[int, Played]]:
    """The largest run that a contract written elsewhere takes."""
    played = crowd(environment)
    return [(number, tell_weakness(environment, played, environment.weaknesses) if played.findings else played)]

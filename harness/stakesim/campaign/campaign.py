"""Runs many scenarios: scripted files, random campaigns, or both; in one process or several.

from stakesim import run
run("scenarios/no-show.yaml").ledger
run("hostile", runs=100, seed=7, engine="py-evm", jobs=2)
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from stakesim.campaign.execution import Progress, Setup, run_all
from stakesim.campaign.result import VACUOUS, CampaignResult
from stakesim.campaign.selection import Item, is_drawn, select
from stakesim.evm.compiler import Artifact
from stakesim.evm.contract_file import load_contract
from stakesim.evm.required_abi import missing_extension, own_transactions
from stakesim.project import current_project
from stakesim.runner.environment import default_engine
from stakesim.runner.findings import Finding
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.scenario.actions import Terms
from stakesim.scenario.scenario import Scenario
from stakesim.search.diagnosis import shortest_findings

MUST_REACH = {
    "no-shows": "no no-show",
    "bookings cancelled": "no cancelled booking",
    "runs cancelled": "no cancelled run",
    "rejected or reverted": "no rejected action",
    "price swing": "no price swing",
}
"""What a campaign of several drawn scenarios must reach, and how it is reported if it is not reached."""
_REACHED_BY = {"no-shows": "complete", "bookings cancelled": "cancel_booking", "runs cancelled": "cancel_run"}
"""The actions without which that is not reached; a backend need not have them."""
MUST_REACH_IN_INR = {
    "payments captured": "no captured payment",
    "payments expired": "no expired payment",
    "payments refunded": "no refunded payment",
    "payments disputed": "no disputed payment",
}
"""What a campaign of many scenarios of profiles must reach as well, if people pay in INR."""
MANY = 100
MOST_DRAWS = 8
"""How often scenarios are drawn until they have reached what they must."""
_OTHER_SEED = 2**32
"""Between the seeds of draws, so that those of one campaign are not those of the next seed's."""
_VACUOUS = (VACUOUS, "a campaign reaches what it is to test")
_NOT_SUPPORTED = "not supported: "


def run(
    what: Item | Iterable[Item],
    engine: str | None = None,
    *,
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
    seconds: float | None = None,
    limit: float | None = None,
    interruptible: bool = False,
) -> CampaignResult:
    """Runs scenarios, and diagnoses and shrinks those that fail.

    Args:
        what: Scenarios, or files or names of them, or names of profiles or populations.
        engine: "py-evm", "revm", "anvil" or "rpc:URL"; None: py-evm, or revm for the contract driver where it is
            installed.
        runs: How many scenarios to draw from each profile or population.
        seed: Seed of the draws.
        jobs: Number of processes.
        progress: Called with the result of each scenario, in the order in which they finish.
        driver: "contract" for the contract alone, or a way to call the project's backend, as "services" or "api";
            None: the backend's first, or "contract" where there is none.
        steps: Draw walks of so many actions from a profile, instead of lifecycles of a run or two.
        contract: The stake contract (`stakesim.evm.contract_file.load_contract`); None: the project's contract, else
            the packaged `EventStake`. Each weakness of another contract, and each fault of a backend, is reported once.
        terms: The terms that the contract is deployed with: those of a contract whose constructor takes none, and the
            usual ones in drawn scenarios, of which some have others. None: the contract's own, or the profile's.
        dask: Address of a Dask scheduler, whose workers run the scenarios instead (docs/CLUSTER.md).
        probing: Of another contract than `EventStake`, also try its own functions and its largest run.
        seconds: Draw from each profile and population for this time, instead of `runs` scenarios. The ledger has drawn
            scenarios only if they fail.
        limit: Seconds after which no scenario is begun any more, except the first one. All profiles have then had
            about as many.
        interruptible: Ctrl-C ends the campaign and gives the result so far; otherwise it is raised.

    Raises:
        InputError: A file can't be read, there is no such profile, or there is none to draw from for a time.
        EngineError: The engine or the workers can't be had, or the contract can't be driven.
        ProjectError: There is no such driver, or the backend that `[tool.stakesim]` names can't be loaded.
        BackendError: The backend can't be opened.
    """
    began = time.perf_counter()
    if contract is None and (project_contract := current_project().contract):
        contract = load_contract(project_contract)
    items = [what] if isinstance(what, str | Path | Scenario) else list(what)
    selection = select(items, runs=runs if seconds is None else 0, seed=seed, steps=steps, terms=terms)
    scenarios, drawn = selection.scenarios, selection.drawn
    probing = probing and contract is not None
    if contract and probing:
        from stakesim.search.probes import function_probes, view_probe

        scenarios += [*function_probes(own_transactions(contract.abi)), view_probe(contract.abi)]
    in_time = _InTime(scenarios, limit)
    results, interrupted = run_all(
        in_time if seconds is None else chain(in_time, selection.draw_for(seconds, seed)),
        Setup(engine, contract, driver, terms),
        jobs=jobs,
        dask=dask,
        progress=progress,
        probes_largest_run=probing,
        keeps_all=seconds is None,
        interruptible=interruptible,
    )
    if seconds is not None:
        drawn = sum(is_drawn(each.scenario) for each in results)
    result = CampaignResult(results, shortest_findings(results), left=in_time.left, interrupted=interrupted)
    for scenario_result in results:
        result.reached.update(scenario_result.reached)
    result.reached["rejected or reverted"] = result.reached["rejected"] + result.reached["reverted"]
    if drawn > 1 and not interrupted:
        result.findings += _unreached(result, contract, engine or default_engine(driver or ""))
    result.findings += _nothing_run(result)
    result.seconds = time.perf_counter() - began
    return result


class _InTime:
    """Scenarios one by one until a time limit, the first ones drawn from each profile before the second ones.

    The first one is given out even when the time is up.

    Attributes:
        left: How many were not given out.
    """

    def __init__(self, scenarios: Sequence[Scenario], limit: float | None) -> None:
        self._ends = None if limit is None else time.monotonic() + limit
        self._waiting = deque(scenarios if limit is None else sorted(scenarios, key=_index))

    def __iter__(self) -> Iterator[Scenario]:
        given = False
        while self._waiting and (not given or self._ends is None or time.monotonic() < self._ends):
            given = True
            yield self._waiting.popleft()

    @property
    def left(self) -> int:
        return len(self._waiting)


def _index(scenario: Scenario) -> int:
    return int((scenario.origin or {}).get("index", 0))


def draw_on(
    draw: Callable[[int], CampaignResult],
    seed: int,
    contract: Artifact | None,
    goes_on: Callable[[], bool] = lambda: True,
) -> CampaignResult:
    """Draws scenarios, and more of them as long as they reach too little by chance.

    Args:
        draw: Runs a campaign with this seed.
        seed: Seed of the first one.
        contract: As in `run`.
        goes_on: Whether there is time for another one.
    """
    result = draw(seed)
    for again in range(1, MOST_DRAWS):
        if not result.is_vacuous or not goes_on():
            break
        result = _joined(result, draw(seed + again * _OTHER_SEED), contract)
    return result


def _joined(one: CampaignResult, other: CampaignResult, contract: Artifact | None) -> CampaignResult:
    """Joins two campaigns of drawn scenarios, and judges anew whether they reached what they must."""
    results = [*one.results, *(_renumbered(each, by=len(one.results)) for each in other.results)]
    result = CampaignResult(results, shortest_findings(results), seconds=one.seconds + other.seconds, left=one.left)
    for each in (one, other):
        result.reached.update(each.reached)
    result.interrupted = other.interrupted
    if not result.interrupted:
        result.findings += _unreached(result, contract, results[0].engine)
    result.findings += _nothing_run(result)
    return result


def _renumbered(result: ScenarioResult, *, by: int) -> ScenarioResult:
    return replace(result, rows=[row._replace(run=row.run + by) for row in result.rows])


def _unreached(result: CampaignResult, contract: Artifact | None, engine: str) -> Iterator[Finding]:
    """A finding if the campaign did not reach what it must, and the contract allows."""
    impossible = {"bookings cancelled"} if contract and "cancelBooking" in missing_extension(contract.abi) else set()
    impossible |= {reached for reached, action in _REACHED_BY.items() if action in unsupported(result)}
    must_reach = dict(MUST_REACH)
    if _draws_many_payments(result):
        must_reach |= MUST_REACH_IN_INR
    missing = [text for key, text in must_reach.items() if not result.reached[key] and key not in impossible]
    if missing:
        message = f"the campaign reached {', '.join(missing)}: draw more scenarios (--runs) or another profile"
        yield Finding(*_VACUOUS, message, engine=engine)


def _draws_many_payments(result: CampaignResult) -> bool:
    """Whether many scenarios are from profiles, and some payment was made or left out."""
    from_profiles = sum("profile" in (one.scenario.origin or {}) for one in result.results)
    return from_profiles >= MANY and any(result.reached[key] for key in MUST_REACH_IN_INR)


def unsupported(result: CampaignResult) -> dict[str, int]:
    """Actions and terms that contract or backend do not support, and how often each was left out."""
    return {
        key.removeprefix(_NOT_SUPPORTED): count
        for key, count in sorted(result.reached.items())
        if key.startswith(_NOT_SUPPORTED)
    }


def _nothing_run(result: CampaignResult) -> Iterator[Finding]:
    """A finding if every action was left out, as contract or backend do not support it."""
    if (left_out := unsupported(result)) and not result.transactions:
        message = f"nothing was run, as contract or backend have no {', '.join(left_out)}"
        yield Finding(*_VACUOUS, message)

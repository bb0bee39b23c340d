"""The gate: all checks that a contract must pass before it is deployed, with one verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from stakesim import gas_table
from stakesim.campaign import campaign
from stakesim.campaign.result import CampaignResult
from stakesim.errors import NotInstalled
from stakesim.evm import required_abi
from stakesim.evm.compiler import CONTRACTS, Artifact, CompileError, compile_contracts
from stakesim.evm.contract_file import load_contract
from stakesim.evm.errors import EngineError
from stakesim.gate.result import LONG_PARTS, REGRESSIONS, Effort, GatePart, GateResult, PartVerdict, ProfileName
from stakesim.runner import scenario_files
from stakesim.runner.environment import Environment, open_environment
from stakesim.scenario.actions import Terms
from stakesim.search.diagnosis import shortest_findings


def run_gate(
    contract: str | None = None,
    profile: ProfileName = "pr",
    engine: str = "revm",
    *,
    seed: int = 0,
    jobs: int = 2,
    terms: Terms | None = None,
    progress: Callable[[str], None] | None = None,
) -> GateResult:
    """Runs all parts of the gate.

    Args:
        contract: Solidity file or artifact, as `load_contract` takes it; by default the project's `EventStake`.
        profile: How much to run.
        engine: Engine to run on.
        seed: Of all random choices.
        jobs: Number of processes.
        terms: The terms that it is deployed with. Random scenarios usually have them, and often others.
        progress: Called with the name of each part when it begins.

    Raises:
        CompileError: The contract can't be compiled.
        EngineError: The contract can't be run at all.
    """
    started = time.perf_counter()
    artifact = load_contract(contract) if contract else compile_contracts()["EventStake"]
    gate = GateResult(artifact, contract, terms or Terms(), profile, engine, seed, jobs, given_terms=terms)
    for name, description, check in _checks(gate.effort):
        part = GatePart(name, description)
        if progress:
            progress(name)
        part_started = time.perf_counter()
        check(gate, part)
        part.seconds = time.perf_counter() - part_started
        gate.parts.append(part)
    gate.seconds = time.perf_counter() - started
    return gate


class _Check(NamedTuple):
    name: str
    description: str
    run: Callable[[GateResult, GatePart], None]


def _checks(effort: Effort) -> list[_Check]:
    slither, proofs = (partial(_static_analysis, tool=tool) for tool in ("slither", "halmos"))
    checks = [
        _Check("interface", "Its functions and events are those that the service uses.", _interface),
        _Check("scripted", "Scenarios of hosts, attendees and the platform, written in files.", _scripted),
        _Check(REGRESSIONS, "Scenarios that once failed.", _regressions),
        _Check("random", f"{effort.runs} random scenarios of each profile, from calm to hostile.", _random),
        _Check("hostile", f"{effort.walks} random walks of {effort.steps} actions, many against the rules.", _hostile),
        _Check("stateful", f"{effort.examples} searches of {effort.moves} actions each for a failure.", _stateful),
        _Check("calls", "Every function, by everybody, at every edge: a guided search.", _calls),
        _Check("gas", "The gas of each transaction, compared with the reviewed gas.", _gas),
        _Check("coverage", "Whether all lines ran, and each condition was both true and false.", _coverage),
        _Check("slither", "slither looks for known mistakes; each finding is triaged.", slither),
        _Check("proofs", "halmos proves payouts for any price and any attendance.", proofs),
        _Check("mutants", "Small faults are inserted into the contract: each must be found.", _mutants),
        _Check("faults", "Lost responses, reorgs, killed processes: nothing is lost or paid twice.", _faults),
    ]
    left_out = () if effort.faults else LONG_PARTS
    return [check._replace(run=_too_long) if check.name in left_out else check for check in checks]


def _too_long(gate: GateResult, part: GatePart) -> None:
    part.not_tried(f"It is no part of the profile {gate.profile}: use --profile nightly or release.")


# ---------------------------------------------------------------------------------------------------------- interface


def interface_problems(artifact: Artifact) -> list[str]:
    """One sentence for each function or event that differs from `contracts/abi/deployed.json`.

    Functions that only `EventStake` has may be missing, and are compared if they are there.
    """
    differences = [difference.text for difference in required_abi.differences(artifact.abi)]
    return [f"{problem}." for problem in [*required_abi.missing(artifact.abi), *differences]]


def _interface(gate: GateResult, part: GatePart) -> None:
    part.problems = interface_problems(gate.artifact)
    part.passes_if(not part.problems)
    part.figures = {"functions": sum(item["type"] == "function" for item in gate.artifact.abi)}


# ---------------------------------------------------------------------------------------------------------- scenarios


def _scripted(gate: GateResult, part: GatePart) -> None:
    files = scenario_files.scripted(include_shipped=True)
    _add_result(gate, part, _campaign(gate, files))


def _regressions(gate: GateResult, part: GatePart) -> None:
    files = scenario_files.regressions()
    if not files:
        part.not_tried("The project has none: `stakesim run --keep` makes one of each failure.")
        return
    _add_result(gate, part, _campaign(gate, files))


def _campaign(gate: GateResult, files: Sequence[Path]) -> CampaignResult:
    return campaign.run(files, engine=gate.engine, contract=gate.foreign_artifact, terms=gate.given_terms)


def _random(gate: GateResult, part: GatePart) -> None:
    _add_result(gate, part, _random_campaign(gate, list(scenario_files.profiles()), runs=gate.effort.runs))


def _hostile(gate: GateResult, part: GatePart) -> None:
    _add_result(gate, part, _random_campaign(gate, ["hostile"], runs=gate.effort.walks, steps=gate.effort.steps))


def _random_campaign(gate: GateResult, profiles: list[str], *, runs: int, steps: int | None = None) -> CampaignResult:
    """Draws scenarios, and more of them if the first ones reached too little by chance."""

    def draw(seed: int) -> CampaignResult:
        return campaign.run(
            profiles,
            engine=gate.engine,
            runs=runs,
            seed=seed,
            jobs=gate.jobs,
            steps=steps,
            contract=gate.foreign_artifact,
            terms=gate.given_terms,
            probing=False,  # the scripted part has probed it
        )

    result = draw(gate.seed)
    for again in range(1, _MOST_DRAWS):
        if not _is_vacuous(result):
            break
        result = campaign.joined(result, draw(gate.seed + again * _OTHER_SEED), gate.foreign_artifact)
    return result


_MOST_DRAWS = 4
_OTHER_SEED = 2**32
"""Between the seeds of draws, so that those of one gate are not those of the next seed's."""


def _is_vacuous(result: CampaignResult) -> bool:
    """Whether nothing is wrong but that too little was reached."""
    return bool(result.findings) and all(finding.id == campaign.VACUOUS for finding in result.findings)


def _open_environment(gate: GateResult) -> Environment:
    return open_environment(gate.engine, gate.foreign_artifact, terms=gate.given_terms)


def _add_result(gate: GateResult, part: GatePart, result: CampaignResult) -> None:
    """Adds the result of a campaign to its part and to the gate."""
    part.passes_if(result.ok)
    if _is_vacuous(result) or not result.results:
        part.verdict = PartVerdict.VACUOUS
    part.findings = result.findings
    part.left_out = list(campaign.unsupported(result))
    gate.rows += result.rows
    gate.reached += result.reached
    steps = sum(scenario.steps for scenario in result.results)
    part.figures = {"scenarios": len(result.results), "steps": steps, "transactions": result.transactions}


def _stateful(gate: GateResult, part: GatePart) -> None:
    from stakesim.search.stateful import search

    with closing(_open_environment(gate)) as environment:
        failures = search(environment, gate.effort.examples, gate.effort.moves, gate.seed, terms=gate.given_terms)
    part.passes_if(not failures)
    part.findings = shortest_findings(failures)
    part.figures = {"examples": gate.effort.examples, "steps each": gate.effort.moves}


def _calls(gate: GateResult, part: GatePart) -> None:
    from stakesim.search.contract_search import confirm, open_search

    try:
        search = open_search(gate.artifact, gate.seed, terms=gate.given_terms)
    except (EngineError, NotInstalled) as error:
        part.not_tried(f"Not searched: {error}")
        return
    search.run(watch=lambda: search.moves < gate.effort.calls and len(search.findings) < _MOST_FOUND)
    part.findings = [finding for found in confirm(search) for finding in found.findings]
    part.passes_if(not part.findings)
    part.left_out = [f"calls in the world of {world} ({reason})" for world, reason in search.skipped.items()]
    part.figures = {"calls": search.moves, "sequences": search.sequences}


_MOST_FOUND = 20
"""Findings after which the guided search ends: each is made short, and told."""


# ------------------------------------------------------------------------------------------------ gas and source code


def _gas(gate: GateResult, part: GatePart) -> None:
    with closing(_open_environment(gate)) as environment:
        try:
            measured = gas_table.measure(environment)
        except gas_table.GasError as error:
            part.not_tried(f"Not measured, as the contract fails: {error}.")
            return
    part.figures = {"transactions": len(measured)}
    if not gate.is_own:
        gate.gas = gas_table.changes({}, measured)
        return
    gate.gas = gas_table.changes(gas_table.reviewed(), measured)
    part.problems = [
        f"{change.transaction}: was {change.reviewed}, is {change.measured}"
        for change in gate.gas
        if not change.accepted
    ]
    part.passes_if(not part.problems)


def _coverage(gate: GateResult, part: GatePart) -> None:
    from stakesim.gate.coverage import measure_coverage

    if not _has_source(gate):
        part.not_tried("Not measured: it needs the source, and an artifact has none.")
        return
    try:
        coverage = measure_coverage(gate.contract, _contract_tests(gate))
    except (CompileError, EngineError) as error:
        _could_not_run(gate, part, f"Not measured: {error}")
        return
    gate.coverage, gate.source = coverage, Path(coverage.file).read_text(encoding="utf-8")
    part.problems = [f"line {line} did not run" for line in coverage.missed_lines]
    part.problems += [f"line {branch.line}: not both ways: {branch.condition}" for branch in coverage.missed_branches]
    part.figures = {"lines": coverage.line_count, "branches": coverage.branch_count}
    part.passes_if(not gate.is_own or not part.problems)


def _mutants(gate: GateResult, part: GatePart) -> None:
    from stakesim.gate.mutation_result import MutantStatus
    from stakesim.gate.mutation_run import DEPLOYED_SAMPLE, mutate

    if not _has_source(gate):
        part.not_tried("No mutants: they need the source, and an artifact has none.")
        return
    try:
        result = mutate(
            gate.contract, gate.engine, jobs=gate.jobs, tests=_contract_tests(gate), deployed=DEPLOYED_SAMPLE
        )
    except (CompileError, EngineError) as error:
        _could_not_run(gate, part, f"No mutants: {error}")
        return
    part.passes_if(result.passed)
    part.problems = [f"not found: {verdict.mutant.key}" for verdict in result.with_status(MutantStatus.SURVIVED)]
    part.problems += [f"listed as equivalent, and not made: {key}" for key in result.stale]
    part.figures = {
        str(status): len(result.with_status(status)) for status in MutantStatus if status is not MutantStatus.INVALID
    }


def _has_source(gate: GateResult) -> bool:
    return gate.contract is None or not gate.contract.endswith(".json")


def _contract_tests(gate: GateResult) -> Path | None:
    """This repository's tests of its own contract, in a checkout."""
    tests = CONTRACTS.parent / "tests" / "contracts"
    return tests if gate.is_own and tests.is_dir() else None


def _could_not_run(gate: GateResult, part: GatePart, reason: str) -> None:
    """Fails the part for the project's own contract. For another one the campaigns already show what is wrong."""
    part.not_tried(reason)
    if gate.is_own:
        part.verdict = PartVerdict.FAIL


# -------------------------------------------------------------------------------------------------------- other tools


def _static_analysis(gate: GateResult, part: GatePart, tool: str) -> None:
    from stakesim.gate.static_analysis import TOOLS

    if not gate.is_own:
        part.not_tried("Not run: it is set up for the project's own contract.")
        return
    try:
        report = TOOLS[tool]()
    except EngineError as error:
        part.not_tried(f"Not run: {error}")
        return
    part.problems, part.figures = list(report.problems), dict(report.figures)
    part.passes_if(not part.problems)


def _faults(gate: GateResult, part: GatePart) -> None:
    from stakesim.faults import campaign as fault_campaign
    from stakesim.project import current_project

    if current_project().faults is None:
        part.not_tried("Not run: the project names no `faults` in [tool.stakesim].")
        return
    result = fault_campaign.run(fault_campaign.plan(gate.effort.faults), gate.seed, jobs=gate.jobs)
    part.passes_if(result.ok)
    part.problems = list(result.narratives())
    part.figures = {"faults": result.injected.total(), "episodes": len(result.episodes)}

"""The gate: all checks that a contract must pass before it is deployed, with one verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from traceback import format_exc
from typing import Any, NamedTuple

from stakesim import gas_table
from stakesim.campaign import campaign
from stakesim.campaign.result import CampaignResult
from stakesim.campaign.selection import select
from stakesim.errors import NotInstalled, StakesimError
from stakesim.evm import required_abi
from stakesim.evm.compiler import CONTRACTS, Artifact, compile_contracts
from stakesim.evm.contract_file import ContractPath, load_contract
from stakesim.evm.errors import EngineError
from stakesim.gate.beyond_abi import beyond_abi
from stakesim.gate.budget import Budget
from stakesim.gate.equivalent_mutants import load_equivalents
from stakesim.gate.hashes import contract_hashes, source_revision
from stakesim.gate.profiles import MOST_OF_WHOLE, REGRESSIONS, WHOLE, Effort, ProfileName
from stakesim.gate.result import GatePart, GateResult, PartVerdict
from stakesim.gate.source_parts import coverage_part, mutants_part
from stakesim.gate.static_analysis import ToolReport
from stakesim.gate.unreached import load_reasons
from stakesim.gate.verification import is_build_of
from stakesim.project import current_project
from stakesim.runner import scenario_files
from stakesim.runner.environment import Environment, open_environment
from stakesim.runner.scenario_result import ScenarioResult
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
    seconds: float | None = None,
    progress: Callable[[str], None] | None = None,
    ended: Callable[[GatePart], None] | None = None,
) -> GateResult:
    """Runs all parts of the gate. Ctrl-C ends it, and what was done is kept; it then passes in no case.

    What is wrong with the call is raised before anything runs. What goes wrong in a part afterwards fails that part,
    and the others go on: a report of hours is not lost.

    Args:
        contract: Solidity file or artifact, as `load_contract` takes it; by default the project's `EventStake`.
        profile: How much to run.
        engine: Engine to run on.
        seed: Of all random choices.
        jobs: Number of processes.
        terms: The terms that it is deployed with. Random scenarios usually have them, and often others. None: nobody
            asks for any, and a contract whose constructor takes none is judged by its own.
        seconds: Time for the whole gate; None: the profile's.
        progress: Called with the name of each part when it begins.
        ended: Called with each part when it has ended, or can't begin.

    Raises:
        CompileError: The contract can't be compiled.
        EngineError: The contract can't be run at all, the engine can't be opened, or a reviewed list can't be read.
        BackendError: The project's backend can't be opened.
        ProjectError: What `[tool.stakesim]` names can't be loaded.
        InputError: A scenario, or a profile, can't be read.
        GasError: The project's gas table can't be read.
    """
    started = time.perf_counter()
    if contract and _is_packaged(contract):
        contract = None
    artifact = load_contract(contract) if contract else compile_contracts()["EventStake"]
    gate = GateResult(artifact, contract, terms or Terms(), profile, engine, seed, jobs, given_terms=terms)
    gate.revision = source_revision(gate.file)
    is_changed = _has_changed(gate)  # never at first: it notes the hashes
    _check_call(gate)
    gate.minutes = gate.effort.minutes if seconds is None else seconds / 60
    budget = Budget(60 * gate.minutes, _usual_seconds(gate))
    for name, description, check in _checks(gate.effort):
        part = GatePart(name, description)
        gate.parts.append(part)
        if gate.interrupted:
            part.not_tried("Ctrl-C ended the gate before it began.")
        elif name in gate.effort.left_out:
            part.not_tried(f"It is no part of the profile {profile}: use --profile nightly or release.")
        elif budget.is_up and name in budget:
            part.out_of_time("nothing", "before it began")
        else:
            if progress:
                progress(name)
            part_started = time.perf_counter()
            part.ends = budget.begin(name, at_least=MOST_OF_WHOLE if name in WHOLE else 0.0)
            try:
                check(gate, part)
            except KeyboardInterrupt:
                gate.interrupted = True
                part.interrupted()
            except StakesimError as error:
                part.lost(str(error))
            except Exception:  # noqa: BLE001 - a bug of one part would lose the report of all others
                part.crashed(format_exc())
            part.seconds = time.perf_counter() - part_started
            if not (is_changed or gate.interrupted) and (is_changed := _has_changed(gate)):
                part.lost(
                    "The contract's source changed while the gate ran, and each part reads it anew: run it again."
                )
        if ended:
            ended(part)
    gate.seconds = time.perf_counter() - started
    return gate


def _is_packaged(contract: str) -> bool:
    """Whether it is the packaged `EventStake`, named by its file: more can be tried of it than of any other."""
    file, name = ContractPath.parse(contract)
    return file.resolve() == (CONTRACTS / "EventStake.sol").resolve() and name in (None, "EventStake")


def _has_changed(gate: GateResult) -> bool:
    """Whether the contract is not any more what the gate has begun with, by its hashes."""
    try:
        return contract_hashes(gate.artifact, gate.file) != gate.hashes
    except (StakesimError, OSError):  # a file is missing by now
        return True


def _check_call(gate: GateResult) -> None:
    """Raises what is wrong with contract, engine, project and its files, and sets the terms that the contract has."""
    with closing(_open_environment(gate)) as environment:
        gate.terms = gate.given_terms or environment.contract.traits.terms or Terms()
    files = [*scenario_files.scripted(include_shipped=True), *scenario_files.regressions()]
    select([*files, *scenario_files.profiles()], runs=0, seed=0, steps=None, terms=None)
    load_reasons(gate.file, gate.artifact.name)
    load_equivalents(gate.file, gate.artifact.name)
    if gate.is_own:
        gas_table.reviewed()


def _usual_seconds(gate: GateResult) -> dict[str, float]:
    """About what each part takes, without those that can't run on this contract."""
    impossible = set(gate.effort.left_out)
    if gate.file.suffix != ".sol":
        impossible |= {"coverage", "mutants"}
    if not gate.is_own:
        impossible |= {"slither", "proofs"}
    if _why_no_faults(gate):
        impossible.add("faults")
    return {name: usual for name, usual in gate.effort.usual_seconds.items() if name not in impossible}


class _Check(NamedTuple):
    name: str
    description: str
    run: Callable[[GateResult, GatePart], None]


def _checks(effort: Effort) -> list[_Check]:
    return [
        _Check("interface", "Its functions and events are those that the service uses.", _interface),
        _Check("scripted", "Scenarios of hosts, attendees and the platform, written in files.", _scripted),
        _Check(REGRESSIONS, "Scenarios that once failed.", _regressions),
        _Check("random", f"{effort.runs} random scenarios of each profile, from calm to hostile.", _random),
        _Check("hostile", f"{effort.walks} random walks of {effort.steps} actions, many against the rules.", _hostile),
        _Check("stateful", f"{effort.examples} searches of {effort.moves} actions each for a failure.", _stateful),
        _Check("calls", "Every function, by everybody, at every edge: a guided search.", _calls),
        _Check("gas", "The gas of each transaction, compared with the reviewed gas.", _gas),
        _Check("coverage", "Whether all lines ran, and each condition was both true and false.", coverage_part),
        _Check("slither", "slither looks for known mistakes; each finding is triaged.", _slither),
        _Check("proofs", "halmos proves the rules for any amounts, from any state.", _proofs),
        _Check("mutants", "Small faults are inserted into the contract: each must be found.", mutants_part),
        _Check("faults", "Lost responses, reorgs, killed processes: nothing is lost or paid twice.", _faults),
    ]


# ---------------------------------------------------------------------------------------------------------- interface


def interface_problems(artifact: Artifact) -> list[str]:
    """One sentence for each function or event that differs from `contracts/abi/deployed.json`.

    Functions that only `EventStake` has may be missing, and are compared if they are there.
    """
    differences = [difference.text for difference in required_abi.differences(artifact.abi)]
    return [f"{problem}." for problem in [*required_abi.missing(artifact.abi), *differences]]


def _interface(gate: GateResult, part: GatePart) -> None:
    with closing(_open_environment(gate)) as environment:
        code = environment.deployed_code(gate.terms)
    part.problems = interface_problems(gate.artifact)
    if len(gate.artifact.deployed_bytecode) > 2 and not is_build_of(code, gate.artifact):
        part.problems.append(
            "The constructor deploys other code than the runtime code (deployedBytecode), and not only other "
            "immutables: what is read from the one says nothing of the other."
        )
    part.passes_if(not part.problems)
    part.figures = {"functions": sum(item["type"] == "function" for item in gate.artifact.abi)}
    part.left_out += beyond_abi(gate.artifact, code)


# ---------------------------------------------------------------------------------------------------------- scenarios


def _scripted(gate: GateResult, part: GatePart) -> None:
    _add_result(gate, part, _campaign(gate, part, scenario_files.scripted(include_shipped=True)), "scripted scenarios")


def _regressions(gate: GateResult, part: GatePart) -> None:
    files = scenario_files.regressions()
    if not files:
        part.not_tried("The project has none: `stakesim run --keep` makes one of each failure.")
        return
    _add_result(gate, part, _campaign(gate, part, files), "regressions")


def _campaign(gate: GateResult, part: GatePart, files: Sequence[Path]) -> CampaignResult:
    return campaign.run(
        files,
        engine=gate.engine,
        contract=gate.foreign_artifact,
        terms=gate.given_terms,
        limit=part.seconds_left,
        interruptible=True,
    )


def _random(gate: GateResult, part: GatePart) -> None:
    profiles = list(scenario_files.profiles())
    _add_result(gate, part, _random_campaign(gate, part, profiles, runs=gate.effort.runs), "random scenarios")


def _hostile(gate: GateResult, part: GatePart) -> None:
    effort = gate.effort
    result = _random_campaign(gate, part, ["hostile"], runs=effort.walks, steps=effort.steps)
    _add_result(gate, part, result, "walks")


def _random_campaign(
    gate: GateResult, part: GatePart, profiles: list[str], *, runs: int, steps: int | None = None
) -> CampaignResult:
    """Draws scenarios, and more of them if the first ones reached too little by chance."""

    def draw(seed: int) -> CampaignResult:
        part.seeds.append(seed)
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
            limit=part.seconds_left,
            interruptible=True,
        )

    return campaign.draw_on(draw, gate.seed, gate.foreign_artifact, lambda: bool(part.seconds_left))


def _open_environment(gate: GateResult) -> Environment:
    return open_environment(gate.engine, gate.foreign_artifact, terms=gate.given_terms)


def _add_result(gate: GateResult, part: GatePart, result: CampaignResult, what: str) -> None:
    """Adds the result of a campaign to its part and to the gate; if Ctrl-C ended the campaign, it goes on from here."""
    part.passes_if(result.ok)
    if result.is_vacuous or not result.results:
        part.verdict = PartVerdict.VACUOUS
    part.findings = result.findings
    part.left_out = list(campaign.unsupported(result))
    gate.rows += result.rows
    gate.reached.update(result.reached)
    steps = sum(scenario.steps for scenario in result.results)
    part.figures = {"scenarios": len(result.results), "steps": steps, "transactions": result.transactions}
    part.played(len(result.results), len(result.results) + result.left, what)
    if result.interrupted:
        raise KeyboardInterrupt


def _stateful(gate: GateResult, part: GatePart) -> None:
    from stakesim.search.stateful import search

    part.seeds, effort, played = [gate.seed], gate.effort, 0

    def watch() -> bool:
        nonlocal played
        played += bool(part.seconds_left)
        return bool(part.seconds_left)

    failures: list[ScenarioResult] = []
    try:
        with closing(_open_environment(gate)) as environment:
            options: dict[str, Any] = {"terms": gate.given_terms, "watch": watch}
            for failure in search(environment, effort.examples, effort.moves, gate.seed, **options):
                failures.append(failure)
    finally:  # Ctrl-C loses none of them
        part.passes_if(not failures)
        part.findings = shortest_findings(failures)
        part.figures = {"examples": played, "steps each": effort.moves}
    part.played(played, effort.examples, "examples of the stateful search")


def _calls(gate: GateResult, part: GatePart) -> None:
    from stakesim.search.side_by_side import Searched, search_contract

    calls, seconds, searched = gate.effort.calls, part.seconds_left, Searched()
    try:
        searches = search_contract(
            gate.artifact, gate.seed, calls, jobs=gate.jobs, terms=gate.given_terms, seconds=seconds
        )
    except (EngineError, NotInstalled) as error:
        if gate.is_own and isinstance(error, EngineError):
            raise
        part.not_tried(f"Not searched: {error}")
        return
    try:
        for each in searches:
            searched.add(each)
    finally:  # Ctrl-C, or a worker that dies, loses nothing of the searches before
        part.seeds = searched.seeds
        part.findings = [finding for found in searched.findings.values() for finding in found]
        part.passes_if(not part.findings)
        part.figures = {"calls": searched.calls, "sequences": searched.sequences}
    for reason in dict.fromkeys(searched.skipped.values()):
        skipped = [what for what, why in searched.skipped.items() if why == reason]
        part.left_out.append(f"calls: {', '.join(skipped)} ({reason})")
    if searched.cut:
        part.played(searched.calls, calls, "calls")
    for trouble in searched.troubles:
        part.lost(trouble)


# ------------------------------------------------------------------------------------------------ gas and source code


def _gas(gate: GateResult, part: GatePart) -> None:
    with closing(_open_environment(gate)) as environment:
        try:
            measured = gas_table.measure(environment)
        except gas_table.GasError as error:
            if gate.is_own:
                raise
            part.not_tried(f"Not measured, as the contract fails: {str(error).rstrip('.')}.")
            return
    part.figures = {"transactions": len(measured)}
    reviewed = gas_table.reviewed() if gate.is_own else {}
    gate.gas = gas_table.changes(reviewed, measured)
    if not gate.is_own:  # which no table is of
        part.left_out.append("gas compared with reviewed gas")
        return
    if not reviewed:
        part.not_tried(
            f"Measured, and compared with nothing, as {gas_table.table_file()} is not there, or of another compiler: "
            "review what `stakesim gas` shows, and write it with `stakesim gas --write`."
        )
        return
    part.problems = [
        f"{change.transaction}: was {change.reviewed}, is {change.measured}"
        for change in gate.gas
        if not change.accepted
    ]
    part.passes_if(not part.problems)


# -------------------------------------------------------------------------------------------------------- other tools


def _slither(gate: GateResult, part: GatePart) -> None:
    from stakesim.gate.static_analysis import slither

    _static_analysis(gate, part, "slither", slither)


def _proofs(gate: GateResult, part: GatePart) -> None:
    from stakesim.gate.proofs import properties
    from stakesim.gate.static_analysis import halmos

    _static_analysis(gate, part, "halmos", partial(halmos, long=True, seconds=part.seconds_left))
    if part.verdict is not PartVerdict.NOT_TRIED:
        part.played(part.figures["properties"], len(properties()), "proofs")


def _static_analysis(gate: GateResult, part: GatePart, program: str, tool: Callable[[], ToolReport]) -> None:
    from stakesim.gate.proof_tools import installed

    if not gate.is_own:
        part.not_tried("Not run: it is set up for the project's own contract.")
        return
    try:
        installed(program)
    except EngineError as error:
        part.not_tried(f"Not run: {error}")
        return
    report = tool()
    gate.analyses.append(report)
    part.problems, part.figures = list(report.problems), dict(report.figures)
    part.passes_if(not part.problems)
    if report.interrupted:
        raise KeyboardInterrupt


def _why_no_faults(gate: GateResult) -> str:
    """Why there is no service to inject faults into; empty if there is one."""
    project = current_project()
    if project.faults is None:
        return "the project names no `faults` in [tool.stakesim]."
    if not _is_contract(gate, project.contract):
        return "the service whose faults the project names uses the project's own contract."
    return ""


def _is_contract(gate: GateResult, other: str | None) -> bool:
    """Whether `other`, as `--contract` takes it, is the gate's contract, however the two are spelled."""
    if other is None:
        return gate.contract is None or _is_packaged(gate.contract)
    file, name = ContractPath.parse(other)
    return file.resolve() == gate.file.resolve() and name in (None, gate.artifact.name)


def _faults(gate: GateResult, part: GatePart) -> None:
    from stakesim.faults import campaign as fault_campaign
    from stakesim.faults.limited_runner import LimitedRunner

    if reason := _why_no_faults(gate):
        part.not_tried(f"Not run: {reason}")
        return
    try:
        LimitedRunner(fault_campaign.project_campaign()).close()
    except StakesimError as error:
        part.not_tried(f"Not run: {error}")
        return
    part.seeds, names = [gate.seed], fault_campaign.plan(gate.effort.faults)
    result = fault_campaign.run(names, gate.seed, jobs=gate.jobs, seconds=part.seconds_left)
    part.passes_if(result.ok)
    part.problems = list(result.narratives())
    part.figures = {"faults": result.injected.total(), "episodes": len(result.episodes)}
    if result.trouble:
        part.lost(result.trouble)
        return
    part.played(len(result.episodes), len(names), "episodes of faults")
    if result.interrupted:
        raise KeyboardInterrupt

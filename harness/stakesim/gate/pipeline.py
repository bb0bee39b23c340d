"""The gate: everything that a contract has to pass before it is deployed, in one verdict."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from stakesim.campaign import campaign
from stakesim.campaign.result import CampaignResult
from stakesim.evm.compiler import CONTRACTS, Artifact, CompileError, compile_contracts
from stakesim.evm.contract_file import load_contract
from stakesim.evm.coverage import Coverage
from stakesim.evm.errors import EngineError
from stakesim.gate import gas
from stakesim.gate.conformance import differences
from stakesim.runner import scenario_files
from stakesim.runner.environment import open_environment
from stakesim.runner.findings import Finding
from stakesim.runner.ledger import LedgerRow
from stakesim.runner.narrative import narratives
from stakesim.scenario.actions import Terms
from stakesim.search.contract_diagnosis import classify

ProfileName = Literal["pr", "nightly"]


@dataclass(frozen=True)
class Intensity:
    """runs: scenarios of each profile. walks, steps: of the hostile fuzzer. examples, moves: of the stateful search.
    faults: episodes, and whether mutants and proofs are in it too, where more than none."""

    runs: int
    walks: int
    steps: int
    examples: int
    moves: int
    faults: int


INTENSITY: Mapping[ProfileName, Intensity] = {
    "pr": Intensity(runs=40, walks=150, steps=30, examples=40, moves=40, faults=0),
    "nightly": Intensity(runs=500, walks=2_000, steps=50, examples=500, moves=50, faults=100),
}


@dataclass
class Part:
    """One thing that was tried. ok: None where it could not be, and `problems` says why."""

    name: str
    tried: str
    ok: bool | None = True
    problems: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def stories(self) -> list[str]:
        return narratives(self.findings)


@dataclass
class Gate:
    """What came of it. given: the contract as it was named; None: the project's own."""

    artifact: Artifact
    given: str | None
    terms: Terms
    profile: ProfileName
    engine: str
    seed: int
    parts: list[Part] = field(default_factory=list)
    rows: list[LedgerRow] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)
    gas: list[gas.Change] = field(default_factory=list)
    coverage: Coverage | None = None
    source: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Nothing failed; what could not be tried is said, and does not count."""
        return not any(part.ok is False for part in self.parts)


Progress = Callable[[str], None]


def gate(
    contract: str | None = None,
    profile: ProfileName = "pr",
    engine: str = "revm",
    seed: int = 0,
    jobs: int = 2,
    terms: Terms | None = None,
    progress: Progress | None = None,
) -> Gate:
    """Tries everything, and returns what came of it.

    contract: a Solidity file or an artifact; the project's `EventStake` where none is given. progress: called with the
    name of each part as it begins.
    Raises `CompileError`, `EngineError` where the contract can't be played at all.
    """
    began = time.perf_counter()
    artifact = load_contract(contract) if contract else compile_contracts()["EventStake"]
    made = Gate(artifact, contract, terms or Terms(), profile, engine, seed)
    how = INTENSITY[profile]
    parts: list[tuple[str, str, Callable[[Gate, Part], None]]] = [
        ("interface", "Its functions and events are those that the service knows.", _interface),
        ("scripted", "Stories of hosts, attendees and the platform, told in files.", _scripted),
        ("regressions", "Stories of what once went wrong.", _regressions),
        (
            "random",
            f"{how.runs} random lives of runs of each kind, from calm to hostile.",
            _random(how, jobs),
        ),
        ("hostile", f"{how.walks} walks of {how.steps} steps, many of them against the rules.", _hostile(how, jobs)),
        ("stateful", f"{how.examples} searches of {how.moves} steps for the shortest way to break it.", _stateful(how)),
        ("gas", "What each transaction costs, beside what it cost when it was last reviewed.", _gas),
        ("coverage", "Whether all of its lines, and both ways of each decision, were tried.", _coverage),
    ]
    if how.faults:
        parts += [
            ("slither", "A reader of Solidity looks for known mistakes; each finding is triaged.", _opinion("slither")),
            ("proofs", "Payouts proved for any price and any attendance, by halmos.", _opinion("halmos")),
            ("mutants", "Small faults put into the contract on purpose: each has to be found.", _mutants(jobs)),
            (
                "faults",
                "Lost answers, reorganised chains, killed processes: nothing is lost or paid twice.",
                _faults(how, jobs),
            ),
        ]
    for name, tried, carry_out in parts:
        part = Part(name, tried)
        if progress:
            progress(name)
        started = time.perf_counter()
        carry_out(made, part)
        part.seconds = time.perf_counter() - started
        made.parts.append(part)
    made.seconds = time.perf_counter() - began
    return made


def _interface(made: Gate, part: Part) -> None:
    part.problems = differences(made.artifact)
    part.ok = not part.problems
    part.figures = {"functions": sum(item["type"] == "function" for item in made.artifact.abi)}


def _foreign(made: Gate) -> Artifact | None:
    return made.artifact if made.given else None


def _take(made: Gate, part: Part, result: CampaignResult) -> None:
    part.ok, part.findings = result.ok, result.findings
    made.rows += result.rows
    made.reached += result.reached
    steps = sum(played.steps for played in result.results)
    part.figures = {"scenarios": len(result.results), "steps": steps, "transactions": result.transactions}


def _scripted(made: Gate, part: Part) -> None:
    files = scenario_files.scripted(everything=True)
    _take(made, part, campaign.run(files, engine=made.engine, contract=_foreign(made)))


def _regressions(made: Gate, part: Part) -> None:
    files = scenario_files.regressions()
    if not files:
        part.figures = {"scenarios": 0}
        return
    _take(made, part, campaign.run(files, engine=made.engine, contract=_foreign(made)))


def _random(how: Intensity, jobs: int) -> Callable[[Gate, Part], None]:
    def carry_out(made: Gate, part: Part) -> None:
        names = list(scenario_files.profiles())
        _take(
            made,
            part,
            campaign.run(
                names, made.engine, runs=how.runs, seed=made.seed, jobs=jobs, contract=_foreign(made), terms=made.terms
            ),
        )

    return carry_out


def _hostile(how: Intensity, jobs: int) -> Callable[[Gate, Part], None]:
    def carry_out(made: Gate, part: Part) -> None:
        what = campaign.run(
            ["hostile"],
            made.engine,
            runs=how.walks,
            seed=made.seed,
            jobs=jobs,
            steps=how.steps,
            contract=_foreign(made),
            terms=made.terms,
        )
        _take(made, part, what)

    return carry_out


def _stateful(how: Intensity) -> Callable[[Gate, Part], None]:
    def carry_out(made: Gate, part: Part) -> None:
        from stakesim.search.stateful import search

        with closing(open_environment(made.engine, _foreign(made))) as environment:
            played = search(environment, how.examples, how.moves, made.seed)
        part.ok, part.findings = played is None, played.findings if played else []
        if played and made.given:
            part.findings = [replace(finding, weakness=classify(played)) for finding in part.findings]
        part.figures = {"examples": how.examples, "steps each": how.moves}

    return carry_out


def _gas(made: Gate, part: Part) -> None:
    with closing(open_environment(made.engine, _foreign(made))) as environment:
        try:
            now = gas.measure(environment)
        except ValueError as error:
            part.ok, part.problems = None, [f"Not measured, as it does not do what it should: {error}."]
            return
    part.figures = {"transactions": len(now)}
    if made.given:
        made.gas = [gas.Change(sentence, None, spent) for sentence, spent in now.items()]
        return
    made.gas = gas.changes(gas.committed(), now)
    part.problems = [
        f"{change.sentence}: was {change.was}, is {change.now}" for change in made.gas if not change.accepted
    ]
    part.ok = not part.problems


def _coverage(made: Gate, part: Part) -> None:
    from stakesim.gate.coverage import cover

    file, name = _solidity(made)
    if file is None:
        part.ok, part.problems = None, ["Not measured: it takes the source, and an artifact has none."]
        return
    tests = None if made.given else CONTRACTS.parent / "tests" / "contracts"
    try:
        seen = cover(file, name, tests if tests and tests.is_dir() else None)
    except (CompileError, EngineError) as error:
        part.ok, part.problems = (None if made.given else False), [f"Not measured: {error}"]
        return
    made.coverage, made.source = seen, file.read_text(encoding="utf-8")
    part.problems = [f"line {line} did not run" for line in seen.missed_lines]
    part.problems += [f"line {one.line}: not both ways: {one.condition}" for one in seen.missed_branches]
    taken = sum(len(branch.taken) for branch in seen.branches)
    part.figures = {
        "lines": f"{sum(seen.lines.values())} of {len(seen.lines)}",
        "branches": f"{taken} of {2 * len(seen.branches)}",
    }
    part.ok = not part.problems if made.given is None else True


def _solidity(made: Gate) -> tuple[Path | None, str]:
    if made.given is None:
        return CONTRACTS / "EventStake.sol", "EventStake"
    file = Path(made.given.partition(".sol:")[0] + ".sol" if ".sol:" in made.given else made.given)
    return (file if file.suffix == ".sol" else None), made.artifact.name


def _mutants(jobs: int) -> Callable[[Gate, Part], None]:
    def carry_out(made: Gate, part: Part) -> None:
        from stakesim.gate.mutation_run import mutate

        file, name = _solidity(made)
        if file is None:
            part.ok, part.problems = None, ["Not made: it takes the source, and an artifact has none."]
            return
        tests = None if made.given else CONTRACTS.parent / "tests" / "contracts"
        try:
            result = mutate(file, name, made.engine, jobs, tests=tests)
        except (CompileError, EngineError) as error:
            part.ok, part.problems = (None if made.given else False), [f"Not made: {error}"]
            return
        part.ok = result.passed
        part.problems = [f"not found: {verdict.mutant.key}" for verdict in result.of("survived")]
        part.figures = {status: len(result.of(status)) for status in ("killed", "survived", "equivalent", "duplicate")}

    return carry_out


def _faults(how: Intensity, jobs: int) -> Callable[[Gate, Part], None]:
    def carry_out(made: Gate, part: Part) -> None:
        from stakesim.faults import campaign as faults
        from stakesim.project import current_project

        if current_project().faults is None:
            part.ok, part.problems = None, ["Not tried: the project names no `faults` in [tool.stakesim]."]
            return
        result = faults.run(faults.plan(how.faults), made.seed, jobs)
        part.ok, part.problems = result.ok, list(result.stories())
        part.figures = {"faults": result.injected.total(), "episodes": len(result.outcomes)}

    return carry_out


def _opinion(name: str) -> Callable[[Gate, Part], None]:
    def carry_out(made: Gate, part: Part) -> None:
        from stakesim.gate import static_analysis

        if made.given:
            part.ok, part.problems = None, ["Not asked: it is set up for the project's own contract."]
            return
        try:
            opinion = static_analysis.slither() if name == "slither" else static_analysis.halmos()
        except EngineError as error:
            part.ok, part.problems = None, [f"Not asked: {error}"]
            return
        part.ok, part.problems, part.figures = not opinion.problems, list(opinion.problems), dict(opinion.figures)

    return carry_out


def failures(made: Gate) -> Iterator[tuple[Part, Sequence[str]]]:
    """Parts that failed, with what is wrong in words."""
    for part in made.parts:
        if part.ok is False:
            yield part, [*part.problems, *part.stories]

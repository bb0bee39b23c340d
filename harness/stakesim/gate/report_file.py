"""Reads gate.json for a deployment: its shape, and whether what it says goes together.

The file may be cut off, edited by hand, or of another version. What is wrong ends as one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stakesim.gate.errors import ReleaseError
from stakesim.gate.mutation_result import MIN_SCORE
from stakesim.gate.profiles import PARTS, REGRESSIONS, ProfileName
from stakesim.gate.proofs import PROVED, REFUTED
from stakesim.gate.result import PartVerdict
from stakesim.json_text import parse_json

MAX_BYTES = 64 * 2**20
"""Size of a file that is read at most. A report with some thousand surviving mutants has a few megabytes."""
_MAX_PLACE = 80
LEAST_FIGURES = {
    "interface": "functions",
    "scripted": "scenarios",
    REGRESSIONS: "scenarios",
    "random": "scenarios",
    "hostile": "scenarios",
    "stateful": "examples",
    "calls": "calls",
    "gas": "transactions",
    "proofs": "properties",
    "mutants": "mutants",
    "faults": "episodes",
}
"""By part, the figure that is above 0 if the part has passed."""

_Count = Annotated[int, Field(ge=0)]
_Seconds = Annotated[float, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Ratio = Annotated[str, Field(pattern=r"^[0-9]{1,9} of [0-9]{1,9}$")]
_Hash = Annotated[str, Field(pattern=r"^(0x)?[0-9a-f]{64}$")]
_Result = Annotated[PartVerdict, Field(strict=False)]
_Figures = dict[str, int | float | str]


class JsonModel(BaseModel):
    """A model of JSON that a program has written: nothing is converted, and what is not read may be there."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class _Contract(JsonModel):
    name: str
    given: str | None
    bytes: _Count


class _Hashes(JsonModel):
    sources_sha256: _Hash | None
    settings_sha256: _Hash | None
    abi_sha256: _Hash
    creation_code_keccak256: _Hash
    runtime_code_keccak256: _Hash


class _Git(JsonModel):
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")]
    dirty: bool


class _Constructor(JsonModel):
    terms: dict[str, _Count]


class _Part(JsonModel):
    result: _Result
    seconds: _Seconds
    seeds: list[_Count]
    cut_short: Annotated[str, Field(min_length=1)] | None
    left_out: list[str]
    figures: _Figures
    problems: list[str]
    findings: list[str]

    @property
    def passed(self) -> bool:
        return self.result == PartVerdict.PASS

    @property
    def tried(self) -> bool:
        return self.result != PartVerdict.NOT_TRIED


class _Reviewed(JsonModel):
    unreached: str
    reason: str


class _Coverage(JsonModel):
    lines: _Ratio
    branches: _Ratio
    reviewed: list[_Reviewed]


class _Survivor(JsonModel):
    line: _Count
    mutant: str


class _Mutation(JsonModel):
    made: _Count
    killed: _Count
    survived: _Count
    equivalent: _Count
    duplicate: _Count
    invalid: _Count
    not_judged: _Count
    killed_by: dict[str, _Count]
    judged_as_deployed: _Count
    score: _Share | None
    money_score: _Share | None
    survivors: list[_Survivor]
    equivalents_not_made: list[str]
    equivalents_killed: list[str]


class _Proof(JsonModel):
    name: str
    verdict: str
    seconds: _Seconds


class _Analysis(JsonModel):
    tool: str
    result: _Result
    seconds: _Seconds
    figures: _Figures
    problems: list[str]


class GateReport(JsonModel):
    """What gate.json says, as `report.as_json` writes it."""

    verdict: _Result
    not_tried: list[str]
    made: str
    command: str
    profile: ProfileName
    minutes: _Seconds
    contract: _Contract
    hashes: _Hashes
    git: _Git | None
    constructor: _Constructor
    engine: str
    seed: _Count
    versions: Annotated[dict[str, str], Field(min_length=1)]
    seconds: _Seconds
    parts: dict[str, _Part]
    coverage: _Coverage | None
    mutation: _Mutation | None
    reviewed: dict[str, _Hash]
    proofs: list[_Proof]
    analyses: list[_Analysis]
    reached: dict[str, _Count]
    gas: dict[str, _Count | None]

    @property
    def written_at(self) -> datetime:
        """When it was written, in UTC. Raises `ValueError` or `OverflowError` if `made` is no time with a zone."""
        written_at = datetime.fromisoformat(self.made)
        if written_at.tzinfo is None:
            raise ValueError("a time without a zone")
        return written_at.astimezone(UTC)


_Model = TypeVar("_Model", bound=JsonModel)


def read_json(file: Path) -> Any:
    """Reads a JSON file of limited size and nesting.

    Raises:
        OSError: The file can't be read.
        ValueError: It is no JSON, too large, or nested too deeply.
    """
    with file.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError("too large")
    return parse_json(content.decode("utf-8"))


def parse(model: type[_Model], content: Any, described: str, advice: str = "run `stakesim gate` again") -> _Model:
    """Reads content of JSON as a model.

    Args:
        model: The model.
        content: The content.
        described: What it should be, as the beginning of a sentence: "FILE is no report of the gate".
        advice: What to do, as the end of that sentence.

    Raises:
        ReleaseError: It is something else. The sentence names the first place that is wrong.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        place = ascii(".".join(map(str, error.errors(include_url=False, include_input=False)[0]["loc"])))[1:-1]
        wrong = f", as {place[:_MAX_PLACE]} is missing or wrong" if place else ""
        raise ReleaseError(f"{described}{wrong}: {advice}.") from None


def read_report(file: Path) -> tuple[GateReport, dict[str, Any]]:
    """Reads gate.json.

    Returns:
        What is checked of it, and its whole content.

    Raises:
        ReleaseError: The file can't be read, is of an older version, or is no report.
    """
    described = f"{file} is no report of the gate"
    try:
        content = read_json(file)
    except OSError as error:
        raise ReleaseError(f"{file} can't be read: {error.strerror}. Run `stakesim gate` first.") from None
    except ValueError:
        raise ReleaseError(f"{described}: run `stakesim gate` again.") from None
    hashes = content.get("hashes") if isinstance(content, dict) else None
    if isinstance(hashes, dict) and "abi_sha256" not in hashes:
        raise ReleaseError(
            f"{file} is of an older version, and does not say which ABI passed: run `stakesim gate` again."
        )
    report = parse(GateReport, content, described)
    try:
        report.written_at  # noqa: B018 - raises
    except (ValueError, OverflowError):
        raise ReleaseError(f"{described}, as made is no time with a zone: run `stakesim gate` again.") from None
    return report, content


def contradictions(report: GateReport) -> Iterator[str]:
    """Yields why a report without a failed part is none that the gate writes: clauses, each with subject and verb."""
    if missing := [name for name in PARTS if name not in report.parts and name != REGRESSIONS]:
        yield f"it lacks the part {', '.join(missing)}"
    for name, part in report.parts.items():
        if part.passed and part.findings:
            yield f"{name} passed with findings"
        figure = LEAST_FIGURES.get(name)
        count = part.figures.get(figure) if figure else 1
        if part.passed and not (isinstance(count, int) and count > 0):
            yield f"{name} passed with {figure} above 0 missing"
    passed = {name for name, part in report.parts.items() if part.passed}
    yield from _tool_contradictions(report, passed)
    if "coverage" in passed and (report.coverage is None or report.coverage.lines.startswith("0 ")):
        yield "coverage passed, and there is none"
    if "gas" in passed and (not report.gas or None in report.gas.values()):
        yield "gas passed, and was not measured"
    if "mutants" in passed:
        yield from _mutation_contradictions(report.mutation, report.parts["mutants"])


def _tool_contradictions(report: GateReport, passed: set[str]) -> Iterator[str]:
    for proof in report.proofs:
        if proof.verdict == REFUTED:
            yield f"{ascii(proof.name)[1:-1]} has a counterexample"
    for analysis in report.analyses:
        if analysis.result != PartVerdict.PASS or analysis.problems:
            yield f"{ascii(analysis.tool)[1:-1]} did not pass"
    tools = {analysis.tool for analysis in report.analyses}
    for name, tool in (("slither", "slither"), ("proofs", "halmos")):
        if name in passed and tool not in tools:
            yield f"{name} passed without {tool}"
    if "proofs" in passed:
        names = {proof.name for proof in report.proofs if proof.verdict == PROVED}
        if not len(names) == len(report.proofs) == report.parts["proofs"].figures.get("properties"):
            yield "proofs passed, and not all of its properties are proved"


def _mutation_contradictions(mutation: _Mutation | None, part: _Part) -> Iterator[str]:
    if mutation is None:
        yield "mutants passed, and there are none"
        return
    killed, survived = mutation.killed, mutation.survived
    others = mutation.equivalent + mutation.duplicate + mutation.invalid + mutation.not_judged
    if mutation.made != killed + survived + others or part.figures.get("mutants") != mutation.made:
        yield "the numbers of mutants do not add up"
    if not killed:
        yield "mutants passed, and none was killed"
        return
    score = killed / (killed + survived)
    if mutation.score != round(score, 4) or len(mutation.survivors) != survived:
        yield "the score of the mutants is not that of their numbers"
    if score < MIN_SCORE or mutation.money_score not in (None, 1):
        yield f"mutants passed, and {survived} of {killed + survived} survived"
    if survived and not part.left_out:
        yield "mutants survived, and are not among what was not tried"
    if mutation.equivalents_not_made or mutation.equivalents_killed:
        yield "mutants passed, and equivalent ones are out of date"
    if mutation.not_judged and part.cut_short is None:
        yield "mutants were not cut short, and some were not judged"

"""The result of the gate: its parts, each with a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from stakesim import gas_table
from stakesim.evm.compiler import Artifact
from stakesim.evm.coverage import Coverage
from stakesim.runner.findings import Finding
from stakesim.runner.ledger import LedgerRow
from stakesim.runner.narrative import narratives
from stakesim.scenario.actions import Terms

ProfileName = Literal["pr", "nightly", "release"]


@dataclass(frozen=True)
class Effort:
    """How much a profile of the gate runs.

    Attributes:
        runs: Random scenarios of each profile of the generator.
        walks: Random walks with the hostile profile.
        steps: Actions in each walk.
        examples: Action sequences that the stateful search tries.
        moves: Actions in each example.
        calls: Calls of the contract, of every kind, that a guided search compares with the rules.
        faults: Size of the fault campaign. 0: no fault campaign, and neither mutants nor static analysis.
    """

    runs: int
    walks: int
    steps: int
    examples: int
    moves: int
    calls: int
    faults: int


EFFORTS: Mapping[ProfileName, Effort] = {
    "pr": Effort(runs=40, walks=150, steps=30, examples=40, moves=40, calls=60_000, faults=0),
    "nightly": Effort(runs=500, walks=2_000, steps=50, examples=500, moves=50, calls=20_000_000, faults=100),
    "release": Effort(runs=500, walks=3_000, steps=50, examples=500, moves=50, calls=40_000_000, faults=200),
}
"""By profile, the smallest first."""
LONG_PARTS = ("slither", "proofs", "mutants", "faults")
"""Parts that take too long for the profile `pr`."""
REGRESSIONS = "regressions"
"""A part that a project without earlier failures can't have."""


class PartVerdict(StrEnum):
    """Verdict on one part of the gate, or on all of it.

    Attributes:
        PASS: Nothing is wrong.
        FAIL: Something is wrong.
        VACUOUS: Nothing is wrong, but it reached too little to say so.
        NOT_TRIED: It can't run here, or is no part of the profile.
    """

    PASS = "pass"
    FAIL = "fail"
    VACUOUS = "vacuous"
    NOT_TRIED = "not tried"


@dataclass
class GatePart:
    """One part of the gate.

    Attributes:
        name: Short name, as in the report's tables.
        description: What the part checks, in a sentence.
        verdict: NOT_TRIED if the part can't run here; `problems` then has the reason.
        problems: Sentences.
        findings: Of the scenarios that it ran.
        figures: How much it checked: number by name.
        seconds: Wall-clock time.
        left_out: What the part could not try of this contract.
    """

    name: str
    description: str
    verdict: PartVerdict = PartVerdict.PASS
    problems: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    left_out: list[str] = field(default_factory=list)

    @property
    def narratives(self) -> list[str]:
        """Texts of the findings."""
        return narratives(self.findings)

    @property
    def figure_text(self) -> str:
        """The figures as a list in words."""
        return ", ".join(f"{value} {name}" for name, value in self.figures.items())

    def passes_if(self, condition: bool) -> None:
        """Sets the verdict to PASS or FAIL."""
        self.verdict = PartVerdict.PASS if condition else PartVerdict.FAIL

    def not_tried(self, reason: str) -> None:
        """Sets the verdict to NOT_TRIED, with the reason as problem."""
        self.verdict, self.problems = PartVerdict.NOT_TRIED, [reason]


@dataclass
class GateResult:
    """Result of the gate.

    Attributes:
        artifact: The contract.
        contract: The contract as it was named; None for the project's own `EventStake`.
        terms: The terms that it is deployed with; usual in random scenarios.
        profile: Name of the effort.
        engine: Engine that it ran on.
        seed: Of all random choices.
        jobs: Number of processes.
        parts: Parts in the order in which they ran.
        rows: Ledger of all scenarios.
        reached: How often each kind of action, outcome and status was reached.
        gas: Change of the gas of each transaction.
        coverage: Of the scenarios, and of the tests for the project's own contract. None if not measured.
        source: Source code that the coverage is of.
        seconds: Wall-clock time.
        given_terms: Those that were asked for; None: nobody did, and a contract that has terms of its own keeps them.
    """

    artifact: Artifact
    contract: str | None
    terms: Terms
    profile: ProfileName
    engine: str
    seed: int
    jobs: int = 1
    parts: list[GatePart] = field(default_factory=list)
    rows: list[LedgerRow] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)
    gas: list[gas_table.GasChange] = field(default_factory=list)
    coverage: Coverage | None = None
    source: str = ""
    seconds: float = 0.0
    given_terms: Terms | None = None

    @property
    def verdict(self) -> PartVerdict:
        """FAIL if a part failed, VACUOUS if a part is, else PASS. Parts that were not tried do not count."""
        verdicts = {part.verdict for part in self.parts}
        return next((each for each in (PartVerdict.FAIL, PartVerdict.VACUOUS) if each in verdicts), PartVerdict.PASS)

    @property
    def ok(self) -> bool:
        """Whether the verdict is PASS."""
        return self.verdict is PartVerdict.PASS

    @property
    def troubled_parts(self) -> list[GatePart]:
        """Parts that failed or are vacuous."""
        return [part for part in self.parts if part.verdict in (PartVerdict.FAIL, PartVerdict.VACUOUS)]

    @property
    def not_tried(self) -> list[str]:
        """What was not tried: names of parts, and what other parts left out."""
        parts = [part.name for part in self.parts if part.verdict is PartVerdict.NOT_TRIED]
        return [*parts, *dict.fromkeys(each for part in self.parts for each in part.left_out)]

    @property
    def is_own(self) -> bool:
        """Whether it is the project's own `EventStake`."""
        return self.contract is None

    @property
    def foreign_artifact(self) -> Artifact | None:
        """The contract for `campaign.run`; None for the project's own `EventStake`."""
        return None if self.is_own else self.artifact

    @property
    def effort(self) -> Effort:
        """How much to run."""
        return EFFORTS[self.profile]

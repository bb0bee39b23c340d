"""The result of the gate: its parts, each with a verdict."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

from stakesim import gas_table
from stakesim.evm.compiler import CONTRACTS, Artifact
from stakesim.evm.contract_file import ContractPath
from stakesim.evm.coverage import Coverage
from stakesim.gate.hashes import contract_hashes
from stakesim.gate.mutation_result import MutationResult
from stakesim.gate.profiles import EFFORTS, Effort, ProfileName
from stakesim.gate.static_analysis import ToolReport
from stakesim.runner.findings import Finding
from stakesim.runner.ledger import LedgerRow
from stakesim.runner.narrative import narratives
from stakesim.runner.reached import Reached
from stakesim.scenario.actions import Terms

LEAST = 0.5
"""Share of what a profile asks of a part that must be played for the part to pass."""


class PartVerdict(StrEnum):
    """Verdict on one part of the gate, or on all of it.

    Attributes:
        PASS: Nothing is wrong.
        FAIL: Something is wrong.
        VACUOUS: Nothing is wrong, but it reached or played too little to say so.
        NOT_TRIED: It can't run or be judged here, or is no part of the profile.
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
        left_out: What the part could not try of this contract, or in this time.
        seeds: Of its random choices; several if it drew on.
        ends: When its time is up, in seconds of `time.monotonic`.
        cut: What was played of what the profile asks for, if the time was up before all of it was.
    """

    name: str
    description: str
    verdict: PartVerdict = PartVerdict.PASS
    problems: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    left_out: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    ends: float = inf
    cut: str = ""

    @property
    def seconds_left(self) -> float:
        """Seconds of its time that are left."""
        return max(0.0, self.ends - time.monotonic())

    @property
    def is_troubled(self) -> bool:
        """Whether it failed or is vacuous."""
        return self.verdict in (PartVerdict.FAIL, PartVerdict.VACUOUS)

    @property
    def narratives(self) -> list[str]:
        """Texts of the findings."""
        return narratives(self.findings)

    @property
    def figure_text(self) -> str:
        """The figures as a list in words."""
        texts = {name: f"{value:,}" if isinstance(value, int) else value for name, value in self.figures.items()}
        return ", ".join(f"{text} {name}" for name, text in texts.items())

    @property
    def only_cut(self) -> bool:
        """Whether nothing is wrong but that its time was up, or Ctrl-C ended it."""
        return self.verdict is PartVerdict.VACUOUS and bool(self.cut) and len(self.problems) == 1 and not self.findings

    def passes_if(self, condition: bool) -> None:
        """Sets the verdict to PASS or FAIL."""
        self.verdict = PartVerdict.PASS if condition else PartVerdict.FAIL

    def not_tried(self, reason: str) -> None:
        """Sets the verdict to NOT_TRIED, with the reason as problem."""
        self.verdict, self.problems = PartVerdict.NOT_TRIED, [reason]

    def played(self, done: int, of: int, what: str) -> None:
        """Says how much was played; call it after the verdict. It is VACUOUS if that is too little to pass.

        Args:
            done: How many were.
            of: How many the profile asks for.
            what: What they are, in the plural.
        """
        if done >= of:
            return
        self.cut = f"{done:,} of {of:,} {what}"
        self.left_out.append(f"{of - done:,} of {of:,} {what}")
        if self.verdict is PartVerdict.PASS and done < LEAST * of:
            self.verdict = PartVerdict.VACUOUS
        if self.verdict is PartVerdict.VACUOUS:
            self.problems.append(f"The time was up after {self.cut}: give it more time with --for.")

    def out_of_time(self, cut: str, when: str) -> None:
        """Says that there was too little time for it to say anything.

        Args:
            cut: What was played.
            when: Words that go on from "The time was up".
        """
        self.verdict, self.cut = PartVerdict.VACUOUS, cut
        self.left_out.append(self.name)
        self.problems = [f"The time was up {when}: give the gate more time with --for."]

    def crashed(self, trace: str) -> None:
        """Says that a bug of stakesim ended it, which is no pass. What it has found stays."""
        self.lost(f"stakesim itself failed here, which says nothing of the contract. Please report this:\n{trace}")

    def lost(self, reason: str) -> None:
        """Says that it ended before it had a result, which is no pass. What it has found stays."""
        self.verdict = PartVerdict.FAIL
        self.left_out.append(f"the rest of {self.name}")
        self.problems.append(reason)

    def interrupted(self) -> None:
        """Says that Ctrl-C ended it, so that nobody takes it for a part that passed. What it has found stays."""
        has_failed = self.verdict is PartVerdict.FAIL or bool(self.findings)
        self.verdict = PartVerdict.FAIL if has_failed else PartVerdict.VACUOUS
        self.cut = "what was done before Ctrl-C"
        self.left_out.append(f"the rest of {self.name}")
        self.problems.append("Ctrl-C ended the gate here.")


@dataclass
class GateResult:
    """Result of the gate.

    Attributes:
        artifact: The contract.
        contract: The contract as it was named; None for the project's own `EventStake`.
        terms: The terms that it is deployed with; usual in random scenarios. If nobody asked for any, those it has.
        profile: Name of the effort.
        engine: Engine that it ran on.
        seed: Of all random choices.
        jobs: Number of processes.
        minutes: Time that it had.
        parts: Parts in the order in which they ran.
        rows: Ledger of all scenarios.
        reached: How often each kind of action, outcome and status was reached.
        gas: Change of the gas of each transaction.
        coverage: Of the scenarios, and of the tests for the project's own contract. None if not measured.
        reviewed: Reason for each line or branch that was not reached and has one.
        mutation: Verdicts on the mutants. None if there were none.
        analyses: Reports of slither and of what proves properties.
        seconds: Wall-clock time.
        given_terms: Those that were asked for; None: nobody did, and a contract that has terms of its own keeps them.
        interrupted: Whether Ctrl-C ended it.
        revision: Commit of the contract's file at the beginning, as `source_revision` returns it.
    """

    artifact: Artifact
    contract: str | None
    terms: Terms
    profile: ProfileName
    engine: str
    seed: int
    jobs: int = 1
    minutes: float = 0.0
    parts: list[GatePart] = field(default_factory=list)
    rows: list[LedgerRow] = field(default_factory=list)
    reached: Reached = field(default_factory=Reached)
    gas: list[gas_table.GasChange] = field(default_factory=list)
    coverage: Coverage | None = None
    reviewed: dict[str, str] = field(default_factory=dict)
    mutation: MutationResult | None = None
    analyses: list[ToolReport] = field(default_factory=list)
    seconds: float = 0.0
    given_terms: Terms | None = None
    interrupted: bool = False
    revision: dict[str, Any] | None = None

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
        return [part for part in self.parts if part.is_troubled]

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
    def file(self) -> Path:
        """The contract's file."""
        return ContractPath.parse(self.contract).file if self.contract else CONTRACTS / "EventStake.sol"

    @cached_property
    def hashes(self) -> dict[str, str | None]:
        """Hashes of the contract as it was when they were asked for first: at the beginning."""
        return contract_hashes(self.artifact, self.file)

    @property
    def foreign_artifact(self) -> Artifact | None:
        """The contract for `campaign.run`; None for the project's own `EventStake`."""
        return None if self.is_own else self.artifact

    @property
    def effort(self) -> Effort:
        """How much to run."""
        return EFFORTS[self.profile]

"""What became of mutants: verdicts, and the score of all of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from stakesim.gate.mutant import Mutant

MIN_SCORE = 0.98
"""Share of mutants that must be killed."""
MONEY = re.compile(r"price|payment|stake|refund|fee|forfeit|payout|escrow|credit|amount|compensation|_push|_send", re.I)
"""Matches lines whose names are those of money: all mutants on them must be killed, and on all of `money_lines`."""


class MutantStatus(StrEnum):
    """What became of a mutant.

    Attributes:
        KILLED: The contract lane, a scenario or a test fails.
        SURVIVED: Everything passes.
        EQUIVALENT: It is in the reviewed list of equivalent mutants.
        DUPLICATE: Its code is that of another mutant, or of the contract.
        INVALID: It does not compile, or can't be deployed.
        NOT_JUDGED: The time was up before anything told it from the contract.
    """

    KILLED = "killed"
    SURVIVED = "survived"
    EQUIVALENT = "equivalent"
    DUPLICATE = "duplicate"
    INVALID = "invalid"
    NOT_JUDGED = "not judged"


class Stage(StrEnum):
    """What kills a mutant.

    Attributes:
        LANE: A sequence of calls of the contract lane.
        SCENARIOS: A scenario of the suite.
        TESTS: A test.
    """

    LANE = "lane"
    SCENARIOS = "scenarios"
    TESTS = "tests"


class Build(StrEnum):
    """How a mutant was compiled.

    Attributes:
        PLAIN: Without optimizer, which is fast.
        DEPLOYED: As for a deploy.
    """

    PLAIN = "plain"
    DEPLOYED = "deployed"


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant, and why.

    Attributes:
        mutant: The mutant.
        status: What became of it.
        killed_by: Ids of the findings that killed it; in the lane, in what it differs from the rules; EXPECTATION for a
            test; HANG for what uses up all gas, or does not end.
        scenario: Name of the scenario, id of the test, or last call of the sequence, that killed it.
        seconds: Wall-clock time that it ran.
        reason: Why it is equivalent, which mutant it duplicates, or why it is invalid.
        stage: What killed it; None if it is not killed.
        code: Hash of its code; empty if it was not run.
        build: How it was compiled.
    """

    mutant: Mutant
    status: MutantStatus
    killed_by: tuple[str, ...] = ()
    scenario: str = ""
    seconds: float = 0.0
    reason: str = ""
    stage: Stage | None = None
    code: str = ""
    build: Build = Build.PLAIN

    @property
    def moves_money(self) -> bool:
        """Whether the mutant is on a line that computes or moves money, by the syntax tree or by its names."""
        return self.mutant.moves_money or MONEY.search(self.mutant.text) is not None

    def as_json(self) -> dict[str, Any]:
        """The verdict as `stakesim mutate --out` writes it."""
        return {
            "mutant": self.mutant.key,
            "operator": self.mutant.operator,
            "line": self.mutant.line,
            "status": self.status,
            "by": self.killed_by,
            "stage": self.stage,
            "scenario": self.scenario,
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
            "code": self.code,
            "build": self.build,
        }

    @classmethod
    def from_json(cls, mutant: Mutant, row: Mapping[str, Any]) -> Verdict:
        """Reads what `as_json` has written.

        Args:
            mutant: The mutant of this key.
            row: The written fields.
        """
        return cls(
            mutant,
            MutantStatus(row["status"]),
            tuple(row["by"]),
            row["scenario"],
            row["seconds"],
            row["reason"],
            Stage(row["stage"]) if row["stage"] else None,
            row["code"],
            Build(row["build"]),
        )


@dataclass
class MutationResult:
    """Verdicts on all mutants of one contract.

    Attributes:
        source: Source code of the contract's file.
        verdicts: In the order of the source.
        seconds: Wall-clock time.
        deployed: Verdicts on the survivors and on a sample of the killed, compiled as for a deploy.
        stale: Keys in the list of equivalent mutants that no mutant of the contract has; empty with `only`.
        refuted: Keys in that list of mutants that something told from the contract nevertheless.
        interrupted: Whether Ctrl-C ended it, so that verdicts are missing.
        sources: Source code by name, of the file and all that it imports.
        left_out: Code that there are no mutants of, in words.
    """

    source: str = ""
    verdicts: list[Verdict] = field(default_factory=list)
    seconds: float = 0.0
    deployed: list[Verdict] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    refuted: list[str] = field(default_factory=list)
    interrupted: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)
    left_out: Sequence[str] = ()

    def source_of(self, mutant: Mutant) -> str:
        """Source code of the file that a mutant is in."""
        return self.sources[mutant.file] if mutant.file else self.source

    def with_status(self, status: MutantStatus) -> list[Verdict]:
        """Verdicts with this status."""
        return [verdict for verdict in self.final if verdict.status == status]

    @property
    def score(self) -> float:
        """Share of killed mutants among the killed and the survivors; 0 if there are none."""
        return _score(self.final)

    @property
    def money_score(self) -> float | None:
        """The same of the mutants on lines that compute or move money; None if there are none."""
        on_money = [verdict for verdict in self.final if verdict.moves_money]
        return _score(on_money) if _differ(on_money) else None

    @property
    def money_text(self) -> str:
        """The score of the mutants on lines with money, in words."""
        if self.money_score is None:
            return "there are none on lines with money"
        return f"{self.money_score:.1%} of those on lines with money"

    @property
    def differ(self) -> int:
        """How many mutants were judged: the killed and the survivors, that is those that differ from the contract."""
        return _differ(self.final)

    @property
    def final(self) -> list[Verdict]:
        """Verdicts; that on the build that is deployed, where there is one."""
        deployed = {verdict.mutant.key: verdict for verdict in self.deployed}
        return [deployed.get(verdict.mutant.key, verdict) for verdict in self.verdicts]

    @property
    def passed(self) -> bool:
        """Whether enough mutants are killed, all of those on lines with money, and the listed ones are equivalent."""
        escaped = any(verdict.moves_money for verdict in self.with_status(MutantStatus.SURVIVED))
        return self.score >= MIN_SCORE and not escaped and not self.stale and not self.refuted

    def as_json(self) -> dict[str, Any]:
        """Figures, and each survivor with its place, for the gate's report."""
        counts = Counter(verdict.status for verdict in self.final)
        stages = Counter(verdict.stage for verdict in self.with_status(MutantStatus.KILLED))
        survivors = [verdict.mutant for verdict in self.with_status(MutantStatus.SURVIVED)]
        return {
            "made": len(self.final),
            **{status.replace(" ", "_"): counts[status] for status in MutantStatus},
            "killed_by": {stage: stages[stage] for stage in Stage},
            "judged_as_deployed": len(self.deployed),
            "score": round(self.score, 4) if self.differ else None,
            "money_score": None if self.money_score is None else round(self.money_score, 4),
            "survivors": [
                {"line": each.line, "function": each.function, "operator": each.operator, "old": each.old}
                | {"new": each.new, "mutant": each.key}
                for each in survivors
            ],
            "equivalents_not_made": self.stale,
            "equivalents_killed": self.refuted,
        }

    @property
    def killers(self) -> Counter[str]:
        """Number of killed mutants by id of the invariant or expectation."""
        return Counter(name for verdict in self.with_status(MutantStatus.KILLED) for name in set(verdict.killed_by))

    def by_operator(self) -> dict[str, OperatorCounts]:
        """Number of mutants of each status, and of the killed by what killed them, by mutation operator."""
        counts: dict[str, OperatorCounts] = {}
        for verdict in self.final:
            row = counts.setdefault(verdict.mutant.operator, OperatorCounts())
            row.statuses[verdict.status] += 1
            if verdict.stage is not None:
                row.stages[verdict.stage] += 1
        return counts


@dataclass
class OperatorCounts:
    """What became of the mutants of one operator.

    Attributes:
        statuses: Number of mutants of each status.
        stages: Number of killed mutants by what killed them.
    """

    statuses: Counter[MutantStatus] = field(default_factory=Counter)
    stages: Counter[Stage] = field(default_factory=Counter)


def _differ(verdicts: list[Verdict]) -> int:
    return sum(verdict.status in (MutantStatus.KILLED, MutantStatus.SURVIVED) for verdict in verdicts)


def _score(verdicts: list[Verdict]) -> float:
    killed, differ = sum(verdict.status is MutantStatus.KILLED for verdict in verdicts), _differ(verdicts)
    return killed / differ if differ else 0.0

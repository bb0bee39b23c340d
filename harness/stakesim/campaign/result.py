"""The result of a campaign."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stakesim.runner import ledger
from stakesim.runner.findings import Finding
from stakesim.runner.narrative import narratives
from stakesim.runner.reached import Reached
from stakesim.runner.scenario_result import ScenarioResult

if TYPE_CHECKING:
    import pandas as pd

VACUOUS = "VACUOUS"
"""Id of a finding that says that a campaign reached too little."""
HEADINGS = {"pass": "PASS", "fail": "FINDINGS", "vacuous": "VACUOUS", "interrupted": "INTERRUPTED"}
"""The verdicts in a report."""


@dataclass
class CampaignResult:
    """The result of a campaign.

    Attributes:
        results: Results of the scenarios, in order.
        findings: Findings of the scenarios and of the campaign; of failures with the same name, only the shortest.
        reached: How often each action, outcome, status and error occurred.
        seconds: Wall-clock time.
        left: Scenarios that were not begun, as the time was up.
        interrupted: Ctrl-C ended it before all scenarios were run.
    """

    results: list[ScenarioResult]
    findings: list[Finding]
    reached: Reached = field(default_factory=Reached)
    seconds: float = 0.0
    left: int = 0
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        """Whether there are no findings."""
        return not self.findings

    @property
    def is_vacuous(self) -> bool:
        """Whether nothing is wrong but that too little was reached to say so."""
        return bool(self.findings) and all(finding.id == VACUOUS for finding in self.findings)

    @property
    def verdict(self) -> str:
        """`pass`, `fail`, `vacuous`: nothing is wrong, but too little was reached to say so; or `interrupted`."""
        if self.interrupted and (self.ok or self.is_vacuous):
            return "interrupted"
        return "pass" if self.ok else "vacuous" if self.is_vacuous else "fail"

    @property
    def rows(self) -> list[ledger.LedgerRow]:
        """The ledger of all scenarios."""
        return [row for result in self.results for row in result.rows]

    @property
    def ledger(self) -> pd.DataFrame:
        """Every action and payout; see `stakesim.runner.ledger.LedgerRow` for the columns."""
        return ledger.to_frame(self.rows)

    def to_parquet(self, file: str | Path) -> None:
        """Writes the ledger as Parquet; `stakesim.read_ledger` reads it.

        Raises:
            NotInstalled: pyarrow is missing.
        """
        ledger.write(self.rows, Path(file).with_suffix(".parquet"))

    @property
    def transactions(self) -> int:
        """Transactions that were mined."""
        return sum(result.transactions for result in self.results)

    def figures(self) -> dict[str, Any]:
        """How much was run, by name."""
        return {
            "scenarios": len(self.results),
            "steps": sum(result.steps for result in self.results),
            "transactions": self.transactions,
            "seconds": round(self.seconds, 1),
        }

    def summary(self) -> str:
        """The figures and the verdict in one sentence."""
        verdict = "everything that must hold held" if self.ok else f"{len(self.findings)} findings"
        if self.is_vacuous:
            verdict = "nothing is wrong, but too little was reached to say so"
        if self.interrupted:
            verdict = f"interrupted; until then {verdict}"
        return (
            f"{len(self.results)} scenarios, {sum(result.steps for result in self.results)} steps, "
            f"{self.transactions} transactions in {self.seconds:.1f} s: {verdict}"
        )

    def __repr__(self) -> str:
        return f"<CampaignResult {self.summary()}>"

    def _repr_html_(self) -> str:
        """For notebooks: the verdict, the narratives of the findings, and what was reached."""
        texts = "".join(f"<pre>{html.escape(text)}</pre>" for text in narratives(self.findings))
        cells = "".join(f"<tr><td>{html.escape(k)}</td><td>{n}</td></tr>" for k, n in sorted(self.reached.items()))
        colour = "#1a7f37" if self.ok else "#b42318"
        return (
            f'<p style="color:{colour}"><b>{HEADINGS[self.verdict]}</b> {html.escape(self.summary())}</p>'
            f"{texts}<details><summary>reached</summary><table>{cells}</table></details>"
        )

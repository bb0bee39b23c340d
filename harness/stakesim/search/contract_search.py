"""What the contract lane finds, played once more as a scenario with all invariants after each action."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from stakesim.evm.compiler import Artifact
from stakesim.lane.corpus import load_sequences, save_sequences
from stakesim.lane.search import LaneFinding, LaneSearch
from stakesim.lane.story import pytest_file, to_scenario
from stakesim.paths import state_dir
from stakesim.runner.environment import open_environment
from stakesim.runner.findings import Finding
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import Scenario, dump


@dataclass(frozen=True)
class ContractFinding:
    """A distinct way in which a contract breaks the rules.

    Attributes:
        lane: As the lane saw it.
        scenario: The story as a scenario.
        result: The scenario's result under all invariants.
    """

    lane: LaneFinding
    scenario: Scenario
    result: ScenarioResult

    @property
    def confirmed(self) -> bool:
        """Whether the scenario fails as well."""
        return not self.result.ok

    @property
    def findings(self) -> list[Finding]:
        """What is broken: the invariants, or what the lane said if they hold."""
        if self.result.findings:
            return self.result.findings
        text = self.lane.difference.text
        steps = len(self.scenario.actions)
        statement = "contract and rules agree on every call"
        return [Finding("LANE", statement, text, self.scenario, engine="revm", driver="contract", step=steps)]


def corpus_folder(contract: Artifact) -> Path:
    """Where the corpus of a contract is kept, if the user names no folder."""
    return state_dir() / "corpus" / "contract" / contract.name


def open_search(contract: Artifact, seed: int, corpus: Path) -> LaneSearch:
    """Opens a search that begins with a corpus."""
    search = LaneSearch(contract, seed)
    search.begin_with(load_sequences(corpus))
    return search


def save_corpus(search: LaneSearch, corpus: Path) -> None:
    """Keeps what was found and what showed something new.

    Raises:
        OSError: The folder can't be written.
    """
    found = [(finding.world.name, finding.moves) for finding in search.findings.values()]
    save_sequences(corpus, [*found, *((entry.world, entry.moves) for entry in search.corpus)])


def confirm(contract: Artifact, findings: list[LaneFinding], seed: int) -> list[ContractFinding]:
    """Plays what was found as scenarios, with all invariants.

    Args:
        contract: The contract.
        findings: What the lane found.
        seed: Of the search.
    """
    confirmed: list[ContractFinding] = []
    environment = open_environment("revm", contract, "contract")
    try:
        for number, finding in enumerate(findings, start=1):
            difference = finding.difference
            scenario = to_scenario(
                contract, finding.world, finding.moves, difference, name=_name(number, finding), seed=seed
            )
            confirmed.append(ContractFinding(finding, scenario, run_scenario(environment, scenario)))
    finally:
        environment.close()
    return confirmed


def export(findings: list[ContractFinding], folder: Path) -> list[Path]:
    """Writes each story as a scenario, and all of them as a test for pytest.

    Raises:
        OSError: The folder can't be written.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = [dump(finding.scenario) for finding in findings]
    files = []
    for finding, text in zip(findings, texts, strict=True):
        files.append(folder / f"{finding.scenario.name}.yaml")
        files[-1].write_text(text, encoding="utf-8")
    if texts:
        files.append(folder / "test_found.py")
        files[-1].write_text(pytest_file(texts), encoding="utf-8")
    return files


def _name(number: int, finding: LaneFinding) -> str:
    kind, function, _ = finding.difference.cause
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", f"{kind}-{function}").lower()
    return f"found-{number}-{re.sub('[^a-z0-9]+', '-', words).strip('-')}"

"""What the contract lane finds, played once more as a scenario with all invariants after each action."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from stakesim.errors import require
from stakesim.evm.compiler import Artifact, compile_contracts
from stakesim.evm.required_abi import check_supported
from stakesim.lane.corpus import load_sequences, save_sequences
from stakesim.lane.deployed_interface import find_liberties
from stakesim.lane.foundry import foundry_test
from stakesim.lane.moves import SAME_BLOCK
from stakesim.lane.play import STALE, Difference, World
from stakesim.lane.search import LaneFinding, LaneSearch
from stakesim.lane.story import pytest_file, to_scenario
from stakesim.model.contract_traits import ContractTraits
from stakesim.paths import state_dir
from stakesim.runner.drivers import CONTRACT
from stakesim.runner.environment import Environment, open_environment
from stakesim.runner.findings import Finding
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.actions import Terms
from stakesim.scenario.scenario import Scenario, dump
from stakesim.search.shrink import shrink


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
    def cause(self) -> tuple[object, ...]:
        """What is the same for two findings of one cause: what the lane saw, or the invariant that it did not see."""
        difference = self.lane.difference
        return difference.cause if difference.kind != _KEPT else (_KEPT, *self.result.kind)

    @property
    def confirmed(self) -> bool:
        """Whether the scenario fails as well."""
        return not self.result.ok

    @property
    def why_unconfirmed(self) -> str:
        """What to say of a scenario that does not fail."""
        if any(move.when == SAME_BLOCK for move in self.lane.moves):
            return "its calls share a block, and so the time; a scenario has a block for each, and the invariants hold"
        return "the invariants hold when it is played as a scenario"

    @property
    def findings(self) -> list[Finding]:
        """What is broken: the invariants, or what the lane said if they hold."""
        if self.result.findings:
            return self.result.findings
        text = self.lane.difference.text
        steps = len(self.scenario.actions)
        is_stale = self.lane.difference.kind == STALE
        statement = "state changes before any ether leaves" if is_stale else "contract and rules agree on every call"
        return [Finding("LANE", statement, text, self.scenario, engine="revm", driver="contract", step=steps)]


def corpus_folder(contract: Artifact) -> Path:
    """Where the corpus of a contract is kept, if the user names no folder."""
    return state_dir() / "corpus" / "contract" / contract.name


def open_search(contract: Artifact, seed: int, corpus: Path | None = None, *, terms: Terms | None = None) -> LaneSearch:
    """Opens a search that begins with a corpus.

    Args:
        contract: The contract.
        seed: Of all random choices.
        corpus: Folder of the corpus; None: it begins with nothing.
        terms: Those that a contract has whose code fixes them; None: they are found out.

    Raises:
        EngineError: The contract can't be judged by the lane.
        NotInstalled: revm is not installed.
    """
    require("The search of a contract", "revm", "pyrevm")
    check_supported(contract.abi, contract.name)
    search = LaneSearch(contract, seed, traits=_traits(contract, terms))
    if corpus is not None:
        search.begin_with(load_sequences(corpus))
    return search


def _traits(contract: Artifact, terms: Terms | None) -> ContractTraits:
    if contract == compile_contracts()["EventStake"]:
        return ContractTraits()
    with closing(open_environment("revm", contract, CONTRACT, terms=terms)) as environment:
        traits = environment.contract.traits
    return replace(traits, liberties=find_liberties(contract, traits))


def save_corpus(search: LaneSearch, corpus: Path) -> None:
    """Keeps what was found, what there was no time for, and what showed something new.

    Raises:
        OSError: The folder can't be written.
    """
    found = [(finding.found_in, finding.found_as) for finding in search.findings.values()]
    kept = [(entry.world, entry.moves) for entry in search.corpus]
    save_sequences(corpus, [*found, *search.waiting, *kept])


def confirm(search: LaneSearch) -> list[ContractFinding]:
    """Plays what was found as scenarios, with all invariants; if nothing was, a sample of what was kept."""
    return play_findings(search) or play_kept(search)


def play_findings(search: LaneSearch) -> list[ContractFinding]:
    """Plays what was found as scenarios, with all invariants."""
    with _environment(search) as environment:
        return [
            _played(search, environment, finding, _name(number, finding))
            for number, finding in enumerate(search.findings.values(), start=1)
        ]


def play_kept(search: LaneSearch) -> list[ContractFinding]:
    """Plays a sample of what was kept as scenarios, as the lane compares less than all invariants do.

    Returns:
        What breaks one. Nothing if the contract takes liberties, as each sequence in which it does would be told again.
    """
    found: list[ContractFinding] = []
    if search.traits.liberties:
        return found
    with _environment(search) as environment:
        for kept in _sample(search):
            played = _played(search, environment, kept, f"kept-{len(found) + 1}")
            if played.confirmed and played.result.kind not in {other.result.kind for other in found}:
                shortest = shrink(environment, played.result)
                found.append(ContractFinding(kept, shortest.scenario, shortest))
    return found


def _environment(search: LaneSearch) -> closing[Environment]:
    return closing(open_environment("revm", search.contract, CONTRACT, terms=search.traits.terms))


def _played(search: LaneSearch, environment: Environment, finding: LaneFinding, name: str) -> ContractFinding:
    world = finding.world
    player = search.open_player(World("plain", world.terms, world.time))
    scenario = to_scenario(player, world, finding.moves, finding.difference, name=name, seed=search.seed)
    return ContractFinding(finding, scenario, run_scenario(environment, scenario))


def _sample(search: LaneSearch) -> Iterator[LaneFinding]:
    """Kept sequences, drawn by the search's seed, as if each was a finding at its last move."""
    entries = [entry for entry in search.corpus if entry.moves]
    drawn = Random(search.seed).sample(entries, min(len(entries), _SAMPLE + search.sequences // _SEQUENCES_A_SAMPLE))
    for entry in drawn:
        last = entry.moves[-1].function
        seen = Difference(_KEPT, last, "", "A sequence that showed something new.", len(entry.moves) - 1)
        world = search.world(entry.world)
        yield LaneFinding(seen, world, entry.moves, search.seconds, search.sequences, entry.world, entry.moves)


_KEPT = "kept"
_SAMPLE, _SEQUENCES_A_SAMPLE = 20, 500
"""So many kept sequences are played with all invariants; and one more for so many that were played."""


def export(search: LaneSearch, findings: list[ContractFinding], folder: Path, contract: str) -> list[Path]:
    """Writes each story as a scenario, and as a test for Foundry if the lane saw it; all of them as a test for pytest.

    Args:
        search: The search.
        findings: What it found.
        folder: Where the files go.
        contract: What the tests for Foundry import.

    Raises:
        OSError: The folder can't be written.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = [dump(finding.scenario) for finding in findings]
    files = []
    for finding, text in zip(findings, texts, strict=True):
        found = finding.lane
        files.append(folder / f"{finding.scenario.name}.yaml")
        files[-1].write_text(text, encoding="utf-8")
        if found.difference.kind == _KEPT:  # only invariants of scenarios show it
            continue
        files.append(folder / f"{finding.scenario.name}.t.sol")
        player = search.open_player(found.world._replace(moves=()))
        test = foundry_test(player, contract, found.world, found.moves, found.difference)
        files[-1].write_text(test, encoding="utf-8")
    if texts:
        files.append(folder / "test_found.py")
        files[-1].write_text(pytest_file(texts), encoding="utf-8")
    return files


def _name(number: int, finding: LaneFinding) -> str:
    kind, function, _ = finding.difference.cause
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", f"{kind}-{function}").lower()
    return f"found-{number}-{re.sub('[^a-z0-9]+', '-', words).strip('-')}"

"""Guided searches of a contract in several processes, each with a seed of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from stakesim.evm.compiler import Artifact
from stakesim.evm.errors import EngineError
from stakesim.runner.findings import Finding
from stakesim.scenario.actions import Terms
from stakesim.search.contract_search import ContractFinding, confirm, open_search
from stakesim.workers.pool import worker_pool

_MOST_FOUND = 20
"""Findings after which a search ends: each is made short, and told."""
_LONGEST = 1_000_000
"""Calls of one search, some minutes. What it has kept by then leads it to ever the same places: another seed leads
elsewhere. And Ctrl-C loses the searches that run."""
_Cause = tuple[object, ...]


@dataclass
class Searched:
    """What searches did and found together.

    Attributes:
        seeds: One for each search.
        calls: Calls that were compared with the rules.
        sequences: Sequences of calls.
        findings: By cause, all invariants that do not hold.
        skipped: What is not tried of this contract, and why.
        cut: Whether the time was up first.
        troubles: Why searches ended before they had a result.
    """

    seeds: list[int] = field(default_factory=list)
    calls: int = 0
    sequences: int = 0
    findings: dict[_Cause, list[Finding]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    troubles: list[str] = field(default_factory=list)

    def add(self, other: Searched) -> None:
        """Adds another search; a cause that is known stays as it was told first."""
        self.seeds += other.seeds
        self.calls += other.calls
        self.sequences += other.sequences
        self.findings = other.findings | self.findings
        self.skipped |= other.skipped
        self.cut |= other.cut
        self.troubles += other.troubles


def search_contract(
    contract: Artifact, seed: int, calls: int, *, jobs: int = 1, terms: Terms | None = None, seconds: float = inf
) -> Iterator[Searched]:
    """Searches a contract. What is found does not depend on the number of processes, unless the time is up first.

    Args:
        contract: The contract.
        seed: Of the first search; those after it count on from there.
        calls: Calls to compare with the rules, of all searches together.
        jobs: Number of processes.
        terms: Those that a contract has whose code fixes them; None: they are found out.
        seconds: Time for all of them.

    Returns:
        The searches in the order of their seeds, each as soon as it and those before it have ended.

    Raises:
        EngineError: The contract can't be judged by the lane.
        NotInstalled: revm is not installed.
    """
    ends = time.time() + seconds
    open_search(contract, seed, terms=terms)  # raises what each of them would
    return _run(contract, terms, [(seed + number, share, ends) for number, share in enumerate(_shares(calls))], jobs)


def _shares(calls: int) -> list[int]:
    count = -(-calls // _LONGEST)
    return [calls // count + (number < calls % count) for number in range(count)]


def _run(
    contract: Artifact, terms: Terms | None, shares: list[tuple[int, int, float]], jobs: int
) -> Iterator[Searched]:
    if min(jobs, len(shares)) == 1:
        yield from (_search(contract, terms, *share) for share in shares)
        return
    with worker_pool(min(jobs, len(shares))) as submit:
        for future in [submit(_search, contract, terms, *share) for share in shares]:
            yield future.result()


def _search(contract: Artifact, terms: Terms | None, seed: int, calls: int, ends: float) -> Searched:
    if time.time() >= ends:
        return Searched(cut=True)
    search, found, troubles = open_search(contract, seed, terms=terms), list[ContractFinding](), list[str]()

    def has_more_to_do() -> bool:
        return search.moves < calls and len(search.findings) < _MOST_FOUND

    try:
        search.run(watch=lambda: has_more_to_do() and time.time() < ends)
        found = confirm(search)
    except EngineError as error:  # after all that it did, this is no contract that can't be judged
        troubles.append(f"The search with seed {seed} ended in its midst: {error}")
    findings = {each.cause: each.findings for each in found}
    is_cut = has_more_to_do() and not troubles
    return Searched([seed], search.moves, search.sequences, findings, search.skipped, is_cut, troubles)

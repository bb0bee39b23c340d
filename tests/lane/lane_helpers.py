"""Contracts with planted bugs, compiled without optimizer, and searches of them."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from stakesim.evm.compiler import CONTRACTS, Artifact, Compiler, artifacts_from_output, compile_contracts
from stakesim.evm.import_resolver import collect_sources
from stakesim.gate.plain_build import compile_plain
from stakesim.lane.search import LaneFinding, LaneSearch

sys.path.insert(0, str(Path(__file__).parent.parent / "harness"))
from planted_bugs import STAND_IN, planted


@functools.cache
def planted_contract(name: str) -> Artifact:
    """`EventStake` with a planted bug, or with those of a list."""
    sources = collect_sources(CONTRACTS / "EventStake.sol") | {"EventStake.sol": planted(name)}
    with Compiler() as compiler:
        output = compile_plain(compiler, sources, "EventStake.sol")
    return artifacts_from_output(output, sources)["EventStake"]


def with_source(source: str) -> Artifact:
    """`MinimalEventStake`, which has only the interface deployed on Sepolia, with another source."""
    sources = {STAND_IN.name: source}
    with Compiler() as compiler:
        output = compile_plain(compiler, sources, STAND_IN.name)
    return artifacts_from_output(output, sources)["MinimalEventStake"]


def sound_contract() -> Artifact:
    return compile_contracts()["EventStake"]


def findings(contract: Artifact, seed: int, *, sequences: int, most: int = 1) -> list[LaneFinding]:
    """Searches until so many findings, or sequences."""
    search = LaneSearch(contract, seed)
    search.run(sequences=sequences, watch=lambda: len(search.findings) < most)
    return list(search.findings.values())

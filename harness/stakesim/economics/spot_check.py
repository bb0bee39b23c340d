"""The proof that the fast model is the contract: some of its runs are played through the services on an EVM, and every
payout is compared to the wei."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from stakesim.campaign import campaign
from stakesim.economics.settle import settle
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import PopulationChunk, select_runs
from stakesim.population.to_scenario import HOST, guest_name, to_scenario
from stakesim.runner import ledger
from stakesim.runner.narrative import narrate
from stakesim.scenario.actions import PLATFORM
from stakesim.scenario.scenario import Scenario, dump


class Mismatch(Exception):
    """The fast model and the chain do not agree, or an invariant is broken; the story is told."""


@dataclass(frozen=True)
class Compared:
    """runs, payouts: how many were compared. wei: how many wei differed in all; a sweep goes on only at 0."""

    runs: int
    payouts: int
    wei: int


def expected(drawn: PopulationChunk, index: int) -> dict[str, int]:
    """Wei that everybody gets in run `index` of a chunk, by the fast model; who gets nothing is not listed."""
    import numpy as np

    state = select_runs(drawn, np.array([index]))
    settled = settle(state, resolve_outcomes(state))
    got: Counter[str] = Counter()
    for place, own in enumerate(state.intents.by_host[:, 0]):
        got[HOST if own else guest_name(place)] += int(settled.received[place, 0])
    got[HOST] += int(settled.host[0])
    got[PLATFORM] += int(settled.platform[0])
    return {who: wei for who, wei in got.items() if wei}


def compare(picked: Iterable[tuple[PopulationChunk, int]], engine: str = "py-evm") -> Compared:
    """Plays runs, given as chunk and number within it, and compares what everybody got.

    Raises `Mismatch` with everything that differs, and the first run as a scenario.
    """
    runs = list(picked)
    stories = [to_scenario(drawn, index) for drawn, index in runs]
    result = campaign.run(stories, engine)
    if result.findings:
        raise Mismatch(narrate(result.findings))
    differences: list[tuple[Scenario, str, int, int]] = []
    payouts = 0
    for (drawn, index), story, played in zip(runs, stories, result.results, strict=True):
        model, chain = expected(drawn, index), ledger.received(played.rows)
        everybody = sorted(model.keys() | {who for who, wei in chain.items() if wei})
        payouts += len(everybody)
        differences += [
            (story, who, model.get(who, 0), chain[who]) for who in everybody if model.get(who, 0) != chain[who]
        ]
    if differences:
        raise Mismatch(_told(differences))
    return Compared(len(runs), payouts, sum(abs(fast - chain) for _, _, fast, chain in differences))


def _told(differences: Sequence[tuple[Scenario, str, int, int]]) -> str:
    lines = [
        f"{story.name}: {who} gets {fast} wei in the model, {chain} on the chain"
        for story, who, fast, chain in differences
    ]
    first = differences[0][0]
    return "\n".join([*lines, f"Save this as scenarios/{first.name}.yaml and replay it:", dump(first)])


def fastest_engine() -> str:
    """The fastest engine that is installed here."""
    return "revm" if find_spec("pyrevm") else "py-evm"

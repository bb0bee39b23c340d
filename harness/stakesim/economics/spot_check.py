"""Spot checks: runs of the vectorised model are carried out on an EVM, and every payout is compared to the wei."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stakesim.campaign import campaign
from stakesim.economics.settle import settle
from stakesim.errors import StakesimError
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import PopulationChunk, select_runs
from stakesim.population.to_scenario import HOST, guest_name, to_scenario
from stakesim.runner import ledger
from stakesim.runner.narrative import narrate
from stakesim.scenario.actions import PLATFORM
from stakesim.scenario.scenario import Scenario, dump


class MismatchError(StakesimError):
    """The vectorised model and the chain differ, or an invariant is violated. The message has the scenario."""


@dataclass(frozen=True)
class SpotCheck:
    """A comparison without a mismatch.

    Attributes:
        runs: Number of runs compared.
        payouts: Number of amounts compared, one for each party of a run that received any wei.
        wei: Sum of all differences, which is 0.
    """

    runs: int
    payouts: int
    wei: int = 0


class _Difference(NamedTuple):
    scenario: Scenario
    party: str
    model_wei: int
    chain_wei: int


def expected_payouts(chunk: PopulationChunk, index: int) -> dict[str, int]:
    """Returns the wei that each party of run `index` of a chunk receives by the vectorised model, without zeros."""
    import numpy as np

    state = select_runs(chunk, np.array([index]))
    settlement = settle(state, resolve_outcomes(state))
    wei_by_party: Counter[str] = Counter()
    for place, own in enumerate(state.intents.by_host[:, 0]):
        wei_by_party[HOST if own else guest_name(place)] += int(settlement.received[place, 0])
    wei_by_party[HOST] += int(settlement.host[0])
    wei_by_party[PLATFORM] += int(settlement.platform[0])
    return {party: wei for party, wei in wei_by_party.items() if wei}


def compare_with_chain(picked: Iterable[tuple[PopulationChunk, int]], engine: str = "py-evm") -> SpotCheck:
    """Carries out runs on a chain and compares what each party received with the vectorised model.

    Args:
        picked: The runs, each as a chunk and the run's index in it.
        engine: Name of the EVM engine.

    Raises:
        MismatchError: An amount differs, or an invariant is violated.
    """
    runs = list(picked)
    scenarios = [to_scenario(chunk, index) for chunk, index in runs]
    result = campaign.run(scenarios, engine)
    if result.findings:
        raise MismatchError(narrate(result.findings))
    differences: list[_Difference] = []
    payouts = 0
    for (chunk, index), run_scenario, scenario_result in zip(runs, scenarios, result.results, strict=True):
        model, chain = expected_payouts(chunk, index), ledger.received(scenario_result.rows)
        parties = sorted(model.keys() | {party for party, wei in chain.items() if wei})
        payouts += len(parties)
        differences += [
            _Difference(run_scenario, party, model.get(party, 0), chain[party])
            for party in parties
            if model.get(party, 0) != chain[party]
        ]
    if differences:
        raise MismatchError(_describe(differences))
    return SpotCheck(len(runs), payouts)


def _describe(differences: Sequence[_Difference]) -> str:
    lines = [
        f"{each.scenario.name}: {each.party} gets {each.model_wei} wei in the model, {each.chain_wei} on the chain"
        for each in differences
    ]
    first = differences[0].scenario
    return "\n".join([*lines, f"Save this as scenarios/{first.name}.yaml and replay it:", dump(first)])

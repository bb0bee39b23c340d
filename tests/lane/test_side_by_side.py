"""Searches of a contract in several processes, and what they find together."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from lane_helpers import planted_contract
from stakesim.evm.compiler import Artifact, compile_contracts
from stakesim.evm.errors import EngineError
from stakesim.lane.search import LaneSearch
from stakesim.runner import scenario_run
from stakesim.runner.findings import Finding
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.search import contract_search, side_by_side
from stakesim.search.side_by_side import Searched, search_contract


@pytest.mark.parametrize("calls", [1, 999_999, 1_000_000, 1_000_001, 20_000_000, 20_000_007])
def test_searches_share_the_calls(calls: int) -> None:
    shares = side_by_side._shares(calls)
    assert sum(shares) == calls
    assert max(shares) <= side_by_side._LONGEST
    assert max(shares) - min(shares) <= 1


def test_a_cause_that_two_searches_find_is_told_once() -> None:
    both, once = ("view", "a", ""), ("view", "b", "")
    searched = Searched([1], 10, 2, {both: []}, {"world": "no function"})
    searched.add(Searched([2], 5, 1, {once: [], both: []}, {"world": "no function"}, cut=True))
    assert searched == Searched([1, 2], 15, 3, {both: [], once: []}, {"world": "no function"}, cut=True)


def together_found(contract: Artifact, seed: int, calls: int, jobs: int = 1, seconds: float = inf) -> Searched:
    found = Searched()
    for each in search_contract(contract, seed, calls, jobs=jobs, seconds=seconds):
        found.add(each)
    return found


@pytest.mark.slow
def test_processes_find_what_one_finds(monkeypatch: pytest.MonkeyPatch, campaign_seed: int) -> None:
    """Otherwise a finding of the gate could not be repeated on another machine."""
    monkeypatch.setattr(side_by_side, "_LONGEST", 4_000)
    contract = planted_contract("fee-rounded-up")
    alone, together = (together_found(contract, campaign_seed, 8_000, jobs) for jobs in (1, 2))
    assert alone.seeds == [campaign_seed, campaign_seed + 1]
    assert alone.calls >= 8_000
    assert alone.findings
    assert (together.calls, together.sequences) == (alone.calls, alone.sequences)
    assert set(together.findings) == set(alone.findings)


@pytest.mark.slow
def test_kept_sequences_that_break_different_invariants_are_all_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they end with the same call, by which alone they were told apart once."""
    broken, told = ["INV-20", "INV-01", "INV-16"], dict[str, Any]()

    def run(environment: Any, scenario: Any) -> ScenarioResult:
        result = scenario_run.run_scenario(environment, scenario)
        if scenario.actions and broken and told.setdefault("last", scenario.actions[-1].do) == scenario.actions[-1].do:
            result.findings.append(Finding(broken.pop(), "it holds", "it does not", scenario, step=1))
        return result

    monkeypatch.setattr(contract_search, "run_scenario", run)
    monkeypatch.setattr(contract_search, "shrink", lambda environment, result: result)
    found = together_found(compile_contracts()["EventStake"], 1, 6_000)
    assert broken == []
    assert sorted(one.id for each in found.findings.values() for one in each) == ["INV-01", "INV-16", "INV-20"]


@pytest.mark.slow
def test_an_engine_that_fails_in_the_midst_of_a_search_ends_that_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_LONGEST", 2_000)
    contract, run = compile_contracts()["EventStake"], LaneSearch.run

    def fails_once(search: LaneSearch, *args: Any, **options: Any) -> None:
        run(search, *args, **options)
        if search.seed == 5:
            raise EngineError("no more memory")

    monkeypatch.setattr(LaneSearch, "run", fails_once)
    found = together_found(contract, 4, 6_000)
    assert found.seeds == [4, 5, 6]
    assert found.troubles == ["The search with seed 5 ended in its midst: no more memory"]
    assert found.calls >= 6_000


def test_searches_for_which_no_time_is_left_are_not_told_as_done() -> None:
    found = together_found(compile_contracts()["EventStake"], 4, 40_000_000, seconds=0)
    assert found == Searched(cut=True)


def test_a_contract_that_cannot_be_judged_is_told_before_any_search() -> None:
    contract = compile_contracts()["RefusingReceiver"]
    with pytest.raises(EngineError):
        search_contract(contract, 1, 1_000)

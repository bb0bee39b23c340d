"""Whatever runs for a time runs once at least, however long it took to get there: nothing at all is no result."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from stakesim import run
from stakesim.evm.compiler import compile_contracts
from stakesim.faults import campaign as fault_campaign
from stakesim.lane.search import LaneSearch
from stakesim.runner.environment import open_environment
from stakesim.search.backend_search import search

OVER = 0.0
"""Seconds: the time is up before the first look at the clock."""


def test_a_campaign_for_a_time_draws_a_scenario() -> None:
    assert len(run("calm", driver="contract", seconds=OVER, seed=1).results) == 1


def test_a_campaign_with_a_limit_runs_a_scenario() -> None:
    result = run("calm", driver="contract", runs=3, limit=OVER, seed=1)
    assert (len(result.results), result.left) == (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_fault_campaign_runs_an_episode(jobs: int) -> None:
    names = fault_campaign.endless(fault_campaign.project_campaign())
    assert len(fault_campaign.run(names, seed=1, seconds=OVER, jobs=jobs).episodes) == 1


@pytest.mark.slow
def test_a_search_of_a_contract_plays_a_sequence() -> None:
    contract_search = LaneSearch(compile_contracts()["EventStake"], seed=1)
    contract_search.run(seconds=OVER, watch=lambda: True)
    assert (contract_search.sequences, contract_search.moves > 0) == (1, True)


@pytest.mark.slow
def test_a_search_of_a_backend_plays_an_action(tmp_path: Path) -> None:
    with closing(open_environment("revm", driver="services")) as environment:
        progress = search(environment, seconds=OVER, scenarios=[], corpus=tmp_path)
    assert (progress.sequences, progress.actions) == (1, 1)

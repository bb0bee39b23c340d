"""Searches of a contract in several processes, and what they find together."""

from __future__ import annotations

import pytest
from lane_helpers import planted_contract
from stakesim.search import side_by_side
from stakesim.search.side_by_side import Searched, search_contract


@pytest.mark.parametrize("calls", [1, 4_999_999, 5_000_000, 5_000_001, 40_000_000, 40_000_007])
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


@pytest.mark.slow
def test_processes_find_what_one_finds(monkeypatch: pytest.MonkeyPatch, campaign_seed: int) -> None:
    """Otherwise a finding of the gate could not be repeated on another machine."""
    monkeypatch.setattr(side_by_side, "_LONGEST", 4_000)
    contract = planted_contract("fee-rounded-up")
    alone, together = (search_contract(contract, campaign_seed, 8_000, jobs=jobs) for jobs in (1, 2))
    assert alone.seeds == [campaign_seed, campaign_seed + 1]
    assert alone.calls >= 8_000
    assert alone.findings
    assert (together.calls, together.sequences) == (alone.calls, alone.sequences)
    assert set(together.findings) == set(alone.findings)

"""Compiled outcomes are NumPy's to the bit, are compiled once, and are loaded only where it pays."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stakesim.economics import blocks, sweep
from stakesim.paths import checkout
from stakesim.population import behaviours as people
from stakesim.population import outcomes
from stakesim.population.outcomes import Outcomes, resolve_in_numpy, served_in_numpy, sorted_keys
from stakesim.population.policy import Policy
from stakesim.population.population import Population, draw
from stakesim.population.state import NEVER, Intents, PopulationState
from stakesim.prices.price_models import Constant
from stakesim.units import DAY

needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="compiled outcomes are an extra: pip install -e '.[fast]'"
)
SMALL = Population(
    name="small", story="More people than seats.", price_inr=("300", "5000"), seats=(2, 6), attendees=(2, 9)
)
CROWD = (people.NoShow(), people.Cancel(daily=0.1, daily_near=0.3), people.HostCancels(chance=0.2))


def anybody(seed, runs):
    """Runs of whatever people, in which many events are at the same second or around an edge; rates jump."""
    rng = np.random.default_rng(seed)
    places, days = int(rng.integers(1, 13)), int(rng.integers(1, 6))
    span = rng.choice([4, 30, DAY, 6 * DAY], runs)
    start = rng.integers(1, span + 1)

    def times(*shape):
        near = start + rng.integers(-2, 3, shape)
        at = np.where(rng.random(shape) < 0.2, near, rng.integers(0, np.broadcast_to(span + span // 4, shape)))
        return np.where(rng.random(shape) < rng.choice([0.0, 0.6], runs), NEVER, np.maximum(at, 0))

    flags = np.ones((places, runs), np.bool_)
    intents = Intents(
        interested=flags,
        books_at=times(places, runs),
        seats=rng.integers(0, 4, (places, runs)),
        cancels_at=times(places, runs),
        intends_to_attend=flags,
        reported_attended=flags,
        by_host=~flags,
        cancels_run_at=np.where(rng.random(runs) < 0.7, NEVER, times(runs)),
        completes_run_at=times(runs),
        expires_run_at=times(runs),
    )
    seats = rng.integers(1, 8, runs)
    rules = {"cancellation_cutoff": int(rng.choice([0, 1, 20])), "completion_grace": int(rng.choice([1, 30, 7 * DAY]))}
    levels = np.array([[100, 100, 100], [100, 299, 300], [100, 250, 700], [1, 10, 100]])
    rates = np.take_along_axis(levels[rng.integers(0, 4, runs)].T, rng.integers(0, 3, (days, runs)), axis=0)
    return PopulationState(Policy().model_copy(update=rules), seats, seats, start, seats, seats, rates, intents)


@pytest.mark.slow
@needs_numba
@given(seed=st.integers(0, 2**32), runs=st.sampled_from([1, 63, 64, 65, 500]))
def test_compiled_outcomes_are_those_of_numpy(seed, runs):
    from stakesim.population import compiled_outcomes

    state = anybody(seed, runs)
    compiled = compiled_outcomes.resolve(state, sorted_keys(state))
    expected = resolve_in_numpy(state)
    for field, values in zip(fields(Outcomes), compiled[:-1], strict=True):
        of_numpy = getattr(expected, field.name)
        assert np.array_equal(values, of_numpy), field.name
        assert values.dtype == of_numpy.dtype
    assert np.array_equal(compiled[-1], state.intents.books_at)
    waited = compiled_outcomes.resolve(state, sorted_keys(state), waiting_list=True)[-1]
    assert np.array_equal(waited, served_in_numpy(state))


@pytest.fixture
def all_compiled(monkeypatch):
    monkeypatch.setattr(outcomes, "RUNS_IN_NUMPY", 0)


def small_sweep(**options):
    policies = {"stake_bps": [2_000, 0], "waiting_list": [False, True], "fee_bps": [500, 0]}
    return sweep(policies, CROWD, Constant(), 3_000, 3, SMALL, **options)


@needs_numba
@pytest.mark.slow
def test_a_sweep_has_the_same_table_and_payouts_of_the_chain_with_and_without(all_compiled, monkeypatch):
    from stakesim.population import compiled_outcomes

    resolve, calls = compiled_outcomes.resolve, []

    def counted(*arguments, **options):
        calls.append(options)
        return resolve(*arguments, **options)

    outcomes._load_compiled.cache_clear()
    monkeypatch.setattr(compiled_outcomes, "resolve", counted)
    compiled = small_sweep(spot_check=2)
    assert {"waiting_list": True} in calls
    assert {} in calls
    monkeypatch.setenv(outcomes.SWITCH, "0")
    outcomes._load_compiled.cache_clear()
    calls.clear()
    pd.testing.assert_frame_equal(small_sweep(spot_check=2), compiled, check_exact=True)
    assert not calls
    outcomes._load_compiled.cache_clear()


IN_A_NEW_PROCESS = """
import sys
from stakesim.population import outcomes
from stakesim.population.population import Population, draw
state = draw(Population(name="a", story="Few.", price_inr=("300", "5000"), attendees=(0, 2)), 1).state
runs = 0
while runs < {runs}:
    outcomes.resolve_outcomes(state)
    runs += state.run_count
compiled = sys.modules.get("stakesim.population.compiled_outcomes")
print("numba" in sys.modules, sum(compiled._resolve.stats.cache_hits.values()) if compiled else 0)
"""


def in_a_new_process(runs, home, **environment):
    done = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS.format(runs=runs)],
        cwd=checkout(),
        env=os.environ | {"STAKESIM_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


@needs_numba
@pytest.mark.slow
def test_it_is_compiled_once_into_the_state_directory_and_only_for_many_runs(tmp_path):
    last_week, recent = tmp_path / "numba" / "last-week", tmp_path / "numba" / "recent"
    for folder in last_week, recent:
        folder.mkdir(parents=True)
    os.utime(last_week, (0, 0))
    assert in_a_new_process(outcomes.RUNS_IN_NUMPY // 2, tmp_path)[0] == ["False", "0"]
    assert in_a_new_process(outcomes.RUNS_IN_NUMPY + 1, tmp_path)[0] == ["True", "0"]
    assert list((tmp_path / "numba").rglob("*.nbc"))
    assert (last_week.exists(), recent.exists()) == (False, True)
    assert in_a_new_process(outcomes.RUNS_IN_NUMPY + 1, tmp_path)[0] == ["True", "1"]
    code = checkout() / "harness" / "stakesim" / "population"
    assert not list(code.rglob("*.nb?"))


@pytest.mark.slow
def test_without_numba_or_with_one_that_fails_numpy_goes_on(tmp_path):
    """numba raises ImportError beside a NumPy that is newer than it knows."""
    many = outcomes.RUNS_IN_NUMPY + 1
    assert in_a_new_process(many, tmp_path, STAKESIM_NUMBA="0") == (["False", "0"], "")
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 1.0 or less')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    said, warning = in_a_new_process(many, tmp_path, PYTHONPATH=path)
    assert said == ["False", "0"]
    assert warning == "numba can't be used, so sweeps take longer: Numba needs NumPy 1.0 or less\n"
    (tmp_path / "numba.py").write_text("raise ModuleNotFoundError('there is none', name='numba')")
    assert in_a_new_process(many, tmp_path, PYTHONPATH=path) == (["False", "0"], "")


@pytest.mark.slow
def test_policies_under_which_people_do_the_same_share_their_outcomes(monkeypatch):
    resolved = []

    def counted(state):
        resolved.append(state.terms)
        return resolve_in_numpy(state)

    monkeypatch.setattr(blocks, "resolve_outcomes", counted)
    indifferent = {"fee_bps": [500, 0], "stake_bps": [2_000, 0, 100], "forfeit_to_host_bps": [0, 10_000]}
    shared = sweep(indifferent, CROWD, Constant(), 500, 3, SMALL)
    assert len(resolved) == 1
    resolved.clear()
    some = {
        "fee_bps": [500, 0],
        "waiting_list": [False, True],
        "cancellation_cutoff": [0, DAY],
        "overbooking_bps": [0, 5_000],
    }
    sweep(some, CROWD, Constant(), 500, 3, SMALL)
    assert len(resolved) == 8
    monkeypatch.setattr(blocks, "have_same_outcomes", lambda one, other: False)
    resolved.clear()
    pd.testing.assert_frame_equal(sweep(indifferent, CROWD, Constant(), 500, 3, SMALL), shared, check_exact=True)
    assert len(resolved) == 12


@pytest.mark.parametrize(
    "changed", ["books_at", "seats", "cancels_at", "cancels_run_at", "completes_run_at", "expires_run_at"]
)
def test_people_who_do_something_else_share_nothing(changed):
    state = draw(SMALL, 1, behaviours=CROWD).state
    same = replace(state, intents=replace(state.intents, **{changed: getattr(state.intents, changed).copy()}))
    assert outcomes.have_same_outcomes(state, same)
    getattr(same.intents, changed)[..., -1] += 1
    assert not outcomes.have_same_outcomes(state, same)
    for name in ("start", "seats", "rates"):
        assert not outcomes.have_same_outcomes(state, replace(state, **{name: getattr(state, name) + 1}))
    for name in ("cancellation_cutoff", "completion_grace"):
        terms = state.terms.model_copy(update={name: 1})
        assert not outcomes.have_same_outcomes(state, replace(state, terms=terms))

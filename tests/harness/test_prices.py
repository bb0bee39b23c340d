"""Price paths: the documented formulas, two digits, and values that do not depend on earlier calls."""

import subprocess
import sys
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stakesim.prices.formula_paths import PAISA
from stakesim.prices.price_models import Constant, Crash, Gbm, Steps
from stakesim.prices.price_paths import rate_path

DAY = 86_400


def test_a_constant_never_moves() -> None:
    rate_at = rate_path(Constant(inr_per_eth="199999.97"))
    assert {rate_at(t) for t in (0, 1, DAY, 10**9)} == {Decimal("199999.97")}


def test_steps_hold_until_the_next() -> None:
    rate_at = rate_path(Steps(rates=[{"at": "1h", "inr_per_eth": "100"}, {"at": "1d", "inr_per_eth": "50"}]))
    assert [rate_at(t) for t in (0, 3_599, 3_600, DAY - 1, DAY, 9 * DAY)] == [100, 100, 100, 100, 50, 50]


def test_a_crash_drops_at_once_and_stays_down() -> None:
    rate_at = rate_path(Crash(inr_per_eth="200000", at="2d", drop_percent=60))
    assert [rate_at(t) for t in (0, 2 * DAY - 1, 2 * DAY, 99 * DAY)] == [200_000, 200_000, 80_000, 80_000]


def test_a_crash_recovers_in_a_straight_line() -> None:
    rate_at = rate_path(Crash(inr_per_eth="200000", at="2d", drop_percent=60, recover_over="10d"))
    assert [rate_at(t * DAY) for t in (2, 7, 12, 13)] == [80_000, 140_000, 200_000, 200_000]
    assert rate_at(2 * DAY + 1) == Decimal("80000.14")


def test_gbm_without_volatility_is_compound_growth() -> None:
    rate_at = rate_path(Gbm(inr_per_eth="100000", annual_volatility=0, annual_drift=1, step="365d"))
    assert [rate_at(t * 365 * DAY) for t in (0, 1, 2)] == [100_000, Decimal("271828.18"), Decimal("738905.61")]


def test_gbm_has_the_volatility_it_says() -> None:
    """Standard deviation of yearly log returns over 4,000 hourly steps, within 5% (4 standard errors)."""
    import numpy as np

    rate_at = rate_path(Gbm(inr_per_eth="10000000", annual_volatility=0.8, seed=7))
    logs = np.log([float(rate_at(hour * 3_600)) for hour in range(4_001)])
    assert abs(np.diff(logs).std() * np.sqrt(365 * 24) / 0.8 - 1) < 0.05


@settings(deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 40 * DAY), max_size=20))
def test_gbm_depends_on_seed_and_time_alone(seed: int, times: list[int]) -> None:
    price = Gbm(inr_per_eth="200000", annual_volatility=2, seed=seed)
    path, fresh = rate_path(price), rate_path(price)
    rates = {t: path(t) for t in times}
    assert rates == {t: fresh(t) for t in sorted(times)}
    assert all(rate >= PAISA and rate == rate.quantize(PAISA) for rate in rates.values())


def test_a_rate_never_falls_below_a_paisa() -> None:
    assert rate_path(Gbm(inr_per_eth="0.01", annual_volatility=0, annual_drift=-20, step="365d"))(365 * DAY) == PAISA


@pytest.mark.slow
def test_numpy_is_imported_only_for_random_numbers() -> None:
    code = "import sys, stakesim.scenario.scenario, stakesim.generate.random_scenario; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

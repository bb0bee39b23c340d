"""The figures that price models are judged by, on paths of which they are known."""

from datetime import date

import numpy as np
import pytest
from stakesim.studies.price_statistics import HORIZONS, KNOWN, by_year, figures

DAYS = 3_000


def path(returns: np.ndarray) -> np.ndarray:
    return 1000 * np.exp(np.concatenate([[0.0], np.cumsum(returns)]))


def test_each_path_has_a_row_with_all_figures() -> None:
    rates = np.stack([path(np.random.default_rng(seed).normal(0, 0.04, DAYS)) for seed in range(3)], axis=1)
    found = figures(rates)
    assert list(found) == list(KNOWN)
    assert found.shape == (3, len(KNOWN))
    alone = [figures(rates[:, [column]]).iloc[0] for column in range(3)]
    assert np.allclose(found, alone)


def test_volatility_is_the_standard_deviation_of_log_returns_a_year() -> None:
    """+4% and -4% in turn: 4% a day, 76.4% a year, in each window and year; sqrt(n / (n - 1)) for the sample's."""
    found = figures(path(np.tile([0.04, -0.04], DAYS // 2))[:, None]).iloc[0]
    a_year = 100 * 0.04 * np.sqrt(365)
    for name in ("30-day volatility, 5%", "30-day volatility, median", "30-day volatility, 95%"):
        assert found[name] == pytest.approx(a_year * np.sqrt(30 / 29))
    for name in ("calmest", "wildest"):
        assert found[f"volatility, {name} of 8 years"] == pytest.approx(a_year, rel=0.002)
    assert found["jumps a year"] == 0
    assert np.isnan(found["jump, mean"])


def test_moves_are_those_of_the_close_and_not_those_on_the_way() -> None:
    """Once in 80 days a fall of 30%, made good the next day: only windows that end on that day have fallen, and only
    those that begin on it have risen."""
    returns = np.zeros(DAYS)
    returns[49::80], returns[50::80] = np.log(0.7), -np.log(0.7)
    found = figures(path(returns)[:, None]).iloc[0]
    for days in HORIZONS:
        windows, lows = DAYS + 1 - days, np.arange(50, DAYS, 80)
        assert found[f"down > 20% after {days} days"] == pytest.approx(100 * (lows >= days).sum() / windows)
        assert found[f"up > 20% after {days} days"] == pytest.approx(100 * (lows <= DAYS - days).sum() / windows)
    assert found["worst day"] == pytest.approx(-30)
    assert found["7-day return, 1%"] == pytest.approx(-30)


def test_jumps_are_found_among_what_is_none() -> None:
    """3% a day but never above 8.5%, and 40 days of -20% or +10%: the threshold, 9%, finds just those."""
    rng = np.random.default_rng(1)
    returns = np.clip(rng.normal(0, 0.03, DAYS), -0.085, 0.085)
    returns[::150], returns[75::150] = -0.2, 0.1
    found = figures(path(returns)[:, None]).iloc[0]
    assert found["jumps a year"] == pytest.approx(40 / DAYS * 365)
    assert found["jump, mean"] == pytest.approx(-5)
    assert found["jump, standard deviation"] == pytest.approx(15 * np.sqrt(40 / 39))
    assert found["volatility without jumps"] == pytest.approx(100 * 0.03 * np.sqrt(365), rel=0.05)


def test_a_return_belongs_to_the_year_of_its_close() -> None:
    days = [
        date(2023, 12, 29),
        date(2023, 12, 30),
        date(2023, 12, 31),
        date(2024, 1, 1),
        date(2024, 1, 2),
        date(2024, 1, 3),
    ]
    closes = np.exp([0.0, 0.1, 0.3, 0.5, 0.4, 0.4])
    found = by_year(closes, days)
    assert found[2023] == pytest.approx(100 * np.sqrt(365) * np.std([0.1, 0.2], ddof=1))
    assert found[2024] == pytest.approx(100 * np.sqrt(365) * np.std([0.2, -0.1, 0], ddof=1))

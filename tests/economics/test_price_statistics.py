"""The statistics by which price models are judged, on paths with known values."""

from datetime import date

import numpy as np
import pytest
from stakesim.studies.price_statistics import ETH_STATISTICS, HORIZONS, path_statistics, volatility_by_year

DAYS = 3_000


def path(returns: np.ndarray) -> np.ndarray:
    return 1000 * np.exp(np.concatenate([[0.0], np.cumsum(returns)]))


def test_every_path_has_a_row_with_all_statistics() -> None:
    rates = np.stack([path(np.random.default_rng(seed).normal(0, 0.04, DAYS)) for seed in range(3)], axis=1)
    statistics = path_statistics(rates)
    assert list(statistics) == list(ETH_STATISTICS)
    assert statistics.shape == (3, len(ETH_STATISTICS))
    alone = [path_statistics(rates[:, [column]]).iloc[0] for column in range(3)]
    assert np.allclose(statistics, alone)


def test_volatility_is_the_standard_deviation_of_log_returns_annual() -> None:
    """Returns of +4% and -4% in turn: 4% a day, 76.4% a year; a sample of n days has sqrt(n / (n - 1)) times that."""
    statistics = path_statistics(path(np.tile([0.04, -0.04], DAYS // 2))[:, None]).iloc[0]
    annual = 100 * 0.04 * np.sqrt(365)
    for name in ("30-day volatility, 5%", "30-day volatility, median", "30-day volatility, 95%"):
        assert statistics[name] == pytest.approx(annual * np.sqrt(30 / 29))
    for name in ("calmest", "wildest"):
        assert statistics[f"volatility, {name} of 8 years"] == pytest.approx(annual, rel=0.002)
    assert statistics["jumps a year"] == 0
    assert np.isnan(statistics["jump, mean"])


def test_moves_are_counted_at_the_close_and_not_at_extremes() -> None:
    """Every 80 days the rate falls by 30% for a day: only windows that end on that day have fallen, and only windows
    that begin on it have risen."""
    returns = np.zeros(DAYS)
    returns[49::80], returns[50::80] = np.log(0.7), -np.log(0.7)
    statistics = path_statistics(path(returns)[:, None]).iloc[0]
    for days in HORIZONS:
        windows, lows = DAYS + 1 - days, np.arange(50, DAYS, 80)
        assert statistics[f"down > 20% after {days} days"] == pytest.approx(100 * (lows >= days).sum() / windows)
        assert statistics[f"up > 20% after {days} days"] == pytest.approx(100 * (lows <= DAYS - days).sum() / windows)
    assert statistics["worst day"] == pytest.approx(-30)
    assert statistics["7-day return, 1%"] == pytest.approx(-30)


def test_jumps_are_separated_from_other_returns() -> None:
    """Returns of 3% a day, at most 8.5%, and 40 days of -20% or +10%: the threshold of 9% finds exactly those days."""
    rng = np.random.default_rng(1)
    returns = np.clip(rng.normal(0, 0.03, DAYS), -0.085, 0.085)
    returns[::150], returns[75::150] = -0.2, 0.1
    statistics = path_statistics(path(returns)[:, None]).iloc[0]
    assert statistics["jumps a year"] == pytest.approx(40 / DAYS * 365)
    assert statistics["jump, mean"] == pytest.approx(-5)
    assert statistics["jump, standard deviation"] == pytest.approx(15 * np.sqrt(40 / 39))
    assert statistics["volatility without jumps"] == pytest.approx(100 * 0.03 * np.sqrt(365), rel=0.05)


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
    statistics = volatility_by_year(closes, days)
    assert statistics[2023] == pytest.approx(100 * np.sqrt(365) * np.std([0.1, 0.2], ddof=1))
    assert statistics[2024] == pytest.approx(100 * np.sqrt(365) * np.std([0.2, -0.1, 0], ddof=1))

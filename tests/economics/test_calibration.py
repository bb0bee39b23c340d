"""Each price model reproduces what is claimed of it, and docs/PRICES.md has the numbers of the simulation."""

import re
from functools import cache

import numpy as np
import pandas as pd
import pytest
from stakesim.paths import checkout
from stakesim.prices import series
from stakesim.studies import calibration, synthetic_series
from stakesim.studies.calibration import (
    GARCH_TARGETS,
    MODEL_CLAIMS,
    MODELS,
    SEED,
    claims_table,
    fit_garch,
    merton_components,
    model_statistics,
)
from stakesim.studies.calibration_page import render
from stakesim.studies.price_statistics import ETH_STATISTICS, ETH_VOLATILITY

ROOT = checkout()

pytestmark = pytest.mark.slow

ERRORS = 4
"""Standard errors by which a mean over simulated paths may differ: more happens once in 16,000 times."""


@pytest.fixture(scope="module")
def statistics() -> pd.DataFrame:
    return calibration.statistics_table()


def within(paths: pd.Series, low: float, high: float, bias: float = 0.0) -> bool:
    """Whether the mean over paths is in the range, up to `ERRORS` and a bias that the test explains."""
    tolerance = ERRORS * paths.std() / np.sqrt(len(paths)) + bias
    return bool(low - tolerance <= paths.mean() <= high + tolerance)


@cache
def simulated(model: str) -> pd.DataFrame:
    """Statistics of a model's paths, with another seed than the page's."""
    return model_statistics(MODELS[model], seed=1)


def test_gbm_has_the_claimed_tail_which_is_thinner_than_eths() -> None:
    paths = simulated("GBM")
    assert within(paths["7-day return, 1%"], -22.4, -22.4)
    assert paths["7-day return, 1%"].mean() > ETH_STATISTICS["7-day return, 1%"][0] + 4


def test_merton_draws_the_claimed_jumps_and_diffusion() -> None:
    """Standard errors of 23,000 jumps and 760,000 days: 0.07 jumps a year, 0.09% and 0.06% of a size, 0.06% of the
    diffusion. Each default lies in the middle of its range, further than that from both ends."""
    components = merton_components(calibration.MERTON, seed=1)
    assert set(components) == set(MODEL_CLAIMS["Merton"])
    for name, (low, high) in MODEL_CLAIMS["Merton"].items():
        assert low < components[name] < high


def test_merton_has_the_variance_and_kurtosis_of_its_cumulants() -> None:
    """Daily cumulants: c2 = v^2 + l (m^2 + d^2), c4 = l (m^4 + 6 m^2 d^2 + 3 d^4). Means over 200 paths."""
    price = calibration.MERTON
    v, rate, m, d = price.annual_volatility, price.jump_rate / 365, price.jump_mean, price.jump_volatility
    c2 = v**2 / 365 + rate * (m**2 + d**2)
    c4 = rate * (m**4 + 6 * m**2 * d**2 + 3 * d**4)
    returns = np.diff(np.log(calibration.simulate(price, np.random.default_rng(1), 200, 3_803)), axis=0)
    centred = returns - returns.mean()
    assert within(pd.Series((centred**2).mean(axis=0)), c2, c2)
    assert within(pd.Series((centred**4).mean(axis=0)), c4 + 3 * c2**2, c4 + 3 * c2**2)


@pytest.mark.parametrize("days", [7, 20])
def test_a_bootstrap_has_the_tail_of_its_series_which_is_the_claimed_one(days: int, statistics: pd.DataFrame) -> None:
    """Most windows of seven days cross the end of a block, which moves the quantile by up to one percentage point."""
    paths = simulated(f"bootstrap, {days} days")["7-day return, 1%"]
    assert within(paths, -27, -27, bias=1.0)
    assert within(paths, *[statistics.loc["7-day return, 1%", "synthetic series"]] * 2, bias=1.0)


@pytest.mark.parametrize("name", GARCH_TARGETS)
def test_garch_comes_near_its_targets(name: str) -> None:
    """GARCH has three parameters for five targets, and not their skew: the median is 13% off."""
    low, high = ETH_STATISTICS[name]
    assert within(simulated("GARCH")[name], low, high, bias=0.14 * high if name.endswith("median") else 0.07 * high)


def test_the_defaults_of_garch_are_the_best_on_the_grid() -> None:
    """They beat their four neighbours with the same random numbers. The volatility is within 3%, its sampling error."""
    price = MODELS["GARCH"]
    persistence = round(price.alpha + price.beta, 6)
    _, distance = fit_garch([price.alpha], [persistence])
    neighbours = fit_garch([0.05, 0.07], [persistence])[1], fit_garch([price.alpha], [0.99, 0.997])[1]
    assert distance < min(neighbours)
    fitted, _ = fit_garch([price.alpha], [persistence], runs=400)
    assert fitted.annual_volatility == pytest.approx(price.annual_volatility, rel=0.03)


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="the grid is empty"):
        fit_garch([], [0.99])


def test_the_committed_series_is_reproducible() -> None:
    """Up to a millionth, as exp and log may differ in the last digit between machines."""
    committed = series.read_closes(ROOT / "scenarios" / series.SYNTHETIC)
    assert (committed.first, committed.last) == (synthetic_series.days()[0], synthetic_series.days()[-1])
    assert np.allclose([float(rate) for rate in committed.rates], synthetic_series.closes(), rtol=1e-6, atol=0.011)
    assert not np.allclose(synthetic_series.closes(synthetic_series.SEED + 1), synthetic_series.closes(), rtol=0.1)


def test_the_synthetic_series_has_the_volatility_of_each_year_and_the_worst_day(statistics: pd.DataFrame) -> None:
    by_year = calibration.volatility_table()
    assert list(by_year.index) == list(ETH_VOLATILITY)
    assert np.allclose(by_year["claimed"], by_year["synthetic series"], atol=0.01)
    assert statistics.loc["worst day", "synthetic series"] == pytest.approx(-43, abs=0.01)


@pytest.mark.parametrize("name", ETH_STATISTICS)
def test_the_synthetic_series_comes_near_each_statistic(name: str, statistics: pd.DataFrame) -> None:
    """The series is fixed: volatilities are within 2 percentage points, all others within 0.8."""
    (low, high), value = ETH_STATISTICS[name], statistics.loc[name, "synthetic series"]
    assert max(low - value, value - high, 0) <= (2 if "volatility" in name else 0.8)


def test_the_page_has_the_numbers_of_the_simulation(statistics: pd.DataFrame) -> None:
    """The words are equal except for line ends, and numbers within 0.2, as exp and log may differ between machines."""
    number = r"(?<![\w.])-?\d+\.\d(?!\d)"
    texts = (ROOT / "docs" / "PRICES.md").read_text(), render(statistics, claims_table(statistics))
    committed, fresh = (" ".join(text.split()) for text in texts)
    assert re.sub(number, "#", committed) == re.sub(number, "#", fresh)
    pairs = list(zip(re.findall(number, committed), re.findall(number, fresh), strict=True))
    assert len(pairs) > 140
    assert [pair for pair in pairs if abs(float(pair[0]) - float(pair[1])) > 0.2] == []


def test_the_same_seed_gives_the_same_statistics(statistics: pd.DataFrame) -> None:
    once, again, other = (model_statistics(MODELS["GARCH"], seed=seed, runs=20) for seed in (SEED, SEED, SEED + 1))
    assert once.equals(again)
    assert not once.equals(other)

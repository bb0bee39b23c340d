"""Simulations of many price paths, the models with daily values, and the CSV files that some of them read."""

import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng
from stakesim.prices import series
from stakesim.prices.formula_paths import PAISA
from stakesim.prices.market import draw_jumps, simulate
from stakesim.prices.price_models import Bootstrap, Constant, Crash, Garch, Gbm, Merton, Series, Steps
from stakesim.prices.price_paths import rate_path
from stakesim.scenario.scenario import dump, loads
from stakesim.schema.errors import InputError
from stakesim.units import DAY

START = Decimal("200000.55")
RANDOM = [
    Gbm(inr_per_eth=START, annual_volatility=0.8),
    Merton(inr_per_eth=START),
    Bootstrap(inr_per_eth=START, block_days=7),
    Bootstrap(inr_per_eth=START, blocks="moving"),
    Garch(inr_per_eth=START),
]
DAILY = RANDOM[1:]
WITHOUT_RANDOMNESS = [
    Constant(inr_per_eth=START),
    Steps(rates=[{"at": "1h", "inr_per_eth": "100"}, {"at": "1d", "inr_per_eth": "50"}]),
    Crash(inr_per_eth=START, at="2d", drop_percent=60, recover_over="10d"),
    Series(file=series.SYNTHETIC, start="2020-02-29"),
]


def model_name(price: Any) -> str:
    return f"{price.path}-{price.blocks}" if isinstance(price, Bootstrap) else str(price.path)


@pytest.mark.parametrize("price", WITHOUT_RANDOMNESS, ids=model_name)
def test_without_randomness_each_column_is_the_path(price: Any) -> None:
    rates = simulate(price, default_rng(1), runs=3, days=20)
    rate_at = rate_path(price)
    assert rates.shape == (21, 3)
    assert rates.tolist() == [[float(rate_at(day * DAY))] * 3 for day in range(21)]


@pytest.mark.parametrize("price", RANDOM, ids=model_name)
def test_columns_begin_at_the_first_rate_and_are_independent(price: Any) -> None:
    rates = simulate(price, default_rng(1), runs=200, days=60)
    assert (rates.shape, rates.dtype) == ((61, 200), np.float64)
    assert set(rates[0]) == {float(START)}
    assert len(set(rates[1])) > 190


@pytest.mark.parametrize("price", RANDOM, ids=model_name)
def test_the_same_seed_gives_the_same_paths_and_more_days_the_same_beginning(price: Any) -> None:
    short, same, long, other = (
        simulate(price, default_rng(seed), runs=50, days=days) for seed, days in ((7, 40), (7, 40), (7, 150), (8, 40))
    )
    assert (short == same).all()
    assert (short == long[:41]).all()
    assert (short[1:] != other[1:]).mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("price", RANDOM, ids=model_name)
def test_ten_thousand_paths_of_sixty_days_are_fast(price: Any) -> None:
    """0.02 to 0.05 s on one core of 2026; time of this process, and three tries: a busy machine is no slow code."""

    def seconds() -> float:
        began = time.process_time()
        simulate(price, default_rng(1), runs=10_000, days=60)
        return time.process_time() - began

    assert min(seconds() for _ in range(3)) < 0.25


@pytest.mark.parametrize("price", DAILY, ids=model_name)
def test_the_path_is_the_simulated_one_of_its_seed_and_holds_for_a_day(price: Any) -> None:
    price = price.model_copy(update={"seed": 11})
    rates, rate_at = simulate(price, default_rng(11), runs=1, days=300)[:, 0], rate_path(price)
    assert [rate_at(day * DAY) for day in (250, 0, 3, 299)] == [
        Decimal(f"{rates[day]:.2f}") for day in (250, 0, 3, 299)
    ]
    assert rate_at(3 * DAY) == rate_at(4 * DAY - 1) != rate_at(4 * DAY)


@pytest.mark.slow
def test_a_simulated_gbm_is_distributed_as_its_path_is() -> None:
    """Log returns over 20 days: 400 paths beside 20,000 columns. Five standard errors of the mean and the deviation."""
    price = Gbm(inr_per_eth=START, annual_volatility=0.9, annual_drift=0.5, step="6h")
    many = np.log(simulate(price, default_rng(3), runs=20_000, days=20)[-1] / float(START))
    few = np.log([float(rate_path(price.model_copy(update={"seed": seed}))(20 * DAY) / START) for seed in range(400)])
    deviation = 0.9 * np.sqrt(20 / 365)
    assert abs(few.mean() - many.mean()) < 5 * deviation / np.sqrt(400)
    assert abs(few.std() - many.std()) < 5 * deviation / np.sqrt(2 * 400)


@pytest.mark.slow
@pytest.mark.parametrize("price", [RANDOM[0], Merton(inr_per_eth=START), Garch(inr_per_eth=START)], ids=model_name)
def test_the_mean_grows_by_the_drift_alone(price: Any) -> None:
    """E[S(t)] = S(0) exp(drift t), whatever the volatility and the jumps: within five standard errors."""
    drifting = price.model_copy(update={"annual_drift": 0.6})
    last = simulate(drifting, default_rng(5), runs=40_000, days=60)[-1] / float(START)
    assert abs(last.mean() - np.exp(0.6 * 60 / 365)) < 5 * last.std() / np.sqrt(40_000)


def test_a_gbm_whose_step_is_long_waits_for_it() -> None:
    rates = simulate(Gbm(inr_per_eth=START, annual_volatility=0.8, step="3d"), default_rng(1), runs=50, days=9)
    unchanged_days = [day for day in range(1, 10) if (rates[day] == rates[day - 1]).all()]
    assert unchanged_days == [1, 2, 4, 5, 7, 8]


def test_merton_jumps_as_often_and_as_far_as_it_says() -> None:
    """22,000 jumps: within five standard errors, 3.4% of the rate, 0.005 of the mean, 2.4% of the deviation."""
    price = Merton(inr_per_eth=START, jump_rate=11, jump_mean=-0.015, jump_volatility=0.135)
    counts, sizes = draw_jumps(price, default_rng(2), runs=2_000, days=365)
    single = sizes[counts == 1]
    assert counts.sum() / 2_000 == pytest.approx(11, rel=0.034)
    assert single.mean() == pytest.approx(-0.015, abs=0.005)
    assert single.std() == pytest.approx(0.135, rel=0.024)
    assert (sizes[counts == 0] == 0).all()


def test_merton_without_jumps_is_a_gbm() -> None:
    returns = np.diff(np.log(simulate(Merton(inr_per_eth=START, jump_rate=0), default_rng(4), 500, 365)), axis=0)
    assert returns.std() * np.sqrt(365) == pytest.approx(0.695, rel=5 / np.sqrt(2 * returns.size))


def test_garch_begins_at_the_volatility_given_and_returns_to_the_long_run() -> None:
    """Over 20,000 runs; in the long run heavy tails make the sample's deviation uncertain, by 3% here."""
    price = Garch(inr_per_eth=START, annual_volatility=0.8, alpha=0.1, beta=0.8, first_volatility=0.2)
    returns = np.diff(np.log(simulate(price, default_rng(6), runs=20_000, days=90)), axis=0)
    assert returns[0].std() * np.sqrt(365) == pytest.approx(0.2, rel=0.03)
    assert returns[-30:].std() * np.sqrt(365) == pytest.approx(0.8, rel=0.03)


@pytest.fixture
def counting(tmp_path: Path) -> str:
    """A series that rises by 1, 2, ... 40 per mille in turn, so that each return identifies its day."""
    rates = [1000.0]
    for day in range(1, 41):
        rates.append(rates[-1] * (1 + day / 1000))
    return write_csv(tmp_path, [f"{_date(day)},{rate:.8f}" for day, rate in enumerate(rates)])


def _date(day: int) -> str:
    return str(np.datetime64("2024-01-01") + day)


def write_csv(folder: Path, lines: list[str], header: str = "date,close") -> str:
    file = folder / "mine.csv"
    file.write_text("\n".join([header, *lines]) + "\n")
    return str(file)


def days_of_series(price: Bootstrap, runs: int, days: int) -> Any:
    """The day of the series that each simulated return is from."""
    rates = simulate(price, default_rng(9), runs, days)
    return np.rint((rates[1:] / rates[:-1] - 1) * 1000).astype(int)


def test_moving_blocks_are_whole_weeks_of_the_series(counting: str) -> None:
    days_drawn = days_of_series(
        Bootstrap(inr_per_eth="10000000", file=counting, block_days=7, blocks="moving"), 2_000, 21
    )
    blocks = days_drawn.reshape(3, 7, 2_000)
    assert (np.diff(blocks, axis=1) == 1).all()
    assert set(blocks[:, 0].ravel()) == set(range(1, 35))


def test_stationary_blocks_have_the_mean_length_and_wrap_around(counting: str) -> None:
    """Among 40,000 days a block ends with the chance 1/8; one in 40 new ones happens to go on: five standard errors."""
    days_drawn = days_of_series(Bootstrap(inr_per_eth="10000000", file=counting, block_days=8), 1_000, 41)
    continues = days_drawn[1:] == days_drawn[:-1] % 40 + 1
    expected = 1 - 1 / 8 * (1 - 1 / 40)
    assert abs(continues.mean() - expected) < 5 * np.sqrt(expected * (1 - expected) / continues.size)
    assert ((days_drawn[:-1] == 40) & (days_drawn[1:] == 1)).any()
    assert set(days_drawn.ravel()) == set(range(1, 41))


@given(
    st.sampled_from(RANDOM),
    st.integers(0, 2**63 - 1),
    st.sampled_from(["0.01", "1", "200000.55", "99999999999999999999"]),
    st.integers(0, 400),
)
def test_rates_are_positive_finite_and_have_two_digits(price: Any, seed: int, start: str, days: int) -> None:
    rates = simulate(price.model_copy(update={"inr_per_eth": Decimal(start)}), default_rng(seed), runs=3, days=days)
    assert rates.shape == (days + 1, 3)
    assert np.isfinite(rates).all()
    assert rates.min() >= float(PAISA)
    assert (rates == np.round(rates, 2)).all()


@pytest.mark.slow
@given(st.sampled_from(DAILY), st.integers(0, 2**32), st.lists(st.integers(0, 300 * DAY), max_size=20))
def test_a_daily_path_depends_on_seed_and_time_alone(price: Any, seed: int, times: list[int]) -> None:
    path, fresh = (rate_path(price.model_copy(update={"seed": seed})) for _ in range(2))
    rates = {t: path(t) for t in times}
    assert rates == {t: fresh(t) for t in sorted(times)}
    assert all(rate >= PAISA and rate == rate.quantize(PAISA) for rate in rates.values())


@pytest.mark.parametrize("extreme", [20.0, -20.0])
def test_an_extreme_drift_stays_within_what_a_file_may_say(extreme: float) -> None:
    price = Gbm(inr_per_eth=START, annual_volatility=0, annual_drift=extreme)
    assert simulate(price, default_rng(1), runs=1, days=36_500)[-1, 0] == (1e20 if extreme > 0 else 0.01)


def test_a_series_begins_at_its_start_and_keeps_its_last_close(tmp_path: Path) -> None:
    file = write_csv(tmp_path, ["2024-01-01,100", "2024-01-02,110.555", "2024-01-03,120"])
    whole, later = rate_path(Series(file=file)), rate_path(Series(file=file, start="2024-01-02"))
    assert [whole(t) for t in (0, DAY - 1, DAY, 2 * DAY, 99 * DAY)] == [100, 100, Decimal("110.56"), 120, 120]
    assert [later(t) for t in (0, DAY, 99 * DAY)] == [Decimal("110.56"), 120, 120]


def test_other_columns_are_ignored_and_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = write_csv(tmp_path, ["7,2024-01-01,100", "8,2024-01-02,110"], "Volume,Date,Close")
    assert series.read_closes(file).rates == (100, 110)
    time.sleep(0.01)
    write_csv(tmp_path, ["7,2024-01-01,100", "8,2024-01-02,111"], "Volume,Date,Close")
    assert series.read_closes(file).rates == (100, 111)


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (["2024-01-01,1"], "day,close", "mine.csv:1: has no column 'date'; begin the file with `date,close`"),
        (["2024-01-01,1", "2024-01-02"], "date,close", "mine.csv:3: has 1 cells; give a date and a close"),
        (["01.02.2024,1"], "date,close", ":2: '01.02.2024' is not a date; write year-month-day (2024-01-31)"),
        (["2024-01-01,1", "2024-01-02,x"], "date,close", ":3: 'x' is not a decimal number"),
        (["2024-01-01,1", "2024-01-02,-5"], "date,close", ":3: -5 is not a rate; write INR per ETH above zero"),
        (["2024-01-01,1", "2024-01-02,NaN"], "date,close", ":3: 'NaN' is not a decimal number"),
        (
            ["2024-01-01,1", "", "2024-01-03,1"],
            "date,close",
            ":4: date: 2024-01-03 is where 2024-01-02 should be; give one line a day, in order",
        ),
        (["2024-01-01,1"], "date,close", "mine.csv: has 1 closes; give at least 2"),
    ],
)
def test_a_bad_file_gets_one_sentence(tmp_path: Path, lines: list[str], header: str, message: str) -> None:
    file = write_csv(tmp_path, lines, header)
    for use in (lambda: Series(file=file), lambda: Bootstrap(inr_per_eth=START, file=file, block_days=1)):
        with pytest.raises(InputError) as caught:
            use()
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_empty_a_binary_and_a_missing_file_get_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "binary.csv").write_bytes(b"date,close\n\xff\xfe")
    with pytest.raises(InputError, match=":1: has no column 'date'"):
        series.read_closes(tmp_path / "empty.csv")
    with pytest.raises(InputError, match=r"binary\.csv:2: is not UTF-8"):
        series.read_closes(tmp_path / "binary.csv")
    with pytest.raises(InputError, match="there is no such file, here or in scenarios/"):
        series.read_closes("nowhere.csv")


def test_a_relative_path_counts_from_here_or_else_from_the_scenarios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(series.read_closes(series.SYNTHETIC).rates) == 3_804
    write_csv(tmp_path, ["2024-01-01,100", "2024-01-02,110"])
    assert len(series.read_closes("mine.csv").rates) == 2


SCENARIO = "name: s\nstory: A path.\nprice: {}\nactors: {{}}\nactions: []\n"


@pytest.mark.parametrize("price", [*DAILY, Series(file=series.SYNTHETIC, start="2020-01-01")], ids=model_name)
def test_a_file_holds_each_kind_and_returns_it(price: Any) -> None:
    scenario = loads(SCENARIO.format(price.model_dump_json()))
    assert scenario.price == price
    assert loads(dump(scenario)) == scenario


@pytest.mark.parametrize(
    ("price", "message"),
    [
        ("{path: garch, inr_per_eth: 1, alpha: 0.2, beta: 0.8}", ":3: price.beta: alpha + beta must stay below 1"),
        ("{path: series, file: nowhere.csv}", "nowhere.csv: there is no such file"),
        ("{path: series, file: series/eth-inr-synthetic.csv, start: 2001-01-01}", "has no 2001-01-01; give a `start`"),
        ("{path: merton}", ":3: price.inr_per_eth: is missing"),
        ("{path: bootstrap, inr_per_eth: 1, block_days: 0}", ":3: price.block_days: is 0; write at least 1"),
        ("{path: jump, inr_per_eth: 1}", ":3: price.path: there is no 'jump'"),
    ],
)
def test_an_invalid_price_model_is_refused(price: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        loads(SCENARIO.format(price))
    assert message in str(caught.value)


def test_a_bootstrap_needs_a_series_as_long_as_its_blocks(counting: str) -> None:
    with pytest.raises(InputError, match="has 40 daily returns, too few for blocks of 41 days"):
        Bootstrap(inr_per_eth=START, file=counting, block_days=41)

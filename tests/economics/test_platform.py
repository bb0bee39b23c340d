"""Gas and float: what is measured is what the chain used, break-evens are where the money is even, and wallets run dry
as often as they do on paper."""

from __future__ import annotations

from math import exp, factorial

import numpy as np
import pytest
from numpy.random import default_rng
from stakesim import plots
from stakesim.economics.settle import settle
from stakesim.population.exact_int import WEI_PER_ETH, exact_sum
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import draw, select_runs
from stakesim.prices.price_models import Constant
from stakesim.scenario.actions import Terms
from stakesim.studies import gas_costs, gas_prices, wallet
from stakesim.studies.break_even import USUAL, Load, break_even, break_evens, by_gas_price, load, weight
from stakesim.studies.gas_costs import Costs, used
from stakesim.studies.gas_prices import WEI_PER_GWEI, GasPrice
from stakesim.studies.wallet import YEAR, Flows, Profiles

pytestmark = pytest.mark.slow

TERMS = Terms()
STILL = GasPrice(5, deviation=0, spikes=0)


@pytest.fixture(scope="module")
def costs(engine_name: str) -> Costs:
    return gas_costs.measure(engine_name)


def test_what_is_measured_is_what_was_reviewed(costs: Costs) -> None:
    """Single transactions within the table's own half percent; what is on a straight line within two."""
    table = gas_costs.beside_reviewed(costs)
    off = abs(table["of an only run"] / table["reviewed"] - 1)
    assert off.iloc[:3].max() < 0.005
    assert off.max() < 0.02


def test_whole_runs_use_the_gas_that_is_reckoned(costs: Costs, engine_name: str) -> None:
    """Within 1.5% each and 1% together: where bookings are cancelled, fewer slots are begun than reckoned."""
    table = gas_costs.played(draw(USUAL, 2), 6, costs, engine_name)
    assert abs(table["off by, %"]).max() < 1.5
    assert table["gas reckoned"].sum() == pytest.approx(table["gas on the chain"].sum(), rel=0.01)
    assert table["gas on the chain"].nunique() == 6


def test_break_even_by_hand() -> None:
    """A million gas at 10 gwei is 0.01 ETH, 2,000 INR. Ten seats: half a ticket by the fee; two no-shows: 0.4."""
    of = Load(runs=1, gas=10**6, sold=10, forfeited=2)
    assert break_even(of, 10 * WEI_PER_GWEI, 20_000_000, TERMS, forfeits=False) == 400_000
    assert break_even(of, 10 * WEI_PER_GWEI, 20_000_000, TERMS) == 222_223  # 2,000 / 0.9 and not a paisa less
    shared = Terms(forfeit_to_host_bps=5_000)
    assert break_even(of, 10 * WEI_PER_GWEI, 20_000_000, shared) == 285_715  # 2,000 / 0.7
    with pytest.raises(ValueError, match="nothing is earned at any price"):
        break_even(of, 1, 1, Terms(fee_bps=0), forfeits=False)


def test_at_the_break_even_ticket_the_platform_earns_the_gas_and_a_percent_below_it_does_not(costs: Costs) -> None:
    runs, gas_wei = 600, 7 * WEI_PER_GWEI
    ticket = break_even(load(USUAL, runs, 3, costs), gas_wei, 20_000_000, TERMS) / 100

    def surplus(inr: float) -> int:
        price = f"{inr:.2f}"
        state = select_runs(
            draw(USUAL.model_validate(USUAL.model_dump() | {"price_inr": (price, price)}), 3), np.arange(runs)
        )
        outcomes = resolve_outcomes(state)
        return exact_sum(settle(state, outcomes).platform) - int(used(state, outcomes, costs).sum()) * gas_wei

    assert surplus(ticket + 0.01) > 0 > surplus(0.99 * ticket)


def test_only_the_product_of_gas_price_and_rate_matters_and_the_table_says_the_same(costs: Costs) -> None:
    of = load(USUAL, 200, 1, costs)
    assert break_even(of, 8 * WEI_PER_GWEI, 10_000_000, TERMS) == break_even(of, 4 * WEI_PER_GWEI, 20_000_000, TERMS)
    grid = break_evens(of, [4, 8], [100_000, 200_000], TERMS)
    rows = by_gas_price(of, [4, 8], 200_000, TERMS)
    assert rows["with forfeits, INR"].tolist() == grid[200_000].tolist()
    assert (rows["break-even by fee, INR"] > rows["with forfeits, INR"]).all()
    assert rows["gas, INR a run"][4] == pytest.approx(of.gas / 200 * 4e-9 * 200_000)


def test_gas_prices_return_to_their_median_and_spikes_come_as_often_as_said() -> None:
    """Log prices: deviation and correlation from day to day as they are set; a spike raises the mean by spikes / 365 x
    size / (1 - memory)."""
    calm = np.log(gas_prices.simulate(GasPrice(8, 0.6, 4, spikes=0), default_rng(1), 2_000, 300) / WEI_PER_GWEI)
    memory = 0.5 ** (1 / 4)
    assert np.median(calm) == pytest.approx(np.log(8), abs=0.02)
    assert calm.std() == pytest.approx(0.6, rel=0.02)
    assert np.corrcoef(calm[:-1].ravel(), calm[1:].ravel())[0, 1] == pytest.approx(memory, abs=0.01)
    spiky = np.log(gas_prices.simulate(GasPrice(8, 0.6, 4, 24, 1.5, 0.1), default_rng(1), 2_000, 300) / WEI_PER_GWEI)
    assert spiky.mean() - np.log(8) == pytest.approx(24 / 365 * 1.5 / (1 - memory), rel=0.05)


def test_a_gas_price_that_never_moves_is_its_median() -> None:
    assert set(gas_prices.simulate(STILL, default_rng(1), 3, 9).ravel()) == {5 * WEI_PER_GWEI}


def test_profiles_hold_all_money_and_gas_of_their_runs(costs: Costs) -> None:
    """To a gwei an amount, in the platform's disfavour."""
    runs = 300
    of = wallet.profiles(USUAL, runs, 6, costs)
    state = select_runs(draw(USUAL, 6), np.arange(runs))
    outcomes = resolve_outcomes(state)
    settled = settle(state, outcomes)
    paid_in = settled.host_stake + settled.paid.sum(axis=0)
    back = settled.host + settled.received.sum(axis=0)
    amounts = 2 + 2 * outcomes.accepted.sum(axis=0)
    over, under = of.paid_in.sum(axis=0) * WEI_PER_GWEI - paid_in, back - of.back.sum(axis=0) * WEI_PER_GWEI
    for rounding in (over, under):
        assert (rounding >= 0).all()
        assert (rounding <= amounts * WEI_PER_GWEI).all()
    assert (of.gas.sum(axis=0) == used(state, outcomes, costs)).all()
    assert (of.paid_in[0] >= settled.host_stake // WEI_PER_GWEI).all()


def of_hand(out: list[int], back: list[int], rates: list[int]) -> Flows:
    """ETH of one year's days."""
    gwei = [np.array(column)[:, None] * 10**9 for column in (out, back)]
    return Flows(*gwei, np.zeros_like(gwei[0]), np.array(rates)[:, None] * 100)


def test_the_float_by_hand() -> None:
    """Filled up every two days: 3 and 2 go out, of which 1 is back after the first day: 4 ETH at 1,000 INR. Then 1, 1
    at 3,000 INR, 6,000 INR; what comes back on the last day is too late, and what is left over is taken out."""
    of = of_hand([3, 2, 1, 1], [1, 9, 0, 2], [1_000, 1, 3_000, 1])
    assert wallet.needs(of, 2)[0] / 100 == pytest.approx(6_000, rel=1e-5)
    assert wallet.needs(of, 4)[0] / 100 == pytest.approx(4_000, rel=1e-5)
    assert wallet.needs(of, 2)[0] >= 600_000
    with pytest.raises(ValueError, match="filled up every 5 days is not within a year"):
        wallet.needs(of, 5)


def single(eth: int, gas: int = 0) -> Profiles:
    """A run that pays in so many ETH on its only day."""
    one = np.ones((1, 1), np.int64)
    return Profiles(one * eth * 10**9, 0 * one, one * gas, one[0] * 10, one[0] * 2, 20_000_000)


@pytest.mark.parametrize("dry_above", [3, 4])
def test_the_chance_to_run_dry_is_that_of_the_largest_poisson_number_of_a_year(dry_above: int) -> None:
    """Half a run a day, each of 1 ETH: dry where on one of 364 days more than so many came; five standard errors."""
    years = 3_000
    of = wallet.flows(single(1), 0.5, Constant(), STILL, years, 1)
    assert of.out.shape == (YEAR, years)
    in_time = sum(exp(-0.5) * 0.5**count / factorial(count) for count in range(dry_above + 1))
    dry = 1 - in_time**YEAR
    row = wallet.ruin(wallet.needs(of, 1), [dry_above * 200_000 + 1]).iloc[0]
    assert abs(row.chance - dry) < 5 * np.sqrt(dry * (1 - dry) / years)
    assert row.low <= row.chance <= row.high


def test_what_a_run_pays_in_follows_the_rate_of_its_day_and_gas_that_of_the_gas() -> None:
    """At half the rate twice the wei; 10^9 gas at 5 gwei are 5 ETH."""
    cheap = wallet.flows(single(1), 2, Constant(inr_per_eth="100000"), STILL, 20, 1)
    usual = wallet.flows(single(1), 2, Constant(), STILL, 20, 1)
    assert (cheap.out == 2 * usual.out).all()
    burning = wallet.flows(single(0, gas=10**9), 2, Constant(), STILL, 20, 1)
    assert (burning.out == 5 * usual.out).all()
    assert (burning.gas == burning.out).all()


def test_amounts_that_do_not_fit_are_refused_and_products_that_do_not_are_split() -> None:
    """3 x 10^9 gas at 1,000.5 gwei: 3 x 10^21 wei are beyond int64, and 3,001.5 x 10^9 gwei are not."""
    assert wallet._gas_gwei(np.array([3 * 10**9, 1]), np.array([1_000_500_000_000, 1])).tolist() == [
        3_001_500_000_000,
        1,
    ]
    with pytest.raises(ValueError, match="take fewer runs a day"):
        wallet.flows(single(10**3), 200, Constant(), STILL, 2, 1)


def test_what_goes_to_addresses_of_their_own_does_not_come_back(costs: Costs) -> None:
    of = wallet.profiles(USUAL, 200, 1, costs)
    all_back, half, none = (wallet.flows(of, 1, Constant(), STILL, 5, 1, bps) for bps in (0, 5_000, 10_000))
    assert (half.back == all_back.back // 2).all()
    assert not none.back.any()
    assert (none.out == all_back.out).all()
    assert (wallet.needs(none, 7) >= wallet.needs(all_back, 7)).all()
    table = wallet.floats({"all": all_back, "none": none}, [7], tail=0.2)
    assert table.loc[("none", 7), "float"] > table.loc[("all", 7), "float"]


def test_a_run_loses_money_below_its_own_break_even() -> None:
    """10^6 gas at 5 gwei are 1,000 INR; ten seats and two no-shows earn 0.9 tickets: 1,111.11 INR."""
    of = single(0, gas=10**6)
    table = wallet.losing(of, {"still": STILL}, [1_111, 1_112], 200_000, TERMS, 1)
    assert table["still"].tolist() == [100, 0]
    assert int(weight(TERMS, of.sold, of.forfeited)[0]) == 90_000_000
    assert WEI_PER_ETH == WEI_PER_GWEI * 10**9


def test_the_pictures_show_what_is_in_the_tables(costs: Costs) -> None:
    of = load(USUAL, 100, 1, costs)
    table = break_evens(of, [1, 10, 100], [100_000, 300_000], TERMS)
    assert plots.break_even(table).axes[0].get_xlabel() == "gas price, gwei"
    path = gas_prices.simulate(GasPrice(), default_rng(1), 20, 30)
    line = plots.gas_path(path, 30).axes[0].lines[0]
    assert line.get_ydata().tolist() == (path[:, 0] / 10**9).tolist()
    losing = wallet.losing(wallet.profiles(USUAL, 50, 1, costs), {"a": STILL, "b": GasPrice()}, [300, 900], 1, TERMS, 1)
    labels = [line.get_label() for line in plots.losing(losing).axes[0].lines]
    assert labels == ["a", "b"]
    dry = wallet.ruin(np.array([10_000, 20_000]), [100, 150, 200])
    assert dry.chance.tolist() == [0.5, 0.5, 0]
    drawn = plots.ruin({"case": [dry, dry]}, ["left", "right"])
    assert drawn.axes[1].lines[0].get_ydata().tolist() == [50, 50, 0]

"""Gas, break-even tickets and the wallet: measured gas equals that of the chain, income equals cost at the break-even
ticket, and wallets run dry as often as closed forms say."""

from __future__ import annotations

import json
from math import exp, factorial

import numpy as np
import pytest
from numpy.random import default_rng
from stakesim import plots
from stakesim.economics.gas import COSTS_FILE, GasCosts, gas_used, measured_costs
from stakesim.economics.settle import settle
from stakesim.evm.compiler import compiler_version
from stakesim.population.exact_int import exact_sum
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import draw, select_runs
from stakesim.prices import gas_models
from stakesim.prices.gas_models import ConstantGas, SpikingGas
from stakesim.prices.price_models import Constant
from stakesim.scenario.actions import Terms
from stakesim.studies import gas_costs, wallet
from stakesim.studies.break_even import (
    POPULATION,
    RunTotals,
    break_even_by_gas_price,
    break_even_grid,
    break_even_ticket,
    run_totals,
    scaled_income,
    totals_by_elasticity,
    usual_population,
)
from stakesim.studies.no_shows import NO_SHOW_ELASTICITIES
from stakesim.studies.wallet import DAYS_PER_YEAR, RunFlows, WalletFlows
from stakesim.units import WEI_PER_ETH, WEI_PER_GWEI

pytestmark = pytest.mark.slow

TERMS = Terms()
CONSTANT_GAS_PRICE = ConstantGas(gwei="5")


@pytest.fixture(scope="module")
def costs(engine_name: str) -> GasCosts:
    return gas_costs.measure_gas(engine_name)


def test_measured_gas_is_near_the_reviewed_gas(costs: GasCosts) -> None:
    """Single transactions are within 0.5%, those that are interpolated within 2%."""
    table = gas_costs.compare_with_reviewed(costs)
    error = abs(table["of an only run"] / table["reviewed"] - 1)
    assert error.iloc[:3].max() < 0.005
    assert error.max() < 0.02


def test_the_gas_that_comes_with_the_library_is_the_measured_one(costs: GasCosts) -> None:
    """`python -m stakesim.studies.gas_costs` writes it anew."""
    assert measured_costs().gas == costs
    assert json.loads(COSTS_FILE.read_text())["compiler"] == compiler_version()


def test_computed_gas_of_whole_runs_is_near_that_of_the_chain(costs: GasCosts, engine_name: str) -> None:
    """Within 1.5% each and 1% in total: where bookings are cancelled, fewer storage slots are begun than computed."""
    table = gas_costs.compare_gas_with_chain(draw(POPULATION, 2), 6, costs, engine_name)
    assert abs(table["off by, %"]).max() < 1.5
    assert table["gas reckoned"].sum() == pytest.approx(table["gas on the chain"].sum(), rel=0.01)
    assert table["gas on the chain"].nunique() == 6


def test_break_even_ticket_by_hand() -> None:
    """A million gas at 10 gwei is 0.01 ETH, 2,000 INR. The fee of ten seats is 0.5 tickets; no-shows forfeit 0.4."""
    totals = RunTotals(runs=1, gas=10**6, seats_sold=10, seats_forfeited=2)
    assert break_even_ticket(totals, 10 * WEI_PER_GWEI, 20_000_000, TERMS, with_forfeits=False) == 400_000
    assert break_even_ticket(totals, 10 * WEI_PER_GWEI, 20_000_000, TERMS) == 222_223  # 2,000 / 0.9, rounded up
    shared = Terms(forfeit_to_host_bps=5_000)
    assert break_even_ticket(totals, 10 * WEI_PER_GWEI, 20_000_000, shared) == 285_715  # 2,000 / 0.7
    with pytest.raises(ValueError, match="nothing is earned at any price"):
        break_even_ticket(totals, 1, 1, Terms(fee_bps=0), with_forfeits=False)


def test_income_pays_for_gas_at_the_break_even_ticket_and_not_one_percent_below(costs: GasCosts) -> None:
    runs, gas_wei = 600, 7 * WEI_PER_GWEI
    ticket = break_even_ticket(run_totals(POPULATION, runs, 3, costs), gas_wei, 20_000_000, TERMS) / 100

    def surplus(inr: float) -> int:
        price = f"{inr:.2f}"
        state = select_runs(
            draw(POPULATION.model_validate(POPULATION.model_dump() | {"price_inr": (price, price)}), 3), np.arange(runs)
        )
        outcomes = resolve_outcomes(state)
        return exact_sum(settle(state, outcomes).platform) - int(gas_used(state, outcomes, costs).sum()) * gas_wei

    assert surplus(ticket + 0.01) > 0 > surplus(0.99 * ticket)


def test_a_stake_that_works_earns_fewer_forfeits_and_raises_the_break_even(costs: GasCosts) -> None:
    """Of a seat sold the platform gets 5% and, of the share that stays away, 20%: by hand, within 2%.

    The share is 13.5% x 1.2^-e. Gas hardly differs: who attends costs some 10,000 more.
    """
    totals = totals_by_elasticity(3_000, 5, costs)
    tickets = break_even_by_gas_price(totals, [0.5], 200_000, TERMS).loc[0.5]
    gas_a_seat = totals["none"].gas / totals["none"].seats_sold * 0.5e-9 * 200_000
    for name, elasticity in NO_SHOW_ELASTICITIES.items():
        expected = gas_a_seat / (0.05 + 0.2 * 0.135 * 1.2**-elasticity)
        assert tickets[f"with forfeits, elasticity {name}"] == pytest.approx(expected, rel=0.02)
    assert tickets["with forfeits, elasticity high"] > 1.2 * tickets["with forfeits, elasticity none"]
    assert usual_population(NO_SHOW_ELASTICITIES["low"]) == POPULATION


def test_only_the_product_of_gas_price_and_rate_matters_and_both_tables_agree(costs: GasCosts) -> None:
    totals = run_totals(POPULATION, 200, 1, costs)
    dear_gas = break_even_ticket(totals, 8 * WEI_PER_GWEI, 10_000_000, TERMS)
    dear_eth = break_even_ticket(totals, 4 * WEI_PER_GWEI, 20_000_000, TERMS)
    assert dear_gas == dear_eth
    grid = break_even_grid(totals, [4, 8], [100_000, 200_000], TERMS)
    rows = break_even_by_gas_price({"low": totals}, [4, 8], 200_000, TERMS)
    assert rows["with forfeits, elasticity low"].tolist() == grid[200_000].tolist()
    assert (rows["break-even by fee, INR"] > rows["with forfeits, elasticity low"]).all()
    assert rows["gas, INR a run"][4] == pytest.approx(totals.gas / 200 * 4e-9 * 200_000)


def test_gas_prices_have_the_given_median_deviation_memory_and_spikes() -> None:
    """Of log prices: deviation and correlation from day to day, and the mean, which spikes raise by
    spikes / 365 x size / (1 - memory)."""
    calm_price = SpikingGas(gwei="8", deviation=0.6, half_life=4.0, spikes=0.0)
    spiky_price = calm_price.model_copy(update={"spikes": 24.0, "spike": 1.5, "spike_deviation": 0.1})
    calm = np.log(gas_models.simulate(calm_price, default_rng(1), 2_000, 300) / WEI_PER_GWEI)
    memory = 0.5 ** (1 / 4)
    assert np.median(calm) == pytest.approx(np.log(8), abs=0.02)
    assert calm.std() == pytest.approx(0.6, rel=0.02)
    assert np.corrcoef(calm[:-1].ravel(), calm[1:].ravel())[0, 1] == pytest.approx(memory, abs=0.01)
    spiky = np.log(gas_models.simulate(spiky_price, default_rng(1), 2_000, 300) / WEI_PER_GWEI)
    assert spiky.mean() - np.log(8) == pytest.approx(24 / 365 * 1.5 / (1 - memory), rel=0.05)


def test_a_constant_gas_price() -> None:
    assert set(gas_models.simulate(CONSTANT_GAS_PRICE, default_rng(1), 3, 9).ravel()) == {5 * WEI_PER_GWEI}


def test_run_flows_have_all_money_and_gas_of_their_runs(costs: GasCosts) -> None:
    """Up to a gwei for each amount, rounded against the platform."""
    runs = 300
    flows = wallet.run_flows(POPULATION, runs, 6, costs)
    state = select_runs(draw(POPULATION, 6), np.arange(runs))
    outcomes = resolve_outcomes(state)
    settlement = settle(state, outcomes)
    paid_in = settlement.host_stake + settlement.paid.sum(axis=0)
    back = settlement.host + settlement.received.sum(axis=0)
    amounts = 2 + 2 * outcomes.accepted.sum(axis=0)
    excess, shortfall = (
        flows.paid_in.sum(axis=0) * WEI_PER_GWEI - paid_in,
        back - flows.returned.sum(axis=0) * WEI_PER_GWEI,
    )
    for rounding in (excess, shortfall):
        assert (rounding >= 0).all()
        assert (rounding <= amounts * WEI_PER_GWEI).all()
    assert (flows.gas.sum(axis=0) == gas_used(state, outcomes, costs)).all()
    assert (flows.paid_in[0] >= settlement.host_stake // WEI_PER_GWEI).all()


def one_year(out: list[int], returned: list[int], rates: list[int]) -> WalletFlows:
    """Flows of a single wallet. out, returned: ETH on each day; rates: INR per ETH."""
    gwei = [np.array(eth)[:, None] * 10**9 for eth in (out, returned)]
    return WalletFlows(*gwei, np.zeros_like(gwei[0]), np.array(rates)[:, None] * 100)


def test_required_float_by_hand() -> None:
    """Refilled every two days: 3 and 2 ETH flow out, 1 returns after the first day, so 4 ETH at 1,000 INR are needed.
    Then 1 and 1 at 3,000 INR are 6,000 INR. Returns of the last day are too late, and a surplus is withdrawn."""
    flows = one_year([3, 2, 1, 1], [1, 9, 0, 2], [1_000, 1, 3_000, 1])
    assert wallet.required_floats(flows, 2)[0] / 100 == pytest.approx(6_000, rel=1e-5)
    assert wallet.required_floats(flows, 4)[0] / 100 == pytest.approx(4_000, rel=1e-5)
    assert wallet.required_floats(flows, 2)[0] >= 600_000
    with pytest.raises(ValueError, match="filled up every 5 days is not within a year"):
        wallet.required_floats(flows, 5)


def single_run(eth: int, gas: int = 0) -> RunFlows:
    """A run with a single day, on which it pays in `eth` ETH."""
    return RunFlows(
        paid_in=np.array([[eth * 10**9]]),
        returned=np.array([[0]]),
        gas=np.array([[gas]]),
        seats_sold=np.array([10]),
        seats_forfeited=np.array([2]),
        rate_paise=20_000_000,
    )


@pytest.mark.parametrize("dry_above", [3, 4])
def test_the_ruin_probability_is_that_of_the_largest_poisson_number_of_a_year(dry_above: int) -> None:
    """Half a run a day, each of 1 ETH: the wallet runs dry if more than `dry_above` runs come on any of 364 days.

    The tolerance is five standard errors.
    """
    years = 3_000
    flows = wallet.wallet_flows(single_run(1), 0.5, Constant(), CONSTANT_GAS_PRICE, years, 1)
    assert flows.out.shape == (DAYS_PER_YEAR, years)
    day_without_ruin = sum(exp(-0.5) * 0.5**count / factorial(count) for count in range(dry_above + 1))
    ruin = 1 - day_without_ruin**DAYS_PER_YEAR
    row = wallet.ruin_probabilities(wallet.required_floats(flows, 1), [dry_above * 200_000 + 1]).iloc[0]
    assert abs(row.chance - ruin) < 5 * np.sqrt(ruin * (1 - ruin) / years)
    assert row.low <= row.chance <= row.high


def test_outflows_follow_the_rate_of_eth_and_the_gas_price() -> None:
    """Half the rate means twice the wei. 10^9 gas at 5 gwei are 5 ETH."""
    cheap = wallet.wallet_flows(single_run(1), 2, Constant(inr_per_eth="100000"), CONSTANT_GAS_PRICE, 20, 1)
    usual = wallet.wallet_flows(single_run(1), 2, Constant(), CONSTANT_GAS_PRICE, 20, 1)
    assert (cheap.out == 2 * usual.out).all()
    burning = wallet.wallet_flows(single_run(0, gas=10**9), 2, Constant(), CONSTANT_GAS_PRICE, 20, 1)
    assert (burning.out == 5 * usual.out).all()
    assert (burning.gas_cost == burning.out).all()


def test_amounts_beyond_int64_are_refused_and_products_beyond_it_are_split() -> None:
    """3 x 10^9 gas at 1,000.5 gwei: 3 x 10^21 wei are beyond int64, and 3,001.5 x 10^9 gwei are not."""
    assert wallet._gas_cost_gwei(np.array([3 * 10**9, 1]), np.array([1_000_500_000_000, 1])).tolist() == [
        3_001_500_000_000,
        1,
    ]
    with pytest.raises(ValueError, match="take fewer runs a day"):
        wallet.wallet_flows(single_run(10**3), 200, Constant(), CONSTANT_GAS_PRICE, 2, 1)


def test_payouts_to_own_addresses_do_not_return(costs: GasCosts) -> None:
    flows = wallet.run_flows(POPULATION, 200, 1, costs)
    all_back, half, none = (
        wallet.wallet_flows(flows, 1, Constant(), CONSTANT_GAS_PRICE, 100, 1, addresses_bps=bps)
        for bps in (0, 5_000, 10_000)
    )
    assert (half.returned == all_back.returned // 2).all()
    assert not none.returned.any()
    assert (none.out == all_back.out).all()
    assert (wallet.required_floats(none, 7) >= wallet.required_floats(all_back, 7)).all()
    table = wallet.float_table({"all": all_back, "none": none}, [7], tail=0.2)
    assert table.loc[("none", 7), "float"] > table.loc[("all", 7), "float"]


def test_a_run_makes_a_loss_below_its_break_even_ticket() -> None:
    """10^6 gas at 5 gwei are 1,000 INR; ten seats and two no-shows earn 0.9 tickets: 1,111.11 INR."""
    flows = single_run(0, gas=10**6)
    table = wallet.loss_making_runs(flows, {"still": CONSTANT_GAS_PRICE}, [1_111, 1_112], 200_000, TERMS, 1)
    assert table["still"].tolist() == [100, 0]
    assert int(scaled_income(TERMS, flows.seats_sold, flows.seats_forfeited)[0]) == 90_000_000
    assert WEI_PER_ETH == WEI_PER_GWEI * 10**9


def test_the_plots_show_the_tables(costs: GasCosts) -> None:
    totals = run_totals(POPULATION, 100, 1, costs)
    table = break_even_grid(totals, [1, 10, 100], [100_000, 300_000], TERMS)
    assert plots.break_even_tickets(table).axes[0].get_xlabel() == "gas price, gwei"
    path = gas_models.simulate(SpikingGas(), default_rng(1), 20, 30)
    line = plots.gas_price_path(path, 30).axes[0].lines[0]
    assert line.get_ydata().tolist() == (path[:, 0] / 10**9).tolist()
    flows = wallet.run_flows(POPULATION, 50, 1, costs)
    losses = wallet.loss_making_runs(flows, {"a": CONSTANT_GAS_PRICE, "b": SpikingGas()}, [300, 900], 1, TERMS, 1)
    labels = [line.get_label() for line in plots.loss_making_runs(losses).axes[0].lines]
    assert labels == ["a", "b"]
    ruin = wallet.ruin_probabilities(np.array([10_000, 20_000]), [100, 150, 200])
    assert ruin.chance.tolist() == [0.5, 0.5, 0]
    figure = plots.ruin_probabilities({"case": [ruin, ruin]}, ["left", "right"])
    assert figure.axes[1].lines[0].get_ydata().tolist() == [50, 50, 0]

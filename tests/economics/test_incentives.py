"""Attacks against the contract's rules by hand, options against closed forms, payout methods against probabilities."""

import math
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from stakesim import plots
from stakesim.population.behaviours import FalseNoShows, Grief, NoShow, SelfBook
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import draw, first_runs, select_runs
from stakesim.prices.price_models import Gbm, Merton
from stakesim.scenario.actions import Terms
from stakesim.studies import attacks, cancellation_options, incentives, payout_methods
from stakesim.studies.attacks import HONEST, interest_wei, measure_attack, net_receipts

RUNS = 500
ROOMY = HONEST.model_copy(update={"name": "roomy", "seats": (60, 60)})
YEAR = timedelta(days=365)


@pytest.fixture(scope="module")
def reports() -> pd.DataFrame:
    return incentives.false_no_shows(RUNS, seed=5)


@pytest.fixture(scope="module")
def self_booked() -> pd.DataFrame:
    return incentives.self_booking(RUNS, seed=5)


@pytest.fixture(scope="module")
def blocked() -> pd.DataFrame:
    return incentives.griefing(RUNS, seed=5)


@pytest.mark.parametrize("attack", [FalseNoShows(), SelfBook(seats=3), Grief()], ids=lambda attack: attack.do)
@pytest.mark.parametrize("split", incentives.SPLITS)
def test_net_receipts_of_all_parties_add_up_to_zero(attack: object, split: int) -> None:
    """To the wei in every run, with and without the attack."""
    for behaviours in (HONEST.behaviours, (*HONEST.behaviours, attack)):
        state = first_runs(draw(HONEST, 5, 0, Terms(forfeit_to_host_bps=split), behaviours), RUNS)
        assert not sum(net_receipts(state, resolve_outcomes(state)).values()).any()


def test_false_no_shows_take_the_stakes_and_split_them() -> None:
    """Everybody attends and is reported as a no-show: 20% of all tickets, half of it to the host, rounded down."""
    honest = HONEST.model_copy(update={"behaviours": ()})
    gains = measure_attack(
        FalseNoShows(share=1), RUNS, 5, terms=Terms(forfeit_to_host_bps=5_000), population=honest
    ).gains
    state = first_runs(draw(honest, 5), RUNS)
    outcomes = resolve_outcomes(state)
    payments = [
        [int(price) * int(seats) for seats, accepted in zip(run_seats, run_accepted, strict=True) if accepted]
        for price, run_seats, run_accepted in zip(
            state.price_wei, state.intents.seats.T, outcomes.accepted.T, strict=True
        )
    ]
    stakes = [sum(payment * 2_000 // 10_000 for payment in run) for run in payments]
    assert gains["attendees"].wei == -sum(stakes) // RUNS
    assert gains["host"].wei == sum(stake // 2 for stake in stakes) // RUNS
    assert gains["platform"].wei == sum(stake - stake // 2 for stake in stakes) // RUNS
    assert gains["host"].inr == pytest.approx(sum(stakes) / 2 / RUNS * 200_000 / 10**18, abs=0.01)


def test_lying_pays_where_the_host_gets_a_share(reports: pd.DataFrame) -> None:
    assert reports["lying pays the host"].tolist() == [False, True, True, True]
    assert reports["host gains, wei"].iloc[0] == 0
    assert reports["attendees lose, wei"].nunique() == 1
    assert reports["host gains, INR"].iloc[3] == pytest.approx(2 * reports["host gains, INR"].iloc[2], rel=1e-4)
    assert reports["deterred by losing, runs"].is_monotonic_increasing


def test_self_booking_costs_the_fee_where_nobody_is_turned_away() -> None:
    effect = measure_attack(SelfBook(seats=2), RUNS, 5, population=ROOMY)
    assert effect.bookings == 0
    assert effect.gains["host"].inr == pytest.approx(-effect.fees, abs=0.01)
    assert effect.gains["host"].wei + effect.gains["platform"].wei in (-1, 0)  # each mean is rounded down
    state = first_runs(draw(ROOMY, 5), RUNS)
    assert effect.fees == pytest.approx(float(state.price_paise.mean()) / 100 * 2 * 0.05, rel=1e-6)


def test_self_booking_costs_sales_where_runs_sell_out(self_booked: pd.DataFrame) -> None:
    assert (self_booked["host loses, INR"] > self_booked["of that fees, INR"]).all()
    assert self_booked["bookings lost"].is_monotonic_increasing
    assert self_booked["of that fees, INR"].iloc[1] == pytest.approx(
        3 * self_booked["of that fees, INR"].iloc[0], rel=1e-6
    )


def test_blocking_a_run_costs_only_gas_and_interest(blocked: pd.DataFrame) -> None:
    """177,551 gas at 0.5 gwei and 200,000 INR/ETH are 17.7551 INR."""
    assert blocked["of that to the contract, wei"].tolist()[:2] == [0, 0]
    assert blocked["gas, INR"].unique() == pytest.approx([17.7551])
    assert blocked[
        "bookings lost"
    ].is_monotonic_decreasing  # the earlier the cutoff, the longer seats can be sold again
    assert (blocked["times the cost"] > 10).all()


@pytest.mark.slow
def test_a_waiting_list_sells_what_was_blocked_if_the_attacker_cancels_before_the_start() -> None:
    """At a cutoff of a day everybody who waits gets a seat; where bookings are cancelled at the start nobody does."""
    alone, waited = (incentives.griefing(RUNS, 5, (0, 24), waiting_list=waits) for waits in (False, True))
    assert waited["host loses, INR"][24] == pytest.approx(0, abs=0.02 * alone["host loses, INR"][24])
    assert waited["host loses, INR"][0] == pytest.approx(alone["host loses, INR"][0], rel=0.05)


def test_interest_runs_from_the_booking_to_the_refund() -> None:
    state = first_runs(draw(HONEST, 5, 0, behaviours=(NoShow(), Grief())), 50)
    for run, wei in enumerate(interest_wei(state, resolve_outcomes(state))):
        locked = int(state.price_wei[run]) * int(state.seats[run])
        locked += locked * 2_000 // 10_000
        seconds = int(state.start[run]) - 86_400 - 60
        assert wei == locked * seconds * attacks.INTEREST_BPS // (10_000 * int(YEAR.total_seconds()))


def test_formatted_tables_keep_every_wei(reports: pd.DataFrame, blocked: pd.DataFrame) -> None:
    table = incentives.format_table(reports)
    assert table.loc["host gains, wei"].tolist() == [f"{wei:,}" for wei in reports["host gains, wei"]]
    assert table.loc["lying pays the host"].tolist() == ["False", "True", "True", "True"]
    assert table.loc["gas saved by each lie, INR"].iloc[0] == "1.04"  # some 10,360 gas at 0.5 gwei and 200,000 INR/ETH
    assert incentives.format_table(blocked).loc["gas, INR"].iloc[0] == "17.76"


def test_a_transaction_without_reviewed_gas_is_refused() -> None:
    with pytest.raises(ValueError, match="stakesim gas --write"):
        incentives.reviewed_gas("a seat is sold twice")


@pytest.mark.slow
def test_payouts_of_each_attack_equal_those_of_the_chain(engine_name: str) -> None:
    checked = incentives.spot_check(5, engine_name)
    assert (checked.runs, checked.wei) == (len(incentives.ATTACKS), 0)
    assert checked.payouts > 2 * checked.runs
    for chunk, index in incentives._affected_runs(5):  # the attack changed the run
        state = select_runs(chunk, np.array([index]))
        outcomes, intents = resolve_outcomes(state), state.intents
        lied = (outcomes.active & intents.intends_to_attend & ~intents.reported_attended).any()
        assert lied or intents.by_host.any() or outcomes.cancelled.any()


def test_margrabe_against_known_values() -> None:
    """J. Hull, Options, Futures, and Other Derivatives: S = K = 100 without interest is near 0.4 S v sqrt(t)."""
    assert cancellation_options.margrabe_value(100, 100, 0.2, 1) == pytest.approx(7.9656, abs=1e-4)
    assert cancellation_options.margrabe_value(1, 1.2, 0, 1) == pytest.approx(0.2)
    assert cancellation_options.margrabe_value(1.2, 1, 0.5, 0) == 0
    call, put = (
        cancellation_options.margrabe_value(1.1, 1, 0.7, 0.1),
        cancellation_options.margrabe_value(1, 1.1, 0.7, 0.1),
    )
    assert call - put == pytest.approx(1 - 1.1)  # parity


def test_margrabe_against_two_moving_prices() -> None:
    """A ticket whose own worth moves: 60% and 30% a year, correlation 0.5, half a year."""
    rng, years = np.random.default_rng(1), 0.5
    z1, other = rng.standard_normal((2, 400_000))
    z2 = 0.5 * z1 + math.sqrt(1 - 0.5**2) * other
    first, second = (np.exp(v * math.sqrt(years) * z - v * v * years / 2) for v, z in ((0.6, z1), (0.3, z2)))
    gain = np.maximum(first - second, 0)
    ratio = math.sqrt(0.6**2 + 0.3**2 - 2 * 0.5 * 0.6 * 0.3)
    assert abs(gain.mean() - cancellation_options.margrabe_value(1, 1, ratio, years)) < 4 * gain.std() / math.sqrt(
        len(gain)
    )


@pytest.mark.slow
@pytest.mark.parametrize("volatility", cancellation_options.VOLATILITIES)
@pytest.mark.parametrize("cost", [None, 0.8, 1.0])
def test_simulated_option_values_equal_the_closed_form(volatility: float, cost: float | None) -> None:
    """Within four standard errors, or a millionth where no path of the sample is one on which it pays."""
    price = Gbm(inr_per_eth="200000", annual_volatility=volatility)
    for lead in (7, 60):
        simulated = cancellation_options.simulated_value(price, lead, 40_000, 3, holding_cost=cost)
        exact = cancellation_options.closed_form_value(price, lead, holding_cost=cost)
        assert abs(simulated.value - exact) < 2.05 * (simulated.high - simulated.value) + 1e-6


@pytest.mark.slow
def test_a_longer_lead_time_makes_the_option_more_valuable() -> None:
    price = Merton(inr_per_eth="200000")
    values = [cancellation_options.simulated_value(price, lead, 20_000, 3).value for lead in cancellation_options.LEADS]
    assert values == sorted(values)
    assert cancellation_options.simulated_value(price, cancellation_options.CUTOFF, 100, 3) == (0, 0, 0, 0)


def test_option_tables_have_every_market_and_cost() -> None:
    table = cancellation_options.attendee_options(500, 3, leads=(7, 30))
    assert len(table) == 2 * len(cancellation_options.MARKETS)
    assert table["closed form"].notna().sum() == 2 * len(cancellation_options.VOLATILITIES)
    hosts = cancellation_options.host_options(500, 3)
    assert (hosts["it costs 100%"] > hosts["it costs 80%"]).all()


def test_unclaimed_wei_by_hand() -> None:
    """In the first run, the second receiver refuses and forgets. In the second run, who refuses is owed nothing."""
    amounts = np.array([[5, 7], [3, 0]])
    refuses = np.array([[False, False], [True, True]])
    forgets = np.array([[True, False], [True, False]])
    wei_by_method, blocked_runs = payout_methods.unclaimed_wei(amounts, refuses, forgets)
    assert wei_by_method == {"push": 8, "pull": 8, "push with credit": 3}
    assert blocked_runs == 1


def test_unclaimed_shares_follow_the_probabilities() -> None:
    """pull: the share that forgets; push with credit: refuse x forget; push blocks 1 - (1 - refuse)^n of the runs."""
    runs, refuse, forget = 4_096, 0.05, 0.1
    row = payout_methods.unclaimed_money(runs, 5, refusing=(0.0, refuse), forgetting=forget).iloc[1]
    owed = (payout_methods.payouts(first_runs(draw(HONEST, 5), runs)) > 0).sum(axis=0)
    blocked_percent = 100 * (1 - (1 - refuse) ** owed).mean()
    assert row["runs blocked by push, %"] == pytest.approx(blocked_percent, abs=3)
    assert row["pull, %"] == pytest.approx(100 * forget, abs=2)
    assert row["push with credit, %"] == pytest.approx(100 * refuse * forget, abs=0.5)
    assert row["push, %"] > row["runs blocked by push, %"]  # larger runs are blocked more often


@pytest.mark.in_turn
@pytest.mark.slow
def test_a_refusing_receiver_blocks_a_contract_that_only_pushes(engine_name: str) -> None:
    table = payout_methods.refusal_on_chain(engine_name)
    assert table.loc["push", "found"] == "one hostile receiver blocks everybody"
    assert table.loc["push", "runs completed"] == 0
    assert table.loc["push with credit"].tolist()[1:] == ["nothing wrong", 1, 1]


@pytest.mark.slow
def test_the_answer_and_the_plots(reports: pd.DataFrame, self_booked: pd.DataFrame, blocked: pd.DataFrame) -> None:
    options, unclaimed = cancellation_options.attendee_options(2_000, 3), payout_methods.unclaimed_money(RUNS, 5)
    answer = incentives.answer(reports, self_booked, blocked, options, unclaimed)
    assert answer.count(". ") == 1
    assert f"{reports['host gains, INR'].iloc[2]:,.0f} INR a run" in answer
    costs = incentives.attack_costs(reports, self_booked, blocked)
    [axes] = plots.attack_costs(costs).axes
    assert [text.get_text() for text in axes.texts][:4] == [f"{v:,.0f}" for v in costs["the attacker pays"][::-1]]
    [axes] = plots.option_values(options).axes
    assert len(axes.lines) == len(cancellation_options.MARKETS)
    [axes] = plots.unclaimed_money(unclaimed).axes
    assert len(axes.patches) == 3 * len(unclaimed)
    [axes] = plots.false_no_shows(reports).axes
    assert max(bar.get_x() + bar.get_width() for bar in axes.patches) == pytest.approx(
        reports["attendees lose, INR"].max()
    )

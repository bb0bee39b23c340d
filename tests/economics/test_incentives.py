"""Attacks against the contract's rules worked out by hand, options against closed forms, payouts against chances."""

import math
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from stakesim import plots
from stakesim.population.behaviours import FalseNoShows, Grief, NoShow, SelfBook
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import draw, select_runs
from stakesim.prices.price_models import Gbm, Merton
from stakesim.scenario.actions import Terms
from stakesim.studies import attacks, cancellation_options, incentives, payout_methods
from stakesim.studies.attacks import HONEST, attack, gains, interest

RUNS = 500
ROOMY = HONEST.model_copy(update={"name": "roomy", "seats": (60, 60)})
YEAR = timedelta(days=365)


@pytest.fixture(scope="module")
def lies() -> pd.DataFrame:
    return incentives.false_no_shows(RUNS, seed=5)


@pytest.fixture(scope="module")
def own() -> pd.DataFrame:
    return incentives.self_booking(RUNS, seed=5)


@pytest.fixture(scope="module")
def grief() -> pd.DataFrame:
    return incentives.griefing(RUNS, seed=5)


@pytest.mark.parametrize("how", [FalseNoShows(), SelfBook(seats=3), Grief()], ids=lambda how: how.do)
@pytest.mark.parametrize("split", incentives.SPLITS)
def test_what_one_party_gains_the_others_lose(how: object, split: int) -> None:
    """To the wei, in every run, with the attack and without."""
    for behaviours in (HONEST.behaviours, (*HONEST.behaviours, how)):
        state = select_runs(draw(HONEST, 5, 0, Terms(forfeit_to_host_bps=split), behaviours), np.arange(RUNS))
        assert not sum(gains(state, resolve_outcomes(state)).values()).any()


def test_a_lie_takes_the_stake_and_splits_it() -> None:
    """Everybody came and is said not to have: 20% of all tickets, half of it to the host, rounded down in each run."""
    honest = HONEST.model_copy(update={"behaviours": ()})
    found = attack(FalseNoShows(share=1), RUNS, 5, Terms(forfeit_to_host_bps=5_000), honest).gains
    state = select_runs(draw(honest, 5, 0), np.arange(RUNS))
    outcomes = resolve_outcomes(state)
    payments = [
        [int(price) * int(seats) for seats, made in zip(column, taken, strict=True) if made]
        for price, column, taken in zip(state.price_wei, state.intents.seats.T, outcomes.accepted.T, strict=True)
    ]
    stakes = [sum(payment * 2_000 // 10_000 for payment in run) for run in payments]
    assert found["attendees"].wei == -sum(stakes) // RUNS
    assert found["host"].wei == sum(one // 2 for one in stakes) // RUNS
    assert found["platform"].wei == sum(one - one // 2 for one in stakes) // RUNS
    assert found["host"].inr == pytest.approx(sum(stakes) / 2 / RUNS * 200_000 / 10**18, abs=0.01)


def test_lying_pays_where_the_host_gets_a_share(lies: pd.DataFrame) -> None:
    assert lies["lying pays the host"].tolist() == [False, True, True, True]
    assert lies["host gains, wei"].iloc[0] == 0
    assert lies["attendees lose, wei"].nunique() == 1
    assert lies["host gains, INR"].iloc[3] == pytest.approx(2 * lies["host gains, INR"].iloc[2], rel=1e-4)
    assert lies["deterred by losing, runs"].is_monotonic_increasing


def test_own_seats_cost_the_fee_where_nobody_is_turned_away() -> None:
    found = attack(SelfBook(seats=2), RUNS, 5, of=ROOMY)
    assert found.bookings == 0
    assert found.gains["host"].inr == pytest.approx(-found.fees, abs=0.01)
    assert found.gains["host"].wei + found.gains["platform"].wei in (-1, 0)  # each mean is rounded down
    state = select_runs(draw(ROOMY, 5, 0), np.arange(RUNS))
    assert found.fees == pytest.approx(float(state.price_paise.mean()) / 100 * 2 * 0.05, rel=1e-6)


def test_own_seats_cost_sales_where_runs_sell_out(own: pd.DataFrame) -> None:
    assert (own["host loses, INR"] > own["of that fees, INR"]).all()
    assert own["bookings lost"].is_monotonic_increasing
    assert own["of that fees, INR"].iloc[1] == pytest.approx(3 * own["of that fees, INR"].iloc[0], rel=1e-6)


def test_to_block_a_run_costs_gas_and_interest_alone(grief: pd.DataFrame) -> None:
    """272,891 gas at 5 gwei and 200,000 INR/ETH are 272.891 INR."""
    assert grief["of that to the contract, wei"].tolist()[:2] == [0, 0]
    assert grief["gas, INR"].unique() == pytest.approx([272.891])
    assert grief["bookings lost"].is_monotonic_decreasing  # the earlier the cutoff, the longer seats can be sold again
    assert (grief["times the cost"] > 10).all()


def test_interest_runs_from_the_booking_to_the_refund() -> None:
    state = select_runs(draw(HONEST, 5, 0, behaviours=(NoShow(), Grief())), np.arange(50))
    for run, wei in enumerate(interest(state, resolve_outcomes(state))):
        locked = int(state.price_wei[run]) * int(state.seats[run])
        locked += locked * 2_000 // 10_000
        seconds = int(state.start[run]) - 86_400 - 60
        assert wei == locked * seconds * attacks.INTEREST_BPS // (10_000 * int(YEAR.total_seconds()))


def test_tables_for_people_keep_every_wei(lies: pd.DataFrame, grief: pd.DataFrame) -> None:
    table = incentives.shown(lies)
    assert table.loc["host gains, wei"].tolist() == [f"{wei:,}" for wei in lies["host gains, wei"]]
    assert table.loc["lying pays the host"].tolist() == ["False", "True", "True", "True"]
    assert table.loc["gas saved by each lie, INR"].iloc[0] == "10.33"  # 10,329 gas at 5 gwei and 200,000 INR/ETH
    assert incentives.shown(grief).loc["gas, INR"].iloc[0] == "272.89"


def test_an_unknown_transaction_is_refused() -> None:
    with pytest.raises(ValueError, match="stakesim gas --write"):
        incentives.reviewed("a seat is sold twice")


@pytest.mark.slow
def test_each_attack_is_paid_so_on_the_chain(engine_name: str) -> None:
    checked = incentives.spot_check(5, engine_name)
    assert (checked.runs, checked.wei) == (len(incentives.ATTACKS), 0)
    assert checked.payouts > 2 * checked.runs
    for drawn, index in incentives._picked(5):  # what is played is the attack, and not a run that it left alone
        state = select_runs(drawn, np.array([index]))
        outcomes, intents = resolve_outcomes(state), state.intents
        lied = (outcomes.active & intents.intends_to_attend & ~intents.reported_attended).any()
        assert lied or intents.by_host.any() or outcomes.cancelled.any()


def test_margrabe_against_known_values() -> None:
    """J. Hull, Options, Futures, and Other Derivatives: S = K = 100 without interest is near 0.4 S v sqrt(t)."""
    assert cancellation_options.margrabe(100, 100, 0.2, 1) == pytest.approx(7.9656, abs=1e-4)
    assert cancellation_options.margrabe(1, 1.2, 0, 1) == pytest.approx(0.2)
    assert cancellation_options.margrabe(1.2, 1, 0.5, 0) == 0
    call, put = cancellation_options.margrabe(1.1, 1, 0.7, 0.1), cancellation_options.margrabe(1, 1.1, 0.7, 0.1)
    assert call - put == pytest.approx(1 - 1.1)  # parity


def test_margrabe_against_two_moving_prices() -> None:
    """A ticket whose own worth moves: 60% and 30% a year, correlation 0.5, half a year."""
    rng, years = np.random.default_rng(1), 0.5
    z1, other = rng.standard_normal((2, 400_000))
    z2 = 0.5 * z1 + math.sqrt(1 - 0.5**2) * other
    first, second = (np.exp(v * math.sqrt(years) * z - v * v * years / 2) for v, z in ((0.6, z1), (0.3, z2)))
    gain = np.maximum(first - second, 0)
    ratio = math.sqrt(0.6**2 + 0.3**2 - 2 * 0.5 * 0.6 * 0.3)
    assert abs(gain.mean() - cancellation_options.margrabe(1, 1, ratio, years)) < 4 * gain.std() / math.sqrt(len(gain))


@pytest.mark.slow
@pytest.mark.parametrize("volatility", cancellation_options.VOLATILITIES)
@pytest.mark.parametrize("cost", [None, 0.8, 1.0])
def test_simulated_options_are_worth_what_the_formula_says(volatility: float, cost: float | None) -> None:
    """Within four standard errors."""
    price = Gbm(inr_per_eth="200000", annual_volatility=volatility)
    for lead in (7, 60):
        found = cancellation_options.worth(price, lead, 40_000, 3, cost)
        assert abs(found.value - cancellation_options.closed_form(price, lead, cost)) < 2.05 * (
            found.high - found.value
        )


def test_a_longer_wait_is_worth_more() -> None:
    price = Merton(inr_per_eth="200000")
    values = [cancellation_options.worth(price, lead, 20_000, 3).value for lead in cancellation_options.LEADS]
    assert values == sorted(values)
    assert cancellation_options.worth(price, cancellation_options.CUTOFF, 100, 3) == (0, 0, 0, 0)


def test_every_market_and_cost_is_in_the_tables() -> None:
    table = cancellation_options.attendees(500, 3, leads=(7, 30))
    assert len(table) == 2 * len(cancellation_options.MARKETS)
    assert table["closed form"].notna().sum() == 2 * len(cancellation_options.VOLATILITIES)
    hosts = cancellation_options.hosts(500, 3)
    assert (hosts["it costs 100%"] > hosts["it costs 80%"]).all()


def test_left_over_by_hand() -> None:
    """Two runs; the first one's second receiver refuses, and forgets; the second one's refuser is owed nothing."""
    amounts = np.array([[5, 7], [3, 0]])
    refuses = np.array([[False, False], [True, True]])
    forgets = np.array([[True, False], [True, False]])
    left, blocked = payout_methods.left_over(amounts, refuses, forgets)
    assert left == {"push": 8, "pull": 8, "push with credit": 3}
    assert blocked == 1


def test_shares_left_over_are_those_of_the_chances() -> None:
    """pull: the share that forgets; push with credit: refuse x forget; push blocks 1 - (1 - refuse)^n of the runs."""
    runs, refuse, forget = 4_096, 0.05, 0.1
    row = payout_methods.unclaimed(runs, 5, (0.0, refuse), forget).iloc[1]
    owed = (payout_methods.payouts(5, 0, runs) > 0).sum(axis=0)
    blocked = 100 * (1 - (1 - refuse) ** owed).mean()
    assert row["runs blocked by push, %"] == pytest.approx(blocked, abs=3)
    assert row["pull, %"] == pytest.approx(100 * forget, abs=2)
    assert row["push with credit, %"] == pytest.approx(100 * refuse * forget, abs=0.5)
    assert row["push, %"] > row["runs blocked by push, %"]  # larger runs are blocked more often


@pytest.mark.slow
def test_one_refusing_receiver_blocks_who_pushes_and_not_the_contract(engine_name: str) -> None:
    table = payout_methods.on_chain(engine_name)
    assert table.loc["push", "found"] == "one hostile receiver blocks everybody"
    assert table.loc["push", "runs completed"] == 0
    assert table.loc["push with credit"].tolist()[1:] == ["nothing wrong", 1, 1]


@pytest.mark.slow
def test_the_answer_and_the_pictures(lies: pd.DataFrame, own: pd.DataFrame, grief: pd.DataFrame) -> None:
    option, stays = cancellation_options.attendees(2_000, 3), payout_methods.unclaimed(RUNS, 5)
    told = incentives.answer(lies, own, grief, option, stays)
    assert told.count(". ") == 1
    assert f"{lies['host gains, INR'].iloc[2]:,.0f} INR a run" in told
    costs = incentives.against(lies, own, grief)
    [axes] = plots.against(costs).axes
    assert [text.get_text() for text in axes.texts][:4] == [f"{v:,.0f}" for v in costs["the attacker pays"][::-1]]
    [axes] = plots.options(option).axes
    assert len(axes.lines) == len(cancellation_options.MARKETS)
    [axes] = plots.unclaimed(stays).axes
    assert len(axes.patches) == 3 * len(stays)
    [axes] = plots.false_no_shows(lies).axes
    assert max(bar.get_x() + bar.get_width() for bar in axes.patches) == pytest.approx(
        lies["attendees lose, INR"].max()
    )

"""The effect of the stake: the sweep against closed forms, tables and answers against numbers computed by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from stakesim import plots
from stakesim.economics import DEFAULT_POPULATION, sweep
from stakesim.population.behaviours import LostToStake, NoShow
from stakesim.prices.price_models import Constant
from stakesim.studies import no_shows

pytestmark = pytest.mark.slow

ROOMY = DEFAULT_POPULATION.model_copy(
    update={"name": "roomy", "seats": (40, 40), "attendees": (20, 20), "seats_wanted": (1, 1)}
)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return no_shows.sweep_stakes(runs=1_000, seed=3)


def sweep_rows(values: dict[int, tuple[float, float, float]], metric: str = "host profit") -> pd.DataFrame:
    """A sweep's rows for one case. values: value, change and its half-width by stake, the first policy first."""
    rows = [
        {"case": "c", "no-shows": "low", "demand": "low", "forfeit_to_host_bps": 0, "metric": metric}
        | {"stake_bps": bps, "value": value, "change": change}
        | {"change_low": change - half, "change_high": change + half}
        for bps, (value, change, half) in values.items()
    ]
    return pd.DataFrame(rows)


def test_every_pair_of_elasticities_is_combined_with_every_stake(frame: pd.DataFrame) -> None:
    rows = frame[frame["metric"] == "empty seats"]
    assert set(zip(rows["no-shows"], rows["demand"], strict=True)) == set(no_shows.elasticity_pairs())
    assert len(rows) == 9 * len(no_shows.STAKES)


def test_no_shows_follow_the_elasticity(frame: pd.DataFrame) -> None:
    """The rate is p (1 + s)^-e within four standard errors, for each stake and elasticity."""
    rows = frame[(frame["metric"] == "no-show rate") & (frame["demand"] == "none")]
    expected = 0.135 * (1 + rows["stake_bps"] / 10_000) ** -rows["no-shows"].map(no_shows.NO_SHOW_ELASTICITIES)
    assert ((rows["value"] - expected).abs() <= 2.05 * (rows["high"] - rows["low"]) / 2).all()


def test_without_elastic_demand_the_stake_does_not_change_host_profit(frame: pd.DataFrame) -> None:
    rows = frame[(frame["metric"] == "host profit") & (frame["demand"] == "none")]
    assert rows["numerator"].nunique() == 1
    best = no_shows.best_stakes(frame, "host profit")
    assert {len(best["13.5% stay away", no_show, "none", 0]) for no_show in no_shows.NO_SHOW_ELASTICITIES} == {
        len(no_shows.STAKES)
    }


@pytest.mark.parametrize(("base", "no_show", "demand"), [(0.135, 4, 0.25), (0.4, 1, 0.25), (0.17, 2, 0.1)])
def test_the_stake_with_the_fewest_empty_seats_follows_the_formula(base: float, no_show: float, demand: float) -> None:
    """Compares with a fine grid over the number of attendees, and with a sweep in which seats do not run out."""
    x = np.linspace(1, 3, 200_001)
    attended = x**-demand * (1 - base * x**-no_show)
    best = no_shows.stake_with_fewest_empty_seats(base, no_show, demand)
    assert best is not None
    assert best == pytest.approx(x[attended.argmax()] - 1, abs=2e-5)
    people = [LostToStake(elasticity=demand), NoShow(base=base, elasticity=no_show)]
    swept = sweep({"stake_bps": [2_000, 0, 5_000]}, people, Constant(), 2_000, 1, ROOMY)
    rows = swept[swept["metric"] == "empty seats"]
    x = 1 + rows["stake_bps"] / 10_000
    expected = 1 - x**-demand * (1 - base * x**-no_show) / 2
    assert ((rows["value"] - expected).abs() <= 2.05 * (rows["high"] - rows["low"]) / 2).all()


def test_the_formula_without_elasticities_or_optimum() -> None:
    assert no_shows.stake_with_fewest_empty_seats(0.135, 0, 0) is None
    assert no_shows.stake_with_fewest_empty_seats(0.135, 1, 0) == math.inf
    assert no_shows.stake_with_fewest_empty_seats(0.135, 0, 1) == 0
    assert (
        no_shows.stake_with_fewest_empty_seats(0.135, 1, 1) == 0
    )  # p (d + e) / d = 0.27: less than no stake would be best


def test_the_best_stakes_do_not_depend_on_the_order_in_which_they_are_listed() -> None:
    """In some cases several are not told apart, and these are the same whichever stake is the first."""
    groups = {
        f"{demand}, {no_show}": [LostToStake(elasticity=demand), NoShow(base=0.2, elasticity=no_show)]
        for demand, no_show in ((0.05, 0.4), (0.1, 1), (0.3, 1), (0.5, 4))
    }
    best = []
    for stakes in ([2_000, 0, 1_500, 2_500, 5_000], [0, 1_500, 2_000, 2_500, 5_000], [5_000, 2_500, 2_000, 1_500, 0]):
        frame = sweep({"stake_bps": stakes}, groups, Constant(), 300, 5, ROOMY)
        frame["case"] = frame["no-shows"] = frame["demand"] = frame["behaviours"]
        metrics = ("empty seats", "no-show rate", "host profit")
        best.append([no_shows.best_stakes(frame, metric, largest=False).tolist() for metric in metrics])
    assert best[0] == best[1] == best[2]
    assert {len(stakes) for stakes in best[0][0]} & {2, 3, 4}


def test_stakes_are_formatted_as_ranges() -> None:
    assert no_shows.format_stakes([500]) == "5%"
    assert no_shows.format_stakes([2_000, 1_000, 5_000]) == "10 to 20%, 50%"
    assert no_shows.format_stakes(no_shows.STAKES) == "any: not identified"


def test_changes_are_relative_to_no_stake() -> None:
    """A stake of 20% earns 90 and no stake 100: a change of -10% (-12 to -8)."""
    change = no_shows.change_from_no_stake(sweep_rows({2_000: (90, 0, 0), 0: (100, 10, 2)}), "host profit").iloc[0]
    assert [change[column] for column in ("without", "change", "change_low", "change_high")] == [100, -10, -12, -8]
    assert [change[column] for column in ("change %", "change_low %", "change_high %")] == [-10, -12, -8]


def test_required_value_of_an_attendee() -> None:
    """5% of seats not sold at 95% of a ticket, for 2% more attendees: 2.375 tickets each."""
    both = pd.concat(
        [
            sweep_rows({2_000: (0.75, 0, 0), 0: (0.80, 0.05, 0)}, "seats filled"),
            sweep_rows({2_000: (0.30, 0, 0), 0: (0.32, 0.02, 0)}, "empty seats"),
        ]
    )
    assert no_shows.required_attendee_value(both).iloc[0] == pytest.approx(2.375)
    worse = both.assign(value=both["value"].where((both["metric"] != "empty seats") | (both["stake_bps"] == 0), 0.33))
    assert no_shows.required_attendee_value(worse).iloc[0] == math.inf


def test_other_cases_change_one_thing_at_a_time() -> None:
    frame = no_shows.sweep_other_cases(runs=300, seed=3)
    rate = frame[(frame["metric"] == "no-show rate") & (frame["stake_bps"] == 0)].set_index("case")["value"]
    assert rate["ETH moves"] == rate["forfeits to the host"] == rate["13.5% stay away"]
    assert rate["10.0% stay away"] < rate["13.5% stay away"] < rate["bad weather"]
    assert rate["13.5% stay away"] < rate["17.0% stay away"] < rate["token price, 28% stay away"]
    paid = frame[(frame["metric"] == "platform income") & (frame["stake_bps"] == 5_000)].set_index("case")["value"]
    assert paid["forfeits to the host"] < paid["13.5% stay away"]
    assert paid["token price, 28% stay away"] < 10


def test_the_answer_has_two_sentences_and_the_numbers_of_the_sweep(frame: pd.DataFrame) -> None:
    answer = no_shows.answer(frame)
    change = no_shows.change_from_no_stake(frame, "host profit").xs("high", level="demand").iloc[0]["change %"]
    assert f"{change:+.1f}%" in answer
    assert answer.count(". ") == 1


def test_the_plots_have_a_line_for_each_elasticity(frame: pd.DataFrame) -> None:
    assert [len(axes.collections) for axes in plots.attendance_curves(frame).axes] == [3, 3]
    assert [len(axes.collections) for axes in plots.income_curves(frame).axes] == [3, 3]
    figure = plots.empty_seat_curves(frame)
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    bottom, top = figure.axes[0].get_ylim()
    values = frame.loc[frame["metric"] == "empty seats", ["low", "high"]] * 100
    assert bottom <= values["low"].min()
    assert values["high"].max() <= top
